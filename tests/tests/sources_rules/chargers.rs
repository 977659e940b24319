//! A charge point by OCPP 1.6-J over a WebSocket (RFC 6455) as plain as the protocol allows: text frames of less than 64 KiB.
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use linli_shared::protocol::event::Event;
use linli_tests::harness::{Equipped, free_tcp_port};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::device::{Alarm, Clock, Device, GARBAGE, Place, Said};

const PASSWORD: &str = "a password of the chargers";
/// Frames are told by their first byte: text that is whole, and a ping.
const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// One connection.
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

pub struct Charger {
    port: u16,
    socket: Option<Socket>,
    place: Place,
}

impl Charger {
    async fn connected(&mut self) -> Result<&mut Socket> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => Socket::open(self.port, self.place.name).await?,
        };
        Ok(self.socket.insert(socket))
    }
}

impl Device for Charger {
    const TYPE: &'static str = "ocpp";
    const CLOCK: Clock = Clock::Local;
    const ANSWER: Result<&'static str, &'static str> = Ok("CALLRESULT");
    const TEXT: Result<&'static str, &'static str> = Ok("vendor_error");
    const REPEATS: bool = true;

    async fn start(place: &Place) -> Result<Option<Self>> {
        Ok(Some(Self {
            port: free_tcp_port()?,
            socket: None,
            place: place.clone(),
        }))
    }

    fn keys(&self) -> String {
        // The near one is silent for a while, between its alarms.
        let heartbeat = match self.place.name {
            "near" => "60s",
            _ => "1s",
        };
        format!(
            "listen = \"127.0.0.1:{}\"\npassword_file = \"secrets/chargers\"\nchargers = [\"{}\"]\nheartbeat = \"{heartbeat}\"\n",
            self.port, self.place.name
        )
    }

    fn files(&self) -> Vec<(String, String)> {
        vec![("secrets/chargers".to_owned(), PASSWORD.to_owned())]
    }

    async fn ready(&mut self, scene: &Equipped) -> Result<()> {
        scene.connected(self.place.name).await
    }

    async fn say(&mut self, _scene: &Equipped, alarm: &Alarm, wait: Duration) -> Result<Said> {
        let id = alarm.number.to_string();
        let call = json!([2, id, "StatusNotification", {
            "connectorId": alarm.number, "errorCode": "GroundFailure", "status": "Faulted",
            "timestamp": alarm.local().to_string(), "vendorErrorCode": alarm.words(),
        }]);
        let raw = alarm.encoded(&call.to_string());
        let socket = self.connected().await?;
        socket.send(TEXT, &raw).await?;
        let result = timeout(wait, async {
            loop {
                let message = socket.message().await?;
                // What the agent asks is no answer.
                if message[0] != 2 && message[1] == id.as_str() {
                    return anyhow::Ok(message);
                }
            }
        });
        let answered = match result.await {
            Ok(message) => {
                let message = message.context("an answer")?;
                ensure!(message[0] == 3, "{message}");
                true
            }
            // It says it again on a new connection.
            Err(_) => {
                self.socket = None;
                false
            }
        };
        Ok(Said { answered, raw })
    }

    async fn garbage(&mut self, _scene: &Equipped) -> Result<&'static str> {
        self.connected()
            .await?
            .send(TEXT, GARBAGE.as_bytes())
            .await?;
        Ok(GARBAGE)
    }

    fn hush(&mut self) -> Result<()> {
        self.socket = None;
        Ok(())
    }

    fn is(&self, alarm: &Alarm, event: &Event) -> bool {
        let connector = format!("{}/{}", self.place.name, alarm.number);
        event.kind == "charger.fault" && event.device == connector
    }
}
