//! Sealed files, written and read in blocks, so that a file of any size needs little memory.
//!
//! ```text
//! "LINLIF1\n" │ name of the key, 8 hexadecimal digits │ salt, 32 bytes │ block │ block │ … │ last block
//! ```
//!
//! * A block contains up to 64 KiB of the content, sealed with AES-256-GCM, which adds 16 bytes. All but the
//!   last block are full.
//! * Each file has its own key: HKDF-SHA-256 of the named key and the salt. So the nonce can be the number of
//!   the block and a flag for the last block: no block can be removed, moved or cut off.
//! * A file is named by the HMAC-SHA-256 of its content, under a key derived from the same line of
//!   `fields.key`: with the disk alone nobody can tell whether it stores a well-known content. [`verify`]
//!   compares name and content.
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
/// Content of a full block, bytes.
const BLOCK_BYTES: u64 = 64 * 1024;
const TAG_BYTES: u64 = 16;

/// Why a sealed file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file does not exist.
    #[error("the file is missing")]
    Missing,
    /// Reading failed.
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
    /// Its key is missing.
    #[error(transparent)]
    Key(#[from] SealError),
    /// The file was changed after it was written.
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

/// A sealed file being written.
pub struct Sealing {
    file: File,
    key: LessSafeKey,
    naming: hmac::Context,
    block: Vec<u8>,
    blocks: u64,
    bytes: u64,
}

/// A complete file, not synced yet.
pub struct Sealed {
    /// The file.
    pub file: File,
    /// Its name: digest of the content.
    pub digest: String,
    /// Size of the content, bytes.
    pub bytes: u64,
}

impl Sealing {
    /// Begins to write into an empty file. Errors: from the disk.
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

    /// Appends content. Errors: from the disk.
    pub fn push(&mut self, mut content: &[u8]) -> io::Result<()> {
        self.naming.update(content);
        self.bytes += content.len() as u64;
        while !content.is_empty() {
            // A full block is sealed only when more content follows, because the last block is sealed
            // differently.
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

    /// Seals the last block. Errors: from the disk.
    pub fn finish(mut self) -> io::Result<Sealed> {
        self.flush(true)?;
        Ok(Sealed {
            file: self.file,
            digest: hex::encode(self.naming.sign()),
            bytes: self.bytes,
        })
    }
}

/// The content of a sealed file. Reading fails with `InvalidData` if the file was changed.
pub struct Opened {
    file: File,
    key: LessSafeKey,
    naming: hmac::Context,
    bytes: u64,
    blocks: u64,
    at: u64,
    /// The last opened block.
    block: Vec<u8>,
    number: Option<u64>,
}

impl Opened {
    /// Opens a file and reads its head. Errors: [`FileError`].
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

    /// Size of the content, bytes.
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

/// Verifies that a file is complete and has the content of its name; returns the size of the content, bytes.
/// Errors: [`FileError`].
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

    /// Size of the sealed file for a content, bytes.
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
