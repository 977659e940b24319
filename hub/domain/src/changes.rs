//! Numbered changes: what a transaction has changed that somebody may be looking at. Pure.
//!
//! A change names an object and says nothing of its content: a reader fetches the object again, under its own rights. One
//! transaction writes one change an object, however often it changed the object. Numbers rise in the order of commits,
//! so a reader that has read up to a number has missed nothing before it.
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// What kind of object has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// Events of an agent were stored; the object is the agent, the version its newest chunk.
    Events,
    /// A warning, by number.
    Warning,
    /// A case, by code; the version is that of the case.
    Case,
    /// Notifications of a channel, by its name.
    Notifications,
    /// Mutes of a site; an empty object: of all sites.
    Mutes,
    /// An agent joined, by name.
    Agent,
    /// A user, by login.
    User,
    /// Organisations or places.
    Directory,
    /// The rules that run.
    Rules,
    /// The state of the hub's clock.
    Clock,
    /// Retention deleted rows; the object is their class.
    Deleted,
    /// The database was restored: whatever a reader holds may be of another past.
    Restored,
}

impl ChangeKind {
    /// All kinds.
    pub const ALL: [Self; 12] = [
        Self::Events,
        Self::Warning,
        Self::Case,
        Self::Notifications,
        Self::Mutes,
        Self::Agent,
        Self::User,
        Self::Directory,
        Self::Rules,
        Self::Clock,
        Self::Deleted,
        Self::Restored,
    ];

    /// The word in the store and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Warning => "warning",
            Self::Case => "case",
            Self::Notifications => "notifications",
            Self::Mutes => "mutes",
            Self::Agent => "agent",
            Self::User => "user",
            Self::Directory => "directory",
            Self::Rules => "rules",
            Self::Clock => "clock",
            Self::Deleted => "deleted",
            Self::Restored => "restored",
        }
    }

    /// The kind of this word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// What is written of a changed object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeDetail {
    /// Its site; empty: none, or it is looked up when the change is read.
    pub site: String,
    /// Its agent.
    pub agent: String,
    /// The organisations that a case was with before, if it moved to others: they are told that it is gone.
    pub orgs: Vec<String>,
    /// Its version, where it has one.
    pub version: i64,
}

/// The changes of one transaction, one an object.
#[derive(Debug, Clone, Default)]
pub struct ChangeSet(BTreeMap<(ChangeKind, String), ChangeDetail>);

impl ChangeSet {
    /// Adds a changed object.
    pub fn add(&mut self, kind: ChangeKind, object: impl Into<String>, detail: ChangeDetail) {
        match self.0.entry((kind, object.into())) {
            Entry::Vacant(entry) => {
                entry.insert(detail);
            }
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                known.version = known.version.max(detail.version);
                for org in detail.orgs {
                    if !known.orgs.contains(&org) {
                        known.orgs.push(org);
                    }
                }
            }
        }
    }

    /// Adds an object of which nothing else needs to be written.
    pub fn touch(&mut self, kind: ChangeKind, object: impl Into<String>) {
        self.add(kind, object, ChangeDetail::default());
    }

    /// Events of an agent, up to a chunk.
    pub fn events(&mut self, site: &str, agent: &str, chunk: i64) {
        let detail = ChangeDetail {
            site: site.to_owned(),
            agent: agent.to_owned(),
            version: chunk,
            ..ChangeDetail::default()
        };
        self.add(ChangeKind::Events, agent, detail);
    }

    /// A warning.
    pub fn warning(&mut self, id: i64) {
        self.touch(ChangeKind::Warning, id.to_string());
    }

    /// A case, with the organisations that it was with before if it moved.
    pub fn case(&mut self, code: &str, version: i64, orgs: Vec<String>) {
        let detail = ChangeDetail {
            version,
            orgs,
            ..ChangeDetail::default()
        };
        self.add(ChangeKind::Case, code, detail);
    }

    /// No change.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All changes, by kind and object.
    pub fn iter(&self) -> impl Iterator<Item = (ChangeKind, &str, &ChangeDetail)> {
        self.0
            .iter()
            .map(|((kind, object), detail)| (*kind, object.as_str(), detail))
    }
}

/// A change as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedChange {
    /// Its number.
    pub number: i64,
    /// What kind of object.
    pub kind: ChangeKind,
    /// Which object.
    pub object: String,
    /// What else was written of it.
    pub detail: ChangeDetail,
    /// When, milliseconds since 1970 UTC.
    pub at_ms: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_writes_one_change_an_object_with_its_last_version_and_all_former_organisations()
     {
        let mut set = ChangeSet::default();
        set.case("20260301-000001", 3, vec!["office-1".to_owned()]);
        set.case(
            "20260301-000001",
            4,
            vec!["room-3".to_owned(), "office-1".to_owned()],
        );
        set.warning(7);
        set.warning(7);
        set.events("yuyuan", "gw-1", 10);
        set.events("yuyuan", "gw-1", 12);
        let found: Vec<(&str, &str, i64)> = set
            .iter()
            .map(|(kind, object, detail)| (kind.as_str(), object, detail.version))
            .collect();
        let wanted = [
            ("events", "gw-1", 12),
            ("warning", "7", 0),
            ("case", "20260301-000001", 4),
        ];
        assert_eq!(found, wanted);
        let orgs = set.iter().last().map(|(_, _, detail)| detail.orgs.clone());
        assert_eq!(orgs, Some(vec!["office-1".to_owned(), "room-3".to_owned()]));
    }

    #[test]
    fn each_kind_has_a_word_of_its_own() {
        for kind in ChangeKind::ALL {
            assert_eq!(ChangeKind::from_name(kind.as_str()), Some(kind));
        }
        assert_eq!(ChangeKind::from_name("nothing"), None);
    }
}
