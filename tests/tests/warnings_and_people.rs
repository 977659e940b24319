//! What people are told of warnings and what they do about them: trials, acknowledgements, mutes.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{
    Agent, Hub, MINUTE_MS, Receiver, actions, ago, door_event, free_tcp_port, id, joined, now_ms,
    outcome, run, until,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use tempfile::tempdir;

/// A rule that warns of each event of a kind.
fn each(id: &str, kind: &str, severity: &str, more: &str, then: &str) -> String {
    format!(
        "[[rule]]\nid = \"{id}\"\nname = \"{id}\"\nkind = \"match\"\nkey = [\"site\", \"building\"]\n\
         on = [{{ type = \"{kind}\" }}]\nseverity = \"{severity}\"\nfold = \"0s\"\n{more}\nthen = {{ {then} }}\n"
    )
}

/// A channel for each name on a local port, and a route to it alone, which passes on to the next.
fn chain(port: u16, names: &[&str]) -> String {
    let mut blocks = String::new();
    for (at, name) in names.iter().enumerate() {
        blocks.push_str(&format!(
            "[[channel]]\nname = {name:?}\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{port}/{name}\"\n\
             secret_file = \"secret\"\nrate = {{ messages = 1000, per = \"1s\" }}\n\
             [[route]]\nname = {name:?}\nchannels = [{name:?}]\n"
        ));
        if let Some(next) = names.get(at + 1) {
            blocks.push_str(&format!("escalate = {next:?}\n"));
        }
    }
    blocks
}

async fn told_by(directory: &Path, port: u16, names: &[&str], rules: &str) -> Result<(Hub, Agent)> {
    let path = directory.join("hub");
    let mut hub = Hub::with_rules(&path, rules)?;
    std::fs::write(path.join("secret"), "SEC-of-the-tests-0123456789")?;
    hub.configure(&chain(port, names))?;
    hub.start().await?;
    let agent = joined(directory, &hub, "gw-1", "yuyuan").await?;
    Ok((hub, agent))
}

/// The ids of all messages on a path, each once, however they were put together.
fn told(receiver: &Receiver, path: &str) -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for received in receiver.received(path) {
        let body = received.json()?;
        for event in body.as_array().unwrap_or(&vec![body.clone()]) {
            ids.insert(event["id"].as_str().context("an id")?.to_owned());
        }
    }
    Ok(ids)
}

async fn until_told(receiver: &Receiver, path: &str, ids: &[String]) -> Result<()> {
    let wanted: BTreeSet<String> = ids.iter().cloned().collect();
    until(&format!("{path} to be told of {ids:?}"), async || {
        let found = told(receiver, path)?;
        ensure!(found.is_subset(&wanted), "{found:?}");
        Ok((found == wanted).then_some(()))
    })
    .await
}

async fn notifications(hub: &mut Hub, state: &str) -> Result<usize> {
    let (status, page) = hub
        .api(&format!("/api/v1/notifications?state={state}&limit=500"))
        .await?;
    ensure!(status == 200, "{page}");
    Ok(page["items"].as_array().context("items")?.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_on_trial_opens_nothing_pages_nobody_and_is_seen_apart() -> Result<()> {
    let directory = tempdir()?;
    let receiver = Receiver::start().await?;
    let then = "case = \"public-safety\", route = \"duty-centre\", ack = \"5m\"";
    let rules = each("trial", "fire.alarm", "life", "mode = \"shadow\"", then)
        + &each("live", "fire.alarm", "life", "", then);
    let (mut hub, agent) =
        told_by(directory.path(), receiver.port, &["duty-centre"], &rules).await?;
    agent.deliver(&[ago("fire", "B1", MINUTE_MS)]).await?;
    let (live, trial) = (hub.warnings("").await?, hub.warnings("shadow=true").await?);
    assert_eq!((live.len(), trial.len()), (1, 1));
    assert_eq!(
        (&live[0]["rule"], &trial[0]["rule"]),
        (&json!("live"), &json!("trial"))
    );
    assert_eq!(
        (&trial[0]["shadow"], &trial[0]["ack_due_ms"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(
        (&trial[0]["cases"], &trial[0]["key"]),
        (&json!([]), &json!("yuyuan|B1"))
    );
    let (_, cases) = hub.api("/api/v1/cases").await?;
    assert_eq!(cases["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(cases["items"][0]["warnings"], json!([id(&live[0])?]));
    let shown = |more: &[&str]| run(hub.command()?.arg("warnings").args(more));
    let (live_shown, trial_shown) = (shown(&[])?, shown(&["--shadow"])?);
    assert!(
        live_shown.contains("live") && !live_shown.contains("trial"),
        "{live_shown}"
    );
    assert!(
        trial_shown.contains("trial") && trial_shown.contains("试运行 shadow"),
        "{trial_shown}"
    );
    assert!(
        live_shown.contains("待签收 to be acknowledged until 20"),
        "{live_shown}"
    );
    let why = run(hub
        .command()?
        .args(["rules", "why", &id(&trial[0])?.to_string()]))?;
    assert!(why.contains("试运行 shadow"), "{why}");
    for (outcome, count) in [("told", 1.0), ("shadow", 1.0), ("no_channel", 0.0)] {
        let figure = format!("warning_outcomes_total{{outcome=\"{outcome}\"}}");
        assert_eq!(hub.figure(&figure).await?, count, "{outcome}");
    }
    // The trial's rule stands first in the file, so it was decided first: it would have been told first.
    let message = format!("warning/{}/raised/duty-centre", id(&live[0])?);
    until_told(&receiver, "/duty-centre", &[message]).await?;
    let (_, page) = hub.api("/api/v1/notifications").await?;
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{page}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_acknowledges_is_passed_on_and_what_somebody_does_is_not_over_a_kill()
-> Result<()> {
    let directory = tempdir()?;
    let receiver = Receiver::start().await?;
    let rules = each(
        "fire",
        "fire.alarm",
        "life",
        "",
        "route = \"duty-centre\", ack = \"6s\"",
    );
    let names = ["duty-centre", "police", "office"];
    let (mut hub, agent) = told_by(directory.path(), receiver.port, &names, &rules).await?;
    agent
        .deliver(&[ago("fire", "ignored", 2000), ago("fire", "taken", 1000)])
        .await?;
    let ignored = id(&hub.raised("fire", "yuyuan|ignored").await?)?;
    let taken = id(&hub.raised("fire", "yuyuan|taken").await?)?;

    let path = format!("/api/v1/warnings/{taken}/acknowledge");
    let (status, problem) = hub
        .post(&path, &json!({ "by": " ", "note": "去看" }))
        .await?;
    assert_eq!(status, 400, "{problem}");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap_or_default()
            .starts_with("by:"),
        "{problem}"
    );
    let (status, answer) = hub
        .post(&path, &json!({ "by": "王工", "note": "已到场" }))
        .await?;
    assert_eq!(
        (status, &answer["acked_by"]),
        (200, &json!("王工")),
        "{answer}"
    );
    assert_eq!(answer["ack_due_ms"], Value::Null);
    assert_eq!(hub.post(&path, &json!({ "by": "李工" })).await?.0, 409);
    assert_eq!(hub.figure("warnings_unacknowledged").await?, 1.0);
    let unknown = "/api/v1/warnings/4711/acknowledge";
    assert_eq!(hub.post(unknown, &json!({ "by": "李工" })).await?.0, 404);
    assert_eq!(hub.warning(ignored).await?["escalations"], 0);
    hub.kill()?;
    hub.start().await?;

    let raised = [ignored, taken].map(|id| format!("warning/{id}/raised/duty-centre"));
    until_told(&receiver, "/duty-centre", &raised).await?;
    let passed_on = format!("warning/{ignored}/escalated/1/police");
    until_told(&receiver, "/police", &[passed_on]).await?;
    hub.kill()?;
    hub.start().await?;
    let passed_on = format!("warning/{ignored}/escalated/2/office");
    until_told(&receiver, "/office", &[passed_on]).await?;
    // Beyond the last there is nobody; the other's time has been over twice by then.
    let at_end = until("the end of the chain", async || {
        let warning = hub.warning(ignored).await?;
        let escalated = actions(&warning, "changes");
        Ok((escalated.len() == 4).then_some(warning))
    })
    .await?;
    assert_eq!(
        actions(&at_end, "changes"),
        ["raised", "escalated", "escalated", "escalated"]
    );
    assert_eq!(
        (&at_end["escalations"], &at_end["ack_due_ms"]),
        (&json!(2), &Value::Null)
    );
    assert_eq!(hub.figure("warnings_unacknowledged").await?, 0.0);
    let taken = hub.warning(taken).await?;
    assert_eq!(actions(&taken, "changes"), ["raised", "acknowledged"]);
    assert_eq!(
        (&taken["changes"][1]["actor"], &taken["changes"][1]["note"]),
        (&json!("王工"), &json!("已到场"))
    );
    for (route, count) in [("/duty-centre", 2), ("/police", 1), ("/office", 1)] {
        assert_eq!(told(&receiver, route)?.len(), count, "{route}");
    }
    // One that is passed on can still be acknowledged, by hand too.
    run(hub.command()?.args([
        "acknowledge",
        &ignored.to_string(),
        "--by",
        "李工",
        "--note",
        "已处置",
    ]))?;
    assert_eq!(hub.warning(ignored).await?["acked_by"], "李工");
    let unacknowledged = hub.warnings("unacknowledged=true").await?;
    assert_eq!(unacknowledged, [] as [Value; 0]);
    Ok(())
}

fn in_an_hour() -> String {
    (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mute_says_who_why_and_until_when_and_leaves_life_alone() -> Result<()> {
    let directory = tempdir()?;
    let then = "route = \"duty-centre\", ack = \"5m\"";
    let rules = each("forced", "door.forced", "alarm", "", then)
        + &each("fire", "fire.alarm", "life", "", then);
    let (mut hub, agent) = told_by(directory.path(), 9, &["duty-centre"], &rules).await?;
    let good =
        json!({ "rule": "forced", "reason": "检修", "owner": "王工", "until": in_an_hour() });
    for (field, value) in [
        ("reason", Value::Null),
        ("reason", json!("  ")),
        ("owner", Value::Null),
        ("owner", json!("")),
        ("until", Value::Null),
        ("until", json!("tomorrow")),
        ("until", json!("2026-01-01T00:00:00Z")),
        ("until", json!("2126-01-01T00:00:00Z")),
        ("rule", json!("")),
        ("rule", json!("levitated")),
        ("site", json!("yuyaun")),
        // Of severity life: without `life` it would do nothing.
        ("rule", json!("fire")),
        ("life", json!(true)),
        ("colour", json!("red")),
    ] {
        let mut mute = good.clone();
        let fields = mute.as_object_mut().context("fields")?;
        match &value {
            Value::Null => fields.remove(field),
            value => fields.insert(field.to_owned(), value.clone()),
        };
        let (status, problem) = hub.post("/api/v1/mutes", &mute).await?;
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert_eq!(status, 400, "{field} {value}: {problem}");
        assert!(detail.contains(field), "{field} {value}: {detail}");
    }
    let (_, mutes) = hub.api("/api/v1/mutes").await?;
    assert_eq!(mutes["items"], json!([]));

    let site =
        json!({ "site": "yuyuan", "reason": "演练", "owner": "王工", "until": in_an_hour() });
    assert_eq!(
        hub.post("/api/v1/mutes", &site).await?,
        (201, json!({ "id": 1 }))
    );
    agent
        .deliver(&[ago("forced", "B1", 1000), ago("fire", "B1", 1000)])
        .await?;
    let forced = hub.raised("forced", "yuyuan|B1").await?;
    assert_eq!(
        (&forced["muted_by"], &forced["ack_due_ms"]),
        (&json!(1), &Value::Null)
    );
    let forced = hub.warning(id(&forced)?).await?;
    assert_eq!(actions(&forced, "changes"), ["raised", "muted"]);
    let fire = hub.raised("fire", "yuyuan|B1").await?;
    assert_eq!(fire["muted_by"], Value::Null);
    assert!(fire["ack_due_ms"].is_i64());
    assert_eq!(
        hub.figure("warning_outcomes_total{outcome=\"muted\"}")
            .await?,
        1.0
    );
    // Only the fire is to be told.
    let (_, page) = hub.api("/api/v1/notifications").await?;
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{page}");

    // Where the config allows it, and the mute says so, life is muted too.
    hub.stop()?;
    hub.configure("[warnings]\nmute_life = true")?;
    hub.start().await?;
    agent.deliver(&[ago("fire", "B2", 1000)]).await?;
    assert_eq!(
        hub.raised("fire", "yuyuan|B2").await?["muted_by"],
        Value::Null
    );
    let mut life = site;
    life["life"] = json!(true);
    assert_eq!(
        hub.post("/api/v1/mutes", &life).await?,
        (201, json!({ "id": 2 }))
    );
    agent.deliver(&[ago("fire", "B3", 1000)]).await?;
    assert_eq!(hub.raised("fire", "yuyuan|B3").await?["muted_by"], 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mute_by_hand_that_would_do_nothing_is_refused_in_the_words_of_its_options() -> Result<()>
{
    let directory = tempdir()?;
    let then = "route = \"duty-centre\", ack = \"5m\"";
    let rules = each("forced", "door.forced", "alarm", "", then)
        + &each("fire", "fire.alarm", "life", "", then);
    let (hub, _agent) = told_by(directory.path(), 9, &["duty-centre"], &rules).await?;
    hub.configure("[[site]]\nname = \"planned\"")?;
    let add = |of: &[&str], lasting: &str| -> Result<(i32, String)> {
        let who = [
            "mutes", "add", "--reason", "检修", "--owner", "王工", "--for", lasting,
        ];
        outcome(hub.command()?.args(who).args(of))
    };
    let later = in_an_hour();
    for (of, lasting, says) in [
        (
            vec!["--rule", "forecd"],
            "1h",
            vec!["--rule:", "forecd", "forced, fire"],
        ),
        (
            vec!["--site", "yuyaun"],
            "1h",
            vec!["--site:", "yuyaun", "planned, yuyuan"],
        ),
        (
            vec!["--rule", "fire"],
            "1h",
            vec!["--life:", "do nothing", "mute_life"],
        ),
        (
            vec!["--rule", "fire", "--life"],
            "1h",
            vec!["--life:", "mute_life"],
        ),
        (vec!["--rule", "forced"], "0s", vec!["--for:"]),
        (vec!["--rule", "forced"], "91d", vec!["--for:", "90 days"]),
        (
            vec!["--rule", "forced", "--from", later.as_str()],
            "0s",
            vec!["--from, --for:"],
        ),
    ] {
        let (code, said) = add(&of, lasting)?;
        let missing: Vec<&&str> = says.iter().filter(|part| !said.contains(**part)).collect();
        assert!(
            code == 65 && missing.is_empty(),
            "{of:?}, without {missing:?}: {code} {said}"
        );
    }
    assert_eq!(run(hub.command()?.args(["mutes", "list"]))?, "");

    let still_told = "still told of warnings of life safety";
    let (code, said) = add(&["--rule", "forced"], "1h")?;
    assert!(code == 0 && !said.contains(still_told), "{said}");
    let (code, said) = add(&["--site", "planned", "--from", later.as_str()], "1h")?;
    assert!(code == 0 && said.contains(still_told), "{said}");
    run(hub.command()?.args(["mutes", "end", "1"]))?;
    let listed = run(hub.command()?.args(["mutes", "list"]))?;
    let states: Vec<bool> = listed
        .lines()
        .zip(["未开始 not yet", "已结束 over"])
        .map(|(line, state)| line.contains(state))
        .collect();
    assert_eq!(states, [true, true], "{listed}");
    // That it is not told after the mute either is said where one is made.
    let help = run(hub.command()?.args(["mutes", "add", "--help"]))?;
    assert!(help.contains("not told after it either"), "{help}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_muted_warning_leaves_after_a_kill_though_it_waited_in_the_outbox()
-> Result<()> {
    let directory = tempdir()?;
    let port = free_tcp_port()?;
    let rules = each(
        "forced",
        "door.forced",
        "alarm",
        "",
        "route = \"duty-centre\", ack = \"5m\"",
    );
    let (mut hub, agent) = told_by(directory.path(), port, &["duty-centre"], &rules).await?;
    agent
        .deliver(&[ago("forced", "muted", 2000), ago("forced", "loud", 2000)])
        .await?;
    assert_eq!(notifications(&mut hub, "waiting").await?, 2);
    let mute = json!({ "rule": "forced", "key": "yuyuan|muted", "reason": "门坏了", "owner": "王工",
        "until": in_an_hour() });
    assert_eq!(
        hub.post("/api/v1/mutes", &mute).await?,
        (201, json!({ "id": 1 }))
    );
    hub.kill()?;
    // The channel is back only now.
    let receiver = Receiver::on(port).await?;
    hub.start().await?;
    agent.deliver(&[ago("forced", "muted", 1000)]).await?;
    let (muted, loud) = (
        hub.warnings("rule=forced").await?,
        id(&hub.raised("forced", "yuyuan|loud").await?)?,
    );
    let of_muted: Vec<&Value> = muted
        .iter()
        .filter(|warning| warning["key"] == "yuyuan|muted")
        .collect();
    assert_eq!(of_muted.len(), 2);
    for warning in of_muted {
        assert_eq!(
            (&warning["muted_by"], &warning["ack_due_ms"]),
            (&json!(1), &Value::Null)
        );
    }
    let first = format!("warning/{loud}/raised/duty-centre");
    until_told(&receiver, "/duty-centre", std::slice::from_ref(&first)).await?;
    let states = [
        notifications(&mut hub, "sent").await?,
        notifications(&mut hub, "dropped").await?,
        notifications(&mut hub, "waiting").await?,
    ];
    assert_eq!(states[1..], [1, 0]);

    // It is taken back; what comes from then on is told, and what was muted stays so.
    assert_eq!(hub.post("/api/v1/mutes/1/end", &json!({})).await?.0, 204);
    assert_eq!(hub.post("/api/v1/mutes/1/end", &json!({})).await?.0, 404);
    agent.deliver(&[ago("forced", "muted", 0)]).await?;
    let after = hub.warnings("rule=forced").await?;
    let after = after.last().context("a warning")?;
    assert_eq!(
        (&after["key"], &after["muted_by"]),
        (&json!("yuyuan|muted"), &Value::Null)
    );
    let second = format!("warning/{}/raised/duty-centre", id(after)?);
    until_told(&receiver, "/duty-centre", &[first, second]).await?;

    // The same by hand, with the hub running.
    let until_then = [
        "mutes", "add", "--site", "yuyuan", "--reason", "检修", "--owner", "李工",
    ];
    run(hub.command()?.args(until_then).args(["--for", "1h"]))?;
    let listed = run(hub.command()?.args(["mutes", "list"]))?;
    assert!(
        listed.contains("检修") && listed.contains("门坏了"),
        "{listed}"
    );
    agent.deliver(&[ago("forced", "by-hand", 0)]).await?;
    assert_eq!(hub.raised("forced", "yuyuan|by-hand").await?["muted_by"], 2);
    run(hub.command()?.args(["mutes", "end", "2"]))?;
    let again = hub.command()?.args(["mutes", "end", "2"]).output()?;
    assert_eq!(again.status.code(), Some(65));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_of_what_a_silent_agent_makes_doubtful() -> Result<()> {
    let directory = tempdir()?;
    let receiver = Receiver::start().await?;
    let rules = "[[rule]]\nid = \"agent-silent\"\nname = \"网关失联\"\nkind = \"silent\"\nkey = [\"agent\"]\n\
         roster = \"agents\"\nwithin = \"3s\"\nseverity = \"warning\"\nfold = \"0s\"\n\
         inhibits = { rules = [\"left-open\"], same = \"site\" }\nthen = { route = \"duty-centre\" }\n\
         [[rule]]\nid = \"left-open\"\nname = \"门未关\"\nkind = \"absent\"\nkey = [\"site\"]\nwithin = \"1s\"\n\
         on = [{ type = \"door.opened\" }]\nuntil = [{ type = \"door.closed\" }]\nseverity = \"notice\"\n\
         fold = \"0s\"\nthen = { case = \"doors\", route = \"duty-centre\" }\n";
    let (mut hub, mut silent) =
        told_by(directory.path(), receiver.port, &["duty-centre"], rules).await?;
    let beside = joined(directory.path(), &hub, "gw-2", "yuyuan").await?;
    let elsewhere = joined(directory.path(), &hub, "gw-3", "minle").await?;
    silent.kill()?;
    let silence = id(&hub.raised("agent-silent", "gw-1").await?)?;
    beside.deliver(&[ago("open", "B1", 0)]).await?;
    let doubtful = hub.raised("left-open", "yuyuan").await?;
    assert_eq!(doubtful["inhibited_by"], silence);
    // It is raised, and has its case.
    assert_eq!(doubtful["cases"].as_array().map(Vec::len), Some(1));
    elsewhere.deliver(&[ago("open", "B1", 0)]).await?;
    let sure = id(&hub.raised("left-open", "minle").await?)?;
    let mut told = vec![
        format!("warning/{silence}/raised/duty-centre"),
        format!("warning/{sure}/raised/duty-centre"),
    ];
    until_told(&receiver, "/duty-centre", &told).await?;
    // Nor of the end of what nobody was told of.
    beside.deliver(&[ago("close", "B1", 0)]).await?;
    silent.start().await?;
    told.push(format!("warning/{silence}/ended/duty-centre"));
    until_told(&receiver, "/duty-centre", &told).await?;
    assert!(hub.raised("left-open", "yuyuan").await?["ended_ms"].is_i64());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_told_of_a_warning_is_told_of_its_withdrawal_however_far_it_was_passed_on()
-> Result<()> {
    let directory = tempdir()?;
    let receiver = Receiver::start().await?;
    let rules = "[[rule]]\nid = \"left-open\"\nname = \"门未关\"\nkind = \"absent\"\nkey = [\"site\"]\nwithin = \"2s\"\n\
         on = [{ type = \"door.opened\" }]\nuntil = [{ type = \"door.closed\" }]\nseverity = \"notice\"\n\
         fold = \"0s\"\nthen = { route = \"duty-centre\", ack = \"4s\" }\n";
    let names = ["duty-centre", "police", "office"];
    let (mut hub, agent) = told_by(directory.path(), receiver.port, &names, rules).await?;
    let open_ms = now_ms();
    agent
        .deliver(&[door_event("open", "B1", "door-1", open_ms)])
        .await?;
    let warning = id(&hub.raised("left-open", "yuyuan").await?)?;
    until_told(
        &receiver,
        "/police",
        &[format!("warning/{warning}/escalated/1/police")],
    )
    .await?;
    agent
        .deliver(&[door_event("close", "B1", "door-1", open_ms + 1000)])
        .await?;
    for (route, first) in [("duty-centre", "raised"), ("police", "escalated/1")] {
        let both = [first, "withdrawn"].map(|what| format!("warning/{warning}/{what}/{route}"));
        until_told(&receiver, &format!("/{route}"), &both).await?;
    }
    // It goes no further, and those beyond have not heard of it.
    let withdrawn = hub.warning(warning).await?;
    assert_eq!(withdrawn["ack_due_ms"], Value::Null);
    assert_eq!(
        actions(&withdrawn, "changes"),
        ["raised", "escalated", "withdrawn"]
    );
    assert!(receiver.received("/office").is_empty());
    Ok(())
}
