//! Charging piles over Modbus TCP, played by pymodbus.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{Equipped, ModbusDevice, StoredEvent, peers_python, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const MAP: &str = r#"
schema = 1
[[point]]
name = "temperature"
area = "holding"
address = 0
type = "i16"
scale = 0.1
unit = "°C"
valid = [-40.0, 200.0]
repeat = { count = 10, stride = 8 }
[[point.alarm]]
above = 70.0
clear = 60.0
kind = "pile.overheat"
restored = "pile.restored"
severity = "alarm"
[[point]]
name = "cutoff"
area = "coil"
address = 0
[[point.alarm]]
is = true
kind = "pile.cutoff"
restored = "pile.restored"
severity = "warning"
"#;

fn blocks(port: u16, more: &str) -> String {
    let unit = |id: &str, unit: u8| {
        format!(
            "[[source.device]]\nid = \"{id}\"\naddress = \"127.0.0.1:{port}\"\nunit = {unit}\nevery = \"100ms\"\nmap = \"pile.toml\"\n"
        )
    };
    format!(
        "[[device]]\nid = \"shed-1\"\nbuilding = \"车棚1\"\n[[source]]\nname = \"piles\"\ntype = \"modbus\"\n{more}{}{}",
        unit("shed-1", 1),
        unit("shed-2", 2)
    )
}

fn told(stored: &[StoredEvent]) -> Vec<String> {
    let mut told: Vec<String> = stored
        .iter()
        .filter(|stored| !stored.event.kind.starts_with("device."))
        .map(|stored| format!("{} {}", stored.event.device, stored.event.kind))
        .collect();
    told.sort();
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_pile_is_told_once_until_it_is_clear_and_a_device_that_goes_is_unknown() -> Result<()>
{
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let device = ModbusDevice::start(&python, directory.path()).await?;
    let files = [("pile.toml", MAP)];
    let scene = Equipped::start(
        directory.path(),
        &blocks(device.port, "silent_after = \"1s\"\n"),
        &files,
    )
    .await?;
    scene
        .source_is("piles", "both units to be heard", |source| {
            source["online"] == 2
        })
        .await?;
    // 75.1 °C at the third pile of the first unit; then between the limits; then clear.
    device.set(1, "holding", 16, 751)?;
    let stored = scene.stored_at_least("piles", 3).await?;
    ensure!(
        told(&stored) == ["shed-1/3 pile.overheat"],
        "{:?}",
        told(&stored)
    );
    let event = &stored
        .iter()
        .find(|stored| stored.event.kind == "pile.overheat")
        .context("the alarm")?
        .event;
    ensure!(
        event.attributes["value"] == "75.1" && event.place.building == "车棚1",
        "{event:?}"
    );
    device.set(1, "holding", 16, 650)?;
    device.set(2, "coil", 0, 1)?;
    scene.stored_at_least("piles", 4).await?;
    device.set(1, "holding", 16, 600)?;
    let stored = scene.stored_at_least("piles", 5).await?;
    let expected = [
        "shed-1/3 pile.overheat",
        "shed-1/3 pile.restored",
        "shed-2 pile.cutoff",
    ];
    ensure!(told(&stored) == expected, "{:?}", told(&stored));
    // A sensor that is broken is no value: counted, with a sample, and no alarm.
    device.set(1, "holding", 0, 0x7fff)?;
    let source = scene
        .source_is("piles", "the broken sensor to be counted", |source| {
            source["rejected"].as_u64() > Some(0)
        })
        .await?;
    ensure!(
        source["samples"][0]["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("temperature 1: 3276.7")),
        "{source}"
    );
    // The device is frozen: unknown, and told. It thaws: back.
    device.process.freeze()?;
    scene
        .source_is("piles", "both units to be unknown", |source| {
            source["unknown"] == 2
        })
        .await?;
    scene.silence_is_told("piles", 2).await?;
    device.process.thaw()?;
    scene
        .source_is("piles", "both units to be back", |source| {
            source["online"] == 2
        })
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_that_asks_for_what_is_not_there_is_named_and_the_rest_is_read() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let device = ModbusDevice::start(&python, directory.path()).await?;
    let map = format!("{MAP}[[point]]\nname = \"far\"\narea = \"holding\"\naddress = 5000\n");
    let scene = Equipped::start(
        directory.path(),
        &blocks(device.port, ""),
        &[("pile.toml", &map)],
    )
    .await?;
    let source = scene
        .source_is("piles", "the exception to be counted", |source| {
            source["rejected"].as_u64() > Some(0)
        })
        .await?;
    let reason = source["samples"][0]["reason"]
        .as_str()
        .context("a reason")?;
    ensure!(
        reason.contains("Holding 5000..5001: exception 2"),
        "{reason}"
    );
    device.set(1, "holding", 0, 800)?;
    until("the alarm of what can be read", async || {
        Ok((told(&scene.stored("piles").await?) == ["shed-1/1 pile.overheat"]).then_some(()))
    })
    .await
}

/// A peer that answers each connection with bytes of its own.
async fn hostile(bytes: Vec<u8>) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let bytes = bytes.clone();
            tokio::spawn(async move {
                let mut request = [0; 12];
                while stream.read_exact(&mut request).await.is_ok() {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(port)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_none_end_a_connection_and_nothing_else() -> Result<()> {
    let directory = tempfile::tempdir()?;
    // Garbage; a length that lies; the right head with too few registers; an answer to another request.
    let answers = [
        vec![0xff; 4096],
        vec![0, 0, 0, 0, 0xff, 0xff, 1, 4, 250],
        vec![0, 0, 0, 0, 0, 5, 1, 1, 2, 0, 0],
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
    ];
    let mut blocks =
        String::from("[[source]]\nname = \"piles\"\ntype = \"modbus\"\nsilent_after = \"1s\"\n");
    for (number, answer) in answers.into_iter().enumerate() {
        let port = hostile(answer).await?;
        blocks.push_str(&format!(
            "[[source.device]]\nid = \"d{number}\"\naddress = \"127.0.0.1:{port}\"\nevery = \"100ms\"\nmap = \"pile.toml\"\n"
        ));
    }
    let scene = Equipped::start(directory.path(), &blocks, &[("pile.toml", MAP)]).await?;
    let source = scene
        .source_is(
            "piles",
            "every device to be unknown, each with its reason",
            |source| {
                let unknown = source["unknown_devices"].as_array();
                source["unknown"] == 4
                    && unknown.is_some_and(|devices| {
                        devices.iter().all(|device| !device["last_error"].is_null())
                    })
            },
        )
        .await?;
    // One of them answers its first request rightly and is heard for a moment; nothing is a value.
    let stored = scene.stored_at_least("piles", 4).await?;
    ensure!(told(&stored).is_empty(), "{source} {:?}", told(&stored));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_is_dead_behind_a_gateway_does_not_blind_the_others() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let device = ModbusDevice::start(&python, directory.path()).await?;
    // Between the two that answer: what is asked of it is answered by exceptions only.
    let dead = format!(
        "[[source.device]]\nid = \"shed-9\"\naddress = \"127.0.0.1:{}\"\nunit = 9\nevery = \"100ms\"\nmap = \"pile.toml\"\n",
        device.port
    );
    let all = blocks(device.port, "silent_after = \"2s\"\n").replacen(
        "[[source.device]]\nid = \"shed-2\"",
        &format!("{dead}[[source.device]]\nid = \"shed-2\""),
        1,
    );
    let scene = Equipped::start(directory.path(), &all, &[("pile.toml", MAP)]).await?;
    let source = scene
        .source_is("piles", "the dead one alone to be unknown", |source| {
            source["online"] == 2 && !source["unknown_devices"][0]["last_error"].is_null()
        })
        .await?;
    ensure!(
        source["unknown_devices"][0]["device"] == "shed-9",
        "{source}"
    );
    device.set(1, "holding", 0, 900)?;
    device.set(2, "holding", 8, 900)?;
    until("both alarms", async || {
        let told = told(&scene.stored("piles").await?);
        Ok((told == ["shed-1/1 pile.overheat", "shed-2/2 pile.overheat"]).then_some(()))
    })
    .await?;
    scene
        .source_is("piles", "the others still to be heard", |source| {
            source["online"] == 2
        })
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_that_stands_over_a_kill_ends_once_and_not_before_it_is_clear() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let device = ModbusDevice::start(&python, directory.path()).await?;
    let mut scene = Equipped::start(
        directory.path(),
        &blocks(device.port, ""),
        &[("pile.toml", MAP)],
    )
    .await?;
    device.set(1, "holding", 16, 751)?;
    scene.stored_at_least("piles", 3).await?;
    // What was heard last, the alarm of the other unit, is on disk: so is what was before.
    device.set(2, "coil", 0, 1)?;
    scene.stored_at_least("piles", 4).await?;
    let states = scene.agent.data().join("states/piles");
    until("the states to be kept", async || {
        let kept = std::fs::read(&states).unwrap_or_default();
        let has = |name: &[u8]| kept.windows(name.len()).any(|window| window == name);
        Ok((has(b"temperature") && has(b"cutoff")).then_some(()))
    })
    .await?;
    scene.agent.kill()?;
    // Between the limits: it goes on.
    device.set(1, "holding", 16, 650)?;
    scene.agent.start().await?;
    scene
        .source_is("piles", "the piles to be read many times", |source| {
            source["heartbeats"].as_u64() > Some(20)
        })
        .await?;
    device.set(1, "holding", 16, 600)?;
    let ended = |stored: &[StoredEvent]| {
        let restored = told(stored);
        restored
            .iter()
            .filter(|told| *told == "shed-1/3 pile.restored")
            .count()
    };
    until("the end to be told", async || {
        Ok((ended(&scene.stored("piles").await?) > 0).then_some(()))
    })
    .await?;
    scene.agent.drained().await?;
    let stored = scene.stored("piles").await?;
    ensure!(ended(&stored) == 1, "{:?}", told(&stored));
    let last = stored
        .iter()
        .find(|stored| stored.event.kind == "pile.restored")
        .context("the end")?;
    ensure!(last.event.attributes["value"] == "60", "{:?}", last.event);
    Ok(())
}
