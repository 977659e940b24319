//! Hikvision devices: a device with real digest authentication that says what recordings and faults have it say, with
//! pyhik as a second reader of the same stream.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{
    DEVICE_PASSWORD, Equipped, EventDevice, SmallDisk, StoredEvent, http, is_root, metric, now_ms,
    peer, peers_python, recording, until, until_within,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn blocks(port: u16, more: &str) -> String {
    format!(
        "[[source]]\nname = \"cams\"\ntype = \"hikvision\"\npassword_file = \"secrets/device\"\n\
         push_secret_file = \"secrets/push\"\n{more}\n\
         [[source.device]]\nid = \"gate\"\naddress = \"127.0.0.1:{port}\"\n"
    )
}

async fn scene(directory: &Path, blocks: &str) -> Result<Equipped> {
    let files = [
        ("secrets/device", DEVICE_PASSWORD),
        ("secrets/push", SECRET),
    ];
    Equipped::start(directory, blocks, &files).await
}

fn part(content_type: &str, body: &str) -> String {
    format!(
        "--boundary\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}\r\n",
        body.len()
    )
}

fn camera(kind: &str, state: &str, channel: u32) -> String {
    let body = format!(
        "<EventNotificationAlert version=\"2.0\" xmlns=\"http://www.hikvision.com/ver20/XMLSchema\">\r\n<channelID>{channel}</channelID>\r\n\
         <activePostCount>1</activePostCount>\r\n<eventType>{kind}</eventType>\r\n<eventState>{state}</eventState>\r\n</EventNotificationAlert>\r\n"
    );
    part("application/xml; charset=\"UTF-8\"", &body)
}

/// A door event of this serial, so many seconds ago: odd ones open the lock, even ones close it.
fn door(serial: u64, start_ms: i64) -> Value {
    let time = jiff::Timestamp::from_millisecond(start_ms + serial as i64 * 1000).expect("a time");
    let time = time.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string();
    json!({
        "dateTime": time, "eventType": "AccessControllerEvent", "eventState": "active",
        "AccessControllerEvent": {
            "majorEventType": 5, "subEventType": if serial % 2 == 1 { 21 } else { 22 },
            "doorNo": 1, "serialNo": serial, "currentEvent": true, "name": "王小明", "cardNo": "0032719845",
        }
    })
}

/// The same as the search finds it.
fn row(serial: u64, start_ms: i64) -> Value {
    let event = door(serial, start_ms);
    let inner = &event["AccessControllerEvent"];
    json!({
        "major": inner["majorEventType"], "minor": inner["subEventType"], "time": event["dateTime"], "doorNo": 1,
        "serialNo": serial, "name": "王小明", "cardNo": "0032719845", "currentVerifyMode": "invalid",
    })
}

fn serials(stored: &[StoredEvent]) -> Vec<u64> {
    let mut serials: Vec<u64> = stored
        .iter()
        .filter_map(|stored| stored.event.source_id.split('/').nth(1)?.parse().ok())
        .collect();
    serials.sort_unstable();
    serials
}

fn count(stored: &[StoredEvent], kind: &str) -> usize {
    stored
        .iter()
        .filter(|stored| stored.event.kind == kind)
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_cameras_are_read_as_pyhik_reads_them() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let device = EventDevice::start(
        directory.path(),
        &python,
        "hikvision",
        &["--nonce-uses", "1"],
    )
    .await?;
    let scene = scene(directory.path(), &blocks(device.port, "")).await?;
    let log = directory.path().join("pyhik.log");
    let port = device.port.to_string();
    let arguments = ["http://127.0.0.1", port.as_str(), "admin", DEVICE_PASSWORD];
    let reader = peer(&python, "isapi_reader.py", &arguments, &log)?;
    device.has_streams(2).await?;

    let mut messages = 0;
    for name in ["isapi/hiksink-camera.txt", "isapi/hiksink-ptz.txt"] {
        let Some(lines) = recording(name) else {
            return Ok(());
        };
        let lines = String::from_utf8(lines)?;
        let lines: Vec<&str> = lines.lines().collect();
        for lines in lines.chunks(50) {
            let mut said = String::new();
            for line in lines {
                let line: Value = serde_json::from_str(line)?;
                let body = line["content"].as_str().context("content")?;
                // The two are one device here, so the second is another channel.
                let body = match name {
                    "isapi/hiksink-ptz.txt" => body.replace("<channelID>1<", "<channelID>2<"),
                    _ => body.to_owned(),
                };
                said.push_str(&part("application/xml; charset=\"UTF-8\"", &body));
                messages += 1;
            }
            device.say(said).await?;
        }
    }
    device.say(camera("shelteralarm", "active", 2)).await?;
    let pyhik = until("pyhik to see the last", async || {
        let text = std::fs::read_to_string(&log)?;
        let seen: Vec<Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        Ok(seen
            .iter()
            .any(|seen| seen["event"] == "Tamper Detection")
            .then_some(seen))
    })
    .await
    .with_context(|| reader.log_text())?;
    let stored = until("the last event", async || {
        let stored = scene.stored("cams").await?;
        Ok((count(&stored, "camera.blind") == 1).then_some(stored))
    })
    .await?;
    // Nothing that pyhik saw is missing. It merges by when a message came: here the device's own times part the beginnings.
    for (event, kind) in [
        ("Motion", "camera.motion"),
        ("Line Crossing", "camera.line_crossed"),
        ("Field Detection", "camera.intrusion"),
    ] {
        for channel in [1, 2] {
            let wanted = pyhik
                .iter()
                .filter(|seen| {
                    seen["event"] == event && seen["channel"] == channel && seen["active"] == true
                })
                .count();
            let found = stored
                .iter()
                .filter(|stored| {
                    stored.event.kind == kind
                        && stored.event.attributes["channel"] == channel.to_string()
                })
                .count();
            println!("{event} of channel {channel}: pyhik {wanted}, here {found}");
            ensure!(
                found >= wanted,
                "{event} of channel {channel}: pyhik saw {wanted}, {found} are here"
            );
        }
    }
    ensure!(count(&stored, "camera.motion") > 30 && count(&stored, "camera.intrusion") == 1);
    // Every message is accounted for: two conditions of the camera are told by one message each.
    let source = scene.source("cams")?;
    let total: u64 = ["heartbeats", "left_out", "repeated", "rejected"]
        .iter()
        .filter_map(|key| source[*key].as_u64())
        .sum();
    let events = stored
        .iter()
        .filter(|stored| stored.event.kind.starts_with("camera."))
        .count() as u64;
    ensure!(
        total + events == messages + 1,
        "{total} + {events} of {messages}: {source:#}"
    );
    ensure!(source["rejected"] == 0, "{source:#}");
    reader.kill()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_is_told_once_by_stream_replay_and_catch_up_across_kills() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let device =
        EventDevice::start(directory.path(), &python, "hikvision", &["--beat", "1"]).await?;
    let start_ms = now_ms() - 1_000_000;
    let past: Vec<Value> = (1..=100).map(|serial| row(serial, start_ms)).collect();
    device
        .control("events", json!({"127.0.0.1": past}).to_string())
        .await?;
    let mut scene = scene(directory.path(), &blocks(device.port, "")).await?;
    scene.stored_at_least("cams", 101).await?;

    let live = |serial: u64| {
        part(
            "application/json; charset=\"UTF-8\"",
            &door(serial, start_ms).to_string(),
        )
    };
    let say: String = (81..=110).map(live).collect();
    device.say(say).await?;
    scene.stored_at_least("cams", 111).await?;

    // The connection breaks; what happens meanwhile is asked for from the serial on that was seen last.
    let past: Vec<Value> = (1..=170).map(|serial| row(serial, start_ms)).collect();
    device
        .control("events", json!({"127.0.0.1": past}).to_string())
        .await?;
    device.control("end", "").await?;
    scene.stored_at_least("cams", 171).await?;
    let seen = device.seen().await?;
    let asked = seen["asked"].as_array().context("asked")?;
    let last = asked.last().context("a search")?;
    // What was told live proves nothing about what came before it: the last complete answer ended at 100.
    ensure!(last["beginSerialNo"] == 100 - 64, "{last}");
    // It tells its history again, after which it goes on.
    device.say((1..=172).map(live).collect::<String>()).await?;
    scene.stored_at_least("cams", 173).await?;

    // Killed in the middle of more.
    let past: Vec<Value> = (1..=400).map(|serial| row(serial, start_ms)).collect();
    device
        .control("events", json!({"127.0.0.1": past}).to_string())
        .await?;
    device
        .say((173..=300).map(live).collect::<String>())
        .await?;
    scene.agent.kill()?;
    scene.agent.start().await?;
    let stored = until("all events", async || {
        let stored = scene.stored("cams").await?;
        Ok((serials(&stored).len() >= 400).then_some(stored))
    })
    .await?;
    ensure!(
        serials(&stored) == (1..=400).collect::<Vec<u64>>(),
        "{:?}",
        serials(&stored)
    );
    let (opened, closed) = (count(&stored, "door.opened"), count(&stored, "door.closed"));
    ensure!((opened, closed) == (200, 200), "{opened} {closed}");
    // Nobody's card and no name has left the gateway.
    let shown = format!("{stored:?}");
    ensure!(!shown.contains("0032719845") && !shown.contains("王小明"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_passes_routine_events_that_the_spool_refuses() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    if !is_root() {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let disk = SmallDisk::new(160)?;
    let device =
        EventDevice::start(directory.path(), &python, "hikvision", &["--beat", "1"]).await?;
    let blocks = format!(
        "[spool]\nfree_min = \"48MiB\"\ngeneration = \"1MiB\"\n{}",
        blocks(device.port, "catch_up = \"0s\"")
    );
    let files = [
        ("secrets/device", DEVICE_PASSWORD),
        ("secrets/push", SECRET),
    ];
    let scene = Equipped::start_apart(directory.path(), disk.path(), &blocks, &files).await?;
    device.has_streams(1).await?;
    scene.stored_at_least("cams", 1).await?;
    // Between free_min and half of it only alarms are taken.
    let ballast = disk.filled(44 << 20)?;
    let start_ms = now_ms() - 100_000;
    let say = |serial| part("application/json", &door(serial, start_ms).to_string());
    device.say((1..=20).map(say).collect::<String>()).await?;
    device.say(camera("firedetection", "active", 1)).await?;
    let is_told = async |kind: &str| {
        until(kind, async || {
            let stored = scene.stored("cams").await?;
            Ok((count(&stored, kind) > 0).then_some(()))
        })
        .await
    };
    is_told("fire.alarm").await?;
    ensure!(serials(&scene.stored("cams").await?).is_empty());
    // More than may wait: the oldest are given up, and alarms go on.
    device.say((21..=400).map(say).collect::<String>()).await?;
    device.say(camera("smokedetection", "active", 2)).await?;
    until("some to be given up", async || {
        let name = "linli_agent_source_messages_total{outcome=\"given_up\",source=\"cams\"}";
        let given_up = metric(&scene.agent.metrics().await?, name);
        Ok((given_up > Some(0.0)).then_some(()))
    })
    .await?;
    drop(ballast);
    let stored = until("those that wait", async || {
        let stored = scene.stored("cams").await?;
        Ok(serials(&stored).contains(&400).then_some(stored))
    })
    .await?;
    let found = serials(&stored);
    ensure!(
        found.len() >= 200 && found == (401 - found.len() as u64..=400).collect::<Vec<_>>(),
        "{found:?}"
    );
    ensure!(
        count(&stored, "fire.alarm") == 1,
        "the alarm was told twice"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_answered_when_it_is_durable() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let blocks = "[[source]]\nname = \"cams\"\ntype = \"hikvision\"\npush_secret_file = \"secrets/push\"\nsilent_after = \"5m\"\n\
         [[source.device]]\nid = \"门 1\"\n";
    let mut scene = scene(directory.path(), blocks).await?;
    let client = http().timeout(Duration::from_secs(10)).build()?;
    let url = |agent: &linli_tests::harness::Agent, secret: &str, device: &str| {
        format!(
            "http://127.0.0.1:{}/push/cams/{secret}/{device}",
            agent.push_port
        )
    };
    let start_ms = now_ms() - 10_000_000;
    for (secret, device, status) in [("wrong", "门 1", 401), (SECRET, "door-2", 404)] {
        let answer = client
            .post(url(&scene.agent, secret, device))
            .body("{}")
            .send()
            .await?;
        ensure!(answer.status() == status, "{}", answer.status());
        let text = answer.text().await?;
        ensure!(text.contains("detail") && !text.contains(SECRET), "{text}");
    }
    let source = scene.source("cams")?;
    for (sample, reason) in [
        (0, "the secret in the URL is wrong"),
        (1, "\"door-2\" is no"),
    ] {
        let sample = &source["samples"][sample];
        let said = sample["reason"].as_str().unwrap_or_default();
        ensure!(
            said.starts_with(reason) && sample["raw"] == "",
            "{source:#}"
        );
    }
    let error = source["last_error"].as_str().unwrap_or_default();
    ensure!(error.starts_with("\"door-2\" is no"), "{source:#}");
    // What cannot be read is counted and not asked for again.
    let broken = client
        .post(url(&scene.agent, SECRET, "门 1"))
        .body("<html>")
        .send()
        .await?;
    ensure!(broken.status() == 200, "{}", broken.status());
    let source = scene.source("cams")?;
    ensure!(
        source["rejected"] == 1 && source["last_error"].is_null(),
        "{source:#}"
    );

    // Killed again and again while the device pushes: what was answered is there, once.
    let mut answered = BTreeSet::new();
    let mut serial = 0;
    for round in 0..6 {
        let endpoint = url(&scene.agent, SECRET, "门 1");
        let until_serial = serial + 60;
        let pushes = async {
            let mut ok = Vec::new();
            while serial < until_serial {
                serial += 1;
                let event = door(serial, start_ms).to_string();
                let request = if serial % 3 == 0 {
                    let body = format!(
                        "--MIME\r\nContent-Disposition: form-data; name=\"event_log\"\r\nContent-Type: application/json\r\n\r\n{event}\r\n\
                         --MIME\r\nContent-Disposition: form-data; name=\"Picture\"; filename=\"p.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n{}\r\n--MIME--\r\n",
                        "x".repeat(20_000)
                    );
                    client
                        .post(&endpoint)
                        .header("content-type", "multipart/form-data; boundary=MIME")
                        .body(body)
                } else {
                    client.post(&endpoint).body(event)
                };
                match request.send().await {
                    Ok(answer) if answer.status() == 200 => ok.push(serial),
                    Ok(answer) => println!("{}", answer.status()),
                    Err(_) => break,
                }
            }
            ok
        };
        let kill_after = Duration::from_millis(40 + round * 25);
        let pid = scene.agent.process()?.pid();
        let killer = async {
            tokio::time::sleep(kill_after).await;
            let _ = std::process::Command::new("kill")
                .args(["-9", &pid.to_string()])
                .status();
        };
        let (ok, ()) = tokio::join!(pushes, killer);
        answered.extend(ok);
        scene.agent.kill().ok();
        scene.agent.start().await?;
    }
    ensure!(answered.len() > 20, "{answered:?}");
    let stored = until("what was answered", async || {
        let stored = scene.stored("cams").await?;
        let found: BTreeSet<u64> = serials(&stored).into_iter().collect();
        Ok(answered.is_subset(&found).then_some(stored))
    })
    .await?;
    let mut times: BTreeMap<u64, usize> = BTreeMap::new();
    for serial in serials(&stored) {
        *times.entry(serial).or_default() += 1;
    }
    ensure!(times.values().all(|times| *times == 1), "{times:?}");
    println!(
        "{} pushes answered in 6 rounds, 0 lost, 0 doubled",
        answered.len()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_stream_is_bounded_and_a_good_one_goes_on() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let device =
        EventDevice::start(directory.path(), &python, "hikvision", &["--beat", "1"]).await?;
    let scene = scene(directory.path(), &blocks(device.port, "catch_up = \"0s\"")).await?;
    device.has_streams(1).await?;
    device.say(camera("linedetection", "active", 1)).await?;
    scene.stored_at_least("cams", 2).await?;
    let before_kib = scene.agent.process()?.memory_bytes()? / 1024;

    let head = "--boundary\r\nContent-Type: application/xml\r\n";
    let megabytes = |piece: &str, megabytes: usize| piece.repeat((megabytes << 20) / piece.len());
    let hostile: Vec<(&str, String)> = vec![
        ("garbage", megabytes("\u{1}x\n", 20)),
        (
            "an endless head",
            format!("--boundary\r\n{}", megabytes("X-Header: 1\r\n", 20)),
        ),
        (
            "a line without an end",
            format!("--boundary\r\nX: {}", megabytes("a", 20)),
        ),
        (
            "a part without an end",
            format!(
                "{head}Content-Length: 4294967296\r\n\r\n<a>{}",
                megabytes("<b>", 20)
            ),
        ),
        (
            "a picture without an end",
            format!(
                "--boundary\r\nContent-Type: image/jpeg\r\n\r\n{}",
                megabytes("\u{7f}\n--", 20)
            ),
        ),
        ("delimiters", megabytes("--boundary\r\n", 5)),
        (
            "a bomb",
            part(
                "application/xml",
                &format!(
                    "<!DOCTYPE a [<!ENTITY b \"{}\">]><EventNotificationAlert>&b;</EventNotificationAlert>",
                    "c".repeat(100_000)
                ),
            ),
        ),
        (
            "a deep one",
            part("application/xml", &"<EventNotificationAlert>".repeat(8_000)),
        ),
        (
            "deep JSON",
            part(
                "application/json",
                &format!("{{\"eventType\": {}", "[".repeat(200_000)),
            ),
        ),
        (
            "no text",
            part(
                "application/json",
                &"{\"eventType\": \"\u{ff}\u{fe}\"".repeat(3),
            ),
        ),
    ];
    for (channel, (what, bytes)) in hostile.into_iter().enumerate() {
        let started = std::time::Instant::now();
        let channel = channel as u32 + 10;
        device.say(bytes).await?;
        device
            .say(format!(
                "\r\n{}",
                camera("linedetection", "active", channel)
            ))
            .await?;
        until_within(
            Duration::from_secs(40),
            &format!("the event after {what}"),
            async || {
                let stored = scene.stored("cams").await?;
                let found = stored.iter().any(|stored| {
                    stored
                        .event
                        .attributes
                        .get("channel")
                        .is_some_and(|told| *told == channel.to_string())
                });
                Ok(found.then_some(()))
            },
        )
        .await
        .with_context(|| format!("{:#}", scene.source("cams").unwrap_or_default()))?;
        println!(
            "{what}: the next event {} ms after it",
            started.elapsed().as_millis()
        );
    }
    let most_kib = scene.agent.process()?.memory_peak()? / 1024;
    println!("memory {before_kib} KiB before, {most_kib} KiB at most");
    ensure!(
        most_kib < before_kib + 12 * 1024,
        "{before_kib} KiB before, {most_kib} KiB at most"
    );
    let source = scene.source("cams")?;
    ensure!(
        source["rejected"]
            .as_u64()
            .is_some_and(|rejected| rejected >= 8),
        "{source:#}"
    );
    ensure!(
        source["samples"]
            .as_array()
            .is_some_and(|samples| samples.len() <= 20),
        "{source:#}"
    );
    ensure!(
        device.seen().await?["opened"] == 1,
        "the stream was never opened anew"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_falls_silent_is_unknown_until_it_is_heard() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let device =
        EventDevice::start(directory.path(), &python, "hikvision", &["--beat", "0.3"]).await?;
    let scene = scene(
        directory.path(),
        &blocks(device.port, "silent_after = \"2s\""),
    )
    .await?;
    let kinds = async |wanted: &[&str]| {
        let stored = scene.stored_at_least("cams", wanted.len()).await?;
        let found: Vec<&str> = stored
            .iter()
            .map(|stored| stored.event.kind.as_str())
            .collect();
        ensure!(found == wanted, "{found:?}");
        anyhow::Ok(())
    };
    kinds(&["device.online"]).await?;
    device.say(camera("shelteralarm", "active", 1)).await?;
    kinds(&["device.online", "camera.blind"]).await?;
    device.control("beat?seconds=0", "").await?;
    kinds(&["device.online", "camera.blind", "device.offline"]).await?;
    ensure!(scene.source("cams")?["unknown"] == 1);
    device.control("beat?seconds=0.3", "").await?;
    kinds(&[
        "device.online",
        "camera.blind",
        "device.offline",
        "device.online",
    ])
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_tried_once_and_says_what_to_do() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let device = EventDevice::start(
        directory.path(),
        &python,
        "hikvision",
        &["--user", "operator", "--beat", "0.3"],
    )
    .await?;
    let two = format!(
        "{}user = \"operator\"\n[[source.device]]\nid = \"wrong\"\naddress = \"127.0.0.2:{}\"\n",
        blocks(device.port, "catch_up = \"0s\""),
        device.port
    );
    let scene = scene(directory.path(), &two).await?;
    let source = scene
        .source_is("cams", "the refusal to be told", |source| {
            source["online"] == 1 && !source["unknown_devices"][0]["last_error"].is_null()
        })
        .await?;
    let trouble = source["unknown_devices"][0]["last_error"].to_string();
    ensure!(
        source["unknown_devices"][0]["device"] == "wrong" || trouble.contains("127.0.0.2"),
        "{source:#}"
    );
    ensure!(
        trouble.contains("check user and password_file") && !trouble.contains(DEVICE_PASSWORD),
        "{trouble}"
    );
    // The other device is heard meanwhile, for many of its heartbeats, and there is no second try.
    scene
        .source_is("cams", "the other one to be heard", |source| {
            source["heartbeats"]
                .as_u64()
                .is_some_and(|beats| beats > 20)
        })
        .await?;
    let seen = device.seen().await?;
    ensure!(seen["wrong"] == 1, "{seen}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_devices_at_once() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    const DEVICES: u64 = 200;
    let directory = tempfile::tempdir()?;
    let device =
        EventDevice::start(directory.path(), &python, "hikvision", &["--beat", "10"]).await?;
    let mut all = String::from(
        "[[source]]\nname = \"cams\"\ntype = \"hikvision\"\npassword_file = \"secrets/device\"\nkeep_raw_for = \"0s\"\n",
    );
    for number in 1..=DEVICES {
        all.push_str(&format!(
            "[[source.device]]\nid = \"door-{number}\"\naddress = \"127.0.1.{number}:{}\"\n",
            device.port
        ));
    }
    let scene = scene(directory.path(), &all).await?;
    device.has_streams(DEVICES).await?;
    scene
        .source_is("cams", "all to be heard", |source| {
            source["online"] == DEVICES
        })
        .await?;
    scene.stored_at_least("cams", DEVICES as usize).await?;
    // Everybody opens and closes a door at once.
    let start_ms = now_ms() - 100_000;
    let say: String = (1..=20)
        .map(|serial| {
            part(
                "application/json; charset=\"UTF-8\"",
                &door(serial, start_ms).to_string(),
            )
        })
        .collect();
    device.say(say).await?;
    scene.stored_at_least("cams", DEVICES as usize * 21).await?;
    let most_kib = scene.agent.process()?.memory_peak()? / 1024;
    ensure!(most_kib < 80 * 1024, "{most_kib} KiB");
    Ok(())
}
