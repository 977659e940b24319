//! Alarm panels by SIA DC-09: what three other implementations send is at the hub, acknowledged when it is durable and not
//! before, stored once; what is hostile is refused. The panels are `tests/peers/dc09.py`.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{
    Equipped, Process, StoredEvent, free_tcp_port, peer, peers_python, project, run, until,
};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Keys of 128, 192 and 256 bits. They are letters too: pysiaalarm takes a key's text for its bytes.
const SHORT: &str = "41424344454647484950515253545556";
const MIDDLE: &str = "414243444546474849505152535455565758596162636465";
const LONG: &str = "4142434445464748495051525354555657585961626364656667686970717273";

fn blocks(port: u16, more: &str) -> String {
    format!(
        "[[source]]\nname = \"panels\"\ntype = \"dc09\"\ntcp = \"127.0.0.1:{port}\"\nudp = \"127.0.0.1:{port}\"\n{more}\n\
         [[source.account]]\naccount = \"1234\"\nid = \"panel-1\"\n\
         [[source.account]]\naccount = \"A128\"\nid = \"panel-128\"\nkey_file = \"secrets/short\"\n\
         [[source.account]]\naccount = \"A192\"\nid = \"panel-192\"\nkey_file = \"secrets/middle\"\n\
         [[source.account]]\naccount = \"A256\"\nid = \"panel-256\"\nkey_file = \"secrets/long\"\n\
         [[device]]\nid = \"panel-1\"\nbuilding = \"物业办公室\"\n"
    )
}

const FILES: [(&str, &str); 3] = [
    ("secrets/short", SHORT),
    ("secrets/middle", MIDDLE),
    ("secrets/long", LONG),
];

/// What `tests/peers/dc09.py` prints.
fn play(python: &Path, arguments: &[&str]) -> Result<Vec<Value>> {
    let mut command = Command::new(python);
    command.arg(project("tests/peers/dc09.py")).args(arguments);
    Ok(serde_json::from_str(&run(&mut command)?)?)
}

fn exchange(
    python: &Path,
    protocol: &str,
    port: u16,
    account: &str,
    key: &str,
    steps: &Value,
) -> Result<Vec<Value>> {
    let (port, steps) = (port.to_string(), steps.to_string());
    play(python, &["exchange", protocol, &port, account, key, &steps])
}

fn told(stored: &[StoredEvent]) -> Vec<String> {
    let mut told: Vec<String> = stored
        .iter()
        .map(|stored| format!("{} {}", stored.event.device, stored.event.kind))
        .filter(|told| !told.ends_with("device.online"))
        .collect();
    told.sort();
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dialler_sends_in_clear_and_sealed_is_acknowledged_and_at_the_hub() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempdir()?;
    let port = free_tcp_port()?;
    let scene = Equipped::listening(directory.path(), "panels", &blocks(port, ""), &FILES).await?;
    let steps = json!([
        { "type": "NULL" },
        { "type": "SIA-DCS", "code": "FA", "zone": 3, "zonename": "Hall", "area": 2, "text": "Fire in the hall" },
        { "type": "SIA-DCS", "code": "OP", "user": 14, "username": "Zhang San", "text": "Zhang San disarmed" },
        { "type": "ADM-CID", "code": 130, "q": 1, "area": 1, "zone": 7 },
        { "type": "ADM-CID", "code": 130, "q": 3, "area": 1, "zone": 7 },
        { "type": "ADM-CID", "code": 401, "q": 3, "area": 1, "user": 14 },
    ])
    .to_string();
    let port_text = port.to_string();
    for (protocol, account, key) in [
        ("tcp", "1234", "-"),
        ("udp", "A128", SHORT),
        ("tcp", "A256", LONG),
    ] {
        let taken = play(
            &python,
            &["dialler", protocol, &port_text, account, key, &steps],
        )?;
        ensure!(
            taken == vec![json!(true); 6],
            "{protocol} {account}: {taken:?}"
        );
    }
    let stored = scene.stored_at_least("panels", 3 * 6).await?;
    for panel in ["panel-1", "panel-128", "panel-256"] {
        let of_panel: Vec<StoredEvent> = stored
            .iter()
            .filter(|stored| stored.event.device.split('/').next() == Some(panel))
            .cloned()
            .collect();
        let expected = [
            format!("{panel} panel.armed"),
            format!("{panel} panel.disarmed"),
            format!("{panel}/3 fire.alarm"),
            format!("{panel}/7 intrusion.alarm"),
            format!("{panel}/7 intrusion.restored"),
        ];
        ensure!(told(&of_panel) == expected, "{:?}", told(&of_panel));
    }
    let fire = stored
        .iter()
        .find(|stored| stored.event.device == "panel-1/3")
        .context("the fire")?;
    ensure!(
        fire.lane == "urgent" && fire.event.place.building == "物业办公室",
        "{fire:?}"
    );
    let attributes = &fire.event.attributes;
    ensure!(
        attributes["text"] == "Hall" && attributes["words"] == "Fire in the hall",
        "{fire:?}"
    );
    ensure!(
        attributes["partition"] == "2" && attributes["code"] == "FA",
        "{fire:?}"
    );
    // Who armed and disarmed goes no further.
    ensure!(!format!("{stored:?}").contains("Zhang"), "{stored:?}");
    let standing = scene.source("panels")?;
    ensure!(
        standing["heartbeats"] == 3 && standing["rejected"] == 0,
        "{standing}"
    );
    // The middle one is told to be unknown, and is not silent yet.
    ensure!(
        standing["online"] == 3 && standing["unknown"] == 1,
        "{standing}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_are_read_as_pysiaalarm_reads_them_and_answers_as_siadc09_reads_them() -> Result<()>
{
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempdir()?;
    let port = free_tcp_port()?;
    let scene = Equipped::listening(directory.path(), "panels", &blocks(port, ""), &FILES).await?;
    let codes = ["110", "111", "120", "130", "151", "301", "302", "373"];
    let mut steps: Vec<Value> = codes
        .iter()
        .enumerate()
        .map(|(index, code)| json!({ "id": "ADM-CID", "data": format!("#A192|1{code} 01 {:03}", index + 1) }))
        .collect();
    for (index, code) in ["FA", "FT", "GA", "WA", "BA", "PA", "TA", "AT", "YT"]
        .iter()
        .enumerate()
    {
        steps.push(json!({ "id": "SIA-DCS", "data": format!("#A192|N{code}{}", index + 21), "xdata": ["L3F", "M0026b9e4268b"] }));
    }
    let steps = Value::Array(steps);
    let read = play(&python, &["read", "A192", MIDDLE, &steps.to_string()])?;
    let heard = exchange(&python, "tcp", port, "A192", MIDDLE, &steps)?;
    for (index, (answer, other)) in heard.iter().zip(&read).enumerate() {
        ensure!(other["valid"] == true, "{other}");
        ensure!(
            answer["id"] == "ACK" && answer["sealed"] == true,
            "{index}: {answer}"
        );
        ensure!(
            answer["seq"] == index + 1 && answer["account"] == "A192",
            "{index}: {answer}"
        );
        ensure!(
            answer["off_s"].as_f64().context("a time")? < 5.0,
            "{answer}"
        );
    }
    let stored = scene.stored_at_least("panels", read.len() + 1).await?;
    let events: Vec<&StoredEvent> = stored
        .iter()
        .filter(|stored| stored.event.attributes.contains_key("code"))
        .collect();
    ensure!(events.len() == read.len(), "{:?}", told(&stored));
    let same = |event: &&&StoredEvent, other: &Value| {
        let attributes = &event.event.attributes;
        let by_type = other["event_type"].as_str();
        let code = by_type.or(other["code"].as_str()).unwrap_or_default();
        // Of SIA it takes what stands behind the code for words.
        let zone = if by_type.is_some() {
            &other["zone"]
        } else {
            &other["message"]
        };
        let zone = zone.as_str().unwrap_or_default().trim_start_matches('0');
        attributes["code"] == code && attributes.get("zone").is_none_or(|known| known == zone)
    };
    for other in &read {
        ensure!(
            events.iter().any(|event| same(&event, other)),
            "{other}: {:?}",
            told(&stored)
        );
    }
    ensure!(
        !format!("{stored:?}").contains("0026b9e4268b"),
        "{stored:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_again_is_stored_once_and_what_cannot_be_believed_is_refused() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempdir()?;
    let port = free_tcp_port()?;
    let scene = Equipped::listening(directory.path(), "panels", &blocks(port, ""), &FILES).await?;
    let fire = |zone: u32| json!({ "id": "SIA-DCS", "data": format!("#A128|NFA{zone}") });
    let with = |mut step: Value, more: Value| {
        let (Some(step_keys), Some(more)) = (step.as_object_mut(), more.as_object()) else {
            return step;
        };
        step_keys.extend(more.clone());
        step
    };
    let heard = exchange(
        &python,
        "tcp",
        port,
        "A128",
        SHORT,
        &json!([
            // Again with the same sequence, and again with another time.
            with(fire(1), json!({ "seq": 11 })),
            with(fire(1), json!({ "seq": 11 })),
            with(fire(1), json!({ "seq": 11, "off": 2 })),
            // Too old, too new, in clear, under another key, of nobody, of no kind, of no sense.
            with(fire(2), json!({ "off": -60 })),
            with(fire(2), json!({ "off": 60 })),
            with(fire(2), json!({ "clear": true })),
            with(fire(2), json!({ "key": LONG })),
            with(fire(2), json!({ "account": "9999" })),
            { "id": "SIA-PUL", "data": "1" },
            { "id": "SIA-DCS", "data": "#A128|nothing" },
            // Panels that stray.
            with(fire(3), json!({ "counts_end": true })),
            with(fire(4), json!({ "binary": true })),
            with(fire(5), json!({ "before": "000000474554202f0d0a" })),
        ]),
    )?;
    let answers: Vec<&str> = heard
        .iter()
        .map(|answer| answer["id"].as_str().unwrap_or("none"))
        .collect();
    ensure!(
        answers
            == [
                "ACK", "ACK", "ACK", "NAK", "NAK", "NAK", "NAK", "NAK", "DUH", "DUH", "ACK", "ACK",
                "ACK"
            ],
        "{answers:?}"
    );
    // By the time of the NAK the panel sets its clock.
    ensure!(
        heard[3]["off_s"].as_f64().context("a time")? < 5.0,
        "{:?}",
        heard[3]
    );
    // A damaged message has no answer.
    let damaged = json!([with(fire(6), json!({ "damaged": true, "wait": 1.0 }))]);
    ensure!(exchange(&python, "tcp", port, "A128", SHORT, &damaged)? == [Value::Null]);
    let expected: Vec<String> = [1, 3, 4, 5]
        .iter()
        .map(|zone| format!("panel-128/{zone} fire.alarm"))
        .collect();
    until("the last alarm to be at the hub", async || {
        let told = told(&scene.stored("panels").await?);
        Ok(told.contains(&expected[3]).then_some(()))
    })
    .await?;
    let found = told(&scene.stored("panels").await?);
    ensure!(found == expected, "{found:?}");
    let standing = scene.source("panels")?;
    // Seven that were answered so, two pieces of garbage, the damaged one; the last eight are shown.
    ensure!(standing["rejected"] == 10, "{standing:#}");
    let samples = standing["samples"].to_string();
    for word in [
        "has a key and sends in clear",
        "does not open",
        "9999",
        "SIA-PUL",
        "no SIA code",
        "the CRC is",
    ] {
        ensure!(samples.contains(word), "{word}: {standing:#}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_nothing_that_was_acknowledged_and_doubles_nothing() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    const ALARMS: usize = 300;
    let directory = tempdir()?;
    let port = free_tcp_port()?;
    let mut scene =
        Equipped::listening(directory.path(), "panels", &blocks(port, ""), &FILES).await?;
    let log = directory.path().join("storm.log");
    let (port_text, count) = (port.to_string(), ALARMS.to_string());
    let arguments = ["storm", &port_text, "A256", LONG, &count];
    let _storm: Process = peer(&python, "dc09.py", &arguments, &log)?;
    scene.kills_in_a_storm("panels", &log, ALARMS, 5).await
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_lying_lengths_and_unknown_panels_do_not_stop_a_line() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempdir()?;
    let port = free_tcp_port()?;
    let more = "unknown = \"take\"\nsilent_after = \"2s\"";
    let scene =
        Equipped::listening(directory.path(), "panels", &blocks(port, more), &FILES).await?;
    let mut line = TcpStream::connect(("127.0.0.1", port)).await?;
    // A length that no frame has, a frame that another one cuts off, one that never ends.
    line.write_all(b"\n0000FFFF\"SIA-DCS\"0001L0#1234[#1234|NFA9]\r")
        .await?;
    line.write_all(b"\n00000019\"SIA-DCS\"00").await?;
    line.write_all(b"\n96ED0016\"SIA-DCS\"0001L0#1234[]\r")
        .await?;
    let mut answer = [0; 26];
    line.read_exact(&mut answer).await?;
    ensure!(answer[9..14] == *b"\"DUH\"", "{}", answer.escape_ascii());
    drop(line);
    // A panel that the config does not name is taken here, under its account; not without one.
    let steps = json!([{ "id": "SIA-DCS", "data": "#7777|NFA1" }, { "id": "NULL" }]);
    let heard = exchange(&python, "udp", port, "7777", "-", &steps)?;
    ensure!(
        heard
            .iter()
            .all(|answer| answer["id"] == "ACK" && answer["sealed"] == false),
        "{heard:?}"
    );
    until(
        "the alarm and then the silence to be at the hub",
        async || {
            let told = told(&scene.stored("panels").await?);
            let both = ["7777/1 fire.alarm", "7777 device.offline"];
            Ok(both
                .iter()
                .all(|one| told.iter().any(|told| told == one))
                .then_some(()))
        },
    )
    .await?;
    let standing = scene.source("panels")?;
    ensure!(standing["rejected"].as_u64() >= Some(3), "{standing}");
    Ok(())
}
