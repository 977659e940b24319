//! Cut and slow links, in network namespaces of the test's own.
use anyhow::{Context, Result};
use linli_tests::harness::{
    Agent, AgentSetup, BadNetwork, Hub, Relay, assert_stored_once, is_root, metric, run, until,
};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::tempdir;

/// A gateway's box: a namespace with two cables, one to the hub, one for pushes and scrapes.
struct Gateway {
    name: String,
}

const HUB: &str = "10.86.1.1";
const PUSH: &str = "10.86.2.2";

fn ip(words: &str) -> Result<String> {
    run(Command::new("ip").args(words.split_whitespace()))
}

impl Gateway {
    fn new() -> Result<Self> {
        let name = format!("linli{}", std::process::id());
        let gateway = Self { name };
        let name = &gateway.name;
        ip(&format!("netns add {name}"))?;
        for (cable, net) in [("u", "10.86.1"), ("m", "10.86.2")] {
            let (ours, theirs) = (gateway.cable(cable), format!("{cable}1"));
            ip(&format!(
                "link add {ours} type veth peer name {theirs} netns {name}"
            ))?;
            ip(&format!("addr add {net}.1/24 dev {ours}"))?;
            ip(&format!("link set {ours} up"))?;
            ip(&format!("-n {name} addr add {net}.2/24 dev {theirs}"))?;
            ip(&format!("-n {name} link set {theirs} up"))?;
        }
        ip(&format!("-n {name} link set lo up"))?;
        Ok(gateway)
    }

    fn cable(&self, cable: &str) -> String {
        format!("l{cable}{}", std::process::id())
    }

    fn wrapper(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.name]
            .map(str::to_owned)
            .to_vec()
    }

    fn cut(&self) -> Result<()> {
        ip(&format!("link set {} down", self.cable("u"))).map(|_| ())
    }

    fn mend(&self) -> Result<()> {
        ip(&format!("link set {} up", self.cable("u"))).map(|_| ())
    }

    /// Both ways: this rate, and a short queue that drops what does not fit.
    fn slow(&self, words: &str) -> Result<()> {
        run(Command::new("tc").args(
            format!("qdisc add dev {} root tbf {words}", self.cable("u")).split_whitespace(),
        ))?;
        run(Command::new("tc")
            .args(format!("-n {} qdisc add dev u1 root tbf {words}", self.name).split_whitespace()))
        .map(|_| ())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // The cables go with the namespace.
        let _ = ip(&format!("netns del {}", self.name));
    }
}

fn door(serial: &str, kind: &str) -> Value {
    json!({ "serial": serial, "device": "door-1", "building": "3号楼", "type": kind, "time": jiff::Timestamp::now().to_string() })
}

async fn connected(agent: &Agent) -> Result<()> {
    until("the agent to be connected", async || {
        Ok((!agent.status()?["connected"].is_null()).then_some(()))
    })
    .await
}

async fn start(directory: &std::path::Path, gateway: &Gateway) -> Result<(Hub, Agent)> {
    let mut hub = Hub::listening_on(&directory.join("hub"), "0.0.0.0")?;
    hub.start().await?;
    let hub_address = format!("{HUB}:{}", hub.port);
    let mut agent = Agent::new(&AgentSetup {
        directory: &directory.join("a"),
        name: "gw-1",
        site: "yuyuan",
        hub_address: hub_address.clone(),
        listen: PUSH,
        more: "",
    })?;
    agent.wrapper = gateway.wrapper();
    agent.join(&hub, &hub_address, "yuyuan")?;
    agent.start().await?;
    connected(&agent).await?;
    Ok((hub, agent))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_cable_delays_events_and_loses_none() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let directory = tempdir()?;
    let gateway = Gateway::new()?;
    let (hub, agent) = start(directory.path(), &gateway).await?;
    let mut acknowledged = HashSet::new();
    let mut number = 0;
    for cut in 0..3 {
        for phase in ["before", "while"] {
            if phase == "while" {
                gateway.cut()?;
            }
            for _ in 0..30 {
                number += 1;
                let serial = number.to_string();
                assert_eq!(agent.push(&[door(&serial, "forced")]).await?.status, 200);
                acknowledged.insert(serial);
            }
        }
        if cut == 0 {
            // Long enough for both ends to give the connection up.
            until("the agent to notice", async || {
                Ok(agent.status()?["connected"].is_null().then_some(()))
            })
            .await?;
        }
        gateway.mend()?;
        agent.drained().await?;
    }
    assert_stored_once(&hub, &acknowledged).await
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_slow_lossy_link_an_alarm_overtakes_a_backlog() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let directory = tempdir()?;
    let gateway = Gateway::new()?;
    let (hub, agent) = start(directory.path(), &gateway).await?;
    gateway.cut()?;
    let mut acknowledged = HashSet::new();
    // A backlog that the link needs many seconds for: it does not compress.
    let mut random = linli_tests::harness::Random::new(11);
    for batch in 0..40 {
        let events: Vec<Value> = (0..250)
            .map(|number| {
                let mut event = door(&format!("{batch}-{number}"), "open");
                event["device"] = json!(format!(
                    "{:x}{:x}{:x}",
                    random.draw(),
                    random.draw(),
                    random.draw()
                ));
                event
            })
            .collect();
        assert_eq!(agent.push(&events).await?.status, 200);
        for event in &events {
            acknowledged.insert(event["serial"].as_str().context("serial")?.to_owned());
        }
    }
    gateway.slow("rate 1mbit burst 16k latency 300ms")?;
    gateway.mend()?;
    until("the backlog to begin to drain", async || {
        let stored = metric(
            &hub.metrics().await?,
            "linli_hub_events_stored_total{lane=\"routine\"}",
        );
        // The first of the lane is the agent's own start.
        Ok((stored > Some(1.0)).then_some(()))
    })
    .await?;
    let waiting = || async {
        let text = agent.metrics().await?;
        Ok::<_, anyhow::Error>(metric(&text, "linli_agent_spool_events{lane=\"routine\"}"))
    };
    let pushed = Instant::now();
    assert_eq!(agent.push(&[door("alarm", "forced")]).await?.status, 200);
    acknowledged.insert("alarm".to_owned());
    until("the alarm to be stored", async || {
        let stored = metric(
            &hub.metrics().await?,
            "linli_hub_events_stored_total{lane=\"urgent\"}",
        );
        Ok((stored >= Some(1.0)).then_some(()))
    })
    .await?;
    let took = pushed.elapsed();
    let left = waiting().await?.unwrap_or(0.0);
    println!("the alarm took {took:?}, {left} routine events were still waiting");
    assert!(
        left > 0.0,
        "the backlog was gone before the alarm proved anything"
    );
    linli_tests::harness::until_within(Duration::from_secs(180), "the backlog", async || {
        Ok((waiting().await? == Some(0.0)).then_some(()))
    })
    .await?;
    assert_stored_once(&hub, &acknowledged).await
}

#[tokio::test(flavor = "multi_thread")]
async fn loss_delay_disorder_and_new_addresses_cost_time_and_no_event() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    // A bad mobile link: one datagram of twelve is lost each way, each takes 20 to 120 ms.
    let network = BadNetwork {
        lost: 80,
        doubled: 30,
        delay: (Duration::from_millis(20), Duration::from_millis(120)),
        seed: 5,
    };
    let relay = Relay::start(hub.port, network).await?;
    let mut agent = Agent::new(&AgentSetup {
        directory: &directory.path().join("a"),
        name: "gw-1",
        site: "yuyuan",
        hub_address: format!("127.0.0.1:{}", relay.port),
        listen: "127.0.0.1",
        more: "",
    })?;
    agent.join(&hub, &format!("127.0.0.1:{}", relay.port), "yuyuan")?;
    agent.start().await?;
    connected(&agent).await?;
    let mut acknowledged = HashSet::new();
    for batch in 0..40 {
        let events: Vec<Value> = (0..50)
            .map(|number| {
                let kind = if number % 10 == 0 { "forced" } else { "open" };
                door(&format!("{batch}-{number}"), kind)
            })
            .collect();
        assert_eq!(agent.push(&events).await?.status, 200);
        for event in &events {
            acknowledged.insert(event["serial"].as_str().context("serial")?.to_owned());
        }
        if batch % 10 == 5 {
            relay.rebind();
        }
    }
    agent.drained().await?;
    let (lost, passed) = relay.counts();
    println!("{lost} datagrams were lost, {passed} got through");
    assert!(lost > 0, "the link was not bad");
    assert_stored_once(&hub, &acknowledged).await
}
