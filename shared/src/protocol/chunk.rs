//! The chunk: consecutive events of one lane and one retention class, encoded once at the edge. The same
//! bytes are the record in the spool, travel in a batch, and are the row in the hub's store.
//!
//! ```text
//! offset size
//!  0     4    magic "LLc1" (the 1 is the version of this layout)
//!  4     1    lane            0 urgent, 1 routine, 2 media
//!  5     1    retention class 0 standard, 1 access, 2 incident
//!  6     1    codec           0 packed CBOR, 1 packed CBOR compressed with zstd
//!  7     1    zero
//!  8     2    number of events, u16, 1..=256
//! 10     2    payload bytes, u16
//! 12     4    bytes of the uncompressed payload, u32
//! 16     8    epoch, u64
//! 24     8    sequence of the first event, u64
//! 32    16    boot id
//! 48     4    CRC-32C (RFC 3720 B.4) of bytes 0..48 and the payload
//! 52     …    payload: the events, concatenated, packed CBOR
//! ```
//!
//! Integers are big-endian. A chunk is never larger than [`CHUNK_BYTES_MAX`] and is self-describing, so that
//! it can be found in a damaged file.
use bytes::Bytes;

use super::codec::{self, CodecError};
use super::event::{Draft, Event, EventError};
use super::ids::{BootId, Epoch, Lane, Retention, Sequence};
use super::limits::{CHUNK_BYTES_MAX, CHUNK_EVENTS_MAX, CHUNK_RAW_BYTES_MAX, EVENT_BYTES_MAX};

/// The first bytes of every chunk.
pub const MAGIC: [u8; 4] = *b"LLc1";
/// Size of the header, bytes.
pub const HEADER_BYTES: usize = 52;
const CODEC_PLAIN: u8 = 0;
const CODEC_ZSTD: u8 = 1;
const PAYLOAD_BYTES_MAX: usize = CHUNK_BYTES_MAX - HEADER_BYTES;
/// Below this size a zstd frame costs more than it saves.
const COMPRESS_FROM_BYTES: usize = 128;
const ZSTD_LEVEL: i32 = 1;

/// Why bytes are not a chunk.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// Fewer bytes than the header announces.
    #[error("chunk is cut short: {have} of {want} bytes")]
    Cut {
        /// Present bytes.
        have: usize,
        /// Required bytes.
        want: usize,
    },
    /// The first bytes are not those of a chunk.
    #[error("not a chunk of a version that is known here (magic {0:02x?})")]
    Magic([u8; 4]),
    /// A field of the header exceeds its limits.
    #[error("chunk header has {field} = {value}, which is out of its limits")]
    Header {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The checksum does not match.
    #[error("chunk checksum is {found:08x}, its bytes give {computed:08x}: the bytes were damaged")]
    Checksum {
        /// Checksum in the header.
        found: u32,
        /// Checksum of the bytes.
        computed: u32,
    },
    /// The payload does not decompress.
    #[error("chunk payload does not decompress to the size in its header")]
    Decompress(#[source] std::io::Error),
    /// The number of events in the payload differs from the header's.
    #[error("chunk promises {promised} events and holds {found}")]
    Count {
        /// Number in the header.
        promised: usize,
        /// Number in the payload.
        found: usize,
    },
    /// The payload is not valid CBOR of events.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// An event violates the event model.
    #[error("event {sequence} in the chunk is not acceptable")]
    Event {
        /// Sequence of the event.
        sequence: Sequence,
        /// The cause.
        #[source]
        source: EventError,
    },
}

/// The header of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Lane.
    pub lane: Lane,
    /// Retention class.
    pub retention: Retention,
    /// Epoch of the spool that created it.
    pub epoch: Epoch,
    /// Sequence of the first event.
    pub first: Sequence,
    /// Boot in which its events were received.
    pub boot: BootId,
    /// Number of events.
    pub count: u16,
    codec: u8,
    payload_bytes: u16,
    raw_bytes: u32,
}

impl Header {
    /// The sequence after the last event.
    pub fn end(&self) -> Sequence {
        self.first.plus(u64::from(self.count))
    }

    /// Size of the whole chunk, bytes.
    pub fn chunk_bytes(&self) -> usize {
        HEADER_BYTES + usize::from(self.payload_bytes)
    }

    fn parse(bytes: &[u8]) -> Result<Self, ChunkError> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(ChunkError::Cut {
                have: bytes.len(),
                want: HEADER_BYTES,
            });
        };
        if header[0..4] != MAGIC {
            return Err(ChunkError::Magic([
                header[0], header[1], header[2], header[3],
            ]));
        }
        let out_of_limits = |field, value| ChunkError::Header { field, value };
        let lane = Lane::from_number(header[4])
            .ok_or_else(|| out_of_limits("lane", u64::from(header[4])))?;
        let retention = Retention::from_number(header[5])
            .ok_or_else(|| out_of_limits("retention class", u64::from(header[5])))?;
        let codec = header[6];
        if codec != CODEC_PLAIN && codec != CODEC_ZSTD {
            return Err(out_of_limits("codec", u64::from(codec)));
        }
        let count = u16_at(header, 8);
        if count == 0 || usize::from(count) > CHUNK_EVENTS_MAX {
            return Err(out_of_limits("events", u64::from(count)));
        }
        let payload_bytes = u16_at(header, 10);
        if payload_bytes == 0 || usize::from(payload_bytes) > PAYLOAD_BYTES_MAX {
            return Err(out_of_limits("payload bytes", u64::from(payload_bytes)));
        }
        let raw_bytes = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
        if raw_bytes as usize > CHUNK_RAW_BYTES_MAX
            || (codec == CODEC_PLAIN && raw_bytes != u32::from(payload_bytes))
        {
            return Err(out_of_limits("raw bytes", u64::from(raw_bytes)));
        }
        let first = u64_at(header, 24);
        if first > u64::MAX - CHUNK_EVENTS_MAX as u64 {
            return Err(out_of_limits("first sequence", first));
        }
        let mut boot = [0; 16];
        boot.copy_from_slice(&header[32..48]);
        Ok(Self {
            lane,
            retention,
            epoch: Epoch(u64_at(header, 16)),
            first: Sequence(first),
            boot: BootId(u128::from_be_bytes(boot)),
            count,
            codec,
            payload_bytes,
            raw_bytes,
        })
    }

    fn write(&self, out: &mut [u8]) {
        out[0..4].copy_from_slice(&MAGIC);
        out[4] = self.lane.number();
        out[5] = self.retention.number();
        out[6] = self.codec;
        out[7] = 0;
        out[8..10].copy_from_slice(&self.count.to_be_bytes());
        out[10..12].copy_from_slice(&self.payload_bytes.to_be_bytes());
        out[12..16].copy_from_slice(&self.raw_bytes.to_be_bytes());
        out[16..24].copy_from_slice(&self.epoch.0.to_be_bytes());
        out[24..32].copy_from_slice(&self.first.0.to_be_bytes());
        out[32..48].copy_from_slice(&self.boot.0.to_be_bytes());
    }
}

fn u16_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(value)
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(header), payload)
}

/// A chunk whose header and checksum have been verified. Cloning it copies no bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    header: Header,
    bytes: Bytes,
}

impl Chunk {
    /// Parses the chunk at the front of `bytes`; ignores bytes behind it. Errors: [`ChunkError`].
    pub fn parse(bytes: &Bytes) -> Result<Self, ChunkError> {
        let header = verify(bytes)?;
        Ok(Self {
            header,
            bytes: bytes.slice(..header.chunk_bytes()),
        })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The whole chunk as stored and sent.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Decodes the events and checks each against the event model. Errors: [`ChunkError`].
    pub fn events(&self) -> Result<Vec<Event>, ChunkError> {
        let payload = &self.bytes[HEADER_BYTES..];
        let raw_bytes = self.header.raw_bytes as usize;
        let decompressed;
        let raw = if self.header.codec == CODEC_ZSTD {
            decompressed = decompress(payload, raw_bytes)?;
            decompressed.as_slice()
        } else {
            payload
        };
        let promised = usize::from(self.header.count);
        let events: Vec<Event> = codec::decode_sequence("event", raw, promised)?;
        if events.len() != promised {
            return Err(ChunkError::Count {
                promised,
                found: events.len(),
            });
        }
        for (index, event) in events.iter().enumerate() {
            event.check().map_err(|source| ChunkError::Event {
                sequence: self.header.first.plus(index as u64),
                source,
            })?;
        }
        Ok(events)
    }
}

/// Verifies header and checksum of the chunk at the front of `bytes`. Errors: [`ChunkError`].
pub fn verify(bytes: &[u8]) -> Result<Header, ChunkError> {
    let header = Header::parse(bytes)?;
    let want = header.chunk_bytes();
    if bytes.len() < want {
        return Err(ChunkError::Cut {
            have: bytes.len(),
            want,
        });
    }
    let found = u32::from_be_bytes([bytes[48], bytes[49], bytes[50], bytes[51]]);
    let computed = checksum(&bytes[..48], &bytes[HEADER_BYTES..want]);
    if found != computed {
        return Err(ChunkError::Checksum { found, computed });
    }
    Ok(header)
}

fn decompress(payload: &[u8], raw_bytes: usize) -> Result<Vec<u8>, ChunkError> {
    thread_local! {
        // A context takes 150 KiB to create; each thread keeps one.
        static CONTEXT: std::cell::RefCell<Option<zstd::bulk::Decompressor<'static>>> =
            const { std::cell::RefCell::new(None) };
    }
    CONTEXT.with_borrow_mut(|slot| {
        let context = match slot {
            Some(context) => context,
            None => slot.insert(zstd::bulk::Decompressor::new().map_err(ChunkError::Decompress)?),
        };
        let raw = context
            .decompress(payload, raw_bytes)
            .map_err(ChunkError::Decompress)?;
        if raw.len() != raw_bytes {
            return Err(ChunkError::Decompress(std::io::Error::other(
                "another size than the header's",
            )));
        }
        Ok(raw)
    })
}

/// Why an event cannot be added to a chunk.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The event violates the event model.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The event's CBOR is larger than a chunk permits.
    #[error("event has {bytes} bytes encoded, at most {EVENT_BYTES_MAX} are accepted")]
    TooLarge {
        /// Size of the event.
        bytes: usize,
    },
    /// The event could not be encoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// zstd failed.
    #[error("compressing a chunk failed")]
    Compress(#[source] std::io::Error),
}

/// Packed events, concatenated in one buffer: the form in which a source passes events to the spool.
#[derive(Debug, Clone, Default)]
pub struct Packed {
    bytes: Vec<u8>,
    /// End of each event in `bytes`.
    ends: Vec<u32>,
}

impl Packed {
    /// Checks one event against every limit and appends it. On an error nothing is appended. Errors:
    /// [`BuildError`].
    pub fn push(&mut self, event: &Draft<'_>) -> Result<(), BuildError> {
        event.check()?;
        let start = self.bytes.len();
        codec::encode_into("event", event, &mut self.bytes)?;
        let bytes = self.bytes.len() - start;
        if bytes > EVENT_BYTES_MAX {
            self.bytes.truncate(start);
            return Err(BuildError::TooLarge { bytes });
        }
        self.ends.push(self.bytes.len() as u32);
        Ok(())
    }

    /// Appends all events of `other`.
    pub fn append(&mut self, other: &Packed) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| start + end));
    }

    /// Appends the events of `other` at the positions where `wanted` is true.
    pub fn append_where(&mut self, other: &Packed, wanted: &[bool]) {
        for (index, wanted) in wanted.iter().enumerate().take(other.len()) {
            if *wanted {
                self.bytes.extend_from_slice(other.range(index, 1));
                self.ends.push(self.bytes.len() as u32);
            }
        }
    }

    /// The events, concatenated, as CBOR.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Removes all events and keeps the buffer.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if there are no events.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn start(&self, index: usize) -> usize {
        if index == 0 {
            0
        } else {
            self.ends[index - 1] as usize
        }
    }

    fn range(&self, from: usize, count: usize) -> &[u8] {
        &self.bytes[self.start(from)..self.ends[from + count - 1] as usize]
    }

    /// Number of events from `from` that stay within `raw_bytes_max` and the limit of events; at least one.
    fn take_within(&self, from: usize, raw_bytes_max: usize) -> usize {
        let start = self.start(from);
        self.ends[from..]
            .iter()
            .take(CHUNK_EVENTS_MAX)
            .take_while(|end| **end as usize - start <= raw_bytes_max)
            .count()
            .max(1)
    }
}

/// Packs runs of events into chunks. Owns the compressor and the learnt compression ratio of the stream, so
/// that a chunk comes close to its limit at the first attempt.
pub struct ChunkBuilder {
    compressor: zstd::bulk::Compressor<'static>,
    /// Recent ratio of raw to compressed payload bytes, at least 1.
    ratio: f32,
    scratch: Vec<u8>,
}

/// The header fields shared by all chunks of one run.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Lane.
    pub lane: Lane,
    /// Retention class.
    pub retention: Retention,
    /// Epoch.
    pub epoch: Epoch,
    /// Sequence of the first event of the run.
    pub first: Sequence,
    /// Boot in which the events were received.
    pub boot: BootId,
}

impl ChunkBuilder {
    /// A builder with its own compressor. Errors: [`BuildError`].
    pub fn new() -> Result<Self, BuildError> {
        Ok(Self {
            compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(BuildError::Compress)?,
            ratio: 1.5,
            scratch: vec![0; zstd::zstd_safe::compress_bound(CHUNK_RAW_BYTES_MAX)],
        })
    }

    /// Packs all of `packed` and appends each finished chunk to `out`. Errors: [`BuildError`].
    pub fn build(
        &mut self,
        run: Run,
        packed: &Packed,
        out: &mut Vec<Chunk>,
    ) -> Result<(), BuildError> {
        let mut first = run.first;
        let mut from = 0;
        while from < packed.len() {
            let raw_bytes_max = ((PAYLOAD_BYTES_MAX as f32 * 0.92 * self.ratio) as usize)
                .clamp(PAYLOAD_BYTES_MAX, CHUNK_RAW_BYTES_MAX);
            let mut take = packed.take_within(from, raw_bytes_max);
            let chunk = loop {
                let raw = packed.range(from, take);
                if let Some(chunk) = self.chunk(Run { first, ..run }, raw, take as u16)? {
                    break chunk;
                }
                // The events compress less well than the previous ones: try half of them, and so on. One
                // event always fits.
                self.ratio = (self.ratio * 0.7).max(1.0);
                take = (take / 2).max(1);
            };
            first = chunk.header.end();
            from += take;
            out.push(chunk);
        }
        Ok(())
    }

    /// One chunk with these events; `None` if it would be too large.
    fn chunk(&mut self, run: Run, raw: &[u8], count: u16) -> Result<Option<Chunk>, BuildError> {
        let mut codec = CODEC_PLAIN;
        let mut payload = raw;
        if raw.len() >= COMPRESS_FROM_BYTES {
            let compressed_bytes = self
                .compressor
                .compress_to_buffer(raw, &mut self.scratch[..])
                .map_err(BuildError::Compress)?;
            if compressed_bytes < raw.len() {
                codec = CODEC_ZSTD;
                payload = &self.scratch[..compressed_bytes];
            }
        }
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Ok(None);
        }
        if raw.len() > PAYLOAD_BYTES_MAX / 2 {
            let ratio = raw.len() as f32 / payload.len() as f32;
            self.ratio = (0.5 * self.ratio + 0.5 * ratio).max(1.0);
        }
        let header = Header {
            lane: run.lane,
            retention: run.retention,
            epoch: run.epoch,
            first: run.first,
            boot: run.boot,
            count,
            codec,
            payload_bytes: payload.len() as u16,
            raw_bytes: raw.len() as u32,
        };
        let mut bytes = vec![0; HEADER_BYTES + payload.len()];
        header.write(&mut bytes);
        bytes[HEADER_BYTES..].copy_from_slice(payload);
        let crc = checksum(&bytes[..48], payload);
        bytes[48..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
        Ok(Some(Chunk {
            header,
            bytes: bytes.into(),
        }))
    }
}
