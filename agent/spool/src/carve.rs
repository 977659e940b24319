//! Finds chunks in the bytes of a database file by their magic and checksum, whatever the database
//! thinks of it. sled keeps small values as they are, in one piece.
use bytes::Bytes;
use linli_shared::protocol::chunk::{Chunk, MAGIC};
use linli_shared::protocol::ids::{Epoch, Lane, Sequence};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What a disk gives or refuses at once.
const BLOCK_BYTES: usize = 4096;

/// All chunks of this lane in the file, by first sequence. `epoch` limits them to one life of the
/// spool. The file is at most a generation long, so it is read whole.
pub fn chunks(
    file: &Path,
    lane: Lane,
    epoch: Option<Epoch>,
) -> io::Result<BTreeMap<Sequence, Chunk>> {
    let bytes = match File::open(file) {
        Ok(file) => readable(&file)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut found = BTreeMap::new();
    for at in memchr::memmem::find_iter(&bytes, &MAGIC) {
        // Copied, so that a few chunks do not hold the whole file in memory.
        let window = &bytes[at..bytes
            .len()
            .min(at + linli_shared::protocol::limits::CHUNK_BYTES_MAX)];
        let Ok(header) = linli_shared::protocol::chunk::verify(window) else {
            continue;
        };
        if header.lane != lane || epoch.is_some_and(|epoch| epoch != header.epoch) {
            continue;
        }
        let whole = Bytes::copy_from_slice(&window[..header.chunk_bytes()]);
        if let Ok(chunk) = Chunk::parse(&whole) {
            found.insert(header.first, chunk);
        }
    }
    Ok(found)
}

/// The bytes of a file, with zeros for the blocks that the disk cannot read any more.
fn readable(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.metadata()?.len() as usize];
    for (index, block) in bytes.chunks_mut(BLOCK_BYTES).enumerate() {
        match file.read_exact_at(block, (index * BLOCK_BYTES) as u64) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                block.fill(0);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}
