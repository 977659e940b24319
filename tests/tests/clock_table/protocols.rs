//! The rows of the table that can be on the wire of each protocol.
//!
//! | source | its time | it reports the past by |
//! | --- | --- | --- |
//! | push | the mapping's | the mapping's `replayed` (in `main.rs`, all rows) |
//! | Hikvision | `dateTime` | `currentEvent: false`; the answer to a search (in `main.rs`, all rows) |
//! | Dahua | `LocaleTime` | `IsOffline` |
//! | MQTT | the mapping's | a retained message |
//! | ONVIF | `UtcTime`, in every message | `Initialized` |
//! | SIA DC-09 | the time of transmission, `H` | `O` of SIA, an `H` of long before |
//! | GB/T 26875.3 | six bytes; its years have two digits | an answer (command 5) |
//! | GB/T 28181 | `AlarmTime` | nothing |
//! | OCPP | `timestamp` | nothing |
//! | Modbus | none: what is read is a state of now | nothing |
use anyhow::Result;
use linli_tests::harness::{SettableClock, peers_python};
use tempfile::tempdir;

use super::STEPS_MAX;
use super::callers::{Hosts, Panels};
use super::heard::{Cameras, Dahua, Sensors};
use super::peer::{self, Peer};
use super::scene::Scene;
use super::table::{self, Way};
use super::talkers::{Chargers, Recorders};

/// What every protocol does, one after the other.
macro_rules! each {
    ($peers:expr, |$peer:ident| $what:expr) => {{
        let (dahua, sensors, cameras, panels, hosts, recorders, chargers) = $peers;
        {
            let $peer = dahua;
            $what
        }
        {
            let $peer = sensors;
            $what
        }
        {
            let $peer = cameras;
            $what
        }
        {
            let $peer = panels;
            $what
        }
        {
            let $peer = hosts;
            $what
        }
        {
            let $peer = recorders;
            $what
        }
        {
            let $peer = chargers;
            $what
        }
    }};
}

/// The block and the files of a source.
fn configured<P: Peer>(
    peer: &P,
    blocks: &mut String,
    files: &mut Vec<(String, String)>,
    kinds: &mut Vec<&'static str>,
) -> Result<()> {
    blocks.push_str(&peer.blocks()?);
    files.extend(peer.files());
    kinds.extend(P::KINDS);
    Ok(())
}

/// All live messages of a source.
async fn live<P: Peer>(peer: &mut P, scene: &mut Scene) -> Result<()> {
    for step in 0..STEPS_MAX {
        peer::say(peer, scene, Way::Live(step)).await?;
    }
    Ok(())
}

/// What a source reports of the past, if it is said in this way.
async fn past<P: Peer>(peer: &mut P, scene: &mut Scene, way: Way) -> Result<()> {
    if P::REPLAYED == Some(way) {
        peer::say(peer, scene, way).await?;
    }
    Ok(())
}

/// The devices of a source whose clocks are off are told of, each once.
async fn clocks_are_told<P: Peer>(_peer: &P, scene: &mut Scene) -> Result<()> {
    let devices = P::ROWS.iter().map(|row| (table::of(row), P::device(row)));
    scene.clocks_are_told(P::SOURCE, devices).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_protocol_has_the_rows_of_the_table_that_can_be_on_its_wire() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempdir()?;
    let path = directory.path();
    let clock = SettableClock::new(path)?;
    let Some(sensors) = Sensors::new(path)? else {
        return Ok(());
    };
    let mut peers = (
        Dahua::start(path, &python).await?,
        sensors,
        Cameras::start(path, &python).await?,
        Panels::new()?,
        Hosts::new()?,
        Recorders::new().await?,
        Chargers::new()?,
    );
    let (mut blocks, mut files, mut kinds) = (String::new(), Vec::new(), Vec::new());
    each!(&peers, |peer| configured(
        peer,
        &mut blocks,
        &mut files,
        &mut kinds
    )?);
    kinds.sort_unstable();
    kinds.dedup();
    let mut scene = Scene::new(path, &kinds, &blocks, &files, Some(&clock)).await?;
    scene.agent.wrapper = clock.wrapper.clone();
    scene.start_agent().await?;
    // What the broker has retained is from before the agent subscribes.
    scene.agent.process()?.freeze()?;
    peers.1.broker_starts().await?;
    past(&mut peers.1, &mut scene, Way::Unheard).await?;
    scene.agent.process()?.thaw()?;
    for source in [
        Sensors::SOURCE,
        Panels::SOURCE,
        Hosts::SOURCE,
        Recorders::SOURCE,
        Chargers::SOURCE,
    ] {
        scene.connected(source).await?;
    }
    each!(&mut peers, |peer| peer.is_heard().await?);
    each!(&mut peers, |peer| live(peer, &mut scene).await?);
    // It is known of each clock by how much it is off.
    scene.judge().await?;
    each!(&mut peers, |peer| past(peer, &mut scene, Way::Replayed)
        .await?);
    scene.judge().await?;
    each!(&peers, |peer| clocks_are_told(peer, &mut scene).await?);

    scene.hub.stop()?;
    each!(&mut peers, |peer| peer::say_offline(peer, &mut scene)
        .await?);
    scene.hub_is_back_an_hour_later(&clock).await?;
    scene.judge().await
}
