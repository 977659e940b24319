//! Whether this gateway's wall clock is synchronised, and by which authority.
//!
//! ```text
//! hub (at each welcome) ──agrees / is off by──┐ the authority, while the clock was not stepped since
//! kernel (adjtimex)     ──synchronised or not─┴▶ synchronised
//! ```
//!
//! A plausible year proves nothing: systemd restores the last saved time at boot, so a gateway without a battery
//! wakes up hours behind. Until the kernel or a hub confirms the clock, events carry boot id and monotonic time, and
//! devices are not sent the time. A verdict of the hub outlives a restart of the agent within the boot: it is in the
//! boot's clock anchor.
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A smaller difference of clocks is drift or measuring error, milliseconds. The hub corrects larger ones.
pub const STEP_MS_MIN: i64 = 2000;

/// The authority that confirms the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockSource {
    /// None.
    #[default]
    None,
    /// The kernel: NTP or PTP.
    Kernel,
    /// A hub, in this boot.
    Hub,
}

/// A hub's verdict about the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    /// This clock minus the hub's.
    skew_ms: i64,
    /// Wall minus monotonic time at the verdict: a different value now means that the clock was stepped since.
    offset_ms: i64,
}

#[derive(Debug, Default)]
struct State {
    kernel: bool,
    verdict: Option<Verdict>,
    /// Wall minus monotonic time, at the last look or verdict.
    offset_ms: Option<i64>,
    /// The same at the last look: so a verdict between two looks hides no step.
    looked_ms: Option<i64>,
}

/// Cloneable; all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct GatewayClock(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    synchronised: AtomicBool,
    /// Wall minus monotonic time, at the last look or verdict.
    offset_ms: AtomicI64,
    state: Mutex<State>,
}

impl State {
    fn source(&self) -> ClockSource {
        match self.standing_verdict() {
            Some(verdict) if verdict.skew_ms.abs() < STEP_MS_MIN => ClockSource::Hub,
            Some(_) => ClockSource::None,
            None if self.kernel => ClockSource::Kernel,
            None => ClockSource::None,
        }
    }

    fn standing_verdict(&self) -> Option<Verdict> {
        self.verdict
            .zip(self.offset_ms)
            .filter(|(verdict, offset_ms)| (offset_ms - verdict.offset_ms).abs() < STEP_MS_MIN)
            .map(|(verdict, _)| verdict)
    }
}

impl GatewayClock {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is complete after one statement, so a poisoned lock is consistent.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let is_synchronised = state.source() != ClockSource::None;
        let offset_ms = state.offset_ms.unwrap_or_default();
        self.0.offset_ms.store(offset_ms, Ordering::Relaxed);
        // `Release`: a reader that sees this flag also sees the offset.
        self.0
            .synchronised
            .store(is_synchronised, Ordering::Release);
    }

    /// Takes the kernel's answer; `offset_ms` is wall minus monotonic time. Returns by how much the clock was stepped
    /// since the last look, if it was.
    pub fn look(&self, kernel: bool, offset_ms: i64) -> Option<i64> {
        let mut before_ms = None;
        self.change(|state| {
            state.kernel = kernel;
            state.offset_ms = Some(offset_ms);
            before_ms = state.looked_ms.replace(offset_ms);
        });
        let step_ms = before_ms.map(|before_ms| offset_ms - before_ms);
        step_ms.filter(|step_ms| step_ms.abs() >= STEP_MS_MIN)
    }

    /// Takes a hub's verdict: this clock is ahead of the hub's by `skew_ms`.
    pub fn hub_says(&self, skew_ms: i64, offset_ms: i64) {
        self.change(|state| {
            state.offset_ms = Some(offset_ms);
            state.verdict = Some(Verdict { skew_ms, offset_ms });
        });
    }

    /// Whether times of this clock can be trusted.
    pub fn is_synchronised(&self) -> bool {
        self.0.synchronised.load(Ordering::Acquire)
    }

    /// The same at this moment, with this difference of wall and monotonic time: a step since the last look counts at
    /// once, so that no message that comes between is judged by another clock.
    pub fn is_synchronised_at(&self, offset_ms: i64) -> bool {
        self.is_synchronised() && self.is_as_known(offset_ms)
    }

    /// Whether it was not stepped since the last look.
    fn is_as_known(&self, offset_ms: i64) -> bool {
        let known_ms = self.0.offset_ms.load(Ordering::Relaxed);
        (offset_ms - known_ms).abs() < STEP_MS_MIN
    }

    /// The time that may be sent to devices: that of a synchronised clock, or one corrected by a hub. `offset_ms` is wall
    /// minus monotonic time.
    pub fn told_ms(&self, wall_ms: i64, offset_ms: i64) -> Option<i64> {
        if !self.is_as_known(offset_ms) {
            return None;
        }
        match self.skew_ms() {
            Some(skew_ms) => Some(wall_ms.saturating_sub(skew_ms)),
            None => self.is_synchronised().then_some(wall_ms),
        }
    }

    /// The authority that confirms it.
    pub fn source(&self) -> ClockSource {
        self.state().source()
    }

    /// How far it is ahead of the hub's, if a hub reported it and it was not stepped since.
    pub fn skew_ms(&self) -> Option<i64> {
        self.state()
            .standing_verdict()
            .map(|verdict| verdict.skew_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSET_MS: i64 = 1_790_000_000_000;

    #[test]
    fn nobody_vouches_for_a_clock_that_neither_kernel_nor_hub_knows() {
        let clock = GatewayClock::default();
        clock.look(false, OFFSET_MS);
        assert!(!clock.is_synchronised());
        assert_eq!(clock.told_ms(0, OFFSET_MS), None);
        clock.look(true, OFFSET_MS);
        assert_eq!(clock.source(), ClockSource::Kernel);
    }

    #[test]
    fn the_hub_is_the_authority_until_the_clock_is_stepped() {
        let clock = GatewayClock::default();
        clock.look(true, OFFSET_MS);
        // Three hours behind, whatever the kernel believes.
        clock.hub_says(-10_800_000, OFFSET_MS);
        assert!(!clock.is_synchronised());
        assert_eq!(clock.skew_ms(), Some(-10_800_000));
        assert_eq!(clock.told_ms(0, OFFSET_MS), Some(10_800_000));
        // It was set since, and nobody has looked.
        assert_eq!(clock.told_ms(0, OFFSET_MS + 10_800_000), None);
        // Somebody sets it: the verdict is about another clock.
        assert_eq!(clock.look(true, OFFSET_MS + 10_800_000), Some(10_800_000));
        assert_eq!(clock.source(), ClockSource::Kernel);
        assert_eq!(clock.skew_ms(), None);
        clock.look(false, OFFSET_MS + 10_800_000);
        assert!(!clock.is_synchronised());
        clock.hub_says(40, OFFSET_MS + 10_800_000);
        // A hub that speaks first hides no step.
        clock.hub_says(40, OFFSET_MS);
        assert_eq!(clock.look(false, OFFSET_MS), Some(-10_800_000));
        clock.hub_says(40, OFFSET_MS + 10_800_000);
        assert_eq!(clock.look(false, OFFSET_MS + 10_800_000), Some(10_800_000));
        assert_eq!(clock.source(), ClockSource::Hub);
        // Drift is no step.
        clock.look(false, OFFSET_MS + 10_801_500);
        assert!(clock.is_synchronised());
        // Nobody has looked since somebody set it.
        assert!(clock.is_synchronised_at(OFFSET_MS + 10_802_000));
        assert!(!clock.is_synchronised_at(OFFSET_MS));
    }
}
