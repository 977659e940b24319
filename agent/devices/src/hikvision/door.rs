//! The event of a door controller or door station (ISAPI `AccessControllerEvent`; a row of the answer to `POST
//! /ISAPI/AccessControl/AcsEvent` has the same fields under other names), and the meaning of its codes.
//!
//! A code is `majorEventType` / `subEventType`. The meanings are those of the device SDK's public table of access
//! control events (majors 1 alarm, 2 exception, 3 operation, 5 event); a code that is not in [`meaning`] is
//! left out and counted under its numbers.
//!
//! The wiring decides which code is the door's opening. Without a contact at the door, the lock's opening is the
//! door's; with one, both are reported, and the lock closes again long before the door does. [`Doors`] tracks both
//! for each door: a door is open from the first of them on, and closed when the contact is, or, if the contact never
//! opened, when the lock is.
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;

use crate::lenient_json;

/// Largest number of doors of one device that are tracked.
const DOORS_MAX: usize = 256;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DoorEvent<'a> {
    /// `majorEventType`.
    pub major: u32,
    /// `subEventType`.
    pub minor: Option<u32>,
    /// `doorNo`; empty for an event of no door.
    pub door: Cow<'a, str>,
    /// `serialNo`: counts up, and begins anew when the device is reset.
    pub serial: Cow<'a, str>,
    /// `currentVerifyMode`.
    pub mode: Cow<'a, str>,
    /// `cardNo`.
    pub card: Cow<'a, str>,
    /// `employeeNoString`, else `employeeNo`.
    pub employee: Cow<'a, str>,
    /// `name`.
    pub name: Cow<'a, str>,
    /// `currentEvent`: false if the event is of the past.
    pub current: Option<bool>,
}

impl<'de: 'a, 'a> Deserialize<'de> for DoorEvent<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let row = <&RawValue>::deserialize(deserializer)?;
        Ok(Self::row(row.get()).0)
    }
}

/// A number, however it is written.
fn number(text: &str) -> Option<u32> {
    let text = text.trim();
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u32::from_str_radix(digits, 16).ok();
    }
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    whole.parse().ok()
}

impl<'a> DoorEvent<'a> {
    /// Reads a row of the answer to a catch-up, and its time. Of a damaged row the intact fields count.
    pub fn row(text: &'a str) -> (Self, Cow<'a, str>) {
        let names = [
            "major",
            "majorEventType",
            "minor",
            "subEventType",
            "doorNo",
            "serialNo",
            "currentVerifyMode",
            "cardNo",
            "employeeNo",
            "employeeNoString",
            "name",
            "currentEvent",
            "dateTime",
            "time",
        ];
        let mut event = Self::default();
        let Some(picked) = lenient_json::pick(text, names) else {
            return (event, Cow::default());
        };
        let mut time = Cow::default();
        for (name, value) in names.into_iter().zip(picked.values) {
            match name {
                "time" | "dateTime" if !value.is_empty() => time = value,
                name => event.set(name, value),
            }
        }
        (event, time)
    }

    /// Sets a field by its name.
    pub fn set(&mut self, name: &str, value: Cow<'a, str>) {
        // The last non-empty value of a repeated name counts.
        if value.is_empty() {
            return;
        }
        match name {
            "majorEventType" | "major" => self.major = number(&value).unwrap_or_default(),
            "subEventType" | "minor" => self.minor = number(&value),
            "doorNo" => self.door = value,
            "serialNo" => self.serial = value,
            "currentVerifyMode" => self.mode = value,
            "cardNo" => self.card = value,
            "employeeNoString" => self.employee = value,
            "employeeNo" if self.employee.is_empty() => self.employee = value,
            "name" => self.name = value,
            "currentEvent" => {
                self.current = Some(!matches!(
                    value.to_ascii_lowercase().as_str(),
                    "false" | "0"
                ))
            }
            _ => {}
        }
    }

    /// Whether it has an event code.
    pub fn has_code(&self) -> bool {
        self.major != 0
    }
}

/// The meaning of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The lock is open, or closed again.
    Lock(bool),
    /// The contact at the door opened, or closed.
    Contact(bool),
    /// The door was opened without access being granted.
    Forced,
    /// The door is open for longer than the device allows.
    Held,
    /// Access was granted.
    Granted,
    /// Access was denied.
    Denied,
    /// Opening under duress, or the emergency button is pressed, or released.
    Panic(bool),
    /// The fire button is pressed, or released.
    FireButton(bool),
    /// A contact of the controller: its name, and whether it is active.
    Input(&'static str, bool),
    /// The housing of a part is opened, or closed.
    Tamper(&'static str, bool),
    /// A part does not work, or works again.
    Fault(&'static str, bool),
    /// A part does not work, and its recovery will not be reported.
    Broken(&'static str),
    /// Mains power is lost, or back.
    Power(bool),
    /// The battery is low, or charged.
    Battery(bool),
    /// A periodic report: a sign of life.
    Heartbeat,
    /// Known, and of no interest: the reason.
    LeftOut(&'static str),
    /// Unknown.
    Unknown,
}

/// See [`Meaning`].
pub fn meaning(major: u32, minor: u32) -> Meaning {
    match major {
        1 => alarm(minor),
        2 => exception(minor),
        3 => Meaning::LeftOut("operation"),
        4 => Meaning::LeftOut("information"),
        5 => event(minor),
        _ => Meaning::Unknown,
    }
}

fn alarm(minor: u32) -> Meaning {
    match minor {
        0x400..=0x402 => Meaning::Fault("zone", true),
        0x403 => Meaning::Fault("zone", false),
        0x404 | 0x405 => Meaning::Tamper("host", minor == 0x404),
        0x406 | 0x407 => Meaning::Tamper("reader", minor == 0x406),
        0x408 | 0x409 => Meaning::Input("case", minor == 0x408),
        0x40a | 0x41c => Meaning::Panic(true),
        0x40b => Meaning::LeftOut("memory for events nearly full"),
        0x40c => Meaning::Denied,
        0x40d => Meaning::Broken("memory card"),
        0x40e => Meaning::LeftOut("picture taken"),
        0x40f | 0x410 => Meaning::Tamper("security module", minor == 0x40f),
        0x415 | 0x416 => Meaning::Fault("fire input", true),
        0x417 => Meaning::Fault("fire input", false),
        0x418 | 0x419 => Meaning::FireButton(minor == 0x418),
        0x41a | 0x41b => Meaning::LeftOut("maintenance button"),
        0x41d => Meaning::Panic(false),
        0x41e | 0x41f => Meaning::Tamper("zone controller", minor == 0x41e),
        0x422 | 0x423 => Meaning::Tamper("lane controller", minor == 0x422),
        0x424 | 0x425 => Meaning::Input("fire", minor == 0x424),
        _ => Meaning::Unknown,
    }
}

fn exception(minor: u32) -> Meaning {
    let pair = |part, fault: u32| Meaning::Fault(part, minor == fault);
    match minor {
        0x27 => Meaning::Fault("network", true),
        0x407 => Meaning::Fault("network", false),
        0x3a | 0x3b => pair("RS-485", 0x3a),
        0x400 => Meaning::LeftOut("started"),
        0x401 => Meaning::LeftOut("shut down"),
        0x402 => Meaning::Broken("watchdog"),
        0x403 | 0x404 => Meaning::Battery(minor == 0x404),
        0x405 | 0x406 => Meaning::Power(minor == 0x406),
        0x408 => Meaning::Broken("flash"),
        0x409 | 0x40a => pair("reader", 0x409),
        0x40b | 0x40c => Meaning::LeftOut("indicator light"),
        0x40d | 0x40e => pair("lane controller", 0x40d),
        0x40f | 0x410 => pair("security module", 0x40f),
        0x411 | 0x412 => Meaning::Battery(minor == 0x412),
        0x413 | 0x414 => pair("controller's network", 0x413),
        0x415 | 0x416 => pair("RS-485 loop", 0x415),
        0x417 | 0x418 => pair("local controller", 0x417),
        0x419 | 0x41a => pair("RS-485 loop below", 0x419),
        0x41b | 0x41c => pair("zone controller", 0x41c),
        0x41d | 0x41e => pair("ID card reader", 0x41d),
        0x41f | 0x420 => pair("fingerprint module", 0x41f),
        0x421 | 0x422 => pair("camera", 0x421),
        0x423 | 0x424 => pair("serial line", 0x423),
        0x428 | 0x429 => Meaning::LeftOut("local login locked"),
        0x42c => Meaning::Broken("motor sensor"),
        0x42d | 0x42e => pair("CAN bus", 0x42d),
        _ => Meaning::Unknown,
    }
}

fn event(minor: u32) -> Meaning {
    match minor {
        0x01 | 0x02 | 0x10 | 0x22 | 0x26 | 0x28 | 0x2b | 0x2e | 0x36 | 0x39 | 0x3c | 0x3f
        | 0x42 | 0x45 | 0x48 | 0x4b | 0x4d | 0x65 | 0x69 | 0x99 => Meaning::Granted,
        0x03
        | 0x05..=0x0f
        | 0x27
        | 0x29
        | 0x2c
        | 0x2f
        | 0x31
        | 0x37
        | 0x3a
        | 0x3d
        | 0x40
        | 0x43
        | 0x46
        | 0x49
        | 0x4c
        | 0x4e
        | 0x50
        | 0x5e
        | 0x66
        | 0x68
        | 0x70
        | 0x71
        | 0x73
        | 0x75..=0x77
        | 0x82
        | 0x84
        | 0x97
        | 0x98
        | 0x9b => Meaning::Denied,
        0x04 | 0x24 | 0x2a | 0x2d | 0x30 | 0x38 | 0x3b | 0x3e | 0x41 | 0x44 | 0x47 | 0x4a
        | 0x4f | 0x67 | 0x9a => Meaning::LeftOut("verification not finished in time"),
        0x11 | 0x12 | 0x51 | 0x52 => Meaning::LeftOut("first card"),
        0x13 | 0x14 => Meaning::LeftOut("kept open by its schedule"),
        0x15 | 0x16 => Meaning::Lock(minor == 0x15),
        0x17 | 0x18 => Meaning::LeftOut("exit button"),
        0x19 | 0x1a => Meaning::Contact(minor == 0x19),
        0x1b => Meaning::Forced,
        0x1c => Meaning::Held,
        0x1d | 0x1e => Meaning::LeftOut("alarm output"),
        0x1f | 0x20 => Meaning::LeftOut("kept closed by its schedule"),
        0x21 | 0x23 | 0x32 => Meaning::LeftOut("verification goes on"),
        0x25 | 0x33 => Meaning::LeftOut("bell or call"),
        0x34 | 0x35 => Meaning::Input("fire relay", minor == 0x34),
        0x53..=0x55 | 0x5c | 0x5d => Meaning::Broken("lock"),
        0x56..=0x58 => Meaning::Broken("door contact"),
        0x59..=0x5b => Meaning::Broken("exit button"),
        0x5f..=0x64 => Meaning::LeftOut("relay"),
        0x83 => Meaning::Heartbeat,
        0x87 | 0x88 => Meaning::Forced,
        _ => Meaning::Unknown,
    }
}

/// The effect of a change of a lock or a contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// The door opened.
    Opened,
    /// The door closed.
    Closed,
    /// Already reported by the other one.
    Told,
}

/// Lock and contact of each door of one device.
#[derive(Debug, Clone, Default)]
pub struct Doors(HashMap<String, Door>);

#[derive(Debug, Default, Clone, Copy)]
struct Door {
    /// `None`: unknown since the start.
    open: Option<bool>,
    contact_open: bool,
}

impl Doors {
    fn door(&mut self, door: &str) -> Option<&mut Door> {
        if !self.0.contains_key(door) {
            if self.0.len() >= DOORS_MAX {
                return None;
            }
            self.0.insert(door.to_owned(), Door::default());
        }
        self.0.get_mut(door)
    }

    /// Records that the lock opened or closed.
    pub fn lock(&mut self, door: &str, open: bool) -> Passage {
        let passage = if open {
            Passage::Opened
        } else {
            Passage::Closed
        };
        match self.door(door) {
            // The door is not tracked, so both are reported.
            None => passage,
            Some(state) if state.contact_open || state.open == Some(open) => Passage::Told,
            Some(state) => {
                state.open = Some(open);
                passage
            }
        }
    }

    /// Records that the contact opened or closed.
    pub fn contact(&mut self, door: &str, open: bool) -> Passage {
        let passage = if open {
            Passage::Opened
        } else {
            Passage::Closed
        };
        let Some(state) = self.door(door) else {
            return passage;
        };
        state.contact_open = open;
        if state.open == Some(open) {
            return Passage::Told;
        }
        state.open = Some(open);
        passage
    }
}
