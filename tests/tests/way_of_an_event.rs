//! From a push to a case, across real processes.
use anyhow::{Context, Result};
use linli_tests::harness::{Agent, DOORS_TOKEN, Hub, actions, metric, run, until};
use serde_json::{Value, json};
use tempfile::tempdir;

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

fn door(serial: &str, kind: &str) -> Value {
    json!({ "serial": serial, "device": "door-1", "building": "3号楼", "unit": "1单元", "type": kind, "time": now() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_fire_and_a_forced_door_become_warnings_and_one_case_linked_both_ways()
-> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut agent = Agent::joined(&directory.path().join("a"), &hub, "gw-1", "yuyuan")?;
    agent.start().await?;
    let answer = agent
        .push(&[door("1", "fire"), door("2", "forced"), door("3", "open")])
        .await?;
    assert_eq!((answer.status, &answer.body["stored"]), (200, &json!(3)));
    agent.drained().await?;

    let (status, warnings) = hub.api("/api/v1/warnings").await?;
    assert_eq!(status, 200);
    let rules: Vec<&str> = warnings["items"]
        .as_array()
        .context("items")?
        .iter()
        .filter_map(|warning| warning["rule"].as_str())
        .collect();
    assert_eq!(rules, ["fire-then-forced", "fire-alarm"]);
    let both = &warnings["items"][0];
    assert_eq!(both["key"], "yuyuan|3号楼");
    assert_eq!(both["reasons"].as_array().map(Vec::len), Some(2));

    let (_, cases) = hub.api("/api/v1/cases").await?;
    assert_eq!(cases["items"].as_array().map(Vec::len), Some(1));
    let case = &cases["items"][0];
    assert_eq!(case["warnings"], json!([1, 2]));
    assert_eq!(both["cases"], json!([case["code"]]));
    let code = case["code"].as_str().context("a code")?;
    let (status, same) = hub.api(&format!("/api/v1/cases/{code}")).await?;
    assert_eq!(status, 200);
    for (key, value) in case.as_object().context("a case")? {
        assert_eq!(&same[key], value, "{key}");
    }

    let (_, events) = hub
        .api("/api/v1/events?kind=door.forced&site=yuyuan")
        .await?;
    assert_eq!(events["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(events["items"][0]["place"]["building"], "3号楼");
    assert_eq!(events["items"][0]["lane"], "urgent");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_twice_is_stored_once_also_after_a_restart() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut agent = Agent::joined(&directory.path().join("a"), &hub, "gw-1", "yuyuan")?;
    agent.start().await?;
    let events = [door("1", "open"), door("2", "forced")];
    assert_eq!(agent.push(&events).await?.body["stored"], 2);
    assert_eq!(agent.push(&events).await?.body["doubled"], 2);
    agent.kill()?;
    agent.start().await?;
    assert_eq!(agent.push(&events).await?.body["doubled"], 2);
    agent.drained().await?;
    agent.stop()?;
    agent.start().await?;
    assert_eq!(agent.push(&events).await?.body["doubled"], 2);
    assert_eq!(hub.stored().await?.len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn events_wait_while_the_hub_is_away_and_arrive_in_order() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut agent = Agent::joined(&directory.path().join("a"), &hub, "gw-1", "yuyuan")?;
    hub.stop()?;
    agent.start().await?;
    for number in 0..50 {
        let answer = agent.push(&[door(&number.to_string(), "open")]).await?;
        assert_eq!(answer.status, 200);
    }
    let waiting = metric(
        &agent.metrics().await?,
        "linli_agent_spool_events{lane=\"routine\"}",
    );
    // With the agent's own start.
    assert_eq!(waiting, Some(51.0));
    hub.start().await?;
    agent.drained().await?;
    let ids: Vec<String> = hub
        .stored()
        .await?
        .into_iter()
        .map(|stored| stored.event.source_id)
        .collect();
    let wanted: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(ids, wanted);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_finds_the_second_hub_address_when_the_first_is_dead() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut agent = Agent::joined(&directory.path().join("a"), &hub, "gw-1", "yuyuan")?;
    let config = std::fs::read_to_string(agent.config())?;
    let dead = linli_tests::harness::free_udp_port()?;
    let live = format!("addresses = [\"127.0.0.1:{}\"]", hub.port);
    assert!(config.contains(&live));
    let both = format!(
        "addresses = [\"127.0.0.1:{dead}\", \"127.0.0.1:{}\"]",
        hub.port
    );
    std::fs::write(agent.config(), config.replace(&live, &both))?;
    agent.start().await?;
    until("the agent to be connected", async || {
        Ok((!agent.status()?["connected"].is_null()).then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_pushes_get_an_answer_that_names_the_thing_and_store_nothing() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut agent = Agent::joined(&directory.path().join("a"), &hub, "gw-1", "yuyuan")?;
    agent.start().await?;
    let large = vec![b' '; (1 << 20) + 1];
    let no_items = br#"{"event":[]}"#.to_vec();
    let unknown =
        br#"{"events":[{"serial":"9","type":"levitated","time":"2026-01-01T00:00:00Z"}]}"#;
    for (source, token, body, status, says) in [
        (
            "doors",
            DOORS_TOKEN,
            b"{nonsense".to_vec(),
            400,
            "no item that can be read",
        ),
        (
            "doors",
            DOORS_TOKEN,
            b"\xff\xff\xff".to_vec(),
            400,
            "not JSON",
        ),
        ("doors", DOORS_TOKEN, large, 413, "body_max"),
        ("doors", DOORS_TOKEN, no_items, 422, "/events"),
        ("doors", DOORS_TOKEN, unknown.to_vec(), 422, "levitated"),
        ("doors", "wrong", b"{}".to_vec(), 401, "token"),
        ("windows", DOORS_TOKEN, b"{}".to_vec(), 404, "windows"),
    ] {
        let answer = agent
            .push_raw(source, token, body)
            .await
            .with_context(|| says.to_owned())?;
        assert_eq!(answer.status, status, "{says}: {:?}", answer.body);
        let detail = answer.body["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(says), "{says}: {detail}");
    }
    // Of a door that does not say when, it is known when it was heard.
    let answer = agent
        .push(&[json!({ "serial": "9", "type": "open" })])
        .await?;
    assert_eq!((answer.status, &answer.body["stored"]), (200, &json!(1)));
    // One bad item does not hold back a good one, and the future is not believed.
    let mut future = door("2", "open");
    future["time"] = json!("2099-01-01T00:00:00Z");
    let answer = agent
        .push(&[door("1", "open"), json!({ "type": "sung" }), future])
        .await?;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["stored"], 2);
    assert_eq!(answer.body["rejected"], 1);
    assert_eq!(answer.body["reasons"][0]["index"], 1);
    agent.drained().await?;
    let mut stored = hub.stored().await?;
    // The agent tells that the clock of door 2 is off.
    stored.retain(|stored| stored.event.kind != "device.clock");
    assert_eq!(stored.len(), 3);
    let now_ms = linli_shared::service::clock::wall_ms();
    assert!(
        stored
            .iter()
            .all(|stored| stored.event.occurred_at_ms <= now_ms)
    );
    let text = agent.metrics().await?;
    let rejected = metric(
        &text,
        "linli_agent_source_messages_total{outcome=\"rejected\",source=\"doors\"}",
    );
    assert_eq!(rejected, Some(5.0));
    let unauthorized = metric(
        &text,
        "linli_agent_source_messages_total{outcome=\"unauthorized\",source=\"doors\"}",
    );
    assert_eq!(unauthorized, Some(1.0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_pages_filters_and_explains_what_is_wrong() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut agent = Agent::joined(&directory.path().join("a"), &hub, "gw-1", "yuyuan")?;
    agent.start().await?;
    let events: Vec<Value> = (0..25).map(|n| door(&n.to_string(), "open")).collect();
    agent.push(&events).await?;
    agent.drained().await?;
    let mut found = Vec::new();
    let mut path = "/api/v1/events?limit=10".to_owned();
    loop {
        let (status, page) = hub.api(&path).await?;
        assert_eq!(status, 200, "{page}");
        for event in page["items"].as_array().context("items")? {
            if event["kind"] == "agent.started" {
                continue;
            }
            found.push(event["source_id"].as_str().context("id")?.to_owned());
        }
        match page["next"].as_str() {
            Some(next) => path = format!("/api/v1/events?limit=10&cursor={next}"),
            None => break,
        }
    }
    let wanted: Vec<String> = (0..25).rev().map(|n| n.to_string()).collect();
    assert_eq!(found, wanted);

    for (path, says) in [
        ("/api/v1/events?limit=0", "limit"),
        ("/api/v1/events?from=yesterday", "RFC 3339"),
        ("/api/v1/events?cursor=x", "cursor"),
        ("/api/v1/events?colour=red", "colour"),
        ("/api/v1/warnings/abc", "id"),
        ("/api/v1/warnings?cursor=x", "cursor"),
        ("/api/v1/cases?cursor=20260301-000009", "cursor"),
        ("/api/v1/agents?colour=red", "colour"),
    ] {
        let (status, problem) = hub.api(path).await?;
        assert_eq!(status, 400, "{path}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(says), "{path}: {detail}");
    }
    assert_eq!(hub.api("/api/v1/warnings/77").await?.0, 404);
    assert_eq!(hub.api("/api/v1/cases/nothing").await?.0, 404);
    assert_eq!(hub.api("/api/v2/").await?.0, 404);
    let (status, problem) = hub.api_with("/api/v1/events", None).await?;
    assert_eq!((status, &problem["status"]), (401, &json!(401)));
    assert_eq!(
        hub.api_with("/api/v1/events", Some("llt.0.0")).await?.0,
        401
    );
    let (status, document) = hub.api_with("/api/v1/openapi.json", None).await?;
    assert_eq!(status, 200);
    for path in ["events", "warnings", "cases", "agents"] {
        assert!(document["paths"][format!("/api/v1/{path}")]["get"].is_object());
    }
    for path in ["events", "warnings", "cases", "agents"] {
        let answers = &document["paths"][format!("/api/v1/{path}")]["get"]["responses"];
        assert!(answers["503"].is_object(), "{path}: {answers}");
    }
    let (_, agents) = hub.api("/api/v1/agents").await?;
    assert_eq!(agents["items"][0]["connected"], true);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_cases_have_all_that_belongs_to_each() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut agent = Agent::joined(&directory.path().join("a"), &hub, "gw-1", "yuyuan")?;
    agent.start().await?;
    for building in ["1号楼", "2号楼", "3号楼"] {
        let mut events = vec![door(&format!("f-{building}"), "fire")];
        events.push(door(&format!("d-{building}"), "forced"));
        for event in &mut events {
            event["building"] = json!(building);
        }
        agent.deliver(&events).await?;
    }
    let mut found = Vec::new();
    let mut path = "/api/v1/cases?limit=2".to_owned();
    loop {
        let (status, page) = hub.api(&path).await?;
        assert_eq!(status, 200, "{page}");
        for case in page["items"].as_array().context("items")? {
            let code = case["code"].as_str().context("a code")?;
            let (_, whole) = hub.api(&format!("/api/v1/cases/{code}")).await?;
            assert_eq!(actions(&whole, "actions"), ["registered", "link_warning"]);
            found.push((case["key"].clone(), case["warnings"].clone()));
        }
        match page["next"].as_str() {
            Some(next) => path = format!("/api/v1/cases?limit=2&cursor={next}"),
            None => break,
        }
    }
    let wanted = [
        (json!("yuyuan|3号楼"), json!([5, 6])),
        (json!("yuyuan|2号楼"), json!([3, 4])),
        (json!("yuyuan|1号楼"), json!([1, 2])),
    ];
    assert_eq!(found, wanted);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_of_the_api_is_refused_at_once_and_stays_in_the_list() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let made = run(hub
        .command()?
        .args(["api-token", "create", "--name", "dashboard"]))?;
    let token = made.trim();
    assert_eq!(hub.api_with("/api/v1/agents", Some(token)).await?.0, 200);
    let id = token.split('.').nth(1).context("an id")?;
    run(hub.command()?.args(["api-token", "revoke", id]))?;
    assert_eq!(hub.api_with("/api/v1/agents", Some(token)).await?.0, 401);
    let listed = run(hub.command()?.args(["api-token", "list"]))?;
    assert!(
        listed.contains(id) && listed.contains("revoked"),
        "{listed}"
    );
    let secret = token.split('.').nth(2).context("a secret")?;
    assert!(!listed.contains(secret));
    let unknown = hub
        .command()?
        .args(["api-token", "revoke", "nothing"])
        .output()?;
    assert_eq!(unknown.status.code(), Some(65));
    Ok(())
}
