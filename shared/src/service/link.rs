//! The configuration of the QUIC link, the same at both ends, and frames on its streams.
use bytes::BytesMut;
use quinn::{IdleTimeout, RecvStream, TransportConfig, VarInt};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use crate::protocol::frame::{self, Frame, FrameError};
use crate::protocol::limits::IN_FLIGHT_BYTES_MAX;

/// With the system's default (208 KiB) a loaded receiver loses 3–11 % of its datagrams.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(8);
/// The assumed round trip until one is measured. With the usual 333 ms (RFC 9002, 6.2.2) a lost datagram of a
/// handshake, of which there are many when a district returns from a power cut, is retransmitted after 1, 3
/// and 7 s; with this value after 0.3, 0.9 and 2.1 s.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// Control stream, three lanes, and room for streams of newer versions.
const STREAMS_MAX: u32 = 16;
/// Bytes read at once from a stream.
const READ_BYTES: usize = 64 * 1024;

/// Close code: a regular end.
pub const CLOSE_DONE: VarInt = VarInt::from_u32(0);
/// Close code: the peer violated the protocol; the reason says how.
pub const CLOSE_PROTOCOL: VarInt = VarInt::from_u32(1);
/// Close code: the peer was refused.
pub const CLOSE_REFUSED: VarInt = VarInt::from_u32(2);
/// Close code: the hub cannot store anything at the moment.
pub const CLOSE_STORE: VarInt = VarInt::from_u32(3);
/// Close code: the same agent has connected again.
pub const CLOSE_REPLACED: VarInt = VarInt::from_u32(4);

/// Transport parameters, the same at both ends.
pub fn transport() -> TransportConfig {
    // The data in flight of all lanes together stay below the connection's windows, so that a backlog in one
    // lane never makes another wait for a window.
    let window = VarInt::from_u32(2 * IN_FLIGHT_BYTES_MAX as u32);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(window)
        .receive_window(VarInt::from_u32(4 * IN_FLIGHT_BYTES_MAX as u32))
        .send_window(4 * IN_FLIGHT_BYTES_MAX as u64)
        .datagram_receive_buffer_size(None)
        .initial_rtt(INITIAL_RTT)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok());
    transport
}

/// A UDP socket with the buffers for a loaded link. The kernel's limits may grant less; that costs speed, not
/// events.
pub fn udp_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::DGRAM,
        Some(socket2::Protocol::UDP),
    )?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// An endpoint that connects to hubs, for one address family.
pub fn client_endpoint(v6: bool) -> io::Result<quinn::Endpoint> {
    let any: IpAddr = if v6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    quinn::Endpoint::new(
        quinn::EndpointConfig::default(),
        None,
        udp_socket(SocketAddr::new(any, 0))?,
        Arc::new(quinn::TokioRuntime),
    )
}

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stream ended within a frame.
    #[error("the stream ended within a frame")]
    Cut,
    /// The link failed.
    #[error("reading from the link failed")]
    Link(#[from] quinn::ReadError),
    /// The peer sent bytes that are not a frame.
    #[error("the peer sent what is not a frame")]
    Frame(#[from] FrameError),
}

/// Reads frames from a stream.
pub struct FrameReader {
    stream: RecvStream,
    buffer: BytesMut,
}

impl FrameReader {
    /// A reader of `stream`.
    pub fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// The next frame; `None` when the peer has ended the stream. Cancel-safe: bytes already read stay in the
    /// buffer. Errors: [`ReadError`].
    pub async fn next(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            if let Some(frame) = frame::take(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            match self.stream.read_chunk(READ_BYTES, true).await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk.bytes),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(ReadError::Cut),
            }
        }
    }
}
