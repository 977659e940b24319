//! Numbered changes: nothing is missed over kills of the hub, who comes too late is told so, and every role sees the
//! changes of what it may see and of nothing else.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{Centre, ChangeStream, ago, connect, joined, quarrel, run, until, user};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;
use tempfile::tempdir;

async fn after(centre: &Centre, token: &str, number: i64) -> Result<Value> {
    let (status, changes) = centre
        .get(&format!("/api/v1/changes?after={number}"), token)
        .await?;
    ensure!(status == 200, "{changes}");
    Ok(changes)
}

/// All changes after a number that a token sees.
async fn all_after(centre: &Centre, token: &str, number: i64) -> Result<Vec<Value>> {
    let (mut found, mut next) = (Vec::new(), number);
    loop {
        let changes = after(centre, token, next).await?;
        ensure!(changes["reset"] == false, "{changes}");
        found.extend(
            changes["items"]
                .as_array()
                .context("items")?
                .iter()
                .cloned(),
        );
        next = changes["next"].as_i64().context("next")?;
        if changes["more"] == false {
            return Ok(found);
        }
    }
}

fn objects(changes: &[Value], kind: &str) -> BTreeSet<String> {
    changes
        .iter()
        .filter(|change| change["kind"] == kind && change["gone"] != true)
        .filter_map(|change| change["object"].as_str())
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_goes_on_after_its_last_number_misses_and_doubles_nothing_over_kills()
-> Result<()> {
    const ROUNDS: usize = 5;
    const CASES: usize = 6;
    let mut centre = Centre::new("").await?;
    let token = centre.user("wang", "supervisor", "centre").await?;
    let (_, start) = centre.get("/api/v1/changes", &token).await?;
    let start = start["next"].as_i64().context("next")?;
    let mut last_id = start.to_string();
    let mut seen: Vec<(i64, String)> = Vec::new();
    let mut registered = Vec::new();
    for round in 0..ROUNDS {
        let mut stream = ChangeStream::open(&centre.hub, &token, Some(&last_id)).await?;
        for number in 0..CASES {
            let mut body = quarrel();
            body["key"] = format!("{round}/{number}").into();
            let case = centre.register(&token, body).await?;
            registered.push(case["code"].as_str().context("code")?.to_owned());
            // A part of what is acknowledged has not been read when the hub is killed.
            if number < CASES / 2 {
                let change = stream.next_of("case").await?;
                let object = change["object"].as_str().context("object")?;
                seen.push((
                    change["number"].as_i64().context("number")?,
                    object.to_owned(),
                ));
            }
        }
        last_id = stream.last_id.clone();
        centre.hub.kill()?;
        while let Some(event) = stream.next().await? {
            last_id = event.id.clone();
            if event.data["kind"] == "case" {
                let object = event.data["object"].as_str().context("object")?;
                seen.push((
                    event.data["number"].as_i64().context("number")?,
                    object.to_owned(),
                ));
            }
        }
        centre.hub.start().await?;
    }
    let mut stream = ChangeStream::open(&centre.hub, &token, Some(&last_id)).await?;
    while seen
        .iter()
        .map(|(_, code)| code)
        .collect::<BTreeSet<_>>()
        .len()
        < registered.len()
    {
        let change = stream.next_of("case").await?;
        let object = change["object"].as_str().context("object")?;
        seen.push((
            change["number"].as_i64().context("number")?,
            object.to_owned(),
        ));
    }
    let numbers: Vec<i64> = seen.iter().map(|(number, _)| *number).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    let wanted: BTreeSet<String> = registered.into_iter().collect();
    let found: BTreeSet<String> = seen.iter().map(|(_, code)| code.clone()).collect();
    assert_eq!(found, wanted);
    // What the stream said is what the list says.
    let listed = all_after(&centre, &token, start).await?;
    let listed: Vec<i64> = listed
        .iter()
        .filter(|change| change["kind"] == "case")
        .filter_map(|change| change["number"].as_i64())
        .collect();
    assert_eq!(numbers, listed);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_too_late_or_from_another_database_is_told_to_read_everything_again() -> Result<()>
{
    let centre = Centre::new("[retention]\nchanges = 1\n").await?;
    let token = centre.user("wang", "supervisor", "centre").await?;
    for number in 0..4 {
        let mut body = quarrel();
        body["key"] = number.to_string().into();
        centre.register(&token, body).await?;
    }
    let (_, now) = centre.get("/api/v1/changes", &token).await?;
    let last = now["next"].as_i64().context("next")?;
    assert!(last > 3, "{now}");
    assert_eq!(after(&centre, &token, 0).await?["reset"], false);
    let mut connection = connect(centre.hub.database_url()).await?;
    sqlx::query("UPDATE changes SET at_ms = at_ms - 172800000")
        .execute(&mut connection)
        .await?;
    drop(connection);
    run(centre.hub.command()?.args(["retention", "run"]))?;
    for number in [0, 1, last + 1_000] {
        let changes = after(&centre, &token, number).await?;
        assert_eq!(changes["reset"], true, "{number}: {changes}");
        assert_eq!(changes["items"], json!([]));
        let next = changes["next"].as_i64().context("next")?;
        assert!(next >= last, "the newest number is kept: {changes}");
        let mut stream = ChangeStream::open(&centre.hub, &token, Some(&number.to_string())).await?;
        let event = stream.next().await?.context("an event")?;
        assert_eq!(event.event, "reset");
        // It goes on from there.
        let mut body = quarrel();
        body["key"] = format!("later {number}").into();
        let case = centre.register(&token, body).await?;
        assert_eq!(stream.next_of("case").await?["object"], case["code"]);
    }
    let (status, problem) = centre.get("/api/v1/changes?after=-1", &token).await?;
    assert_eq!(status, 400, "{problem}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_sees_the_changes_of_what_its_lists_show_and_of_nothing_else() -> Result<()> {
    let mut centre = Centre::new("[cases]\nnamed_handlers = [\"named\"]\n").await?;
    let supervisor = centre.user("boss", "supervisor", "centre").await?;
    // A fire at Yuyuan, quarrels at two places, and a case for named handlers only.
    let agent = joined(centre.directory.path(), &centre.hub, "gw-1", "yuyuan").await?;
    agent.push(&[ago("fire", "3", 0)]).await?;
    agent.drained().await?;
    centre.register(&supervisor, quarrel()).await?;
    let mut elsewhere = quarrel();
    elsewhere["place"] = "".into();
    elsewhere["key"] = "elsewhere".into();
    centre.register(&supervisor, elsewhere).await?;
    let mut hidden = quarrel();
    hidden["kind"] = "01-dv".into();
    hidden["key"] = "hidden".into();
    let (status, answer) = centre.post("/api/v1/cases", &supervisor, &hidden).await?;
    assert!(matches!(status, 201 | 202), "{answer}");
    let hidden = answer["code"].as_str().context("a code")?.to_owned();
    for (number, (role, org)) in [
        ("supervisor", "centre"),
        ("supervisor", "office-1"),
        ("supervisor", "office-2"),
        ("dispatcher", "centre"),
        ("lead", "room-3"),
        ("handler", "station-1"),
        ("handler", "department-12"),
        ("revisit", "centre"),
        ("grid", "grid-1"),
        ("grid", "grid-2"),
        ("operator", "centre"),
        ("operator", "office-1"),
        ("operator", "office-2"),
        ("admin", "centre"),
        ("auditor", "centre"),
        ("handler", "centre"),
    ]
    .into_iter()
    .enumerate()
    {
        let login = if number == 15 {
            "named".to_owned()
        } else {
            format!("u{number}")
        };
        let token = centre.user(&login, role, org).await?;
        let changes = all_after(&centre, &token, 0).await?;
        let of_list = async |path: &str, key: &str| -> Result<BTreeSet<String>> {
            let (status, found) = centre.get(path, &token).await?;
            if status == 403 {
                return Ok(BTreeSet::new());
            }
            let items = found["items"].as_array().context("items")?;
            let word = |item: &Value| match &item[key] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            Ok(items.iter().map(word).collect())
        };
        let who = format!("{role} of {org}");
        let cases = of_list("/api/v1/cases?limit=500", "code").await?;
        assert_eq!(objects(&changes, "case"), cases, "{who}");
        let warnings = of_list("/api/v1/warnings?limit=500", "id").await?;
        assert_eq!(objects(&changes, "warning"), warnings, "{who}");
        let agents = of_list("/api/v1/agents", "agent").await?;
        assert_eq!(objects(&changes, "agent"), agents, "{who}");
        assert_eq!(objects(&changes, "events"), agents, "{who}");
        let users = objects(&changes, "user");
        assert_eq!(users.contains("boss"), role == "admin", "{who}");
        assert_eq!(cases.contains(&hidden), login == "named", "{who}");
        // A stream shows the same.
        let mut stream = ChangeStream::open(&centre.hub, &token, Some("0")).await?;
        for wanted in &changes {
            let event = stream.next().await?.context("an event")?;
            assert_eq!(event.data, *wanted, "{who}");
        }
    }
    centre.hub.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_that_goes_to_others_is_gone_for_those_who_had_it() -> Result<()> {
    let centre = Centre::new("").await?;
    let boss = centre.user("boss", "supervisor", "centre").await?;
    let dispatcher = centre.user("disp", "dispatcher", "centre").await?;
    let lead = centre.user("lead", "lead", "department-12").await?;
    let mut body = quarrel();
    body["place"] = "".into();
    let case = centre.register(&boss, body).await?;
    let code = case["code"].as_str().context("code")?.to_owned();
    let mut stream = ChangeStream::open(&centre.hub, &lead, None).await?;
    let (_, start) = centre.get("/api/v1/changes", &lead).await?;
    let start = start["next"].as_i64().context("next")?;
    assert_eq!(
        all_after(&centre, &lead, 0)
            .await?
            .iter()
            .filter(|change| change["kind"] == "case")
            .count(),
        0
    );
    for wanted in [
        json!({ "move": "accept" }),
        json!({ "move": "dispatch", "organisation": "department-12" }),
    ] {
        centre.made(&dispatcher, &code, wanted).await?;
    }
    let came = stream.next_of("case").await?;
    assert_eq!(
        (came["object"].as_str(), &came["gone"]),
        (Some(code.as_str()), &Value::Null)
    );
    centre
        .made(
            &lead,
            &code,
            json!({ "move": "return", "reason": "不属本部门" }),
        )
        .await?;
    let gone = loop {
        let change = stream.next_of("case").await?;
        if change["gone"] == true {
            break change;
        }
    };
    assert_eq!(gone["object"], code.as_str());
    assert_eq!(
        gone["version"],
        Value::Null,
        "nothing of a case that is with others"
    );
    let (status, _) = centre.get(&format!("/api/v1/cases/{code}"), &lead).await?;
    assert_eq!(status, 404);
    // An organisation that never had it hears of nothing.
    let other = centre.user("other", "lead", "department-1").await?;
    let heard = all_after(&centre, &other, start).await?;
    assert!(
        heard.iter().all(|change| change["kind"] != "case"),
        "{heard:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_command_line_reaches_a_stream_and_a_session_that_ends_closes_it()
-> Result<()> {
    let centre = Centre::new("").await?;
    let admin = centre.user("admin", "admin", "centre").await?;
    let mut stream = ChangeStream::open(&centre.hub, &admin, None).await?;
    user(&centre.hub, "later", "handler", "room-3").await?;
    assert_eq!(stream.next_of("user").await?["object"], "later");
    run(centre.hub.command()?.args(["user", "disable", "admin"]))?;
    // The token is looked up again every half minute.
    until("the stream to end", async || {
        Ok(match stream.next().await? {
            None => Some(()),
            Some(_) => None,
        })
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_speaks_http_2_and_http_1() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = linli_tests::harness::Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    for (option, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let answer = run(Command::new("curl")
            .args(["--silent", "--show-error", "--output", "/dev/null", option])
            .args(["--write-out", "%{http_version} %{http_code}"])
            .arg("--cacert")
            .arg(hub.root())
            .arg(hub.url("/api/v1/openapi.json")))?;
        assert_eq!(answer, format!("{version} 200"));
    }
    hub.stop()?;
    Ok(())
}
