//! Frames: the units of a stream.
//!
//! ```text
//! offset size
//!  0     1    kind
//!  1     3    zero; a receiver ignores them
//!  4     4    bytes of the payload, u32 big-endian
//!  8     …    payload
//! ```
//!
//! The payload of a batch is its chunks, concatenated. Every other payload is packed CBOR of the struct below
//! with the frame's name. Limits: [`BATCH_BYTES_MAX`] for a batch, [`CONTROL_BYTES_MAX`] for all others; a
//! longer frame ends the connection.
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::chunk::{Chunk, ChunkError};
use super::codec::{self, CodecError};
use super::ids::{AgentId, BootId, Epoch, Sequence, SiteId};
use super::limits::{ANCHORS_MAX, BATCH_BYTES_MAX, CONTROL_BYTES_MAX, LANES_MAX};

/// Size of a frame's header, bytes.
pub const HEADER_BYTES: usize = 8;

/// Frame numbers: explicit, and never reused with a different meaning.
pub mod kind {
    /// First frame on the control stream.
    pub const HELLO: u8 = 1;
    /// The hub accepts the hello.
    pub const WELCOME: u8 = 2;
    /// The hub refuses the hello.
    pub const REFUSE: u8 = 3;
    /// The agent is alive.
    pub const HEARTBEAT: u8 = 4;
    /// First frame on a lane stream.
    pub const LANE_OPEN: u8 = 5;
    /// A batch of chunks.
    pub const BATCH: u8 = 6;
    /// Everything up to a sequence is durable.
    pub const ACK: u8 = 7;
    /// A range of lost sequences.
    pub const LOST: u8 = 8;
    /// The state of a case, for the station that reported it.
    pub const CASE_STATUS: u8 = 9;
    /// A command from the hub to the agent.
    pub const COMMAND: u8 = 10;
    /// On the join stream: token and certificate request.
    pub const JOIN: u8 = 11;
    /// The hub's answer to a join.
    pub const JOINED: u8 = 12;
}

/// The range of events of one lane that an agent can send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanePosition {
    /// Lane number.
    pub lane: u8,
    /// Epoch of the lane's sequences.
    pub epoch: Epoch,
    /// The first sequence that is still in the spool.
    pub first: Sequence,
    /// The sequence that the next event will be assigned.
    pub next: Sequence,
}

/// The wall clock of one boot: converts monotonic times into wall times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockAnchor {
    /// The boot.
    pub boot: BootId,
    /// Wall time minus monotonic time in that boot, milliseconds.
    pub offset_ms: i64,
}

/// Introduction of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Newest protocol version it speaks.
    pub version: u16,
    /// Oldest protocol version it speaks.
    pub version_min: u16,
    /// Its name; must match its certificate.
    pub agent: AgentId,
    /// Its site; must match its certificate.
    pub site: SiteId,
    /// Current boot.
    pub boot: BootId,
    /// Version of its software.
    pub software: String,
    /// Current time since boot, milliseconds.
    pub monotonic_ms: u64,
    /// Current time of its wall clock, milliseconds since 1970 UTC.
    pub wall_ms: i64,
    /// Its wall clock is synchronised, as reported by the kernel, or by a hub during this boot.
    pub wall_set: bool,
    /// Clock anchors of this and earlier boots.
    #[serde(default)]
    pub anchors: Vec<ClockAnchor>,
    /// Positions of its lanes.
    #[serde(default)]
    pub lanes: Vec<LanePosition>,
    /// Every [`CaseStatus`] up to this number is synced on the agent's disk: the hub sends the later ones,
    /// regardless of earlier acknowledgements. `None`: the agent has no inbox for them, because it is older
    /// or serves no station; the hub sends none and keeps them. Omitted from the bytes in that case, so that
    /// this hello equals that of an older agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case_status_stored: Option<u64>,
}

/// Acceptance of an agent by the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol version to speak from here on.
    pub version: u16,
    /// Version of the hub's software.
    pub software: String,
    /// The hub's clock, milliseconds since 1970 UTC.
    pub hub_ms: i64,
    /// Requested interval of heartbeats, milliseconds.
    pub heartbeat_ms: u64,
    /// For each lane, the sequence that the hub expects next (as `next`; `first` is 0).
    #[serde(default)]
    pub lanes: Vec<LanePosition>,
    /// The hub does not trust its own clock, so `hub_ms` says nothing about the agent's. Omitted from the
    /// bytes if the hub trusts it, as by an older hub.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clock_doubtful: bool,
}

/// Refusal of an agent by the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refuse {
    /// A code for programs: `version`, `identity`, `revoked`, `busy`, `token`, `request`.
    pub code: String,
    /// A sentence for people, with the fix.
    pub message: String,
    /// Minimum time before the next attempt, milliseconds.
    #[serde(default)]
    pub retry_ms: u64,
}

/// Figures of a lane's spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolFigures {
    /// Lane number.
    pub lane: u8,
    /// Number of waiting events.
    pub events: u64,
    /// Size on disk, bytes.
    pub bytes: u64,
    /// Receipt of the oldest waiting event, milliseconds since 1970 UTC; 0 if none waits.
    pub oldest_ms: i64,
}

/// A sign of life of the agent, with its progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The agent's clock, milliseconds since 1970 UTC.
    pub wall_ms: i64,
    /// The watermark: everything received up to this time has been sent and acknowledged, milliseconds since
    /// 1970 UTC.
    pub watermark_ms: i64,
    /// Figures of each lane's spool.
    #[serde(default)]
    pub spool: Vec<SpoolFigures>,
    /// Every [`CaseStatus`] up to this number is synced on the agent's disk: a cumulative acknowledgement. An
    /// agent sends a heartbeat as soon as it increases. `None` as in [`Hello::case_status_stored`]; an older
    /// hub skips it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case_status_stored: Option<u64>,
}

/// Opens a lane stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneOpen {
    /// Lane number.
    pub lane: u8,
}

/// Everything before `next` is durable at the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The sequence that the hub expects next.
    pub next: Sequence,
}

/// A range of lost sequences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// First missing sequence.
    pub first: Sequence,
    /// The sequence after the last missing one.
    pub end: Sequence,
    /// Reason: `damage`, `quota`.
    pub reason: String,
}

/// The state of a case, for the station that reported its incident; or a notice of danger to it.
///
/// The hub numbers these messages for each agent, from 1 without gaps, and sends them in that order, at most
/// [`CASES_IN_FLIGHT_MAX`](super::limits::CASES_IN_FLIGHT_MAX) before they are acknowledged. The agent
/// acknowledges messages that are synced on its disk ([`Heartbeat::case_status_stored`],
/// [`Hello::case_status_stored`]); the others are sent again in the next session under the same numbers. A
/// number not above the last stored one is a duplicate. There is no field for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseStatus {
    /// The hub's number of this message; a repeated message keeps its number.
    pub id: u64,
    /// Code of the case.
    pub case: String,
    /// The source that reported the incident.
    pub source: String,
    /// The source's own id of the incident.
    pub source_id: String,
    /// State of the case.
    pub state: String,
    /// Time of that state, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// A sentence for the station.
    #[serde(default)]
    pub text: String,
    /// Its kind: [`case_kind`]. Empty, and omitted from the bytes, from a hub without kinds: a status.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
}

/// Kinds of [`CaseStatus`]. The list is open: a station forwards unknown kinds.
pub mod case_kind {
    /// The hub has stored the incident; the message carries the code of its case.
    pub const RECEIPT: &str = "receipt";
    /// The state of the case changed.
    pub const STATUS: &str = "status";
    /// The station should know of a danger.
    pub const DANGER: &str = "danger";
}

/// A command from the hub to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The hub's number of this command.
    pub id: u64,
    /// Name of the command; an agent ignores and counts an unknown name.
    pub name: String,
    /// Arguments, as JSON.
    #[serde(default)]
    pub arguments: String,
}

/// Request of a gateway for a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Id of the token.
    pub token_id: String,
    /// Secret of the token.
    pub token_secret: String,
    /// The requested name of the agent.
    pub agent: AgentId,
    /// PKCS #10 request (RFC 2986), PEM.
    pub csr_pem: String,
    /// The agent's clock, milliseconds since 1970 UTC, for a clear message about skew.
    pub wall_ms: i64,
}

/// Certificate issued by the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The agent's certificate, PEM.
    pub certificate_pem: String,
    /// The root, PEM.
    pub root_pem: String,
    /// The site of the token.
    pub site: SiteId,
    /// Addresses that the hub announces.
    #[serde(default)]
    pub hubs: Vec<String>,
}

/// Any frame.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the struct of its name")]
pub enum Frame {
    Hello(Hello),
    Welcome(Welcome),
    Refuse(Refuse),
    Heartbeat(Heartbeat),
    LaneOpen(LaneOpen),
    /// Chunks in sequence order.
    Batch(Vec<Chunk>),
    Ack(Ack),
    Lost(Lost),
    CaseStatus(CaseStatus),
    Command(Command),
    Join(Join),
    Joined(Joined),
    /// A frame of a newer version; skipped and counted.
    Unknown(u8),
}

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The header announces more bytes than permitted.
    #[error("frame of kind {kind} announces {bytes} bytes, at most {bytes_max} are accepted")]
    TooLarge {
        /// Frame number.
        kind: u8,
        /// Announced size, bytes.
        bytes: usize,
        /// Permitted size, bytes.
        bytes_max: usize,
    },
    /// A control frame is not valid CBOR of its struct.
    #[error("frame of kind {kind} cannot be read")]
    Control {
        /// Frame number.
        kind: u8,
        /// The cause.
        #[source]
        source: CodecError,
    },
    /// A chunk in a batch is invalid.
    #[error("chunk {index} of a batch cannot be read")]
    Batch {
        /// Index of the chunk.
        index: usize,
        /// The cause.
        #[source]
        source: ChunkError,
    },
    /// A list is too long.
    #[error("frame of kind {kind} has too many {what}")]
    TooMany {
        /// Frame number.
        kind: u8,
        /// The list.
        what: &'static str,
    },
}

fn bytes_max(number: u8) -> usize {
    if number == kind::BATCH {
        BATCH_BYTES_MAX
    } else {
        CONTROL_BYTES_MAX
    }
}

/// Takes one complete frame from the front of `buffer`; `None` if more bytes are needed. Batches share the
/// buffer's memory. Errors: [`FrameError`].
pub fn take(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let number = header[0];
    let bytes = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
    let bytes_max = bytes_max(number);
    if bytes > bytes_max {
        return Err(FrameError::TooLarge {
            kind: number,
            bytes,
            bytes_max,
        });
    }
    if buffer.len() < HEADER_BYTES + bytes {
        buffer.reserve(HEADER_BYTES + bytes - buffer.len());
        return Ok(None);
    }
    buffer.advance(HEADER_BYTES);
    let payload = buffer.split_to(bytes).freeze();
    decode(number, &payload).map(Some)
}

fn decode(number: u8, payload: &Bytes) -> Result<Frame, FrameError> {
    fn control<T: serde::de::DeserializeOwned>(
        number: u8,
        what: &'static str,
        payload: &[u8],
    ) -> Result<T, FrameError> {
        codec::decode(what, payload).map_err(|source| FrameError::Control {
            kind: number,
            source,
        })
    }
    let at_most = |max: usize, what, count: usize| {
        if count > max {
            return Err(FrameError::TooMany { kind: number, what });
        }
        Ok(())
    };
    Ok(match number {
        kind::HELLO => {
            let hello: Hello = control(number, "hello", payload)?;
            at_most(ANCHORS_MAX, "clock anchors", hello.anchors.len())?;
            at_most(LANES_MAX, "lanes", hello.lanes.len())?;
            Frame::Hello(hello)
        }
        kind::WELCOME => {
            let welcome: Welcome = control(number, "welcome", payload)?;
            at_most(LANES_MAX, "lanes", welcome.lanes.len())?;
            Frame::Welcome(welcome)
        }
        kind::REFUSE => Frame::Refuse(control(number, "refuse", payload)?),
        kind::HEARTBEAT => {
            let heartbeat: Heartbeat = control(number, "heartbeat", payload)?;
            at_most(LANES_MAX, "lanes", heartbeat.spool.len())?;
            Frame::Heartbeat(heartbeat)
        }
        kind::LANE_OPEN => Frame::LaneOpen(control(number, "lane open", payload)?),
        kind::BATCH => Frame::Batch(chunks(payload)?),
        kind::ACK => Frame::Ack(control(number, "ack", payload)?),
        kind::LOST => Frame::Lost(control(number, "lost", payload)?),
        kind::CASE_STATUS => Frame::CaseStatus(control(number, "case status", payload)?),
        kind::COMMAND => Frame::Command(control(number, "command", payload)?),
        kind::JOIN => Frame::Join(control(number, "join", payload)?),
        kind::JOINED => Frame::Joined(control(number, "joined", payload)?),
        unknown => Frame::Unknown(unknown),
    })
}

fn chunks(payload: &Bytes) -> Result<Vec<Chunk>, FrameError> {
    let mut rest = payload.clone();
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let chunk = Chunk::parse(&rest).map_err(|source| FrameError::Batch {
            index: chunks.len(),
            source,
        })?;
        rest.advance(chunk.bytes().len());
        chunks.push(chunk);
    }
    Ok(chunks)
}

/// The header of a batch whose chunks have `bytes` bytes in total; the chunks follow it unchanged.
pub fn batch_header(bytes: usize) -> [u8; HEADER_BYTES] {
    header(kind::BATCH, bytes)
}

fn header(number: u8, bytes: usize) -> [u8; HEADER_BYTES] {
    let length = (bytes as u32).to_be_bytes();
    [number, 0, 0, 0, length[0], length[1], length[2], length[3]]
}

impl Frame {
    /// The frame as bytes. The hot path writes batches from [`batch_header`] and the chunks instead, without
    /// this copy. Errors: [`CodecError`].
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let mut payload = Vec::new();
        let number = match self {
            Frame::Hello(hello) => control(kind::HELLO, hello, &mut payload)?,
            Frame::Welcome(welcome) => control(kind::WELCOME, welcome, &mut payload)?,
            Frame::Refuse(refuse) => control(kind::REFUSE, refuse, &mut payload)?,
            Frame::Heartbeat(heartbeat) => control(kind::HEARTBEAT, heartbeat, &mut payload)?,
            Frame::LaneOpen(open) => control(kind::LANE_OPEN, open, &mut payload)?,
            Frame::Batch(chunks) => {
                for chunk in chunks {
                    payload.extend_from_slice(chunk.bytes());
                }
                kind::BATCH
            }
            Frame::Ack(ack) => control(kind::ACK, ack, &mut payload)?,
            Frame::Lost(lost) => control(kind::LOST, lost, &mut payload)?,
            Frame::CaseStatus(status) => control(kind::CASE_STATUS, status, &mut payload)?,
            Frame::Command(command) => control(kind::COMMAND, command, &mut payload)?,
            Frame::Join(join) => control(kind::JOIN, join, &mut payload)?,
            Frame::Joined(joined) => control(kind::JOINED, joined, &mut payload)?,
            Frame::Unknown(number) => *number,
        };
        let mut out = BytesMut::with_capacity(HEADER_BYTES + payload.len());
        out.put_slice(&header(number, payload.len()));
        out.put_slice(&payload);
        Ok(out.freeze())
    }

    /// The frame's name in logs and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Frame::Hello(_) => "Hello",
            Frame::Welcome(_) => "Welcome",
            Frame::Refuse(_) => "Refuse",
            Frame::Heartbeat(_) => "Heartbeat",
            Frame::LaneOpen(_) => "LaneOpen",
            Frame::Batch(_) => "Batch",
            Frame::Ack(_) => "Ack",
            Frame::Lost(_) => "Lost",
            Frame::CaseStatus(_) => "CaseStatus",
            Frame::Command(_) => "Command",
            Frame::Join(_) => "Join",
            Frame::Joined(_) => "Joined",
            Frame::Unknown(_) => "a frame of a later version",
        }
    }
}

fn control<T: Serialize>(number: u8, value: &T, payload: &mut Vec<u8>) -> Result<u8, CodecError> {
    codec::encode_into("frame", value, payload)?;
    Ok(number)
}
