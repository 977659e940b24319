//! Recorders and cameras by GB/T 28181: what they say is at the hub, answered when it is durable, stored once; who is not known or
//! floods costs nobody else anything. The devices are SIPp (Debian's sip-tester) with the scenarios `tests/peers/gb28181_*.xml`.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{
    Equipped, StoredEvent, free_tcp_port, installed, metric, project, run, until,
};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

const SERVER: &str = "34020000002000000001";
const DEVICE: &str = "34020000001180000001";
const CHANNEL: &str = "34020000001320000001";
const PASSWORD: &str = "12345678";
/// What the whole agent may take while strangers fill it (a debug build idles at some 30 MiB).
const MEMORY_BYTES_MAX: u64 = 96 << 20;
const INTRUSION: &str = "<Info><AlarmType>6</AlarmType></Info>";

fn blocks(port: u16, more: &str, of_device: &str) -> String {
    format!(
        "[[source]]\nname = \"video\"\ntype = \"gb28181\"\ntcp = \"127.0.0.1:{port}\"\nudp = \"127.0.0.1:{port}\"\n\
         id = \"{SERVER}\"\npassword_file = \"sip.password\"\n{more}\n\
         [[source.device]]\nid = \"{DEVICE}\"\n{of_device}\n\
         [[device]]\nid = \"{DEVICE}\"\nbuilding = \"3号楼\"\n"
    )
}

async fn start(scene: &std::path::Path, blocks: &str) -> Result<Equipped> {
    Equipped::listening(scene, "video", blocks, &[("sip.password", PASSWORD)]).await
}

/// A device, played by SIPp.
struct Sipp {
    program: PathBuf,
    port: u16,
    transport: &'static str,
    keys: Vec<(&'static str, OsString)>,
}

impl Sipp {
    fn new(port: u16) -> Option<Self> {
        let mut sipp = Self {
            program: installed("sipp")?,
            port,
            transport: "u1",
            keys: Vec::new(),
        };
        for (name, value) in [
            ("server_id", SERVER),
            ("device", DEVICE),
            ("to", SERVER),
            ("expires", "3600"),
            ("channel", CHANNEL),
            ("sn", "1"),
            ("method", "5"),
            ("text", "words"),
            ("info", INTRUSION),
            ("status", "ON"),
        ] {
            sipp.keys.push((name, value.into()));
        }
        let now = jiff::Timestamp::now().in_tz("Asia/Shanghai").ok()?;
        let time = now.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        sipp.keys.push(("time", time.into()));
        Some(sipp)
    }

    /// With another value of a key.
    fn with(&self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        let mut keys = self.keys.clone();
        keys.retain(|(known, _)| *known != name);
        keys.push((name, value.as_ref().to_owned()));
        Self {
            program: self.program.clone(),
            keys,
            ..*self
        }
    }

    fn command(&self, scenario: &str, more: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg(format!("127.0.0.1:{}", self.port))
            .args(["-t", self.transport, "-nostdin", "-sf"])
            .arg(project(&format!("tests/peers/gb28181_{scenario}.xml")))
            .args(["-au", DEVICE, "-timeout", "60s", "-timeout_error"]);
        for (name, value) in &self.keys {
            command.arg("-key").arg(name).arg(value);
        }
        if !more.contains(&"-i") {
            command.args(["-i", "127.0.0.1"]);
        }
        if !more.contains(&"-m") {
            command.args(["-m", "1"]);
        }
        if !more.contains(&"-ap") {
            command.args(["-ap", PASSWORD]);
        }
        command.args(more);
        command
    }

    /// Plays a scenario to its end; every answer has to be as the scenario has it.
    fn play(&self, scenario: &str, more: &[&str]) -> Result<()> {
        run(&mut self.command(scenario, more)).with_context(|| scenario.to_owned())?;
        Ok(())
    }

    fn spawn(&self, scenario: &str, more: &[&str]) -> Result<Child> {
        let mut command = self.command(scenario, more);
        Ok(command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?)
    }
}

fn kinds(stored: &[StoredEvent]) -> Vec<String> {
    let mut found: Vec<String> = stored
        .iter()
        .map(|stored| format!("{} {}", stored.event.device, stored.event.kind))
        .collect();
    found.sort();
    found
}

async fn events_come_through(transport: &'static str) -> Result<()> {
    let directory = tempdir()?;
    let port = free_tcp_port()?;
    let Some(sipp) = Sipp::new(port) else {
        return Ok(());
    };
    let sipp = Sipp { transport, ..sipp };
    let scene = start(directory.path(), &blocks(port, "", "")).await?;
    let log = directory.path().join("asked.log");
    let asked = project("tests/peers/gb28181_asked.xml");
    let more = [
        "-oocsf",
        asked.to_str().context("a path")?,
        "-trace_logs",
        "-log_file",
        log.to_str().context("a path")?,
    ];
    sipp.play("device", &more)?;
    // The device was asked for its channels, told the time, and told that its alarm is taken.
    let log = std::fs::read_to_string(&log)?;
    for word in ["date 20", "CmdType>Catalog", "CmdType>Alarm"] {
        ensure!(log.contains(word), "{word}: {log}");
    }
    sipp.play("catalog", &[])?;
    sipp.with("status", "OFF").play("catalog", &[])?;
    sipp.play("catalog", &[])?;
    // A fault of its disk, in GB18030, of the device itself.
    let words = OsStr::from_bytes(b"\xb4\xc5\xc5\xcc\xb9\xca\xd5\xcf");
    sipp.with("text", words)
        .with("channel", DEVICE)
        .with("method", "6")
        .with("info", "<Info><AlarmType>1</AlarmType></Info>")
        .play("alarm", &[])?;
    // Without an Info, and of an input.
    sipp.with("channel", "34020000001340000001")
        .with("method", "2")
        .with("info", "")
        .play("alarm", &[])?;
    let stored = scene.stored_at_least("video", 6).await?;
    let of = |channel: &str, kind: &str| format!("{DEVICE}/{channel} {kind}");
    let mut expected = vec![
        format!("{DEVICE} device.online"),
        format!("{DEVICE} device.fault"),
        of(CHANNEL, "camera.intrusion"),
        of(CHANNEL, "camera.offline"),
        of(CHANNEL, "camera.restored"),
        of("34020000001340000001", "input.active"),
    ];
    expected.sort();
    ensure!(kinds(&stored) == expected, "{:?}", kinds(&stored));
    for stored in &stored {
        ensure!(stored.event.place.building == "3号楼", "{stored:?}");
    }
    let find = |kind: &str| {
        let found = stored.iter().find(|stored| stored.event.kind == kind);
        found.context("an event")
    };
    let fault = find("device.fault")?;
    ensure!(fault.event.attributes["text"] == "磁盘故障", "{fault:?}");
    let alarm = find("camera.intrusion")?;
    ensure!(alarm.event.attributes["alarm"] == "入侵检测", "{alarm:?}");
    ensure!(!alarm.event.attributes.contains_key("text"), "{alarm:?}");
    let late_ms = alarm.event.received_at_ms - alarm.event.occurred_at_ms;
    ensure!((-2_000..60_000).contains(&late_ms), "{alarm:?}");
    let standing = scene.source("video")?;
    ensure!(
        standing["online"] == 1 && standing["rejected"] == 0,
        "{standing}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_devices_say_by_datagrams_is_at_the_hub_and_answered() -> Result<()> {
    events_come_through("u1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_devices_say_by_tcp_is_at_the_hub_and_answered() -> Result<()> {
    events_come_through("t1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_or_has_a_wrong_password_is_refused_and_named() -> Result<()> {
    let directory = tempdir()?;
    let port = free_tcp_port()?;
    let Some(sipp) = Sipp::new(port) else {
        return Ok(());
    };
    let scene = start(directory.path(), &blocks(port, "", "")).await?;
    sipp.play("keepalive_refused", &[])?;
    sipp.play("refused", &["-ap", "wrong"])?;
    let stranger = "34020000001180000002";
    sipp.with("device", stranger).play("refused", &[])?;
    sipp.play("keepalive_refused", &[])?;
    let standing = scene.source("video")?;
    let samples = standing["samples"].to_string();
    for word in ["wrong password", stranger, "has not registered"] {
        ensure!(samples.contains(word), "{word}: {standing:#}");
    }
    // Nothing by which the password could be guessed is kept.
    ensure!(
        !samples.to_ascii_lowercase().contains("digest"),
        "{standing:#}"
    );
    ensure!(
        standing["unknown_devices"]
            .to_string()
            .contains("wrong password"),
        "{standing:#}"
    );
    // Another address is not where it registered from.
    sipp.play("register", &[])?;
    sipp.play("keepalive_refused", &["-i", "127.0.0.2"])?;
    sipp.play("keepalive", &[])?;
    sipp.play("methods", &[])?;
    // It goes, and says nothing more.
    sipp.with("expires", "0").play("register", &[])?;
    sipp.play("keepalive_refused", &[])?;
    let stored = scene.stored_at_least("video", 1).await?;
    ensure!(
        kinds(&stored) == [format!("{DEVICE} device.online")],
        "{stored:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_that_is_said_again_is_stored_once() -> Result<()> {
    let directory = tempdir()?;
    let port = free_tcp_port()?;
    let Some(sipp) = Sipp::new(port) else {
        return Ok(());
    };
    let mut scene = start(
        directory.path(),
        &blocks(port, "", "peer = \"127.0.0.1\"\n"),
    )
    .await?;
    sipp.play("alarm_again", &[])?;
    // The same datagram has the same answer.
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(("127.0.0.1", port)).await?;
    let body = format!(
        "<Notify><CmdType>Keepalive</CmdType><SN>1</SN><DeviceID>{DEVICE}</DeviceID></Notify>"
    );
    let message = message(&format!("Content-Length:   {}\r\n", body.len())) + &body;
    let mut answers = Vec::new();
    while answers.len() < 2 {
        socket.send(message.as_bytes()).await?;
        let mut answer = [0; 2048];
        let count =
            tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut answer)).await??;
        let answer = String::from_utf8(answer[..count].to_vec())?;
        // What the agent asks is no answer.
        if answer.starts_with("SIP/2.0 ") {
            answers.push(answer);
        }
    }
    ensure!(answers[0].starts_with("SIP/2.0 200 OK\r\n"), "{answers:?}");
    ensure!(answers[0] == answers[1], "{answers:?}");
    // And after a start of the agent, where nobody has registered.
    scene.agent.kill()?;
    scene.agent.start().await?;
    sipp.play("alarm_again", &[])?;
    // A clock that was never set makes no two alarms the same.
    for _ in 0..2 {
        sipp.with("time", "2000-01-01T00:00:05")
            .play("alarm_again", &[])?;
    }
    sipp.with("sn", "2").play("alarm", &[])?;
    let alarms = async || -> Result<Vec<StoredEvent>> {
        let mut stored = scene.stored("video").await?;
        stored.retain(|stored| stored.event.kind == "camera.intrusion");
        Ok(stored)
    };
    until("the last alarm to be at the hub", async || {
        let found = alarms().await?;
        let last = found
            .iter()
            .any(|alarm| alarm.event.source_id.contains("-2-20"));
        Ok(last.then_some(()))
    })
    .await?;
    let found = alarms().await?;
    // One, the two of its new transactions without a clock (each sent twice more), and SN 2.
    let ids: HashSet<&str> = found
        .iter()
        .map(|alarm| alarm.event.source_id.as_str())
        .collect();
    ensure!(ids.len() == found.len(), "{ids:?}");
    let without_clock = ids.iter().filter(|id| id.contains("2000-01-01")).count();
    ensure!(without_clock == 4 && found.len() == 6, "{ids:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_nothing_that_was_answered_and_doubles_nothing() -> Result<()> {
    const ALARMS: usize = 400;
    let directory = tempdir()?;
    let port = free_tcp_port()?;
    let Some(sipp) = Sipp::new(port) else {
        return Ok(());
    };
    let mut scene = start(
        directory.path(),
        &blocks(port, "catalog_every = \"0s\"", "peer = \"127.0.0.1\"\n"),
    )
    .await?;
    let count = ALARMS.to_string();
    let mut storm = sipp.spawn("storm", &["-m", &count, "-r", "40", "-l", "400"])?;
    let stored =
        async |scene: &Equipped| -> Result<usize> { Ok(scene.stored("video").await?.len()) };
    for round in 1..=5 {
        let reached = round * ALARMS / 8;
        until("the storm to go on", async || {
            Ok((stored(&scene).await? >= reached).then_some(()))
        })
        .await?;
        scene.agent.kill()?;
        scene.agent.start().await?;
    }
    // Every alarm was answered 200: else SIPp ends with an error.
    let ended = tokio::task::spawn_blocking(move || storm.wait()).await??;
    ensure!(ended.success(), "{ended}");
    scene.agent.drained().await?;
    let found = scene.stored("video").await?;
    let ids: Vec<&str> = found
        .iter()
        .filter(|stored| stored.event.kind == "camera.intrusion")
        .map(|stored| stored.event.source_id.as_str())
        .collect();
    let distinct: HashSet<&&str> = ids.iter().collect();
    ensure!(distinct.len() == ALARMS, "{} of {ALARMS}", distinct.len());
    ensure!(ids.len() == ALARMS, "{} events of {ALARMS}", ids.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_falls_silent_is_unknown() -> Result<()> {
    let directory = tempdir()?;
    let port = free_tcp_port()?;
    let Some(sipp) = Sipp::new(port) else {
        return Ok(());
    };
    let scene = start(directory.path(), &blocks(port, "silent_after = \"2s\"", "")).await?;
    sipp.play("register", &[])?;
    sipp.with("status", "OFF").play("catalog", &[])?;
    scene
        .source_is("video", "the device to be unknown", |source| {
            source["unknown"] == 1
        })
        .await?;
    scene.silence_is_told("video", 1).await?;
    // It has its registration still: what it says is news again.
    sipp.with("status", "OFF").play("catalog", &[])?;
    until("it to be back, and its channel off again", async || {
        let found = kinds(&scene.stored("video").await?);
        let count = |end: &str| found.iter().filter(|kind| kind.ends_with(end)).count();
        Ok((count("device.online") >= 2 && count("camera.offline") == 2).then_some(()))
    })
    .await?;
    Ok(())
}

/// The head of a MESSAGE of the device, by hand.
fn message(more: &str) -> String {
    format!(
        "MESSAGE sip:{SERVER}@3402000000 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;rport;branch=z9hG4bK1\r\n\
         From: <sip:{DEVICE}@3402000000>;tag=1\r\nTo: <sip:{SERVER}@3402000000>\r\nCall-ID: 1\r\nCSeq: 1 MESSAGE\r\n{more}\r\n"
    )
}

async fn outcome(scene: &Equipped, outcome: &str) -> Result<f64> {
    let text = scene.agent.metrics().await?;
    let name =
        format!("linli_agent_source_messages_total{{outcome=\"{outcome}\",source=\"video\"}}");
    Ok(metric(&text, &name).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_strangers_is_bounded_and_alarms_go_on() -> Result<()> {
    let directory = tempdir()?;
    let port = free_tcp_port()?;
    let Some(sipp) = Sipp::new(port) else {
        return Ok(());
    };
    let scene = start(directory.path(), &blocks(port, "", "")).await?;
    sipp.play("register", &[])?;
    // Strangers who register, from another address and from the device's own, and garbage.
    let many = ["-m", "40000", "-r", "4000", "-l", "40000"];
    let stranger = sipp.with("device", "34020000001180000009");
    let elsewhere = [&many[..], &["-i", "127.0.0.2"]].concat();
    let mut floods = [
        stranger.spawn("flood", &elsewhere)?,
        stranger.spawn("flood", &many)?,
    ];
    let garbage = UdpSocket::bind("127.0.0.3:0").await?;
    let noise = tokio::spawn(async move {
        let bytes = vec![0xa5_u8; 1400];
        loop {
            for _ in 0..50 {
                let _ = garbage.send_to(&bytes, ("127.0.0.1", port)).await;
            }
            tokio::task::yield_now().await;
        }
    });
    until("the flood to be cut", async || {
        Ok((outcome(&scene, "flood").await? > 2000.0).then_some(()))
    })
    .await?;
    let started = Instant::now();
    for sn in 0..10 {
        sipp.with("sn", format!("9{sn}")).play("alarm", &[])?;
    }
    let took = started.elapsed();
    noise.abort();
    for flood in &mut floods {
        flood.kill()?;
        flood.wait()?;
    }
    ensure!(took < Duration::from_secs(40), "{took:?} for ten alarms");
    until("all ten to be at the hub", async || {
        let found = kinds(&scene.stored("video").await?);
        let count = found
            .iter()
            .filter(|kind| kind.ends_with("camera.intrusion"))
            .count();
        Ok((count == 10).then_some(()))
    })
    .await?;
    let peak = scene.agent.process()?.memory_peak()?;
    ensure!(peak < MEMORY_BYTES_MAX, "{} MiB", peak >> 20);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_drip_and_lie_are_bounded() -> Result<()> {
    let directory = tempdir()?;
    let port = free_tcp_port()?;
    let Some(sipp) = Sipp::new(port) else {
        return Ok(());
    };
    let sipp = Sipp {
        transport: "t1",
        ..sipp
    };
    let scene = start(directory.path(), &blocks(port, "connections_max = 32", "")).await?;
    let connect = async || TcpStream::connect(("127.0.0.1", port)).await;
    // 4 GiB are announced: it is told so, and what follows is not waited for.
    let mut liar = connect().await?;
    liar.write_all(message("Content-Length: 4294967296\r\n").as_bytes())
        .await?;
    let mut answer = [0; 11];
    liar.read_exact(&mut answer).await?;
    ensure!(&answer == b"SIP/2.0 513", "{answer:?}");
    // A header without an end, and garbage without an end: cut off.
    for bytes in [
        &b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"[..],
        b"\r\ngarbage\r\n\r\n",
    ] {
        let mut flood = connect().await?;
        flood.write_all(b"OPTIONS sip:a@b SIP/2.0\r\n").await?;
        let many = bytes.repeat((1 << 20) / bytes.len());
        let cut = async {
            for _ in 0..64 {
                flood.write_all(&many).await?;
            }
            Ok::<(), std::io::Error>(())
        };
        ensure!(
            tokio::time::timeout(Duration::from_secs(30), cut)
                .await?
                .is_err(),
            "64 MiB were taken"
        );
    }
    // A message that begins and does not end is given up.
    // From an address that has not used up what strangers may ask.
    let drip = TcpSocket::new_v4()?;
    drip.bind("127.0.0.4:0".parse()?)?;
    let mut drip = drip.connect(([127, 0, 0, 1], port).into()).await?;
    drip.write_all(message("Content-Length: 100\r\n").as_bytes())
        .await?;
    drip.write_all(b"<Notify>").await?;
    // What came of it is answered as a message of its own.
    let mut answer = [0; 8];
    tokio::time::timeout(Duration::from_secs(20), drip.read_exact(&mut answer))
        .await
        .context("the message was not given up")??;
    ensure!(&answer == b"SIP/2.0 ", "{answer:?}");
    // More connections than are taken.
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(connect().await?);
    }
    until("connections to be refused", async || {
        Ok((outcome(&scene, "connection_refused").await? >= 30.0).then_some(()))
    })
    .await?;
    drop(held);
    sipp.play("device", &[])?;
    let peak = scene.agent.process()?.memory_peak()?;
    ensure!(peak < MEMORY_BYTES_MAX, "{} MiB", peak >> 20);
    Ok(())
}
