//! Maps a frame to events, a sign of life, or nothing of interest. Pure; the time is an argument.
//!
//! A device is identified by its host's id in the config; a system behind it is `<host>/<kind>.<address>`, a part
//! `<host>/<kind>.<address>.<zone>.<number>`.
//!
//! | what | on | over |
//! | --- | --- | --- |
//! | fire, at a system, a part or the device | `fire.alarm`; of a gas detector `gas.alarm` | `fire.restored`, `gas.restored` |
//! | fault, bus fault | `fire.fault` | `fire.fault_restored` |
//! | shielded | `fire.shielded` | `fire.unshielded` |
//! | supervised | `fire.supervised` | `fire.supervised_restored` |
//! | started, feedback | `input.active` | `input.inactive` |
//! | mains, of a part too; battery | `device.power_lost`, `device.battery_low` | `device.power_restored`, `device.battery_restored` |
//! | the device's own fault, link, wires | `device.fault` | `device.restored` |
//! | operations: manual alarm; cleared; self-test, test | `fire.alarm`; `fire.restored`; `panel.test` | |
//!
//! * Bit 0 (normal or test) is ignored: devices leave it clear in real alarms, in the public frames too.
//! * A state that is off is reported only if it was known to be on. Exception: if a part or system is clear of
//!   everything, the end of its fire and fault is reported even if their beginning was not seen, as after a restart
//!   of the agent.
//! * A host's reply to a question is a replay: it describes the time of the request, with the times of then.
//! * An alarm that began at another time is reported even if the end of the previous one never was: many devices end
//!   alarms by a reset only. A repeated alarm has the same time, and so the same id; if a device's clock was never
//!   set there is no id, and a repeated alarm is reported again.
use jiff::civil::DateTime;
use linli_shared::protocol::event::Severity;
use std::borrow::Cow;

use super::frame::{Command, Head, WireTime};
use super::names;
use super::unit::{DeviceState, Operation, Part, PartState, System, SystemState, Unit};
use crate::device_event::{DecodedMessage, DeviceEvent, DeviceTime, Person, Reject, State};

/// A state that began no longer ago is identified by its time alone, whatever frame carries it. A clock that stands
/// still soon falls further behind, and then the frame's serial distinguishes its alarms.
const RECENT_MINUTES: i64 = 10;
/// The time of a clock that was never set is before this year.
const YEAR_MIN: i16 = 2020;

/// A bit of a state.
struct Bit {
    mask: u16,
    point: &'static str,
    on: (&'static str, Severity),
    over: &'static str,
    /// Reported as over if everything is clear.
    told_when_clear: bool,
}

const fn bit(
    number: u16,
    point: &'static str,
    on: (&'static str, Severity),
    over: &'static str,
    told_when_clear: bool,
) -> Bit {
    Bit {
        mask: 1 << number,
        point,
        on,
        over,
        told_when_clear,
    }
}

const FIRE: (&str, Severity) = ("fire.alarm", Severity::Life);
const GAS: (&str, Severity) = ("gas.alarm", Severity::Life);
const FAULT: (&str, Severity) = ("fire.fault", Severity::Warning);
const SHIELDED: (&str, Severity) = ("fire.shielded", Severity::Warning);
const SUPERVISED: (&str, Severity) = ("fire.supervised", Severity::Warning);
const ACTIVE: (&str, Severity) = ("input.active", Severity::Notice);
const MAINS: (&str, Severity) = ("device.power_lost", Severity::Notice);
const BATTERY: (&str, Severity) = ("device.battery_low", Severity::Notice);
const DEVICE_FAULT: (&str, Severity) = ("device.fault", Severity::Notice);

const PART_BITS: &[Bit] = &[
    bit(1, "alarm", FIRE, "fire.restored", true),
    bit(2, "fault", FAULT, "fire.fault_restored", true),
    bit(3, "shielded", SHIELDED, "fire.unshielded", false),
    bit(
        4,
        "supervised",
        SUPERVISED,
        "fire.supervised_restored",
        false,
    ),
    bit(5, "started", ACTIVE, "input.inactive", false),
    bit(6, "feedback", ACTIVE, "input.inactive", false),
    bit(8, "power", MAINS, "device.power_restored", false),
];

const SYSTEM_BITS: &[Bit] = &[
    bit(1, "alarm", FIRE, "fire.restored", true),
    bit(2, "fault", FAULT, "fire.fault_restored", true),
    bit(3, "shielded", SHIELDED, "fire.unshielded", false),
    bit(
        4,
        "supervised",
        SUPERVISED,
        "fire.supervised_restored",
        false,
    ),
    bit(5, "started", ACTIVE, "input.inactive", false),
    bit(6, "feedback", ACTIVE, "input.inactive", false),
    bit(8, "mains", MAINS, "device.power_restored", false),
    bit(9, "battery", BATTERY, "device.battery_restored", false),
    bit(10, "bus", FAULT, "fire.fault_restored", false),
];

const DEVICE_BITS: &[Bit] = &[
    bit(1, "alarm", FIRE, "fire.restored", true),
    bit(2, "fault", DEVICE_FAULT, "device.restored", true),
    bit(3, "mains", MAINS, "device.power_restored", false),
    bit(4, "battery", BATTERY, "device.battery_restored", false),
    bit(5, "link", DEVICE_FAULT, "device.restored", false),
    bit(6, "wires", DEVICE_FAULT, "device.restored", false),
];

/// A frame of a host.
struct From<'a> {
    host: &'a str,
    head: &'a Head,
    now: DateTime,
}

/// Maps a frame of this host; `now` is in the host's zone.
pub fn said<'a>(
    host: &'a str,
    head: &'a Head,
    unit: Unit<'a>,
    now: DateTime,
) -> Result<DecodedMessage<'a>, Reject> {
    let from = From { host, head, now };
    let left_out = |what: Cow<'a, str>| {
        Ok(DecodedMessage::LeftOut {
            device: host.into(),
            what,
        })
    };
    match head.command {
        Command::Send | Command::Reply => {}
        Command::Confirm => return left_out("confirm".into()),
        Command::Deny => return left_out("deny".into()),
        Command::Control | Command::Request => return left_out("control or request".into()),
        Command::Vendor(number) => return left_out(format!("vendor's command {number}").into()),
        Command::Reserved(number) => {
            return Err(Reject::new(format!(
                "command {number} is none of the standard's: is the device set to GB/T 26875.3-2011?"
            )));
        }
    }
    let mut device_events = Vec::new();
    match unit {
        Unit::Empty => {
            let (time, _) = from.time(None);
            let device = host.into();
            return Ok(DecodedMessage::Heartbeat { device, time });
        }
        Unit::SystemStates(states) => {
            for state in &states {
                from.system_state(state, &mut device_events);
            }
        }
        Unit::PartStates(states) => {
            for state in states {
                from.part_state(state, &mut device_events);
            }
        }
        Unit::DeviceStates(states) => {
            for state in &states {
                from.device_state(*state, &mut device_events);
            }
        }
        Unit::Operations(operations) => {
            let mut names = String::new();
            for operation in &operations {
                from.operation(*operation, &mut device_events, &mut names);
            }
            if device_events.is_empty() {
                return left_out(format!("operation {names}").into());
            }
        }
        Unit::Clock(_) => return left_out("time of the device".into()),
        Unit::SetClock(_) | Unit::DutyCheck => return left_out("clock or duty".into()),
        // Values, versions and configs; requests of a centre.
        Unit::Other(kind @ (3 | 5..=7 | 25 | 26 | 61..=68 | 81 | 84..=86 | 88 | 89)) => {
            return left_out(format!("data unit {kind}").into());
        }
        Unit::Other(kind) => {
            return Err(Reject::new(format!(
                "data unit {kind} is none of the standard's: is the device set to GB/T 26875.3-2011?"
            )));
        }
        Unit::Vendor(kind) => return left_out(format!("vendor's data unit {kind}").into()),
    }
    Ok(DecodedMessage::Events(device_events))
}

impl<'a> From<'a> {
    /// The time of a state, and whether the device's clock was ever set.
    fn time(&self, told: Option<WireTime>) -> (DeviceTime<'static>, Option<DateTime>) {
        let time = told.unwrap_or(self.head.time);
        match time.civil() {
            Some(civil) => {
                let set = (civil.year() >= YEAR_MIN).then_some(civil);
                (DeviceTime::Civil(civil), set)
            }
            None if time.0 == [0; 6] => (DeviceTime::None, None),
            None => (DeviceTime::Unreadable(time.0), None),
        }
    }

    /// The id of a state; empty if the device's clock does not distinguish its events.
    fn id(&self, place: &str, point: &str, bits: u16, time: Option<DateTime>) -> String {
        let Some(time) = time else {
            return String::new();
        };
        let source = self.head.source.number();
        let stamp = time.strftime("%Y%m%d%H%M%S");
        let away_minutes = self.now.duration_since(time).as_secs().abs() / 60;
        if away_minutes <= RECENT_MINUTES {
            return format!("{source}-{stamp}-{place}-{bits:x}-{point}");
        }
        format!(
            "{source}-{stamp}-{place}-{bits:x}-{point}-{}",
            self.head.serial
        )
    }

    /// Adds an event for each bit of a table, like `pattern`.
    fn states(
        &self,
        bits: u16,
        table: &[Bit],
        is_gas: bool,
        told: Option<WireTime>,
        pattern: &DeviceEvent<'a>,
        device_events: &mut Vec<DeviceEvent<'a>>,
    ) {
        let (time, set) = self.time(told);
        let (_, place) = pattern.device.rsplit_once('/').unwrap_or_default();
        let is_clear = table.iter().all(|bit| bits & bit.mask == 0);
        for bit in table {
            let active = bits & bit.mask != 0;
            let is_alarm = bit.on == FIRE;
            let (on, over) = match is_alarm && is_gas {
                true => (GAS, "gas.restored"),
                false => (bit.on, bit.over),
            };
            let (kind, severity) = match active {
                true => on,
                false => (over, Severity::Info),
            };
            device_events.push(
                DeviceEvent {
                    kind: kind.into(),
                    severity,
                    id: self.id(place, bit.point, bits, set).into(),
                    time,
                    state: Some(State {
                        point: bit.point.into(),
                        active,
                        initial: !(active || is_clear && bit.told_when_clear),
                    }),
                    anew: active && is_alarm,
                    ..pattern.clone()
                }
                .with("point", bit.point),
            );
        }
    }

    fn part_state(&self, state: PartState<'a>, device_events: &mut Vec<DeviceEvent<'a>>) {
        let Part {
            system,
            kind,
            zone,
            number,
        } = state.part;
        let place = format!("{}.{}.{zone}.{number}", system.kind, system.address);
        let pattern = self
            .device_event(&place)
            .with("system", names::system(system.kind))
            .with("part", named(names::part(kind), kind))
            .with("zone", zone.to_string())
            .with("number", number.to_string())
            .with("text", state.text)
            .with("bits", format!("{:04x}", state.bits));
        self.states(
            state.bits,
            PART_BITS,
            names::is_gas(kind),
            state.time,
            &pattern,
            device_events,
        );
    }

    fn system_state(&self, state: &SystemState, device_events: &mut Vec<DeviceEvent<'a>>) {
        let System { kind, address } = state.system;
        let place = format!("{kind}.{address}");
        let pattern = self
            .device_event(&place)
            .with("system", named(names::system(kind), kind))
            .with("bits", format!("{:04x}", state.bits));
        self.states(
            state.bits,
            SYSTEM_BITS,
            false,
            state.time,
            &pattern,
            device_events,
        );
    }

    fn device_state(&self, state: DeviceState, device_events: &mut Vec<DeviceEvent<'a>>) {
        let pattern = self
            .device_event("")
            .with("bits", format!("{:02x}", state.bits));
        let bits = u16::from(state.bits);
        self.states(
            bits,
            DEVICE_BITS,
            false,
            state.time,
            &pattern,
            device_events,
        );
    }

    fn operation(
        &self,
        operation: Operation,
        device_events: &mut Vec<DeviceEvent<'a>>,
        all: &mut String,
    ) {
        let place = match operation.system {
            Some(system) => format!("{}.{}", system.kind, system.address),
            None => String::new(),
        };
        let (time, set) = self.time(operation.time);
        for bit in 0..8_u8 {
            if operation.bits & (1 << bit) == 0 {
                continue;
            }
            let name = names::operation(bit, operation.system.is_none());
            all.push_str(name);
            let (kind, severity) = match bit {
                2 => FIRE,
                3 => ("fire.restored", Severity::Info),
                4 | 6 => ("panel.test", Severity::Info),
                _ => continue,
            };
            let point = format!("operation{bit}");
            let mut device_event = self.device_event(&place).with("operation", name);
            device_event.kind = kind.into();
            device_event.severity = severity;
            device_event.id = self
                .id(&place, &point, u16::from(operation.bits), set)
                .into();
            device_event.time = time;
            if operation.operator != 0 {
                let number = operation.operator.to_string();
                device_event.persons.push((Person::Employee, number.into()));
            }
            device_events.push(device_event);
        }
    }

    /// An event without kind and time.
    fn device_event(&self, place: &str) -> DeviceEvent<'a> {
        let (device, by) = match place {
            "" => (Cow::Borrowed(self.host), None),
            _ => (
                format!("{}/{place}", self.host).into(),
                Some(self.host.into()),
            ),
        };
        DeviceEvent {
            by,
            replayed: self.head.command == Command::Reply,
            ..DeviceEvent::new("", Severity::Info, device)
        }
    }
}

/// A name, or the number where the standard has none.
fn named(name: &'static str, kind: u8) -> Cow<'static, str> {
    match name {
        "" => kind.to_string().into(),
        name => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gb26875::frame::{Framer, Piece};

    const NOW: DateTime = DateTime::constant(2026, 8, 1, 19, 19, 0, 0);
    const TIME: [u8; 6] = [48, 18, 19, 1, 8, 26];

    fn head(command: u8) -> Head {
        use crate::gb26875::frame::Address;
        Head {
            serial: 7,
            version: [1, 1],
            time: WireTime(TIME),
            source: Address::from_number(889).expect("six bytes"),
            destination: Address::from_number(1).expect("six bytes"),
            command: Command::from_number(command),
        }
    }

    fn part(kind: u8, bits: u16, time: [u8; 6]) -> Vec<u8> {
        let mut data = vec![2, 1, 1, 3, kind, 10, 0, 2, 0];
        data.extend_from_slice(&bits.to_le_bytes());
        data.extend_from_slice(b"3#\xc2\xa5");
        data.resize(42, 0);
        data.extend_from_slice(&time);
        data
    }

    /// Kind, on, initial, of each reported state.
    fn told(data: &[u8]) -> Vec<(String, bool, bool)> {
        let unit = Unit::decode(data).expect("a unit");
        let head = head(2);
        let Ok(DecodedMessage::Events(device_events)) = said("fire-1", &head, unit, NOW) else {
            panic!("events");
        };
        device_events
            .iter()
            .map(|device_event| {
                let state = device_event.state.as_ref().expect("a state");
                (device_event.kind.to_string(), state.active, state.initial)
            })
            .collect()
    }

    fn news(data: &[u8]) -> Vec<String> {
        told(data)
            .into_iter()
            .filter(|(_, _, initial)| !initial)
            .map(|(kind, _, _)| kind)
            .collect()
    }

    #[test]
    fn the_bits_of_a_part_are_its_kinds() {
        assert_eq!(news(&part(40, 0x0002, TIME)), ["fire.alarm"]);
        assert_eq!(news(&part(11, 0x0002, TIME)), ["gas.alarm"]);
        assert_eq!(news(&part(40, 0x0006, TIME)), ["fire.alarm", "fire.fault"]);
        assert_eq!(news(&part(40, 0x0008, TIME)), ["fire.shielded"]);
        assert_eq!(news(&part(40, 0x0010, TIME)), ["fire.supervised"]);
        assert_eq!(news(&part(91, 0x0021, TIME)), ["input.active"]);
        assert_eq!(news(&part(40, 0x0100, TIME)), ["device.power_lost"]);
        // Clear of everything, with bit 0 or without.
        for bits in [0, 1] {
            assert_eq!(
                news(&part(40, bits, TIME)),
                ["fire.restored", "fire.fault_restored"]
            );
        }
        assert_eq!(
            news(&part(12, 1, TIME)),
            ["gas.restored", "fire.fault_restored"]
        );
        // A state that is off beside one that is on is reported only if it was known to be on.
        let all = told(&part(40, 0x0004, TIME));
        assert_eq!(all.len(), PART_BITS.len());
        assert!(all.contains(&("fire.restored".to_owned(), false, true)));
    }

    #[test]
    fn the_bits_of_systems_and_devices_are_their_kinds() {
        let system = |bits: u16| {
            let [low, high] = bits.to_le_bytes();
            [vec![1, 1, 1, 2, low, high], TIME.to_vec()].concat()
        };
        assert_eq!(news(&system(0x0002)), ["fire.alarm"]);
        assert_eq!(
            news(&system(0x0704)),
            [
                "fire.fault",
                "device.power_lost",
                "device.battery_low",
                "fire.fault"
            ]
        );
        let device = |bits: u8| [vec![21, 1, bits], TIME.to_vec()].concat();
        assert_eq!(news(&device(0x02)), ["fire.alarm"]);
        assert_eq!(news(&device(0x08)), ["device.power_lost"]);
        assert_eq!(news(&device(0x60)), ["device.fault", "device.fault"]);
        assert_eq!(news(&device(0x01)), ["fire.restored", "device.restored"]);
    }

    #[test]
    fn a_part_has_its_place_its_words_and_its_time() {
        let data = part(40, 2, TIME);
        let head = head(2);
        let unit = Unit::decode(&data).expect("a unit");
        let Ok(DecodedMessage::Events(device_events)) = said("fire-1", &head, unit, NOW) else {
            panic!("events");
        };
        let alarm = &device_events[0];
        assert_eq!(alarm.device, "fire-1/1.3.10.2");
        assert_eq!(alarm.by.as_deref(), Some("fire-1"));
        assert_eq!(alarm.severity, Severity::Life);
        assert_eq!(alarm.id, "889-20260801191848-1.3.10.2-2-alarm");
        assert!(alarm.anew);
        assert_eq!(
            alarm.time,
            DeviceTime::Civil(DateTime::constant(2026, 8, 1, 19, 18, 48, 0))
        );
        let attribute = |name: &str| {
            let found = alarm.attributes.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.as_ref())
        };
        assert_eq!(attribute("text"), Some("3#楼"));
        assert_eq!(attribute("part"), Some("感烟火灾探测器"));
        assert_eq!(attribute("system"), Some("火灾报警系统"));
        assert_eq!(attribute("bits"), Some("0002"));
    }

    #[test]
    fn what_is_said_again_has_its_id_and_what_a_stopped_clock_says_has_another() {
        let ids = |time: [u8; 6], serial: u16| -> (String, bool) {
            let data = part(40, 2, time);
            let head = Head {
                serial,
                time: WireTime(time),
                ..head(2)
            };
            let unit = Unit::decode(&data).expect("a unit");
            let Ok(DecodedMessage::Events(device_events)) = said("fire-1", &head, unit, NOW) else {
                panic!("events");
            };
            (device_events[0].id.to_string(), device_events[0].anew)
        };
        // Recent: the frame that carries it does not matter.
        assert_eq!(ids(TIME, 1), ids(TIME, 2));
        // Long ago, or far ahead: it does.
        let mut old = TIME;
        old[1] = 1;
        assert_ne!(ids(old, 1), ids(old, 2));
        assert_eq!(ids(old, 1), ids(old, 1));
        // Never set, or no time at all: better reported twice than never.
        for unset in [[0; 6], [1, 1, 1, 1, 1, 0], [255; 6]] {
            assert_eq!(ids(unset, 1), (String::new(), true));
        }
    }

    #[test]
    fn operations_are_alarms_tests_or_left_out() {
        let operation = |bits: u8| [vec![24, 1, bits, 5], TIME.to_vec()].concat();
        let head = head(2);
        let kinds = |data: &[u8]| match said("h", &head, Unit::decode(data).expect("a unit"), NOW) {
            Ok(DecodedMessage::Events(device_events)) => device_events
                .iter()
                .map(|device_event| (device_event.kind.to_string(), device_event.persons.len()))
                .collect(),
            Ok(DecodedMessage::LeftOut { what, .. }) => vec![(what.into_owned(), 0)],
            other => panic!("{other:?}"),
        };
        assert_eq!(kinds(&operation(0x04)), [("fire.alarm".to_owned(), 1)]);
        assert_eq!(kinds(&operation(0x08)), [("fire.restored".to_owned(), 1)]);
        assert_eq!(kinds(&operation(0x10)), [("panel.test".to_owned(), 1)]);
        assert_eq!(
            kinds(&operation(0x21)),
            [("operation 复位查岗应答".to_owned(), 0)]
        );
        assert_eq!(
            kinds(&[vec![4, 1, 1, 1, 0x20, 5], TIME.to_vec()].concat()),
            [("operation 确认".to_owned(), 0)]
        );
    }

    #[test]
    fn a_reply_is_a_replay_and_a_sign_of_life_tells_the_time() {
        let replayed = |command: u8| {
            let data = part(40, 2, TIME);
            let unit = Unit::decode(&data).expect("a unit");
            match said("h", &head(command), unit, NOW) {
                Ok(DecodedMessage::Events(device_events)) => {
                    device_events.iter().all(|event| event.replayed)
                }
                other => panic!("{other:?}"),
            }
        };
        assert!(!replayed(2) && replayed(5));
        let civil = DateTime::constant(2026, 8, 1, 19, 18, 48, 0);
        assert_eq!(
            said("h", &head(2), Unit::Empty, NOW),
            Ok(DecodedMessage::Heartbeat {
                device: "h".into(),
                time: DeviceTime::Civil(civil)
            })
        );
    }

    #[test]
    fn every_command_comes_to_one_thing() {
        for command in 0..=255_u8 {
            let head = head(command);
            let said = said("h", &head, Unit::Empty, NOW);
            match command {
                2 | 5 => assert!(matches!(said, Ok(DecodedMessage::Heartbeat { .. }))),
                1 | 3 | 4 | 6 | 128.. => {
                    assert!(matches!(said, Ok(DecodedMessage::LeftOut { .. })))
                }
                _ => assert!(said.is_err()),
            }
        }
        for unit in [Unit::Vendor(200), Unit::Other(3), Unit::Clock(None)] {
            assert!(matches!(
                said("h", &head(2), unit, NOW),
                Ok(DecodedMessage::LeftOut { .. })
            ));
        }
    }

    #[test]
    fn the_public_frame_is_an_alarm_end_to_end() {
        let bytes = hex::decode(
            "404000000101180d11160a14000000000000060504030201300002020101030 0d900060002 00a3c1c7f8a3b1b2e3dfc8b2b8d7dfc0c8
             000000000000000000000000000000 301213010814 682323"
                .replace(char::is_whitespace, ""),
        )
        .expect("hexadecimal");
        let mut framer = Framer::default();
        framer.feed(&bytes);
        let Some(Piece::Frame(frame, _)) = framer.take() else {
            panic!("a frame");
        };
        let unit = Unit::decode(frame.data).expect("a unit");
        let Ok(DecodedMessage::Events(device_events)) = said("host", &frame.head, unit, NOW) else {
            panic!("events");
        };
        assert_eq!(device_events[0].kind, "fire.alarm");
        assert_eq!(device_events[0].device, "host/1.3.217.6");
    }
}
