//! Devices that speak with the agent over a connection that stays: recorders (GB/T 28181), charge points (OCPP 1.6-J).
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use linli_tests::harness::free_tcp_port;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::peer::{Peer, named, number, places};
use super::table::{Message, Way};

const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// A request without an answer is sent again (RFC 3261, T1).
const AGAIN: Duration = Duration::from_millis(500);
const GATEWAY: &str = "34020000002000000001";

/// Recorders whose addresses are known, so that they need no registration.
pub struct Recorders {
    port: u16,
    socket: UdpSocket,
}

impl Recorders {
    pub async fn new() -> Result<Self> {
        let port = free_tcp_port()?;
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(("127.0.0.1", port)).await?;
        Ok(Self { port, socket })
    }
}

/// The id of a recorder, by its place in the table.
fn recorder(place: usize) -> String {
    format!("3402000000118000{place:04}")
}

impl Peer for Recorders {
    const SOURCE: &'static str = "recorders";
    const KINDS: &'static [&'static str] = &["camera.intrusion"];
    const ROWS: &'static [&'static str] = &[
        "right",
        "slow-16m",
        "slow-8h",
        "slow-8d",
        "ahead-3y",
        "1970",
        "drifting",
        "stepped",
        "no-time",
        "unreadable",
    ];
    const REPLAYED: Option<Way> = None;

    fn blocks(&self) -> Result<String> {
        let mut blocks = format!(
            "[[source]]\nname = \"recorders\"\ntype = \"gb28181\"\nudp = \"127.0.0.1:{}\"\nid = \"{GATEWAY}\"\n\
             password_file = \"sip.password\"\ncatalog_every = \"0s\"\n",
            self.port
        );
        for place in 1..=Self::ROWS.len() {
            let id = recorder(place);
            write!(
                blocks,
                "[[source.device]]\nid = \"{id}\"\npeer = \"127.0.0.1\"\n"
            )?;
        }
        for place in 1..=Self::ROWS.len() {
            let id = recorder(place);
            writeln!(blocks, "[[device]]\nid = \"{id}\"\nbuilding = \"{id}\"")?;
        }
        Ok(blocks)
    }

    fn files(&self) -> Vec<(String, String)> {
        vec![("sip.password".to_owned(), "12345678".to_owned())]
    }

    fn device(row: &str) -> String {
        let place = Self::ROWS.iter().position(|known| *known == row);
        recorder(place.map_or(0, |place| place + 1))
    }

    /// Each alarm is of a channel of its own.
    fn place(&self, message: &Message) -> String {
        let id = recorder(number::<Self>(message));
        format!("{id}|{id}/3402000000132000{:04}", message.number)
    }

    async fn say(&mut self, message: &Message) -> Result<()> {
        let id = recorder(number::<Self>(message));
        let time = message.text("%Y-%m-%dT%H:%M:%S")?;
        let time = time.map(|time| format!("<AlarmTime>{time}</AlarmTime>\r\n"));
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"GB2312\"?>\r\n<Notify>\r\n<CmdType>Alarm</CmdType>\r\n<SN>{0}</SN>\r\n\
             <DeviceID>3402000000132000{0:04}</DeviceID>\r\n<AlarmPriority>4</AlarmPriority>\r\n\
             <AlarmMethod>5</AlarmMethod>\r\n{1}<Info><AlarmType>6</AlarmType></Info>\r\n</Notify>\r\n",
            message.number,
            time.unwrap_or_default()
        );
        let call = format!("Call-ID: alarm-{}\r\n", message.number);
        let request = format!(
            "MESSAGE sip:{GATEWAY}@3402000000 SIP/2.0\r\nVia: SIP/2.0/UDP {};rport;branch=z9hG4bK{}\r\n\
             From: <sip:{id}@3402000000>;tag=1\r\nTo: <sip:{GATEWAY}@3402000000>\r\n{call}CSeq: 1 MESSAGE\r\n\
             Max-Forwards: 70\r\nContent-Type: Application/MANSCDP+xml\r\nContent-Length: {}\r\n\r\n{body}",
            self.socket.local_addr()?,
            message.number,
            body.len()
        );
        let answered = timeout(ANSWER_WITHIN, async {
            let mut datagram = [0; 2048];
            let mut again = tokio::time::interval(AGAIN);
            loop {
                let count = tokio::select! {
                    // What the kernel says of a port where nobody listens is no answer.
                    received = self.socket.recv(&mut datagram) => received.unwrap_or(0),
                    _ = again.tick() => {
                        let _ = self.socket.send(request.as_bytes()).await;
                        continue;
                    }
                };
                let answer = String::from_utf8_lossy(&datagram[..count]);
                // What the agent asks is no answer.
                if answer.starts_with("SIP/2.0 ") && answer.contains(&call) {
                    ensure!(answer.starts_with("SIP/2.0 200 "), "{answer}");
                    return Ok(());
                }
            }
        });
        answered.await.context("no answer")?
    }
}

const PASSWORD: &str = "a password of the chargers";
/// Frames are told by their first byte: text that is whole, and a ping.
const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A WebSocket (RFC 6455) as plain as the protocol allows.
struct Socket(BufReader<TcpStream>);

impl Socket {
    async fn open(port: u16, charger: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let proof = BASE64.encode(format!("{charger}:{PASSWORD}"));
        let request = format!(
            "GET /ocpp/{charger} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\nSec-WebSocket-Protocol: ocpp1.6\r\n\
             Authorization: Basic {proof}\r\n\r\n",
            BASE64.encode([7; 16])
        );
        stream.write_all(request.as_bytes()).await?;
        let mut socket = Self(BufReader::new(stream));
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.0.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head);
        ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Ok(socket)
    }

    /// Sends a frame; a client has to mask its own, if only with zeros.
    async fn send(&mut self, first: u8, payload: &[u8]) -> Result<()> {
        let length = u16::try_from(payload.len())?.to_be_bytes();
        let frame = [&[first, 0x80 | 126], &length[..], &[0; 4], payload].concat();
        self.0.get_mut().write_all(&frame).await?;
        Ok(())
    }

    /// The next message.
    async fn message(&mut self) -> Result<Value> {
        loop {
            let first = self.0.read_u8().await?;
            let length = match self.0.read_u8().await? {
                126 => self.0.read_u16().await?,
                length => length.into(),
            };
            let mut payload = vec![0; length.into()];
            self.0.read_exact(&mut payload).await?;
            match first {
                TEXT => return Ok(serde_json::from_slice(&payload)?),
                PING => self.send(PONG, &payload).await?,
                other => anyhow::bail!("a frame {other:#x}"),
            }
        }
    }
}

/// Charge points, each with a connection of its own.
pub struct Chargers {
    port: u16,
    sockets: HashMap<String, Socket>,
}

impl Chargers {
    pub fn new() -> Result<Self> {
        Ok(Self {
            port: free_tcp_port()?,
            sockets: HashMap::new(),
        })
    }
}

impl Peer for Chargers {
    const SOURCE: &'static str = "chargers";
    const KINDS: &'static [&'static str] = &["charger.fault"];
    const ROWS: &'static [&'static str] = &[
        "right",
        "slow-16m",
        "slow-8h",
        "slow-8d",
        "ahead-3y",
        "1970",
        "drifting",
        "stepped",
        "no-time",
        "unreadable",
    ];
    const REPLAYED: Option<Way> = None;

    fn blocks(&self) -> Result<String> {
        let chargers: Vec<String> = Self::ROWS.iter().map(|row| named::<Self>(row)).collect();
        Ok(format!(
            "{}[[source]]\nname = \"chargers\"\ntype = \"ocpp\"\nlisten = \"127.0.0.1:{}\"\n\
             password_file = \"secrets/chargers\"\nchargers = {chargers:?}\n",
            places::<Self>(),
            self.port
        ))
    }

    fn files(&self) -> Vec<(String, String)> {
        vec![("secrets/chargers".to_owned(), PASSWORD.to_owned())]
    }

    fn place(&self, message: &Message) -> String {
        let charger = named::<Self>(&message.device());
        format!("{charger}|{charger}/{}", message.number)
    }

    async fn say(&mut self, message: &Message) -> Result<()> {
        let charger = named::<Self>(&message.device());
        // One that fails is not used again.
        let mut socket = match self.sockets.remove(&charger) {
            Some(socket) => socket,
            None => Socket::open(self.port, &charger).await?,
        };
        let id = message.number.to_string();
        let mut status = json!({
            "connectorId": message.number, "errorCode": "GroundFailure", "status": "Faulted",
        });
        if let Some(time) = message.text("%Y-%m-%dT%H:%M:%S%:z")? {
            status["timestamp"] = time.into();
        }
        let call = json!([2, id, "StatusNotification", status]).to_string();
        socket.send(TEXT, call.as_bytes()).await?;
        let answered = timeout(ANSWER_WITHIN, async {
            loop {
                let answer = socket.message().await?;
                // What the agent asks is no answer.
                if answer[0] != 2 && answer[1] == id.as_str() {
                    ensure!(answer[0] == 3, "{answer}");
                    return Ok(());
                }
            }
        });
        answered.await.context("no answer")??;
        self.sockets.insert(charger, socket);
        Ok(())
    }
}
