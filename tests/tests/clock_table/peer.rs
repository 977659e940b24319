//! A protocol on the wire, as far as the table needs it.
use anyhow::{Context, Result};
use linli_tests::harness::now_ms;

use super::scene::Scene;
use super::table::{self, Message, Row, Way};

/// The devices of one source.
pub trait Peer: Sized {
    /// The source.
    const SOURCE: &'static str;
    /// The kinds of its alarms.
    const KINDS: &'static [&'static str];
    /// Rows of the table that can be on its wire.
    const ROWS: &'static [&'static str];
    /// How it says that a message reports the past; `None`: it cannot.
    const REPLAYED: Option<Way>;
    /// How long ago it happened what it reports of the past.
    const AGO_MS: i64 = table::AGO_MS;

    /// The block of the source, and the places of its devices.
    fn blocks(&self) -> Result<String>;

    /// The files of the block.
    fn files(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// The device of a row.
    fn device(row: &str) -> String {
        named::<Self>(row)
    }

    /// Whether a row has a message of this way.
    fn has(_row: &Row, _way: Way) -> bool {
        true
    }

    /// How far a claim of this way may be from what is said: the devices have clocks of their own.
    fn near_ms(_way: Way) -> i64 {
        0
    }

    /// The kind of an alarm.
    fn kind(_message: &Message) -> &'static str {
        Self::KINDS[0]
    }

    /// The building and the device of an alarm, as a rule has them as its key.
    fn place(&self, message: &Message) -> String;

    /// Waits until the devices are heard, if the agent connects to them.
    async fn is_heard(&mut self) -> Result<()> {
        Ok(())
    }

    /// Says an alarm; it is answered, if the protocol has answers.
    async fn say(&mut self, message: &Message) -> Result<()>;
}

/// The devices of a source that a message of this way comes from.
pub fn rows<P: Peer>(way: Way) -> impl Iterator<Item = &'static Row> {
    P::ROWS.iter().filter_map(move |device| {
        let row = table::of(device);
        let is_over = matches!(way, Way::Live(step) if step >= row.live.len());
        (!is_over && P::has(row, way)).then_some(row)
    })
}

/// Every row of a source says one alarm of this way.
pub async fn say<P: Peer>(peer: &mut P, scene: &mut Scene, way: Way) -> Result<()> {
    for row in rows::<P>(way) {
        let message = Message {
            near_ms: P::near_ms(way),
            ..scene.next(row, way, P::AGO_MS)
        };
        let from_ms = now_ms();
        let said = peer.say(&message).await;
        said.with_context(|| format!("{} {message:?}", P::SOURCE))?;
        let key = (P::kind(&message), peer.place(&message));
        scene.was_said(key, message, from_ms);
    }
    Ok(())
}

/// The same while the hub is away; each alarm waits for it in the agent.
pub async fn say_offline<P: Peer>(peer: &mut P, scene: &mut Scene) -> Result<()> {
    let count = scene.waiting()? + rows::<P>(Way::Offline).count() as u64;
    say(peer, scene, Way::Offline).await?;
    scene.has_waiting(count).await
}

/// The name of a device of a source: no two sources share one.
pub fn named<P: Peer>(device: &str) -> String {
    format!("{}-{device}", P::SOURCE)
}

/// The place of a row among those of its source, from one on; those that are not heard live come after those that are.
pub fn number<P: Peer>(message: &Message) -> usize {
    let place = P::ROWS.iter().position(|row| *row == message.row.device);
    let place = place.map_or(0, |place| place + 1);
    match message.way {
        Way::Unheard => P::ROWS.len() + place,
        _ => place,
    }
}

/// The places of the devices of a source: each in a building of its own name.
pub fn places<P: Peer>() -> String {
    let places = P::ROWS.iter().flat_map(|row| {
        let id = named::<P>(row);
        [id.clone(), format!("{id}-unheard")]
    });
    places
        .map(|id| format!("[[device]]\nid = \"{id}\"\nbuilding = \"{id}\"\n"))
        .collect()
}
