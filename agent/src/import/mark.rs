//! Progress of imported files: a mark for each, so that an interrupted import resumes where it stopped, and a
//! complete one stores nothing twice, however many rows it has.
//!
//! ```text
//! <data>/imports/<name>.json   one mark; replaced whole after each group of rows that was stored
//! ```
//!
//! A mark states: of a file that begins with these bytes (length and SHA-256), read by this mapping for this source,
//! all rows in them are processed. So it also serves a file that was repaired after that place, or that has grown. It
//! is invalid once the mapping has changed: other rows may count then. The newest [`MARKS_MAX`] are kept; beyond
//! them, as within the last group before a crash, the source's own ids identify stored events.
use linli_shared::service::data_dir;
use linli_shared::service::file;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Largest number of marks that are kept.
const MARKS_MAX: usize = 256;
/// Bytes read at once from the file.
const READ_BYTES: usize = 1 << 16;

/// The content of a mark file.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    /// Name of the file when it was imported, for people.
    file: String,
    source: String,
    /// SHA-256 of the mapping file.
    mapping: String,
    /// All rows before this position are processed.
    bytes: u64,
    /// SHA-256 of the bytes before that position.
    sha256: String,
}

/// The hash of the front of a file, which grows.
#[derive(Clone, Default)]
struct Front {
    bytes: u64,
    hasher: Sha256,
}

impl Front {
    fn grow(&mut self, file: &File, to: u64) -> io::Result<String> {
        let mut buffer = vec![0; READ_BYTES];
        while self.bytes < to {
            let wanted = READ_BYTES.min((to - self.bytes) as usize);
            let read = file.read_at(&mut buffer[..wanted], self.bytes)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.hasher.update(&buffer[..read]);
            self.bytes += read as u64;
        }
        Ok(hex::encode(self.hasher.clone().finalize()))
    }
}

/// The mark of the file that is being imported.
pub struct Mark {
    path: PathBuf,
    written: Written,
    front: Front,
    file: File,
}

impl Mark {
    /// Finds the progress in `file`, or begins at its start if `anew`. `bytes` is its length.
    pub fn open(
        data_dir: &Path,
        (path, file, bytes): (&Path, &File, u64),
        source: &str,
        mapping: &[u8],
        anew: bool,
    ) -> io::Result<Self> {
        let directory = data_dir.join("imports");
        data_dir::make(&directory)?;
        let file = file.try_clone()?;
        let mapping = hex::encode(Sha256::digest(mapping));
        let mut known: Vec<Written> = prune(&directory)?
            .iter()
            .filter_map(|path| read(path))
            .filter(|mark| mark.source == source && mark.mapping == mapping && mark.bytes <= bytes)
            .collect();
        known.sort_by_key(|mark| mark.bytes);
        let mut growing = Front::default();
        let mut front = Front::default();
        if !anew {
            for mark in known {
                if growing.grow(&file, mark.bytes)? == mark.sha256 {
                    front = growing.clone();
                }
            }
        }
        let whole = growing.grow(&file, bytes)?;
        let name = Sha256::digest(format!("{source}\n{mapping}\n{whole}"));
        Ok(Self {
            path: directory.join(format!("{}.json", hex::encode(&name[..16]))),
            written: Written {
                file: path.display().to_string(),
                source: source.to_owned(),
                mapping,
                bytes: front.bytes,
                sha256: String::new(),
            },
            front,
            file,
        })
    }

    /// All rows before this position are processed.
    pub fn bytes(&self) -> u64 {
        self.written.bytes
    }

    /// Records that all rows before `bytes` are processed. Returns when that is on disk.
    pub fn advance(&mut self, bytes: u64) -> io::Result<()> {
        if bytes <= self.written.bytes {
            return Ok(());
        }
        self.written.sha256 = self.front.grow(&self.file, bytes)?;
        self.written.bytes = bytes;
        let text = serde_json::to_vec_pretty(&self.written).map_err(io::Error::other)?;
        file::replace(&self.path, &text, 0o600)
    }

    /// The file of the mark, for errors.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Reads a mark. An unreadable one counts as none: ids identify stored events.
fn read(path: &Path) -> Option<Written> {
    let mark = std::fs::read(path)
        .map_err(|error| error.to_string())
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
    mark.inspect_err(|error| tracing::warn!(?path, error, "a mark of an import cannot be read"))
        .ok()
}

/// Removes the oldest marks beyond the limit; returns the others.
fn prune(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut marks: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            marks.push((std::fs::metadata(&path)?.modified()?, path));
        }
    }
    marks.sort();
    let surplus = marks.len().saturating_sub(MARKS_MAX - 1);
    for (_, path) in marks.drain(..surplus) {
        std::fs::remove_file(path)?;
    }
    Ok(marks.into_iter().map(|(_, path)| path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn mark(&self, text: &str, source: &str, mapping: &str, anew: bool) -> Mark {
            let path = self.0.path().join("export");
            std::fs::write(&path, text).expect("written");
            let file = File::open(&path).expect("there");
            let bytes = text.len() as u64;
            Mark::open(
                self.0.path(),
                (&path, &file, bytes),
                source,
                mapping.as_bytes(),
                anew,
            )
            .expect("opened")
        }

        fn known(&self, text: &str) -> u64 {
            self.mark(text, "calls", "m", false).bytes()
        }
    }

    #[test]
    fn a_mark_serves_the_same_beginning_of_a_file_by_the_same_mapping_and_source() {
        let place = Place(tempfile::tempdir().expect("a directory"));
        let mut mark = place.mark("one\ntwo\nthree\n", "calls", "m", false);
        assert_eq!(mark.bytes(), 0);
        mark.advance(4).expect("written");
        mark.advance(8).expect("written");
        assert_eq!(place.known("one\ntwo\nthree\n"), 8);
        assert_eq!(
            place.known("one\ntwo\n3\nfour\n"),
            8,
            "mended after it, grown"
        );
        assert_eq!(place.known("One\ntwo\nthree\n"), 0, "changed before it");
        assert_eq!(place.known("one\n"), 0, "shorter than it");
        let bytes = |source, mapping, anew| {
            place
                .mark("one\ntwo\nthree\n", source, mapping, anew)
                .bytes()
        };
        assert_eq!(bytes("other", "m", false), 0);
        assert_eq!(bytes("calls", "changed", false), 0);
        assert_eq!(bytes("calls", "m", true), 0, "asked for anew");
    }

    #[test]
    fn the_furthest_of_several_marks_counts_and_only_so_many_are_kept() {
        let place = Place(tempfile::tempdir().expect("a directory"));
        for days in 1..MARKS_MAX + 10 {
            let text = "day\n".repeat(days);
            let mut mark = place.mark(&text, "calls", "m", false);
            assert_eq!(mark.bytes(), 4 * (days as u64 - 1));
            mark.advance(text.len() as u64).expect("written");
        }
        let kept = std::fs::read_dir(place.0.path().join("imports")).expect("there");
        assert_eq!(kept.count(), MARKS_MAX);
    }

    #[test]
    fn a_mark_that_is_damaged_is_none() {
        let place = Place(tempfile::tempdir().expect("a directory"));
        let mut mark = place.mark("one\n", "calls", "m", false);
        mark.advance(4).expect("written");
        std::fs::write(mark.path(), "{").expect("written");
        assert_eq!(place.known("one\n"), 0);
    }
}
