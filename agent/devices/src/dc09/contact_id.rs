//! Contact ID (SIA DC-05) as `ADM-CID` carries it. Pure.
//!
//! ```text
//! #account|Q EEE GG CCC      Q: 1 new or open, 3 restored or closed, 6 still present
//!           │   │   └ zone or user, three digits
//!           │   └ partition, two digits
//!           └ code, three digits; nothing between Q and EEE
//! ```
//!
//! Codes are those of DC-05-2016, annex C, as two public implementations name them. The code distinguishes users from
//! zones. In codes of openings (400 to 409, 450 to 452, 459) Q 1 is an opening.
use super::meaning::{Meaning, Number, What};

/// Whether a condition begins, is over, or is reported again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qualifier {
    /// 1.
    New,
    /// 3.
    Restore,
    /// 6: reported before, and still present.
    Previous,
}

/// One report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report<'a> {
    /// Account in the data; empty if they have none.
    pub account: &'a str,
    /// Qualifier.
    pub qualifier: Qualifier,
    /// Three digits.
    pub code: &'a str,
    /// Two digits; `00` is none. Empty if unreadable.
    pub partition: &'a str,
    /// Three digits; `000` is none. Empty if unreadable.
    pub number: &'a str,
}

/// Why data are no report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the data are no Contact ID: a report looks like #1234|1130 01 005")]
pub struct NoReport;

impl<'a> Report<'a> {
    /// Reads the data of a message.
    pub fn read(data: &'a str) -> Result<Self, NoReport> {
        let mut account = "";
        let mut report = None;
        for block in data.split('|').filter(|block| !block.is_empty()) {
            match block.strip_prefix('#') {
                Some(named) => account = named,
                None => {
                    report = Some(block);
                    break;
                }
            }
        }
        let mut parts = report.ok_or(NoReport)?.split_ascii_whitespace();
        let first = parts.next().ok_or(NoReport)?;
        // DC-05 allows digits to F, and panels use those for users.
        let is_hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (qualifier, code) = first.split_at_checked(1).ok_or(NoReport)?;
        if code.len() != 3 || !is_hexadecimal(code) {
            return Err(NoReport);
        }
        let qualifier = match qualifier {
            "1" | "E" => Qualifier::New,
            "3" | "R" => Qualifier::Restore,
            "6" | "P" => Qualifier::Previous,
            _ => return Err(NoReport),
        };
        // An unreadable place must not lose the event.
        let mut number = |digits: usize| {
            let part = parts.next().unwrap_or_default();
            if part.len() <= digits && is_hexadecimal(part) {
                part
            } else {
                ""
            }
        };
        let (partition, number) = (number(4), number(6));
        Ok(Self {
            account,
            qualifier,
            code,
            partition,
            number,
        })
    }

    /// The meaning of the report.
    pub fn meaning(&self) -> Meaning {
        let restore = self.qualifier == Qualifier::Restore;
        let code: u16 = self.code.parse().unwrap_or(0);
        let number = match code {
            121
            | 126
            | 313
            | 400..=415
            | 421
            | 422
            | 424
            | 425
            | 429..=431
            | 435
            | 436
            | 441..=459
            | 462..=464
            | 466
            | 574
            | 604
            | 607
            | 625
            | 642 => Number::User,
            _ => Number::Zone,
        };
        let what = match code {
            100..=103 => Some(What::Medical),
            111 => Some(What::Smoke),
            110 | 112..=117 => Some(What::Fire),
            118 | 200..=206 => Some(What::FireSupervised),
            120..=129 => Some(What::Panic),
            137 | 144 | 145 | 316 | 317 | 341 | 383 => Some(What::Tamper),
            130..=136 | 138..=140 | 146 | 155 => Some(What::Intrusion),
            141..=143 | 147 | 156 => Some(What::Fault),
            151 | 162 => Some(What::Gas),
            154 => Some(What::Water),
            150..=169 => Some(What::Input),
            301 | 314 | 342 | 926 => Some(What::Power),
            302 | 309 | 311 | 338 | 384 => Some(What::Battery),
            373 | 385 | 386 => Some(What::FireFault),
            374 => Some(What::Intrusion),
            305 | 306 | 313 | 339 => None,
            300..=394 => Some(What::Fault),
            // Closings and openings: the condition that ends is the opening.
            400..=403 | 405 | 407..=409 | 450..=452 | 459 => {
                Some(if restore { What::Armed } else { What::Disarmed })
            }
            441..=444 | 456 => Some(What::Armed),
            421 => Some(What::DoorDenied),
            422 | 425 => Some(What::DoorOpened),
            423 => Some(What::DoorForced),
            424 => Some(What::DoorDenied),
            426 => Some(What::DoorHeld),
            427 | 428 | 432 => Some(What::Fault),
            461 => Some(What::Tamper),
            571 => Some(What::FireShielded),
            601..=604 | 607 | 608 | 611 | 613..=615 | 704 => Some(What::Test),
            _ => None,
        };
        // Arming and disarming are active whatever the qualifier.
        let lasting = !matches!(what, Some(What::Armed | What::Disarmed));
        Meaning {
            what,
            active: !(restore && lasting),
            number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(data: &str) -> Option<&'static str> {
        let meaning = Report::read(data).expect("a report").meaning();
        meaning
            .what
            .and_then(|what| what.kind(meaning.active))
            .map(|(kind, _)| kind)
    }

    #[test]
    fn a_report_gives_its_parts() {
        assert_eq!(
            Report::read("#1234|1130 01 015"),
            Ok(Report {
                account: "1234",
                qualifier: Qualifier::New,
                code: "130",
                partition: "01",
                number: "015",
            })
        );
        assert_eq!(
            Report::read("6110 00 000").map(|report| report.qualifier),
            Ok(Qualifier::Previous)
        );
        for bad in [
            "",
            "#1234",
            "#1234|",
            "2130 01 015",
            "113 01 015",
            "11300 01 015",
            "1x30 01 015",
            "é130 01 015",
        ] {
            assert_eq!(Report::read(bad), Err(NoReport), "{bad}");
        }
        // An unreadable place loses no alarm.
        for (data, partition, number) in [
            ("1110", "", ""),
            ("1110 01", "01", ""),
            ("1110 01 15", "01", "15"),
            ("1110 01 015 1", "01", "015"),
            ("1110 x1 015", "", "015"),
            ("E110 01 ???", "01", ""),
        ] {
            let report = Report::read(data).expect(data);
            assert_eq!(
                (report.code, report.partition, report.number),
                ("110", partition, number),
                "{data}"
            );
            assert_eq!(report.qualifier, Qualifier::New);
        }
    }

    #[test]
    fn codes_are_the_kinds_that_they_mean() {
        for (data, expected) in [
            ("#1|1110 01 001", Some("fire.alarm")),
            ("#1|3110 01 001", Some("fire.restored")),
            ("#1|6110 01 001", Some("fire.alarm")),
            ("#1|1111 01 001", Some("smoke.alarm")),
            ("#1|3111 01 001", Some("smoke.restored")),
            ("#1|1115 01 001", Some("fire.alarm")),
            ("#1|1151 01 001", Some("gas.alarm")),
            ("#1|1162 01 001", Some("gas.alarm")),
            ("#1|1154 01 001", Some("water.alarm")),
            ("#1|1130 01 001", Some("intrusion.alarm")),
            ("#1|3130 01 001", Some("intrusion.restored")),
            ("#1|1120 01 001", Some("panic.alarm")),
            ("#1|3120 01 001", Some("panic.restored")),
            ("#1|3100 01 001", None),
            ("#1|1100 01 001", Some("medical.alarm")),
            ("#1|1137 01 001", Some("device.tamper")),
            ("#1|3137 01 001", Some("device.tamper_restored")),
            ("#1|1200 01 001", Some("fire.supervised")),
            ("#1|1301 00 000", Some("device.power_lost")),
            ("#1|3301 00 000", Some("device.power_restored")),
            ("#1|1302 00 000", Some("device.battery_low")),
            ("#1|3384 00 004", Some("device.battery_restored")),
            ("#1|1373 00 004", Some("fire.fault")),
            ("#1|3373 00 004", Some("fire.fault_restored")),
            ("#1|1374 00 004", Some("intrusion.alarm")),
            ("#1|1380 00 004", Some("device.fault")),
            ("#1|1571 00 004", Some("fire.shielded")),
            ("#1|1401 01 002", Some("panel.disarmed")),
            ("#1|3401 01 002", Some("panel.armed")),
            ("#1|3441 01 002", Some("panel.armed")),
            ("#1|1423 01 002", Some("door.forced")),
            ("#1|1426 01 002", Some("door.held")),
            ("#1|3426 01 002", Some("door.closed")),
            ("#1|1602 00 000", Some("panel.test")),
            ("#1|1406 00 001", None),
            ("#1|1570 00 001", None),
            ("#1|1999 00 001", None),
        ] {
            assert_eq!(kind(data), expected, "{data}");
        }
    }

    #[test]
    fn a_number_of_a_user_is_a_persons() {
        for (code, number) in [
            ("401", Number::User),
            ("121", Number::User),
            ("422", Number::User),
            ("130", Number::Zone),
        ] {
            let data = format!("1{code} 01 007");
            assert_eq!(
                Report::read(&data).expect("a report").meaning().number,
                number
            );
        }
    }

    proptest! {
        #[test]
        fn no_data_make_it_panic(data in "[#|0-9A-F ]{0,30}", any in "\\PC{0,20}") {
            for data in [data, any] {
                if let Ok(report) = Report::read(&data) {
                    let _ = report.meaning();
                }
            }
        }
    }
}
