//! Thresholds with hysteresis: from values to states. Pure; time is milliseconds since boot.
//!
//! ```text
//!            at the limit                  for as long as `lasting`
//! off ─────────────────────▶ rising ────────────────────────────────▶ on ──at `clear`──▶ off
//!  ▲                           │ back before that
//!  └───────────────────────────┘
//! ```
//!
//! At the beginning the state is unknown: a value between the two limits, or one at the limit that has not lasted
//! yet, may belong to an alarm from before the start, and reports nothing. Only a value that is clear means off.
//!
//! An invalid value (a broken sensor) changes nothing. A state that the ingest has not stored is reported again at
//! the next poll: the ingest, not this module, knows which states are durable.
use super::map::{Limit, Point, RegisterMap, Value};
use crate::device_event::{DeviceEvent, State};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Unknown,
    Off,
    /// Rising from off.
    Rising {
        since_ms: u64,
    },
    /// Rising from an unknown state.
    FirstRising {
        since_ms: u64,
    },
    On,
}

impl Phase {
    /// On or off; `None` if unknown.
    fn active(self) -> Option<bool> {
        match self {
            Self::Unknown | Self::FirstRising { .. } => None,
            Self::Off | Self::Rising { .. } => Some(false),
            Self::On => Some(true),
        }
    }
}

/// The state of an alarm.
#[derive(Debug, Clone, Copy)]
struct Watcher {
    phase: Phase,
    /// The last durable report.
    told: Option<bool>,
}

/// The alarms of one device, each with its state.
pub struct Watchers {
    /// By point in the order of the map, then by alarm.
    alarms: Vec<Vec<Watcher>>,
}

impl Watchers {
    /// Watchers without a known state.
    pub fn new(map: &RegisterMap) -> Self {
        let watcher = Watcher {
            phase: Phase::Unknown,
            told: None,
        };
        let of = |point: &Point| vec![watcher; point.alarms.len()];
        Self {
            alarms: map.points.iter().map(of).collect(),
        }
    }

    /// Records that all reports so far are durable.
    pub fn stored(&mut self) {
        for watcher in self.alarms.iter_mut().flatten() {
            watcher.told = watcher.phase.active();
        }
    }

    /// The states that a value of a point causes.
    pub fn step<'a>(
        &mut self,
        index: usize,
        point: &'a Point,
        by: &str,
        value: Value,
        now_ms: u64,
        device_events: &mut Vec<DeviceEvent<'a>>,
    ) {
        for (number, alarm) in point.alarms.iter().enumerate() {
            let watcher = &mut self.alarms[index][number];
            let next = step(watcher.phase, alarm.limit, alarm.lasting_ms, value, now_ms);
            let Some(next) = next else { continue };
            watcher.phase = next;
            let Some(active) = next.active() else {
                continue;
            };
            if watcher.told == Some(active) {
                continue;
            }
            let initial = watcher.told.is_none();
            let device = match point.part {
                0 => by.to_owned(),
                part => format!("{by}/{part}"),
            };
            let (kind, severity) = if active {
                (alarm.kind.as_str(), alarm.severity)
            } else {
                (alarm.restored.as_str(), Default::default())
            };
            let mut device_event =
                DeviceEvent::new(kind, severity, device).with("point", point.name.as_str());
            device_event.by = Some(by.to_owned().into());
            device_event = device_event
                .with("value", shown(value))
                .with("unit", point.unit.as_str());
            // At the first poll, an alarm that is off and was never known to be on is no news.
            device_event.state = Some(State {
                point: format!("{}#{number}", point.name).into(),
                active,
                initial: initial && !active,
            });
            device_events.push(device_event);
        }
    }
}

fn shown(value: Value) -> String {
    match value {
        Value::Number(number) | Value::Invalid(number) => {
            format!("{}", (number * 1000.0).round() / 1000.0)
        }
        Value::Bit(bit) => u8::from(bit).to_string(),
    }
}

/// The next phase; `None` if the value is invalid.
fn step(phase: Phase, limit: Limit, lasting_ms: u64, value: Value, now_ms: u64) -> Option<Phase> {
    let (beyond, over) = match (limit, value) {
        (Limit::Above { on, off }, Value::Number(number)) => {
            (number >= on, number <= off && number < on)
        }
        (Limit::Below { on, off }, Value::Number(number)) => {
            (number <= on, number >= off && number > on)
        }
        (Limit::Is(wanted), Value::Bit(bit)) => (bit == wanted, bit != wanted),
        _ => return None,
    };
    let lasts = |since_ms: u64| now_ms.saturating_sub(since_ms) >= lasting_ms;
    Some(match phase {
        Phase::On if !over => Phase::On,
        Phase::Rising { since_ms } | Phase::FirstRising { since_ms }
            if beyond && lasts(since_ms) =>
        {
            Phase::On
        }
        Phase::Rising { .. } | Phase::FirstRising { .. } if beyond => phase,
        _ if beyond && lasting_ms == 0 => Phase::On,
        Phase::Unknown if beyond => Phase::FirstRising { since_ms: now_ms },
        _ if beyond => Phase::Rising { since_ms: now_ms },
        // Between the limits an alarm that is on continues, and one that is off does not begin.
        Phase::Unknown | Phase::FirstRising { .. } if !over => Phase::Unknown,
        _ => Phase::Off,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOT: Limit = Limit::Above {
        on: 70.0,
        off: 60.0,
    };

    fn run(limit: Limit, lasting_ms: u64, values: &[(u64, Value)]) -> Vec<Phase> {
        let mut phase = Phase::Unknown;
        let mut phases = Vec::new();
        for (at_ms, value) in values {
            if let Some(next) = step(phase, limit, lasting_ms, *value, *at_ms) {
                phase = next;
            }
            phases.push(phase);
        }
        phases
    }

    #[test]
    fn an_alarm_stands_until_the_value_is_clear_and_does_not_flutter() {
        use Phase::{Off, On};
        let values = [25.0, 69.9, 70.0, 65.0, 69.0, 60.1, 60.0, 65.0, 71.0]
            .map(|value| (0, Value::Number(value)));
        assert_eq!(
            run(HOT, 0, &values),
            [Off, Off, On, On, On, On, Off, Off, On]
        );
    }

    #[test]
    fn an_alarm_must_last_and_one_that_is_over_before_begins_anew() {
        use Phase::{FirstRising, Off, On, Rising};
        let at = |ms, value| (ms, Value::Number(value));
        let values = [
            at(0, 80.0),
            at(5, 80.0),
            at(6, 50.0),
            at(7, 80.0),
            at(16, 80.0),
            at(17, 80.0),
        ];
        assert_eq!(
            run(HOT, 10, &values),
            [
                FirstRising { since_ms: 0 },
                FirstRising { since_ms: 0 },
                Off,
                Rising { since_ms: 7 },
                Rising { since_ms: 7 },
                On
            ]
        );
    }

    #[test]
    fn at_the_beginning_only_what_is_clear_is_off() {
        use Phase::{FirstRising, Off, On, Unknown};
        let at = |ms, value| (ms, Value::Number(value));
        assert_eq!(
            run(
                HOT,
                10,
                &[at(0, 65.0), at(1, 80.0), at(2, 65.0), at(3, 60.0)]
            ),
            [Unknown, FirstRising { since_ms: 1 }, Unknown, Off]
        );
        let lasting = [at(0, 80.0), at(9, 80.0), at(10, 80.0)];
        let phases = run(HOT, 10, &lasting);
        assert_eq!(phases.last(), Some(&On));
        assert!(phases[..2].iter().all(|phase| phase.active().is_none()));
    }

    #[test]
    fn below_bits_and_broken_sensors() {
        use Phase::{Off, On, Unknown};
        let low = Limit::Below { on: 5.0, off: 8.0 };
        let values = [9.0, 5.0, 7.0, 8.0].map(|value| (0, Value::Number(value)));
        assert_eq!(run(low, 0, &values), [Off, On, On, Off]);
        let bits = [false, true, false].map(|bit| (0, Value::Bit(bit)));
        assert_eq!(run(Limit::Is(true), 0, &bits), [Off, On, Off]);
        let broken = [
            (0, Value::Invalid(f64::NAN)),
            (0, Value::Number(80.0)),
            (0, Value::Invalid(0.0)),
        ];
        assert_eq!(run(HOT, 0, &broken), [Unknown, On, On]);
    }
}
