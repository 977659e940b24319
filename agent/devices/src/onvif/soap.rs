//! The SOAP messages of an ONVIF event service (ONVIF Core Specification, § 9 Event handling; WS-BaseNotification 1.3;
//! WS-Addressing 1.0; WS-Security UsernameToken Profile 1.0). Pure: requests are written, answers are read.
//!
//! Answers are read by the local names of elements, because devices differ in their prefixes. A DOCTYPE is refused,
//! and only the five entities of XML are resolved, so an answer is never larger than its bytes.
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use std::fmt::Write;

use crate::xml::{self, Attributes, Elements};

/// Largest number of notifications of one answer.
pub const NOTIFICATIONS_MAX: usize = 256;
/// Largest number of items of one notification.
const ITEMS_MAX: usize = 32;
/// Largest number of reference parameters of a subscription, and the length of each.
const PARAMETERS_MAX: usize = 16;
const PARAMETER_BYTES_MAX: usize = 2048;
/// Largest number of namespace prefixes of an answer.
const DECLARED_MAX: usize = 64;
/// How long a PullMessages waits at the device, seconds.
pub const PULL_S: u64 = 20;
/// Lifetime of a subscription without renewal, seconds.
pub const TERMINATION_S: u64 = 120;

/// Credentials of a request.
pub struct Token<'a> {
    /// User.
    pub user: &'a str,
    /// Password.
    pub password: &'a str,
    /// 16 random bytes.
    pub nonce: [u8; 16],
    /// The device's time as `2026-07-01T04:00:00Z`: a device refuses a wrong one.
    pub created: &'a str,
}

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Requests the device's clock; needs no password.
    GetSystemDateAndTime,
    /// Requests the address of the event service.
    GetCapabilities,
    /// Creates a subscription that is pulled.
    CreatePullPointSubscription,
    /// Requests notifications.
    PullMessages,
    /// Renews the subscription.
    Renew,
    /// Ends the subscription.
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
        self.envelope_with(to, token, &[])
    }

    /// The whole request to `to` of a subscription with these `parameters`, see [`Answer::parameters`].
    pub fn envelope_with(
        self,
        to: &str,
        token: Option<&Token<'_>>,
        parameters: &[String],
    ) -> String {
        let mut out = String::with_capacity(1024);
        out.push_str(
            r#"<?xml version="1.0" encoding="UTF-8"?><s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://www.w3.org/2005/08/addressing"><s:Header>"#,
        );
        if let Some(token) = token {
            out.push_str(&token.header());
        }
        out.extend(parameters.iter().map(String::as_str));
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

/// A notification of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notification {
    /// Topic without prefixes, `VideoSource/MotionAlarm`.
    pub topic: String,
    /// Time as the device writes it.
    pub time: String,
    /// `Initialized`, `Changed`, `Deleted`, or nothing.
    pub operation: String,
    /// Name and value of the source's items.
    pub source: Vec<(String, String)>,
    /// Name and value of the data items.
    pub data: Vec<(String, String)>,
    /// Range of the notification in the answer.
    pub bytes: std::ops::Range<usize>,
}

/// The content of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// A fault: its reason and subcode.
    pub fault: Option<String>,
    /// The address of the subscription.
    pub address: Option<String>,
    /// The `ReferenceParameters` of the subscription as blocks of a header: each request to the subscription repeats
    /// them; some devices identify it by nothing else (WS-Addressing 1.0 SOAP Binding, § 2.1).
    pub parameters: Vec<String>,
    /// `XAddr` of the event service, from GetCapabilities.
    pub events: Option<String>,
    /// The device's UTC time: year, month, day, hour, minute, second.
    pub utc: Option<[i32; 6]>,
    /// Notifications.
    pub notifications: Vec<Notification>,
    /// The error of each unreadable notification.
    pub broken: Vec<String>,
}

/// Why an answer is unreadable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SoapError {
    /// The answer has a DOCTYPE.
    #[error("a DOCTYPE is not taken")]
    Doctype,
    /// The answer is no SOAP.
    #[error("no SOAP envelope: is this the address of an ONVIF device?")]
    NoEnvelope,
}

/// Reads an answer. Of an answer that is cut or damaged the intact part counts.
pub fn read(text: &str) -> Result<Answer, SoapError> {
    let mut reader = Reader {
        text,
        answer: Answer::default(),
        is_enveloped: false,
        utc: [i32::MIN; 6],
        open: None,
        declared: Vec::new(),
        parameter: None,
    };
    xml::read(text, &mut reader).map_err(|_| SoapError::Doctype)?;
    if !reader.is_enveloped {
        return Err(SoapError::NoEnvelope);
    }
    reader.finish(text.len());
    let Reader {
        mut answer, utc, ..
    } = reader;
    answer.utc = utc.iter().all(|part| *part != i32::MIN).then_some(utc);
    Ok(answer)
}

struct Reader<'a> {
    text: &'a str,
    answer: Answer,
    is_enveloped: bool,
    utc: [i32; 6],
    open: Option<Notification>,
    /// Prefixes and their namespaces.
    declared: Vec<(&'a str, &'a str)>,
    /// Position where a reference parameter begins.
    parameter: Option<usize>,
}

impl<'a> Reader<'a> {
    /// Ends a notification.
    fn finish(&mut self, end: usize) {
        let Some(mut done) = self.open.take() else {
            return;
        };
        done.bytes.end = end;
        let answer = &mut self.answer;
        if answer.notifications.len() >= NOTIFICATIONS_MAX {
            if answer.broken.is_empty() {
                let reason = format!("more than {NOTIFICATIONS_MAX} notifications in one answer");
                answer.broken.push(reason);
            }
        } else if done.topic.is_empty() && done.data.is_empty() {
            answer.broken.push("a notification is cut off".to_owned());
        } else {
            answer.notifications.push(done);
        }
    }

    /// A reference parameter as a block of a header, with the namespaces that were declared around it.
    fn block(&self, element: &str) -> String {
        let name_end = element
            .find(|letter: char| letter.is_whitespace() || matches!(letter, '>' | '/'))
            .unwrap_or(element.len());
        let (name, rest) = element.split_at(name_end);
        let mut block = name.to_owned();
        for (attribute, namespace) in &self.declared {
            let prefix = attribute.strip_prefix("xmlns:").unwrap_or_default();
            let is_used = element.contains(&format!("{prefix}:"));
            if !prefix.is_empty() && is_used && !element.contains(&format!("{attribute}=")) {
                // Writing to a String does not fail.
                let _ = write!(block, " {attribute}=\"{namespace}\"");
            }
        }
        block.push_str(
            r#" xmlns:wsa5="http://www.w3.org/2005/08/addressing" wsa5:IsReferenceParameter="true""#,
        );
        block.push_str(rest);
        block
    }

    /// Whether the element belongs to a subscription's reference and to no notification.
    fn is_of_subscription(parents: &[&str]) -> bool {
        parents.contains(&"SubscriptionReference") && !parents.contains(&"NotificationMessage")
    }
}

impl<'a> Elements<'a> for Reader<'a> {
    fn open(&mut self, name: &'a str, parents: &[&'a str], attributes: Attributes<'a>, at: usize) {
        self.is_enveloped |= matches!(name, "Envelope" | "Body" | "NotificationMessage");
        // If its beginning was lost, it begins with its topic.
        let is_lost = name == "Topic" && self.open.is_none();
        if name == "NotificationMessage" || is_lost {
            // The previous one lost its end.
            self.finish(at);
            self.open = Some(Notification {
                bytes: at..at,
                ..Notification::default()
            });
            return;
        }
        if self.parameter.is_none() {
            let declared = attributes.pairs();
            let declared = declared.filter(|(name, _)| name.starts_with("xmlns:"));
            let room = DECLARED_MAX.saturating_sub(self.declared.len());
            self.declared.extend(declared.take(room));
        }
        if parents.last() == Some(&"ReferenceParameters") && Self::is_of_subscription(parents) {
            self.parameter = Some(at);
        }
        let Some(open) = &mut self.open else { return };
        let attribute = |name| attributes.get(name).map(std::borrow::Cow::into_owned);
        match name {
            "Message" => {
                if let Some(time) = attribute("UtcTime") {
                    open.time = time;
                }
                if let Some(operation) = attribute("PropertyOperation") {
                    open.operation = operation;
                }
            }
            "SimpleItem" => {
                let item = (
                    attribute("Name").unwrap_or_default(),
                    attribute("Value").unwrap_or_default(),
                );
                // The innermost element counts: an end may have been lost.
                let mut around = parents.iter().rev();
                let list = around.find(|name| matches!(**name, "Source" | "Key" | "Data"));
                let items = match list {
                    Some(&"Source" | &"Key") => &mut open.source,
                    _ => &mut open.data,
                };
                if items.len() < ITEMS_MAX {
                    items.push(item);
                }
            }
            _ => {}
        }
    }

    fn leaf(&mut self, name: &'a str, parents: &[&'a str], value: std::borrow::Cow<'a, str>) {
        let within = |wanted: &str| parents.contains(&wanted);
        let parent = parents.last().copied().unwrap_or_default();
        let mut set_utc = |part: usize| {
            if within("UTCDateTime") {
                self.utc[part] = value.parse().unwrap_or(i32::MIN);
            }
        };
        match name {
            "Year" => set_utc(0),
            "Month" => set_utc(1),
            "Day" => set_utc(2),
            "Hour" => set_utc(3),
            "Minute" => set_utc(4),
            "Second" => set_utc(5),
            // Subcode and reason of SOAP 1.2; faultstring of 1.1.
            "Value" if parent == "Subcode" => self.answer.add_fault(&value),
            "Text" if parent == "Reason" => self.answer.add_fault(&value),
            "faultstring" => self.answer.add_fault(&value),
            "Address" if Self::is_of_subscription(parents) => {
                self.answer.address = Some(value.into_owned());
            }
            "XAddr" if within("Events") => self.answer.events = Some(value.into_owned()),
            "Topic" => {
                if let Some(open) = &mut self.open {
                    open.topic = topic(&value);
                }
            }
            _ => {}
        }
    }

    fn close(&mut self, name: &'a str, parents: &[&'a str], end: usize) {
        if name == "NotificationMessage" {
            self.finish(end);
        }
        if parents.last() == Some(&"ReferenceParameters")
            && let Some(begin) = self.parameter.take()
            && self.answer.parameters.len() < PARAMETERS_MAX
            && end - begin <= PARAMETER_BYTES_MAX
        {
            let block = self.block(&self.text[begin..end]);
            self.answer.parameters.push(block);
        }
    }
}

impl Answer {
    fn add_fault(&mut self, text: &str) {
        let fault = self.fault.get_or_insert_default();
        if !fault.is_empty() {
            fault.push_str(": ");
        }
        fault.push_str(text);
    }
}

/// A topic without the prefixes of its parts, and without the empty parts with which some devices end it (`//.`).
fn topic(text: &str) -> String {
    let parts: Vec<&str> = text
        .split('/')
        .map(|part| part.rsplit_once(':').map_or(part, |(_, name)| name).trim())
        .filter(|part| !matches!(*part, "" | "." | "*"))
        .collect();
    parts.join("/")
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
    fn topics_are_read_in_every_spelling() {
        for text in [
            "tns1:RuleEngine/TamperDetector/Tamper//.",
            "tns1:RuleEngine/tns1:TamperDetector/ns9:Tamper/.",
            "/RuleEngine/TamperDetector/Tamper/",
            " onvif:RuleEngine / TamperDetector/Tamper ",
        ] {
            assert_eq!(topic(text), "RuleEngine/TamperDetector/Tamper", "{text}");
        }
    }

    #[test]
    fn reference_parameters_come_back_as_headers() {
        let created = r#"<E:Envelope xmlns:E="e" xmlns:dom0="http://www.axis.com/2009/event" xmlns:wsa5="w"><E:Body><R><SubscriptionReference><wsa5:Address>http://d/s</wsa5:Address><wsa5:ReferenceParameters><dom0:SubscriptionId a="b">5</dom0:SubscriptionId><x:Id xmlns:x="y"/></wsa5:ReferenceParameters></SubscriptionReference></R></E:Body></E:Envelope>"#;
        let answer = read(created).expect("an answer");
        assert_eq!(answer.address.as_deref(), Some("http://d/s"));
        let is = r#" xmlns:wsa5="http://www.w3.org/2005/08/addressing" wsa5:IsReferenceParameter="true""#;
        assert_eq!(
            answer.parameters,
            [
                format!(
                    r#"<dom0:SubscriptionId xmlns:dom0="http://www.axis.com/2009/event"{is} a="b">5</dom0:SubscriptionId>"#
                ),
                format!(r#"<x:Id{is} xmlns:x="y"/>"#),
            ]
        );
        let envelope = Call::Renew.envelope_with("http://d/s", None, &answer.parameters);
        assert!(envelope.contains(&answer.parameters.concat()), "{envelope}");
        assert!(
            !Call::Renew
                .envelope("http://d/s", None)
                .contains("SubscriptionId")
        );
    }

    #[test]
    fn what_is_whole_of_a_damaged_answer_counts() {
        let one = notification("VideoSource/MotionAlarm", "Changed");
        let unclosed = one.replace("</wsnt:NotificationMessage>", "");
        let answer = read(&pulled(&(unclosed.clone() + &one))).expect("an answer");
        assert_eq!(answer.notifications.len(), 2);
        let cut = pulled(&unclosed);
        let end = cut.find("</wsnt:Message>").expect("an end");
        let answer = read(&cut[..end]).expect("an answer");
        assert_eq!(answer.notifications[0].data.len(), 1);
        let beheaded = pulled(&one.replace("<wsnt:NotificationMessage>", "<wsnt:Notificatio"));
        assert_eq!(
            read(&beheaded).expect("an answer").notifications[0].topic,
            "VideoSource/MotionAlarm"
        );
        // A fragment, as some peers forward it.
        assert_eq!(read(&one).expect("an answer").notifications.len(), 1);
        let none = read(&pulled(
            "<wsnt:NotificationMessage></wsnt:NotificationMessage>",
        ));
        assert_eq!(none.expect("an answer").broken.len(), 1);
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
        assert_eq!(read(&"<a>".repeat(1000)), Err(SoapError::NoEnvelope));
        assert_eq!(
            read("<html><body>404</body></html>"),
            Err(SoapError::NoEnvelope)
        );
        assert_eq!(read(""), Err(SoapError::NoEnvelope));
        let many = pulled(
            &notification("VideoSource/MotionAlarm", "Changed").repeat(NOTIFICATIONS_MAX + 1),
        );
        let many = read(&many).expect("an answer");
        assert_eq!(
            (many.notifications.len(), many.broken.len()),
            (NOTIFICATIONS_MAX, 1)
        );
        let whole = pulled(&notification("VideoSource/MotionAlarm", "Changed"));
        for cut in (0..whole.len()).filter(|cut| whole.is_char_boundary(*cut)) {
            // Cut anywhere, it is an error or has only the intact part.
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
