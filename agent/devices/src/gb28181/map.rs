//! Maps a body to events, a sign of life, or nothing of interest. Pure.
//!
//! A device is identified by its id of 20 digits; a channel behind it is `<device>/<channel>`.
//!
//! * Alarms (GB/T 28181-2016 § 9.4 and A.2.5.2; types 8 to 13 of video are of 2022) are events and no states: no
//!   device reports their end. A repeated alarm has the id of the first: device, channel, SN, time and kind. If the
//!   device's time is implausible, SNs that begin anew would make alarms of two days the same, so Call-ID joins the
//!   id.
//! * A command that is none of the standard's is rejected; one that is no alarm is left out by its name.
//! * Channels of a catalogue are states: `OFF` is an event even in the first report, `ON` only after an `OFF`.
//! * The text of an alarm is kept only for faults of the device itself: that of others may name a person or a plate.
use linli_shared::protocol::event::Severity;
use std::borrow::Cow;

use super::manscdp::{Body, Item, Root};
use crate::device_event::{DecodedMessage, DeviceEvent, DeviceTime, Reject, State};
use crate::misspelling;

/// Commands of the standard (annex A) that are no alarms, in 2016 and 2022.
const COMMANDS: &[&str] = &[
    "Alarm",
    "AlarmStatus",
    "Broadcast",
    "Catalog",
    "ConfigDownload",
    "CruiseTrackListQuery",
    "CruiseTrackQuery",
    "DeviceConfig",
    "DeviceControl",
    "DeviceInfo",
    "DeviceStatus",
    "DeviceUpgradeResult",
    "HomePositionQuery",
    "Keepalive",
    "MediaStatus",
    "MobilePosition",
    "PTZPosition",
    "PTZPreciseStatusQuery",
    "PresetQuery",
    "RecordInfo",
    "SDCardStatus",
    "UploadSnapShotFinished",
    "VideoUploadNotify",
];

/// Longest id of a device or channel.
const ID_BYTES_MAX: usize = 32;

/// The message that is mapped.
#[derive(Debug, Clone, Copy)]
pub struct From<'a> {
    /// The sending device.
    pub device: &'a str,
    /// Distinguishes its message if its time is implausible; empty if it is plausible.
    pub call: &'a str,
}

/// Kind, severity and standard name of an alarm, by `AlarmMethod`, `AlarmType` and the channel's id.
fn alarm(method: &str, alarm_type: &str, channel: &str) -> (&'static str, Severity, &'static str) {
    use Severity::{Alarm, Info, Notice, Warning};
    // Digits 11 to 13 of an id: 134 is an input for alarms (annex D).
    let is_input = channel.get(10..13) == Some("134");
    match (method, alarm_type) {
        ("1", _) => ("panic.alarm", Alarm, "电话报警"),
        ("3", _) => ("panic.alarm", Alarm, "短信报警"),
        ("4", _) => ("panic.alarm", Alarm, "GPS报警"),
        ("2", "1") => ("camera.blind", Warning, "视频丢失"),
        ("2", "2") => ("device.tamper", Warning, "设备防拆"),
        ("2", "3") => ("device.fault", Notice, "存储设备磁盘满"),
        ("2", "4") => ("device.fault", Notice, "设备高温"),
        ("2", "5") => ("device.fault", Notice, "设备低温"),
        ("5", "1") => ("panic.alarm", Alarm, "人工视频报警"),
        ("5", "2") => ("camera.motion", Info, "运动目标检测"),
        ("5", "3") => ("camera.motion", Warning, "遗留物检测"),
        ("5", "4") => ("camera.motion", Warning, "物体移除检测"),
        ("5", "5") => ("camera.line_crossed", Warning, "绊线检测"),
        ("5", "6") => ("camera.intrusion", Warning, "入侵检测"),
        ("5", "7") => ("camera.motion", Notice, "逆行检测"),
        ("5", "8") => ("camera.motion", Notice, "徘徊检测"),
        ("5", "9") => ("camera.motion", Notice, "流量统计"),
        ("5", "10") => ("camera.motion", Notice, "密度检测"),
        ("5", "11") => ("device.fault", Notice, "视频异常检测"),
        ("5", "12") => ("camera.motion", Notice, "快速移动"),
        ("5", "13") => ("camera.blind", Warning, "图像遮挡"),
        ("6", "1") => ("device.fault", Notice, "存储设备磁盘故障"),
        ("6", "2") => ("device.fault", Notice, "存储设备风扇故障"),
        _ if is_input => ("input.active", Warning, "报警输入"),
        ("2", _) => ("device.fault", Notice, "设备报警"),
        ("5", _) => ("camera.motion", Info, "视频报警"),
        ("6", _) => ("device.fault", Notice, "设备故障报警"),
        _ => ("input.active", Warning, "其他报警"),
    }
}

fn is_id(id: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The number, if it can be returned to a device in an answer as received.
pub fn number(sn: &str) -> Option<u32> {
    sn.parse().ok()
}

impl<'a> From<'a> {
    /// The device of an event, and the sender of the message if it is another. An invalid id loses the channel and
    /// not the alarm: the event then belongs to the device.
    fn place(&self, id: &str) -> (Cow<'a, str>, Option<Cow<'a, str>>) {
        if id == self.device || !is_id(id) {
            return (self.device.into(), None);
        }
        let part = format!("{}/{id}", self.device).into();
        (part, Some(self.device.into()))
    }

    /// Maps a body.
    pub fn said(&self, body: &'a Body<'a>) -> Result<DecodedMessage<'a>, Reject> {
        let command = body.command.as_ref();
        let is = |known: &str| command.eq_ignore_ascii_case(known);
        match body.root {
            Root::Notify if is("Keepalive") => Ok(DecodedMessage::heartbeat(self.device)),
            Root::Notify if is("Alarm") => Ok(DecodedMessage::Events(vec![self.alarm(body)])),
            Root::Response | Root::Notify if is("Catalog") => self.catalog(body),
            _ => self.other(command),
        }
    }

    /// A command that is no alarm: one of the standard's or of a vendor, or a damaged name.
    fn other(&self, command: &str) -> Result<DecodedMessage<'a>, Reject> {
        let is_known = COMMANDS
            .iter()
            .any(|known| command.eq_ignore_ascii_case(known));
        let damage = match command {
            _ if is_known => None,
            "" => Some("is missing".to_owned()),
            _ if !command.is_ascii() => Some(format!("{command:.40?} is no name")),
            _ => misspelling::damage(command, COMMANDS.iter().copied()),
        };
        match damage {
            Some(why) => Err(Reject::new(format!("CmdType {why}"))),
            None => Ok(DecodedMessage::LeftOut {
                device: self.device.into(),
                what: format!("CmdType {command}").into(),
            }),
        }
    }

    /// Why parts of a body that [`said`](Self::said) has mapped are left: channels that are none.
    pub fn broken(&self, body: &Body<'_>) -> Option<Reject> {
        if body.root == Root::Other || !body.command.eq_ignore_ascii_case("Catalog") {
            return None;
        }
        let mut broken = body.items.iter().filter_map(|item| item.broken());
        let first = broken.next()?;
        let count = 1 + broken.count();
        Some(Reject::new(format!(
            "{count} of {} channels of the Catalog cannot be read: {first}",
            body.items.len()
        )))
    }

    fn alarm(&self, body: &'a Body<'a>) -> DeviceEvent<'a> {
        let (device, by) = self.place(&body.device);
        let (method, alarm_type) = (digits(&body.method), digits(&body.alarm_type));
        let (kind, severity, name) = alarm(method, alarm_type, &body.device);
        let id = format!(
            "{}-{}-{}-{}-{}-{}-{}",
            self.device,
            bounded(&body.device),
            bounded(&body.sn),
            bounded(&body.time),
            bounded(&body.method),
            bounded(&body.alarm_type),
            self.call,
        );
        let id = crate::bounded::bounded(id.into()).into_owned();
        let is_fault = matches!(method, "2" | "6");
        let device_event = DeviceEvent {
            id: id.into(),
            by,
            time: match body.time.as_ref() {
                "" => DeviceTime::None,
                time => DeviceTime::Text(time),
            },
            ..DeviceEvent::new(kind, severity, device)
        };
        device_event
            .with("alarm", name)
            .with("alarm_method", body.method.as_ref())
            .with("alarm_type", body.alarm_type.as_ref())
            .with("priority", body.priority.as_ref())
            .with(
                "passage",
                match body.event_type.as_ref() {
                    "1" => "enters",
                    "2" => "leaves",
                    _ => "",
                },
            )
            .with(
                "text",
                if is_fault {
                    body.description.as_ref()
                } else {
                    ""
                },
            )
    }

    fn catalog(&self, body: &'a Body<'a>) -> Result<DecodedMessage<'a>, Reject> {
        let whole = body.items.iter().filter(|item| item.broken().is_none());
        let device_events: Vec<_> = whole.filter_map(|item| self.channel(item)).collect();
        if device_events.is_empty()
            && let Some(reject) = self.broken(body)
        {
            return Err(reject);
        }
        if device_events.is_empty() {
            return Ok(DecodedMessage::LeftOut {
                device: self.device.into(),
                what: "Catalog without a channel that is on or off".into(),
            });
        }
        Ok(DecodedMessage::Events(device_events))
    }

    fn channel(&self, item: &'a Item<'a>) -> Option<DeviceEvent<'a>> {
        let is_on = item.is_on()?;
        if item.id == self.device {
            return None;
        }
        let (device, by) = self.place(&item.id);
        let (kind, severity) = match is_on {
            true => ("camera.restored", Severity::Info),
            false => ("camera.offline", Severity::Notice),
        };
        let device_event = DeviceEvent {
            by,
            state: Some(State {
                point: "catalog".into(),
                active: !is_on,
                initial: is_on,
            }),
            ..DeviceEvent::new(kind, severity, device)
        };
        Some(device_event.with("channel", item.name.as_ref()))
    }
}

impl Item<'_> {
    /// Whether the channel is on; `None`: the item does not say.
    fn is_on(&self) -> Option<bool> {
        let is =
            |text: &str, words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
        let (event, status) = (self.event.as_ref(), self.status.as_ref());
        if is(event, &["ON", "ONLINE"]) {
            Some(true)
        } else if is(event, &["OFF", "OFFLINE", "VLOST", "DEFECT"]) {
            Some(false)
        // Channels that are added, changed or removed are judged by their status.
        } else if is(status, &["ON", "ONLINE", "OK", "1"]) {
            Some(true)
        } else if is(status, &["OFF", "OFFLINE", "0"]) {
            Some(false)
        } else {
            None
        }
    }

    /// Why the item cannot be read. One without a status is whole: a group of channels has none.
    fn broken(&self) -> Option<String> {
        if !is_id(&self.id) {
            return Some(format!("DeviceID {:.40?} is none", self.id));
        }
        let is_told = !self.status.is_empty();
        (is_told && self.is_on().is_none())
            .then(|| format!("Status {:.40?} is neither ON nor OFF", self.status))
    }
}

/// A number without leading zeros.
fn digits(text: &str) -> &str {
    match text.trim_start_matches('0') {
        "" if !text.is_empty() => "0",
        digits => digits,
    }
}

/// The front of a value, so that an id stays short.
fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(24)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gb28181::manscdp::decode;
    use linli_shared::protocol::event::KNOWN_KINDS;

    const DEVICE: &str = "34020000001180000001";
    const CHANNEL: &str = "34020000001320000001";
    const FROM: From<'static> = From {
        device: DEVICE,
        call: "",
    };

    fn text(channel: &str, method: &str, alarm_type: &str) -> String {
        format!(
            "<Notify><CmdType>Alarm</CmdType><SN>5</SN><DeviceID>{channel}</DeviceID><AlarmPriority>4</AlarmPriority><AlarmMethod>{method}</AlarmMethod><AlarmTime>2026-07-01T12:00:00</AlarmTime><AlarmDescription>words</AlarmDescription><Info><AlarmType>{alarm_type}</AlarmType><AlarmTypeParam><EventType>2</EventType></AlarmTypeParam></Info></Notify>"
        )
    }

    fn attribute<'a>(device_event: &'a DeviceEvent<'_>, name: &str) -> &'a str {
        let found = device_event
            .attributes
            .iter()
            .find(|(found, _)| *found == name);
        found.map_or("", |(_, value)| value)
    }

    #[test]
    fn each_method_and_type_has_a_known_kind() {
        for method in ["", "0", "1", "2", "3", "4", "5", "6", "7", "8", "x"] {
            for alarm_type in 0..20 {
                for channel in [CHANNEL, "34020000001340000001", "9"] {
                    let (kind, _, name) = alarm(method, &alarm_type.to_string(), channel);
                    assert!(KNOWN_KINDS.contains(&kind) && !name.is_empty(), "{kind}");
                }
            }
        }
        let kind = |method, alarm_type, channel| alarm(method, alarm_type, channel).0;
        assert_eq!(kind("5", "6", CHANNEL), "camera.intrusion");
        assert_eq!(kind("5", "5", CHANNEL), "camera.line_crossed");
        assert_eq!(kind("5", "13", CHANNEL), "camera.blind");
        assert_eq!(kind("2", "2", CHANNEL), "device.tamper");
        assert_eq!(kind("2", "", CHANNEL), "device.fault");
        assert_eq!(kind("2", "", "34020000001340000001"), "input.active");
        assert_eq!(kind("6", "1", DEVICE), "device.fault");
        assert_eq!(kind("1", "", DEVICE), "panic.alarm");
    }

    #[test]
    fn an_alarm_is_of_its_channel_and_has_the_same_id_when_it_comes_again() {
        let text = text(CHANNEL, "5", "6");
        let body = decode(&text).expect("a body");
        let Ok(DecodedMessage::Events(device_events)) = FROM.said(&body) else {
            panic!("no events");
        };
        let [device_event] = device_events.as_slice() else {
            panic!("{device_events:?}");
        };
        assert_eq!(device_event.device, format!("{DEVICE}/{CHANNEL}"));
        assert_eq!(device_event.by.as_deref(), Some(DEVICE));
        assert_eq!(device_event.time, DeviceTime::Text("2026-07-01T12:00:00"));
        assert_eq!(
            device_event.id,
            format!("{DEVICE}-{CHANNEL}-5-2026-07-01T12:00:00-5-6-")
        );
        assert!(device_event.id.len() <= 128 && device_event.state.is_none());
        assert_eq!(attribute(device_event, "passage"), "leaves");
        assert_eq!(attribute(device_event, "alarm"), "入侵检测");
        // The text of a camera may name somebody; that of a disk does not.
        assert_eq!(attribute(device_event, "text"), "");
        let fault = self::text(DEVICE, "6", "1");
        let body = decode(&fault).expect("a body");
        let Ok(DecodedMessage::Events(device_events)) = FROM.said(&body) else {
            panic!("no events");
        };
        assert_eq!(device_events[0].device, DEVICE);
        assert_eq!(attribute(&device_events[0], "text"), "words");
    }

    #[test]
    fn channels_that_are_off_are_told_at_once_and_those_on_only_after() {
        let text = format!(
            "<Response><CmdType>Catalog</CmdType><SN>1</SN><DeviceID>{DEVICE}</DeviceID><SumNum>4</SumNum><DeviceList Num=\"4\"><Item><DeviceID>{CHANNEL}</DeviceID><Name>大堂</Name><Status>ON</Status></Item><Item><DeviceID>2</DeviceID><Status>OFF</Status></Item><Item><DeviceID>3</DeviceID></Item><Item><DeviceID>{DEVICE}</DeviceID><Status>ON</Status></Item></DeviceList></Response>"
        );
        let body = decode(&text).expect("a body");
        let Ok(DecodedMessage::Events(device_events)) = FROM.said(&body) else {
            panic!("no events");
        };
        let told: Vec<(&str, &str, bool)> = device_events
            .iter()
            .map(|device_event| {
                let state = device_event.state.as_ref().expect("a state");
                (
                    device_event.kind.as_ref(),
                    device_event.device.as_ref(),
                    state.initial,
                )
            })
            .collect();
        let (on, off) = (format!("{DEVICE}/{CHANNEL}"), format!("{DEVICE}/2"));
        assert_eq!(
            told,
            [
                ("camera.restored", on.as_str(), true),
                ("camera.offline", off.as_str(), false)
            ]
        );
    }

    #[test]
    fn broken_channels_beside_good_ones_are_rejected_and_cost_only_themselves() {
        let text = format!(
            "<Response><CmdType>Catalog</CmdType><SN>1</SN><DeviceID>{DEVICE}</DeviceID><DeviceList><Item><DeviceID>1</DeviceID><Status>OFF</Status></Item><Item><DeviceID>a/b</DeviceID><Status>OFF</Status></Item><Item><DeviceID>3</DeviceID><Status>OFE</Status></Item><Item><DeviceID>4</DeviceID></Item></DeviceList></Response>"
        );
        let body = decode(&text).expect("a body");
        let Ok(DecodedMessage::Events(device_events)) = FROM.said(&body) else {
            panic!("no events");
        };
        assert_eq!(device_events.len(), 1);
        let reject = FROM.broken(&body).expect("two are broken");
        assert!(reject.reason.starts_with("2 of 4 channels"), "{reject}");
        let good = text.replace("a/b", "2").replace("OFE", "ON");
        assert_eq!(FROM.broken(&decode(&good).expect("a body")), None);
        // Without a good one the whole body is rejected.
        let all = text
            .replace("<DeviceID>1<", "<DeviceID>?<")
            .replace("<DeviceID>4<", "<DeviceID>!<");
        assert!(FROM.said(&decode(&all).expect("a body")).is_err());
    }

    #[test]
    fn signs_of_life_and_what_is_of_no_interest() {
        let said = |text: &str| {
            let body = decode(text).expect("a body");
            match FROM.said(&body) {
                Ok(DecodedMessage::Heartbeat { .. }) => "heartbeat",
                Ok(DecodedMessage::LeftOut { .. }) => "left out",
                Ok(DecodedMessage::Events(_)) => "events",
                Err(_) => "rejected",
            }
        };
        let of = |root: &str, command: &str, id: &str| {
            said(&format!(
                "<{root}><CmdType>{command}</CmdType><SN>1</SN><DeviceID>{id}</DeviceID></{root}>"
            ))
        };
        assert_eq!(of("Notify", "Keepalive", DEVICE), "heartbeat");
        assert_eq!(of("Notify", "MobilePosition", DEVICE), "left out");
        assert_eq!(of("Response", "Catalog", DEVICE), "left out");
        assert_eq!(of("Response", "Alarm", DEVICE), "left out");
        assert_eq!(of("Query", "Catalog", DEVICE), "left out");
        // A command that does not exist may have been an alarm.
        assert_eq!(of("Notify", "Alasm", DEVICE), "rejected");
        // An invalid channel loses no alarm.
        assert_eq!(of("Notify", "Alarm", "a/b"), "events");
        assert_eq!(of("Notify", "Alarm", ""), "events");
        assert_eq!(of("Notify", "keepAlive", DEVICE), "heartbeat");
    }
}
