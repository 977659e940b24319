//! The meaning of panels' codes, for Contact ID and SIA alike: a condition that is on or off, and its kinds of
//! events.
use linli_shared::protocol::event::Severity;

/// The subject of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Heat, flames, a button, a sprinkler.
    Fire,
    /// Smoke.
    Smoke,
    /// Gas or carbon monoxide.
    Gas,
    /// Water where none should be.
    Water,
    /// Somebody broke in.
    Intrusion,
    /// Somebody asks for help against somebody.
    Panic,
    /// Somebody is ill or has fallen.
    Medical,
    /// Somebody opened what should be shut.
    Tamper,
    /// Mains power.
    Power,
    /// A battery.
    Battery,
    /// A part of the fire system does not work.
    FireFault,
    /// A part of the fire system is switched off.
    FireShielded,
    /// A valve or pump of the fire system is not as it should be.
    FireSupervised,
    /// Any other fault.
    Fault,
    /// Another monitored input: cold, air, a tank.
    Input,
    /// The panel is armed.
    Armed,
    /// The panel is disarmed.
    Disarmed,
    /// A test by a person or by the panel.
    Test,
    /// A door was broken open.
    DoorForced,
    /// A door stands open.
    DoorHeld,
    /// Access was denied.
    DoorDenied,
    /// Access was granted.
    DoorOpened,
}

impl What {
    /// Kind and severity of the beginning or the end; `None`: of no interest.
    pub fn kind(self, active: bool) -> Option<(&'static str, Severity)> {
        if !active {
            let restored = match self {
                Self::Fire => "fire.restored",
                Self::FireFault => "fire.fault_restored",
                Self::FireShielded => "fire.unshielded",
                Self::FireSupervised => "fire.supervised_restored",
                Self::Smoke => "smoke.restored",
                Self::Gas => "gas.restored",
                Self::Water => "water.restored",
                Self::Intrusion => "intrusion.restored",
                Self::Panic => "panic.restored",
                Self::Tamper => "device.tamper_restored",
                Self::Fault => "device.restored",
                Self::Power => "device.power_restored",
                Self::Battery => "device.battery_restored",
                Self::Input => "input.inactive",
                Self::DoorForced | Self::DoorHeld => "door.closed",
                Self::Medical
                | Self::Armed
                | Self::Disarmed
                | Self::Test
                | Self::DoorDenied
                | Self::DoorOpened => return None,
            };
            return Some((restored, Severity::Info));
        }
        Some(match self {
            Self::Fire => ("fire.alarm", Severity::Life),
            Self::Smoke => ("smoke.alarm", Severity::Life),
            Self::Gas => ("gas.alarm", Severity::Life),
            Self::Water => ("water.alarm", Severity::Alarm),
            Self::Intrusion => ("intrusion.alarm", Severity::Alarm),
            Self::Panic => ("panic.alarm", Severity::Alarm),
            Self::Medical => ("medical.alarm", Severity::Alarm),
            Self::Tamper => ("device.tamper", Severity::Warning),
            Self::Power => ("device.power_lost", Severity::Notice),
            Self::Battery => ("device.battery_low", Severity::Notice),
            Self::FireFault => ("fire.fault", Severity::Warning),
            Self::FireShielded => ("fire.shielded", Severity::Warning),
            Self::FireSupervised => ("fire.supervised", Severity::Warning),
            Self::Fault => ("device.fault", Severity::Notice),
            Self::Input => ("input.active", Severity::Notice),
            Self::Armed => ("panel.armed", Severity::Info),
            Self::Disarmed => ("panel.disarmed", Severity::Info),
            Self::Test => ("panel.test", Severity::Info),
            Self::DoorForced => ("door.forced", Severity::Alarm),
            Self::DoorHeld => ("door.held", Severity::Warning),
            Self::DoorDenied => ("door.denied", Severity::Info),
            Self::DoorOpened => ("door.opened", Severity::Info),
        })
    }
}

/// The meaning of the number behind a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// A zone, a door, a device of the panel.
    Zone,
    /// A user's number at the panel: personal data, which is never forwarded as it is.
    User,
    /// A partition.
    Area,
    /// Nothing.
    None,
}

/// The meaning of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// Subject; `None`: of no interest here.
    pub what: Option<What>,
    /// The condition begins or goes on, and is not over.
    pub active: bool,
    /// Meaning of the number behind the code.
    pub number: Number,
}

#[cfg(test)]
mod tests {
    use super::*;
    use linli_shared::protocol::event::KNOWN_KINDS;

    const ALL: [What; 22] = [
        What::Fire,
        What::Smoke,
        What::Gas,
        What::Water,
        What::Intrusion,
        What::Panic,
        What::Medical,
        What::Tamper,
        What::Power,
        What::Battery,
        What::FireFault,
        What::FireShielded,
        What::FireSupervised,
        What::Fault,
        What::Input,
        What::Armed,
        What::Disarmed,
        What::Test,
        What::DoorForced,
        What::DoorHeld,
        What::DoorDenied,
        What::DoorOpened,
    ];

    #[test]
    fn every_kind_is_a_kind_and_what_threatens_lives_says_so() {
        for what in [What::Fire, What::Smoke, What::Gas] {
            assert_eq!(
                what.kind(true).map(|(_, severity)| severity),
                Some(Severity::Life)
            );
        }
        for what in ALL {
            for active in [true, false] {
                if let Some((kind, _)) = what.kind(active) {
                    assert!(KNOWN_KINDS.contains(&kind), "{kind}");
                }
            }
        }
        assert_eq!(What::Medical.kind(false), None);
    }
}
