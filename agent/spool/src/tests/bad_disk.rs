//! A disk that loses, tears and refuses writes, below the lanes under test.
//!
//! Each operation of [`crate::disk`] is observed here before and after it is performed. From the data synced
//! so far and the current files, it constructs an image of the disk after a power cut at that moment:
//!
//! * for a directory: the names of its last sync, or the current ones;
//! * for a file: the content of its last sync, or the current one, or any mix of their sectors of 512 bytes
//!   at either length; sectors that were never written are zeros.
//!
//! In a child process, the process ends instead, as by SIGKILL, at the operation that the environment names.
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use crate::disk::Operation;

const SECTOR_BYTES: usize = 512;
/// Number of the operation at which this process ends.
pub const END_AT: &str = "LINLI_SPOOL_TEST_END_AT";

static DISKS: Mutex<Vec<Arc<BadDisk>>> = Mutex::new(Vec::new());

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn disk_of(path: &Path) -> Option<Arc<BadDisk>> {
    let disks = locked(&DISKS);
    disks
        .iter()
        .find(|disk| path.starts_with(&disk.root))
        .cloned()
}

pub fn before(operation: Operation, path: &Path) -> io::Result<()> {
    static END: LazyLock<Option<u64>> = LazyLock::new(|| std::env::var(END_AT).ok()?.parse().ok());
    static DONE: AtomicU64 = AtomicU64::new(0);
    if END.is_some_and(|end| DONE.fetch_add(1, Ordering::Relaxed) == end) {
        std::process::abort();
    }
    match disk_of(path) {
        Some(disk) => disk.before(operation),
        None => Ok(()),
    }
}

pub fn after(operation: Operation, path: &Path) {
    if let Some(disk) = disk_of(path) {
        disk.after(operation, path);
    }
}

/// A seeded generator of random numbers.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

/// The durable data, by inode. Handles are kept so that no inode is reused meanwhile.
#[derive(Default)]
struct Durable {
    files: HashMap<u64, (File, Vec<u8>)>,
    directories: HashMap<u64, BTreeMap<OsString, u64>>,
    held: HashMap<u64, File>,
}

type AtOperation = Box<dyn FnMut(&BadDisk) + Send>;

pub struct BadDisk {
    root: PathBuf,
    durable: Mutex<Durable>,
    /// Number of operations before one is refused, and its error.
    refusal: Mutex<Option<(u64, rustix::io::Errno)>>,
    at_operation: Mutex<Option<AtOperation>>,
}

impl BadDisk {
    /// Observes everything below `root`, which must exist and be empty.
    pub fn new(root: &Path) -> Arc<Self> {
        let disk = Arc::new(Self {
            root: root.to_owned(),
            durable: Mutex::default(),
            refusal: Mutex::default(),
            at_operation: Mutex::default(),
        });
        locked(&DISKS).push(disk.clone());
        disk
    }

    /// Refuses the operation after this many others.
    pub fn refuse_after(&self, others: u64, error: rustix::io::Errno) {
        *locked(&self.refusal) = Some((others, error));
    }

    /// True if the refused operation is still ahead.
    pub fn is_refusing(&self) -> bool {
        locked(&self.refusal).is_some()
    }

    pub fn refuse_nothing(&self) {
        *locked(&self.refusal) = None;
    }

    /// Calls `act` before each operation. Nothing is written during the call.
    pub fn at_operations(&self, act: impl FnMut(&BadDisk) + Send + 'static) {
        *locked(&self.at_operation) = Some(Box::new(act));
    }

    pub fn remove(&self) {
        locked(&DISKS).retain(|disk| disk.root != self.root);
    }

    fn before(&self, _: Operation) -> io::Result<()> {
        if let Some(act) = locked(&self.at_operation).as_mut() {
            act(self);
        }
        let mut refusal = locked(&self.refusal);
        match refusal.as_mut() {
            Some((0, error)) => {
                let error = *error;
                *refusal = None;
                Err(error.into())
            }
            Some((others, _)) => {
                *others -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn after(&self, operation: Operation, path: &Path) {
        let mut durable = locked(&self.durable);
        match operation {
            Operation::SyncFile => durable.sync_file(path),
            Operation::SyncDirectory => durable.sync_directory(path),
            Operation::Replace => {
                durable.sync_file(path);
                durable.sync_directory(path.parent().expect("in a directory"));
            }
            Operation::Write | Operation::Rename | Operation::Remove => {}
        }
        durable.forget(&self.root);
    }

    /// Writes the content of the disk after a power cut at this moment to `target`.
    pub fn image(&self, target: &Path, random: &mut Random) {
        let durable = locked(&self.durable);
        let mut live = HashMap::new();
        list(&self.root, &mut live);
        let root = inode(&self.root);
        durable.directory(root, &live, target, random);
    }
}

fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).expect("a file").ino()
}

fn list(directory: &Path, found: &mut HashMap<u64, PathBuf>) {
    found.insert(inode(directory), directory.to_owned());
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            list(&path, found);
        } else {
            found.insert(inode(&path), path);
        }
    }
}

fn names(directory: &Path) -> BTreeMap<OsString, u64> {
    std::fs::read_dir(directory)
        .expect("a directory")
        .flatten()
        .map(|entry| (entry.file_name(), inode(&entry.path())))
        .collect()
}

impl Durable {
    fn sync_file(&mut self, path: &Path) {
        let file = File::open(path).expect("a file that was synced");
        let content = std::fs::read(path).expect("a file that was synced");
        self.files.insert(inode(path), (file, content));
    }

    fn sync_directory(&mut self, path: &Path) {
        let names = names(path);
        for (name, inode) in &names {
            let opened = File::open(path.join(name)).expect("an entry");
            self.held.entry(*inode).or_insert(opened);
        }
        self.directories.insert(inode(path), names);
    }

    /// Drops data without a name, both on the disk and currently.
    fn forget(&mut self, root: &Path) {
        let mut live = HashMap::new();
        list(root, &mut live);
        let mut reached: HashSet<u64> = live.into_keys().collect();
        let mut waiting: Vec<u64> = reached.iter().copied().collect();
        while let Some(directory) = waiting.pop() {
            for inode in self.directories.get(&directory).into_iter().flatten() {
                if reached.insert(*inode.1) {
                    waiting.push(*inode.1);
                }
            }
        }
        self.files.retain(|inode, _| reached.contains(inode));
        self.directories.retain(|inode, _| reached.contains(inode));
        self.held.retain(|inode, _| reached.contains(inode));
    }

    fn directory(
        &self,
        directory: u64,
        live: &HashMap<u64, PathBuf>,
        target: &Path,
        random: &mut Random,
    ) {
        std::fs::create_dir_all(target).expect("a directory");
        let mut entries = self.directories.get(&directory).cloned();
        if let Some(path) = live.get(&directory)
            && random.below(2) == 0
        {
            entries = Some(names(path));
        }
        for (name, inode) in entries.unwrap_or_default() {
            let target = target.join(name);
            let now = live.get(&inode);
            let is_directory = match (now, self.held.get(&inode)) {
                (Some(path), _) => path.is_dir(),
                (None, Some(held)) => held.metadata().expect("held").is_dir(),
                (None, None) => continue,
            };
            if is_directory {
                self.directory(inode, live, &target, random);
            } else {
                let synced = self.files.get(&inode).map(|(_, bytes)| bytes.as_slice());
                let written = match (now, self.held.get(&inode)) {
                    (Some(path), _) => std::fs::read(path).expect("a file"),
                    (None, Some(held)) => whole(held),
                    (None, None) => Vec::new(),
                };
                let bytes = torn(synced.unwrap_or_default(), &written, random);
                std::fs::write(&target, bytes).expect("written");
            }
        }
    }
}

fn whole(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().expect("held").len() as usize];
    file.read_exact_at(&mut bytes, 0).expect("read");
    bytes
}

fn torn(synced: &[u8], written: &[u8], random: &mut Random) -> Vec<u8> {
    let length = match random.below(4) {
        0 => return synced.to_vec(),
        1 => return written.to_vec(),
        2 => synced.len(),
        _ => written.len(),
    };
    // Some cuts are early, some late.
    let share = random.below(9) + 1;
    let mut bytes = vec![0; length];
    for (index, sector) in bytes.chunks_mut(SECTOR_BYTES).enumerate() {
        let from = if random.below(10) < share {
            written
        } else {
            synced
        };
        let start = index * SECTOR_BYTES;
        let there = from.len().saturating_sub(start).min(sector.len());
        sector[..there].copy_from_slice(&from[from.len().min(start)..][..there]);
    }
    bytes
}
