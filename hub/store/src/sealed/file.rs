//! A sealed file, written and read in blocks, so that one of any size takes little memory.
//!
//! ```text
//! "LINLIF1\n" │ name of the key, 8 hexadecimal digits │ salt, 32 bytes │ block │ block │ … │ last block
//! ```
//!
//! * A block is up to 64 KiB of the content, sealed with AES-256-GCM: 16 bytes more. All but the last are full.
//! * The key is the file's own: HKDF-SHA-256 of the named key and the salt. So the nonce is the number of the block, and
//!   whether it is the last: none can be taken out, put elsewhere or cut off.
//! * A file is called by the HMAC-SHA-256 of its content under a key that comes of the same line of `fields.key`: who has
//!   the disk cannot tell whether a well-known content is there. The name is compared with the content by [`verify`].
use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use ring::hmac;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::{SealError, Sealer};
use linli_shared::service::random;

const MAGIC: &[u8; 8] = b"LINLIF1\n";
const KEY_NAME_BYTES: usize = 8;
const SALT_BYTES: usize = 32;
const HEAD_BYTES: u64 = (MAGIC.len() + KEY_NAME_BYTES + SALT_BYTES) as u64;
/// Content of a block.
const BLOCK_BYTES: u64 = 64 * 1024;
const TAG_BYTES: u64 = 16;

/// Why a sealed file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there.
    #[error("the file is missing")]
    Missing,
    /// The disk.
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
    /// Its key is not there.
    #[error(transparent)]
    Key(#[from] SealError),
    /// It is another than what was written.
    #[error("the file is damaged: {0}")]
    Damaged(&'static str),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::InvalidData => Self::Damaged("a block is not what was written"),
            io::ErrorKind::UnexpectedEof => Self::Damaged("it is cut off"),
            _ => Self::Read(error),
        }
    }
}

fn nonce(block: u64, is_last: bool) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[..8].copy_from_slice(&block.to_be_bytes());
    bytes[8] = u8::from(is_last);
    Nonce::assume_unique_for_key(bytes)
}

/// A file in the making.
pub struct Sealing {
    file: File,
    key: LessSafeKey,
    naming: hmac::Context,
    block: Vec<u8>,
    blocks: u64,
    bytes: u64,
}

/// A file that is written, not synced.
pub struct Sealed {
    pub file: File,
    /// What it is called.
    pub digest: String,
    /// Of its content.
    pub bytes: u64,
}

impl Sealing {
    /// Begins to write into an empty file.
    pub fn begin(sealer: &Sealer, mut file: File) -> io::Result<Self> {
        let salt = random::secret::<SALT_BYTES>();
        let key = &sealer.keys[0];
        file.write_all(&[MAGIC.as_slice(), key.name.as_bytes(), &salt].concat())?;
        Ok(Self {
            file,
            key: key.of_file(&salt),
            naming: key.naming(),
            block: Vec::with_capacity((BLOCK_BYTES + TAG_BYTES) as usize),
            blocks: 0,
            bytes: 0,
        })
    }

    /// Adds to the content.
    pub fn push(&mut self, mut content: &[u8]) -> io::Result<()> {
        self.naming.update(content);
        self.bytes += content.len() as u64;
        while !content.is_empty() {
            // A full block waits until there is more: the last one is sealed as such.
            if self.block.len() == BLOCK_BYTES as usize {
                self.flush(false)?;
            }
            let room = BLOCK_BYTES as usize - self.block.len();
            let (now, later) = content.split_at(room.min(content.len()));
            self.block.extend_from_slice(now);
            content = later;
        }
        Ok(())
    }

    fn flush(&mut self, is_last: bool) -> io::Result<()> {
        self.key
            .seal_in_place_append_tag(
                nonce(self.blocks, is_last),
                Aad::from(MAGIC),
                &mut self.block,
            )
            .expect("a block is far shorter than the 64 GiB that AES-GCM takes");
        self.file.write_all(&self.block)?;
        self.block.clear();
        self.blocks += 1;
        Ok(())
    }

    /// There is no more.
    pub fn finish(mut self) -> io::Result<Sealed> {
        self.flush(true)?;
        Ok(Sealed {
            file: self.file,
            digest: hex::encode(self.naming.sign()),
            bytes: self.bytes,
        })
    }
}

/// The content of a sealed file; reading fails with `InvalidData` where it is not what was written.
pub struct Opened {
    file: File,
    key: LessSafeKey,
    naming: hmac::Context,
    bytes: u64,
    blocks: u64,
    at: u64,
    /// The block that was opened last.
    block: Vec<u8>,
    number: Option<u64>,
}

impl Opened {
    /// Reads the head.
    pub fn new(sealer: &Sealer, mut file: File) -> Result<Self, FileError> {
        let mut head = [0; HEAD_BYTES as usize];
        file.seek(SeekFrom::Start(0))?;
        file.read_exact(&mut head)?;
        let (magic, rest) = head.split_at(MAGIC.len());
        let (name, salt) = rest.split_at(KEY_NAME_BYTES);
        if magic != MAGIC {
            return Err(FileError::Damaged("it does not begin as a sealed file"));
        }
        let name = str::from_utf8(name).map_err(|_| FileError::Damaged("its key has no name"))?;
        let key = sealer.key(name)?;
        let body = file.metadata()?.len() - HEAD_BYTES;
        let blocks = body.div_ceil(BLOCK_BYTES + TAG_BYTES);
        let cut = FileError::Damaged("it is cut off");
        let bytes = body.checked_sub(blocks * TAG_BYTES).ok_or(cut)?;
        if blocks == 0 || blocks != bytes.div_ceil(BLOCK_BYTES).max(1) {
            return Err(FileError::Damaged("it is cut off"));
        }
        Ok(Self {
            file,
            key: key.of_file(salt),
            naming: key.naming(),
            bytes,
            blocks,
            at: 0,
            block: Vec::new(),
            number: None,
        })
    }

    /// Of the content.
    pub fn content_bytes(&self) -> u64 {
        self.bytes
    }

    fn load(&mut self, number: u64) -> io::Result<()> {
        if self.number == Some(number) {
            return Ok(());
        }
        self.number = None;
        let start = number * (BLOCK_BYTES + TAG_BYTES);
        let content = BLOCK_BYTES.min(self.bytes - number * BLOCK_BYTES);
        self.block.resize((content + TAG_BYTES) as usize, 0);
        self.file.seek(SeekFrom::Start(HEAD_BYTES + start))?;
        self.file.read_exact(&mut self.block)?;
        let is_last = number + 1 == self.blocks;
        self.key
            .open_in_place(nonce(number, is_last), Aad::from(MAGIC), &mut self.block)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        self.block.truncate(content as usize);
        self.number = Some(number);
        Ok(())
    }
}

impl Read for Opened {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.bytes || into.is_empty() {
            return Ok(0);
        }
        self.load(self.at / BLOCK_BYTES)?;
        let from = (self.at % BLOCK_BYTES) as usize;
        let count = into.len().min(self.block.len() - from);
        into[..count].copy_from_slice(&self.block[from..from + count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Opened {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

/// Reads a file to its end: it is whole, and has the content of its name.
pub fn verify(sealer: &Sealer, path: &Path, digest: &str) -> Result<u64, FileError> {
    let mut opened = Opened::new(sealer, File::open(path)?)?;
    for number in 0..opened.blocks {
        opened.load(number)?;
        opened.naming.update(&opened.block);
    }
    if hex::encode(opened.naming.sign()) != digest {
        return Err(FileError::Damaged("it is another file under this name"));
    }
    Ok(opened.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long the file of a content is.
    fn sealed_bytes(bytes: u64) -> u64 {
        HEAD_BYTES + bytes + bytes.div_ceil(BLOCK_BYTES).max(1) * TAG_BYTES
    }

    fn sealed(path: &Path, content: &[u8]) -> Sealed {
        let file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .open(path);
        let mut sealing =
            Sealing::begin(&Sealer::of_test(), file.expect("a file")).expect("a head");
        for part in content.chunks(10_007) {
            sealing.push(part).expect("written");
        }
        sealing.finish().expect("an end")
    }

    #[test]
    fn a_content_of_any_length_comes_back_and_any_damage_of_its_file_is_found() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, sealer) = (directory.path().join("f"), Sealer::of_test());
        let mut names = std::collections::BTreeSet::new();
        for bytes in [0, 1, 65_535, 65_536, 65_537, 131_072, 200_000] {
            let content: Vec<u8> = (0..bytes).map(|at| (at * 31 % 251) as u8).collect();
            let digest = sealed(&path, &content).digest;
            assert_eq!(digest, sealed(&path, &content).digest);
            assert!(names.insert(digest.clone()));
            let on_disk = std::fs::read(&path).expect("the file");
            assert_eq!(on_disk.len() as u64, sealed_bytes(bytes));
            let mut back = Vec::new();
            let mut opened =
                Opened::new(&sealer, File::open(&path).expect("a file")).expect("a head");
            opened.read_to_end(&mut back).expect("the content");
            assert!(back == content, "{bytes}");
            let at = bytes.saturating_sub(3);
            opened.seek(SeekFrom::Start(at)).expect("a place");
            let mut tail = Vec::new();
            opened.read_to_end(&mut tail).expect("its end");
            assert_eq!(tail, &content[at as usize..]);
            assert_eq!(verify(&sealer, &path, &digest).expect("it is whole"), bytes);
            let other = "00".repeat(32);
            assert!(matches!(
                verify(&sealer, &path, &other),
                Err(FileError::Damaged(_))
            ));
            for at in [0, 9, 20, on_disk.len() / 2, on_disk.len() - 1] {
                let mut damaged = on_disk.clone();
                damaged[at] ^= 1;
                std::fs::write(&path, damaged).expect("written");
                assert!(verify(&sealer, &path, &digest).is_err(), "{bytes} at {at}");
            }
            for left in [0, 7, 48, 60, on_disk.len() - 1, on_disk.len() - 17] {
                let left = left.min(on_disk.len() - 1);
                std::fs::write(&path, &on_disk[..left]).expect("written");
                assert!(
                    verify(&sealer, &path, &digest).is_err(),
                    "{bytes}: {left} left"
                );
            }
        }
        // Whole blocks are missing at the end.
        let three = sealed(&path, &vec![7; 3 * 65_536]);
        let on_disk = std::fs::read(&path).expect("the file");
        std::fs::write(&path, &on_disk[..on_disk.len() - 65_552]).expect("written");
        assert!(verify(&sealer, &path, &three.digest).is_err());
        std::fs::remove_file(&path).expect("removed");
        assert!(matches!(
            verify(&sealer, &path, &three.digest),
            Err(FileError::Missing)
        ));
    }
}
