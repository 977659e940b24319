//! Notifications to systemd: ready, stopping, alive. Without a NOTIFY_SOCKET they have no effect.
use sd_notify::NotifyState;
use std::time::Duration;

/// Reports the service as ready; `systemctl status` shows `status`.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Reports progress of the start, and extends its timeout from now.
pub fn starting(status: &str, extends_by: Duration) {
    let extends_by_us = u32::try_from(extends_by.as_micros()).unwrap_or(u32::MAX);
    send(&[
        NotifyState::Status(status),
        NotifyState::ExtendTimeoutUsec(extends_by_us),
    ]);
}

/// Reports that the service is stopping.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Reports that the pipeline has advanced since the last call, or waits for a condition that a restart would
/// not repair. Call it only with proof of that.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// Interval of calls to [`alive`]: a quarter of the unit's WatchdogSec, so that one may be missed; 10 s if it
/// is not set.
pub fn watchdog_interval() -> Duration {
    sd_notify::watchdog_enabled().map_or(Duration::from_secs(10), |whole| whole / 4)
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be notified");
    }
}
