//! `linli-hub rules …`: what is wrong with rules is said so that it can be put right, and what they did can be
//! explained.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{
    Hub, MINUTE_MS, ago, door_event, id, now_ms, outcome, project, run, running,
};
use serde_json::{Value, json};
use std::time::Duration;
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
        &[
            "\"doors\"",
            "then",
            "duty-center",
            "duty-centre",
            "any [[route]] there replaces the default ones: duty-centre, property, office, mediation, police",
        ],
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
        12,
        &["\"doors\"", "test", "soon"],
    ),
    case(
        "",
        "[[rule.test]]\nname = \"good\"\nevents = []\n[[rule.test]]\nname = \"t\"\nevents = []\n\
         expect = [{ at = \"0m\", key = \"site|B1|L1\" }]",
        15,
        &[
            "\"doors\"",
            "test",
            "site|B1|L1",
            "3 values",
            "\"site|building\"",
            "left out",
        ],
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
    // Both sides are told alike, in the words of the test.
    assert!(
        said.contains("missing: [\"site|B1\" at 6m ×1]; 多出 found beside: [\"site|B1\" at 5m ×1]"),
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

/// A door that is left open, a fire, and a blind eye before a forced door that nobody opened again.
const PLACES: &str = "[[rule]]\nid = \"left-open\"\nname = \"门未关\"\nkind = \"absent\"\nlevel = \"device\"\n\
    key = [\"site\", \"device\"]\nwithin = \"2s\"\non = [{ type = \"door.opened\" }]\n\
    until = [{ type = \"door.closed\" }]\nseverity = \"notice\"\nfold = \"0s\"\n\
    [[rule]]\nid = \"fire\"\nname = \"火警\"\nkind = \"match\"\nkey = [\"site\", \"building\"]\n\
    on = [{ type = \"fire.alarm\" }]\nseverity = \"life\"\nfold = \"30m\"\n\
    [[rule]]\nid = \"fire-then-forced\"\nname = \"火警后强行开门\"\nkind = \"sequence\"\nkey = [\"building\"]\n\
    within = \"30m\"\non = [{ type = \"fire.alarm\" }, { type = \"door.forced\" }]\n\
    unless = [{ type = \"door.closed\" }]\nseverity = \"alarm\"\n\
    [[rule]]\nid = \"unheard\"\nname = \"无消息\"\nkind = \"silent\"\nkey = [\"device\"]\nwithin = \"1h\"\n\
    roster = [{ agent = \"gw-1\", device = \"door-1\" }]\non = [{ type = \"fire.alarm\" }]\nseverity = \"notice\"\n\
    [[rule]]\nid = \"agent-silent\"\nname = \"网关失联\"\nkind = \"silent\"\nkey = [\"agent\"]\nroster = \"agents\"\n\
    within = \"10m\"\nseverity = \"warning\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_came_back_after_the_time_that_is_asked_about_did_not_hear_it() -> Result<()>
{
    let directory = tempdir()?;
    let (mut hub, mut agent) = running(directory.path(), Some(PLACES)).await?;
    let open_ms = now_ms();
    let open = |device: &str, at_ms| [door_event("open", "B1", device, at_ms)];
    agent.deliver(&open("doubtful", open_ms)).await?;
    agent.kill()?;
    // The windows of both questions below are over by then.
    let back_ms = open_ms + 5000;
    tokio::time::sleep(Duration::from_millis((back_ms - now_ms()).max(0) as u64)).await;
    agent.start().await?;
    agent.deliver(&open("sure", now_ms())).await?;
    hub.raised("left-open", "yuyuan|sure").await?;
    assert_eq!(hub.keys("left-open").await?, ["yuyuan|sure"]);

    let time = |ms| anyhow::Ok(jiff::Timestamp::from_millisecond(ms)?.to_string());
    let (from, to) = (time(open_ms - MINUTE_MS)?, time(open_ms + 4000)?);
    let backtest = ["rules", "backtest", "--from", &from, "--to", &to, "--json"];
    assert_eq!(outcome(hub.command()?.args(backtest))?, (0, String::new()));
    let at = time(open_ms + 2500)?;
    let why_not = [
        "rules",
        "why-not",
        "left-open",
        "yuyuan|doubtful",
        "--at",
        &at,
    ];
    let (code, said) = outcome(hub.command()?.args(why_not))?;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("the agent did not hear from") && !said.contains("does hold at"),
        "{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn why_not_tells_the_reason_that_applied_and_no_other() -> Result<()> {
    let directory = tempdir()?;
    let rules = PLACES.replace("within = \"2s\"", "within = \"1m\"");
    let (mut hub, agent) = running(directory.path(), Some(&rules)).await?;
    let door = |kind: &str, device: &str, ms| door_event(kind, "B1", device, now_ms() - ms);
    agent
        .deliver(&[
            ago("fire", "B1", 10 * MINUTE_MS),
            door("open", "closed", 50_000),
            door("close", "closed", 40_000),
            ago("close", "B1", 2 * MINUTE_MS),
            ago("forced", "B1", MINUTE_MS),
            ago("forced", "B2", MINUTE_MS),
        ])
        .await?;
    let fire = id(&hub.raised("fire", "yuyuan|B1").await?)?;
    let asked = |rule: &str, key: &str| -> Result<(i32, String)> {
        outcome(hub.command()?.args(["rules", "why-not", rule, key]))
    };
    for (rule, key, says) in [
        // Without --at it is asked about now, and a rule without a window about its fold.
        ("fire", "yuyuan|B1", format!("there is a warning: #{fire} ")),
        (
            "fire",
            "yuyuan|B2",
            "does not hold: 没有事件 no event".to_owned(),
        ),
        ("left-open", "yuyuan|closed", "it was followed: ".to_owned()),
        (
            "left-open",
            "yuyuan|other",
            "no event that something was to follow".to_owned(),
        ),
        (
            "fire-then-forced",
            "B1",
            "an event of unless lies between".to_owned(),
        ),
        ("fire-then-forced", "B2", "missing: fire.alarm".to_owned()),
        ("unheard", "door-1", "it was heard: ".to_owned()),
        (
            "unheard",
            "door-2",
            "not on the roster of the rule".to_owned(),
        ),
        ("agent-silent", "gw-1", "last sign of life: 20".to_owned()),
        ("agent-silent", "gw-2", "not on the roster".to_owned()),
    ] {
        let (code, said) = asked(rule, key)?;
        assert_eq!(code, 0, "{said}");
        assert!(
            said.contains(&says),
            "{rule} {key}, without {says:?}: {said}"
        );
        let reasons = said.matches("does not hold: ").count();
        assert!(reasons <= 1, "{rule} {key}: {said}");
    }
    let (code, said) = asked("fire", "yuyuan")?;
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("has 1 values") && said.contains("\"site|building\""),
        "{said}"
    );

    let fire_rule = PLACES.split("[[rule]]").nth(2).context("the second rule")?;
    for (more, says) in [
        ("enabled = false", "switched off"),
        ("mode = \"shadow\"", "on trial"),
    ] {
        hub.write_rules("own", &format!("[[rule]]{fire_rule}\n{more}\n"))?;
        let (_, said) = outcome(
            hub.command()?
                .args(["rules", "why-not", "fire", "yuyuan|B1"]),
        )?;
        assert!(
            said.contains(says) && said.contains("does hold at"),
            "{says}: {said}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_rules_use_and_that_has_no_channel_is_named_by_validate_and_at_a_start()
-> Result<()> {
    let directory = tempdir()?;
    let then = "then = { route = \"property\" }";
    let doors = GOOD[1..].join("\n");
    let off = doors.replace("\"doors\"", "\"off\"") + "\nenabled = false";
    let lift = doors
        .replace("\"doors\"", "\"lift\"")
        .replace(GOOD[10], then);
    let mut hub = Hub::with_rules(directory.path(), &[doors, off, lift].join("\n"))?;
    std::fs::write(
        directory.path().join("secret"),
        "SEC-of-the-tests-0123456789",
    )?;
    hub.configure(
        "[[channel]]\nname = \"duty\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:9/\"\nsecret_file = \"secret\"\n\
         [[route]]\nname = \"duty-centre\"\n[[route]]\nname = \"property\"\nchannels = [\"duty\"]\n",
    )?;
    let said = run(hub.command()?.arg("validate"))?;
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("warning:"))
        .collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(
        lines[0].contains("duty-centre") && lines[0].ends_with(": doors"),
        "{said}"
    );
    let said: Value = serde_json::from_str(&run(hub.command()?.args(["validate", "--json"]))?)?;
    assert_eq!(
        said["routes_without_channel"],
        json!([{ "route": "duty-centre", "rules": ["doors"] }])
    );
    hub.start().await?;
    let log = hub.process()?.log_text();
    let warned: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("has no channel"))
        .collect();
    assert_eq!(warned.len(), 1, "{log}");
    assert!(
        warned[0].contains("WARN") && warned[0].contains("duty-centre"),
        "{log}"
    );
    Ok(())
}

#[test]
fn every_key_that_a_rule_file_may_have_is_explained() -> Result<()> {
    let directory = tempdir()?;
    let hub = Hub::new(directory.path())?;
    let explained = std::fs::read_to_string(project("configs/README.md"))?;
    let rules = directory.path().join("unknown");
    std::fs::create_dir(&rules)?;
    let mut missing = Vec::new();
    // An unknown key in each table; the error lists those that are known.
    for unknown in [
        "unknown = 1",
        "then = { unknown = 1 }",
        "inhibits = { unknown = 1 }",
        "[[rule.test]]\nunknown = 1",
        "[[rule.test]]\nname = \"t\"\nevents = []\nexpect = [{ unknown = 1 }]",
    ] {
        let mut lines: Vec<&str> = GOOD[..10].to_vec();
        lines.push(unknown);
        std::fs::write(rules.join("doors.toml"), lines.join("\n"))?;
        let (_, said) = outcome(
            hub.command()?
                .args(["rules", "check", "--directory"])
                .arg(&rules),
        )?;
        let (_, known) = said.split_once("expected").context(said.clone())?;
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        ensure!(known.len() > 2, "{said}");
        let is_missing = |key: &&str| {
            !["{key} =", "`{key}`", "[[rule.{key}]]"]
                .iter()
                .any(|form| explained.contains(&form.replace("{key}", key)))
        };
        missing.extend(known.into_iter().filter(is_missing).map(str::to_owned));
    }
    assert_eq!(missing, [] as [&str; 0], "not in configs/README.md");
    Ok(())
}
