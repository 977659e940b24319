//! `[retention]`: days by class, and the hour of the run.
use serde::Deserialize;

use linli_domain::local_time;
use linli_store::retention::class::Class;

/// The longest that anything stays, in days: a hundred years. There is no "for ever".
const DAYS_MAX: u32 = 36_500;

/// `[retention]`; the days are starting values, which the centre sets by what law and its own rules want.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// When the run begins, by the centre's clock.
    at: String,
    events_standard: u32,
    events_access: u32,
    events_incident: u32,
    cases: u32,
    warnings: u32,
    notifications: u32,
    mutes: u32,
    gaps: u32,
    sessions: u32,
    tokens: u32,
    positions: u32,
    changes: u32,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            at: "03:30".to_owned(),
            events_standard: 365,
            events_access: 60,
            events_incident: 1095,
            cases: 1095,
            warnings: 730,
            notifications: 180,
            mutes: 365,
            gaps: 365,
            sessions: 30,
            tokens: 180,
            positions: 180,
            changes: 14,
        }
    }
}

impl RetentionConfig {
    /// What is wrong with it: the key and why.
    pub fn check(&self) -> Result<(), (String, String)> {
        if minute(&self.at).is_none() {
            let message = format!("{:?} is not a time of day, like \"03:30\"", self.at);
            return Err(("retention.at".to_owned(), message));
        }
        for (key, days) in Class::ALL.into_iter().filter_map(|class| self.key(class)) {
            if !(1..=DAYS_MAX).contains(&days) {
                let message =
                    format!("must be between 1 and {DAYS_MAX} days: nothing stays for ever");
                return Err((format!("retention.{key}"), message));
            }
        }
        Ok(())
    }

    /// The days of a class; `None`: it goes by what rules can look at.
    pub fn days(&self, class: Class) -> Option<u32> {
        self.key(class).map(|(_, days)| days)
    }

    fn key(&self, class: Class) -> Option<(&'static str, u32)> {
        Some(match class {
            Class::Cases => ("cases", self.cases),
            Class::Warnings => ("warnings", self.warnings),
            Class::Notifications => ("notifications", self.notifications),
            Class::EventsStandard => ("events_standard", self.events_standard),
            Class::EventsAccess => ("events_access", self.events_access),
            Class::EventsIncident => ("events_incident", self.events_incident),
            Class::Occurrences => return None,
            Class::Mutes => ("mutes", self.mutes),
            Class::LostRanges | Class::Quarantine => ("gaps", self.gaps),
            Class::Sessions => ("sessions", self.sessions),
            Class::JoinTokens | Class::ApiTokens => ("tokens", self.tokens),
            Class::Positions => ("positions", self.positions),
            Class::Changes => ("changes", self.changes),
        })
    }

    /// The rule of a class, in words.
    pub fn words(&self, class: Class) -> String {
        match self.key(class) {
            Some((key, days)) => format!("[retention] {key} = {days} days"),
            None => "beyond all windows of the rules".to_owned(),
        }
    }

    /// The minute of the day at which the run begins.
    pub fn minute(&self) -> u16 {
        minute(&self.at).unwrap_or(0)
    }
}

/// The minute of the day of "HH:MM".
fn minute(text: &str) -> Option<u16> {
    local_time::minute(text).filter(|minute| *minute < 24 * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_days_are_taken_or_named() {
        for (text, wanted) in [
            ("", None),
            ("at = \"00:00\"", None),
            ("events_access = 1\ncases = 36500", None),
            ("at = \"3:30\"", Some("retention.at")),
            ("at = \"+3:30\"", Some("retention.at")),
            ("at = \"24:00\"", Some("retention.at")),
            ("at = \"03:60\"", Some("retention.at")),
            ("events_access = 0", Some("retention.events_access")),
            ("sessions = 36501", Some("retention.sessions")),
        ] {
            let config: RetentionConfig = toml::from_str(text).expect("TOML");
            let found = config.check().err().map(|(key, _)| key);
            assert_eq!(found.as_deref(), wanted, "{text}");
        }
        for text in ["audit = 3", "cases = -1", "cases = \"ever\""] {
            assert!(toml::from_str::<RetentionConfig>(text).is_err(), "{text}");
        }
        assert_eq!(RetentionConfig::default().minute(), 3 * 60 + 30);
    }
}
