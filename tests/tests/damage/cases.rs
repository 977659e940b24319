//! Damaged copies of a message, and what the agent has counted of them.
use anyhow::{Context, Result, ensure};
use linli_shared::protocol::event::Event;
use linli_tests::harness::{Equipped, until};
use std::collections::{BTreeMap, HashSet};

/// The lowest and the highest bit of a byte.
const FLIPS: [u8; 2] = [0x01, 0x80];

/// A message with its number in it, and the parts that say what it is.
pub struct Made {
    pub bytes: Vec<u8>,
    pub heads: Vec<String>,
}

impl Made {
    pub fn new(text: impl Into<Vec<u8>>, heads: &[&str]) -> Self {
        Self {
            bytes: text.into(),
            heads: heads.iter().map(|head| (*head).to_owned()).collect(),
        }
    }
}

/// A damaged message.
pub struct Case {
    /// No other message has it.
    pub number: u32,
    pub bytes: Vec<u8>,
    /// The parts that say what it is are whole: it is an event.
    pub is_whole: bool,
    /// What was done to it.
    pub what: String,
}

/// How a message is damaged.
pub struct Cases {
    /// Every so many bytes are flipped, and cut.
    pub step: usize,
    /// The number of the first: even digits and four zeros.
    pub first: u32,
}

/// The number with this index whose digits are all even, so that a flip of one is the number of no other message.
fn even_digits(index: u32) -> u32 {
    assert!(index < 5_u32.pow(4), "there are more cases than numbers");
    (0..4)
        .map(|place| index / 5_u32.pow(place) % 5 * 2 * 10_u32.pow(place))
        .sum()
}

impl Cases {
    /// All damaged copies; `make` is given the number of each.
    pub fn of(&self, make: impl Fn(u32) -> Made) -> Vec<Case> {
        let length = make(self.first).bytes.len();
        let mut cases = Vec::new();
        let mut add =
            |what: String, damage: &dyn Fn(&mut Vec<u8>), hit: &dyn Fn(usize, usize) -> bool| {
                let number = self.first + even_digits(u32::try_from(cases.len()).expect("few"));
                let made = make(number);
                assert_eq!(made.bytes.len(), length, "each is as long as the first");
                let is_hit = made.heads.iter().any(|head| {
                    let mut windows = made.bytes.windows(head.len());
                    let at = windows.position(|window| window == head.as_bytes());
                    let at = at.unwrap_or_else(|| panic!("{head:?} is not in the message"));
                    hit(at, at + head.len())
                });
                let mut bytes = made.bytes;
                damage(&mut bytes);
                cases.push(Case {
                    number,
                    bytes,
                    is_whole: !is_hit,
                    what,
                });
            };
        for at in (0..length).step_by(self.step) {
            for flip in FLIPS {
                add(
                    format!("byte {at} flipped by {flip:#x}"),
                    &|bytes| bytes[at] ^= flip,
                    &|begin, end| (begin..end).contains(&at),
                );
            }
        }
        for cut in (1..length).step_by(self.step) {
            add(
                format!("cut at {cut}"),
                &|bytes| bytes.truncate(cut),
                &|_, end| cut < end,
            );
        }
        cases
    }
}

/// What the agent has counted of the messages of a source, by outcome.
pub struct Counted(BTreeMap<String, u64>);

impl Counted {
    pub async fn of(scene: &Equipped, source: &str) -> Result<Self> {
        let mut counted = BTreeMap::new();
        let label = format!("source=\"{source}\"");
        for line in scene.agent.metrics().await?.lines() {
            let Some(rest) = line.strip_prefix("linli_agent_source_messages_total{") else {
                continue;
            };
            let (labels, value) = rest.split_once("} ").context("a value")?;
            let outcome = labels
                .split(',')
                .find_map(|label| label.strip_prefix("outcome=\""))
                .context("an outcome")?
                .trim_end_matches('"');
            if labels.split(',').any(|found| found == label) {
                counted.insert(outcome.to_owned(), value.parse::<f64>()? as u64);
            }
        }
        Ok(Self(counted))
    }

    pub fn get(&self, outcome: &str) -> u64 {
        self.0.get(outcome).copied().unwrap_or(0)
    }

    /// All messages, with what the agent itself has told of their devices.
    pub fn all(&self) -> u64 {
        let is_of_messages =
            |outcome: &str| !outcome.starts_with("session_") && outcome != "catch_up_failed";
        let messages = self.0.iter().filter(|(outcome, _)| is_of_messages(outcome));
        messages.map(|(_, count)| count).sum()
    }
}

/// Whether the agent tells an event itself.
fn is_told_by_agent(event: &Event) -> bool {
    event.kind.starts_with("device.online")
        || event.kind.starts_with("device.offline")
        || event.kind.starts_with("device.clock")
}

/// What must have become of the messages of a source.
pub struct Expected<'e> {
    pub source: &'e str,
    /// Messages that were sent, whole ones too. Each is counted at least once.
    pub sent: usize,
    /// At most so many may be left out: those that damage can turn into a message that a named rule leaves out.
    pub left_out: usize,
    /// The numbers whose event must be there, each with what was done to it.
    pub events: Vec<(u32, String)>,
}

/// Checks that everything is accounted for. `number` finds the number of a message in its event.
pub async fn account(
    scene: &Equipped,
    expected: &Expected<'_>,
    number: impl Fn(&Event) -> Option<u32>,
) -> Result<()> {
    let source = expected.source;
    let mut found = String::new();
    let accounted = until("every message to be accounted for", async || {
        scene.agent.drained().await?;
        let stored = scene.stored(source).await?;
        let counted = Counted::of(scene, source).await?;
        let told = stored
            .iter()
            .filter(|stored| is_told_by_agent(&stored.event))
            .count();
        let there: HashSet<u32> = stored
            .iter()
            .filter_map(|stored| number(&stored.event))
            .collect();
        let missing: Vec<&str> = expected
            .events
            .iter()
            .filter(|(number, _)| !there.contains(number))
            .map(|(_, what)| what.as_str())
            .collect();
        found = format!("{:?}, without an event: {missing:?}", counted.0);
        let all = counted.all().saturating_sub(told as u64);
        Ok((all >= expected.sent as u64 && missing.is_empty()).then_some(counted))
    });
    let counted = accounted.await.with_context(|| {
        let standing = scene.source(source).unwrap_or_default();
        format!("{} sent; {found}; {standing:#}", expected.sent)
    })?;
    ensure!(
        counted.get("filtered") <= expected.left_out as u64,
        "{} left out, {} may be: {found}",
        counted.get("filtered"),
        expected.left_out
    );
    ensure!(counted.get("session_panicked") == 0, "{found}");
    let standing = scene.source(source)?;
    let samples = standing["samples"].as_array().context("samples")?;
    ensure!(
        counted.get("rejected") == 0 || samples.iter().any(|sample| sample["raw"] != ""),
        "rejects have samples: {standing:#}"
    );
    Ok(())
}

/// The events that must be there: those of whole cases.
pub fn whole(cases: &[Case]) -> Vec<(u32, String)> {
    let whole = cases.iter().filter(|case| case.is_whole);
    whole.map(|case| (case.number, case.what.clone())).collect()
}

/// The number behind the last of these letters.
pub fn behind(text: &str, letter: char) -> Option<u32> {
    text.rsplit(letter).next()?.parse().ok()
}
