//! Doors that an agent connects to all at once when it starts, each with a history to catch up on and an alarm to tell: when
//! the alarms are at the hub, and when the histories are.
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

use super::host::Result;
use crate::harness::{DEVICE_PASSWORD, Equipped, EventDevice, metric, peers_python, until_within};

/// Doors.
pub const DOORS: u64 = 500;
/// Events that each has to tell of while the agent was away.
pub const HISTORY: u64 = 60;
const SOURCE: &str = "doors-hik";
const DEADLINE: Duration = Duration::from_secs(180);

/// What was measured, from the start of the agent's process on.
pub struct Report {
    /// Until the hub has the first alarm, seconds.
    pub first_s: f64,
    /// Until it has the alarms of all doors, seconds.
    pub all_s: f64,
    /// Until it has all histories too, seconds.
    pub history_s: f64,
    /// Resident memory of the agent at most, MB.
    pub peak_mb: f64,
}

/// The source of so many doors, each at an address of its own.
pub fn blocks(source: &str, doors: u64, port: u16) -> String {
    let mut blocks = format!(
        "[[source]]\nname = {source:?}\ntype = \"hikvision\"\npassword_file = \"secrets/device\"\n"
    );
    for number in 0..doors {
        blocks.push_str(&format!(
            "[[source.device]]\nid = \"door-{number}\"\naddress = \"127.0.{}.{}:{port}\"\n",
            number / 250 + 1,
            number % 250 + 1
        ));
    }
    blocks
}

/// `None` without the peers.
pub fn run(directory: &Path) -> Result<Option<Report>> {
    let runtime = tokio::runtime::Runtime::new()?;
    Ok(runtime.block_on(measure(directory))?)
}

async fn measure(directory: &Path) -> anyhow::Result<Option<Report>> {
    let Some(python) = peers_python() else {
        return Ok(None);
    };
    let doors = EventDevice::start(directory, &python, "hikvision", &["--beat", "10"]).await?;
    let blocks = blocks(SOURCE, DOORS, doors.port);
    let files = [("secrets/device", DEVICE_PASSWORD)];
    let mut scene = Equipped::start(directory, &blocks, &files).await?;
    scene
        .source_is(SOURCE, "all doors to be heard", |source| {
            source["online"] == DOORS
        })
        .await?;
    scene.agent.drained().await?;
    scene.agent.stop()?;
    let now = jiff::Timestamp::now().to_string();
    let past: Vec<Value> = (1..=HISTORY)
        .map(|serial| {
            json!({ "major": 5, "minor": if serial % 2 == 1 { 0x19 } else { 0x1a }, "time": now, "doorNo": 1, "serialNo": serial })
        })
        .collect();
    doors
        .control("events", json!({ "*": past }).to_string())
        .await?;
    let forced = json!({
        "dateTime": now, "eventType": "AccessControllerEvent", "eventState": "active",
        "AccessControllerEvent": {
            "majorEventType": 5, "subEventType": 0x1b, "doorNo": 1, "serialNo": HISTORY + 1, "currentEvent": true,
        },
    })
    .to_string();
    let part = format!(
        "--boundary\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{forced}\r\n",
        forced.len()
    );
    doors.control("greet", part).await?;
    let started = Instant::now();
    scene.agent.spawn()?;
    scene.agent.ready().await?;
    let reaches = async |name: &str, least: u64| -> anyhow::Result<f64> {
        until_within(DEADLINE, name, async || {
            let value = metric(&scene.agent.metrics().await?, name);
            Ok((value >= Some(least as f64)).then_some(()))
        })
        .await?;
        Ok(started.elapsed().as_secs_f64())
    };
    // Only the alarms of doors are urgent.
    let urgent = "linli_agent_events_sent_total{lane=\"urgent\"}";
    let first_s = reaches(urgent, 1).await?;
    let all_s = reaches(urgent, DOORS).await?;
    let stored =
        format!("linli_agent_source_messages_total{{outcome=\"stored\",source=\"{SOURCE}\"}}");
    reaches(&stored, DOORS * (HISTORY + 1)).await?;
    scene.agent.drained().await?;
    let history_s = started.elapsed().as_secs_f64();
    let peak_mb = scene.agent.process()?.memory_peak()? as f64 / 1e6;
    Ok(Some(Report {
        first_s,
        all_s,
        history_s,
        peak_mb,
    }))
}
