//! Partitions: parts of a hub's state that one writer owns each. Pure.
//!
//! A partition has its own numbers (of warnings, cases, notices, changes), positions of agents, timelines of rules, outbox,
//! and messages to stations. An agent, with its site, belongs to one partition for good, and so does whatever its events
//! give rise to. What is of the whole district (users, organisations, the audit log) belongs to [`PartitionId::DISTRICT`].
//!
//! A hub has one partition today. Whoever reaches a writer says what the request is about, an [`Owner`], and
//! [`Layout::of`] finds the partition; nothing but this module knows how many there are. With more of them, a number `n` of
//! partition `p` of `P` would be given as `n * P + p`, so that a number names its partition; a code of a case ends with
//! its number.
use linli_shared::protocol::ids::{AgentId, SiteId};

/// A partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PartitionId(u16);

impl PartitionId {
    /// The partition of what belongs to the whole district.
    pub const DISTRICT: Self = Self(0);

    /// Its place among all partitions.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What a request is about, by which its partition is found.
#[derive(Debug, Clone, Copy)]
pub enum Owner<'a> {
    /// A site: its agents, their events, mutes of it.
    Site(&'a SiteId),
    /// An agent.
    Agent(&'a AgentId),
    /// A warning, mute or notice, by number.
    Number(i64),
    /// A case, by code.
    Code(&'a str),
    /// Users, organisations, the audit log, cases that people register.
    District,
}

/// How a hub's state is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    partitions: u16,
}

impl Layout {
    /// One partition has everything.
    pub const ONE: Self = Self { partitions: 1 };

    /// The partition of an owner.
    pub fn of(self, owner: Owner<'_>) -> PartitionId {
        match owner {
            // All of them are in the one that there is.
            Owner::Site(_)
            | Owner::Agent(_)
            | Owner::Number(_)
            | Owner::Code(_)
            | Owner::District => PartitionId::DISTRICT,
        }
    }

    /// All partitions.
    pub fn all(self) -> impl Iterator<Item = PartitionId> {
        (0..self.partitions).map(PartitionId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_owner_has_a_partition_that_there_is() {
        let layout = Layout::ONE;
        let (site, agent) = (
            "yuyuan".parse().expect("a name"),
            "gw-1".parse().expect("a name"),
        );
        let all: Vec<PartitionId> = layout.all().collect();
        for owner in [
            Owner::Site(&site),
            Owner::Agent(&agent),
            Owner::Number(7),
            Owner::Code("20260301-000001"),
            Owner::District,
        ] {
            assert!(all.contains(&layout.of(owner)), "{owner:?}");
        }
    }
}
