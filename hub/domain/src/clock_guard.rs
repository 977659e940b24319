//! The guard of the hub's clock: decides whether the clock is trusted, and what the time is while it is not.
//!
//! The effects of a wrong clock are irreversible: retention deletes, certificates and tokens expire,
//! unacknowledged warnings escalate. So a clock that stepped by more than a bound, or that the kernel does
//! not report as synchronised, is *doubtful*: these effects are suspended until a person trusts the clock
//! (`linli-hub clock trust`) or it returns to the right time. Storing and notifying continue meanwhile.
//!
//! ```text
//! writer ─ every second ─▶ ClockGuard::look ─▶ ClockState ─ published ▶ sessions, API, retention, readyz
//!    ▲ trust, kept state (the store's `hub_clock`)
//! ```
//!
//! * **Hub time** continues evenly over a step, by the monotonic clock, until a person trusts the new time.
//!   Events are stored and evaluated by it.
//! * **Known time** is the time that has certainly passed since the clock was last trusted. While the clock
//!   is doubtful, expiries follow known time only.
//! * After a restart within the same boot, a step is detected by the monotonic clock; after another boot, a
//!   clock is doubtful if it is behind the last commit, or far ahead of it and not synchronised.
use linli_shared::service::config::Span;
use serde::Deserialize;

/// The number of a boot with an unknown id; two such boots are never equal.
pub const UNKNOWN_BOOT: i64 = 0;

/// After a longer downtime an unsynchronised clock needs the trust of a person, milliseconds.
const AWAY_MS_MAX: i64 = 30 * 86_400_000;

/// `[clock]` of the config.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockConfig {
    /// How to treat a clock that the kernel does not report as synchronised.
    pub unsynchronised: Unsynchronised,
    /// A larger step makes the clock doubtful.
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

/// How to treat a clock that the kernel does not report as synchronised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unsynchronised {
    /// The clock is doubtful.
    Doubt,
    /// The clock is trusted: something else keeps it, like the host of a virtual machine.
    Trust,
}

/// A reading of the machine's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Wall clock, milliseconds since 1970 UTC.
    pub wall_ms: i64,
    /// Monotonic clock, milliseconds.
    pub monotonic_ms: u64,
    /// The kernel reports the clock as synchronised.
    pub synchronised: bool,
}

/// A wall time and the monotonic time of the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Wall clock, milliseconds since 1970 UTC.
    pub wall_ms: i64,
    /// Monotonic clock, milliseconds.
    pub monotonic_ms: u64,
}

impl Anchor {
    fn of(reading: Reading) -> Self {
        Self {
            wall_ms: reading.wall_ms,
            monotonic_ms: reading.monotonic_ms,
        }
    }

    /// The wall time at a monotonic time.
    fn at(self, monotonic_ms: u64) -> i64 {
        let since_ms = monotonic_ms.cast_signed() - self.monotonic_ms.cast_signed();
        self.wall_ms.saturating_add(since_ms)
    }
}

/// Why the clock is doubtful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// It stepped relative to the last trusted time.
    Stepped {
        /// Size of the step, milliseconds.
        by_ms: i64,
    },
    /// The hub was down for very long, or the clock is far ahead.
    Away {
        /// Time since the last commit, milliseconds.
        by_ms: i64,
    },
    /// The kernel does not report it as synchronised.
    Unsynchronised,
}

impl Doubt {
    /// All words in metrics.
    pub const WORDS: [&str; 3] = ["stepped", "away", "unsynchronised"];

    /// The word in metrics and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stepped { .. } => Self::WORDS[0],
            Self::Away { .. } => Self::WORDS[1],
            Self::Unsynchronised => Self::WORDS[2],
        }
    }

    /// The problem in words for people.
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

/// The state that survives a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptClock {
    /// The boot in which it was written.
    pub boot: i64,
    /// Known time.
    pub known: Anchor,
}

/// The state of the clock. Everybody who needs the time has a copy, so a step takes effect at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockState {
    /// Hub time.
    hub: Anchor,
    /// Known time.
    known: Anchor,
    step_ms_max: i64,
    away_ms: Option<i64>,
    is_unsynchronised: bool,
    /// How often a person trusted the clock since the start. A new value invalidates earlier comparisons with
    /// it.
    pub trusts: u64,
}

impl ClockState {
    fn step_ms(&self, reading: Reading) -> Option<i64> {
        let by_ms = reading
            .wall_ms
            .saturating_sub(self.hub.at(reading.monotonic_ms));
        (by_ms.saturating_abs() > self.step_ms_max).then_some(by_ms)
    }

    /// Why the clock is doubtful; `None` if it is trusted.
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

    /// The time for expiries, milliseconds since 1970 UTC: known time while the clock is doubtful.
    pub fn expiry_ms(&self, reading: Reading) -> i64 {
        match self.doubt(reading) {
            Some(_) => self.known.at(reading.monotonic_ms),
            None => reading.wall_ms,
        }
    }
}

/// Decides about the clock. The writer owns the one of a hub.
#[derive(Debug)]
pub struct ClockGuard {
    state: ClockState,
    boot: i64,
    unsynchronised: Unsynchronised,
    /// A person trusted the clock as it is, until the kernel reports it as synchronised.
    is_trusted: bool,
}

impl ClockGuard {
    /// A guard that continues from the state kept by the previous run, if there is one. `boot` is the number
    /// of this boot, or [`UNKNOWN_BOOT`].
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
            // Between two boots an unknown time passed, but never a negative one.
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

    /// Evaluates a reading; returns the new state.
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

    /// Trusts the clock. If hub time jumps, returns the hub time before and after.
    pub fn trust(&mut self, reading: Reading) -> Option<(i64, i64)> {
        let before_ms = self.state.hub_ms(reading);
        self.is_trusted = !reading.synchronised;
        self.state.away_ms = None;
        self.state.hub = Anchor::of(reading);
        self.state.trusts += 1;
        self.look(reading);
        (before_ms != reading.wall_ms).then_some((before_ms, reading.wall_ms))
    }

    /// The current state.
    pub fn state(&self) -> ClockState {
        self.state
    }

    /// The state to keep for the next start.
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

/// The time of one transaction.
#[derive(Debug, Clone, Copy)]
pub struct HubTime {
    /// Hub time, milliseconds since 1970 UTC.
    pub now_ms: i64,
    /// The time for expiries, milliseconds since 1970 UTC.
    pub expiry_ms: i64,
    /// The clock is doubtful.
    pub is_doubtful: bool,
}

#[cfg(test)]
mod tests;
