//! The log of a case: what was done, by whom and when. Actions are appended and never changed, but
//! for the texts that a resident's request deletes (`subject`). What an action did to
//! clocks stands in it with all times, so that a reading of the log needs neither calendar nor terms.
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use super::clock::{Change, ClockKind, Mark};
use super::moves::{Move, Rung};
use super::subject::Done;

/// Who does what time alone brings about.
pub const HUB: &str = "hub";
/// What a case begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// 一案一码: its one name, from here to the archive.
    pub code: String,
    /// Kind.
    pub kind: String,
    /// Grade of its risk.
    pub risk: String,
    /// The centre, which leads until it dispatches.
    pub centre: String,
    /// The rung of the ladder that it begins on.
    pub rung: Rung,
    /// Only named handlers may see it.
    pub named_only: bool,
    /// The warnings that it came of.
    pub warnings: BTreeSet<i64>,
}

/// What an action says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum What {
    /// 登记: the first of each log.
    Opening(Registration),
    /// A person's move.
    Person(Move),
    /// What time alone brought about.
    Hub(Due),
    /// What a move of another case did to this one.
    Other(Twin),
    /// What a person did with a file of it.
    File(Filed),
    /// What was done to it under a request of a resident.
    Subject(Done),
}

/// A file of a case, as its log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// What people call it.
    pub name: String,
    /// The word of its type.
    pub media: String,
    /// Of its content.
    pub bytes: u64,
    /// What the file is called.
    pub digest: String,
    /// Who added it.
    pub by: String,
    /// When, milliseconds since 1970 UTC.
    pub at_ms: i64,
}

/// What was done with a file. It is known by the number of the action that added it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "file", rename_all = "snake_case")]
pub enum Filed {
    /// It was added.
    Attached {
        /// What.
        attachment: Attachment,
    },
    /// It was taken away.
    Detached {
        /// Which.
        number: i64,
        /// Why.
        reason: String,
    },
}

/// What time alone brings about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "due", rename_all = "snake_case")]
pub enum Due {
    /// A clock has come to a mark.
    Marked {
        /// Which clock.
        kind: ClockKind,
        /// Whose.
        organisation: String,
        /// What is said.
        mark: Mark,
        /// When it came to be so, milliseconds since 1970 UTC.
        since_ms: i64,
    },
    /// It has been without an owner for too long: the centre must name a lead.
    LeadDemanded {
        /// When it came to be so, milliseconds since 1970 UTC.
        since_ms: i64,
    },
    /// The time for which it was suspended is over.
    SuspensionEnded {
        /// When, milliseconds since 1970 UTC.
        since_ms: i64,
    },
    /// Calendars or terms are others: the deadlines stand in the changes of the clocks.
    Recomputed {},
    /// 升级: its risk or its lateness takes it up the ladder.
    Climbed {
        /// The next rung.
        to: Rung,
    },
}

/// What a move of another case did to this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "twin", rename_all = "snake_case")]
pub enum Twin {
    /// It stands for the other from now on.
    Absorbed {
        /// Code of the other.
        code: String,
    },
    /// It does not any more.
    Released {
        /// Code of the other.
        code: String,
    },
}

impl Action {
    /// The word of the API for what was done.
    pub fn word(&self) -> &'static str {
        match &self.what {
            What::Opening(_) => "registered",
            What::Person(moved) => moved.kind().words().1,
            What::Hub(Due::Marked { mark, .. }) => mark.words().1,
            What::Hub(Due::LeadDemanded { .. }) => "lead_demanded",
            What::Hub(Due::SuspensionEnded { .. }) => "suspension_ended",
            What::Hub(Due::Recomputed {}) => "recomputed",
            What::Hub(Due::Climbed { .. }) => "climbed",
            What::Other(Twin::Absorbed { .. }) => "absorbed",
            What::Other(Twin::Released { .. }) => "released",
            What::File(Filed::Attached { .. }) => "attached",
            What::File(Filed::Detached { .. }) => "detached",
            What::Subject(Done::Corrected { .. }) => "corrected",
            What::Subject(Done::Redacted { .. }) => "redacted",
        }
    }

    /// What was said, and to whom it went, in one line.
    pub fn note(&self) -> String {
        match &self.what {
            What::Opening(_) | What::Hub(Due::Recomputed {}) => String::new(),
            What::Person(moved) => moved.note(),
            What::Hub(Due::Marked {
                kind, organisation, ..
            }) => format!("{} {organisation}", kind.words().0),
            What::Hub(Due::LeadDemanded { .. } | Due::SuspensionEnded { .. }) => String::new(),
            What::Hub(Due::Climbed { to }) => to.words().0.to_owned(),
            What::Other(Twin::Absorbed { code } | Twin::Released { code }) => code.clone(),
            // Its name can be that of a person.
            What::File(Filed::Attached { attachment }) => {
                format!("{} {}", attachment.media, attachment.bytes)
            }
            What::Subject(Done::Corrected { request } | Done::Redacted { request }) => {
                request.clone()
            }
            What::File(Filed::Detached { number, reason }) => format!("#{number}：{reason}"),
        }
    }
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// From 1 on, without gaps.
    pub number: i64,
    /// When, milliseconds since 1970 UTC; never before the one before it.
    pub at_ms: i64,
    /// Who: a person, a rule, or the hub.
    pub actor: String,
    /// For whom.
    pub organisation: String,
    /// What.
    pub what: What,
    /// What it does to clocks.
    pub clocks: Vec<Change>,
}
