//! MQTT through a real mosquitto, by its own clients.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{
    BROKER_PASSWORD, Broker, Equipped, Process, SmallDisk, StoredEvent, ago, is_root, until,
};

/// The blocks of an agent's config.
fn blocks(broker: &Broker, version: u8) -> String {
    format!(
        "[[source]]\nname = \"zigbee\"\ntype = \"mqtt\"\nversion = {version}\n{}\
         [[source.topic]]\nfilter = \"zigbee2mqtt/+\"\n\
         mappings = [\"mappings/zigbee-smoke.toml\", \"mappings/zigbee-tamper.toml\"]\n\
         [[source.topic]]\nfilter = \"frigate/events\"\nmappings = [\"mappings/frigate-events.toml\"]\n",
        broker.keys()
    )
}

fn is_connected(source: &serde_json::Value) -> bool {
    !source["connected"].is_null()
}

fn kinds(stored: &[StoredEvent]) -> Vec<String> {
    stored
        .iter()
        .map(|stored| format!("{} {}", stored.event.device, stored.event.kind))
        .collect()
}

async fn sensors_are_heard(version: u8) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let Some(mut broker) = Broker::new(&directory.path().join("broker"))? else {
        return Ok(());
    };
    broker.start().await?;
    // Retained before the agent is there: a smoke alarm that stands.
    broker.publish("zigbee2mqtt/smoke-1", br#"{"smoke":true}"#, &["-r"])?;
    let mut scene = Equipped::start(
        directory.path(),
        &blocks(&broker, version),
        &[("secrets/broker", BROKER_PASSWORD)],
    )
    .await?;
    scene
        .source_is("zigbee", "the source to be connected", is_connected)
        .await?;
    scene.stored_at_least("zigbee", 1).await?;
    for payload in [
        &br#"{"smoke":false,"tamper":false}"#[..],
        br#"{"smoke":false,"tamper":false}"#,
        br#"{"smoke":true,"tamper":false}"#,
        b"no JSON, of no interest",
        br#"{"smoke":"perhaps"}"#,
    ] {
        broker.publish("zigbee2mqtt/smoke-2", payload, &[])?;
    }
    let source = scene
        .source_is("zigbee", "every message to be accounted for", |source| {
            source["rejected"] == 1 && source["left_out"] == 1 && source["repeated"] == 3
        })
        .await?;
    ensure!(
        source["samples"][0]["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("perhaps")),
        "{source}"
    );
    let stored = scene.stored_at_least("zigbee", 4).await?;
    let expected = [
        "smoke-1 smoke.alarm",
        "smoke-2 smoke.restored",
        "smoke-2 device.tamper_restored",
        "smoke-2 smoke.alarm",
    ];
    let mut found = kinds(&stored);
    let mut wanted = expected.map(str::to_owned).to_vec();
    found.sort();
    wanted.sort();
    ensure!(found == wanted, "{found:?}");

    // While the agent is away the broker keeps what comes; nothing of it is lost.
    scene.agent.kill()?;
    for number in 0..50 {
        broker.publish(
            &format!("zigbee2mqtt/new-{number}"),
            br#"{"smoke":true}"#,
            &[],
        )?;
    }
    scene.agent.start().await?;
    let stored = scene.stored_at_least("zigbee", 55).await?;
    let mut new = kinds(&stored);
    new.retain(|kind| kind.starts_with("new-"));
    new.sort();
    new.dedup();
    ensure!(new.len() == 50, "{new:?}");

    // A broker that goes and comes back is subscribed to again.
    broker.stop()?;
    scene
        .source_is("zigbee", "the loss to be seen", |source| {
            !is_connected(source)
        })
        .await?;
    broker.start().await?;
    scene
        .source_is("zigbee", "the source to be connected again", is_connected)
        .await?;
    broker.publish("zigbee2mqtt/late", br#"{"smoke":true}"#, &[])?;
    scene.stored_at_least("zigbee", 56).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sensors_are_heard_over_mqtt_3_1_1_across_kills_and_a_broker_that_goes() -> Result<()> {
    sensors_are_heard(4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sensors_are_heard_over_mqtt_5_across_kills_and_a_broker_that_goes() -> Result<()> {
    sensors_are_heard(5).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_passes_routine_events_that_the_spool_refuses() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let Some(mut broker) = Broker::new(&directory.path().join("broker"))? else {
        return Ok(());
    };
    broker.start().await?;
    let disk = SmallDisk::new(160)?;
    let blocks = format!(
        "[spool]\nfree_min = \"48MiB\"\ngeneration = \"1MiB\"\n{}",
        blocks(&broker, 5)
    );
    let files = [("secrets/broker", BROKER_PASSWORD)];
    let scene = Equipped::start_apart(directory.path(), disk.path(), &blocks, &files).await?;
    scene
        .source_is("zigbee", "the source to be connected", is_connected)
        .await?;
    // Between free_min and half of it only alarms are taken.
    let ballast = disk.filled(44 << 20)?;
    for number in 0..10 {
        broker.publish(
            &format!("zigbee2mqtt/calm-{number}"),
            br#"{"smoke":false}"#,
            &[],
        )?;
    }
    // Smoke, none, and smoke again, in the same bytes as before.
    for smoke in ["true", "false", "true"] {
        let payload = format!("{{\"smoke\":{smoke}}}");
        broker.publish("zigbee2mqtt/smoke-1", payload.as_bytes(), &[])?;
    }
    let alarms = scene.stored_at_least("zigbee", 2).await?;
    let expected = ["smoke-1 smoke.alarm", "smoke-1 smoke.alarm"];
    ensure!(kinds(&alarms) == expected, "{alarms:?}");
    drop(ballast);
    let stored = scene.stored_at_least("zigbee", 13).await?;
    ensure!(stored.len() == 13, "{:?}", kinds(&stored));
    // What waited happened when it came.
    let restored = stored
        .iter()
        .find(|stored| stored.event.device == "smoke-1" && stored.event.kind == "smoke.restored")
        .context("the end of the first alarm")?;
    let last_ms = alarms
        .iter()
        .map(|stored| stored.event.occurred_at_ms)
        .max();
    ensure!(Some(restored.event.occurred_at_ms) <= last_ms, "{stored:?}");
    // There is smoke, whatever was stored last.
    let repeated = |source: &serde_json::Value| source["repeated"].as_u64().unwrap_or_default();
    let before = repeated(&scene.source("zigbee")?);
    broker.publish("zigbee2mqtt/smoke-1", br#"{"smoke":true}"#, &[])?;
    scene
        .source_is("zigbee", "the state to be known", |source| {
            repeated(source) == before + 1
        })
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_named_and_seldom_tried() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let Some(mut broker) = Broker::new(&directory.path().join("broker"))? else {
        return Ok(());
    };
    broker.start().await?;
    let blocks = blocks(&broker, 5);
    let scene =
        Equipped::start(directory.path(), &blocks, &[("secrets/broker", "another")]).await?;
    let source = scene
        .source_is("zigbee", "the refusal to be told", |source| {
            !source["last_error"].is_null()
        })
        .await?;
    let error = source["last_error"].as_str().context("a text")?;
    ensure!(error.contains("check user, password_file"), "{error}");
    // The other source of the agent goes on.
    let answer = scene.agent.push(&[ago("open", "3", 0)]).await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_without_end_and_broken_text_cost_themselves() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let Some(mut broker) = Broker::new(&directory.path().join("broker"))? else {
        return Ok(());
    };
    broker.start().await?;
    let scene = Equipped::start(
        directory.path(),
        &blocks(&broker, 5),
        &[("secrets/broker", BROKER_PASSWORD)],
    )
    .await?;
    scene
        .source_is("zigbee", "the source to be connected", is_connected)
        .await?;
    // Larger than the agent takes: the broker does not deliver it to a client that says so.
    broker.publish("zigbee2mqtt/large", &vec![b' '; 1 << 20], &[])?;
    broker.publish("zigbee2mqtt/deep", "[".repeat(100_000).as_bytes(), &[])?;
    broker.publish("zigbee2mqtt/bytes", &[0xff; 1000], &[])?;
    broker.publish("zigbee2mqtt/good", br#"{"smoke":true}"#, &[])?;
    let stored = scene.stored_at_least("zigbee", 1).await?;
    ensure!(kinds(&stored) == ["good smoke.alarm"], "{stored:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn source_test_shows_raw_beside_normalised() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let Some(mut broker) = Broker::new(&directory.path().join("broker"))? else {
        return Ok(());
    };
    broker.start().await?;
    let mut scene = Equipped::start(
        directory.path(),
        &blocks(&broker, 5),
        &[("secrets/broker", BROKER_PASSWORD)],
    )
    .await?;
    // Of the running agent, and then of its own.
    for _ in 0..2 {
        let log = directory.path().join("test.log");
        let _ = std::fs::remove_file(&log);
        let mut command = scene.agent.command()?;
        command.args([
            "source",
            "test",
            "zigbee",
            "--json",
            "--count",
            "1",
            "--seconds",
            "30",
        ]);
        let mut process = Process::start("source test", &mut command, &log)?;
        until("the standing to be shown", async || {
            Ok(std::fs::read_to_string(&log)?
                .contains("standing")
                .then_some(()))
        })
        .await?;
        until("a message to be shown", async || {
            broker.publish(
                "zigbee2mqtt/smoke-9",
                br#"{"smoke":true,"linkquality":7}"#,
                &[],
            )?;
            Ok(std::fs::read_to_string(&log)?
                .contains("\"message\"")
                .then_some(()))
        })
        .await?;
        ensure!(process.wait(std::time::Duration::from_secs(30))?.success());
        let text = std::fs::read_to_string(&log)?;
        ensure!(
            text.contains(r#"{\"smoke\":true,\"linkquality\":7}"#),
            "{text}"
        );
        ensure!(
            text.contains(r#""kind":"smoke.alarm""#) || text.contains(r#""outcome":"repeated""#),
            "{text}"
        );
        if scene.agent.process().is_ok() {
            scene.agent.stop()?;
        }
    }
    Ok(())
}
