//! Cameras over ONVIF: a device of the tests, which onvif-zeep-async takes for one.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{
    Equipped, ONVIF_PASSWORD, OnvifDevice, StoredEvent, peers_python, until,
};
use std::path::Path;

/// A hub and an agent that hears a camera.
async fn heard(device: &OnvifDevice, directory: &Path) -> Result<Equipped> {
    let files = [("secrets/cameras", ONVIF_PASSWORD)];
    let scene = Equipped::start(directory, &block(device), &files).await?;
    scene
        .source_is("cameras", "the camera to be heard", |source| {
            source["online"] == 1
        })
        .await?;
    Ok(scene)
}

fn block(device: &OnvifDevice) -> String {
    format!(
        "[[device]]\nid = \"gate\"\nbuilding = \"北门\"\n[[source]]\nname = \"cameras\"\ntype = \"onvif\"\n\
         password_file = \"secrets/cameras\"\n\
         [[source.device]]\nid = \"gate\"\naddress = \"127.0.0.1:{}\"\n",
        device.port
    )
}

fn kinds(stored: &[StoredEvent]) -> Vec<String> {
    stored
        .iter()
        .filter(|stored| !stored.event.kind.starts_with("device."))
        .map(|stored| format!("{} {}", stored.event.device, stored.event.kind))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_is_an_event_and_what_is_initialized_is_none() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    // A clock that is off by an hour: only its own time is accepted in a token.
    let device = OnvifDevice::start(&python, directory.path(), 3600).await?;
    device
        .control("changed VideoSource/MotionAlarm State true")
        .await?;
    let scene = heard(&device, directory.path()).await?;
    scene
        .source_is("cameras", "the state at the beginning", |source| {
            source["repeated"] == 1
        })
        .await?;
    for line in [
        "changed VideoSource/MotionAlarm State false",
        "changed VideoSource/MotionAlarm State true",
        "changed RuleEngine/LineDetector/Crossed ObjectId 7",
        "changed UserAlarm/Other State true",
        "changed Device/Trigger/DigitalInput LogicalState perhaps",
    ] {
        device.control(line).await?;
    }
    scene
        .source_is(
            "cameras",
            "every notification to be accounted for",
            |source| source["rejected"] == 1 && source["left_out"] == 1,
        )
        .await?;
    let stored = scene.stored_at_least("cameras", 5).await?;
    let expected = [
        "gate/V1 camera.restored",
        "gate/V1 camera.motion",
        "gate/V1 camera.line_crossed",
    ];
    ensure!(kinds(&stored) == expected, "{:?}", kinds(&stored));
    ensure!(
        stored
            .iter()
            .all(|stored| stored.event.place.building == "北门")
    );
    // The subscription is lost, and the motion ends meanwhile: Initialized says otherwise than what was known.
    device.control("forget").await?;
    device
        .control("changed VideoSource/MotionAlarm State false")
        .await?;
    let stored = scene.stored_at_least("cameras", 6).await?;
    ensure!(
        kinds(&stored)
            .last()
            .is_some_and(|kind| kind == "gate/V1 camera.restored"),
        "{:?}",
        kinds(&stored)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_or_began_while_the_agent_was_stopped_is_told_when_it_is_back() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let device = OnvifDevice::start(&python, directory.path(), 0).await?;
    let mut scene = heard(&device, directory.path()).await?;
    device
        .control("changed VideoSource/MotionAlarm State true")
        .await?;
    device
        .control("changed Device/Tampering State false")
        .await?;
    device
        .control("changed VideoSource/SignalLoss State false")
        .await?;
    let before = [
        "gate/V1 camera.motion",
        "gate/V1 camera.restored",
        "gate/V1 camera.restored",
    ];
    let mut stored = scene.stored_at_least("cameras", 4).await?;
    ensure!(kinds(&stored) == before, "{:?}", kinds(&stored));
    // The motion ends and somebody covers the lens meanwhile; the device tells both as what it finds.
    scene.agent.stop()?;
    ensure!(scene.agent.data().join("states/cameras").exists());
    device
        .control("changed VideoSource/MotionAlarm State false")
        .await?;
    device
        .control("changed Device/Tampering State true")
        .await?;
    scene.agent.start().await?;
    // What is told after all of it.
    scene
        .source_is("cameras", "the camera to be heard again", |source| {
            source["online"] == 1
        })
        .await?;
    device
        .control("changed RuleEngine/LineDetector/Crossed ObjectId 7")
        .await?;
    until("the last of it to be at the hub", async || {
        stored = scene.stored("cameras").await?;
        Ok(kinds(&stored)
            .iter()
            .any(|kind| kind.ends_with("line_crossed"))
            .then_some(()))
    })
    .await?;
    let mut since = kinds(&stored).split_off(before.len());
    since.sort();
    ensure!(
        since
            == [
                "gate/V1 camera.line_crossed",
                "gate/V1 camera.restored",
                "gate/V1 camera.tamper"
            ],
        "{since:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_device_of_the_tests_is_one_for_an_independent_client() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let device = OnvifDevice::start(&python, directory.path(), 0).await?;
    device
        .control("changed VideoSource/MotionAlarm State true")
        .await?;
    let pulled = device.pulled_by_others()?;
    ensure!(
        pulled.contains("topic tns1:VideoSource/MotionAlarm"),
        "{pulled}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_named() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let device = OnvifDevice::start(&python, directory.path(), 0).await?;
    let scene = Equipped::start(
        directory.path(),
        &block(&device),
        &[("secrets/cameras", "another")],
    )
    .await?;
    let source = scene
        .source_is("cameras", "the refusal to be told", |source| {
            !source["unknown_devices"][0]["last_error"].is_null()
        })
        .await?;
    let error = source["unknown_devices"][0]["last_error"]
        .as_str()
        .context("a text")?;
    ensure!(
        error.contains("check user and password_file") && !error.contains("another"),
        "{error}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_answers_end_a_session_and_the_next_one_goes_on() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let device = OnvifDevice::start(&python, directory.path(), 0).await?;
    let scene = heard(&device, directory.path()).await?;
    let memory_before = scene.agent.process()?.memory_bytes()?;
    let mut tried = 0_u32;
    let deep = format!("raw !{}", "<a>".repeat(10_000));
    let bomb = "raw !<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;\">]><Envelope>&b;</Envelope>";
    for line in [bomb, deep.as_str(), "raw !no XML at all <", "flood"] {
        device.control(line).await?;
        let before = tried;
        // A new subscription is made, and what changes then is heard.
        until("the next change to be stored", async || {
            tried += 1;
            device
                .control(&format!(
                    "changed RuleEngine/LineDetector/Crossed ObjectId {tried}"
                ))
                .await?;
            let stored = scene.stored("cameras").await?;
            let objects = stored.iter().filter_map(|stored| {
                let (_, object) = stored.event.source_id.rsplit_once(' ')?;
                object.parse::<u32>().ok()
            });
            Ok((objects.max() > Some(before)).then_some(()))
        })
        .await
        .with_context(|| {
            format!(
                "after {:.60}: {:#}",
                line,
                scene.source("cameras").unwrap_or_default()
            )
        })?;
    }
    // Each is counted, but the one without an end: nobody waited for it.
    let source = scene.source("cameras")?;
    ensure!(
        source["rejected"].as_u64() >= Some(3)
            && source["samples"].to_string().contains("no XML at all"),
        "{source:#}"
    );
    let memory_after = scene.agent.process()?.memory_bytes()?;
    ensure!(
        memory_after < memory_before + (8192 << 10),
        "resident memory went from {memory_before} to {memory_after} bytes"
    );
    Ok(())
}
