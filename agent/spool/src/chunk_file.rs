//! Finds the chunks in the file of a database by magic and checksum, whatever state the database is in. sled
//! stores small values unchanged and contiguous, so this finds all of them.
//!
//! It only reads. sled rewrites a file when it opens it and cuts off everything behind damage of its own
//! records. So files of an earlier process, and files that are no longer written, are read by this module and
//! not by sled.
use bytes::Bytes;
use linli_shared::protocol::chunk::{Chunk, Header, MAGIC, verify};
use linli_shared::protocol::ids::{Epoch, Lane, Sequence};
use linli_shared::protocol::limits::CHUNK_BYTES_MAX;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Progress;
use crate::sled_log::Trouble;

/// The unit in which a disk returns or refuses data.
const BLOCK_BYTES: usize = 4096;
/// Size of the pieces examined at a time, so that a file is not held in memory, bytes.
const WINDOW_BYTES: usize = 256 * 1024;

/// The chunks to look for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Lane of the chunks.
    pub lane: Lane,
    /// Epoch of the chunks; `None`: any.
    pub epoch: Option<Epoch>,
}

/// The location of a chunk in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Sequence of the first event.
    pub first: Sequence,
    offset: u32,
    bytes: u16,
    count: u16,
}

impl Found {
    /// The sequence after its last event.
    pub fn end(&self) -> Sequence {
        self.first.plus(u64::from(self.count))
    }

    /// Size of the chunk, bytes.
    pub fn bytes(&self) -> u64 {
        u64::from(self.bytes)
    }
}

/// The chunks of a file.
#[derive(Debug)]
pub struct Scanned {
    /// Chunks ordered by first sequence; of several with the same one, the last in the file.
    pub chunks: Vec<Found>,
    /// The epoch of the last chunk of this lane in the file, wanted or not.
    pub epoch: Option<Epoch>,
    file: Option<File>,
}

/// Scans the database file of a generation. A missing file has no chunks.
pub fn scan(directory: &Path, wanted: Wanted, progress: &Progress) -> io::Result<Scanned> {
    let mut scanned = Scanned {
        chunks: Vec::new(),
        epoch: None,
        file: None,
    };
    let file = match File::open(directory.join("db")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(scanned),
        Err(error) => return Err(error),
    };
    let file_bytes = file.metadata()?.len() as usize;
    // A chunk that begins in a window lies completely in it and its margin.
    let mut window = vec![0; (WINDOW_BYTES + CHUNK_BYTES_MAX).min(file_bytes)];
    // Do not search inside a chunk: text in an event could look like one.
    let mut free_from = 0;
    for start in (0..file_bytes).step_by(WINDOW_BYTES) {
        let length = window.len().min(file_bytes - start);
        let window = &mut window[..length];
        read_or_zeros(&file, window, start as u64)?;
        for at in memchr::memmem::find_iter(window, &MAGIC) {
            if at >= WINDOW_BYTES || start + at < free_from {
                continue;
            }
            let Ok(header) = verify(&window[at..]) else {
                continue;
            };
            free_from = start + at + header.chunk_bytes();
            note(&mut scanned, wanted, &header, start + at);
        }
        progress.advance();
    }
    scanned.chunks.sort_by_key(|found| found.first);
    scanned.chunks.dedup_by(|later, earlier| {
        let is_double = later.first == earlier.first;
        if is_double {
            *earlier = *later;
        }
        is_double
    });
    scanned.file = Some(file);
    Ok(scanned)
}

fn note(scanned: &mut Scanned, wanted: Wanted, header: &Header, at: usize) {
    let Ok(offset) = u32::try_from(at) else {
        return;
    };
    if header.lane != wanted.lane {
        return;
    }
    scanned.epoch = Some(header.epoch);
    if wanted.epoch.is_some_and(|epoch| epoch != header.epoch) {
        return;
    }
    scanned.chunks.push(Found {
        first: header.first,
        offset,
        // A chunk has at most 6 KiB.
        bytes: header.chunk_bytes() as u16,
        count: header.count,
    });
}

/// Fills `bytes` from the file, with zeros for unreadable blocks of the disk.
fn read_or_zeros(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    if file.read_exact_at(bytes, offset).is_ok() {
        return Ok(());
    }
    for (index, block) in bytes.chunks_mut(BLOCK_BYTES).enumerate() {
        match file.read_exact_at(block, offset + (index * BLOCK_BYTES) as u64) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                block.fill(0);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Scanned {
    /// Removes chunks outside of the sequences `first..end`: another generation has them, or a power cut tore
    /// the writes in between, which were never acknowledged. Below `synced`, chunks are kept even if earlier
    /// ones are lost.
    pub fn retain(&mut self, first: Sequence, end: Sequence, synced: Sequence) {
        let mut next = first;
        self.chunks.retain(|found| {
            let is_part = (first..end).contains(&found.first)
                && found.end() > next
                && (found.first <= next || found.first < synced);
            if is_part {
                next = found.end();
            }
            is_part
        });
    }

    /// Reads a chunk and verifies it.
    pub fn chunk(&self, found: &Found) -> Result<Chunk, Trouble> {
        let mut bytes = vec![0; usize::from(found.bytes)];
        if let Some(file) = &self.file {
            file.read_exact_at(&mut bytes, u64::from(found.offset))?;
        }
        let chunk = Chunk::parse(&Bytes::from(bytes))?;
        if chunk.header().first != found.first {
            let reason = "a chunk is not where it was".to_owned();
            return Err(Trouble::Damage(reason));
        }
        Ok(chunk)
    }

    /// Reads and verifies all chunks in order.
    pub fn all(&self) -> impl Iterator<Item = Result<Chunk, Trouble>> + '_ {
        self.chunks.iter().map(|found| self.chunk(found))
    }

    /// Reads chunks from the one that contains `from`, up to about `bytes_max`; at least one if there is one.
    pub fn read(&self, from: Sequence, bytes_max: usize) -> Result<Vec<Chunk>, Trouble> {
        let mut chunks = Vec::new();
        let mut bytes = 0;
        let start = self.chunks.partition_point(|found| found.end() <= from);
        for found in &self.chunks[start..] {
            bytes += usize::from(found.bytes);
            if bytes > bytes_max && !chunks.is_empty() {
                break;
            }
            chunks.push(self.chunk(found)?);
        }
        Ok(chunks)
    }
}
