//! The way back: what the hub tells a station arrives at the station's system, once each and in order.
use anyhow::{Context, Result, ensure};
use hmac::{Hmac, KeyInit, Mac};
use linli_tests::harness::{
    Agent, AgentSetup, BadNetwork, DOORS_TOKEN, Hub, Random, Received, Receiver, Relay, Reply,
    metric, station_figures, tell_station, until, until_within,
};
use serde_json::{Value, json};
use sha2::Sha256;
use std::path::Path;
use std::time::Duration;
use tempfile::tempdir;

const SECRET: &str = "secret-of-the-station-0123456789";
const TOKEN: &str = "token-of-the-station-0123456789";
const AGENT: &str = "gw-110";
const PATH: &str = "/linli";

fn webhook(port: u16) -> String {
    format!(
        "[station]\nwebhook = \"http://127.0.0.1:{port}{PATH}\"\nsecret_file = \"secrets/station.secret\"\n"
    )
}

/// An agent of the police station that has joined, with this `[station]`; it does not run yet.
fn agent(directory: &Path, hub: &Hub, port: u16, station: &str) -> Result<Agent> {
    let directory = directory.join("a");
    let secrets = directory.join("secrets");
    std::fs::create_dir_all(&secrets)?;
    std::fs::write(secrets.join("station.secret"), SECRET)?;
    std::fs::write(secrets.join("station.token"), TOKEN)?;
    let agent = Agent::new(&AgentSetup {
        directory: &directory,
        name: AGENT,
        site: "pcs-dongshan",
        hub_address: format!("127.0.0.1:{port}"),
        listen: "127.0.0.1",
        more: station,
    })?;
    agent.join(hub, &format!("127.0.0.1:{}", hub.port), "pcs-dongshan")?;
    Ok(agent)
}

async fn hub(directory: &Path) -> Result<Hub> {
    let mut hub = Hub::new(&directory.join("hub"))?;
    hub.start().await?;
    Ok(hub)
}

/// The event of one request, after a look at its signature and at what CloudEvents wants.
fn event(received: &Received) -> Result<Value> {
    let (time, tag) = received
        .header("linli-signature")
        .strip_prefix("t=")
        .and_then(|rest| rest.split_once(",v1="))
        .context("a signature")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes())?;
    mac.update(format!("{time}.{}", received.body).as_bytes());
    ensure!(hex::encode(mac.finalize().into_bytes()) == tag, "signature");
    ensure!(received.header("content-type") == "application/cloudevents+json");
    let event = received.json()?;
    let data = &event["data"];
    let number = data["number"].as_i64().context("a number")?;
    let kind = ["receipt", "status", "danger"][(number % 3) as usize];
    ensure!(event["id"] == format!("{AGENT}/{number}"), "{event}");
    ensure!(
        event["source"] == format!("urn:linli:agent:{AGENT}"),
        "{event}"
    );
    ensure!(event["type"] == format!("cn.linli.case.{kind}"), "{event}");
    ensure!(event["subject"] == format!("case/AJ-{number}"), "{event}");
    ensure!(data["source_id"] == format!("J{number}"), "{event}");
    let text = number.to_string();
    ensure!(data["text"] == text, "{event}");
    Ok(event)
}

/// The numbers that have come, as they came.
fn numbers(receiver: &Receiver) -> Result<Vec<i64>> {
    receiver
        .received(PATH)
        .iter()
        .map(|received| event(received)?["data"]["number"].as_i64().context("n"))
        .collect()
}

/// All from 1 to `last` have come, in order; what came more than once came right after itself. How often.
fn repetitions(numbers: &[i64], last: i64) -> Result<usize> {
    let mut once = numbers.to_vec();
    once.dedup();
    ensure!(
        once == (1..=last).collect::<Vec<_>>(),
        "lost, doubled or out of order: {numbers:?}"
    );
    Ok(numbers.len() - once.len())
}

async fn arrived(receiver: &Receiver, last: i64, deadline_s: u64) -> Result<Vec<i64>> {
    until_within(
        Duration::from_secs(deadline_s),
        "the last message",
        async || {
            let numbers = numbers(receiver)?;
            ensure!(numbers.last() == Some(&last), "{:?}", numbers.last());
            Ok(Some(numbers))
        },
    )
    .await
}

async fn acknowledged(hub: &Hub) -> Result<()> {
    until("the hub to know that all is stored", async || {
        let (_, waiting) = station_figures(hub).await?;
        ensure!(waiting == 0, "{waiting} wait");
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_while_the_agent_was_away_arrives_once_and_in_order() -> Result<()> {
    let directory = tempdir()?;
    let hub = hub(directory.path()).await?;
    let receiver = Receiver::start().await?;
    let mut agent = agent(directory.path(), &hub, hub.port, &webhook(receiver.port))?;
    tell_station(&hub, AGENT, 150).await?;
    tell_station(&hub, "gw-other", 3).await?;
    let text = hub.metrics().await?;
    assert_eq!(
        metric(&text, "linli_hub_station_messages_waiting"),
        Some(153.0)
    );
    agent.start().await?;
    let came = arrived(&receiver, 150, 60).await?;
    assert_eq!(repetitions(&came, 150)?, 0);
    // Those of the other agent wait for it.
    until("the hub to know", async || {
        let waiting = station_figures(&hub).await?;
        Ok((waiting == (153, 3)).then_some(()))
    })
    .await?;
    // Again, with a clean stop in between: nothing comes twice.
    agent.stop()?;
    tell_station(&hub, AGENT, 5).await?;
    agent.start().await?;
    let came = arrived(&receiver, 155, 60).await?;
    assert_eq!(repetitions(&came, 155)?, 0);
    until("the agent to have written it down", async || {
        let status = agent.status()?;
        let station = &status["station"];
        Ok((station["waiting"] == 0 && station["delivered"] == 155).then_some(()))
    })
    .await?;
    let text = agent.metrics().await?;
    let figure = |name: &str| metric(&text, &format!("linli_agent_station_{name}"));
    assert_eq!(figure("waiting"), Some(0.0));
    assert_eq!(figure("delivered_total{way=\"webhook\"}"), Some(5.0));
    assert_eq!(figure("failures_total"), Some(0.0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_station_in_its_config_an_agent_leaves_the_messages_at_the_hub() -> Result<()> {
    let directory = tempdir()?;
    let hub = hub(directory.path()).await?;
    let receiver = Receiver::start().await?;
    let mut agent = agent(directory.path(), &hub, hub.port, "")?;
    tell_station(&hub, AGENT, 3).await?;
    agent.start().await?;
    agent.drained().await?;
    let (status, problem) = fetch(&agent, "/station/cases", TOKEN).await?;
    assert_eq!(
        (status, problem["type"].as_str()),
        (404, Some("urn:linli:problem:no-station"))
    );
    assert!(agent.status()?["station"].is_null());
    assert_eq!(station_figures(&hub).await?, (3, 3));
    agent.stop()?;
    let config = std::fs::read_to_string(agent.config())?;
    std::fs::write(agent.config(), config + &webhook(receiver.port))?;
    agent.start().await?;
    let came = arrived(&receiver, 3, 60).await?;
    assert_eq!(repetitions(&came, 3)?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_agent_and_hub_at_any_moment_lose_nothing_and_double_only_under_the_same_id()
-> Result<()> {
    let directory = tempdir()?;
    let mut hub = hub(directory.path()).await?;
    let receiver = Receiver::start().await?;
    let mut agent = agent(directory.path(), &hub, hub.port, &webhook(receiver.port))?;
    agent.start().await?;
    let seed = 20_261_124;
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut last = 0;
    for round in 0..40 {
        let both = random.below(4) == 0;
        let agent_dies = both || round % 2 == 0;
        let hub_dies = both || round % 2 == 1;
        if agent_dies {
            agent.kill()?;
        }
        if hub_dies {
            hub.kill()?;
        }
        last = tell_station(&hub, AGENT, 1 + random.below(60) as usize).await?;
        if hub_dies {
            hub.start().await?;
        }
        if agent_dies {
            agent.start().await?;
        }
        // Where the agent comes back by itself it takes a moment of backoff.
        let before = receiver.received(PATH).len();
        until("something to arrive", async || {
            let all = numbers(&receiver)?.last() == Some(&last);
            Ok((all || receiver.received(PATH).len() > before).then_some(()))
        })
        .await?;
        tokio::time::sleep(Duration::from_millis(random.below(150))).await;
    }
    let came = arrived(&receiver, last, 120).await?;
    let repeated = repetitions(&came, last)?;
    println!("{last} messages over 40 kills, {repeated} of them twice under the same id");
    assert!(last > 500, "too little was sent to prove anything");
    acknowledged(&hub).await
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_link_that_comes_and_goes_all_arrive_once_and_in_order() -> Result<()> {
    let directory = tempdir()?;
    let hub = hub(directory.path()).await?;
    let network = BadNetwork {
        lost: 80,
        doubled: 30,
        delay: (Duration::from_millis(20), Duration::from_millis(120)),
        seed: 7,
    };
    let relay = Relay::start(hub.port, network).await?;
    let receiver = Receiver::start().await?;
    let mut agent = agent(directory.path(), &hub, relay.port, &webhook(receiver.port))?;
    tell_station(&hub, AGENT, 600).await?;
    agent.start().await?;
    let mut random = Random::new(3);
    for round in 0..8 {
        let before = receiver.received(PATH).len();
        until("some to arrive", async || {
            let now = receiver.received(PATH).len();
            Ok((now > before || now >= 600).then_some(()))
        })
        .await?;
        relay.cut();
        tokio::time::sleep(Duration::from_millis(200 + random.below(1200))).await;
        relay.mend();
        if round % 3 == 1 {
            relay.rebind();
        }
    }
    let came = arrived(&receiver, 600, 180).await?;
    assert_eq!(repetitions(&came, 600)?, 0);
    let (lost, passed) = relay.counts();
    println!("{lost} datagrams were lost, {passed} got through");
    acknowledged(&hub).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_stations_system_is_down_messages_wait_and_then_come_in_order() -> Result<()> {
    let directory = tempdir()?;
    let hub = hub(directory.path()).await?;
    let receiver = Receiver::start().await?;
    let port = receiver.port;
    // It refuses, then it is not there at all, then it answers with errors of its own.
    receiver.reply(PATH, Reply::Now(403, "not yet".to_owned()));
    let mut agent = agent(directory.path(), &hub, hub.port, &webhook(port))?;
    tell_station(&hub, AGENT, 40).await?;
    agent.start().await?;
    until("the refusal to be shown", async || {
        let station = agent.status()?["station"].clone();
        let shown = station["last_error"]
            .as_str()
            .is_some_and(|error| error.contains("403") && error.contains("not yet"));
        Ok((shown && station["waiting"] == 40).then_some(()))
    })
    .await?;
    // They are the agent's affair now.
    acknowledged(&hub).await?;
    let tried = numbers(&receiver)?;
    assert!(tried.iter().all(|number| *number == 1), "{tried:?}");
    drop(receiver);
    until("the connection to fail", async || {
        let station = agent.status()?["station"].clone();
        let error = station["last_error"].as_str().unwrap_or_default();
        Ok((!error.contains("403")).then_some(()))
    })
    .await?;
    // Nor does a kill change anything.
    agent.kill()?;
    agent.start().await?;
    let receiver = Receiver::on(port).await?;
    receiver.reply(PATH, Reply::Now(500, String::new()));
    until("an error of the receiver", async || {
        Ok((!receiver.received(PATH).is_empty()).then_some(()))
    })
    .await?;
    receiver.reply(PATH, Reply::Now(204, String::new()));
    let came = arrived(&receiver, 40, 120).await?;
    assert!(repetitions(&came, 40)? >= 1);
    until("nothing to wait", async || {
        let station = agent.status()?["station"].clone();
        Ok((station["waiting"] == 0 && station["last_error"].is_null()).then_some(()))
    })
    .await?;
    let text = agent.metrics().await?;
    assert!(metric(&text, "linli_agent_station_failures_total") >= Some(1.0));
    Ok(())
}

async fn fetch(agent: &Agent, path: &str, token: &str) -> Result<(u16, Value)> {
    ask(agent, reqwest::Method::GET, path, token, "").await
}

async fn acknowledge(agent: &Agent, token: &str, body: &str) -> Result<(u16, Value)> {
    ask(
        agent,
        reqwest::Method::POST,
        "/station/cases/ack",
        token,
        body,
    )
    .await
}

async fn ask(
    agent: &Agent,
    method: reqwest::Method,
    path: &str,
    token: &str,
    body: &str,
) -> Result<(u16, Value)> {
    let url = format!("http://127.0.0.1:{}{path}", agent.push_port);
    let mut request = linli_tests::harness::http()
        .build()?
        .request(method, url)
        .body(body.to_owned());
    if !token.is_empty() {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    let content_type = answer.headers()["content-type"].to_str()?.to_owned();
    let body: Value = serde_json::from_str(&answer.text().await?)?;
    let wanted = if status == 200 {
        "application/json"
    } else {
        "application/problem+json"
    };
    ensure!(content_type == wanted, "{content_type} {body}");
    ensure!(status == 200 || body["detail"].is_string(), "{body}");
    Ok((status, body))
}

fn fetched(body: &Value) -> Vec<i64> {
    body["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["number"].as_i64())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stations_system_fetches_and_acknowledges_with_its_token_only() -> Result<()> {
    let directory = tempdir()?;
    let hub = hub(directory.path()).await?;
    let station = "[station]\ntoken_file = \"secrets/station.token\"\n";
    let mut agent = agent(directory.path(), &hub, hub.port, station)?;
    tell_station(&hub, AGENT, 25).await?;
    agent.start().await?;
    acknowledged(&hub).await?;
    for token in ["", "wrong", DOORS_TOKEN, &TOKEN[1..]] {
        let refusals = [
            fetch(&agent, "/station/cases", token).await?,
            acknowledge(&agent, token, "{\"through\":25}").await?,
        ];
        for (status, problem) in refusals {
            assert_eq!(
                (status, problem["type"].as_str()),
                (401, Some("urn:linli:problem:unauthorized"))
            );
        }
    }
    let (status, page) = fetch(&agent, "/station/cases?limit=10", TOKEN).await?;
    assert_eq!(status, 200);
    assert_eq!(fetched(&page), (1..=10).collect::<Vec<_>>());
    assert_eq!((&page["next"], &page["waiting"]), (&json!(10), &json!(25)));
    let first = &page["items"][0];
    assert_eq!(first["case"], "AJ-1");
    assert_eq!(first["kind"], "status");
    assert_eq!(first["source_id"], "J1");
    // What is fetched stays until it is acknowledged, also over a kill.
    agent.kill()?;
    agent.start().await?;
    let (_, page) = fetch(&agent, "/station/cases?after=10", TOKEN).await?;
    assert_eq!(fetched(&page), (11..=25).collect::<Vec<_>>());
    for (removed, waiting) in [(10, 15), (0, 15)] {
        let (status, answer) = acknowledge(&agent, TOKEN, "{\"through\":10}").await?;
        assert_eq!(
            (status, answer),
            (200, json!({ "removed": removed, "waiting": waiting }))
        );
    }
    agent.kill()?;
    agent.start().await?;
    let (_, page) = fetch(&agent, "/station/cases", TOKEN).await?;
    assert_eq!(fetched(&page), (11..=25).collect::<Vec<_>>());
    let wrong = [
        acknowledge(&agent, TOKEN, "{\"through\":26}").await?,
        acknowledge(&agent, TOKEN, "through 10").await?,
        acknowledge(&agent, TOKEN, &" ".repeat(5000)).await?,
        fetch(&agent, "/station/cases?limit=0", TOKEN).await?,
        fetch(&agent, "/station/cases?limit=501", TOKEN).await?,
        fetch(&agent, "/station/cases?before=1", TOKEN).await?,
        fetch(&agent, "/station/cases?after=-1", TOKEN).await?,
    ];
    let statuses: Vec<u16> = wrong.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [422, 400, 400, 400, 400, 400, 400], "{wrong:?}");
    let (status, answer) = acknowledge(&agent, TOKEN, "{\"through\":25}").await?;
    assert_eq!((status, &answer["waiting"]), (200, &json!(0)));
    let (_, page) = fetch(&agent, "/station/cases?after=25", TOKEN).await?;
    assert_eq!(page, json!({ "items": [], "next": 25, "waiting": 0 }));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_inbox_leaves_the_rest_at_the_hub_and_gets_it_as_room_is_made() -> Result<()> {
    let directory = tempdir()?;
    let hub = hub(directory.path()).await?;
    let station = "[station]\ntoken_file = \"secrets/station.token\"\nmessages_max = 10\n";
    let mut agent = agent(directory.path(), &hub, hub.port, station)?;
    tell_station(&hub, AGENT, 95).await?;
    agent.start().await?;
    let full = async |agent: &Agent| {
        until("the inbox to be full", async || {
            let station = agent.status()?["station"].clone();
            let told = station["refusing"]
                .as_str()
                .is_some_and(|reason| reason.contains("messages_max"));
            Ok((told && station["waiting"] == 10).then_some(()))
        })
        .await
    };
    full(&agent).await?;
    let text = agent.metrics().await?;
    assert_eq!(
        metric(&text, "linli_agent_station_refusing"),
        Some(1.0),
        "{text}"
    );
    until("the hub to keep the others", async || {
        Ok((station_figures(&hub).await? == (95, 85)).then_some(()))
    })
    .await?;
    // Neither a new session nor a start changes that.
    agent.kill()?;
    agent.start().await?;
    full(&agent).await?;
    assert_eq!(station_figures(&hub).await?, (95, 85));
    let mut came = Vec::new();
    while came.len() < 95 {
        let after = came.last().copied().unwrap_or(0);
        let page = until("more messages", async || {
            let (_, page) = fetch(
                &agent,
                &format!("/station/cases?after={after}&limit=7"),
                TOKEN,
            )
            .await?;
            Ok((!fetched(&page).is_empty()).then_some(page))
        })
        .await?;
        let more = fetched(&page);
        let through = more.last().copied().context("one")?;
        came.extend(more);
        let (status, answer) =
            acknowledge(&agent, TOKEN, &json!({ "through": through }).to_string()).await?;
        ensure!(status == 200, "{answer}");
    }
    assert_eq!(came, (1..=95).collect::<Vec<_>>());
    acknowledged(&hub).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_danger_notice_of_the_station_raises_a_warning_of_its_address() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = hub(directory.path()).await?;
    let source = "[[source]]\nname = \"danger\"\nmapping = \"mappings/police-danger.toml\"\n\
                  token_file = \"secrets/station.token\"\n";
    let mut agent = agent(directory.path(), &hub, hub.port, source)?;
    agent.start().await?;
    let notice = json!({
        "tsbh": "W1", "address_key": "A1", "station": "东山所", "type": "扬言报复", "level": "1",
        "issued_at": jiff::Timestamp::now().to_string(), "name": "never taken",
    });
    let answer = agent
        .push_raw("danger", TOKEN, serde_json::to_vec(&notice)?)
        .await?;
    assert_eq!(answer.body["stored"], 1, "{answer:?}");
    agent.drained().await?;
    hub.raised("danger-notice", "pcs-dongshan|A1").await?;
    let stored = hub.stored().await?;
    let kept: Vec<_> = stored[0].event.attributes.iter().collect();
    assert_eq!(kept, [(&"nature".to_owned(), &"扬言报复".to_owned())]);
    Ok(())
}
