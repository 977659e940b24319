//! Fire alarm hosts by GB/T 26875.3: what they say is at the hub, confirmed when it is durable and not before, stored once;
//! what is hostile costs nobody else anything. The device is `tests/peers/gb26875.py`.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{
    Equipped, Process, StoredEvent, free_tcp_port, metric, peer, peers_python, project, run, until,
};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ADDRESS: u64 = 889;
/// What the whole agent may take while strangers fill it (a debug build idles at some 30 MiB).
const MEMORY_BYTES_MAX: u64 = 96 << 20;

fn blocks(port: u16, more: &str) -> String {
    format!(
        "[[source]]\nname = \"fire\"\ntype = \"gb26875\"\ntcp = \"127.0.0.1:{port}\"\nudp = \"127.0.0.1:{port}\"\n{more}\n\
         [[source.host]]\naddress = {ADDRESS}\nid = \"fire-1\"\n\
         [[device]]\nid = \"fire-1\"\nbuilding = \"3号楼\"\n"
    )
}

/// The program of the device.
fn device(python: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(python);
    command
        .arg(project("tests/peers/gb26875.py"))
        .args(arguments);
    command
}

/// What came back for each step.
fn exchange(python: &Path, protocol: &str, port: u16, steps: &Value) -> Result<Vec<Vec<Value>>> {
    let (port, address) = (port.to_string(), ADDRESS.to_string());
    let text = run(&mut device(
        python,
        &["exchange", protocol, &port, &address, &steps.to_string()],
    ))?;
    Ok(serde_json::from_str(&text)?)
}

fn kinds(stored: &[StoredEvent]) -> Vec<String> {
    stored
        .iter()
        .map(|stored| format!("{} {}", stored.event.device, stored.event.kind))
        .collect()
}

fn alarm(number: u32) -> Value {
    json!({ "parts": [{ "number": number, "bits": 2, "zone": 10, "text": "3#楼大堂" }] })
}

async fn events_come_through(protocol: &str) -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempdir()?;
    let port = free_tcp_port()?;
    let scene = Equipped::listening(directory.path(), "fire", &blocks(port, ""), &[]).await?;
    let answers = exchange(
        &python,
        protocol,
        port,
        &json!([
            {},
            alarm(2),
            { "parts": [{ "number": 3, "bits": 4 }, { "number": 4, "bits": 2, "kind": 11 }] },
            { "parts": [{ "number": 2, "zone": 10, "bits": 1 }] },
            { "system_bits": 0x0300 },
            { "device_bits": 8 },
            { "operation": 4, "operator": 7 },
            { "unit": "c801ff" },
            { "clock": true },
        ]),
    )?;
    for (index, answer) in answers.iter().enumerate() {
        let answer = answer.first().context("an answer")?;
        // The last one is the reply with the time, all others are confirmed.
        let command = if index == 8 { 5 } else { 3 };
        ensure!(answer["command"] == command, "{index}: {answer}");
        ensure!(answer["serial"] == index + 1, "{index}: {answer}");
        ensure!(answer["destination"] == ADDRESS, "{index}: {answer}");
        ensure!(
            answer["off_s"].as_f64().context("a time")? < 5.0,
            "{answer}"
        );
    }
    let time = answers[8][0]["unit"].as_str().context("a unit")?;
    ensure!(time.starts_with("5a01") && time.len() == 16, "{time}");
    let stored = scene.stored_at_least("fire", 9).await?;
    let mut expected = vec![
        "fire-1 device.online",
        "fire-1/1.1.10.2 fire.alarm",
        "fire-1/1.1.1.3 fire.fault",
        "fire-1/1.1.1.4 gas.alarm",
        "fire-1/1.1.10.2 fire.restored",
        "fire-1/1.1 device.power_lost",
        "fire-1/1.1 device.battery_low",
        "fire-1 device.power_lost",
        "fire-1 fire.alarm",
    ];
    // Nobody had heard of a fault of this part: that it has none is told once.
    expected.push("fire-1/1.1.10.2 fire.fault_restored");
    let mut found = kinds(&stored);
    found.retain(|found| !found.ends_with("fault_restored"));
    expected.retain(|expected| !expected.ends_with("fault_restored"));
    found.sort();
    expected.sort_unstable();
    ensure!(found == expected, "{found:?}");
    let alarm = stored
        .iter()
        .find(|stored| stored.event.device == "fire-1/1.1.10.2")
        .context("the alarm")?;
    ensure!(alarm.lane == "urgent", "{alarm:?}");
    ensure!(alarm.event.place.building == "3号楼", "{alarm:?}");
    ensure!(alarm.event.attributes["text"] == "3#楼大堂", "{alarm:?}");
    ensure!(
        alarm.event.attributes["part"] == "感烟火灾探测器",
        "{alarm:?}"
    );
    // The device gave Shanghai's time without saying so.
    let late_ms = alarm.event.received_at_ms - alarm.event.occurred_at_ms;
    ensure!((-2_000..60_000).contains(&late_ms), "{alarm:?}");
    // The number of who pressed the button is nobody's business.
    ensure!(
        stored
            .iter()
            .all(|stored| !stored.event.attributes.values().any(|value| value == "7")),
        "{stored:?}"
    );
    let standing = scene.source("fire")?;
    ensure!(
        standing["online"] == 1 && standing["rejected"] == 0,
        "{standing}"
    );
    ensure!(
        standing["left_out"] == 2 && standing["heartbeats"] == 1,
        "{standing}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hosts_say_by_tcp_is_at_the_hub_and_confirmed() -> Result<()> {
    events_come_through("tcp").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hosts_say_by_datagrams_is_at_the_hub_and_confirmed() -> Result<()> {
    events_come_through("udp").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_again_is_stored_once_and_what_is_damaged_is_denied() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempdir()?;
    let port = free_tcp_port()?;
    let scene = Equipped::listening(
        directory.path(),
        "fire",
        &blocks(port, "set_clock_beyond = \"60s\""),
        &[],
    )
    .await?;
    let time = {
        let now = jiff::Timestamp::now().in_tz("Asia/Shanghai")?;
        let bytes = [
            now.second(),
            now.minute(),
            now.hour(),
            now.day(),
            now.month(),
            (now.year() % 100) as i8,
        ];
        hex::encode(bytes.map(i8::cast_unsigned))
    };
    let again = json!({ "parts": [{ "number": 5, "bits": 2, "time": time }], "serial": 40 });
    let other_serial = json!({ "parts": [{ "number": 5, "bits": 2, "time": time }], "serial": 41 });
    let steps = json!([
        again, again, other_serial,
        { "parts": [{ "number": 6, "bits": 2 }], "damaged": true },
        { "parts": [{ "number": 6, "bits": 2 }] },
        // In pieces, behind garbage, with 23 23 in its text.
        { "parts": [{ "number": 7, "bits": 2, "text": "##@@##" }], "pieces": 17, "before": "00ff4040402323" },
        { "unit": "020101" },
        { "parts": [{ "number": 8, "bits": 2 }], "from": 4711 },
        // Its clock is a day behind: it is confirmed, and then set.
        { "sent": "010203040519", "answers": 2 },
    ]);
    let answers = exchange(&python, "tcp", port, &steps)?;
    let commands: Vec<Vec<i64>> = answers
        .iter()
        .map(|heard| {
            heard
                .iter()
                .filter_map(|answer| answer["command"].as_i64())
                .collect()
        })
        .collect();
    ensure!(
        commands
            == [
                vec![3],
                vec![3],
                vec![3],
                vec![6],
                vec![3],
                vec![3],
                vec![6],
                vec![6],
                vec![3, 1]
            ],
        "{commands:?}"
    );
    let set = answers[8][1]["unit"].as_str().context("a unit")?;
    ensure!(set.starts_with("5a01"), "{set}");
    let alarms = async || -> Result<Vec<String>> {
        let stored = scene.stored("fire").await?;
        let mut found = kinds(&stored);
        found.retain(|found| found.ends_with("alarm"));
        found.sort();
        Ok(found)
    };
    until("the last alarm to be at the hub", async || {
        Ok(alarms()
            .await?
            .iter()
            .any(|kind| kind.starts_with("fire-1/1.1.1.7"))
            .then_some(()))
    })
    .await?;
    ensure!(
        alarms().await?
            == [
                "fire-1/1.1.1.5 fire.alarm",
                "fire-1/1.1.1.6 fire.alarm",
                "fire-1/1.1.1.7 fire.alarm"
            ],
        "{:?}",
        alarms().await?
    );
    let standing = scene.source("fire")?;
    let samples = standing["samples"].to_string();
    for word in [
        "checksum",
        "40 40 is missing",
        "host 4711",
        "one object takes",
    ] {
        ensure!(samples.contains(word), "{word}: {standing:#}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_nothing_that_was_confirmed_and_doubles_nothing() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    const ALARMS: usize = 400;
    let directory = tempdir()?;
    let port = free_tcp_port()?;
    let mut scene = Equipped::listening(directory.path(), "fire", &blocks(port, ""), &[]).await?;
    let log = directory.path().join("storm.log");
    let (port_text, count) = (port.to_string(), ALARMS.to_string());
    let arguments = ["storm", "tcp", &port_text, "889", &count];
    let _storm: Process = peer(&python, "gb26875.py", &arguments, &log)?;
    scene.kills_in_a_storm("fire", &log, ALARMS, 6).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_falls_silent_is_unknown_and_a_taken_port_is_tried_again() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempdir()?;
    let port = free_tcp_port()?;
    let other = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let scene = Equipped::start(
        directory.path(),
        &blocks(port, "silent_after = \"2s\""),
        &[],
    )
    .await?;
    scene
        .source_is("fire", "the taken port to be told", |source| {
            source["last_error"]
                .as_str()
                .is_some_and(|error| error.contains("another program"))
        })
        .await?;
    drop(other);
    scene.connected("fire").await?;
    exchange(&python, "tcp", port, &json!([{}, alarm(1)]))?;
    let standing = scene
        .source_is("fire", "the host to be unknown", |source| {
            source["unknown"] == 1
        })
        .await?;
    ensure!(
        standing["unknown_devices"].to_string().contains("fire-1"),
        "{standing}"
    );
    scene.silence_is_told("fire", 1).await?;
    // What it says then is news again, and so is that it is back.
    exchange(
        &python,
        "tcp",
        port,
        &json!([{ "parts": [{ "number": 1, "zone": 10, "bits": 1 }] }]),
    )?;
    until("its end of the alarm to be at the hub", async || {
        let found = kinds(&scene.stored("fire").await?);
        let back = found
            .iter()
            .filter(|kind| kind.ends_with("device.online"))
            .count()
            >= 2;
        let over = found
            .iter()
            .any(|kind| kind == "fire-1/1.1.10.1 fire.restored");
        Ok((back && over).then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_flood_drip_and_lie_are_bounded_and_alarms_go_on() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempdir()?;
    let port = free_tcp_port()?;
    let scene = Equipped::listening(
        directory.path(),
        "fire",
        &blocks(port, "connections_max = 32"),
        &[],
    )
    .await?;
    let connect = async || TcpStream::connect(("127.0.0.1", port)).await;
    // One who fills a connection with garbage is cut off.
    let mut flood = connect().await?;
    let garbage = vec![0x40_u8; 1 << 20];
    let cut = async {
        for _ in 0..64 {
            flood.write_all(&garbage).await?;
        }
        Ok::<(), std::io::Error>(())
    };
    ensure!(
        tokio::time::timeout(Duration::from_secs(30), cut)
            .await?
            .is_err(),
        "64 MiB of garbage were taken"
    );
    // One who begins a frame and never ends it loses the frame, not the line.
    let mut drip = connect().await?;
    let head = hex::decode(
        "40400100010120 3a091a090c 7903000000003 85b01000000 0004 02".replace(' ', ""),
    )?;
    drip.write_all(&head).await?;
    let start = Instant::now();
    until("the frame to be given up", async || {
        let standing = scene.source("fire")?;
        Ok(standing["samples"]
            .to_string()
            .contains("cut off")
            .then_some(()))
    })
    .await?;
    ensure!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    let sign = {
        // A sign of life of the host, by hand.
        let mut bytes = hex::decode(
            "40400200010120 3a091a090c 790300000000 385b01000000 0000 02".replace(' ', ""),
        )?;
        let sum = bytes[2..]
            .iter()
            .fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        bytes.extend([sum, 0x23, 0x23]);
        bytes
    };
    drip.write_all(&sign).await?;
    let mut answer = [0; 30];
    drip.read_exact(&mut answer).await?;
    ensure!(answer[26] == 3, "{answer:?}");
    // More connections than are taken: those beyond are ended, and those that say nothing go in time.
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(connect().await?);
    }
    until("connections to be refused", async || {
        let text = scene.agent.metrics().await?;
        let refused = metric(
            &text,
            "linli_agent_source_messages_total{outcome=\"connection_refused\",source=\"fire\"}",
        );
        Ok(refused.filter(|refused| *refused >= 30.0))
    })
    .await?;
    // Datagrams do not wait for connections.
    let answers = exchange(&python, "udp", port, &json!([alarm(9)]))?;
    ensure!(answers[0][0]["command"] == 3, "{answers:?}");
    until("the silent to be sent away", async || {
        let mut stream = connect().await?;
        stream.write_all(&sign).await?;
        let mut answer = [0; 30];
        Ok(stream.read_exact(&mut answer).await.is_ok().then_some(()))
    })
    .await?;
    let peak = scene.agent.process()?.memory_peak()?;
    ensure!(peak < MEMORY_BYTES_MAX, "{} MiB", peak >> 20);
    Ok(())
}
