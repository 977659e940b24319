//! The table: what a device's clock shows, and what becomes of its alarms.
//!
//! | | live | replayed, its clock known | replayed, its clock not known | hub away for an hour |
//! | --- | --- | --- | --- | --- |
//! | `occurred_at`, quality | [`Row::live`] | [`Row::replayed`] | [`Row::unheard`] | as live |
//! | an alarm about life | pages | tells the desk as 补报 with its age | the same | the same |
//! | another alarm | pages | pages nobody | pages nobody | pages nobody |
use linli_shared::protocol::event::ClockQuality;
use linli_tests::harness::{DAY_MS, MINUTE_MS, SECOND_MS, now_ms};
use std::sync::LazyLock;

use At::{Claim, Receipt, Then};
use Shows::{Behind, Garbage, Nothing, Of1970};

const HOUR_MS: i64 = 60 * MINUTE_MS;

/// What the clock of a device shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// The time of so long ago; negative: a time ahead.
    Behind(i64),
    /// It began in 1970, two hours ago.
    Of1970,
    /// The device gives no time.
    Nothing,
    /// A text that is no time.
    Garbage,
}

/// Which time an event is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// What the device claims.
    Claim,
    /// When the gateway received it.
    Receipt,
    /// When it happened: the claim, corrected by what is known of the device's clock.
    Then,
}

/// The time of an event, and the quality that it is shown with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub at: At,
    pub clock: ClockQuality,
}

const fn verdict(at: At, clock: ClockQuality) -> Verdict {
    Verdict { at, clock }
}

/// The claim is believed.
pub const CLAIMED: Verdict = verdict(Claim, ClockQuality::Device);
/// The device's clock is off.
pub const OFF: Verdict = verdict(Receipt, ClockQuality::Receipt);
/// The device's clock is off, and by how much is known.
pub const SHIFTED: Verdict = verdict(Then, ClockQuality::Shifted);
/// There is no claim.
pub const NO_CLAIM: Verdict = verdict(Receipt, ClockQuality::Agent);
/// There is a claim that nobody can read.
pub const UNREADABLE: Verdict = verdict(Receipt, ClockQuality::Unknown);
/// The gateway's clock was not synchronised: the hub knows when it received this.
pub const CORRECTED: Verdict = verdict(Receipt, ClockQuality::Corrected);
/// It has the right time, by whatever rule.
pub const RIGHT: Verdict = verdict(Then, ClockQuality::Other);
/// The claim cannot be.
pub const IMPOSSIBLE: Verdict = verdict(Receipt, ClockQuality::Implausible);

/// A device and its clock.
#[derive(Debug)]
pub struct Row {
    pub device: &'static str,
    /// Live messages, one after the other: what its clock shows, and what becomes of the event.
    pub live: &'static [(Shows, Verdict)],
    /// A message after them that reports what happened half an hour before.
    pub replayed: Verdict,
    /// The same from a device that was not heard live before.
    pub unheard: Verdict,
    /// What `device.clock` says, which is told once; `None`: nothing is told.
    pub told: Option<&'static str>,
    /// `device.clock_restored` is told.
    pub restored: bool,
}

const fn row(
    device: &'static str,
    live: &'static [(Shows, Verdict)],
    replayed: Verdict,
    unheard: Verdict,
    told: Option<&'static str>,
) -> Row {
    Row {
        device,
        live,
        replayed,
        unheard,
        told,
        restored: false,
    }
}

#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    //  device        live                                                         replayed    not heard   told once
    row("right",      &[(Behind(0), CLAIMED)],                                     CLAIMED,    CLAIMED,    None),
    row("slow-16m",   &[(Behind(16 * MINUTE_MS), OFF)],                            SHIFTED,    CLAIMED,    Some("慢 16 分")),
    row("slow-8h",    &[(Behind(8 * HOUR_MS), OFF)],                               SHIFTED,    CLAIMED,    Some("8 小时：设备的时区？")),
    row("slow-8d",    &[(Behind(8 * DAY_MS), OFF)],                                SHIFTED,    CLAIMED,    Some("慢 8 天")),
    row("ahead-3y",   &[(Behind(-1095 * DAY_MS), OFF)],                            SHIFTED,    IMPOSSIBLE, Some("快 1095 天")),
    row("1970",       &[(Of1970, OFF)],                                            SHIFTED,    IMPOSSIBLE, Some("慢 2")),
    row("drifting",   &[(Behind(0), CLAIMED), (Behind(-70 * SECOND_MS), CLAIMED), (Behind(-130 * SECOND_MS), OFF)],
                                                                                   SHIFTED,    CLAIMED,    Some("快 2 分")),
    Row { restored: true, ..
    row("stepped",    &[(Behind(16 * MINUTE_MS), OFF), (Behind(0), CLAIMED)],      CLAIMED,    CLAIMED,    Some("慢 16 分")) },
    row("no-time",    &[(Nothing, NO_CLAIM)],                                      NO_CLAIM,   NO_CLAIM,   None),
    row("unreadable", &[(Garbage, UNREADABLE)],                                    UNREADABLE, UNREADABLE, None),
];

/// A clock that loses time: its second message may as well have been held up, and the last comes when it is known to be off.
#[rustfmt::skip]
pub const LOSING: Row =
    row("losing",     &[(Behind(0), CLAIMED), (Behind(140 * SECOND_MS), CLAIMED), (Behind(140 * SECOND_MS), OFF)],
                                                                                   SHIFTED,    CLAIMED,    Some("慢 2 分"));

/// The row of a device.
pub fn of(device: &str) -> &'static Row {
    let mut rows = TABLE.iter();
    rows.find(|row| row.device == device)
        .expect("a row of the table")
}

impl Shows {
    /// By how much the clock is behind, if it shows a time.
    pub fn behind_ms(self) -> Option<i64> {
        static SINCE_1970_MS: LazyLock<i64> = LazyLock::new(|| now_ms() - 2 * HOUR_MS);
        match self {
            Behind(behind_ms) => Some(behind_ms),
            Of1970 => Some(*SINCE_1970_MS / SECOND_MS * SECOND_MS),
            Nothing | Garbage => None,
        }
    }
}

/// How long ago it happened what a message reports of the past.
pub const AGO_MS: i64 = 30 * MINUTE_MS;

/// How a message reaches the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// At once: the message of this number in [`Row::live`].
    Live(usize),
    /// It reports the past, after the live ones.
    Replayed,
    /// It reports the past, of a device that was not heard live.
    Unheard,
    /// It was live, and the hub was away for an hour.
    Offline,
}

/// What a message says of its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    Ms(i64),
    Nothing,
    Garbage,
}

/// One alarm of a row.
#[derive(Debug, Clone)]
pub struct Message {
    pub row: &'static Row,
    pub way: Way,
    /// No other message of the test has it.
    pub number: u32,
    /// When it happened, to the second.
    pub then_ms: i64,
    pub said: Said,
    /// `None`: any.
    pub verdict: Option<Verdict>,
    /// How far its claim may be from what is said: a device that has a clock of its own says its time.
    pub near_ms: i64,
    /// Of its device, see `Scene::round`.
    pub round: u32,
    /// Else it is of an alarm that the desk is not told of where it is late.
    pub about_life: bool,
}

impl Message {
    /// What a device of this row has to say now; what is replayed happened so long ago.
    pub fn new(row: &'static Row, way: Way, number: u32, replayed_ms: i64) -> Self {
        let (shows, live) = match way {
            Way::Live(step) => row.live[step],
            _ => row.live[row.live.len() - 1],
        };
        let (ago_ms, verdict) = match way {
            Way::Live(_) | Way::Offline => (0, live),
            Way::Replayed => (replayed_ms, row.replayed),
            Way::Unheard => (replayed_ms, row.unheard),
        };
        let then_ms = now_ms() / SECOND_MS * SECOND_MS - ago_ms;
        let said = match (shows, shows.behind_ms()) {
            (Garbage, _) => Said::Garbage,
            (_, None) => Said::Nothing,
            (_, Some(behind_ms)) => Said::Ms(then_ms - behind_ms),
        };
        Self {
            row,
            way,
            number,
            then_ms,
            said,
            verdict: Some(verdict),
            near_ms: 0,
            round: 0,
            about_life: true,
        }
    }

    /// The device: one that was not heard live is another one.
    pub fn device(&self) -> String {
        match self.way {
            Way::Unheard => format!("{}-unheard", self.row.device),
            _ => self.row.device.to_owned(),
        }
    }

    /// It reports the past.
    pub fn is_replayed(&self) -> bool {
        matches!(self.way, Way::Replayed | Way::Unheard)
    }

    /// The desk is told as 补报.
    pub fn is_late(&self) -> bool {
        self.is_replayed() || self.way == Way::Offline
    }

    /// The desk is told, at once or as 补报.
    pub fn is_told(&self) -> bool {
        self.about_life || !self.is_late()
    }

    /// The claim as a text of this format in China, or what is none.
    pub fn text(&self, format: &str) -> anyhow::Result<Option<String>> {
        Ok(match self.said {
            Said::Ms(ms) => {
                let time = jiff::Timestamp::from_millisecond(ms)?.in_tz("Asia/Shanghai")?;
                Some(time.strftime(format).to_string())
            }
            Said::Nothing => None,
            Said::Garbage => Some(GARBAGE.to_owned()),
        })
    }
}

/// What stands where a time is to be.
pub const GARBAGE: &str = "half past nine";
