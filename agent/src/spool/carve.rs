//! Finds chunks in the bytes of a database file by their magic and checksum, whatever the database
//! thinks of it. sled keeps small values as they are, in one piece.
use bytes::Bytes;
use linli_shared::protocol::chunk::{Chunk, MAGIC};
use linli_shared::protocol::ids::{Epoch, Lane, Sequence};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// All chunks of this lane in the file, by first sequence. `epoch` limits them to one life of the
/// spool. The file is at most a generation long, so it is read whole.
pub fn chunks(
    file: &Path,
    lane: Lane,
    epoch: Option<Epoch>,
) -> io::Result<BTreeMap<Sequence, Chunk>> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
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
