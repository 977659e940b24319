//! Maps a message to events, a sign of life, or nothing of interest. Pure.
//!
//! A panel is identified by its id in the config; a zone behind it is `<panel>/<zone>`. Alarms, faults and their ends
//! are events, not states: panels report them once, and many never report an end. A user's number and name are
//! personal data. Of extended data, places, coordinates, the trigger and the time of occurrence are taken; keys,
//! programs and the addresses of networks and pictures are not.
//!
//! A report is a replay if the panel marks it as reported before (`O` of SIA, 6 of Contact ID), or if it happened
//! more than [`QUEUED_SECONDS`] before it was sent, both by the panel's clock: then it waited in a queue.
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use linli_shared::protocol::ids::Retention;
use std::borrow::Cow;

use super::contact_id::{Qualifier, Report};
use super::meaning::{Meaning, Number, What};
use super::message::{self, Content};
use super::sia_dcs::{Block, Event};
use crate::device_event::{DecodedMessage, DeviceEvent, DeviceTime, Person};

/// Blocks of extended data that are kept, and their names.
const KEPT: [(char, &str); 7] = [
    ('L', "location"),
    ('O', "building_name"),
    ('R', "room"),
    ('S', "site_name"),
    ('T', "trigger"),
    ('X', "longitude"),
    ('Y', "latitude"),
];

/// Longest time between an event and its message, both by the panel's clock, that does not mean a queue.
const QUEUED_SECONDS: i64 = 120;

/// The message that is mapped.
#[derive(Debug, Clone, Copy)]
pub struct From<'a> {
    /// Id of the panel.
    pub panel: &'a str,
    /// The account in its header.
    pub account: &'a str,
    /// The beginning of its events' ids.
    pub stem: &'a str,
    /// Time of the first transmission, by the panel's clock.
    pub sent_ms: Option<i64>,
    /// Content of the message.
    pub content: &'a Content<'a>,
}

/// A UTC time, milliseconds since 1970.
pub fn utc_ms(time: DateTime) -> Option<i64> {
    let zoned = time.to_zoned(TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_millisecond())
}

impl<'a> From<'a> {
    fn occurred(&self) -> Option<DateTime> {
        self.content.block('H').and_then(message::time)
    }

    /// The time of occurrence, else the time of transmission. A time of occurrence that cannot be read is not replaced
    /// by that of transmission: the panel meant another.
    fn time(&self) -> DeviceTime<'a> {
        match (self.occurred().and_then(utc_ms), self.content.block('H')) {
            (Some(ms), _) => DeviceTime::Ms(ms),
            (None, Some(text)) if !text.trim().is_empty() => DeviceTime::Text(text),
            (None, _) => self.claim(self.sent_ms),
        }
    }

    fn claim(&self, ms: Option<i64>) -> DeviceTime<'a> {
        match (ms, &self.content.unread_time) {
            (Some(ms), _) => DeviceTime::Ms(ms),
            (None, Some(text)) => DeviceTime::Text(text),
            (None, None) => DeviceTime::None,
        }
    }

    /// Whether it happened long before it was sent.
    fn is_queued(&self) -> bool {
        let times = self.occurred().zip(self.content.time);
        times.is_some_and(|(occurred, sent)| {
            sent.duration_since(occurred).as_secs() > QUEUED_SECONDS
        })
    }

    /// The result of a link test: a sign of life, and the time of the panel's clock.
    pub fn heartbeat(&self) -> DecodedMessage<'a> {
        DecodedMessage::Heartbeat {
            device: self.panel.into(),
            time: self.claim(self.sent_ms),
        }
    }

    /// An event about the number behind a code.
    fn device_event(
        &self,
        index: usize,
        meaning: Meaning,
        code: &'a str,
        number: &'a str,
    ) -> Option<DeviceEvent<'a>> {
        let what = meaning.what?;
        let (kind, severity) = what.kind(meaning.active)?;
        let number = number.trim_start_matches('0');
        let behind = (meaning.number == Number::Zone && !number.is_empty()).then_some(number);
        let device: Cow<'a, str> = match behind {
            Some(zone) => format!("{}/{zone}", self.panel).into(),
            None => self.panel.into(),
        };
        let mut device_event = DeviceEvent {
            id: format!("{}-{index}", self.stem).into(),
            time: self.time(),
            replayed: self.is_queued(),
            by: behind.map(|_| self.panel.into()),
            retention: retention(what),
            ..DeviceEvent::new(kind, severity, device)
        }
        .with("code", code)
        .with("zone", behind.unwrap_or_default())
        .with("behind", self.content.behind.as_ref());
        match meaning.number {
            Number::User if !number.is_empty() => {
                device_event.persons.push((Person::Employee, number.into()));
            }
            Number::Area => device_event = device_event.with("partition", number),
            _ => {}
        }
        for (letter, name) in KEPT {
            device_event = device_event.with(name, self.content.block(letter).unwrap_or_default());
        }
        Some(device_event)
    }

    /// The account in the data, if it is not the panel's own.
    fn other(&self, account: &'a str) -> &'a str {
        match account.eq_ignore_ascii_case(self.account) {
            true => "",
            false => account,
        }
    }

    fn said(&self, device_events: Vec<DeviceEvent<'a>>, codes: String) -> DecodedMessage<'a> {
        if device_events.is_empty() {
            return DecodedMessage::LeftOut {
                device: self.panel.into(),
                what: format!("code {codes}").into(),
            };
        }
        DecodedMessage::Events(device_events)
    }

    /// Maps a Contact ID report.
    pub fn report(&self, report: Report<'a>) -> DecodedMessage<'a> {
        let device_event = self.device_event(0, report.meaning(), report.code, report.number);
        let partition = report.partition.trim_start_matches('0');
        let again = match report.qualifier {
            Qualifier::Previous => "previous",
            Qualifier::New | Qualifier::Restore => "",
        };
        let device_event = device_event.map(|mut device_event| {
            device_event.replayed |= report.qualifier == Qualifier::Previous;
            device_event
                .with("partition", partition)
                .with("report", again)
                .with("account", self.other(report.account))
        });
        let device_events = device_event.into_iter().collect();
        self.said(device_events, report.code.to_owned())
    }

    /// Maps a SIA block.
    pub fn block(&self, block: Block<'a>) -> DecodedMessage<'a> {
        let events = block.events.iter().enumerate();
        let device_events = events
            .filter_map(|(index, event)| self.event(index, event, &block))
            .collect();
        let codes: Vec<&str> = block.events.iter().map(|event| event.code).collect();
        self.said(device_events, codes.join(" "))
    }

    fn event(&self, index: usize, event: &Event<'a>, block: &Block<'a>) -> Option<DeviceEvent<'a>> {
        let meaning = event.meaning();
        let mut device_event = self.device_event(index, meaning, event.code, event.number)?;
        device_event.replayed |= event.previous;
        let is_of_user = meaning.number == Number::User;
        if is_of_user && !event.words.is_empty() {
            device_event
                .persons
                .push((Person::Name, event.words.into()));
        } else if !names_people(&device_event.kind) {
            device_event = device_event.with("text", event.words);
        }
        if !event.user.is_empty() && !is_of_user {
            let user = event.user.trim_start_matches('0');
            device_event.persons.push((Person::Employee, user.into()));
        }
        // The panel's words about a user contain their name.
        if !is_of_user && event.user.is_empty() && !names_people(&device_event.kind) {
            let text = match block.text {
                "" => self.content.block('I').unwrap_or_default(),
                text => text,
            };
            device_event = device_event.with("words", text);
        }
        Some(
            device_event
                .with("partition", event.partition.trim_start_matches('0'))
                .with("peripheral", event.peripheral)
                .with("report", if event.previous { "previous" } else { "" })
                .with("account", self.other(block.account)),
        )
    }
}

/// Events about people who come and go are kept as long as those of doors.
fn retention(what: What) -> Retention {
    match what {
        What::Armed
        | What::Disarmed
        | What::DoorDenied
        | What::DoorForced
        | What::DoorHeld
        | What::DoorOpened => Retention::Access,
        _ => Retention::Standard,
    }
}

/// Whether the words of such an alarm are likely to identify a person: a button that a person wears.
fn names_people(kind: &str) -> bool {
    matches!(kind, "medical.alarm" | "panic.alarm" | "panic.restored")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Claim;
    use linli_shared::protocol::event::Severity;

    fn content(text: &str) -> Content<'_> {
        Content::read(text.as_bytes()).expect("content")
    }

    fn from<'a>(content: &'a Content<'a>) -> From<'a> {
        From {
            panel: "panel-1",
            account: "1234",
            stem: "panel-1-0001-5",
            sent_ms: content.time.and_then(utc_ms),
            content,
        }
    }

    fn attribute<'a>(device_event: &'a DeviceEvent<'_>, name: &str) -> Option<&'a str> {
        let found = device_event
            .attributes
            .iter()
            .find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_ref())
    }

    #[test]
    fn a_report_of_a_zone_is_an_event_of_the_zone() {
        let content =
            content("#1234|1110 01 015][L三楼][X093W][K00112233][Vhttp://a/b]_23:59:58,12-31-2026");
        let report = Report::read(&content.data).expect("a report");
        let DecodedMessage::Events(device_events) = from(&content).report(report) else {
            panic!("events");
        };
        let [device_event] = &device_events[..] else {
            panic!("one")
        };
        assert_eq!(device_event.kind, "fire.alarm");
        assert_eq!(device_event.severity, Severity::Life);
        assert_eq!(device_event.device, "panel-1/15");
        assert_eq!(device_event.by.as_deref(), Some("panel-1"));
        assert_eq!(device_event.id, "panel-1-0001-5-0");
        assert_eq!(device_event.time, DeviceTime::Ms(1_798_761_598_000));
        assert_eq!(attribute(device_event, "zone"), Some("15"));
        assert_eq!(attribute(device_event, "partition"), Some("1"));
        assert_eq!(attribute(device_event, "location"), Some("三楼"));
        assert_eq!(attribute(device_event, "longitude"), Some("093W"));
        assert_eq!(attribute(device_event, "account"), None);
        let kept: Vec<&str> = device_event
            .attributes
            .iter()
            .map(|(_, value)| value.as_ref())
            .collect();
        assert!(
            !kept
                .iter()
                .any(|value| value.contains("0011") || value.contains("http"))
        );
    }

    #[test]
    fn a_user_is_a_person_and_what_is_said_of_one_is_dropped() {
        let content = content("#1234|1401 01 007]");
        let report = Report::read(&content.data).expect("a report");
        let DecodedMessage::Events(device_events) = from(&content).report(report) else {
            panic!("events");
        };
        assert_eq!(device_events[0].kind, "panel.disarmed");
        assert_eq!(device_events[0].device, "panel-1");
        assert_eq!(device_events[0].persons, [(Person::Employee, "7".into())]);
        assert_eq!(device_events[0].retention, Retention::Access);
        let content =
            self::content("#1234|Nri1/OP007^Zhang San^|ADisarmed by Zhang San][IZhang San]");
        let block = Block::read(&content.data).expect("a block");
        let DecodedMessage::Events(device_events) = from(&content).block(block) else {
            panic!("events");
        };
        assert_eq!(
            device_events[0].persons,
            [
                (Person::Employee, "7".into()),
                (Person::Name, "Zhang San".into())
            ]
        );
        assert!(!format!("{:?}", device_events[0].attributes).contains("Zhang"));
    }

    #[test]
    fn several_events_of_a_block_have_ids_of_their_own() {
        let content =
            content("#99|Nri2/FA003^Hall^/TA4/RR|AFire][H10:00:00,01-02-2026]_10:05:00,01-02-2026");
        let block = Block::read(&content.data).expect("a block");
        let DecodedMessage::Events(device_events) = from(&content).block(block) else {
            panic!("events");
        };
        let [fire, tamper] = &device_events[..] else {
            panic!("two")
        };
        assert_eq!(
            (fire.kind.as_ref(), tamper.kind.as_ref()),
            ("fire.alarm", "device.tamper")
        );
        assert_ne!(fire.id, tamper.id);
        assert_eq!(attribute(fire, "text"), Some("Hall"));
        assert_eq!(attribute(fire, "words"), Some("Fire"));
        assert_eq!(attribute(fire, "partition"), Some("2"));
        assert_eq!(attribute(fire, "account"), Some("99"));
        // The time of occurrence takes precedence over that of transmission.
        assert_eq!(fire.time, DeviceTime::Ms(1_767_348_000_000));
    }

    #[test]
    fn a_report_that_stood_in_a_queue_or_was_told_before_is_a_replay() {
        let replayed = |text: &str| {
            let content = content(text);
            let said = match Report::read(&content.data) {
                Ok(report) => from(&content).report(report),
                Err(_) => from(&content).block(Block::read(&content.data).expect("a block")),
            };
            match said {
                DecodedMessage::Events(device_events) => device_events[0].replayed,
                other => panic!("{other:?}"),
            }
        };
        assert!(!replayed("#1234|1110 01 015]_10:05:00,01-02-2026"));
        assert!(!replayed(
            "#1234|1110 01 015][H10:04:59,01-02-2026]_10:05:00,01-02-2026"
        ));
        assert!(replayed(
            "#1234|1110 01 015][H10:00:00,01-02-2026]_10:05:00,01-02-2026"
        ));
        assert!(replayed("#1234|6110 01 015]_10:05:00,01-02-2026"));
        assert!(!replayed("#1234|NFA015]"));
        assert!(replayed("#1234|OFA015]"));
    }

    #[test]
    fn a_time_of_occurrence_that_cannot_be_read_is_kept_as_it_is_written() {
        let content = content("#1234|1110 01 015][H10:99:00,01-02-2026]_10:05:00,01-02-2026");
        let report = Report::read(&content.data).expect("a report");
        let DecodedMessage::Events(device_events) = from(&content).report(report) else {
            panic!("events");
        };
        let claim = device_events[0].time.claim(&TimeZone::UTC);
        assert_eq!(claim, Claim::Unreadable("10:99:00,01-02-2026".into()));
        // An empty one says nothing.
        let content = self::content("#1234|1110 01 015][H ]_10:05:00,01-02-2026");
        let report = Report::read(&content.data).expect("a report");
        let DecodedMessage::Events(device_events) = from(&content).report(report) else {
            panic!("events");
        };
        assert_eq!(device_events[0].time, DeviceTime::Ms(1_767_348_300_000));
    }

    #[test]
    fn a_link_test_tells_the_time_and_a_time_that_is_none_costs_nothing() {
        let heartbeat = |text: &str| {
            let content = content(text);
            match from(&content).heartbeat() {
                DecodedMessage::Heartbeat { device, time } => {
                    format!("{device} {:?}", time.claim(&TimeZone::UTC))
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            heartbeat("]_15:39:38,06-07-2019"),
            "panel-1 Ms(1559921978000)"
        );
        assert_eq!(heartbeat("]"), "panel-1 None");
        assert_eq!(
            heartbeat("]_00:00:00,00-00-0000"),
            "panel-1 Unreadable(\"00:00:00,00-00-0000\")"
        );
        let content = content("#1234|1110 01 045]text_00:00:00,00-00-0000");
        let report = Report::read(&content.data).expect("a report");
        let DecodedMessage::Events(device_events) = from(&content).report(report) else {
            panic!("events");
        };
        assert_eq!(device_events[0].kind, "fire.alarm");
        assert_eq!(attribute(&device_events[0], "behind"), Some("text"));
    }

    #[test]
    fn what_nobody_needs_is_left_out_by_its_code() {
        let content = content("#1234|NRR/MI5]");
        let block = Block::read(&content.data).expect("a block");
        assert_eq!(
            from(&content).block(block),
            DecodedMessage::LeftOut {
                device: "panel-1".into(),
                what: "code RR MI".into(),
            }
        );
    }
}
