//! The hub's own clock: whether it is believed, and what the time is while it is not.
//!
//! What a wrong clock does cannot be undone: retention deletes, certificates and tokens expire, what nobody acknowledged is
//! passed on. So a clock that stepped by more than a bound, or that the kernel does not call synchronised, is *doubtful*:
//! that is held until a person says so (`linli-hub clock trust`), or the clock is where it belongs again. Storing and paging
//! go on all the while.
//!
//! ```text
//! writer ─ every second ─▶ ClockGuard::look ─▶ ClockState ─ published ▶ sessions, API, retention, readyz
//!    ▲ trust, what is kept (the store's `hub_clock`)
//! ```
//!
//! * **Hub time** goes on evenly over a step, by the monotonic clock, until a person trusts the new time. Events are stored
//!   and judged by it.
//! * **Known time** is what has passed for certain since the clock was last believed. While it is doubtful, nothing expires
//!   but by known time.
//! * Over a restart within one boot a step is seen by the monotonic clock; after another boot a clock that is behind the last
//!   commit, or far ahead of it and not synchronised.
use linli_shared::service::config::Span;
use serde::Deserialize;

/// The number of a boot whose id the kernel does not give: no two are equal.
pub const UNKNOWN_BOOT: i64 = 0;

/// Off for longer, the hub has a person look at a clock that is not synchronised, milliseconds.
const AWAY_MS_MAX: i64 = 30 * 86_400_000;

/// `[clock]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockConfig {
    /// What a kernel means that does not call its clock synchronised.
    pub unsynchronised: Unsynchronised,
    /// A step of more makes the clock doubtful.
    pub step: Span,
}

impl Default for ClockConfig {
    fn default() -> Self {
        Self {
            unsynchronised: Unsynchronised::Doubt,
            step: Span::from_secs(300),
        }
    }
}

/// What a kernel means that does not call its clock synchronised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unsynchronised {
    /// The clock is doubtful.
    Doubt,
    /// Something else keeps it, like the host of a virtual machine.
    Trust,
}

/// The clocks of the machine at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    pub wall_ms: i64,
    pub monotonic_ms: u64,
    /// The kernel says so.
    pub synchronised: bool,
}

/// A wall time with the monotonic time of the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    pub wall_ms: i64,
    pub monotonic_ms: u64,
}

impl Anchor {
    fn of(reading: Reading) -> Self {
        Self {
            wall_ms: reading.wall_ms,
            monotonic_ms: reading.monotonic_ms,
        }
    }

    /// The wall time when the monotonic clock says this.
    fn at(self, monotonic_ms: u64) -> i64 {
        let since_ms = monotonic_ms.cast_signed() - self.monotonic_ms.cast_signed();
        self.wall_ms.saturating_add(since_ms)
    }
}

/// Why the clock is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// It stepped, against the time since it was last believed.
    Stepped {
        /// By how much.
        by_ms: i64,
    },
    /// The hub was off for very long, or the clock is far ahead.
    Away {
        /// Since the last commit.
        by_ms: i64,
    },
    /// The kernel does not call it synchronised.
    Unsynchronised,
}

impl Doubt {
    /// All words of figures.
    pub const WORDS: [&str; 3] = ["stepped", "away", "unsynchronised"];

    /// The word in figures and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stepped { .. } => Self::WORDS[0],
            Self::Away { .. } => Self::WORDS[1],
            Self::Unsynchronised => Self::WORDS[2],
        }
    }

    /// What is wrong, for people.
    pub fn words(self) -> String {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        match self {
            Self::Stepped { by_ms } => format!(
                "时钟跳变 {0:+.1} 秒 the clock stepped by {0:+.1} s",
                seconds(by_ms)
            ),
            Self::Away { by_ms } => format!(
                "距上次写库 {0:.0} 天且未同步 {0:.0} days since the last commit, and not synchronised",
                by_ms as f64 / 86_400_000.0
            ),
            Self::Unsynchronised => {
                "内核称时钟未同步 the kernel does not call the clock synchronised".to_owned()
            }
        }
    }
}

/// What is kept over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptClock {
    /// The boot in which it was written.
    pub boot: i64,
    /// Known time.
    pub known: Anchor,
}

/// How the clock stands. A copy is with everybody who asks for the time, so that a step shows at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockState {
    /// Hub time.
    hub: Anchor,
    /// Known time.
    known: Anchor,
    step_ms_max: i64,
    away_ms: Option<i64>,
    is_unsynchronised: bool,
    /// How often a person has trusted the clock since the start: what was compared with it before says nothing any more.
    pub trusts: u64,
}

impl ClockState {
    fn step_ms(&self, reading: Reading) -> Option<i64> {
        let by_ms = reading
            .wall_ms
            .saturating_sub(self.hub.at(reading.monotonic_ms));
        (by_ms.saturating_abs() > self.step_ms_max).then_some(by_ms)
    }

    /// Why the clock is not believed; `None`: it is.
    pub fn doubt(&self, reading: Reading) -> Option<Doubt> {
        if let Some(by_ms) = self.step_ms(reading) {
            return Some(Doubt::Stepped { by_ms });
        }
        if let Some(by_ms) = self.away_ms {
            return Some(Doubt::Away { by_ms });
        }
        self.is_unsynchronised.then_some(Doubt::Unsynchronised)
    }

    /// Hub time, milliseconds since 1970 UTC.
    pub fn hub_ms(&self, reading: Reading) -> i64 {
        match self.step_ms(reading) {
            Some(_) => self.hub.at(reading.monotonic_ms),
            None => reading.wall_ms,
        }
    }

    /// The time by which things expire, milliseconds since 1970 UTC: known time, while the clock is doubtful.
    pub fn expiry_ms(&self, reading: Reading) -> i64 {
        match self.doubt(reading) {
            Some(_) => self.known.at(reading.monotonic_ms),
            None => reading.wall_ms,
        }
    }
}

/// Decides about the clock. The writer has the one of a hub.
#[derive(Debug)]
pub struct ClockGuard {
    state: ClockState,
    boot: i64,
    unsynchronised: Unsynchronised,
    /// A person has trusted it as it is, until the kernel calls it synchronised.
    is_trusted: bool,
}

impl ClockGuard {
    /// With what was kept by the hub before, if there was one.
    /// `boot` is the number of this boot, or [`UNKNOWN_BOOT`].
    pub fn new(config: &ClockConfig, reading: Reading, boot: i64, kept: Option<KeptClock>) -> Self {
        let now = Anchor::of(reading);
        let mut state = ClockState {
            hub: now,
            known: now,
            step_ms_max: config.step.as_millis(),
            away_ms: None,
            is_unsynchronised: false,
            trusts: 0,
        };
        if let Some(kept) = kept {
            let of_boot = Anchor {
                monotonic_ms: reading.monotonic_ms,
                ..kept.known
            };
            let is_same = boot != UNKNOWN_BOOT
                && kept.boot == boot
                && kept.known.monotonic_ms <= reading.monotonic_ms;
            state.known = if is_same { kept.known } else { of_boot };
            let off_ms = reading
                .wall_ms
                .saturating_sub(state.known.at(reading.monotonic_ms));
            // Time has passed between two boots, nobody knows how much; it has not gone back.
            if is_same || off_ms < 0 {
                state.hub = state.known;
            } else if off_ms > AWAY_MS_MAX && !reading.synchronised {
                state.away_ms = Some(off_ms);
            }
        }
        let mut guard = Self {
            state,
            boot,
            unsynchronised: config.unsynchronised,
            is_trusted: false,
        };
        guard.look(reading);
        guard
    }

    /// Takes the clocks of this moment in; how they stand.
    pub fn look(&mut self, reading: Reading) -> ClockState {
        if reading.synchronised {
            self.is_trusted = false;
            self.state.away_ms = None;
        }
        self.state.is_unsynchronised = !reading.synchronised
            && !self.is_trusted
            && self.unsynchronised == Unsynchronised::Doubt;
        if self.state.step_ms(reading).is_none() {
            self.state.hub = Anchor::of(reading);
        }
        if self.state.doubt(reading).is_none() {
            self.state.known = Anchor::of(reading);
        }
        self.state
    }

    /// A person says that the clock is right. Gives the hub time of before where it jumps, and that of now.
    pub fn trust(&mut self, reading: Reading) -> Option<(i64, i64)> {
        let before_ms = self.state.hub_ms(reading);
        self.is_trusted = !reading.synchronised;
        self.state.away_ms = None;
        self.state.hub = Anchor::of(reading);
        self.state.trusts += 1;
        self.look(reading);
        (before_ms != reading.wall_ms).then_some((before_ms, reading.wall_ms))
    }

    /// How the clock stands.
    pub fn state(&self) -> ClockState {
        self.state
    }

    /// What the next start is to know.
    pub fn kept(&self, reading: Reading) -> KeptClock {
        KeptClock {
            boot: self.boot,
            known: Anchor {
                wall_ms: self.state.expiry_ms(reading),
                monotonic_ms: reading.monotonic_ms,
            },
        }
    }
}

/// The time as one transaction takes it.
#[derive(Debug, Clone, Copy)]
pub struct HubTime {
    /// Hub time, milliseconds since 1970 UTC.
    pub now_ms: i64,
    /// By which things expire.
    pub expiry_ms: i64,
    /// The clock is not believed.
    pub is_doubtful: bool,
}

#[cfg(test)]
mod tests;
