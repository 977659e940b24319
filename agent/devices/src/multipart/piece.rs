//! The pieces that the scanner returns.
use super::{HEAD_BYTES_MAX, PART_BYTES_MAX, SAMPLE_BYTES_MAX};

/// A piece of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The body of a part of text.
    Part(Vec<u8>),
    /// A picture, which was dropped.
    Picture {
        /// Its size.
        bytes: u64,
    },
    /// Bytes that are no part.
    Rejected {
        /// The damage.
        damage: Damage,
        /// Number of bytes.
        bytes: u64,
        /// Sample of their beginning.
        sample: Vec<u8>,
    },
}

/// Why a piece is no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Bytes that belong to no part.
    #[error("bytes between two parts of the stream")]
    Garbage,
    /// Bytes of a stream in which no part was found.
    #[error(
        "the stream has no delimiter line like --boundary and no XML or JSON: is this the address of an event stream?"
    )]
    NoDelimiter,
    /// A part has begun and has not ended.
    #[error("a part of the stream has begun and has no end")]
    Unfinished,
    /// The head does not end.
    #[error("the head of a part has more than {HEAD_BYTES_MAX} bytes")]
    EndlessHead,
    /// The body does not end.
    #[error("a part has more than {PART_BYTES_MAX} bytes")]
    TooLarge,
    /// The stream ended within it.
    #[error("the stream ended within a part")]
    CutOff,
}

/// Bytes that are dropped.
#[derive(Debug, Default)]
pub struct Lost {
    /// Number of bytes.
    pub bytes: u64,
    sample: Vec<u8>,
}

impl Lost {
    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let room = SAMPLE_BYTES_MAX.saturating_sub(self.sample.len());
        self.sample
            .extend_from_slice(&bytes[..room.min(bytes.len())]);
    }

    /// The piece of these bytes; `None` if they are blank.
    pub fn piece(self, damage: Damage) -> Option<Piece> {
        let blank = self.sample.iter().all(u8::is_ascii_whitespace);
        (!blank).then_some(Piece::Rejected {
            damage,
            bytes: self.bytes,
            sample: self.sample,
        })
    }
}

/// The type of dropped bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// A picture.
    Picture,
    /// Bytes that are no part.
    Damaged(Damage),
}

/// The piece of dropped bytes, at their end.
pub fn skipped(lost: Lost, as_what: Skipped) -> Option<Piece> {
    match as_what {
        Skipped::Picture => Some(Piece::Picture { bytes: lost.bytes }),
        Skipped::Damaged(damage) => lost.piece(damage),
    }
}
