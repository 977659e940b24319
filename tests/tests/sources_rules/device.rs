//! What a device of a type of source does, as far as the rules need it.
use anyhow::Result;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use linli_shared::protocol::event::Event;
use linli_tests::harness::Equipped;
use std::path::PathBuf;
use std::time::Duration;

/// The Chinese text of an alarm: a fire control room.
pub const ROOM: &str = "消防控制室";
const ROOM_GB18030: &[u8] = b"\xcf\xfb\xb7\xc0\xbf\xd8\xd6\xc6\xca\xd2";
/// What stands in all garbage, so that its sample is known again.
pub const GARBAGE: &str = "garbage";

/// A source and its one device, which has the same name.
#[derive(Debug, Clone)]
pub struct Place {
    pub name: &'static str,
    pub zone: TimeZone,
    /// Of the device's own files.
    pub directory: PathBuf,
}

/// In which encoding the text of an alarm is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    None,
    Utf8,
    Gb18030,
}

/// What a device has to tell.
#[derive(Debug, Clone)]
pub struct Alarm {
    /// No other of the test has it.
    pub number: u16,
    /// To the second.
    pub at: Timestamp,
    /// The device's clock is set to it.
    pub zone: TimeZone,
    pub text: Text,
}

impl Alarm {
    /// When it happened by the device's clock.
    pub fn local(&self) -> DateTime {
        self.zone.to_datetime(self.at)
    }

    pub fn words(&self) -> &'static str {
        match self.text {
            Text::None => "",
            Text::Utf8 | Text::Gb18030 => ROOM,
        }
    }

    /// A message that is in UTF-8, in the encoding of the alarm.
    pub fn encoded(&self, message: &str) -> Vec<u8> {
        if self.text != Text::Gb18030 {
            return message.as_bytes().to_vec();
        }
        let pieces: Vec<&[u8]> = message.split(ROOM).map(str::as_bytes).collect();
        pieces.join(ROOM_GB18030)
    }

    pub fn encoding(&self) -> &'static str {
        match self.text {
            Text::None | Text::Utf8 => "utf-8",
            Text::Gb18030 => "gb18030",
        }
    }
}

/// What came of saying something.
pub struct Said {
    /// The device was told within its time that the alarm is taken.
    pub answered: bool,
    /// What must be in the raw log, byte for byte.
    pub raw: Vec<u8>,
}

/// Which times a protocol has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The device's own, without a zone: it is of the source's.
    Local,
    /// The same, of the zone that the mapping says.
    Mapped,
    /// UTC, for a device in whatever zone.
    Utc,
    /// None: for this reason.
    None(&'static str),
}

/// A device. What cannot be with its protocol has the reason.
pub trait Device: Sized {
    /// `type` in the config.
    const TYPE: &'static str;
    const CLOCK: Clock;
    /// What tells it that an alarm is taken.
    const ANSWER: Result<&'static str, &'static str>;
    /// The attribute that its text comes to.
    const TEXT: Result<&'static str, &'static str>;
    /// It says again what was not answered. Else the agent has it, or has it waiting, and tries again.
    const REPEATS: bool;
    /// How long the far device may say nothing: longer than its signs of life are apart.
    const SILENT_AFTER: &'static str = "2s";
    /// What `status` counts when the same is said again.
    const COUNTED: &'static str = "repeated";

    /// `None`, and a word that the test is skipped, where what plays it is not installed.
    async fn start(place: &Place) -> Result<Option<Self>>;

    /// What `[[source]]` has beside the keys of all types.
    fn keys(&self) -> String;

    /// Files that these name.
    fn files(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Waits until the agent hears it.
    async fn ready(&mut self, _scene: &Equipped) -> Result<()> {
        Ok(())
    }

    /// Tells an alarm, and waits so long for an answer; again, the very same message.
    async fn say(&mut self, scene: &Equipped, alarm: &Alarm, wait: Duration) -> Result<Said>;

    /// Waits so long for the answer to what it said last: of those that have answers and do not say again what has none.
    async fn is_answered(&mut self, _wait: Duration) -> bool {
        false
    }

    /// Says what is none of its protocol; what its sample in `status` must have.
    async fn garbage(&mut self, scene: &Equipped) -> Result<&'static str>;

    /// Whether an event of its source is that of an alarm.
    fn is(&self, alarm: &Alarm, event: &Event) -> bool;

    /// Gives no sign of life from now on. Most say nothing but their alarms anyway.
    fn hush(&mut self) -> Result<()> {
        Ok(())
    }

    /// Gives them again.
    fn wake(&mut self) -> Result<()> {
        Ok(())
    }
}
