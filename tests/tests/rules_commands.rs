//! `linli-hub rules …`: what is wrong with rules is said so that it can be put right, and what they did can be
//! explained.
use anyhow::{Context, Result};
use linli_tests::harness::{Hub, MINUTE_MS, ago, id, now_ms, outcome, project, running};
use serde_json::{Value, json};
use tempfile::tempdir;

/// A good rule, in lines that the cases below change.
const GOOD: [&str; 11] = [
    "schema = 1",
    "[[rule]]",
    "id = \"doors\"",
    "name = \"门\"",
    "kind = \"count\"",
    "times = 3",
    "within = \"1h\"",
    "key = [\"site\", \"building\"]",
    "on = [{ type = \"door.forced\" }]",
    "severity = \"warning\"",
    "then = { route = \"duty-centre\" }",
];

/// A change of one line of the good rule, and what the error says beside the file.
struct Case {
    /// What the line begins with; empty: lines are added at the end.
    line: &'static str,
    with: &'static str,
    /// The line that the error names.
    at: usize,
    says: &'static [&'static str],
}

const fn case(
    line: &'static str,
    with: &'static str,
    at: usize,
    says: &'static [&'static str],
) -> Case {
    Case {
        line,
        with,
        at,
        says,
    }
}

/// Each: the key, what stands there, and what would be right.
const BAD: &[Case] = &[
    case("schema", "schema = 2", 1, &["schema", "2", "schema 1"]),
    case(
        "kind",
        "kind = \"levitate\"",
        5,
        &["kind", "levitate", "`all_of`", "`sequence`"],
    ),
    case(
        "kind",
        "kind = \"match\"",
        5,
        &[
            "\"doors\"",
            "times",
            "no meaning for kind match",
            "remove it",
        ],
    ),
    case(
        "times",
        "",
        5,
        &["\"doors\"", "times", "is missing", "like 3"],
    ),
    case(
        "times",
        "times = 1",
        6,
        &["\"doors\"", "times", "between 2 and 1000"],
    ),
    case(
        "within",
        "within = \"10 fortnights\"",
        7,
        &["within", "fortnights", "like \"250ms\""],
    ),
    case(
        "within",
        "within = \"8d\"",
        7,
        &["\"doors\"", "within", "at most 7d", "repeat"],
    ),
    case("within", "window = \"1h\"", 7, &["window", "`within`"]),
    case(
        "key",
        "key = [\"storey\"]",
        8,
        &["\"doors\"", "key", "storey", "building", "attributes.NAME"],
    ),
    case(
        "key",
        "key = [\"phone\"]",
        8,
        &["\"doors\"", "key", "phone", "places, devices and types"],
    ),
    case(
        "on",
        "on = [{ type = \"door.levitated\" }]",
        9,
        &[
            "\"doors\"",
            "on",
            "door.levitated",
            "door.forced",
            "kinds = [",
        ],
    ),
    case(
        "on",
        "on = [{ type = \"door.forced\", site = \"yuyaun\" }]",
        9,
        &["\"doors\"", "on", "yuyaun", "minle, yuyuan"],
    ),
    case(
        "on",
        "on = [{ type = \"door.forced\", building = \"9号楼\" }]",
        9,
        &["\"doors\"", "on", "9号楼", "1号楼, 2号楼"],
    ),
    case(
        "on",
        "on = [{ building = \"1号楼\" }]",
        9,
        &["\"doors\"", "on", "needs a type", "door.forced"],
    ),
    case(
        "severity",
        "severity = \"loud\"",
        10,
        &[
            "\"doors\"",
            "severity",
            "loud",
            "info, notice, warning, alarm, life",
        ],
    ),
    case(
        "then",
        "then = { route = \"duty-center\" }",
        11,
        &["\"doors\"", "then", "duty-center", "duty-centre"],
    ),
    case(
        "then",
        "then = { ack = \"5m\" }",
        11,
        &["\"doors\"", "then", "ack needs a route"],
    ),
    case(
        "",
        "hours = \"22-6\"",
        12,
        &["\"doors\"", "hours", "22-6", "22:00-06:00"],
    ),
    case(
        "",
        "max_keys = 0",
        12,
        &["\"doors\"", "max_keys", "between 1 and 2000000"],
    ),
    case(
        "",
        "max_events = 2",
        12,
        &["\"doors\"", "max_events", "as many at least"],
    ),
    case(
        "",
        "inhibits = { kinds = [\"absent\"], same = \"agent\" }",
        12,
        &["\"doors\"", "inhibits", "absent and silent only"],
    ),
    case(
        "",
        "level = \"person\"",
        3,
        &["\"doors\"", "consent", "number of the person's consent"],
    ),
    case(
        "",
        "level = \"person\"\nconsent = \"C-1\"\napprovals = [\"甲\", \"甲\"]\nexpires = \"2026-12-01\"",
        3,
        &["\"doors\"", "approvals", "two different people"],
    ),
    case(
        "",
        "level = \"person\"\nconsent = \"C-1\"\napprovals = [\"甲\", \"乙\"]",
        3,
        &["\"doors\"", "expires", "ends on a day, like"],
    ),
    case(
        "",
        "level = \"person\"\nconsent = \"C-1\"\napprovals = [\"甲\", \"乙\"]\nexpires = \"2126-12-01\"",
        15,
        &["\"doors\"", "expires", "more than a year away"],
    ),
    case(
        "",
        "consent = \"C-1\"",
        3,
        &["\"doors\"", "level", "person", "remove"],
    ),
    case(
        "",
        "[[rule]]\nid = \"doors\"\nname = \"两\"\nkind = \"match\"\non = [{ type = \"door.forced\" }]\nseverity = \"info\"",
        13,
        &[
            "\"doors\"",
            "id",
            "another rule with this id",
            "doors.toml",
            "each its own",
        ],
    ),
    case(
        "",
        "[[rule.test]]\nname = \"t\"\nevents = [\"soon door.forced\"]",
        2,
        &["\"doors\"", "test", "soon"],
    ),
];

#[test]
fn each_mistake_in_a_rule_is_named_with_file_line_key_and_what_would_be_right() -> Result<()> {
    let directory = tempdir()?;
    let hub = Hub::new(&directory.path().join("hub"))?;
    hub.configure(
        "[[site]]\nname = \"yuyuan\"\nbuildings = [\"1号楼\", \"2号楼\"]\n[[site]]\nname = \"minle\"\n",
    )?;
    let rules = directory.path().join("rules");
    std::fs::create_dir(&rules)?;
    let check = |text: &str| {
        std::fs::write(rules.join("doors.toml"), text)?;
        outcome(
            hub.command()?
                .args(["rules", "check", "--directory"])
                .arg(&rules),
        )
    };
    let (code, said) = check(&GOOD.join("\n"))?;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("valid: 1"), "{said}");
    let mut wrong = Vec::new();
    for case in BAD {
        let mut lines: Vec<&str> = GOOD.to_vec();
        match case.line {
            "" => lines.push(case.with),
            line => {
                let found = lines.iter_mut().find(|known| known.starts_with(line));
                *found.context("a line of the good rule")? = case.with;
            }
        }
        let (code, said) = check(&lines.join("\n"))?;
        let line = format!("line {}", case.at);
        let wanted = ["doors.toml", &line]
            .into_iter()
            .chain(case.says.iter().copied());
        let missing: Vec<&str> = wanted.filter(|part| !said.contains(part)).collect();
        if code != 78 || !missing.is_empty() {
            wrong.push(format!(
                "{}: {code}, without {missing:?}: {said}",
                case.with
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_does_not_start_with_a_bad_rule_and_says_which() -> Result<()> {
    let directory = tempdir()?;
    let hub = Hub::with_rules(
        directory.path(),
        &GOOD[1..].join("\n").replace("door.forced", "door.f"),
    )?;
    for command in ["serve", "validate"] {
        let (code, said) = outcome(hub.command()?.arg(command))?;
        assert_eq!(code, 78, "{said}");
        assert!(
            said.contains("own.toml") && said.contains("line 9"),
            "{said}"
        );
    }
    Ok(())
}

#[test]
fn the_rules_of_the_project_pass_their_own_tests_and_a_wrong_test_is_seen() -> Result<()> {
    let directory = tempdir()?;
    let hub = Hub::new(directory.path())?;
    let (code, said) = outcome(hub.command()?.args(["rules", "check"]))?;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("care-example"),
        "what is switched off is said: {said}"
    );
    let (code, said) = outcome(hub.command()?.args(["rules", "test"]))?;
    assert_eq!(code, 0, "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(
        last.contains("failed: 0") && !last.contains("tests: 0"),
        "{said}"
    );
    let of_one = ["rules", "test", "--rule", "fire-then-forced"];
    let (code, said) = outcome(hub.command()?.args(of_one))?;
    assert_eq!(
        (code, said.matches("√ fire-then-forced").count()),
        (0, 2),
        "{said}"
    );
    let (code, said) = outcome(hub.command()?.args(["rules", "test", "--rule", "nothing"]))?;
    assert_eq!(code, 2, "{said}");

    let text = std::fs::read_to_string(project("configs/rules/place.toml"))?;
    let wrong = text.replacen(
        "expect = [{ at = \"5m\", key = \"B1\", hits = 1",
        "expect = [{ at = \"6m\", key = \"B1\", hits = 1",
        1,
    );
    assert_ne!(text, wrong);
    std::fs::write(hub.rules_dir().join("place.toml"), wrong)?;
    let (code, said) = outcome(hub.command()?.args(of_one))?;
    assert_eq!(code, 65, "{said}");
    assert!(
        said.contains("× fire-then-forced") && said.contains("failed: 1"),
        "{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rules_did_and_did_not_do_can_be_asked_beside_a_running_hub() -> Result<()> {
    let directory = tempdir()?;
    let rules = GOOD[1..]
        .join("\n")
        .replace("route = \"duty-centre\"", "case = \"doors\"");
    let (mut hub, agent) = running(directory.path(), Some(&rules)).await?;
    let start_ms = now_ms() - 50 * MINUTE_MS;
    agent
        .deliver(&[
            ago("forced", "B1", 30 * MINUTE_MS),
            ago("forced", "B1", 20 * MINUTE_MS),
            ago("forced", "B1", 10 * MINUTE_MS),
            ago("forced", "B2", 10 * MINUTE_MS),
            ago("forced", "B2", 5 * MINUTE_MS),
        ])
        .await?;
    let warning = hub.raised("doors", "yuyuan|B1").await?;
    let number = id(&warning)?.to_string();
    let rules_command = |arguments: &[&str]| -> Result<(i32, String)> {
        outcome(hub.command()?.arg("rules").args(arguments))
    };

    let (code, said) = rules_command(&["list"])?;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("doors") && said.contains("count"), "{said}");
    let (_, said) = rules_command(&["list", "--json"])?;
    let listed: Value = serde_json::from_str(&said)?;
    assert_eq!(
        (&listed["id"], &listed["within_ms"]),
        (&json!("doors"), &json!(3_600_000))
    );

    let (code, said) = rules_command(&["why", &number])?;
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("because: ").count(), 3, "{said}");
    for part in [
        "[yuyuan|B1]",
        "gw-1/urgent/",
        "door.forced B1",
        "count=3",
        "is what it was",
        "raised",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (_, said) = rules_command(&["why", &number, "--json"])?;
    let why: Value = serde_json::from_str(&said)?;
    assert_eq!(
        (&why["warning"]["id"], &why["rule_unchanged"]),
        (&warning["id"], &json!(true))
    );
    assert_eq!(why["events"][2]["found"]["building"], "B1", "{why}");
    assert_eq!(rules_command(&["why", "4711"])?.0, 65);

    let now = jiff::Timestamp::now().to_string();
    let (code, said) = rules_command(&["why-not", "doors", "yuyuan|B2", "--at", &now])?;
    assert_eq!(code, 0, "{said}");
    for part in ["does not hold: 2/3", "2 条 events", "of other keys: 3"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (_, said) = rules_command(&["why-not", "doors", "yuyuan|B1", "--at", &now])?;
    assert!(said.contains("it does hold at"), "{said}");
    assert_eq!(
        rules_command(&["why-not", "nothing", "x", "--at", &now])?.0,
        2
    );
    assert_eq!(
        rules_command(&["why-not", "doors", "x", "--at", "noon"])?.0,
        2
    );

    // With two for three, another building would have been warned of, and another case opened.
    let lighter = directory.path().join("lighter");
    std::fs::create_dir(&lighter)?;
    std::fs::write(
        lighter.join("own.toml"),
        format!("schema = 1\n{}", rules.replace("times = 3", "times = 2")),
    )?;
    let from = jiff::Timestamp::from_millisecond(start_ms)?.to_string();
    let lighter = lighter.display().to_string();
    let period = ["backtest", "--from", &from, "--to", &now, "--json"];
    for (more, now) in [(vec![], 1), (vec!["--directory", lighter.as_str()], 2)] {
        let (code, said) = rules_command(&[&period[..], &more].concat())?;
        assert_eq!(code, 0, "{said}");
        let wanted = json!({ "office": "yuyuan", "rule": "doors", "warnings_then": 1, "warnings_now": now,
            "cases_then": 1, "cases_now": now });
        assert_eq!(serde_json::from_str::<Value>(&said)?, wanted);
    }
    let (_, said) = rules_command(&[&period[..5], &["--directory", &lighter]].concat())?;
    assert!(said.contains("yuyuan | doors | 1 → 2 | 1 → 2"), "{said}");
    let backwards = ["backtest", "--from", &now, "--to", &from];
    let (code, said) = rules_command(&backwards)?;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--from must be before --to"), "{said}");
    // Nothing of it has changed anything.
    assert_eq!(hub.keys("doors").await?, ["yuyuan|B1"]);

    // The rule is another now: that is said where a warning of before is explained.
    hub.write_rules("own", &rules.replace("times = 3", "times = 4"))?;
    let (_, said) = outcome(hub.command()?.args(["rules", "why", &number]))?;
    assert!(said.contains("another now"), "{said}");
    Ok(())
}
