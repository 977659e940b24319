//! MANSCDP: the XML bodies of MESSAGE and NOTIFY (GB/T 28181-2016 annex A.2, and 2022). Pure; the text is UTF-8
//! already ([`text`](crate::text)), whatever the body's declaration says.
//!
//! ```text
//! <Notify>    <CmdType>Alarm     <SN> <DeviceID> <AlarmPriority> <AlarmMethod> <AlarmTime> <Info><AlarmType>…   (A.2.5.2)
//! <Notify>    <CmdType>Keepalive <SN> <DeviceID> <Status>                                                    (A.2.5.1)
//! <Response>  <CmdType>Catalog   <SN> <DeviceID> <SumNum> <DeviceList Num><Item><DeviceID> <Name> <Status>…   (A.2.6.4)
//! ```
//!
//! Unknown names are skipped; of a body that is cut or damaged the intact part counts ([`xml`]). Each of several
//! bodies in one message is read ([`decode_all`]).
use std::borrow::Cow;

use crate::device_event::Reject;
use crate::xml::{self, Attributes, Elements};

/// Largest number of items of one body; the size of a message leaves no room for more.
pub const ITEMS_MAX: usize = 2048;
/// Largest number of bodies of one message; the size of a message leaves no room for more.
const BODIES_MAX: usize = 1024;

/// The root element.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Root {
    /// An event.
    Notify,
    /// An answer to the agent's request.
    Response,
    /// A request to the agent, which it does not answer.
    #[default]
    Other,
}

/// A channel of a catalogue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Item<'a> {
    /// Id of the channel.
    pub id: Cow<'a, str>,
    /// Name of the channel for people.
    pub name: Cow<'a, str>,
    /// `ON` or `OFF`.
    pub status: Cow<'a, str>,
    /// Event of a subscription: `ON`, `OFF`, `VLOST`, `DEFECT`, `ADD`, `DEL`, `UPDATE`.
    pub event: Cow<'a, str>,
}

/// A body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body<'a> {
    /// Root.
    pub root: Root,
    /// `CmdType`.
    pub command: Cow<'a, str>,
    /// `SN`.
    pub sn: Cow<'a, str>,
    /// `DeviceID`: the device, or one of its channels.
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
    /// Name of the root element.
    name: &'a str,
    /// The body is cut or damaged.
    is_broken: bool,
}

/// Reads the first body of a message.
pub fn decode(text: &str) -> Result<Body<'_>, Reject> {
    let mut bodies = decode_all(text);
    if bodies.is_empty() {
        return Err(Reject::new("the body is no XML"));
    }
    bodies.swap_remove(0)
}

/// Reads every body of a message, each on its own.
pub fn decode_all(text: &str) -> Vec<Result<Body<'_>, Reject>> {
    let mut reader = Reader::default();
    let is_cut = match xml::read(text, &mut reader) {
        Ok(is_cut) => is_cut,
        Err(reject) => return vec![Err(reject)],
    };
    reader.finish(is_cut);
    if reader.bodies.is_empty() && !text.trim_matches(is_blank).is_empty() {
        return vec![Err(Reject::new("the body is no XML"))];
    }
    let checked = reader.bodies.into_iter().map(Body::checked);
    checked.collect()
}

/// Some devices end their text with NULs.
fn is_blank(letter: char) -> bool {
    letter.is_whitespace() || letter == '\0'
}

#[derive(Default)]
struct Reader<'a> {
    body: Option<Body<'a>>,
    item: Option<Item<'a>>,
    bodies: Vec<Body<'a>>,
}

impl<'a> Reader<'a> {
    fn body(&mut self) -> &mut Body<'a> {
        self.body.get_or_insert_default()
    }

    fn finish(&mut self, is_broken: bool) {
        self.finish_item();
        if let Some(mut body) = self.body.take()
            && self.bodies.len() < BODIES_MAX
        {
            body.is_broken = is_broken;
            self.bodies.push(body);
        }
    }

    fn finish_item(&mut self) {
        if let Some(item) = self.item.take() {
            let items = &mut self.body().items;
            if items.len() < ITEMS_MAX {
                items.push(item);
            }
        }
    }
}

impl<'a> Elements<'a> for Reader<'a> {
    fn open(&mut self, name: &'a str, parents: &[&'a str], _: Attributes<'a>, _: usize) {
        let root = match name {
            "Notify" => Root::Notify,
            "Response" => Root::Response,
            _ => Root::Other,
        };
        if (parents.is_empty() && !is_field(name)) || root != Root::Other {
            // A root within another: the previous one lost its end.
            self.finish(!parents.is_empty());
            let body = self.body();
            (body.root, body.name) = (root, name);
        } else if name == "Item" && !parents.contains(&"Item") {
            self.finish_item();
            self.item = Some(Item::default());
        }
    }

    fn leaf(&mut self, name: &'a str, parents: &[&'a str], value: Cow<'a, str>) {
        if let Some(item) = &mut self.item {
            if parents.last() == Some(&"Item") {
                item.set(name, value);
            }
            return;
        }
        self.body().set(name, parents, value);
    }

    fn close(&mut self, name: &'a str, parents: &[&'a str], _: usize) {
        if name == "Item" && !parents.contains(&"Item") {
            self.finish_item();
        }
        if parents.is_empty() && !is_field(name) {
            self.finish(false);
        }
    }
}

/// Whether the name belongs within a root: if it stands alone, its root was damaged.
fn is_field(name: &str) -> bool {
    let fields = [
        "CmdType",
        "SN",
        "DeviceID",
        "Info",
        "Item",
        "DeviceList",
        "SumNum",
        "Status",
    ];
    name.starts_with("Alarm") || fields.contains(&name)
}

impl<'a> Body<'a> {
    fn checked(mut self) -> Result<Self, Reject> {
        let is_known = matches!(self.name, "Notify" | "Response" | "Query" | "Control");
        if is_known && !self.command.is_empty() {
            return Ok(self);
        }
        // The body has the fields of an alarm and no others, whatever became of its root.
        if !is_known && self.command == "Alarm" && !self.method.is_empty() {
            self.root = Root::Notify;
            return Ok(self);
        }
        Err(if self.is_broken {
            Reject::new("XML ends before its root does, and its CmdType is not there")
        } else if is_known {
            Reject::new("has no CmdType")
        } else {
            let name: String = self.name.chars().take(40).collect();
            Reject::new(format!("the root is {name:?} and none of MANSCDP"))
        })
    }

    fn set(&mut self, name: &str, parents: &[&str], value: Cow<'a, str>) {
        let within = |wanted: &str| parents.contains(&wanted);
        let is_root = |name: &&str| matches!(*name, "Notify" | "Response" | "Query" | "Control");
        let is_top = parents.len() <= 1 || parents.last().is_some_and(is_root);
        let place = match name {
            "CmdType" if is_top => &mut self.command,
            "SN" if is_top => &mut self.sn,
            "DeviceID" if is_top => &mut self.device,
            "AlarmPriority" if is_top => &mut self.priority,
            "AlarmMethod" if is_top => &mut self.method,
            "AlarmTime" if is_top => &mut self.time,
            "AlarmDescription" if is_top => &mut self.description,
            // Some devices put it beside Info.
            "AlarmType" => &mut self.alarm_type,
            "EventType" if within("AlarmTypeParam") || within("Info") => &mut self.event_type,
            _ => return,
        };
        // Info may be repeated: the first non-empty value is kept.
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

/// The request for all channels of a device (A.2.4.3).
pub fn query_catalog(sn: u32, device: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"GB2312\"?>\r\n<Query>\r\n<CmdType>Catalog</CmdType>\r\n<SN>{sn}</SN>\r\n<DeviceID>{device}</DeviceID>\r\n</Query>\r\n"
    )
}

/// The answer to an alarm once it is durable (A.2.6.2). `sn` and `device` are digits.
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
    fn what_is_no_body_or_hostile_is_refused() {
        let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><Notify><CmdType>&b;</CmdType></Notify>";
        let deep = format!("<Notify>{}", "<a>".repeat(1000));
        for text in [
            "",
            "x",
            "<Notify>",
            "<Notify></Notify>",
            "<html><CmdType>Alarm</CmdType></html>",
            bomb,
            &deep,
        ] {
            assert!(decode(text).is_err(), "{text:.60}");
        }
        let many = format!(
            "<Response><CmdType>Catalog</CmdType>{}</Response>",
            "<Item></Item>".repeat(ITEMS_MAX + 1)
        );
        assert_eq!(decode(&many).expect("a body").items.len(), ITEMS_MAX);
    }

    #[test]
    fn of_a_body_that_is_cut_or_damaged_what_is_whole_counts() {
        let method =
            ALARM.find("<AlarmMethod>").expect("a method") + "<AlarmMethod>5</AlarmMethod>".len();
        for cut in 0..ALARM.len() {
            let body = decode(&ALARM[..cut]);
            if cut > method {
                let body = body.expect("an alarm");
                assert_eq!([&body.command, &body.method], ["Alarm", "5"]);
            }
        }
        for text in [
            ALARM.replace("<Notify>", "<Notifx>"),
            ALARM.replace("<Notify>", "|Notify>"),
            ALARM.replace("</SN>", "</SM>"),
            ALARM.replace("</AlarmTime>", "xAlarmTime>"),
            ALARM.replace("</Info>", ""),
        ] {
            let body = decode(&text).expect(&text);
            assert_eq!(
                (body.root, body.method.as_ref()),
                (Root::Notify, "5"),
                "{text}"
            );
        }
        // A request about alarms is no alarm.
        let asked = ALARM.replace("Notify", "Query");
        assert_eq!(decode(&asked).expect("a body").root, Root::Other);
    }

    #[test]
    fn bodies_as_recorders_were_seen_to_write_them_are_read() {
        let doubled = "<?xml version=\"1.0\"?>\n<Response>\n<CmdType>Catalog</CmdType>\n<SN>317343</SN>\n<DeviceID>61010500002000000001</DeviceID>\n<DeviceList Num=\"2\">\n<Item>\n<DeviceID>1</DeviceID>\n<Status>ON</Status></Item>\n</Item>\n<Item><DeviceID>2</DeviceID><Address>??<KP?<K?'@?f/@P?<KL?\u{1}</Address><Status>OFF</Status></Item></DeviceList>\n</Response>\0";
        let body = decode(doubled).expect("a body");
        let items: Vec<[&str; 2]> = body
            .items
            .iter()
            .map(|item| [item.id.as_ref(), item.status.as_ref()])
            .collect();
        assert_eq!(items, [["1", "ON"], ["2", "OFF"]]);
    }

    #[test]
    fn each_of_several_bodies_is_read() {
        let two = format!(
            "{ALARM}{}<Notify><SN>3</SN></Notify>",
            ALARM.replace("<SN>1<", "<SN>2<")
        );
        let read = decode_all(&two);
        let sns: Vec<_> = read
            .iter()
            .map(|body| body.as_ref().map(|body| body.sn.as_ref()))
            .collect();
        assert_eq!(sns[..2], [Ok("1"), Ok("2")]);
        assert!(sns[2].is_err() && sns.len() == 3);
        let unclosed = two.replacen("</Notify>", "", 1);
        assert_eq!(decode_all(&unclosed).len(), 3);
        assert!(decode_all(" \0").is_empty());
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
