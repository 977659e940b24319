//! The clocks of a machine. Decisions take the time as an argument; only this module reads it.
use crate::protocol::ids::BootId;
use rustix::time::{ClockId, clock_gettime};

/// 2020-01-01T00:00:00Z. A clock that shows an earlier time has not been set since power-on.
pub const FLOOR_MS: i64 = 1_577_836_800_000;

/// Wall clock, milliseconds since 1970 UTC.
pub fn wall_ms() -> i64 {
    // The standard library's clock goes through libc, so that tests can shift it with libfaketime.
    match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
        Ok(since) => since.as_millis() as i64,
        Err(before) => -(before.duration().as_millis() as i64),
    }
}

/// Time since boot, including suspended time, milliseconds.
pub fn monotonic_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// True if a clock that shows this time has been set since power-on.
pub fn is_set(wall_ms: i64) -> bool {
    wall_ms >= FLOOR_MS
}

/// The kernel's id of this boot.
pub fn boot_id() -> std::io::Result<BootId> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    text.parse().map_err(std::io::Error::other)
}

/// A time for people: RFC 3339 in UTC.
pub fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map(|time| time.to_string())
        .unwrap_or_else(|_| format!("{ms} ms"))
}

/// True if the kernel reports its clock as synchronised (`adjtimex(2)`, STA_UNSYNC is clear): chrony, ntpd,
/// PTP or systemd-timesyncd set it during this boot and still do.
#[expect(
    unsafe_code,
    reason = "adjtimex(2) has no safe form; with modes = 0 it fills a struct of ours and changes nothing"
)]
pub fn kernel_synchronised() -> bool {
    // SAFETY: all fields of a timex are integers, for which zero is a value.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a timex of ours; modes is 0.
    let code = unsafe { libc::adjtimex(&raw mut state) };
    code >= 0 && state.status & libc::STA_UNSYNC == 0
}
