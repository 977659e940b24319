//! Identities. Newtypes, so that a sequence cannot be mistaken for an epoch.
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use super::limits::NAME_BYTES_MAX;

/// Why a name is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{what} {value:?} is not a name: use 1 to {NAME_BYTES_MAX} of a-z, A-Z, 0-9, '.', '_', '-', starting with a letter or digit"
)]
pub struct NameError {
    what: &'static str,
    value: String,
}

fn check_name(what: &'static str, value: &str) -> Result<(), NameError> {
    let good = !value.is_empty()
        && value.len() <= NAME_BYTES_MAX
        && value.as_bytes()[0].is_ascii_alphanumeric()
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if good {
        return Ok(());
    }
    Err(NameError {
        what,
        value: value.chars().take(64).collect(),
    })
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(value: &str) -> Result<Self, NameError> {
                check_name($what, value)?;
                Ok(Self(value.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(value: String) -> Result<Self, NameError> {
                check_name($what, &value)?;
                Ok(Self(value))
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of an agent, as its certificate carries it. It becomes a DNS name there, so it is
    /// also a label of a host name.
    AgentId,
    "agent"
);
name!(
    /// A site: a residential compound, a police station, an office.
    SiteId,
    "site"
);

/// One epoch of an agent's spool. Chosen at random when a spool is created, so that a new spool that counts
/// from 0 again cannot be mistaken for the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// The position of an event in its lane: 0, 1, 2, … within an epoch.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The sequence `count` events later.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

/// The kernel's boot id (`/proc/sys/kernel/random/boot_id`): identifies the boot that a monotonic time
/// belongs to. Sixteen bytes in a chunk's header, hexadecimal text in a frame.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct BootId(pub u128);

impl TryFrom<String> for BootId {
    type Error = std::num::ParseIntError;
    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<BootId> for String {
    fn from(value: BootId) -> String {
        value.to_string()
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for BootId {
    type Err = std::num::ParseIntError;
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(&value.trim().replace('-', ""), 16).map(Self)
    }
}

/// A lane has its own sequence, stream and priority, so that a backlog in one lane never delays another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Alarms, forced doors, dispute pushes.
    Urgent,
    /// Everything else.
    Routine,
    /// Events with clips and pictures.
    Media,
}

impl Lane {
    /// All lanes, most urgent first.
    pub const ALL: [Lane; 3] = [Lane::Urgent, Lane::Routine, Lane::Media];

    /// The number on wire and disk.
    pub fn number(self) -> u8 {
        match self {
            Lane::Urgent => 0,
            Lane::Routine => 1,
            Lane::Media => 2,
        }
    }

    /// The lane with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.number() == number)
    }

    /// The name in configs, metrics and directories.
    pub fn as_str(self) -> &'static str {
        match self {
            Lane::Urgent => "urgent",
            Lane::Routine => "routine",
            Lane::Media => "media",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Retention class: how long the hub keeps the events of a chunk. The hub's config sets the days of each
/// class.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum Retention {
    /// Equipment state and alarms: no personal data.
    #[default]
    Standard,
    /// Use of doors and other traces of daily life: short.
    Access,
    /// Disputes and police incidents: as long as the law requires.
    Incident,
}

impl Retention {
    /// All classes.
    pub const ALL: [Retention; 3] = [Self::Standard, Self::Access, Self::Incident];

    /// The number on wire and disk.
    pub fn number(self) -> u8 {
        match self {
            Self::Standard => 0,
            Self::Access => 1,
            Self::Incident => 2,
        }
    }

    /// The class with this number. A class from a newer version is unknown and refused, because no default is
    /// safe for how long data are kept.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.number() == number)
    }

    /// The name in configs and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Access => "access",
            Self::Incident => "incident",
        }
    }
}
