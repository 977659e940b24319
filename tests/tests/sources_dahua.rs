//! Dahua devices: a device with real digest authentication that says what public samples of the protocol say, and what is
//! broken in it.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{
    DEVICE_PASSWORD, Equipped, EventDevice, SmallDisk, is_root, peers_python, until, until_within,
};
use std::path::Path;
use std::time::Duration;

fn blocks(port: u16) -> String {
    format!(
        "[[source]]\nname = \"dahua\"\ntype = \"dahua\"\npassword_file = \"secrets/device\"\n\
         [[source.device]]\nid = \"nvr\"\naddress = \"127.0.0.1:{port}\"\nparts = true\n"
    )
}

async fn scene(directory: &Path, port: u16) -> Result<Equipped> {
    Equipped::start(
        directory,
        &blocks(port),
        &[("secrets/device", DEVICE_PASSWORD)],
    )
    .await
}

fn part(body: &str) -> String {
    let length = body.len();
    format!(
        "--myboundary\r\nContent-Type: text/plain\r\nContent-Length:{length}\r\n\r\n{body}\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_is_heard_through_what_is_broken_in_its_stream() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let device = EventDevice::start(directory.path(), &python, "dahua", &["--beat", "1"]).await?;
    let scene = scene(directory.path(), device.port).await?;
    device.has_streams(1).await?;
    let door = "Code=AccessControl;action=Pulse;index=0;data={\n   \"CardNo\" : \"0BADCAFE\",\n   \"CardName\" : \"王小明\",\n\
        \"Door\" : 0,\n \"Method\" : 1,\n \"RecNo\" : 12,\n \"RealUTC\" : 1793000000,\n \"Status\" : 1\n}\n";
    let blind = "Code=VideoBlind;action=Start;index=2";
    let said = [
        part("Code=VideoMotion;action=Start;index=0"),
        part("Code=VideoMotion;action=Stop;index=0"),
        part(blind),
        // Told again: the state is known.
        part(blind),
        part(door),
        // Told again: its record is known.
        part(door).replace("\r\n", "\n"),
        part("Code=AlarmLocal;action=Start;index=1").replace("Length:36", "Length:4294967296"),
        "garbage\r\n".repeat(1000),
        part("Code=VideoBlind;action=Stop;index=2").replace("Length:35", "Length:3"),
        format!(
            "--myboundary\r\n{}",
            part("Code=BreakIn;action=Pulse;index=0")
        ),
        part("Code=Unheard;action=Pulse;index=0"),
        part(
            "Code=CrossLineDetection;action=Start;index=0;data={\"Object\":{\"ObjectType\":\"Human\"}",
        ),
        part(
            "Code=CrossLineDetection;action=Start;index=0;data={\"Object\":{\"ObjectType\":\"Human\"}}",
        ),
    ];
    device.say(said.concat()).await?;
    let stored = scene.stored_at_least("dahua", 10).await?;
    let found: Vec<String> = stored
        .iter()
        .map(|stored| format!("{} {}", stored.event.device, stored.event.kind))
        .collect();
    let mut found = found;
    found.sort();
    let mut wanted = [
        "nvr device.online",
        // The time of its door is weeks behind.
        "nvr device.clock",
        "nvr/1 camera.motion",
        "nvr/3 camera.blind",
        "nvr/1 door.granted",
        "nvr/2 input.active",
        "nvr/3 camera.restored",
        "nvr/1 door.forced",
        // What follows its beginning is cut off.
        "nvr/1 camera.line_crossed",
        "nvr/1 camera.line_crossed",
    ];
    wanted.sort_unstable();
    ensure!(found == wanted, "{found:?}");
    let shown = format!("{stored:?}");
    ensure!(!shown.contains("0BADCAFE") && !shown.contains("王小明"));
    let source = scene
        .source_is("dahua", "every message to be accounted for", |source| {
            source["left_out"] == 2 && source["rejected"] == 1 && source["repeated"] == 2
        })
        .await?;
    ensure!(source["heartbeats"].as_u64().is_some(), "{source:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorder_that_never_speaks_again_is_connected_anew() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let device = EventDevice::start(directory.path(), &python, "dahua", &[]).await?;
    let scene = scene(directory.path(), device.port).await?;
    device.has_streams(1).await?;
    device.say(part("Heartbeat")).await?;
    scene.stored_at_least("dahua", 1).await?;
    // Silent, and then noisy without a word.
    until_within(
        Duration::from_secs(40),
        "the second connection",
        async || Ok((device.seen().await?["opened"] == 2).then_some(())),
    )
    .await?;
    until_within(
        Duration::from_secs(60),
        "the third connection",
        async || {
            device.say("noise\r\n").await?;
            Ok((device.seen().await?["opened"] == 3).then_some(()))
        },
    )
    .await?;
    let last = until("the stream to be there again", async || {
        device
            .say(part("Code=VideoLoss;action=Start;index=0"))
            .await?;
        let stored = scene.stored("dahua").await?;
        Ok(stored
            .into_iter()
            .find(|stored| stored.event.kind == "camera.blind"))
    })
    .await?;
    ensure!(last.event.device == "nvr/1", "{last:?}");
    let log = std::fs::read_to_string(scene.agent.log()).context("the log")?;
    ensure!(log.contains("said nothing whole for 15 s"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_begins_after_a_reconnect_is_an_alarm_while_routine_messages_of_before_wait()
-> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    if !is_root() {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let disk = SmallDisk::new(160)?;
    let device = EventDevice::start(directory.path(), &python, "dahua", &["--beat", "1"]).await?;
    let blocks = format!(
        "[spool]\nfree_min = \"48MiB\"\ngeneration = \"1MiB\"\n{}",
        blocks(device.port)
    );
    let files = [("secrets/device", DEVICE_PASSWORD)];
    let scene = Equipped::start_apart(directory.path(), disk.path(), &blocks, &files).await?;
    device.has_streams(1).await?;
    let fires = async |device: &str, count: usize| {
        until(&format!("{count} fires of {device}"), async || {
            let mut stored = scene.stored("dahua").await?;
            stored.retain(|stored| {
                stored.event.kind == "fire.alarm" && stored.event.device == device
            });
            Ok((stored.len() >= count).then_some(stored.len()))
        })
        .await
    };
    let fire = |index: u32| part(&format!("Code=FireWarning;action=Start;index={index}"));
    device.say(fire(0)).await?;
    fires("nvr/1", 1).await?;
    // Between free_min and half of it only alarms are taken.
    let ballast = disk.filled(44 << 20)?;
    let motion = |index: u32| part(&format!("Code=VideoMotion;action=Start;index={index}"));
    device
        .say([motion(0), motion(1), fire(0), fire(1)].concat())
        .await?;
    // What was said before it waits for the routine lane.
    fires("nvr/2", 1).await?;
    // Its end was said while nobody listened.
    device.control("end", "").await?;
    until("the next connection", async || {
        Ok((device.seen().await?["opened"] == 2).then_some(()))
    })
    .await?;
    device.has_streams(1).await?;
    device.say(fire(0)).await?;
    ensure!(fires("nvr/1", 2).await? == 2);
    drop(ballast);
    let stored = until("those that wait", async || {
        let stored = scene.stored("dahua").await?;
        let motions = stored
            .iter()
            .filter(|stored| stored.event.kind == "camera.motion");
        Ok((motions.count() >= 2).then_some(stored))
    })
    .await?;
    let count = |kind: &str| {
        let events = stored.iter();
        events.filter(|stored| stored.event.kind == kind).count()
    };
    ensure!(
        (count("camera.motion"), count("fire.alarm")) == (2, 3),
        "{stored:?}"
    );
    Ok(())
}
