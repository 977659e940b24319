//! The status of a source as `linli-agent status` shows it, in memory only.
use linli_shared::service::clock;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::watch;

use super::device_clock;
use super::devices::{DEVICES_MAX, Devices};
use crate::intake::Way;
use crate::metrics::SourceFigures;

/// Type of sources that wait for pushes: they have no connection of their own.
pub const PUSH: &str = "push";
/// Rejected messages that are shown.
const SAMPLES_MAX: usize = 8;
/// Length of each sample, characters.
const SAMPLE_CHARS_MAX: usize = 256;
/// How long a broker may be away, or a port be taken, before it is reported.
pub const AWAY_AFTER_MS: u64 = 60_000;
/// Events without an id that are remembered until their messages come again.
const DONE_MAX: usize = 4096;
/// How long the message of such an event is expected. Later the same bytes are another message.
const DONE_FOR_MS: u64 = 10 * 60_000;
/// Devices whose clocks are off that are shown.
const CLOCKS_SHOWN_MAX: usize = 20;
/// Unknown devices that are shown.
const UNKNOWN_SHOWN_MAX: usize = 20;

/// The recorded status of a source.
pub struct SourceStatus {
    /// Its devices.
    pub devices: Devices,
    /// When the last message was received.
    pub last_message_ms: Option<i64>,
    /// Delay of the last event after its device's time.
    pub lag_ms: Option<i64>,
    peer: Option<String>,
    /// The source listens there and has no connection.
    listens: bool,
    judges: bool,
    since_ms: Option<i64>,
    /// Since when it is not connected, by the machine's monotonic clock.
    away_since_ms: Option<u64>,
    /// Its absence was reported.
    away_told: bool,
    last_error: Option<String>,
    /// Samples; those of messages that were refused whole each with its key.
    samples: VecDeque<(Option<String>, Sample)>,
    /// Batches in flight that have states, each with the ways that refused them once the spool has answered.
    flights: HashMap<u64, watch::Receiver<Option<Vec<Way>>>>,
    /// Events without an id that were stored by a batch that another lane refused in part, each with the time until
    /// which its message is expected; oldest first.
    done: VecDeque<(u64, u64)>,
}

/// A change of the source's own presence that is to be reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Away {
    /// The source has been away for [`AWAY_AFTER_MS`], for this reason: all its devices are unknown.
    Gone(String),
    /// The source is back.
    Back,
}

/// A message that could not be read. It stays on this box.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// Receipt.
    pub at: String,
    /// The fault of the message.
    pub reason: String,
    /// Beginning of the message; bytes that are no text appear as `\x..`.
    pub raw: String,
}

/// A device whose state is unknown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnknownDevice {
    /// Id.
    pub device: String,
    /// The last error.
    pub last_error: Option<String>,
}

/// A device whose clock is off.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClockOff {
    /// Id.
    pub device: String,
    /// How far it is behind, milliseconds; negative: ahead.
    pub offset_ms: i64,
    /// The same in words.
    pub words: String,
}

/// A source in the status.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SourceView {
    /// Name.
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The peer of its connection, or the address it listens on.
    pub connected: Option<String>,
    /// The source listens there: devices may connect or not.
    #[serde(default)]
    pub listens: bool,
    /// The silence of a device is reported.
    #[serde(default)]
    pub judges_silence: bool,
    /// Time of the last change of `connected`.
    pub since: Option<String>,
    /// Why the source is, or last was, not connected; for a push, why the last one was refused.
    pub last_error: Option<String>,
    /// Receipt of the last message.
    pub last_message: Option<String>,
    /// Delay of the last event after its device's time, milliseconds.
    pub lag_ms: Option<i64>,
    /// Events stored since the start.
    pub stored: u64,
    /// Signs of life.
    pub heartbeats: u64,
    /// Repeated events, and states that were already known.
    pub repeated: u64,
    /// Messages of no interest.
    pub left_out: u64,
    /// Unreadable messages.
    pub rejected: u64,
    /// Online devices.
    pub online: usize,
    /// Unknown devices.
    pub unknown: usize,
    /// Signs of life of devices beyond the limit, whose silence is not watched.
    #[serde(default)]
    pub unwatched: u64,
    /// The first unknown devices.
    pub unknown_devices: Vec<UnknownDevice>,
    /// Devices whose clock is off by more than `clock_bound`.
    #[serde(default)]
    pub clocks_off: usize,
    /// The first of these clocks, the largest offset first.
    #[serde(default)]
    pub clocks: Vec<ClockOff>,
    /// Events with the id of another event of the source.
    #[serde(default)]
    pub conflicts: u64,
    /// The last unreadable messages.
    pub samples: Vec<Sample>,
}

impl SourceStatus {
    /// The status of a source that has just been started.
    pub fn new(silent_after: Option<Duration>) -> Self {
        Self {
            devices: Devices::new(silent_after),
            last_message_ms: None,
            lag_ms: None,
            peer: None,
            listens: false,
            judges: silent_after.is_some(),
            since_ms: None,
            away_since_ms: None,
            away_told: false,
            last_error: None,
            samples: VecDeque::new(),
            flights: HashMap::new(),
            done: VecDeque::new(),
        }
    }

    /// Begins a batch with states in flight; `settled` carries its outcome.
    pub fn begin_flight(&mut self, batch: u64, settled: watch::Receiver<Option<Vec<Way>>>) {
        self.flights.insert(batch, settled);
    }

    /// The outcome of a batch in flight.
    pub fn flight(&self, batch: u64) -> Option<watch::Receiver<Option<Vec<Way>>>> {
        self.flights.get(&batch).cloned()
    }

    /// Ends a batch.
    pub fn end_flight(&mut self, batch: u64) {
        self.flights.remove(&batch);
    }

    /// Whether an event without an id was stored by an earlier try.
    pub fn is_done(&self, print: u64, now_ms: u64) -> bool {
        let mut done = self.done.iter();
        done.any(|(known, until_ms)| *known == print && now_ms < *until_ms)
    }

    /// Adds stored events whose messages will arrive again: another lane refused its part.
    pub fn add_done(&mut self, prints: impl IntoIterator<Item = u64>, now_ms: u64) {
        for print in prints {
            if self.done.len() >= DONE_MAX {
                self.done.pop_front();
            }
            self.done.push_back((print, now_ms + DONE_FOR_MS));
        }
    }

    /// Removes events whose messages arrived again and are now complete.
    pub fn remove_done(&mut self, prints: &[u64]) {
        if !prints.is_empty() {
            self.done.retain(|(print, _)| !prints.contains(print));
        }
    }

    /// Records that the source is connected or listens.
    pub fn up(&mut self, peer: &str, now_ms: i64) {
        self.away_since_ms = None;
        self.peer = Some(peer.to_owned());
        self.listens = false;
        self.since_ms = Some(now_ms);
    }

    /// Records that the source listens there; no device may have connected yet.
    pub fn listening(&mut self, address: &str, now_ms: i64) {
        self.up(address, now_ms);
        self.listens = true;
    }

    /// Records that the source is not connected.
    pub fn down(&mut self, why: &str, now_ms: i64, monotonic_ms: u64) {
        if self.peer.take().is_some() || self.since_ms.is_none() {
            self.since_ms = Some(now_ms);
        }
        self.away_since_ms.get_or_insert(monotonic_ms);
        self.last_error = Some(why.to_owned());
    }

    /// The unreported change of the source's own presence.
    pub fn away(&self, now_ms: u64) -> Option<Away> {
        match self.away_since_ms {
            Some(since_ms)
                if !self.away_told && now_ms.saturating_sub(since_ms) >= AWAY_AFTER_MS =>
            {
                Some(Away::Gone(self.last_error.clone().unwrap_or_default()))
            }
            None if self.away_told => Some(Away::Back),
            _ => None,
        }
    }

    /// Records that this change was reported.
    pub fn told_away(&mut self, away: &Away) {
        self.away_told = matches!(away, Away::Gone(_));
    }

    /// Whether the source is connected or listens.
    pub fn is_up(&self) -> bool {
        self.peer.is_some()
    }

    /// Adds a message to samples that are not recorded yet, bounded as the recorded ones are.
    pub fn sample(samples: &mut Vec<(String, Vec<u8>)>, reason: &str, raw: &[u8]) {
        if samples.len() < SAMPLES_MAX {
            let kept = &raw[..raw.len().min(SAMPLE_CHARS_MAX)];
            samples.push((reason.to_owned(), kept.to_vec()));
        }
    }

    /// Records an unreadable message.
    pub fn reject(&mut self, at_ms: i64, reason: String, raw: &[u8]) {
        self.keep(None, at_ms, reason, raw);
    }

    fn keep(&mut self, key: Option<String>, at_ms: i64, reason: String, raw: &[u8]) {
        while self.samples.len() >= SAMPLES_MAX {
            self.samples.pop_front();
        }
        let sample = Sample {
            at: clock::rfc3339(at_ms),
            reason,
            raw: shown(raw, SAMPLE_CHARS_MAX),
        };
        self.samples.push_back((key, sample));
    }

    /// Records a message that was refused whole. Each `key` has one sample, the latest, so an unauthenticated sender
    /// cannot evict other samples: a key is a kind of refusal, and senders cannot invent keys.
    pub fn refused(&mut self, at_ms: i64, key: &str, reason: &str, raw: &[u8]) {
        self.samples
            .retain(|(known, _)| known.as_deref() != Some(key));
        self.keep(Some(key.to_owned()), at_ms, reason.to_owned(), raw);
        self.last_error = Some(reason.to_owned());
    }

    /// Clears the last error.
    pub fn error_is_over(&mut self) {
        self.last_error = None;
    }

    /// The source as the status shows it.
    pub fn view(
        &self,
        name: &str,
        kind: &str,
        clock_bound_ms: i64,
        figures: &SourceFigures,
    ) -> SourceView {
        let count = self.devices.count();
        let clocks = self.devices.clocks_off(clock_bound_ms);
        let unknown = self.devices.unknown(UNKNOWN_SHOWN_MAX);
        SourceView {
            name: name.to_owned(),
            kind: kind.to_owned(),
            connected: self.peer.clone(),
            listens: self.listens,
            judges_silence: self.judges,
            since: self.since_ms.map(clock::rfc3339),
            last_error: self.last_error.clone(),
            last_message: self.last_message_ms.map(clock::rfc3339),
            lag_ms: self.lag_ms,
            stored: figures.stored.get(),
            heartbeats: figures.heartbeat.get(),
            repeated: figures.repeated.get() + figures.doubled.get(),
            left_out: figures.filtered.get(),
            rejected: figures.rejected.get(),
            online: count.online,
            unknown: count.unknown,
            unwatched: self.devices.overflow(),
            unknown_devices: unknown
                .into_iter()
                .map(|(device, last_error)| UnknownDevice { device, last_error })
                .collect(),
            clocks_off: clocks.len(),
            clocks: clocks
                .into_iter()
                .take(CLOCKS_SHOWN_MAX)
                .map(|(device, offset_ms)| ClockOff {
                    device: device.to_owned(),
                    offset_ms,
                    words: device_clock::words(offset_ms),
                })
                .collect(),
            conflicts: figures.conflicts.get(),
            samples: self
                .samples
                .iter()
                .map(|(_, sample)| sample.clone())
                .collect(),
        }
    }
}

impl SourceView {
    /// Lines of `status`.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "数据源 source {} ({}): {}  最近消息 last message {}  事件 events {}  心跳 heartbeats {}  拒绝 rejected {}",
            self.name,
            self.kind,
            match &self.connected {
                _ if self.kind == PUSH => "等待推送 waiting for pushes".to_owned(),
                Some(address) if self.listens => format!("正在监听 listening on {address}"),
                Some(peer) => format!("已连接 connected to {peer}"),
                None if self.online > 0 => "有设备在线 devices are heard".to_owned(),
                None => "未连接 not connected".to_owned(),
            },
            self.last_message.as_deref().unwrap_or("-"),
            self.stored,
            self.heartbeats,
            self.rejected,
        )];
        if self.online + self.unknown > 0 || !self.judges_silence {
            let silence = if self.judges_silence {
                ""
            } else {
                "  静默 silence: 不判断 not judged (silent_after)"
            };
            lines.push(format!(
                "  设备 devices: 在线 online {}  未知 unknown {}{silence}",
                self.online, self.unknown
            ));
        }
        if self.unwatched > 0 {
            lines.push(format!(
                "  设备过多，超出部分不判断离线 too many devices: of those beyond {DEVICES_MAX} silence is not told"
            ));
        }
        for device in &self.unknown_devices {
            let why = device
                .last_error
                .as_deref()
                .unwrap_or("没有消息 nothing is heard of it");
            lines.push(format!("    {}: {why}", device.device));
        }
        if self.clocks_off > 0 {
            lines.push(format!(
                "  时钟不准的设备 devices whose clock is off: {}",
                self.clocks_off
            ));
        }
        for clock in &self.clocks {
            lines.push(format!("    {}: {}", clock.device, clock.words));
        }
        if self.conflicts > 0 {
            lines.push(format!(
                "  同一编号、内容不同 same id, other content: {}（均已入库 all stored）",
                self.conflicts
            ));
        }
        if self.connected.is_none()
            && let Some(error) = &self.last_error
        {
            lines.push(format!("  最近错误 last error: {error}"));
        }
        if let Some(sample) = self.samples.last() {
            lines.push(format!(
                "  最近拒绝 last rejected {}: {}",
                sample.at, sample.reason
            ));
        }
        lines
    }
}

/// Renders bytes as one line of text, at most this many characters.
pub fn shown(raw: &[u8], chars_max: usize) -> String {
    let mut text = linli_devices::text::lossy(raw);
    if text.contains(char::REPLACEMENT_CHARACTER) {
        let mut escaped = String::new();
        for chunk in raw.utf8_chunks() {
            escaped.push_str(chunk.valid());
            for byte in chunk.invalid() {
                escaped.push_str(&format!("\\x{byte:02x}"));
            }
        }
        text = escaped.into();
    }
    let mut out = String::new();
    for letter in text.chars().take(chars_max) {
        match letter {
            '\n' | '\r' | '\t' => out.push(letter),
            letter if letter.is_control() => out.push_str(&format!("\\x{:02x}", letter as u32)),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn a_source_that_is_away_is_told_once_and_so_is_its_return() {
        let mut book = SourceStatus::new(None);
        assert_eq!(book.away(0), None);
        book.down("no broker", 0, 1_000);
        book.down("still none", 0, 30_000);
        assert_eq!(book.away(1_000 + AWAY_AFTER_MS - 1), None);
        let gone = Away::Gone("still none".to_owned());
        assert_eq!(book.away(1_000 + AWAY_AFTER_MS), Some(gone.clone()));
        // The spool refused the event: it is reported later.
        assert_eq!(book.away(1_000 + 2 * AWAY_AFTER_MS), Some(gone.clone()));
        book.told_away(&gone);
        assert_eq!(book.away(1_000 + 3 * AWAY_AFTER_MS), None);
        book.up("broker", 0);
        assert_eq!(book.away(0), Some(Away::Back));
        book.told_away(&Away::Back);
        assert_eq!(book.away(0), None);
        // A source that is back in time is not reported.
        book.down("no broker", 0, 0);
        book.up("broker", 0);
        assert_eq!(book.away(AWAY_AFTER_MS), None);
    }

    fn first_lines(kind: &str, silent_after: Option<Duration>, up: Option<(&str, bool)>) -> String {
        let metrics = Metrics::new().expect("figures");
        let mut book = SourceStatus::new(silent_after);
        match up {
            Some((address, true)) => book.listening(address, 0),
            Some((peer, false)) => book.up(peer, 0),
            None => {}
        }
        let view = book.view("s", kind, 120_000, &metrics.source("s"));
        view.lines().join("\n")
    }

    #[test]
    fn only_what_the_agent_connects_to_is_connected() {
        let minute = Some(Duration::from_secs(60));
        let listens = first_lines("gb26875", minute, Some(("tcp 0.0.0.0:5200", true)));
        assert!(
            listens.contains("正在监听 listening on tcp 0.0.0.0:5200"),
            "{listens}"
        );
        let connects = first_lines("mqtt", minute, Some(("mqtt://h:1883", false)));
        assert!(
            connects.contains("已连接 connected to mqtt://h:1883"),
            "{connects}"
        );
        let away = first_lines("mqtt", minute, None);
        assert!(away.contains("未连接 not connected"), "{away}");
        let push = first_lines("push", minute, None);
        assert!(push.contains("等待推送 waiting for pushes"), "{push}");
    }

    #[test]
    fn where_silence_is_not_judged_the_status_says_so() {
        let judged = first_lines("mqtt", Some(Duration::from_secs(60)), None);
        assert!(!judged.contains("不判断"), "{judged}");
        let not = first_lines("mqtt", None, None);
        assert!(not.contains("不判断 not judged"), "{not}");
    }
}
