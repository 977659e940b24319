//! The hub's clock for all parts: the writer publishes the state that [`ClockGuard`] decides, the others read it.
use linli_domain::clock_guard::{
    ClockConfig, ClockGuard, ClockState, Doubt, Reading, UNKNOWN_BOOT,
};
use linli_shared::service::clock;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use std::time::Duration;
use tokio::sync::watch;

/// The clocks of the machine now.
pub fn reading() -> Reading {
    Reading {
        wall_ms: clock::wall_ms(),
        monotonic_ms: clock::monotonic_ms(),
        synchronised: clock::kernel_synchronised(),
    }
}

/// The number of this boot, as it is kept.
pub fn boot_number() -> i64 {
    clock::boot_id().map_or(UNKNOWN_BOOT, |boot| {
        let high = (boot.0 >> 64) as u64;
        (high ^ boot.0 as u64).cast_signed()
    })
}

/// The readers' end.
#[derive(Debug, Clone)]
pub struct ClockWatch(watch::Receiver<ClockState>);

/// The writer's end.
#[derive(Debug)]
pub struct ClockPublisher(watch::Sender<ClockState>);

impl ClockWatch {
    /// Both ends; until the writer has looked, the clock is taken as it is.
    pub fn channel() -> (ClockPublisher, Self) {
        let guard = ClockGuard::new(&ClockConfig::default(), reading(), UNKNOWN_BOOT, None);
        let (sender, receiver) = watch::channel(guard.state());
        (ClockPublisher(sender), Self(receiver))
    }

    /// Why the clock is not believed now.
    pub fn doubt(&self) -> Option<Doubt> {
        self.0.borrow().doubt(reading())
    }

    /// Hub time, milliseconds since 1970 UTC.
    pub fn now_ms(&self) -> i64 {
        self.0.borrow().hub_ms(reading())
    }

    /// The time by which things expire, milliseconds since 1970 UTC.
    pub fn expiry_ms(&self) -> i64 {
        self.0.borrow().expiry_ms(reading())
    }

    /// How often a person has trusted the clock since the start.
    pub fn trusts(&self) -> u64 {
        self.0.borrow().trusts
    }
}

impl ClockPublisher {
    /// Publishes the state.
    pub fn publish(&self, state: ClockState) {
        self.0.send_if_modified(|before| {
            let is_new = *before != state;
            *before = state;
            is_new
        });
    }
}

impl TimeProvider for ClockWatch {
    fn current_time(&self) -> Option<UnixTime> {
        let now_ms = u64::try_from(self.expiry_ms()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(now_ms)))
    }
}
