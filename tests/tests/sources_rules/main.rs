//! The seven rules of sources, each shown for every type of source with its own protocol on the wire, the real agent and the
//! real hub. A rule is written once ([`rules`]); what a type does differently is in its [`device::Device`].
//!
//! | | 1 raw | 2 time | 3 once | 4 silence | 5 garbage | 6 durable, then | 7 GB18030 |
//! | --- | --- | --- | --- | --- | --- | --- | --- |
//! | hikvision | JSON of a part | `dateTime`, zone | serial and time | no heartbeats | bytes between parts | is known (no answer) | `doorNo` |
//! | dahua | text of a part | `LocaleTime`, zone | record and time | no heartbeats | bytes between parts | is known (no answer) | `ObjectType` |
//! | mqtt | payload | the mapping's | the mapping's id | nothing published | payload of neither encoding | PUBACK | payload |
//! | gb26875 | frame | of the part, zone | part and time | no frame | bytes between frames | confirm | text of the part |
//! | dc09 | frame | UTC by the standard | sequence and time | no frame | bytes between frames | ACK | words of the block |
//! | onvif | notification | UTC by the standard | topic, time, object | device hangs | answer that is no XML | next PullMessages | name of the rule |
//! | modbus | registers | none: receipt | state at each poll | device hangs | value that cannot be | is known (no answer) | no text |
//! | gb28181 | MESSAGE | `AlarmTime`, zone | SN and time | no message | a datagram | 200 OK | description |
//! | ocpp | CALL | `timestamp`, zone | time and status | no message | a frame that is no call | CALLRESULT | `vendorErrorCode` |
//! | push | body | the mapping's | the mapping's id | no push | body that is no JSON | HTTP 200 | body |
//!
//! * Each test has two devices: `near`, of a source that says nothing of its zone (+08:00), and `far`, whose zone is +09:00 and
//!   which is unknown when it is silent.
//! * That the spool refuses is a disk that is full (rule 6; needs root for a disk of its own). A hub that is away is no
//!   reason to refuse, and a test that it is away and events wait in the spool is in `faults.rs`.
mod callers;
mod chargers;
mod device;
mod mapped;
mod polled;
mod rules;
mod streams;

use anyhow::{Context, Result, ensure};
use linli_tests::harness::{Equipped, http, now_ms, run};
use serde_json::json;
use std::collections::BTreeSet;

use rules::all;

#[tokio::test(flavor = "multi_thread")]
async fn hikvision() -> Result<()> {
    all::<streams::Hikvision>().await
}

#[tokio::test(flavor = "multi_thread")]
async fn dahua() -> Result<()> {
    all::<streams::Dahua>().await
}

#[tokio::test(flavor = "multi_thread")]
async fn mqtt() -> Result<()> {
    all::<mapped::Sensor>().await
}

#[tokio::test(flavor = "multi_thread")]
async fn gb26875() -> Result<()> {
    all::<callers::FireHost>().await
}

#[tokio::test(flavor = "multi_thread")]
async fn dc09() -> Result<()> {
    all::<callers::Panel>().await
}

#[tokio::test(flavor = "multi_thread")]
async fn onvif() -> Result<()> {
    all::<polled::Camera>().await
}

#[tokio::test(flavor = "multi_thread")]
async fn modbus() -> Result<()> {
    all::<polled::Pile>().await
}

#[tokio::test(flavor = "multi_thread")]
async fn gb28181() -> Result<()> {
    all::<callers::Recorder>().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ocpp() -> Result<()> {
    all::<chargers::Charger>().await
}

#[tokio::test(flavor = "multi_thread")]
async fn push() -> Result<()> {
    all::<mapped::Platform>().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_has_another_pseudonym_after_a_rotation_and_its_number_never_leaves() -> Result<()> {
    const CARD: &str = "0032719845";
    let directory = tempfile::tempdir()?;
    let blocks = "[pseudonyms]\nenabled = true\n\
         [[source]]\nname = \"doors-1\"\ntype = \"hikvision\"\npush_secret_file = \"secrets/push\"\n\
         [[source.device]]\nid = \"gate\"\n";
    let files = [("secrets/push", "0123456789abcdef0123456789abcdef")];
    let mut scene = Equipped::start(directory.path(), blocks, &files).await?;
    let client = http().build()?;
    let start_ms = now_ms() - 60_000;
    let mut serial = 0;
    // The pseudonym of the card at its next use.
    let mut used = async |scene: &Equipped| -> Result<String> {
        serial += 1;
        let time = jiff::Timestamp::from_millisecond(start_ms + serial * 1000)?;
        let event = json!({
            "dateTime": time.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string(),
            "eventType": "AccessControllerEvent", "eventState": "active",
            "AccessControllerEvent": {
                "majorEventType": 5, "subEventType": 1, "doorNo": 1, "serialNo": serial, "cardNo": CARD,
            },
        });
        let url = format!(
            "http://127.0.0.1:{}/push/doors-1/{}/gate",
            scene.agent.push_port, files[0].1
        );
        let answer = client.post(url).body(event.to_string()).send().await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        scene.agent.drained().await?;
        let stored = scene.stored("doors-1").await?;
        ensure!(!format!("{stored:?}").contains(CARD), "{stored:?}");
        let id = format!("gate/{serial}/");
        let granted = stored
            .iter()
            .find(|stored| stored.event.source_id.starts_with(&id));
        let granted = &granted.context("the event")?.event;
        ensure!(granted.kind == "door.granted", "{granted:?}");
        let pseudonym = granted.attributes.get("card_pseudonym");
        Ok(pseudonym.context("a pseudonym")?.clone())
    };
    let first = used(&scene).await?;
    ensure!(first.starts_with("k1-"), "{first}");
    ensure!(used(&scene).await? == first, "the same card, the same key");
    run(scene.agent.command()?.args(["pseudonyms", "rotate"]))?;
    let second = used(&scene).await?;
    ensure!(second.starts_with("k2-"), "{second}");
    let tags: BTreeSet<&str> = [&first, &second]
        .iter()
        .filter_map(|pseudonym| Some(pseudonym.split_once('-')?.1))
        .collect();
    ensure!(tags.len() == 2, "{first} and {second} are of one key");
    scene.agent.stop()?;
    scene.agent.start().await?;
    ensure!(used(&scene).await? == second, "the key was kept");
    Ok(())
}
