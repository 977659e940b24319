//! The classes of data with a retention rule, and their tables.
use linli_shared::protocol::ids::Retention;

use crate::catalogue;

/// A class of data: rows of one table with one retention rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Closed cases.
    Cases,
    /// Warnings.
    Warnings,
    /// Notifications in the outbox.
    Notifications,
    /// Chunks of retention class standard.
    EventsStandard,
    /// Chunks of retention class access.
    EventsAccess,
    /// Chunks of retention class incident.
    EventsIncident,
    /// Events for rules that read the store.
    Occurrences,
    /// Mutes.
    Mutes,
    /// Ranges of lost events.
    LostRanges,
    /// Chunks in quarantine.
    Quarantine,
    /// Sessions of users.
    Sessions,
    /// Join tokens.
    JoinTokens,
    /// API tokens.
    ApiTokens,
    /// Positions of lanes.
    Positions,
    /// Numbered changes.
    Changes,
}

impl Class {
    /// All, in the order of a run: what refers to others goes before them.
    pub const ALL: [Self; 15] = [
        Self::Cases,
        Self::Warnings,
        Self::Notifications,
        Self::EventsStandard,
        Self::EventsAccess,
        Self::EventsIncident,
        Self::Occurrences,
        Self::Mutes,
        Self::LostRanges,
        Self::Quarantine,
        Self::Sessions,
        Self::JoinTokens,
        Self::ApiTokens,
        Self::Positions,
        Self::Changes,
    ];

    /// Its name in metrics, proofs and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cases => "cases",
            Self::Warnings => "warnings",
            Self::Notifications => "notifications",
            Self::EventsStandard => "events_standard",
            Self::EventsAccess => "events_access",
            Self::EventsIncident => "events_incident",
            Self::Occurrences => "occurrences",
            Self::Mutes => "mutes",
            Self::LostRanges => "lost_ranges",
            Self::Quarantine => "quarantine",
            Self::Sessions => "sessions",
            Self::JoinTokens => "join_tokens",
            Self::ApiTokens => "api_tokens",
            Self::Positions => "positions",
            Self::Changes => "changes",
        }
    }

    /// Its table.
    pub fn table(self) -> &'static str {
        match self {
            Self::EventsStandard | Self::EventsAccess | Self::EventsIncident => "chunks",
            Self::Notifications => "outbox",
            class => class.as_str(),
        }
    }

    /// The key of its table.
    pub fn key(self) -> &'static [&'static str] {
        let listed = catalogue::TABLES
            .iter()
            .find(|table| table.name == self.table());
        listed.map_or(&[], |table| table.key)
    }

    /// The retention class of chunks; `None` for other data.
    pub fn retention(self) -> Option<Retention> {
        match self {
            Self::EventsStandard => Some(Retention::Standard),
            Self::EventsAccess => Some(Retention::Access),
            Self::EventsIncident => Some(Retention::Incident),
            _ => None,
        }
    }

    /// Dependent tables, each with its column that refers to the row.
    pub fn belongings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Cases => &[
                ("case_orgs", "case_id"),
                ("case_named", "case_id"),
                ("case_warnings", "case_id"),
                ("case_actions", "case_id"),
                ("attachments", "case_id"),
            ],
            Self::Warnings => &[("warning_changes", "warning_id")],
            _ => &[],
        }
    }
}
