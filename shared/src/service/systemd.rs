//! What systemd is told: ready, stopping, alive. Does nothing where no NOTIFY_SOCKET is set.
use sd_notify::NotifyState;
use std::time::Duration;

/// The service is ready; `status` is what `systemctl status` shows.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The service is not ready yet and moves: its start may take as much longer from now on.
pub fn starting(status: &str, extends_by: Duration) {
    let extends_by_us = u32::try_from(extends_by.as_micros()).unwrap_or(u32::MAX);
    send(&[
        NotifyState::Status(status),
        NotifyState::ExtendTimeoutUsec(extends_by_us),
    ]);
}

/// The service stops.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// The pipeline has moved since the last call, or waits for what a restart would not mend. Only what
/// proves that may call this.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// How often [`alive`] is wanted: a quarter of the unit's WatchdogSec, so that one sign may be missed, or every 10 s without one.
pub fn watchdog_interval() -> Duration {
    sd_notify::watchdog_enabled().map_or(Duration::from_secs(10), |whole| whole / 4)
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be notified");
    }
}
