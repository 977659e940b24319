//! Rules at work: what is not heard, reloads, limits and figures, across real processes.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{
    Agent, DAY_MS, Hub, MINUTE_MS, SECOND_MS, actions, ago, door_event, faketime, id, joined,
    metric, now_ms, run, running, until,
};
use serde_json::{Value, json};
use tempfile::tempdir;

const LEFT_OPEN: &str = "[[rule]]\nid = \"left-open\"\nname = \"门未关\"\nkind = \"absent\"\nlevel = \"device\"\n\
    key = [\"site\", \"device\"]\nwithin = \"WITHIN\"\non = [{ type = \"door.opened\" }]\n\
    until = [{ type = \"door.closed\" }]\nseverity = \"notice\"\nfold = \"0s\"\nthen = { case = \"doors\" }\n";

fn left_open(within: &str) -> String {
    LEFT_OPEN.replace("WITHIN", within)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_whose_close_is_told_late_is_withdrawn_with_its_reason_and_its_case_is_told()
-> Result<()> {
    let directory = tempdir()?;
    let (mut hub, agent) = running(directory.path(), Some(&left_open("2s"))).await?;
    let at_ms = now_ms();
    let door = |kind, device, at_ms| door_event(kind, "B1", device, at_ms);
    agent
        .deliver(&[
            door("open", "closes-in-time", at_ms),
            door("close", "closes-in-time", at_ms + SECOND_MS),
            door("open", "told-late", at_ms),
            door("open", "stays-open", at_ms),
        ])
        .await?;
    hub.raised("left-open", "yuyuan|stays-open").await?;
    let wrong = hub.raised("left-open", "yuyuan|told-late").await?;
    assert_eq!(wrong["at_ms"], at_ms + 2 * SECOND_MS);
    agent
        .deliver(&[door("close", "told-late", at_ms + SECOND_MS)])
        .await?;
    assert_eq!(hub.keys("left-open").await?, ["yuyuan|stays-open"]);
    let withdrawn = hub.warning(id(&wrong)?).await?;
    assert_eq!(withdrawn["state"], "withdrawn");
    assert_eq!(actions(&withdrawn, "changes"), ["raised", "withdrawn"]);
    let note = withdrawn["changes"][1]["note"].as_str().unwrap_or_default();
    assert!(
        note.contains("door.closed") && note.contains("gw-1/"),
        "{note}"
    );
    let code = withdrawn["cases"][0].as_str().context("a case")?;
    let (_, case) = hub.api(&format!("/api/v1/cases/{code}")).await?;
    assert_eq!(actions(&case, "actions"), ["registered", "note"]);
    let note = case["actions"][1]["note"].as_str().unwrap_or_default();
    assert!(
        note.contains("withdrawn") && note.contains("door.closed"),
        "{note}"
    );
    // What is closed after the window ends the warning, and does not take it back.
    agent
        .deliver(&[door("close", "stays-open", at_ms + 3 * SECOND_MS)])
        .await?;
    let ended = hub.raised("left-open", "yuyuan|stays-open").await?;
    assert_eq!(ended["ended_ms"], at_ms + 3 * SECOND_MS);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_is_not_left_open_because_its_agent_was_down() -> Result<()> {
    let directory = tempdir()?;
    let (mut hub, mut killed) = running(directory.path(), Some(&left_open("5s"))).await?;
    let mut stopped = joined(directory.path(), &hub, "gw-2", "yuyuan").await?;
    let steady = joined(directory.path(), &hub, "gw-3", "yuyuan").await?;
    let at_ms = now_ms();
    let open = |device: &str, at_ms| [door_event("open", "B1", device, at_ms)];
    killed.deliver(&open("of-killed", at_ms)).await?;
    killed.kill()?;
    stopped.deliver(&open("of-stopped", at_ms)).await?;
    stopped.stop()?;
    ensure!(
        now_ms() < at_ms + 5 * SECOND_MS,
        "too slow a machine to tell"
    );
    steady.deliver(&open("of-steady", at_ms)).await?;
    // The window is over for all three.
    hub.raised("left-open", "yuyuan|of-steady").await?;
    assert_eq!(hub.keys("left-open").await?, ["yuyuan|of-steady"]);
    // They are back, and hear again: a door that is left open now is known to be.
    for (agent, device) in [(&mut killed, "killed-back"), (&mut stopped, "stopped-back")] {
        agent.start().await?;
        agent.deliver(&open(device, now_ms())).await?;
        hub.raised("left-open", &format!("yuyuan|{device}")).await?;
    }
    let found = hub.keys("left-open").await?;
    assert_eq!(
        found,
        [
            "yuyuan|killed-back",
            "yuyuan|of-steady",
            "yuyuan|stopped-back"
        ]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_was_away_while_doors_stood_open_warns_of_those_that_were_not_closed()
-> Result<()> {
    let directory = tempdir()?;
    let (mut hub, agent) = running(directory.path(), Some(&left_open("3s"))).await?;
    let at_ms = now_ms();
    let door = |kind, device, at_ms| door_event(kind, "B1", device, at_ms);
    agent
        .deliver(&[door("open", "closed", at_ms), door("open", "left", at_ms)])
        .await?;
    hub.kill()?;
    // The agent hears of it while the hub is away.
    let close = agent
        .push(&[door("close", "closed", at_ms + SECOND_MS)])
        .await?;
    assert_eq!(close.status, 200);
    hub.start().await?;
    let warning = hub.raised("left-open", "yuyuan|left").await?;
    assert_eq!(warning["at_ms"], at_ms + 3 * SECOND_MS);
    // Once it is warned of, another kill neither doubles nor forgets it.
    hub.kill()?;
    hub.start().await?;
    agent
        .deliver(&[door("close", "left", at_ms + 4 * SECOND_MS)])
        .await?;
    let (_, all) = hub.api("/api/v1/warnings").await?;
    assert_eq!(all["items"].as_array().map(Vec::len), Some(1), "{all}");
    let ended = hub.warning(id(&warning)?).await?;
    assert_eq!(ended["ended_ms"], at_ms + 4 * SECOND_MS);
    assert_eq!(actions(&ended, "changes"), ["raised", "ended"]);
    Ok(())
}

/// A silent agent of a site makes all absences there doubtful.
fn silent(within: &str, same: &str) -> String {
    format!(
        "[[rule]]\nid = \"agent-silent\"\nname = \"网关失联\"\nkind = \"silent\"\nlevel = \"device\"\nkey = [\"agent\"]\n\
         roster = \"agents\"\nwithin = \"{within}\"\nseverity = \"warning\"\nfold = \"0s\"\n\
         inhibits = {{ kinds = [\"absent\"], same = \"{same}\" }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_agent_is_warned_of_until_it_is_back_and_absences_beside_it_are_inhibited()
-> Result<()> {
    let directory = tempdir()?;
    let rules = silent("3s", "site") + &left_open("1s");
    let (mut hub, mut silent) = running(directory.path(), Some(&rules)).await?;
    let beside = joined(directory.path(), &hub, "gw-2", "yuyuan").await?;
    let elsewhere = joined(directory.path(), &hub, "gw-3", "minle").await?;
    silent
        .deliver(&[door_event("open", "B1", "own", now_ms())])
        .await?;
    let heard = hub.raised("left-open", "yuyuan|own").await?;
    assert_eq!(heard["inhibited_by"], Value::Null);
    silent.kill()?;
    let warning = hub.raised("agent-silent", "gw-1").await?;
    assert_eq!(
        (&warning["site"], &warning["ended_ms"]),
        (&json!("yuyuan"), &Value::Null)
    );
    let reading = warning["reading"].as_str().unwrap_or_default();
    assert!(
        reading.starts_with("heard=20") && reading.ends_with("+08:00"),
        "{reading}"
    );
    for agent in [&beside, &elsewhere] {
        agent
            .deliver(&[door_event("open", "B1", "other", now_ms())])
            .await?;
    }
    let inhibited = hub.raised("left-open", "yuyuan|other").await?;
    assert_eq!(inhibited["inhibited_by"], warning["id"]);
    let inhibited = hub.warning(id(&inhibited)?).await?;
    assert_eq!(actions(&inhibited, "changes"), ["raised", "inhibited"]);
    let free = hub.raised("left-open", "minle|other").await?;
    assert_eq!(free["inhibited_by"], Value::Null);
    assert_eq!(hub.keys("agent-silent").await?, ["gw-1"]);

    let back_ms = now_ms();
    silent.start().await?;
    let silence = id(&warning)?;
    let ended = until("the silence to end", async || {
        let warning = hub.warning(silence).await?;
        Ok(warning["ended_ms"].is_i64().then_some(warning))
    })
    .await?;
    assert!(ended["ended_ms"].as_i64() >= Some(back_ms), "{ended}");
    assert_eq!(actions(&ended, "changes"), ["raised", "ended"]);
    beside
        .deliver(&[door_event("open", "B1", "after", now_ms())])
        .await?;
    let after = hub.raised("left-open", "yuyuan|after").await?;
    assert_eq!(after["inhibited_by"], Value::Null);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_gives_a_silent_agent_no_more_time_than_its_rule_does() -> Result<()> {
    let directory = tempdir()?;
    let rules = silent("4s", "agent");
    let (mut hub, mut agent) = running(directory.path(), Some(&rules)).await?;
    agent.drained().await?;
    agent.kill()?;
    let killed_ms = now_ms();
    // Other rules come into place until the hub says so; this one stays as it is.
    let warning = until("the agent's silence", async || {
        hub.write_rules("other", &left_open(&format!("{}s", 1 + now_ms() % 50)))?;
        let (status, answer) = hub.reload().await?;
        ensure!(status == 200, "{answer}");
        Ok(hub.warnings("rule=agent-silent").await?.pop())
    })
    .await?;
    let at_ms = warning["at_ms"].as_i64().context("at_ms")?;
    assert!(
        at_ms <= killed_ms + 4 * SECOND_MS,
        "{} ms late",
        at_ms - killed_ms
    );
    Ok(())
}

fn count_rule(id: &str, times: u32, kind: &str, more: &str) -> String {
    format!(
        "[[rule]]\nid = \"{id}\"\nname = \"{id}\"\nkind = \"count\"\ntimes = {times}\nwithin = \"1h\"\n\
         key = [\"site\", \"building\"]\non = [{{ type = \"{kind}\" }}]\nseverity = \"warning\"\n{more}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_is_all_or_nothing_and_a_changed_rule_begins_with_what_is_stored() -> Result<()> {
    let directory = tempdir()?;
    let same = count_rule("same", 2, "door.forced", "");
    let rules = count_rule("changed", 5, "lift.ebike", "") + &same;
    let (mut hub, agent) = running(directory.path(), Some(&rules)).await?;
    let failures = "rule_reload_failures_total";
    agent
        .deliver(&[
            ago("ebike", "B1", 3 * MINUTE_MS),
            ago("ebike", "B1", 2 * MINUTE_MS),
            ago("forced", "B1", 2 * MINUTE_MS),
        ])
        .await?;
    let (_, before) = hub.api("/api/v1/rules").await?;

    // A bad file beside a good change of another.
    let changed = count_rule("changed", 3, "lift.ebike", "") + &same;
    hub.write_rules("own", &changed)?;
    hub.write_rules("bad", &count_rule("bad", 2, "door.levitated", ""))?;
    let (status, problem) = hub.reload().await?;
    assert_eq!((status, &problem["status"]), (422, &json!(422)));
    let detail = problem["detail"].as_str().unwrap_or_default();
    for part in [
        "bad.toml",
        "line 9",
        "\"bad\"",
        "on",
        "door.levitated",
        "door.forced",
    ] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    assert_eq!(hub.figure(failures).await?, 1.0);
    hub.process()?.send(rustix::process::Signal::HUP)?;
    until("the hang-up to be refused too", async || {
        Ok((hub.figure(failures).await? == 2.0).then_some(()))
    })
    .await?;
    assert_eq!(hub.api("/api/v1/rules").await?.1, before);
    agent.deliver(&[ago("forced", "B1", MINUTE_MS)]).await?;
    assert_eq!(hub.keys("same").await?, ["yuyuan|B1"]);

    std::fs::remove_file(hub.rules_dir().join("bad.toml"))?;
    let evaluated = "rule_events_evaluated{rule=\"same\"}";
    let of_same = hub.figure(evaluated).await?;
    assert_eq!(hub.reload().await?, (200, json!({ "rules": 2 })));
    assert_eq!(hub.warnings("rule=changed").await?, [] as [Value; 0]);
    agent
        .deliver(&[ago("ebike", "B1", MINUTE_MS), ago("forced", "B1", 0)])
        .await?;
    let warning = hub.raised("changed", "yuyuan|B1").await?;
    assert_eq!(warning["reasons"].as_array().map(Vec::len), Some(3));
    let warnings = hub.warnings("rule=same").await?;
    assert_eq!((warnings.len(), &warnings[0]["hits"]), (1, &json!(2)));
    assert_eq!(hub.figure(evaluated).await?, of_same + 1.0);

    hub.write_rules("own", &same)?;
    hub.process()?.send(rustix::process::Signal::HUP)?;
    until("the hang-up to be taken", async || {
        let (_, rules) = hub.api("/api/v1/rules").await?;
        Ok((rules.as_array().map(Vec::len) == Some(1)).then_some(()))
    })
    .await?;
    assert_eq!(hub.figure(failures).await?, 2.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_a_rule_that_fails_its_own_test_and_says_so() -> Result<()> {
    let directory = tempdir()?;
    let test = "[[rule.test]]\nname = \"t\"\nevents = [\"0m door.forced building=B1\", \"1m door.forced building=B1\"]\n\
         expect = [{ at = \"1m\", key = \"B1\" }]\n";
    let mut hub = Hub::with_rules(
        directory.path(),
        &count_rule("good", 2, "door.forced", test),
    )?;
    hub.start().await?;
    let says = "rules fail the tests beside them";
    assert_eq!(hub.reload().await?, (200, json!({ "rules": 1 })));
    assert!(!hub.process()?.log_text().contains(says));
    let rules =
        count_rule("good", 2, "door.forced", test) + &count_rule("wrong", 3, "door.forced", test);
    hub.write_rules("own", &rules)?;
    assert_eq!(hub.reload().await?, (200, json!({ "rules": 2 })));
    let log = hub.process()?.log_text();
    let line = log
        .lines()
        .find(|line| line.contains(says))
        .context(log.clone())?;
    assert!(
        line.contains("WARN") && line.contains("\"wrong\""),
        "{line}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stricter_rule_does_not_withdraw_what_the_one_before_it_raised() -> Result<()> {
    let directory = tempdir()?;
    let rules = count_rule("doors", 2, "door.forced", "");
    let (mut hub, agent) = running(directory.path(), Some(&rules)).await?;
    let forced = |seconds| ago("forced", "B1", seconds * SECOND_MS);
    agent.deliver(&[forced(180), forced(120)]).await?;
    let warning = id(&hub.raised("doors", "yuyuan|B1").await?)?;
    hub.write_rules("own", &count_rule("doors", 5, "door.forced", ""))?;
    assert_eq!(hub.reload().await?, (200, json!({ "rules": 1 })));
    agent.deliver(&[forced(60), forced(50), forced(40)]).await?;
    let warning = hub.warning(warning).await?;
    assert_eq!(warning["state"], "active", "{}", warning["changes"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_at_the_same_time_are_all_answered() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::with_rules(directory.path(), &count_rule("one", 2, "door.forced", ""))?;
    hub.start().await?;
    let token = run(hub
        .command()?
        .args(["api-token", "create", "--name", "many"]))?;
    let hub = std::sync::Arc::new(hub);
    let mut reloads = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (hub, token) = (hub.clone(), token.trim().to_owned());
        reloads.spawn(async move { hub.post_with("/api/v1/rules/reload", &token).await });
    }
    for answer in reloads.join_all().await {
        assert_eq!(answer?, (200, json!({ "rules": 1 })));
    }
    assert_eq!(hub.figure("rule_reload_failures_total").await?, 0.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_keys_is_seen_and_holds_up_no_other_rule_nor_does_a_clock_of_next_month()
-> Result<()> {
    let directory = tempdir()?;
    let rules = count_rule("small", 2, "door.forced", "max_keys = 20")
        + &count_rule("other", 2, "fire.alarm", "");
    let (mut hub, agent) = running(directory.path(), Some(&rules)).await?;
    let flood: Vec<Value> = (0..50)
        .map(|number| ago("forced", &format!("B{number}"), MINUTE_MS))
        .collect();
    agent.deliver(&flood).await?;
    let seen = hub.warnings("rule=rule.overflow").await?;
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(
        (&seen[0]["key"], &seen[0]["reading"]),
        (&json!("small"), &json!("max_keys=20"))
    );
    let lost = "rule_overflow_events{rule=\"small\"}";
    assert_eq!(hub.figure(lost).await?, 30.0);
    // What it holds it still counts, and the other has lost nothing.
    agent
        .deliver(&[ago("forced", "B0", 0), ago("fire", "B1", MINUTE_MS)])
        .await?;
    assert_eq!(hub.keys("small").await?, ["yuyuan|B0"]);

    // A gateway and its boxes live a month ahead.
    let mut ahead = Agent::joined(&directory.path().join("ahead"), &hub, "gw-2", "yuyuan")?;
    ahead.wrapper = faketime(&[format!("FAKETIME=+{}s", 30 * 86_400)])?;
    ahead.start().await?;
    let next_month_ms = now_ms() + 30 * DAY_MS;
    let fires: Vec<Value> = (0..3)
        .map(|number| door_event("fire", "B2", "box", next_month_ms - number))
        .collect();
    ahead.deliver(&fires).await?;
    // It is of now when it came, and puts nothing else out of time.
    let beyond = "rule_beyond_events{rule=\"other\"}";
    assert_eq!(hub.figure(beyond).await?, 0.0);
    assert_eq!(hub.keys("other").await?, ["yuyuan|B2"]);
    agent.deliver(&[ago("fire", "B1", 0)]).await?;
    assert_eq!(hub.keys("other").await?, ["yuyuan|B1", "yuyuan|B2"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_has_its_figures_and_they_are_as_prometheus_wants_them() -> Result<()> {
    let directory = tempdir()?;
    let rules = count_rule("twice", 2, "door.forced", "max_keys = 2\nfold = \"0s\"")
        + &left_open("1s")
        + &count_rule("off", 2, "door.forced", "enabled = false");
    let (mut hub, agent) = running(directory.path(), Some(&rules)).await?;
    let open_ms = now_ms();
    agent
        .deliver(&[
            ago("forced", "B1", MINUTE_MS),
            ago("forced", "B1", 0),
            ago("forced", "B2", 2 * DAY_MS),
            ago("forced", "B2", 2 * DAY_MS - MINUTE_MS),
            ago("forced", "B3", MINUTE_MS),
            door_event("open", "B1", "door-1", open_ms),
        ])
        .await?;
    hub.raised("left-open", "yuyuan|door-1").await?;
    agent
        .deliver(&[door_event("close", "B1", "door-1", open_ms + 1)])
        .await?;
    let text = hub.metrics().await?;
    for (name, labels, value) in [
        ("rule_events_evaluated", "rule=\"twice\"", 5.0),
        ("rule_events_evaluated", "rule=\"left-open\"", 2.0),
        ("rule_events_evaluated", "rule=\"off\"", 0.0),
        // What a replay tells of B2 is days old.
        ("warning_outcomes_total", "outcome=\"late\"", 1.0),
        // B1, the door that stood open, and that a limit was met.
        ("warning_outcomes_total", "outcome=\"no_channel\"", 3.0),
        ("warning_outcomes_total", "outcome=\"told\"", 0.0),
        ("warnings_raised_total", "rule=\"twice\"", 2.0),
        ("warnings_raised_total", "rule=\"left-open\"", 1.0),
        (
            "warnings_revised_total",
            "action=\"withdrawn\",rule=\"left-open\"",
            1.0,
        ),
        ("rule_overflow_events", "rule=\"twice\"", 1.0),
        ("warning_latency_seconds_count", "rule=\"twice\"", 2.0),
        ("warning_latency_seconds_count", "rule=\"left-open\"", 1.0),
    ] {
        let name = format!("linli_hub_{name}{{{labels}}}");
        assert_eq!(metric(&text, &name), Some(value), "{name} in {text}");
    }
    let file = directory.path().join("metrics");
    std::fs::write(&file, text)?;
    let said = run(std::process::Command::new("sh")
        .args(["-c", "promtool check metrics < \"$0\" 2>&1"])
        .arg(&file))?;
    assert_eq!(said, "");
    Ok(())
}
