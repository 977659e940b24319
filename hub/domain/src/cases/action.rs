//! The log of a case: what was done, by whom and when. Actions are appended and never changed, except for the
//! texts that a resident's request deletes (`subject`). An action stores its changes of clocks with all
//! times, so reading a log needs neither calendar nor terms.
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use super::clock::{Change, ClockKind, Mark};
use super::moves::{Move, Rung};
use super::subject::Done;

/// Actor of the actions that time alone causes.
pub const HUB: &str = "hub";
/// The initial data of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The only name of the case (一案一码), from the registration to the archive.
    pub code: String,
    /// Code of the kind.
    pub kind: String,
    /// Grade of the risk.
    pub risk: String,
    /// The centre, which leads until it dispatches.
    pub centre: String,
    /// The first rung on the ladder of escalation.
    pub rung: Rung,
    /// Only named handlers may see it.
    pub named_only: bool,
    /// Ids of the warnings that opened the case.
    pub warnings: BTreeSet<i64>,
}

/// The content of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum What {
    /// 登记: the first action of every log.
    Opening(Registration),
    /// A person's move.
    Person(Move),
    /// An effect of time alone.
    Hub(Due),
    /// The effect of a move of another case.
    Other(Twin),
    /// A person added or removed a file.
    File(Filed),
    /// The effect of a resident's request.
    Subject(Done),
}

/// A file of a case, as recorded in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Name given by the person who added it.
    pub name: String,
    /// Word of the media type.
    pub media: String,
    /// Size of the content, bytes.
    pub bytes: u64,
    /// Digest of the content, which names the stored file.
    pub digest: String,
    /// The person who added it.
    pub by: String,
    /// Time, milliseconds since 1970 UTC.
    pub at_ms: i64,
}

/// An addition or removal of a file. The number of the action that added a file identifies it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "file", rename_all = "snake_case")]
pub enum Filed {
    /// The file was added.
    Attached {
        /// The file.
        attachment: Attachment,
    },
    /// The file was removed.
    Detached {
        /// Number of the action that added it.
        number: i64,
        /// Reason.
        reason: String,
    },
}

/// An effect of time alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "due", rename_all = "snake_case")]
pub enum Due {
    /// A clock reached a mark.
    Marked {
        /// Kind of the clock.
        kind: ClockKind,
        /// Organisation of the clock.
        organisation: String,
        /// The mark.
        mark: Mark,
        /// When the mark was reached, milliseconds since 1970 UTC.
        since_ms: i64,
    },
    /// The case has had no owner for too long: the centre must name a lead.
    LeadDemanded {
        /// When the term ended, milliseconds since 1970 UTC.
        since_ms: i64,
    },
    /// The suspension ended.
    SuspensionEnded {
        /// Time, milliseconds since 1970 UTC.
        since_ms: i64,
    },
    /// Calendars or terms changed; the changes of the clocks contain the new deadlines.
    Recomputed {},
    /// 升级: the risk or the lateness of the case raises it on the ladder.
    Climbed {
        /// The new rung.
        to: Rung,
    },
}

/// The effect of a move of another case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "twin", rename_all = "snake_case")]
pub enum Twin {
    /// This case stands for the other from now on.
    Absorbed {
        /// Code of the other case.
        code: String,
    },
    /// This case no longer stands for the other.
    Released {
        /// Code of the other case.
        code: String,
    },
}

impl Action {
    /// The word of the API for the action.
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

    /// The text and the recipient, in one line.
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
            // The name of the file may contain a person's name.
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

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Number, from 1 without gaps.
    pub number: i64,
    /// Time, milliseconds since 1970 UTC; never before that of the previous action.
    pub at_ms: i64,
    /// Actor: a person, a rule, or the hub.
    pub actor: String,
    /// The organisation for which the actor acts.
    pub organisation: String,
    /// Content.
    pub what: What,
    /// Changes of the clocks.
    pub clocks: Vec<Change>,
}
