//! MANSCDP: what devices say in the bodies of MESSAGE and NOTIFY, as XML (GB/T 28181-2016 annex A.2, and 2022). Pure; the
//! text is UTF-8 already ([`text`](crate::text)), whatever the body's declaration says.
//!
//! ```text
//! <Notify>    <CmdType>Alarm     <SN> <DeviceID> <AlarmPriority> <AlarmMethod> <AlarmTime> <Info><AlarmType>…   (A.2.5.2)
//! <Notify>    <CmdType>Keepalive <SN> <DeviceID> <Status>                                                    (A.2.5.1)
//! <Response>  <CmdType>Catalog   <SN> <DeviceID> <SumNum> <DeviceList Num><Item><DeviceID> <Name> <Status>…   (A.2.6.4)
//! ```
//!
//! Names that are not here are passed over. A document type is refused and no entity but the five of XML and letters by
//! number is expanded, so a body never becomes larger than its bytes.
use quick_xml::Reader;
use quick_xml::events::Event;
use std::borrow::Cow;

use crate::device_event::Reject;
use crate::xml;

/// Levels of elements.
const DEPTH_MAX: usize = 16;
/// Items of one body.
pub const ITEMS_MAX: usize = 256;

/// What the root element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// Something that happened.
    Notify,
    /// An answer to what the agent asked.
    Response,
    /// A question to the agent, which it has no answer to.
    Other,
}

/// A channel of a catalogue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Item<'a> {
    /// Its id.
    pub id: Cow<'a, str>,
    /// What people call it.
    pub name: Cow<'a, str>,
    /// `ON` or `OFF`.
    pub status: Cow<'a, str>,
    /// Of a subscription: `ON`, `OFF`, `VLOST`, `DEFECT`, `ADD`, `DEL`, `UPDATE`.
    pub event: Cow<'a, str>,
}

/// A body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body<'a> {
    /// Root.
    pub root: Root,
    /// `CmdType`.
    pub command: Cow<'a, str>,
    /// `SN`.
    pub sn: Cow<'a, str>,
    /// `DeviceID`: of the device, or of one of its channels.
    pub device: Cow<'a, str>,
    /// `AlarmPriority`, 1 (highest) to 4.
    pub priority: Cow<'a, str>,
    /// `AlarmMethod`.
    pub method: Cow<'a, str>,
    /// `AlarmTime`, without a zone.
    pub time: Cow<'a, str>,
    /// `AlarmDescription`.
    pub description: Cow<'a, str>,
    /// `AlarmType` within `Info`.
    pub alarm_type: Cow<'a, str>,
    /// `EventType` within `AlarmTypeParam`: 1 enters, 2 leaves.
    pub event_type: Cow<'a, str>,
    /// `Item`s.
    pub items: Vec<Item<'a>>,
}

/// Reads a body.
pub fn decode(text: &str) -> Result<Body<'_>, Reject> {
    // Some end their text with NULs.
    let text = text.trim_matches(|letter: char| letter.is_whitespace() || letter == '\0');
    let mut reader = Reader::from_str(text);
    reader.config_mut().allow_dangling_amp = true;
    let mut body = Body {
        root: Root::Other,
        command: Cow::default(),
        sn: Cow::default(),
        device: Cow::default(),
        priority: Cow::default(),
        method: Cow::default(),
        time: Cow::default(),
        description: Cow::default(),
        alarm_type: Cow::default(),
        event_type: Cow::default(),
        items: Vec::new(),
    };
    let mut depth = 0;
    let mut item: Option<(usize, Item<'_>)> = None;
    let mut value: Cow<'_, str> = Cow::default();
    loop {
        let event = reader
            .read_event()
            .map_err(|error| Reject::new(format!("the body is no XML: {error}")))?;
        match event {
            Event::Start(start) => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(Reject::new(format!("XML has more than {DEPTH_MAX} levels")));
                }
                let name = start.local_name();
                if depth == 1 {
                    body.root = match name.as_ref() {
                        "Notify" => Root::Notify,
                        "Response" => Root::Response,
                        "Query" | "Control" => Root::Other,
                        other => {
                            let other: String = other.chars().take(40).collect();
                            return Err(Reject::new(format!(
                                "the root is {other:?} and none of MANSCDP"
                            )));
                        }
                    };
                } else if name.as_ref() == "Item" && item.is_none() {
                    if body.items.len() >= ITEMS_MAX {
                        return Err(Reject::new(format!(
                            "more than {ITEMS_MAX} items in one message"
                        )));
                    }
                    item = Some((depth, Item::default()));
                }
                value = Cow::default();
            }
            Event::End(end) => {
                let text = xml::trimmed(std::mem::take(&mut value));
                let name = end.local_name();
                if let Some((at, open)) = &mut item {
                    if depth == *at + 1 {
                        open.set(name.as_ref(), text);
                    } else if depth == *at {
                        body.items.extend(item.take().map(|(_, item)| item));
                    }
                } else {
                    body.set(name.as_ref(), depth, text);
                }
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            Event::Text(text) => xml::add(&mut value, text.into_inner()),
            Event::CData(text) => xml::add(&mut value, text.into_inner()),
            Event::GeneralRef(reference) => {
                // What nobody declared is nothing.
                if let Some(letter) = xml::letter(&reference)? {
                    value.to_mut().push(letter);
                }
            }
            Event::DocType(_) => return Err(xml::doctype()),
            Event::Eof => return Err(Reject::new("XML ends before its root does")),
            Event::Empty(_) | Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
        }
    }
    if body.command.is_empty() {
        return Err(Reject::new("has no CmdType"));
    }
    Ok(body)
}

impl<'a> Body<'a> {
    fn set(&mut self, name: &str, depth: usize, value: Cow<'a, str>) {
        let place = match (name, depth) {
            ("CmdType", 2) => &mut self.command,
            ("SN", 2) => &mut self.sn,
            ("DeviceID", 2) => &mut self.device,
            ("AlarmPriority", 2) => &mut self.priority,
            ("AlarmMethod", 2) => &mut self.method,
            ("AlarmTime", 2) => &mut self.time,
            ("AlarmDescription", 2) => &mut self.description,
            // Some write it beside Info.
            ("AlarmType", 2 | 3) => &mut self.alarm_type,
            ("EventType", 3 | 4) => &mut self.event_type,
            _ => return,
        };
        // Info may be there again: the first that says something stands.
        if place.is_empty() {
            *place = value;
        }
    }
}

impl<'a> Item<'a> {
    fn set(&mut self, name: &str, value: Cow<'a, str>) {
        match name {
            "DeviceID" => self.id = value,
            "Name" => self.name = value,
            "Status" => self.status = value,
            "Event" => self.event = value,
            _ => {}
        }
    }
}

/// The question for all channels of a device (A.2.4.3).
pub fn query_catalog(sn: u32, device: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"GB2312\"?>\r\n<Query>\r\n<CmdType>Catalog</CmdType>\r\n<SN>{sn}</SN>\r\n<DeviceID>{device}</DeviceID>\r\n</Query>\r\n"
    )
}

/// What a device is told of its alarm once it is durable (A.2.6.2). `sn` and `device` are digits.
pub fn alarm_taken(sn: u32, device: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"GB2312\"?>\r\n<Response>\r\n<CmdType>Alarm</CmdType>\r\n<SN>{sn}</SN>\r\n<DeviceID>{device}</DeviceID>\r\n<Result>OK</Result>\r\n</Response>\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALARM: &str = "<?xml version=\"1.0\" encoding=\"GB2312\"?>\r\n<Notify>\r\n<CmdType>Alarm</CmdType>\r\n<SN>1</SN>\r\n<DeviceID>34020000001320000001</DeviceID>\r\n<AlarmPriority>4</AlarmPriority>\r\n<AlarmTime>2026-07-01T12:00:00</AlarmTime>\r\n<AlarmMethod>5</AlarmMethod>\r\n<Info>\r\n<AlarmType>6</AlarmType>\r\n<AlarmTypeParam><EventType>1</EventType></AlarmTypeParam>\r\n</Info>\r\n</Notify>\r\n";

    #[test]
    fn an_alarm_and_a_catalogue_are_read() {
        let body = decode(ALARM).expect("a body");
        assert_eq!(body.root, Root::Notify);
        assert_eq!(
            [
                &body.command,
                &body.sn,
                &body.method,
                &body.alarm_type,
                &body.event_type
            ],
            ["Alarm", "1", "5", "6", "1"]
        );
        assert_eq!(body.time, "2026-07-01T12:00:00");
        let text = "<Response><CmdType>Catalog</CmdType><SN>2</SN><DeviceID>9</DeviceID><SumNum>2</SumNum><DeviceList Num=\"2\"><Item><DeviceID>1</DeviceID><Name>A &amp; B&#x4e2d;</Name><Status>ON</Status><Info><PTZType>3</PTZType><DeviceID>77</DeviceID></Info></Item><Item><DeviceID>2</DeviceID><Status>OFF</Status><Event>OFF</Event></Item></DeviceList></Response>\0\0";
        let body = decode(text).expect("a body");
        assert_eq!((body.root, body.device.as_ref()), (Root::Response, "9"));
        let items: Vec<[&str; 3]> = body
            .items
            .iter()
            .map(|item| [item.id.as_ref(), &item.name, &item.status])
            .collect();
        assert_eq!(items, [["1", "A & B中", "ON"], ["2", "", "OFF"]]);
    }

    #[test]
    fn an_alarm_without_a_type_or_with_two_infos_is_read() {
        let bare = "<Notify><CmdType>Alarm</CmdType><SN>1</SN><DeviceID>9</DeviceID><AlarmMethod>2</AlarmMethod></Notify>";
        assert_eq!(decode(bare).expect("a body").alarm_type, "");
        let two = bare.replace(
            "</Notify>",
            "<Info></Info><Info><AlarmType>2</AlarmType></Info><Info><AlarmType>3</AlarmType></Info></Notify>",
        );
        assert_eq!(decode(&two).expect("a body").alarm_type, "2");
    }

    #[test]
    fn what_is_broken_or_hostile_is_refused() {
        let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><Notify><CmdType>&b;</CmdType></Notify>";
        let deep = format!("<Notify>{}", "<a>".repeat(DEPTH_MAX));
        let many = format!(
            "<Response><CmdType>Catalog</CmdType>{}</Response>",
            "<Item></Item>".repeat(ITEMS_MAX + 1)
        );
        for text in [
            "",
            "x",
            "<Notify>",
            "<Notify></Notify>",
            "<Notify><CmdType>Alarm</SN></Notify>",
            "<html><CmdType>Alarm</CmdType></html>",
            "<Notify><CmdType>&#xd800;</CmdType></Notify>",
            bomb,
            &deep,
            &many,
        ] {
            assert!(decode(text).is_err(), "{text:.60}");
        }
        // An entity that nobody declared is nothing.
        assert!(decode("<Notify><CmdType>&b;</CmdType></Notify>").is_err());
        for cut in 0..ALARM.trim_end().len() {
            assert!(decode(&ALARM[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn what_the_agent_says_is_xml() {
        assert_eq!(decode(&query_catalog(7, "9")).expect("a body").sn, "7");
        let taken = alarm_taken(8, "9");
        let body = decode(&taken).expect("a body");
        assert_eq!(
            (body.root, body.command.as_ref()),
            (Root::Response, "Alarm")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(</?[A-Za-z]{1,9}( [a-z]=\"x\")?/?>|<(Notify|Item|Info|CmdType)>|&[a-z#0-9]{0,4};?|[ -~]{0,9}){0,40}") {
            let _ = decode(&text);
        }
    }
}
