//! The meaning of a Dahua device's events. Pure.
//!
//! Start and Stop arrive once each, so a lasting condition is a state of the ingest and needs no memory here. Unknown
//! codes are left out by their names, and damaged names of known ones are rejected ([`misspelling`]).
//!
//! Times: `RealUTC` is true UTC; `UTC` is local time written as if it were UTC on many firmwares, so `LocaleTime`,
//! read in the source's zone, is preferred to it. An event that the device kept while it was offline is a replay.
use jiff::tz::TimeZone;
use linli_shared::protocol::event::Severity;
use linli_shared::protocol::ids::Retention;
use std::borrow::Cow;

use super::message::{Action, Data, Event, Message};
use crate::bounded;
use crate::device_event::{DecodedMessage, DeviceEvent, DeviceTime, Person, Reject, State};
use crate::misspelling;
use crate::time::{can_be, read};

/// Longest name of a code or a field.
const NAME_CHARS_MAX: usize = 40;

/// The meaning of a code.
#[derive(Clone, Copy)]
enum Sort {
    /// A momentary event; its end is no event.
    Moment(&'static str, Severity),
    /// A condition with a beginning and an end.
    State(&'static str, Severity, &'static str),
    /// A fault of a part.
    Fault(&'static str),
    /// Access granted or denied.
    Access,
    /// A door, open or closed by `Status`.
    Door,
}

/// Codes in lower case.
const CODES: &[(&[&str], Sort)] = &[
    (
        &["videomotion", "smartmotionhuman", "smartmotionvehicle"],
        Sort::Moment("camera.motion", Severity::Info),
    ),
    (
        &["crosslinedetection"],
        Sort::Moment("camera.line_crossed", Severity::Info),
    ),
    (
        &["crossregiondetection"],
        Sort::Moment("camera.intrusion", Severity::Notice),
    ),
    (
        &["videoblind", "videoloss"],
        Sort::State("camera.blind", Severity::Warning, "camera.restored"),
    ),
    (
        &["videoabnormaldetection", "scenechange"],
        Sort::State("camera.tamper", Severity::Warning, "camera.restored"),
    ),
    (
        &["alarmlocal"],
        Sort::State("input.active", Severity::Info, "input.inactive"),
    ),
    (
        &["firedetection", "firewarning"],
        Sort::State("fire.alarm", Severity::Life, "fire.restored"),
    ),
    (
        &["smokedetection"],
        Sort::State("smoke.alarm", Severity::Life, "smoke.restored"),
    ),
    (
        &["chassisintruded", "tamperalarm"],
        Sort::State("device.tamper", Severity::Warning, "device.tamper_restored"),
    ),
    (&["storagenotexist", "storagefailure"], Sort::Fault("disk")),
    (&["storagelowspace"], Sort::Fault("disk full")),
    (
        &["ipconflict", "macconflict"],
        Sort::Fault("network address"),
    ),
    (&["netabort"], Sort::Fault("network")),
    (&["fanspeed", "hightemperature"], Sort::Fault("cooling")),
    (
        &["powerfault"],
        Sort::State(
            "device.power_lost",
            Severity::Notice,
            "device.power_restored",
        ),
    ),
    (
        &["batterylowpower"],
        Sort::State(
            "device.battery_low",
            Severity::Notice,
            "device.battery_restored",
        ),
    ),
    (&["accesscontrol"], Sort::Access),
    (&["doorstatus"], Sort::Door),
    (&["breakin"], Sort::Moment("door.forced", Severity::Alarm)),
    (
        &["doornotclosed", "doornotclosedforlongtime"],
        Sort::Moment("door.held", Severity::Warning),
    ),
    (&["duress"], Sort::Moment("panic.alarm", Severity::Alarm)),
];

/// The meaning of a code; an unknown one is left out by its name, unless it is the damaged name of a known one.
fn sort(event: &Event<'_>) -> Result<Sort, Unmapped> {
    let code = event.code.to_ascii_lowercase();
    let mut table = CODES.iter();
    if let Some((_, sort)) = table.find(|(names, _)| names.contains(&code.as_str())) {
        return Ok(*sort);
    }
    let known = CODES.iter().flat_map(|(names, _)| names.iter().copied());
    Err(match misspelling::damage(&code, known) {
        Some(why) => Unmapped::Damaged(Reject::new(format!("Code {why}"))),
        None if event.is_cut => {
            let reason = format!("cut off behind Code={}", short(event.code));
            Unmapped::Damaged(Reject::new(reason))
        }
        None => Unmapped::LeftOut(format!("unknown code {}", short(event.code))),
    })
}

/// Why a message of a device is no event.
#[derive(Debug)]
enum Unmapped {
    /// Left out by a rule, which this names.
    LeftOut(String),
    Damaged(Reject),
}

/// Decodes a part. `parts`: channels and doors are devices of their own, `<device>/<number>`, counted from 1 as on
/// the device's own pages.
pub fn map<'a>(
    device: &str,
    parts: bool,
    message: &'a Message<'_>,
) -> Result<DecodedMessage<'a>, Reject> {
    let device = || Cow::Owned(device.to_owned());
    let Message::Events(events) = message else {
        return Ok(DecodedMessage::heartbeat(device()));
    };
    let mut device_events = Vec::new();
    let mut what = String::new();
    let mut damaged = None;
    for event in events {
        match device_event(&device(), parts, event) {
            Ok(device_event) => device_events.push(device_event),
            Err(Unmapped::LeftOut(rule)) => what = rule,
            Err(Unmapped::Damaged(reject)) => damaged = Some(reject),
        }
    }
    match damaged {
        _ if !device_events.is_empty() => Ok(DecodedMessage::Events(device_events)),
        Some(reject) => Err(reject),
        None => Ok(DecodedMessage::LeftOut {
            device: device(),
            what: what.into(),
        }),
    }
}

fn device_event<'a>(
    device: &str,
    parts: bool,
    event: &'a Event<'_>,
) -> Result<DeviceEvent<'a>, Unmapped> {
    let data = &event.data;
    let code = short(event.code);
    let over = event.action == Action::Stop;
    let mut state = None;
    let mut part = "";
    let left_out = |what: &str| Err(Unmapped::LeftOut(format!("{code} {what}")));
    let (kind, severity) = match sort(event)? {
        Sort::Moment(_, _) if over => return left_out("ended"),
        Sort::Moment(kind, severity) => (kind, severity),
        Sort::State(kind, severity, end) => {
            state = Some(());
            if over {
                (end, Severity::Info)
            } else {
                (kind, severity)
            }
        }
        Sort::Fault(name) => {
            part = name;
            state = Some(());
            if over {
                ("device.restored", Severity::Info)
            } else {
                ("device.fault", Severity::Notice)
            }
        }
        Sort::Access if over => return left_out("ended"),
        // Without a status, access succeeded.
        Sort::Access if is_no(&data.status.0) => ("door.denied", Severity::Info),
        Sort::Access => ("door.granted", Severity::Info),
        Sort::Door => match data.status.0.to_ascii_lowercase().as_str() {
            "open" | "opened" => ("door.opened", Severity::Info),
            "close" | "closed" => ("door.closed", Severity::Info),
            "break" => ("door.forced", Severity::Alarm),
            "" if event.action == Action::Start => ("door.opened", Severity::Info),
            "" if over => ("door.closed", Severity::Info),
            status => {
                return Err(Unmapped::Damaged(Reject::new(format!(
                    "{code}: Status {status:.40?} is neither open nor closed"
                ))));
            }
        },
    };
    // The end of a pulsed condition would never be reported.
    let state = state.filter(|()| event.action != Action::Pulse);
    let is_door = kind.starts_with("door.");
    let index = if is_door && !data.door.0.is_empty() {
        &data.door.0
    } else {
        event.index
    };
    let number = index
        .parse::<u32>()
        .map_or(0, |index| index.saturating_add(1));
    let named = if parts && number > 0 {
        format!("{device}/{number}")
    } else {
        device.to_owned()
    };
    let mut device_event = DeviceEvent::new(kind, severity, named).with("part", part);
    device_event.by = Some(device.to_owned().into());
    if number > 0 {
        let name = match kind {
            _ if is_door => "door",
            "input.active" | "input.inactive" => "input",
            _ => "channel",
        };
        device_event = device_event.with(name, number.to_string());
    }
    if state.is_some() {
        device_event.state = Some(State {
            point: format!("{code}/{number}").into(),
            active: !over,
            initial: false,
        });
    }
    device_event = device_event
        .with("target", target(event))
        .with("code", code);
    if is_door {
        device_event.retention = Retention::Access;
        device_event = device_event.with("by", method(&data.method.0));
        let at = [&data.real_utc, &data.utc, &data.locale_time]
            .into_iter()
            .find(|time| !time.0.is_empty());
        // Logs of a device are numbered until somebody clears them; the time makes the id unique for good.
        if let Some(at) = at
            && !data.rec_no.0.is_empty()
        {
            let id = format!("{device}/{}/{}", data.rec_no.0, at.0);
            device_event.id = bounded::bounded(id.into());
        }
    }
    device_event.time = time(data);
    device_event.replayed = !data.offline.0.is_empty() && !is_no(&data.offline.0);
    for (person, value) in [
        (Person::Card, &data.card_no.0),
        (Person::Employee, &data.user_id.0),
        (Person::Name, &data.card_name.0),
    ] {
        if !value.is_empty() && value.chars().any(|letter| letter != '0') {
            device_event.persons.push((person, Cow::Borrowed(value)));
        }
    }
    Ok(device_event)
}

fn target<'a>(event: &'a Event<'_>) -> &'a str {
    match event.code.to_ascii_lowercase().as_str() {
        "smartmotionhuman" => "human",
        "smartmotionvehicle" => "vehicle",
        _ => short(&event.data.object.object_type),
    }
}

/// The method of an access.
fn method(number: &str) -> &'static str {
    match number {
        "0" => "password",
        "1" => "card",
        "2" => "card then password",
        "3" => "password then card",
        "4" => "remote",
        "5" => "button",
        "6" => "fingerprint",
        "15" => "face",
        _ => "",
    }
}

fn time<'a>(data: &'a Data<'_>) -> DeviceTime<'a> {
    let utc = |text: &str| read(text, &TimeZone::UTC).filter(|ms| can_be(*ms));
    if let Some(ms) = utc(&data.real_utc.0) {
        return DeviceTime::Ms(ms);
    }
    if !data.locale_time.0.is_empty() {
        return DeviceTime::Text(&data.locale_time.0);
    }
    if let Some(ms) = utc(&data.utc.0) {
        return DeviceTime::Ms(ms);
    }
    // An unreadable one is returned as unreadable.
    match [&data.real_utc.0, &data.utc.0] {
        [text, _] | [_, text] if !text.is_empty() && text.as_ref() != "0" => DeviceTime::Text(text),
        _ => DeviceTime::None,
    }
}

/// Whether the text means false.
fn is_no(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "0" | "false" | "no")
}

/// The beginning of a device's name.
fn short(name: &str) -> &str {
    match name.char_indices().nth(NAME_CHARS_MAX) {
        Some((end, _)) => &name[..end],
        None => name,
    }
}

#[cfg(test)]
mod tests;
