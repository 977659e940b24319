//! Events of SIA DC-03 as `SIA-DCS` carries them. Pure.
//!
//! ```text
//! #account | N ri1/id5/ti10:23/ BA 005 *12.5cf ^words^ / BA 006 | A words of the panel
//!            │ └ modifiers: two small letters and a value     │   └ a block of text
//!            │                  └ code of two capitals, its number, units, words
//!            └ a new event; O: reported before
//! ```
//!
//! Modifiers stand before the codes that they belong to and hold for all codes behind them in the block: `ri`
//! partition, `id` user, `ti` time of day, `pi` peripheral. They are separated by `/`, or by nothing. Codes are those
//! of DC-03 annex A, as two public implementations name them; families share their last letter (`A` alarm, `R` and
//! `H` restored, `T` trouble, `J` trouble restored, `B` bypass, `U` unbypass, `S` supervisory).
use super::meaning::{Meaning, Number, What};

/// Most events of one message.
pub const EVENTS_MAX: usize = 64;

/// Longest number of a code that may be hexadecimal.
const NUMBER_BYTES_MAX: usize = 4;

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Two capitals.
    pub code: &'a str,
    /// Number behind the code: a zone, a user, an area; see the meaning.
    pub number: &'a str,
    /// `ri`.
    pub partition: &'a str,
    /// `id`.
    pub user: &'a str,
    /// `pi`.
    pub peripheral: &'a str,
    /// Text between `^` behind the number: the name of a zone or of a user.
    pub words: &'a str,
    /// Reported before (`O`).
    pub previous: bool,
}

/// The data of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Block<'a> {
    /// Account in the data; empty if they have none.
    pub account: &'a str,
    /// Events, in order.
    pub events: Vec<Event<'a>>,
    /// The text blocks: the panel's words about the events.
    pub text: &'a str,
}

/// Why data have no events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoEvents {
    /// The data have no code.
    #[error("the data have no SIA code: a block looks like #1234|Nri1/BA005")]
    None,
    /// Too many.
    #[error("more than {EVENTS_MAX} events in one message")]
    TooMany,
}

/// Text, read from the front.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn take(&mut self, holds: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|letter| !holds(letter)).unwrap_or(self.0.len());
        let (front, rest) = self.0.split_at(end);
        self.0 = rest;
        front
    }

    /// Takes two letters for which `holds` is true.
    fn pair(&mut self, holds: impl Fn(&u8) -> bool) -> Option<&'a str> {
        let pair = self.0.get(..2)?;
        if !pair.as_bytes().iter().all(holds) {
            return None;
        }
        self.0 = &self.0[2..];
        Some(pair)
    }

    /// Takes the number of a code: decimal digits, or hexadecimal ones if they extend to the next separator.
    fn number(&mut self) -> &'a str {
        let is_end = |rest: &str| rest.is_empty() || rest.starts_with(['/', '*', '^']);
        let hexadecimal = Rest(self.0).take(|letter| matches!(letter, '0'..='9' | 'A'..='F'));
        if hexadecimal.len() <= NUMBER_BYTES_MAX && is_end(&self.0[hexadecimal.len()..]) {
            self.0 = &self.0[hexadecimal.len()..];
            return hexadecimal;
        }
        self.take(|letter| letter.is_ascii_digit())
    }

    /// Takes the text between `^`, if that follows.
    fn words(&mut self) -> &'a str {
        let Some(inner) = self.0.strip_prefix('^') else {
            return "";
        };
        let end = inner.find(['^', '/']).unwrap_or(inner.len());
        self.0 = inner[end..].strip_prefix('^').unwrap_or(&inner[end..]);
        &inner[..end]
    }
}

impl<'a> Block<'a> {
    /// Reads the data of a message.
    pub fn read(data: &'a str) -> Result<Self, NoEvents> {
        let mut block = Self::default();
        for part in data.split('|').filter(|part| !part.is_empty()) {
            let (mark, rest) = part.split_at(part.chars().next().map_or(0, char::len_utf8));
            match mark {
                "#" => block.account = rest,
                "N" | "O" => block.events(rest, mark == "O")?,
                "A" if block.text.is_empty() => block.text = rest,
                _ => {}
            }
        }
        if block.events.is_empty() {
            return Err(NoEvents::None);
        }
        Ok(block)
    }

    fn events(&mut self, text: &'a str, previous: bool) -> Result<(), NoEvents> {
        let mut rest = Rest(text);
        let (mut partition, mut user, mut peripheral) = ("", "", "");
        loop {
            rest.take(|letter| letter == '/' || letter == ' ');
            if let Some(modifier) = rest.pair(u8::is_ascii_lowercase) {
                let value = rest
                    .take(|letter| letter.is_ascii_digit() || matches!(letter, ':' | '.' | '-'));
                match modifier {
                    "ri" => partition = value,
                    "id" => user = value,
                    "pi" => peripheral = value,
                    _ => {}
                }
                // Names of users and areas do not go into the event.
                rest.words();
            } else if let Some(code) = rest.pair(u8::is_ascii_uppercase) {
                let number = rest.number();
                let mut words = "";
                if let Some(units) = rest.0.strip_prefix('*') {
                    // Units of a value, or words in quotation marks and their meaning.
                    match units
                        .strip_prefix('"')
                        .and_then(|quoted| quoted.split_once('"'))
                    {
                        Some((quoted, behind)) => {
                            words = quoted;
                            rest.0 = behind;
                            rest.pair(u8::is_ascii_uppercase);
                        }
                        None => {
                            rest.take(|letter| !matches!(letter, '/' | '^'));
                        }
                    }
                }
                let named = rest.words();
                if self.events.len() == EVENTS_MAX {
                    return Err(NoEvents::TooMany);
                }
                self.events.push(Event {
                    code,
                    number,
                    partition,
                    user,
                    peripheral,
                    words: if named.is_empty() { words } else { named },
                    previous,
                });
                // Unannounced words.
                rest.take(|letter| letter != '/');
            } else if rest.0.is_empty() {
                return Ok(());
            } else {
                // Neither: skip to the next packet.
                rest.take(|letter| letter != '/');
            }
        }
    }
}

impl Event<'_> {
    /// The meaning of the event.
    pub fn meaning(&self) -> Meaning {
        let (what, active, number) = meaning(self.code);
        Meaning {
            what,
            active,
            number,
        }
    }
}

fn meaning(code: &str) -> (Option<What>, bool, Number) {
    use Number::{Area, User, Zone};
    let on = |what, number| (Some(what), true, number);
    let over = |what, number| (Some(what), false, number);
    match code {
        // Codes with a meaning of their own take precedence over their family.
        "AT" => on(What::Power, Number::None),
        "AR" => over(What::Power, Number::None),
        "YT" | "YM" => on(What::Battery, Number::None),
        "YR" => over(What::Battery, Number::None),
        "XT" => on(What::Battery, Zone),
        "XR" => over(What::Battery, Zone),
        "YP" | "YI" | "YC" | "YS" | "YX" | "YF" | "YW" | "YA" => on(What::Fault, Number::None),
        "YQ" | "YJ" | "YK" | "YZ" | "YH" => over(What::Fault, Number::None),
        "XQ" | "XL" | "ET" | "EM" | "LT" | "NT" => on(What::Fault, Zone),
        "XH" | "ER" | "EN" | "LR" | "NR" => over(What::Fault, Zone),
        "ES" | "XS" | "TT" => on(What::Tamper, Zone),
        "EJ" | "XJ" | "TJ" => over(What::Tamper, Zone),
        "JA" => on(What::Tamper, Area),
        "EA" => on(What::Intrusion, Zone),
        "BV" => on(What::Intrusion, Area),
        "BM" => on(What::Intrusion, Zone),
        "FM" => on(What::Fire, Zone),
        "FV" | "FQ" => over(What::FireSupervised, Zone),
        "FW" => on(What::FireSupervised, Zone),
        "FY" | "FZ" => on(What::FireFault, Zone),
        "CL" | "CF" | "CJ" | "CK" | "CP" | "CQ" | "CR" => on(What::Armed, User),
        "CA" | "CG" | "CW" | "NF" | "NL" | "NM" => on(What::Armed, Area),
        "CS" => on(What::Armed, Zone),
        "OP" | "OH" | "OJ" | "OK" | "OQ" | "OR" => on(What::Disarmed, User),
        "OA" | "OG" => on(What::Disarmed, Area),
        "OS" => on(What::Disarmed, Zone),
        "RP" | "TS" | "TE" | "TC" | "TW" | "TZ" => on(What::Test, Number::None),
        "FI" | "FK" => on(What::Test, Area),
        "RX" => on(What::Test, User),
        "TX" | "TP" | "FX" | "BX" | "GX" => on(What::Test, Zone),
        "DF" => on(What::DoorForced, Zone),
        "DL" | "DM" | "DN" => on(What::DoorHeld, Zone),
        "DH" | "DR" => over(What::DoorHeld, Zone),
        "DG" => on(What::DoorOpened, Zone),
        "DD" | "DI" | "DK" | "DP" | "DQ" | "DV" | "DW" | "DZ" => on(What::DoorDenied, Zone),
        "DT" => on(What::Fault, Zone),
        "BC" | "OC" => (None, true, User),
        _ => family(code),
    }
}

/// Codes whose first letter is the subject and whose last is the condition.
fn family(code: &str) -> (Option<What>, bool, Number) {
    let mut letters = code.chars();
    let (first, last) = (letters.next(), letters.next());
    let alarm = match first {
        Some('F' | 'K' | 'S') => What::Fire,
        Some('G') => What::Gas,
        Some('W') => What::Water,
        Some('B' | 'U') => What::Intrusion,
        Some('P' | 'H' | 'Q') => What::Panic,
        Some('M') => What::Medical,
        Some('Z') => What::Input,
        Some('T') => What::Tamper,
        _ => return (None, true, Number::Zone),
    };
    let is_fire = alarm == What::Fire;
    let fault = if is_fire {
        What::FireFault
    } else {
        What::Fault
    };
    let (what, active) = match last {
        Some('A') => (alarm, true),
        Some('H' | 'R') => (alarm, false),
        Some('T') => (fault, true),
        Some('J') => (fault, false),
        Some('S') if is_fire => (What::FireSupervised, true),
        Some('S') => (What::Fault, true),
        Some('B') if is_fire => (What::FireShielded, true),
        Some('U') if is_fire => (What::FireShielded, false),
        _ => return (None, true, Number::Zone),
    };
    (Some(what), active, Number::Zone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(code: &str) -> Option<&'static str> {
        let (what, active, _) = meaning(code);
        what.and_then(|what| what.kind(active))
            .map(|(kind, _)| kind)
    }

    #[test]
    fn codes_are_the_kinds_that_they_mean() {
        for (code, expected) in [
            ("FA", Some("fire.alarm")),
            ("FR", Some("fire.restored")),
            ("FH", Some("fire.restored")),
            ("FT", Some("fire.fault")),
            ("FJ", Some("fire.fault_restored")),
            ("FB", Some("fire.shielded")),
            ("FU", Some("fire.unshielded")),
            ("FV", Some("fire.supervised_restored")),
            ("FS", Some("fire.supervised")),
            ("KA", Some("fire.alarm")),
            ("SA", Some("fire.alarm")),
            ("GA", Some("gas.alarm")),
            ("GR", Some("gas.restored")),
            ("WA", Some("water.alarm")),
            ("WH", Some("water.restored")),
            ("BA", Some("intrusion.alarm")),
            ("BR", Some("intrusion.restored")),
            ("BT", Some("device.fault")),
            ("BJ", Some("device.restored")),
            ("BB", None),
            ("BC", None),
            ("UA", Some("intrusion.alarm")),
            ("PA", Some("panic.alarm")),
            ("PR", Some("panic.restored")),
            ("HA", Some("panic.alarm")),
            ("MA", Some("medical.alarm")),
            ("TA", Some("device.tamper")),
            ("TR", Some("device.tamper_restored")),
            ("TH", Some("device.tamper_restored")),
            ("YT", Some("device.battery_low")),
            ("YR", Some("device.battery_restored")),
            ("AT", Some("device.power_lost")),
            ("AR", Some("device.power_restored")),
            ("CL", Some("panel.armed")),
            ("CG", Some("panel.armed")),
            ("NL", Some("panel.armed")),
            ("OP", Some("panel.disarmed")),
            ("OS", Some("panel.disarmed")),
            ("RP", Some("panel.test")),
            ("RX", Some("panel.test")),
            ("DF", Some("door.forced")),
            ("DL", Some("door.held")),
            ("DH", Some("door.closed")),
            ("DD", Some("door.denied")),
            ("DG", Some("door.opened")),
            ("ZA", Some("input.active")),
            ("ZR", Some("input.inactive")),
            ("YC", Some("device.fault")),
            ("YK", Some("device.restored")),
            ("RR", None),
            ("XX", None),
            ("MI", None),
        ] {
            assert_eq!(kind(code), expected, "{code}");
        }
    }

    #[test]
    fn a_block_gives_events_with_their_modifiers() {
        let block =
            Block::read("#123456A|Nri1/id5^Zhang San^/ti10:23:10/BA005^Lobby^/BA006|AFront door")
                .expect("events");
        assert_eq!(block.account, "123456A");
        assert_eq!(block.text, "Front door");
        let event = Event {
            code: "BA",
            number: "005",
            partition: "1",
            user: "5",
            peripheral: "",
            words: "Lobby",
            previous: false,
        };
        assert_eq!(
            block.events,
            [
                event,
                Event {
                    number: "006",
                    words: "",
                    ..event
                }
            ]
        );
    }

    #[test]
    fn blocks_of_other_implementations_are_read() {
        let one = |data: &'static str| {
            let block = Block::read(data).expect("events");
            assert_eq!(block.events.len(), 1, "{data}");
            block.events[0]
        };
        let event = one("#123456A|NFA129");
        assert_eq!((event.code, event.number), ("FA", "129"));
        // Without slashes.
        let event = one("#0123|Nri2^Upstairs^id14^Somebody^ti10:00:00OP14|ADisarmed");
        assert_eq!(
            (event.code, event.number, event.partition),
            ("OP", "14", "2")
        );
        assert_eq!(event.user, "14");
        assert_eq!(event.words, "");
        // Words in quotation marks.
        let event = one("#0123|Nri2BA3*\"Hall\"NM");
        assert_eq!((event.code, event.number, event.words), ("BA", "3", "Hall"));
        let event = one("#006969|Nri0/RP0000");
        assert_eq!((event.code, event.number), ("RP", "0000"));
        let event = one("#1234|NBA1501*12.5cf^x^");
        assert_eq!((event.number, event.words), ("1501", "x"));
        assert_eq!(one("#1234|NBA05C").number, "05C");
        assert_eq!(one("#1234|NBA5Door").number, "5");
        assert!(one("#1234|OFA1").previous);
        for bad in [
            "",
            "#1234",
            "#1234|",
            "#1234|N",
            "#1234|AFire",
            "N12",
            "#1234|Nri1",
        ] {
            assert_eq!(Block::read(bad), Err(NoEvents::None), "{bad}");
        }
        let many = format!("N{}", "BA1/".repeat(EVENTS_MAX + 1));
        assert_eq!(Block::read(&many), Err(NoEvents::TooMany));
    }

    #[test]
    fn numbers_of_users_are_persons() {
        for (code, number) in [
            ("OP", Number::User),
            ("CL", Number::User),
            ("RX", Number::User),
            ("FA", Number::Zone),
            ("CG", Number::Area),
        ] {
            assert_eq!(meaning(code).2, number, "{code}");
        }
    }

    proptest! {
        #[test]
        fn no_data_make_it_panic(data in "[#|NOA/^*\"a-zA-Z0-9: ]{0,60}", any in "\\PC{0,40}") {
            for data in [data, any] {
                if let Ok(block) = Block::read(&data) {
                    for event in block.events {
                        let _ = event.meaning();
                    }
                }
            }
        }
    }
}
