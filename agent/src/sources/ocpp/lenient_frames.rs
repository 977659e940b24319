//! A connection whose text frames arrive as binary ones (RFC 6455, § 5.2).
//!
//! The library ends a connection for a text that is not UTF-8, and its bytes are lost. Charge points send vendors' words
//! in GB18030, or cut a letter in half: the message is read all the same, as those of every other source are. So the
//! opcode of each text frame is rewritten before the library sees it; everything else passes through unchanged.
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const OPCODE: u8 = 0x0f;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const MASKED: u8 = 0x80;
/// Bytes of the key of a masked frame.
const KEY_BYTES: u64 = 4;

/// The position in the stream of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// The handshake is not over: no frames yet.
    Handshake,
    /// The first byte of a frame.
    First,
    /// Its second byte.
    Second,
    /// Its length in more bytes: how many are left, and the length so far.
    Length { left: u8, length: u64, key: u64 },
    /// Its key and its payload: how many bytes are left.
    Payload(u64),
}

/// The connection.
#[derive(Debug)]
pub struct LenientFrames<S> {
    stream: S,
    at: At,
}

impl<S> LenientFrames<S> {
    /// A connection before its handshake.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            at: At::Handshake,
        }
    }

    /// The handshake is over: frames follow.
    pub fn opened(&mut self) {
        self.at = At::First;
    }
}

impl At {
    /// Rewrites the opcodes in the next bytes of the stream.
    fn pass(mut self, bytes: &mut [u8]) -> Self {
        let mut at = 0;
        while at < bytes.len() {
            let byte = bytes[at];
            let mut passed = 1;
            self = match self {
                Self::Handshake => return self,
                Self::First => {
                    if byte & OPCODE == TEXT {
                        bytes[at] = (byte & !OPCODE) | BINARY;
                    }
                    Self::Second
                }
                Self::Second => {
                    let key = if byte & MASKED == 0 { 0 } else { KEY_BYTES };
                    match byte & !MASKED {
                        126 => Self::length(2, 0, key),
                        127 => Self::length(8, 0, key),
                        short => Self::behind(key + u64::from(short)),
                    }
                }
                Self::Length { left, length, key } => {
                    let length = (length << 8) | u64::from(byte);
                    match left {
                        1 => Self::behind(length.saturating_add(key)),
                        left => Self::length(left - 1, length, key),
                    }
                }
                Self::Payload(left) => {
                    let here = (bytes.len() - at) as u64;
                    passed = left.min(here) as usize;
                    Self::behind(left - passed as u64)
                }
            };
            at += passed;
        }
        self
    }

    fn length(left: u8, length: u64, key: u64) -> Self {
        Self::Length { left, length, key }
    }

    /// The position before so many bytes of a key and a payload.
    fn behind(left: u64) -> Self {
        match left {
            0 => Self::First,
            left => Self::Payload(left),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LenientFrames<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.at = self.at.pass(&mut buffer.filled_mut()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LenientFrames<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A masked frame with this payload.
    fn frame(first: u8, length: &[u8], payload: usize) -> Vec<u8> {
        // The payload looks like text frames.
        [&[first], length, &[9; 4], &vec![0x81; payload]].concat()
    }

    #[test]
    fn text_frames_become_binary_ones_and_nothing_else_changes() {
        let frames = [
            frame(0x81, &[0x80 | 5], 5),
            frame(0x81, &[0x80], 0),
            // A ping, a close, and a text in two parts.
            frame(0x89, &[0x80 | 3], 3),
            frame(0x01, &[0x80 | 126, 1, 0], 256),
            frame(0x80, &[0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0], 65_536),
            frame(0x88, &[0x80 | 2], 2),
        ];
        let mut expected = frames.clone();
        for (index, first) in [(0, 0x82), (1, 0x82), (3, 0x02)] {
            expected[index][0] = first;
        }
        let (bytes, expected) = (frames.concat(), expected.concat());
        for piece in [1, 2, 7, 1000, bytes.len()] {
            let mut passed = bytes.clone();
            let mut at = At::First;
            for piece in passed.chunks_mut(piece) {
                at = at.pass(piece);
            }
            assert_eq!(at, At::First);
            assert!(passed == expected, "in pieces of {piece}");
        }
        let mut handshake = b"GET /".to_vec();
        assert_eq!(At::Handshake.pass(&mut handshake), At::Handshake);
        assert_eq!(handshake, b"GET /");
    }
}
