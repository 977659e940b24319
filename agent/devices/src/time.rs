//! Times of devices: read with or without a zone, and believed or not.
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use linli_shared::service::clock;

use super::device_event::DeviceTime;

/// A device time further ahead than this is not believed, milliseconds.
pub const FUTURE_MS_MAX: i64 = 5 * 60 * 1000;

/// Whether a message tells of now or of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tense {
    /// From a device: a time before 2020 comes from a clock that was not set.
    Live,
    /// An import: any past time is good.
    Backlog,
}

/// Whether a device's time can be, by the agent's clock.
pub fn is_plausible(device_ms: i64, tense: Tense, now_ms: i64) -> bool {
    let ahead = clock::is_set(now_ms) && device_ms > now_ms + FUTURE_MS_MAX;
    let unset = tense == Tense::Live && !clock::is_set(device_ms);
    !(ahead || unset)
}

/// A time without a zone, in this one.
pub fn in_zone(civil: DateTime, zone: &TimeZone) -> Option<i64> {
    let time = zone.to_ambiguous_timestamp(civil).compatible().ok()?;
    Some(time.as_millisecond())
}

/// A time as ISO 8601 has it, with a zone of its own or in this one.
pub fn read(text: &str, zone: &TimeZone) -> Option<i64> {
    let text = text.trim();
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_millisecond());
    }
    in_zone(text.parse().ok()?, zone)
}

impl DeviceTime<'_> {
    /// Milliseconds since 1970 UTC. `Ok(None)`: the device gives none; `Err`: it gives what is no time.
    pub fn ms(self, zone: &TimeZone) -> Result<Option<i64>, String> {
        match self {
            Self::None => Ok(None),
            Self::Ms(ms) => Ok(Some(ms)),
            Self::Text(text) => read(text, zone).map(Some).ok_or_else(|| text.to_owned()),
            Self::Civil(civil) => in_zone(civil, zone)
                .map(Some)
                .ok_or_else(|| civil.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_a_zone_is_of_the_sources_zone() {
        let zone = TimeZone::get("Asia/Shanghai").expect("a zone");
        let noon_ms = 1_782_878_400_000;
        for text in [
            "2026-07-01T12:00:00+08:00",
            "2026-07-01T04:00:00Z",
            "2026-07-01T12:00:00",
            " 2026-07-01 12:00:00 ",
        ] {
            assert_eq!(read(text, &zone), Some(noon_ms), "{text}");
        }
        for text in ["", "noon", "2026-13-01T12:00:00", "1970"] {
            assert_eq!(read(text, &zone), None, "{text}");
        }
        assert_eq!(DeviceTime::Text("noon").ms(&zone), Err("noon".to_owned()));
    }

    #[test]
    fn a_time_that_cannot_be_is_not_believed() {
        let now_ms = 1_782_878_400_000;
        assert!(is_plausible(now_ms + FUTURE_MS_MAX, Tense::Live, now_ms));
        assert!(!is_plausible(
            now_ms + FUTURE_MS_MAX + 1,
            Tense::Live,
            now_ms
        ));
        assert!(!is_plausible(0, Tense::Live, now_ms));
        assert!(is_plausible(0, Tense::Backlog, now_ms));
        // A clock of ours that is not set judges nobody's future.
        assert!(is_plausible(now_ms, Tense::Live, 0));
    }
}
