//! Answers to a device (clauses 6.2 to 6.4 and 8.3.2). Pure; times are arguments.
//!
//! | frame of a device | answer | when |
//! | --- | --- | --- |
//! | 2 send, with a readable unit | 3 confirm, with its serial | once all of it is durable |
//! | 2 send, with an unreadable unit | 6 deny | once it is counted |
//! | 1 control with 90 or 91 | 3 confirm | at once |
//! | 4 request of 90, for the time | 5 reply, unit 90 with the time | at once |
//! | 4 request of anything else | 6 deny: the agent has no data to send | at once |
//! | 3, 5, 6: answers, and 128 to 255 | none | |
//! | 0 and 7 to 127, a wrong checksum | 6 deny | at once |
use jiff::civil::DateTime;

use super::frame::{Address, Command, Frame, Head, VERSION_MAIN, WireTime};
use super::unit::{SET_CLOCK, Unit};

/// The user's part of the version, if there is no device's to follow.
const VERSION_USER: u8 = 1;

/// The answer to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Accepted.
    Confirm,
    /// Refused.
    Deny,
    /// The time.
    Time,
}

/// The answer to a complete frame, `None` if none is due; `taken`: its unit was readable and its events are durable.
pub fn to(head: &Head, unit: Option<&Unit<'_>>, taken: bool) -> Option<Answer> {
    match head.command {
        Command::Send if taken => Some(Answer::Confirm),
        Command::Send => Some(Answer::Deny),
        Command::Control => match unit {
            Some(Unit::SetClock(_) | Unit::DutyCheck | Unit::Empty) => Some(Answer::Confirm),
            _ => Some(Answer::Deny),
        },
        Command::Request => match unit {
            Some(Unit::SetClock(_)) => Some(Answer::Time),
            _ => Some(Answer::Deny),
        },
        Command::Confirm | Command::Reply | Command::Deny | Command::Vendor(_) => None,
        Command::Reserved(_) => Some(Answer::Deny),
    }
}

impl Answer {
    /// Builds the answer to a frame with this head. `now`: a synchronised time; without one a device gets its own
    /// time back, and no answer to a request for the time.
    pub fn encode(self, head: &Head, now: Option<DateTime>) -> Vec<u8> {
        let time = now.map_or(head.time, WireTime::new);
        let clock = clock_unit(time);
        let (command, data): (Command, &[u8]) = match self {
            Self::Confirm => (Command::Confirm, &[]),
            Self::Deny => (Command::Deny, &[]),
            Self::Time if now.is_none() => (Command::Deny, &[]),
            Self::Time => (Command::Reply, &clock),
        };
        let head = Head {
            serial: head.serial,
            version: head.version,
            time,
            source: head.destination,
            destination: head.source,
            command,
        };
        Frame { head, data }.encode()
    }
}

fn clock_unit(time: WireTime) -> Vec<u8> {
    let mut data = vec![SET_CLOCK, 1];
    data.extend_from_slice(&time.0);
    data
}

/// Builds a frame that sets a device's clock (8.3.2.15).
pub fn set_clock(serial: u16, centre: Address, device: Address, now: DateTime) -> Vec<u8> {
    let time = WireTime::new(now);
    let head = Head {
        serial,
        version: [VERSION_MAIN, VERSION_USER],
        time,
        source: centre,
        destination: device,
        command: Command::Control,
    };
    let data = clock_unit(time);
    Frame { head, data: &data }.encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: DateTime = DateTime::constant(2012, 9, 26, 9, 58, 35, 0);

    fn head(command: u8) -> Head {
        Head {
            serial: 1,
            version: [1, 1],
            time: WireTime([32, 58, 9, 26, 9, 12]),
            source: Address::from_number(889).expect("six bytes"),
            destination: Address::from_number(88_888).expect("six bytes"),
            command: Command::from_number(command),
        }
    }

    #[test]
    fn confirm_deny_and_controls_are_those_of_the_public_examples() {
        let head = head(2);
        assert_eq!(
            hex::encode(Answer::Confirm.encode(&head, Some(NOW))),
            "40400100010123 3a091a090c 385b01000000 790300000000 0000 03 ab2323".replace(' ', "")
        );
        assert_eq!(
            hex::encode(Answer::Deny.encode(&head, Some(NOW))),
            "40400100010123 3a091a090c 385b01000000 790300000000 0000 06 ae2323".replace(' ', "")
        );
        let now = DateTime::constant(2012, 9, 26, 9, 58, 2, 0);
        let mut clock = set_clock(1, head.destination, head.source, now);
        // The example was sent half a minute after the time that it sets.
        clock[6] = 0x20;
        clock[35] = 0x7d;
        assert_eq!(
            hex::encode(clock),
            "40400100010120 3a091a090c 385b01000000 790300000000 0800 01 5a01023a091a090c 7d2323"
                .replace(' ', "")
        );
    }

    #[test]
    fn each_command_has_its_answer() {
        let clock = Unit::SetClock(None);
        for (command, unit, taken, answer) in [
            (2, Some(&Unit::Empty), true, Some(Answer::Confirm)),
            (2, Some(&Unit::Vendor(200)), true, Some(Answer::Confirm)),
            (2, None, false, Some(Answer::Deny)),
            (1, Some(&clock), true, Some(Answer::Confirm)),
            (1, Some(&Unit::DutyCheck), true, Some(Answer::Confirm)),
            (1, Some(&Unit::Other(89)), true, Some(Answer::Deny)),
            (4, Some(&clock), true, Some(Answer::Time)),
            (4, Some(&Unit::Other(61)), true, Some(Answer::Deny)),
            (3, Some(&Unit::Empty), true, None),
            (5, Some(&clock), true, None),
            (6, Some(&Unit::Empty), true, None),
            (200, None, false, None),
            (0, None, false, Some(Answer::Deny)),
            (100, Some(&Unit::Empty), true, Some(Answer::Deny)),
        ] {
            assert_eq!(
                to(&head(command), unit, taken),
                answer,
                "{command} {unit:?}"
            );
        }
    }
}
