//! What the scanner gives out.
use super::{HEAD_BYTES_MAX, PART_BYTES_MAX, SAMPLE_BYTES_MAX};

/// What was found in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The body of a part of text.
    Part(Vec<u8>),
    /// A picture, which was not kept.
    Picture {
        /// Its size.
        bytes: u64,
    },
    /// What is no part.
    Rejected {
        /// Why.
        damage: Damage,
        /// All of it.
        bytes: u64,
        /// Its beginning.
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
    /// A part has begun and its end has not come.
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

/// Bytes that are not kept.
#[derive(Debug, Default)]
pub struct Lost {
    /// How many.
    pub bytes: u64,
    sample: Vec<u8>,
}

impl Lost {
    /// Some more.
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let room = SAMPLE_BYTES_MAX.saturating_sub(self.sample.len());
        self.sample
            .extend_from_slice(&bytes[..room.min(bytes.len())]);
    }

    /// What they come to; nothing where they are blank.
    pub fn piece(self, damage: Damage) -> Option<Piece> {
        let blank = self.sample.iter().all(u8::is_ascii_whitespace);
        (!blank).then_some(Piece::Rejected {
            damage,
            bytes: self.bytes,
            sample: self.sample,
        })
    }
}

/// What is let go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// A picture.
    Picture,
    /// What is no part.
    Damaged(Damage),
}

/// What was let go of, at its end.
pub fn skipped(lost: Lost, as_what: Skipped) -> Option<Piece> {
    match as_what {
        Skipped::Picture => Some(Piece::Picture { bytes: lost.bytes }),
        Skipped::Damaged(damage) => lost.piece(damage),
    }
}
