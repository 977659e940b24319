//! Ids of source events that were stored, so that a push that comes again is not stored again.
//!
//! In memory: the last `seen_max` keys in order. On disk: an event in a generation is its own record;
//! when a generation is deleted, the keys that it gave go to the file `seen` first. So remembering
//! costs no sync on the way of an event. The file is a row of 16-byte keys, oldest first; a tail that
//! is cut is ignored; it is written anew when it holds twice what is remembered.
use hashbrown::HashTable;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::hash::Hasher;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use linli_shared::service::file;

const KEY_BYTES: usize = 16;

/// 128 bits of (source, source's own id); `None` where the source gives no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventKey(Option<u128>);

impl EventKey {
    /// The key of a source's event.
    pub fn new(source: &str, source_id: &str) -> Self {
        if source_id.is_empty() {
            return Self(None);
        }
        let mut hasher = SipHasher13::new();
        hasher.write(source.as_bytes());
        hasher.write_u8(0xff);
        hasher.write(source_id.as_bytes());
        Self(Some(hasher.finish128().as_u128()))
    }
}

/// A key is a keyed hash already: half of it serves as the hash of the table.
fn hash(key: u128) -> u64 {
    key as u64
}

/// Where the key of a number stands, counted from the number of the first. Both are the low halves of
/// numbers that are never further apart than there are keys.
fn place(number: u32, front: u32) -> usize {
    number.wrapping_sub(front) as usize
}

pub struct Seen {
    path: PathBuf,
    keys_max: usize,
    /// The numbers of the keys in `order`, to be found by key. A number takes a quarter of a key's room:
    /// the table of a hundred thousand stays in a core's cache.
    known: HashTable<u32>,
    order: VecDeque<u128>,
    /// Number of the key at the front of `order`, counted from the start of the program.
    front: u64,
    /// Keys below this number are in the file.
    persisted: u64,
    file_keys: usize,
}

impl Seen {
    pub fn open(path: &Path, keys_max: usize) -> io::Result<Self> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let whole = bytes.len() / KEY_BYTES * KEY_BYTES;
        if whole < bytes.len() {
            // A cut tail would shift every later key.
            OpenOptions::new()
                .write(true)
                .open(path)?
                .set_len(whole as u64)?;
        }
        let mut seen = Self {
            path: path.to_owned(),
            keys_max,
            known: HashTable::new(),
            order: VecDeque::new(),
            front: 0,
            persisted: 0,
            file_keys: whole / KEY_BYTES,
        };
        for key in bytes[..whole].as_chunks::<KEY_BYTES>().0 {
            seen.insert(EventKey(Some(u128::from_be_bytes(*key))));
        }
        seen.persisted = seen.end();
        Ok(seen)
    }

    /// The number that the next new key gets.
    pub fn end(&self) -> u64 {
        self.front + self.order.len() as u64
    }

    /// The key was stored before.
    fn contains(&self, key: u128) -> bool {
        let front = self.front as u32;
        self.known
            .find(hash(key), |number| self.order[place(*number, front)] == key)
            .is_some()
    }

    /// Remembers a key; false if it was known.
    pub fn insert(&mut self, key: EventKey) -> bool {
        let Some(key) = key.0 else { return true };
        if self.contains(key) {
            return false;
        }
        let number = self.end() as u32;
        self.order.push_back(key);
        let (front, order) = (self.front as u32, &self.order);
        let hash_of = |number: &u32| hash(order[place(*number, front)]);
        // Half empty, so that what is removed leaves room and no marks: full of marks, a table has to be
        // filled anew every few thousand keys.
        let capacity_min = 2 * order.len();
        if self.known.capacity() < capacity_min {
            self.known.reserve(capacity_min, hash_of);
        }
        self.known.insert_unique(hash(key), number, hash_of);
        if self.order.len() > self.keys_max
            && let Some(oldest) = self.order.pop_front()
        {
            let entry = self
                .known
                .find_entry(hash(oldest), |number| *number == front);
            if let Ok(entry) = entry {
                entry.remove();
            }
            self.front += 1;
        }
        true
    }

    /// Writes the keys below number `until` to the file; durable when it returns.
    pub fn persist(&mut self, until: u64) -> io::Result<()> {
        let from = self.persisted.max(self.front);
        if until <= from {
            self.persisted = self.persisted.max(until);
            return Ok(());
        }
        let range = (from - self.front) as usize..(until - self.front) as usize;
        if self.file_keys + range.len() > 2 * self.keys_max {
            let kept: Vec<u8> = self.bytes(0..range.end);
            file::replace(&self.path, &kept, 0o600)?;
            self.file_keys = range.end;
        } else {
            let added = self.bytes(range.clone());
            let mut file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(&self.path)?;
            file.write_all(&added)?;
            file.sync_data()?;
            self.file_keys += range.len();
        }
        self.persisted = until;
        Ok(())
    }

    fn bytes(&self, range: std::ops::Range<usize>) -> Vec<u8> {
        self.order
            .range(range)
            .flat_map(|key| key.to_be_bytes())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Seen {
        fn knows(&self, key: EventKey) -> bool {
            key.0.is_some_and(|key| self.contains(key))
        }
    }

    fn key(number: u32) -> EventKey {
        EventKey::new("s", &number.to_string())
    }

    #[test]
    fn what_was_persisted_is_known_after_a_restart_and_what_was_not_is_not() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("seen");
        let mut seen = Seen::open(&path, 100).expect("open");
        assert!((0..10).all(|number| seen.insert(key(number))));
        assert!(!seen.insert(key(3)));
        seen.persist(6).expect("persist");
        let again = Seen::open(&path, 100).expect("open");
        assert!((0..6).all(|number| again.knows(key(number))));
        assert!((6..10).all(|number| !again.knows(key(number))));
    }

    #[test]
    fn memory_and_file_stay_bounded() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("seen");
        let mut seen = Seen::open(&path, 50).expect("open");
        for number in 0..1000 {
            seen.insert(key(number));
            seen.persist(seen.end()).expect("persist");
        }
        assert_eq!(seen.order.len(), 50);
        assert!(std::fs::metadata(&path).expect("file").len() <= 2 * 50 * 16);
        let again = Seen::open(&path, 50).expect("open");
        assert!((950..1000).all(|number| again.knows(key(number))));
    }

    #[test]
    fn a_cut_tail_does_not_shift_later_keys() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("seen");
        let mut seen = Seen::open(&path, 50).expect("open");
        seen.insert(key(1));
        seen.persist(1).expect("persist");
        let mut bytes = std::fs::read(&path).expect("file");
        bytes.extend_from_slice(&[7; 5]);
        std::fs::write(&path, bytes).expect("write");
        let mut seen = Seen::open(&path, 50).expect("open");
        seen.insert(key(2));
        seen.persist(seen.end()).expect("persist");
        let again = Seen::open(&path, 50).expect("open");
        assert!(again.knows(key(1)) && again.knows(key(2)));
    }
}
