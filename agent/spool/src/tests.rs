use super::position::LostReason;
use super::*;
use linli_shared::protocol::chunk::{Chunk, Packed};
use linli_shared::protocol::event::Event;
use linli_shared::protocol::ids::{BootId, Retention};
use tempfile::{TempDir, tempdir};

pub mod bad_disk;
mod kills;
mod lane;
mod model;
mod states;

fn settings(directory: &TempDir, quota_bytes: u64, when_full: WhenFull) -> Settings {
    Settings {
        directory: directory.path().join("routine"),
        lane: Lane::Routine,
        generation_bytes: 1 << 20,
        quota_bytes,
        free_bytes_min: 0,
        seen_max: 10_000,
        when_full,
        progress: Progress::default(),
    }
}

fn close(thread: SpoolThread) {
    tokio::task::block_in_place(|| thread.close());
}

/// Appends `count` events that do not compress.
async fn append(spool: &Spool, name: &str, count: u64) -> Result<Appended, AppendError> {
    let mut events = Packed::default();
    let mut keys = Vec::new();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for number in 0..count {
        let mut text = String::new();
        for _ in 0..20 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            text.push_str(&format!("{random:016x}"));
        }
        let event = Event {
            kind: "door.opened".to_owned(),
            source: name.to_owned(),
            source_id: number.to_string(),
            attributes: [("text".to_owned(), text)].into(),
            ..Event::default()
        };
        events
            .push(&event.draft())
            .expect("an event within the limits");
        keys.push(EventKey::of(&event.draft()));
    }
    spool
        .append(Retention::Standard, BootId(1), 1, events, keys)
        .await
}

/// The only database file of a lane with one generation.
fn database(directory: &TempDir) -> std::path::PathBuf {
    std::fs::read_dir(directory.path().join("routine"))
        .expect("the lane")
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with("g-"))
        .expect("a generation")
        .path()
        .join("db")
}

/// Flips one byte in each copy of the chunk that begins with `first`; sled keeps some chunks twice.
fn damage(file: &std::path::Path, first: Sequence) {
    use linli_shared::protocol::chunk::{HEADER_BYTES, MAGIC, verify};
    let mut bytes = std::fs::read(file).expect("the file");
    let copies: Vec<usize> = memchr::memmem::find_iter(&bytes, &MAGIC)
        .filter(|at| verify(&bytes[*at..]).is_ok_and(|header| header.first == first))
        .collect();
    assert!(!copies.is_empty(), "the chunk is in the file");
    for at in copies {
        bytes[at + HEADER_BYTES + 40] ^= 0x10;
    }
    std::fs::write(file, bytes).expect("write");
}

/// Reads everything from 0: chunks with their first sequences, and lost ranges.
async fn read_all(spool: &Spool) -> (Vec<Chunk>, Vec<LostRange>) {
    let end = spool.status().borrow().next;
    let (mut chunks, mut lost) = (Vec::new(), Vec::new());
    let mut from = Sequence(0);
    while from < end {
        let items = spool.read(from, 64 * 1024).await;
        assert!(!items.is_empty(), "the lane does not get past {from}");
        for item in items {
            match item {
                Item::Chunk(chunk) => {
                    assert_eq!(chunk.header().first, from);
                    from = chunk.header().end();
                    chunks.push(chunk);
                }
                Item::Lost(range) => {
                    assert_eq!(range.first, from);
                    from = range.end;
                    lost.push(range);
                }
            }
        }
    }
    (chunks, lost)
}
