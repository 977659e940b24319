//! The audit log: what people did and saw, in a chain of hashes. Pure.
//!
//! Each entry's hash is SHA-256 over the previous hash and all fields of the entry, each prefixed by its
//! length. So no entry can be changed, removed or inserted without changing all later hashes. An entry is
//! written in the transaction of the action that it records; an entry about data shown on request (an
//! unmasked name) is written before the data is shown. A truncated end shows only in comparison with a hash
//! kept elsewhere: `linli-hub audit verify` prints the last hash, and accepts one for comparison.
use serde::Serialize;
use sha2::{Digest, Sha256};

/// The hash before the first entry.
pub const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Maximum length of a reason, characters.
pub const REASON_CHARS_MAX: usize = 500;

/// An action or a look at protected data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AuditRecord {
    /// Time, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// Login of a user, `token:name`, or `os:name` on the command line.
    pub actor: String,
    /// Action: `org.changed`, `case.unmask`, `user.added`, `refused`.
    pub action: String,
    /// Object: `case/20260301-000001`, `user/wang`.
    pub object: String,
    /// Reason that the actor gave.
    pub reason: String,
    /// Details, as JSON or words; never the protected data itself.
    pub detail: String,
}

/// An action with its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AuditEntry {
    /// Number, from 1 without gaps.
    pub number: i64,
    /// The action.
    #[serde(flatten)]
    pub deed: AuditRecord,
    /// SHA-256 of this entry and the previous hash, hexadecimal.
    pub hash: String,
}

impl AuditEntry {
    /// The entry that follows `previous` (number and hash) in a chain.
    pub fn after(previous: Option<&(i64, String)>, deed: AuditRecord) -> Self {
        let (number, before) = match previous {
            Some((number, hash)) => (number + 1, hash.as_str()),
            None => (1, START),
        };
        let mut entry = Self {
            number,
            deed,
            hash: String::new(),
        };
        entry.hash = entry.hashed(before);
        entry
    }

    fn hashed(&self, before: &str) -> String {
        let mut hash = Sha256::new();
        let deed = &self.deed;
        let (number, at_ms) = (self.number.to_string(), deed.at_ms.to_string());
        for part in [
            before,
            &number,
            &at_ms,
            &deed.actor,
            &deed.action,
            &deed.object,
            &deed.reason,
            &deed.detail,
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hex::encode(hash.finalize())
    }
}

/// Verifies a chain from its beginning.
#[derive(Debug)]
pub struct Verifier {
    number: i64,
    hash: String,
}

impl Default for Verifier {
    fn default() -> Self {
        Self {
            number: 0,
            hash: START.to_owned(),
        }
    }
}

impl Verifier {
    /// Verifies the next entry. Errors: the problem.
    pub fn follow(&mut self, entry: &AuditEntry) -> Result<(), String> {
        let wanted = self.number + 1;
        if entry.number != wanted {
            return Err(format!(
                "entry {wanted} is missing: after {} comes {}",
                self.number, entry.number
            ));
        }
        if entry.hash != entry.hashed(&self.hash) {
            return Err(format!(
                "entry {} is not what was written: it, or one before it, has been changed",
                entry.number
            ));
        }
        self.number = entry.number;
        self.hash.clone_from(&entry.hash);
        Ok(())
    }

    /// Number of verified entries, and the hash of the last.
    pub fn end(&self) -> (i64, &str) {
        (self.number, &self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(count: i64) -> Vec<AuditEntry> {
        let mut entries: Vec<AuditEntry> = Vec::new();
        for number in 0..count {
            let deed = AuditRecord {
                at_ms: 1000 + number,
                actor: "wang".to_owned(),
                action: "case.unmask".to_owned(),
                object: format!("case/{number}"),
                reason: "回访".to_owned(),
                detail: String::new(),
            };
            let previous = entries.last().map(|last| (last.number, last.hash.clone()));
            entries.push(AuditEntry::after(previous.as_ref(), deed));
        }
        entries
    }

    fn verify(entries: &[AuditEntry]) -> Result<(), String> {
        let mut verifier = Verifier::default();
        entries.iter().try_for_each(|entry| verifier.follow(entry))
    }

    #[test]
    fn a_chain_is_whole_and_any_change_of_it_is_found() {
        let good = chain(5);
        assert_eq!(verify(&good), Ok(()));
        type Change = fn(&mut Vec<AuditEntry>);
        let changes: [Change; 6] = [
            |entries| entries[2].deed.reason.push('!'),
            |entries| entries[2].deed.at_ms += 1,
            |entries| entries[2].deed.actor = "li".to_owned(),
            |entries| drop(entries.remove(2)),
            |entries| entries.swap(1, 2),
            // Moving text from one field to the next changes the entry.
            |entries| {
                let reason = std::mem::take(&mut entries[2].deed.reason);
                entries[2].deed.object.push_str(&reason);
            },
        ];
        for change in changes {
            let mut entries = good.clone();
            change(&mut entries);
            assert!(verify(&entries).is_err());
        }
        // A changed entry with a matching hash does not fit the next one.
        let mut forged = good.clone();
        forged[2].deed.reason = "另有原因".to_owned();
        forged[2].hash = forged[2].hashed(&good[1].hash.clone());
        assert!(verify(&forged).is_err());
    }
}
