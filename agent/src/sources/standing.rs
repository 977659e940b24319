//! How a source stands: what `linli-agent status` shows of it, in memory only.
use linli_shared::service::clock;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

use super::devices::{DEVICES_MAX, Devices};
use crate::metrics::SourceFigures;

/// Rejected messages that are shown.
const SAMPLES_MAX: usize = 8;
/// Of each, characters.
const SAMPLE_CHARS_MAX: usize = 256;
/// Devices of which nothing is known that are shown.
const UNKNOWN_SHOWN_MAX: usize = 20;

/// What is written down of a source.
pub struct Book {
    /// Its devices.
    pub devices: Devices,
    /// When the last message was received.
    pub last_message_ms: Option<i64>,
    /// By how much the last event came after its device's time.
    pub lag_ms: Option<i64>,
    peer: Option<String>,
    since_ms: Option<i64>,
    last_error: Option<String>,
    /// Those of messages that were refused whole each with its key.
    samples: VecDeque<(Option<String>, Sample)>,
}

/// A message that could not be read. It stays on this box.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// Receipt.
    pub at: String,
    /// What is wrong with it.
    pub reason: String,
    /// Its beginning; bytes that are no text stand as `\x..`.
    pub raw: String,
}

/// A device of which nothing is known.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnknownDevice {
    /// Id.
    pub device: String,
    /// What went wrong last.
    pub last_error: Option<String>,
}

/// A source in the status.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SourceView {
    /// Name.
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is connected to or listens on.
    pub connected: Option<String>,
    /// Since when it is so, or not so.
    pub since: Option<String>,
    /// Why it is not, or was not last; of a push, why the last one was refused.
    pub last_error: Option<String>,
    /// Receipt of the last message.
    pub last_message: Option<String>,
    /// By how much the last event came after its device's time, milliseconds.
    pub lag_ms: Option<i64>,
    /// Events that were stored since the start.
    pub stored: u64,
    /// Signs of life.
    pub heartbeats: u64,
    /// Events that came again, and states that were known.
    pub repeated: u64,
    /// Messages of no interest.
    pub left_out: u64,
    /// Messages that could not be read.
    pub rejected: u64,
    /// Devices that are heard.
    pub online: usize,
    /// Devices of which nothing is known.
    pub unknown: usize,
    /// Signs of life of devices beyond the limit, over which nobody watches.
    #[serde(default)]
    pub unwatched: u64,
    /// The first of them.
    pub unknown_devices: Vec<UnknownDevice>,
    /// The last messages that could not be read.
    pub samples: Vec<Sample>,
}

impl Book {
    /// Of a source that has just been started.
    pub fn new(silent_after: Option<Duration>) -> Self {
        Self {
            devices: Devices::new(silent_after),
            last_message_ms: None,
            lag_ms: None,
            peer: None,
            since_ms: None,
            last_error: None,
            samples: VecDeque::new(),
        }
    }

    /// It is connected, or listens.
    pub fn up(&mut self, peer: &str, now_ms: i64) {
        self.peer = Some(peer.to_owned());
        self.since_ms = Some(now_ms);
    }

    /// It is not.
    pub fn down(&mut self, why: &str, now_ms: i64) {
        if self.peer.take().is_some() || self.since_ms.is_none() {
            self.since_ms = Some(now_ms);
        }
        self.last_error = Some(why.to_owned());
    }

    /// It is connected, or listens.
    pub fn is_up(&self) -> bool {
        self.peer.is_some()
    }

    /// Adds a message to samples on their way to the book, which are bounded as the book's are.
    pub fn sample(samples: &mut Vec<(String, Vec<u8>)>, reason: &str, raw: &[u8]) {
        if samples.len() < SAMPLES_MAX {
            let kept = &raw[..raw.len().min(SAMPLE_CHARS_MAX)];
            samples.push((reason.to_owned(), kept.to_vec()));
        }
    }

    /// Writes down a message that could not be read.
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

    /// A message was refused whole. Each `key` has one sample, the last of it, so that who has no business here cannot push
    /// out the others: it is what kind of refusal it is, and nothing that a sender can make as many of as it likes.
    pub fn refused(&mut self, at_ms: i64, key: &str, reason: &str, raw: &[u8]) {
        self.samples
            .retain(|(known, _)| known.as_deref() != Some(key));
        self.keep(Some(key.to_owned()), at_ms, reason.to_owned(), raw);
        self.last_error = Some(reason.to_owned());
    }

    /// What was wrong last is over.
    pub fn error_is_over(&mut self) {
        self.last_error = None;
    }

    /// As the status shows it.
    pub fn view(&self, name: &str, kind: &str, figures: &SourceFigures) -> SourceView {
        let count = self.devices.count();
        let unknown = self.devices.unknown(UNKNOWN_SHOWN_MAX);
        SourceView {
            name: name.to_owned(),
            kind: kind.to_owned(),
            connected: self.peer.clone(),
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
                Some(peer) => format!("已连接 connected to {peer}"),
                None if self.online > 0 => "有设备在线 devices are heard".to_owned(),
                None => "未连接 not connected".to_owned(),
            },
            self.last_message.as_deref().unwrap_or("-"),
            self.stored,
            self.heartbeats,
            self.rejected,
        )];
        if self.online + self.unknown > 0 {
            lines.push(format!(
                "  设备 devices: 在线 online {}  未知 unknown {}",
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

/// Bytes as one line of text, at most so many characters of it.
pub fn shown(raw: &[u8], chars_max: usize) -> String {
    let text = super::text::decode(raw).unwrap_or_else(|| {
        let mut out = String::new();
        for chunk in raw.utf8_chunks() {
            out.push_str(chunk.valid());
            for byte in chunk.invalid() {
                out.push_str(&format!("\\x{byte:02x}"));
            }
        }
        out.into()
    });
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
