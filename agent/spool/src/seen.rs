//! The keys of stored events, so that a repeated event is not stored again.
//!
//! In memory: the keys of the last `seen_max` events with an id, in order; at most about 45 bytes each. On
//! disk: an event in a generation is its own record; before a generation is deleted, its keys are written to
//! the file `seen`. So remembering a key costs no extra sync per event.
//!
//! ```text
//! offset size
//!  0     16   "linli seen v2" and a line feed, padded with zeros
//! 16     16   a key: hash of the id, u64 big-endian; hash of the content, u64 big-endian
//!  …          oldest first
//! ```
//!
//! A truncated tail is ignored, and so are zeros, which a power cut can leave. A damaged key becomes a
//! different key: its event would be stored again if repeated, and no event is mistaken for it. The file is
//! rewritten when it contains twice the remembered keys. A file of an earlier version is a sequence of
//! 16-byte ids without contents: any event with such an id counts as repeated, as in that version. It is
//! rewritten when the first keys are added.
use hashbrown::HashTable;
use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::disk;
use super::event_key::{EventKey, Key, UNKNOWN_CONTENT};

const HEADER: [u8; 16] = *b"linli seen v2\n\0\0";
const KEY_BYTES: usize = 16;
/// Flag in an entry of the table: a newer event has the same id and other content.
const IS_EARLIER: u32 = 1 << 31;
const NUMBER: u32 = IS_EARLIER - 1;

/// Comparison of an event with the stored ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Novelty {
    /// The id is new, or missing.
    New,
    /// The id is known with other content.
    Conflict,
    /// The event was stored.
    Repeated,
}

/// A key is a hash already, so the table uses it directly.
fn hash(key: Key, is_earlier: bool) -> u64 {
    if is_earlier {
        key.id ^ key.content.rotate_left(32)
    } else {
        key.id
    }
}

/// The index of a key in `order`, from its number and that of the first key. Both are the low bits of numbers
/// that differ by at most the number of keys.
fn place(number: u32, front: u32) -> usize {
    (number.wrapping_sub(front) & NUMBER) as usize
}

/// The remembered keys, and their file.
pub struct Seen {
    path: PathBuf,
    keys_max: usize,
    /// The numbers of the keys in `order`: the newest key of each id, found by the id; earlier keys, marked
    /// with [`IS_EARLIER`], found by id and content. So a source that gives all its events one id causes no
    /// long search. A number takes a quarter of a key's size: the table of a hundred thousand keys fits into
    /// a core's cache.
    known: HashTable<u32>,
    order: VecDeque<Key>,
    /// Number of the key at the front of `order`, counted from the start of the program.
    front: u64,
    /// Keys below this number are in the file.
    persisted: u64,
    /// Keys in the file; `None` if it is missing or of an earlier version.
    file_keys: Option<usize>,
}

impl Seen {
    /// Reads the file; a missing one has no keys.
    pub fn open(path: &Path, keys_max: usize) -> io::Result<Self> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut seen = Self {
            path: path.to_owned(),
            keys_max,
            known: HashTable::new(),
            order: VecDeque::new(),
            front: 0,
            persisted: 0,
            file_keys: None,
        };
        if let Some(keys) = bytes.strip_prefix(&HEADER) {
            let (keys, rest) = keys.as_chunks::<KEY_BYTES>();
            if !rest.is_empty() {
                // A truncated tail would shift every later key.
                let whole = bytes.len() - rest.len();
                let file = OpenOptions::new().write(true).open(path)?;
                file.set_len(whole as u64)?;
            }
            seen.file_keys = Some(keys.len());
            for key in keys {
                seen.insert_stored(u128::from_be_bytes(*key));
            }
        } else {
            for id in bytes.as_chunks::<KEY_BYTES>().0 {
                let id = u128::from_be_bytes(*id) as u64;
                seen.insert_stored(u128::from(id) << 64 | u128::from(UNKNOWN_CONTENT));
            }
        }
        seen.persisted = seen.end();
        Ok(seen)
    }

    fn insert_stored(&mut self, bytes: u128) {
        let (id, content) = ((bytes >> 64) as u64, bytes as u64);
        if id != 0 && content != 0 {
            self.insert(EventKey(Some(Key { id, content })));
        }
    }

    /// The number of the next new key.
    pub fn end(&self) -> u64 {
        self.front + self.order.len() as u64
    }

    fn front_number(&self) -> u32 {
        self.front as u32 & NUMBER
    }

    /// The newest key of an id, by its number.
    fn newest(&self, id: u64) -> Option<Key> {
        let front = self.front_number();
        self.known
            .find(id, |entry| {
                *entry & IS_EARLIER == 0 && self.order[place(*entry, front)].id == id
            })
            .map(|entry| self.order[place(*entry, front)])
    }

    fn is_earlier(&self, key: Key) -> bool {
        let front = self.front_number();
        self.known
            .find(hash(key, true), |entry| {
                *entry & IS_EARLIER != 0 && self.order[place(*entry, front)] == key
            })
            .is_some()
    }

    /// Compares an event with the stored ones.
    fn novelty(&self, key: Key) -> Novelty {
        match self.newest(key.id) {
            None => Novelty::New,
            Some(newest) if newest.content == key.content => Novelty::Repeated,
            Some(newest) if newest.content == UNKNOWN_CONTENT => Novelty::Repeated,
            Some(_) if self.is_earlier(key) => Novelty::Repeated,
            Some(_) => Novelty::Conflict,
        }
    }

    /// Compares an event with the stored ones, and remembers it.
    pub fn insert(&mut self, key: EventKey) -> Novelty {
        let Some(key) = key.0 else {
            return Novelty::New;
        };
        let novelty = self.novelty(key);
        match novelty {
            Novelty::Repeated => return novelty,
            Novelty::Conflict => self.supersede(key.id),
            Novelty::New => {}
        }
        let number = self.end() as u32 & NUMBER;
        if self.order.len() == self.order.capacity() {
            self.order.reserve_exact((self.order.len() / 4).max(64));
        }
        self.order.push_back(key);
        self.enter(number);
        if self.order.len() > self.keys_max {
            self.evict_oldest();
        }
        novelty
    }

    /// Turns the newest key of an id into an earlier one.
    fn supersede(&mut self, id: u64) {
        let front = self.front_number();
        let order = &self.order;
        let found = self.known.find_entry(id, |entry| {
            *entry & IS_EARLIER == 0 && order[place(*entry, front)].id == id
        });
        if let Ok(found) = found {
            let (entry, _) = found.remove();
            self.enter(entry | IS_EARLIER);
        }
    }

    /// Puts an entry into the table.
    fn enter(&mut self, entry: u32) {
        let (front, order) = (self.front_number(), &self.order);
        let hash_of = |entry: &u32| hash(order[place(*entry, front)], *entry & IS_EARLIER != 0);
        // Half empty, so that removals leave room and no tombstones: a table full of tombstones has to be
        // rebuilt every few thousand keys.
        if self.known.capacity() < 2 * order.len() {
            let more = 2 * order.len() - self.known.len();
            self.known.reserve(more, hash_of);
        }
        self.known.insert_unique(hash_of(&entry), entry, hash_of);
    }

    fn evict_oldest(&mut self) {
        let front = self.front_number();
        let Some(oldest) = self.order.front() else {
            return;
        };
        for is_earlier in [false, true] {
            let found = self.known.find_entry(hash(*oldest, is_earlier), |entry| {
                *entry & NUMBER == front && (*entry & IS_EARLIER != 0) == is_earlier
            });
            if let Ok(found) = found {
                found.remove();
                break;
            }
        }
        self.order.pop_front();
        self.front += 1;
    }

    /// Writes the keys with numbers below `until` to the file; durable on return.
    pub fn persist(&mut self, until: u64) -> io::Result<()> {
        let from = self.persisted.max(self.front);
        if until <= from {
            self.persisted = self.persisted.max(until);
            return Ok(());
        }
        let range = (from - self.front) as usize..(until - self.front) as usize;
        match self.file_keys {
            Some(file_keys) if file_keys + range.len() <= 2 * self.keys_max => {
                let added = self.bytes(range.clone());
                let mut file = OpenOptions::new().append(true).open(&self.path)?;
                file.write_all(&added)?;
                disk::sync_file(&file, &self.path)?;
                self.file_keys = Some(file_keys + range.len());
            }
            _ => {
                let mut whole = HEADER.to_vec();
                whole.extend(self.bytes(0..range.end));
                disk::replace(&self.path, &whole)?;
                self.file_keys = Some(range.end);
            }
        }
        self.persisted = until;
        Ok(())
    }

    fn bytes(&self, range: std::ops::Range<usize>) -> Vec<u8> {
        self.order
            .range(range)
            .flat_map(|key| [key.id.to_be_bytes(), key.content.to_be_bytes()])
            .flatten()
            .collect()
    }

    /// Memory of all keys, bytes.
    #[cfg(test)]
    fn memory_bytes(&self) -> usize {
        self.known.allocation_size() + self.order.capacity() * size_of::<Key>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::{TempDir, tempdir};

    impl Seen {
        fn knows(&self, key: EventKey) -> bool {
            key.0
                .is_some_and(|key| self.novelty(key) == Novelty::Repeated)
        }
    }

    fn key(id: u64, content: u64) -> EventKey {
        // Spread over all bits, like a hash.
        let spread = |number: u64| (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        EventKey(Some(Key {
            id: spread(id),
            content: spread(content),
        }))
    }

    fn opened(directory: &TempDir, keys_max: usize) -> Seen {
        Seen::open(&directory.path().join("seen"), keys_max).expect("open")
    }

    #[test]
    fn the_same_id_with_other_content_is_a_conflict_and_each_content_is_known() {
        let directory = tempdir().expect("temporary directory");
        let mut seen = opened(&directory, 1000);
        assert_eq!(seen.insert(key(1, 0)), Novelty::New);
        for content in 1..500 {
            assert_eq!(seen.insert(key(1, content)), Novelty::Conflict);
        }
        assert!((0..500).all(|content| seen.knows(key(1, content))));
        assert_eq!(seen.insert(key(1, 700)), Novelty::Conflict);
        seen.persist(seen.end()).expect("persist");
        let mut again = opened(&directory, 1000);
        assert!((0..500).all(|content| again.knows(key(1, content))));
        assert_eq!(again.insert(key(1, 501)), Novelty::Conflict);
        assert_eq!(again.insert(key(2, 0)), Novelty::New);
        assert_eq!(again.insert(EventKey(None)), Novelty::New);
    }

    #[test]
    fn an_id_is_known_until_its_last_content_is_evicted() {
        let directory = tempdir().expect("temporary directory");
        let mut seen = opened(&directory, 10);
        seen.insert(key(1, 0));
        for other in 100..105 {
            seen.insert(key(other, 0));
        }
        seen.insert(key(1, 1));
        for other in 105..109 {
            seen.insert(key(other, 0));
        }
        // The first content has been evicted, the second has not.
        assert_eq!(seen.insert(key(1, 0)), Novelty::Conflict);
        assert_eq!(seen.insert(key(1, 1)), Novelty::Repeated);
        for other in 200..210 {
            seen.insert(key(other, 0));
        }
        assert_eq!(seen.insert(key(1, 0)), Novelty::New);
        assert_eq!(seen.known.len(), 10);
    }

    #[test]
    fn what_was_persisted_is_known_after_a_restart_and_what_was_not_is_not() {
        let directory = tempdir().expect("temporary directory");
        let mut seen = opened(&directory, 100);
        assert!((0..10).all(|number| seen.insert(key(number, 0)) == Novelty::New));
        assert_eq!(seen.insert(key(3, 0)), Novelty::Repeated);
        seen.persist(6).expect("persist");
        let again = opened(&directory, 100);
        assert!((0..6).all(|number| again.knows(key(number, 0))));
        assert!((6..10).all(|number| !again.knows(key(number, 0))));
    }

    #[test]
    fn memory_and_file_stay_bounded() {
        let directory = tempdir().expect("temporary directory");
        let mut seen = opened(&directory, 50);
        for number in 0..1000 {
            seen.insert(key(number, 0));
            seen.persist(seen.end()).expect("persist");
        }
        assert_eq!(seen.order.len(), 50);
        let file = std::fs::metadata(directory.path().join("seen")).expect("file");
        assert!(file.len() <= (2 * 50 + 1) * 16);
        let again = opened(&directory, 50);
        assert!((950..1000).all(|number| again.knows(key(number, 0))));
    }

    #[test]
    fn a_key_takes_at_most_sixty_bytes_of_memory_whatever_the_ids_are() {
        let directory = tempdir().expect("temporary directory");
        for keys_max in [5_000, 57_400, 100_000, 114_700, 131_073] {
            let mut seen = opened(&directory, keys_max);
            for number in 0..3 * keys_max as u64 {
                // New ids, then known ids, then one id for all.
                match number * 3 / (3 * keys_max as u64) {
                    0 => seen.insert(key(number, 0)),
                    1 => seen.insert(key(number % 1000, number)),
                    _ => seen.insert(key(0, number)),
                };
            }
            assert_eq!((seen.order.len(), seen.known.len()), (keys_max, keys_max));
            let bytes = seen.memory_bytes() as f64 / keys_max as f64;
            assert!(bytes <= 60.0, "{bytes} bytes a key of {keys_max}");
        }
    }

    #[test]
    fn a_file_that_is_cut_or_has_zeros_in_it_keeps_its_other_keys() {
        let directory = tempdir().expect("temporary directory");
        let path = directory.path().join("seen");
        let mut seen = opened(&directory, 50);
        for number in 1..=3 {
            seen.insert(key(number, 0));
        }
        seen.persist(3).expect("persist");
        let mut bytes = std::fs::read(&path).expect("file");
        // The content hash of the second key is lost: it must not equal every content.
        bytes[HEADER.len() + 24..HEADER.len() + 32].fill(0);
        bytes.extend_from_slice(&[7; 5]);
        std::fs::write(&path, bytes).expect("write");
        let mut seen = opened(&directory, 50);
        assert_eq!(seen.insert(key(4, 0)), Novelty::New);
        seen.persist(seen.end()).expect("persist");
        let mut again = opened(&directory, 50);
        assert!([1, 3, 4].iter().all(|number| again.knows(key(*number, 0))));
        assert_eq!(again.insert(key(2, 9)), Novelty::New);
    }

    #[test]
    fn ids_of_a_file_of_an_earlier_version_are_known_whatever_the_content() {
        let directory = tempdir().expect("temporary directory");
        let old = |number: u64| {
            let Some(key) = key(number, 0).0 else {
                panic!("a key")
            };
            u128::from(number) << 64 | u128::from(key.id)
        };
        let mut bytes: Vec<u8> = (1..=3)
            .flat_map(|number| old(number).to_be_bytes())
            .collect();
        bytes.extend_from_slice(&[7; 5]);
        std::fs::write(directory.path().join("seen"), bytes).expect("write");
        let mut seen = opened(&directory, 50);
        assert_eq!(seen.insert(key(2, 5)), Novelty::Repeated);
        assert_eq!(seen.insert(key(4, 0)), Novelty::New);
        seen.persist(seen.end()).expect("persist");
        // The file now has the current version, and the keys are still known.
        let mut again = opened(&directory, 50);
        assert_eq!(again.insert(key(3, 5)), Novelty::Repeated);
        assert_eq!(again.insert(key(4, 5)), Novelty::Conflict);
    }
}
