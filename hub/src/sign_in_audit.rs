//! Failed sign-ins on their way into the audit log: anybody who reaches the API can cause any number, and the log
//! stays for good.
//!
//! The first failure of a login or an address is an entry at once. Later ones within [`FOLD_MS`] are counted, and make
//! one entry for each login or address at the end: the number and the names. So an attack from one
//! address is two entries a minute at most, and one from everywhere [`KEYS_MAX`] and some. `Folding` is pure; `Refusals` is
//! its owner, which the API calls and the app runs. A stop writes the counts; a kill loses them.
use linli_shared::service::clock;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::health::Line;
use crate::ingest::people_changes::PeopleChange;
use crate::ingest::{Ingest, Rejection};

/// Length of a count, milliseconds.
const FOLD_MS: i64 = 60_000;
/// Interval of writing finished counts.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// An entry is written within this time, or its writer counts as stuck.
const WRITE_MAX: Duration = Duration::from_secs(120);
/// Maximum number of counted logins and addresses; the rest share one count.
const KEYS_MAX: usize = 256;
/// Maximum number of names in an entry.
const NAMED_MAX: usize = 10;
/// The shared count.
const OTHERS: &str = "sign-ins";

/// An entry of the audit log.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    object: String,
    detail: String,
}

/// The count of a login or an address.
struct Counted {
    until_ms: i64,
    count: u64,
    /// Addresses of a login, logins of an address.
    named: BTreeSet<String>,
}

impl Counted {
    fn new(now_ms: i64) -> Self {
        Self {
            until_ms: now_ms.saturating_add(FOLD_MS),
            count: 0,
            named: BTreeSet::new(),
        }
    }

    fn one_more(&mut self, of: &str) {
        self.count += 1;
        if self.named.len() < NAMED_MAX && !self.named.contains(of) {
            self.named.insert(of.to_owned());
        }
    }
}

#[derive(Default)]
struct Folding(HashMap<String, Counted>);

impl Folding {
    /// Counts a failure, or returns an entry.
    fn refused(
        &mut self,
        user: Option<&str>,
        address: &str,
        reason: &str,
        now_ms: i64,
    ) -> Option<Entry> {
        let user = user.map(|login| format!("user/{login}"));
        let address = format!("address/{address}");
        let object = user.as_deref().unwrap_or(&address);
        if let Some(counted) = self.0.get_mut(object) {
            counted.one_more(&address);
            return None;
        }
        if let Some(counted) = self.0.get_mut(&address) {
            counted.one_more(object);
            return None;
        }
        // Two counts of their own, and the last one is shared.
        if self.0.len() + 2 >= KEYS_MAX {
            let others = self.0.entry(OTHERS.to_owned());
            others
                .or_insert_with(|| Counted::new(now_ms))
                .one_more(object);
            return None;
        }
        let entry = Entry {
            object: object.to_owned(),
            detail: [reason, &address].join(" ").trim_start().to_owned(),
        };
        for key in [Some(address), user].into_iter().flatten() {
            self.0.insert(key, Counted::new(now_ms));
        }
        Some(entry)
    }

    /// The finished counts; counts of zero are removed.
    fn due(&mut self, now_ms: i64) -> Vec<Entry> {
        let mut entries = Vec::new();
        self.0.retain(|object, counted| {
            // A clock that was set back must not prolong a count.
            if now_ms < counted.until_ms && counted.until_ms - now_ms <= FOLD_MS {
                return true;
            }
            if counted.count == 0 {
                return false;
            }
            let named: Vec<&str> = counted.named.iter().map(String::as_str).collect();
            entries.push(Entry {
                object: object.clone(),
                detail: format!("{} more: {}", counted.count, named.join(" ")),
            });
            *counted = Counted::new(now_ms);
            true
        });
        entries.sort_by(|one, other| one.object.cmp(&other.object));
        entries
    }
}

/// Notes failed sign-ins.
#[derive(Clone)]
pub struct Refusals {
    folding: Arc<Mutex<Folding>>,
    ingest: Ingest,
}

impl Refusals {
    /// Without counts.
    pub fn new(ingest: Ingest) -> Self {
        Self {
            folding: Arc::default(),
            ingest,
        }
    }

    /// Notes a failed sign-in of a login, or of nobody known.
    pub async fn note(
        &self,
        login: Option<&str>,
        address: IpAddr,
        reason: &str,
    ) -> Result<(), Rejection> {
        let (address, now_ms) = (network(address), clock::wall_ms());
        let entry = self
            .folding
            .lock()
            .await
            .refused(login, &address, reason, now_ms);
        match entry {
            Some(entry) => self.write(entry).await,
            None => Ok(()),
        }
    }

    /// Writes finished counts until the hub stops; then all.
    pub async fn run(self, mut line: Line, stop: CancellationToken) -> io::Result<()> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            // All arms are cancel-safe.
            let stops = tokio::select! {
                asked = line.asked() => {
                    asked.ready();
                    continue;
                }
                _ = looks.tick() => false,
                () = stop.cancelled() => true,
            };
            let now_ms = if stops { i64::MAX } else { clock::wall_ms() };
            let entries = self.folding.lock().await.due(now_ms);
            for entry in entries {
                let said = format!("{} {}", entry.object, entry.detail);
                if line.during(WRITE_MAX, self.write(entry)).await.is_err() {
                    tracing::warn!(%said, "wrong sign-ins are not in the audit log, for the store takes no writes");
                }
            }
            if stops {
                return Ok(());
            }
        }
    }

    async fn write(&self, entry: Entry) -> Result<(), Rejection> {
        let note = PeopleChange::Note {
            action: "session.refused".to_owned(),
            object: entry.object,
            reason: String::new(),
            detail: entry.detail,
        };
        self.ingest.people(note, "nobody").await.map(drop)
    }
}

/// An address, or the network of 64 bits of an IPv6 address: everybody has that many.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let parts = address.segments();
            format!(
                "{:x}:{:x}:{:x}:{:x}::/64",
                parts[0], parts[1], parts[2], parts[3]
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_of_a_minute_as_one() {
        let mut folding = Folding::default();
        let first = folding.refused(Some("wang"), "192.0.2.1", "", 0);
        let entry = |object: &str, detail: &str| Entry {
            object: object.to_owned(),
            detail: detail.to_owned(),
        };
        assert_eq!(first, Some(entry("user/wang", "address/192.0.2.1")));
        for _ in 0..40 {
            assert_eq!(folding.refused(Some("wang"), "192.0.2.1", "", 1), None);
            assert_eq!(folding.refused(Some("wang"), "192.0.2.2", "", 1), None);
            assert_eq!(folding.refused(Some("li"), "192.0.2.1", "", 1), None);
        }
        assert_eq!(folding.due(FOLD_MS - 1), []);
        assert_eq!(
            folding.due(FOLD_MS),
            [
                entry("address/192.0.2.1", "40 more: user/li"),
                entry("user/wang", "80 more: address/192.0.2.1 address/192.0.2.2"),
            ]
        );
        // It goes on: the next ones are counted at once, and then all is forgotten.
        assert_eq!(
            folding.refused(Some("wang"), "192.0.2.9", "", FOLD_MS),
            None
        );
        assert_eq!(folding.due(2 * FOLD_MS).len(), 1);
        assert_eq!(folding.due(3 * FOLD_MS), []);
        assert!(folding.0.is_empty());
        let again = folding.refused(None, "192.0.2.1", "why", 3 * FOLD_MS);
        assert_eq!(
            again,
            Some(entry("address/192.0.2.1", "why address/192.0.2.1"))
        );
    }

    #[test]
    fn from_everywhere_it_is_bounded_and_nothing_is_uncounted() {
        let mut folding = Folding::default();
        let mut entries = 0_u64;
        for number in 0..10_000 {
            let told = folding.refused(Some(&format!("u{number}")), &number.to_string(), "", 0);
            entries += u64::from(told.is_some());
        }
        assert!(entries < KEYS_MAX as u64, "{entries}");
        let due = folding.due(FOLD_MS);
        assert_eq!(due.len(), 1);
        let counted = format!("{} more: ", 10_000 - entries);
        assert!(due[0].detail.starts_with(&counted), "{due:?}");
        assert!(due[0].detail.len() < 200, "{due:?}");
        // A clock that is set back delays nothing.
        let mut folding = Folding::default();
        for _ in 0..2 {
            folding.refused(None, "192.0.2.1", "", 10 * FOLD_MS);
        }
        assert_eq!(folding.due(0).len(), 1);
    }

    #[test]
    fn everybody_has_a_whole_network_of_ipv6() {
        for (address, wanted) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:0:1:aaaa::1", "2001:db8:0:1::/64"),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(network(address), wanted);
        }
    }
}
