//! The SOAP messages of an ONVIF event service (ONVIF Core Specification, § 9 Event handling; WS-BaseNotification 1.3;
//! WS-Addressing 1.0; WS-Security UsernameToken Profile 1.0). Pure: requests are written, answers are read.
//!
//! Answers are read by the local names of elements, for devices differ in their prefixes. A DOCTYPE is refused, and no entity
//! but the five of XML is known, so an answer is never larger than its bytes.
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use std::fmt::Write;

use crate::xml;

/// Elements within each other.
const DEPTH_MAX: usize = 32;
/// Notifications of one answer.
pub const NOTIFICATIONS_MAX: usize = 256;
/// Items of one notification.
const ITEMS_MAX: usize = 32;
/// How long a PullMessages waits at the device, seconds.
pub const PULL_S: u64 = 20;
/// How long a subscription lives unless it is renewed, seconds.
pub const TERMINATION_S: u64 = 120;

/// Who asks.
pub struct Token<'a> {
    /// User.
    pub user: &'a str,
    /// Password.
    pub password: &'a str,
    /// 16 random bytes.
    pub nonce: [u8; 16],
    /// The device's time as `2026-07-01T04:00:00Z`: a device refuses one that is off.
    pub created: &'a str,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Its clock; needs no password.
    GetSystemDateAndTime,
    /// Where its event service is.
    GetCapabilities,
    /// A subscription that is pulled.
    CreatePullPointSubscription,
    /// What has happened.
    PullMessages,
    /// The subscription is to live on.
    Renew,
    /// It is to end.
    Unsubscribe,
}

impl Call {
    /// The action of WS-Addressing.
    pub fn action(self) -> &'static str {
        match self {
            Self::GetSystemDateAndTime => {
                "http://www.onvif.org/ver10/device/wsdl/GetSystemDateAndTime"
            }
            Self::GetCapabilities => "http://www.onvif.org/ver10/device/wsdl/GetCapabilities",
            Self::CreatePullPointSubscription => {
                "http://www.onvif.org/ver10/events/wsdl/EventPortType/CreatePullPointSubscriptionRequest"
            }
            Self::PullMessages => {
                "http://www.onvif.org/ver10/events/wsdl/PullPointSubscription/PullMessagesRequest"
            }
            Self::Renew => "http://docs.oasis-open.org/wsn/bw-2/SubscriptionManager/RenewRequest",
            Self::Unsubscribe => {
                "http://docs.oasis-open.org/wsn/bw-2/SubscriptionManager/UnsubscribeRequest"
            }
        }
    }

    fn body(self) -> String {
        match self {
            Self::GetSystemDateAndTime => {
                r#"<GetSystemDateAndTime xmlns="http://www.onvif.org/ver10/device/wsdl"/>"#.to_owned()
            }
            Self::GetCapabilities => {
                r#"<GetCapabilities xmlns="http://www.onvif.org/ver10/device/wsdl"><Category>Events</Category></GetCapabilities>"#.to_owned()
            }
            Self::CreatePullPointSubscription => format!(
                r#"<CreatePullPointSubscription xmlns="http://www.onvif.org/ver10/events/wsdl"><InitialTerminationTime>PT{TERMINATION_S}S</InitialTerminationTime></CreatePullPointSubscription>"#
            ),
            Self::PullMessages => format!(
                r#"<PullMessages xmlns="http://www.onvif.org/ver10/events/wsdl"><Timeout>PT{PULL_S}S</Timeout><MessageLimit>64</MessageLimit></PullMessages>"#
            ),
            Self::Renew => format!(
                r#"<Renew xmlns="http://docs.oasis-open.org/wsn/b-2"><TerminationTime>PT{TERMINATION_S}S</TerminationTime></Renew>"#
            ),
            Self::Unsubscribe => r#"<Unsubscribe xmlns="http://docs.oasis-open.org/wsn/b-2"/>"#.to_owned(),
        }
    }

    /// The whole request to `to`.
    pub fn envelope(self, to: &str, token: Option<&Token<'_>>) -> String {
        let mut out = String::with_capacity(1024);
        out.push_str(
            r#"<?xml version="1.0" encoding="UTF-8"?><s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://www.w3.org/2005/08/addressing"><s:Header>"#,
        );
        if let Some(token) = token {
            out.push_str(&token.header());
        }
        // Writing to a String does not fail.
        let _ = write!(
            out,
            "<a:Action>{}</a:Action><a:To>{}</a:To></s:Header><s:Body>{}</s:Body></s:Envelope>",
            self.action(),
            quick_xml::escape::escape(to),
            self.body()
        );
        out
    }
}

impl Token<'_> {
    /// The digest of the profile: Base64(SHA-1(nonce + created + password)).
    fn digest(&self) -> String {
        let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        context.update(&self.nonce);
        context.update(self.created.as_bytes());
        context.update(self.password.as_bytes());
        base64(context.finish().as_ref())
    }

    fn header(&self) -> String {
        const WSSE: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss";
        format!(
            r#"<o:Security s:mustUnderstand="1" xmlns:o="{WSSE}-wssecurity-secext-1.0.xsd"><o:UsernameToken><o:Username>{}</o:Username><o:Password Type="{WSSE}-username-token-profile-1.0#PasswordDigest">{}</o:Password><o:Nonce EncodingType="{WSSE}-soap-message-security-1.0#Base64Binary">{}</o:Nonce><u:Created xmlns:u="{WSSE}-wssecurity-utility-1.0.xsd">{}</u:Created></o:UsernameToken></o:Security>"#,
            quick_xml::escape::escape(self.user),
            self.digest(),
            base64(&self.nonce),
            self.created
        )
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// One thing that a device tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notification {
    /// Topic without prefixes, `VideoSource/MotionAlarm`.
    pub topic: String,
    /// As the device writes it.
    pub time: String,
    /// `Initialized`, `Changed`, `Deleted`, or nothing.
    pub operation: String,
    /// Name and value, of the source.
    pub source: Vec<(String, String)>,
    /// Name and value, of what happened.
    pub data: Vec<(String, String)>,
    /// Where it stands in the answer.
    pub bytes: std::ops::Range<usize>,
}

/// What an answer has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// A fault: its reason and subcode.
    pub fault: Option<String>,
    /// The address of the subscription.
    pub address: Option<String>,
    /// `XAddr` of the events, of a GetCapabilities.
    pub events: Option<String>,
    /// The device's UTC time: year, month, day, hour, minute, second.
    pub utc: Option<[i32; 6]>,
    /// Notifications.
    pub notifications: Vec<Notification>,
    /// Elements of a notification that could not be read, each with its reason.
    pub broken: Vec<String>,
}

/// Why an answer could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SoapError {
    /// It is not XML.
    #[error("no XML at byte {at}: {why}")]
    Xml {
        /// Where.
        at: u64,
        /// Why.
        why: String,
    },
    /// It has a DOCTYPE.
    #[error("a DOCTYPE is not taken")]
    Doctype,
    /// It goes too deep.
    #[error("elements are more than {DEPTH_MAX} deep")]
    Deep,
    /// It is something else.
    #[error("no SOAP envelope: is this the address of an ONVIF device?")]
    NoEnvelope,
    /// More than are asked for.
    #[error("more than {NOTIFICATIONS_MAX} notifications in one answer")]
    Many,
}

/// Where the text that comes next goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Into {
    Nothing,
    Fault,
    Address,
    XAddr,
    Topic,
    Utc(usize),
}

/// Reads an answer.
pub fn read(text: &str) -> Result<Answer, SoapError> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_end_names = false;
    let mut answer = Answer::default();
    let mut path: Vec<String> = Vec::new();
    let mut enveloped = false;
    let mut utc = [i32::MIN; 6];
    let mut open: Option<Notification> = None;
    let mut value = String::new();
    loop {
        let at = reader.buffer_position();
        let event = reader.read_event().map_err(|error| SoapError::Xml {
            at,
            why: error.to_string(),
        })?;
        match event {
            Event::Eof => break,
            Event::DocType(_) => return Err(SoapError::Doctype),
            Event::Start(element) => {
                if path.len() >= DEPTH_MAX {
                    return Err(SoapError::Deep);
                }
                let name = element.name().local_name().as_ref().to_owned();
                enveloped |= name == "Envelope";
                begin(&name, &element, &path, at as usize, &mut open);
                path.push(name);
                value.clear();
            }
            Event::Empty(element) => {
                let name = element.name().local_name().as_ref().to_owned();
                begin(&name, &element, &path, at as usize, &mut open);
            }
            Event::End(_) => {
                let Some(name) = path.pop() else { continue };
                if name == "NotificationMessage" {
                    if let Some(mut done) = open.take() {
                        done.bytes.end = reader.buffer_position() as usize;
                        if answer.notifications.len() >= NOTIFICATIONS_MAX {
                            return Err(SoapError::Many);
                        }
                        answer.notifications.push(done);
                    }
                    continue;
                }
                let text = std::mem::take(&mut value);
                match place(&name, &path) {
                    Into::Nothing => {}
                    Into::Fault => {
                        let fault = answer.fault.get_or_insert_default();
                        if !fault.is_empty() {
                            fault.push_str(": ");
                        }
                        fault.push_str(text.trim());
                    }
                    Into::Address => answer.address = Some(text.trim().to_owned()),
                    Into::XAddr => answer.events = Some(text.trim().to_owned()),
                    Into::Topic => {
                        if let Some(open) = &mut open {
                            open.topic = topic(text.trim());
                        }
                    }
                    Into::Utc(index) => utc[index] = text.trim().parse().unwrap_or(i32::MIN),
                }
            }
            Event::Text(part) => value.push_str(&part),
            Event::CData(part) => value.push_str(&part),
            // What is no letter is nothing.
            Event::GeneralRef(reference) => value.extend(xml::letter(&reference).ok().flatten()),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
        }
    }
    if !enveloped {
        return Err(SoapError::NoEnvelope);
    }
    if let Some(cut) = open {
        answer
            .broken
            .push(format!("a notification of {:?} is cut off", cut.topic));
    }
    answer.utc = utc.iter().all(|part| *part != i32::MIN).then_some(utc);
    Ok(answer)
}

/// A topic without the prefixes of its parts.
fn topic(text: &str) -> String {
    let parts: Vec<&str> = text
        .split('/')
        .map(|part| part.rsplit_once(':').map_or(part, |(_, name)| name))
        .collect();
    parts.join("/")
}

/// What the text of an element is, by its name and those around it.
fn place(name: &str, path: &[String]) -> Into {
    let within = |wanted: &str| path.iter().any(|element| element == wanted);
    let parent = path.last().map_or("", String::as_str);
    match name {
        // The subcode and the reason of SOAP 1.2; faultstring of 1.1.
        "Value" if parent == "Subcode" => Into::Fault,
        "Text" if parent == "Reason" => Into::Fault,
        "faultstring" => Into::Fault,
        "Address" if within("SubscriptionReference") && !within("NotificationMessage") => {
            Into::Address
        }
        "XAddr" if within("Events") => Into::XAddr,
        "Topic" if within("NotificationMessage") => Into::Topic,
        "Year" if within("UTCDateTime") => Into::Utc(0),
        "Month" if within("UTCDateTime") => Into::Utc(1),
        "Day" if within("UTCDateTime") => Into::Utc(2),
        "Hour" if within("UTCDateTime") => Into::Utc(3),
        "Minute" if within("UTCDateTime") => Into::Utc(4),
        "Second" if within("UTCDateTime") => Into::Utc(5),
        _ => Into::Nothing,
    }
}

/// An element that begins: what its attributes say.
fn begin(
    name: &str,
    element: &BytesStart<'_>,
    path: &[String],
    at: usize,
    open: &mut Option<Notification>,
) {
    if name == "NotificationMessage" {
        *open = Some(Notification {
            bytes: at..at,
            ..Notification::default()
        });
        return;
    }
    let Some(open) = open else { return };
    let attribute = |wanted: &str| {
        element
            .attributes()
            .with_checks(false)
            .flatten()
            .find_map(|attribute| {
                let is_it = attribute.key.local_name().as_ref() == wanted;
                is_it.then(|| unescaped(&attribute.value))
            })
    };
    match name {
        "Message" if attribute("UtcTime").is_some() => {
            open.time = attribute("UtcTime").unwrap_or_default();
            open.operation = attribute("PropertyOperation").unwrap_or_default();
        }
        "SimpleItem" => {
            let item = (
                attribute("Name").unwrap_or_default(),
                attribute("Value").unwrap_or_default(),
            );
            let items = if path
                .iter()
                .any(|element| element == "Source" || element == "Key")
            {
                &mut open.source
            } else {
                &mut open.data
            };
            if items.len() < ITEMS_MAX {
                items.push(item);
            }
        }
        _ => {}
    }
}

fn unescaped(text: &str) -> String {
    quick_xml::escape::unescape(text).map_or_else(|_| text.to_owned(), |text| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn notification(topic: &str, operation: &str) -> String {
        format!(
            r#"<wsnt:NotificationMessage><wsnt:Topic Dialect="d">tns1:{topic}</wsnt:Topic><wsnt:ProducerReference><a:Address>http://x</a:Address></wsnt:ProducerReference><wsnt:Message><tt:Message UtcTime="2026-07-01T04:00:00Z" PropertyOperation="{operation}"><tt:Source><tt:SimpleItem Name="VideoSourceConfigurationToken" Value="V1"/></tt:Source><tt:Data><tt:SimpleItem Name="IsMotion" Value="true"></tt:SimpleItem></tt:Data></tt:Message></wsnt:Message></wsnt:NotificationMessage>"#
        )
    }

    fn pulled(inner: &str) -> String {
        format!(
            r#"<?xml version="1.0"?><SOAP-ENV:Envelope xmlns:SOAP-ENV="s"><SOAP-ENV:Body><tev:PullMessagesResponse>{inner}</tev:PullMessagesResponse></SOAP-ENV:Body></SOAP-ENV:Envelope>"#
        )
    }

    #[test]
    fn the_digest_is_that_of_the_profile() {
        // The example of the ONVIF Application Programmer's Guide, § 6.1.1.3.
        let nonce = [
            0x2c, 0xaa, 0x88, 0xe8, 0x6f, 0xc0, 0x8a, 0x42, 0x82, 0x42, 0xb3, 0x74, 0xce, 0xa6,
            0x45, 0x96,
        ];
        assert_eq!(base64(&nonce), "LKqI6G/AikKCQrN0zqZFlg==");
        let token = Token {
            user: "user",
            password: "userpassword",
            nonce,
            created: "2010-09-16T07:50:45Z",
        };
        assert_eq!(token.digest(), "tuOSpGlFlIXsozq4HFNeeGeFLEI=");
        let envelope = Call::PullMessages.envelope("http://d/s?a=1&b=2", Some(&token));
        assert!(envelope.contains(&token.digest()) && !envelope.contains("userpassword"));
        assert!(envelope.contains("http://d/s?a=1&amp;b=2"));
    }

    #[test]
    fn notifications_are_read_whatever_their_prefixes() {
        let one = notification("VideoSource/MotionAlarm", "Changed");
        let text = pulled(
            &(one.clone() + &notification("Device/tnsx:Trigger/DigitalInput", "Initialized")),
        );
        let answer = read(&text).expect("an answer");
        assert_eq!(answer.notifications.len(), 2);
        let first = &answer.notifications[0];
        assert_eq!(first.topic, "VideoSource/MotionAlarm");
        assert_eq!(
            (first.operation.as_str(), first.time.as_str()),
            ("Changed", "2026-07-01T04:00:00Z")
        );
        assert_eq!(
            first.source,
            [("VideoSourceConfigurationToken".to_owned(), "V1".to_owned())]
        );
        assert_eq!(first.data, [("IsMotion".to_owned(), "true".to_owned())]);
        assert_eq!(&text[first.bytes.clone()], one);
        assert_eq!(answer.notifications[1].topic, "Device/Trigger/DigitalInput");
        assert_eq!(answer.address, None);
    }

    #[test]
    fn addresses_clocks_and_faults() {
        let created = r#"<E:Envelope><E:Body><SubscriptionReference><w:Address>http://10.0.0.7/sub?Idx=1&amp;x</w:Address></SubscriptionReference></E:Body></E:Envelope>"#;
        assert_eq!(
            read(created).expect("an answer").address.as_deref(),
            Some("http://10.0.0.7/sub?Idx=1&x")
        );
        let capabilities = r#"<Envelope><Body><Capabilities><Device><XAddr>http://d</XAddr></Device><Events><XAddr>http://d/events</XAddr></Events></Capabilities></Body></Envelope>"#;
        assert_eq!(
            read(capabilities).expect("an answer").events.as_deref(),
            Some("http://d/events")
        );
        let clock = r#"<Envelope><Body><SystemDateAndTime><UTCDateTime><Time><Hour>4</Hour><Minute>5</Minute><Second>6</Second></Time><Date><Year>2026</Year><Month>7</Month><Day>1</Day></Date></UTCDateTime><LocalDateTime><Time><Hour>12</Hour></Time></LocalDateTime></SystemDateAndTime></Body></Envelope>"#;
        assert_eq!(
            read(clock).expect("an answer").utc,
            Some([2026, 7, 1, 4, 5, 6])
        );
        let fault = r#"<Envelope><Body><Fault><Code><Value>env:Sender</Value><Subcode><Value>ter:NotAuthorized</Value></Subcode></Code><Reason><Text>Sender not Authorized</Text></Reason></Fault></Body></Envelope>"#;
        assert_eq!(
            read(fault).expect("an answer").fault.as_deref(),
            Some("ter:NotAuthorized: Sender not Authorized")
        );
    }

    #[test]
    fn hostile_answers_are_bounded() {
        let bomb = r#"<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><Envelope><Reason><Text>&b;</Text></Reason></Envelope>"#;
        assert_eq!(read(bomb), Err(SoapError::Doctype));
        assert_eq!(read(&"<a>".repeat(1000)), Err(SoapError::Deep));
        assert_eq!(
            read("<html><body>404</body></html>"),
            Err(SoapError::NoEnvelope)
        );
        assert_eq!(read(""), Err(SoapError::NoEnvelope));
        let many = pulled(
            &notification("VideoSource/MotionAlarm", "Changed").repeat(NOTIFICATIONS_MAX + 1),
        );
        assert_eq!(read(&many), Err(SoapError::Many));
        let whole = pulled(&notification("VideoSource/MotionAlarm", "Changed"));
        for cut in (0..whole.len()).filter(|cut| whole.is_char_boundary(*cut)) {
            // Cut anywhere it is an error, or has at most what was whole.
            if let Ok(answer) = read(&whole[..cut]) {
                assert!(answer.notifications.len() <= 1);
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(<[a-zA-Z:/]{0,20}( [A-Za-z]{0,8}=\"[^\"<]{0,10}\")?/?>|&[a-z]{0,4};|[a-z<>&]{0,5}){0,40}") {
            let _ = read(&text);
        }
    }
}
