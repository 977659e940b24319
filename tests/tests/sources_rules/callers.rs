//! Devices that call the agent: fire alarm hosts and panels, whose frames other implementations build (`tests/peers`), and
//! recorders by GB/T 28181.
use anyhow::{Context, Result, ensure};
use linli_shared::protocol::event::Event;
use linli_tests::harness::{Equipped, free_tcp_port, peers_python, project, run};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::device::{Alarm, Clock, Device, GARBAGE, Place, Said};

/// A script of `tests/peers` that builds frames.
struct Builder {
    python: PathBuf,
    script: &'static str,
    /// By number of the alarm: what is said again is the same frame.
    built: HashMap<u16, Vec<u8>>,
}

impl Builder {
    fn new(script: &'static str) -> Option<Self> {
        Some(Self {
            python: peers_python()?,
            script,
            built: HashMap::new(),
        })
    }

    fn frame(&mut self, alarm: &Alarm, arguments: &[&str], step: &Value) -> Result<Vec<u8>> {
        if let Some(frame) = self.built.get(&alarm.number) {
            return Ok(frame.clone());
        }
        let printed = run(Command::new(&self.python)
            .arg(project("tests/peers").join(self.script))
            .arg("frames")
            .args(arguments)
            .arg(json!([step]).to_string()))?;
        let frames: Vec<String> = serde_json::from_str(&printed)?;
        let frame = hex::decode(frames.first().context("a frame")?)?;
        self.built.insert(alarm.number, frame.clone());
        Ok(frame)
    }
}

/// A connection that is made anew when it has ended.
struct Line {
    port: u16,
    stream: Option<TcpStream>,
}

impl Line {
    fn new() -> Result<Self> {
        let port = free_tcp_port()?;
        Ok(Self { port, stream: None })
    }

    async fn connected(&mut self) -> Result<&mut TcpStream> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => TcpStream::connect(("127.0.0.1", self.port)).await?,
        };
        Ok(self.stream.insert(stream))
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.connected().await?.write_all(bytes).await?;
        Ok(())
    }

    /// Says it and waits so long for an answer that ends with `end`; empty if none comes. Then the next one is said on a
    /// new connection.
    async fn ask(&mut self, bytes: &[u8], end: &[u8], wait: Duration) -> Result<Vec<u8>> {
        self.send(bytes).await?;
        let stream = self.connected().await?;
        let mut answer = Vec::new();
        let read = async {
            while !answer.ends_with(end) {
                // A connection that is ended answers nothing.
                if !matches!(stream.read_buf(&mut answer).await, Ok(1..)) {
                    return false;
                }
            }
            true
        };
        if timeout(wait, read).await != Ok(true) {
            self.stream = None;
            answer.clear();
        }
        Ok(answer)
    }
}

/// A device whose frames another implementation builds, on a connection.
struct Caller {
    builder: Builder,
    line: Line,
    place: Place,
}

impl Caller {
    fn new(script: &'static str, place: &Place) -> Result<Option<Self>> {
        let Some(builder) = Builder::new(script) else {
            return Ok(None);
        };
        Ok(Some(Self {
            builder,
            line: Line::new()?,
            place: place.clone(),
        }))
    }

    async fn garbage(&mut self) -> Result<&'static str> {
        self.line.send(GARBAGE.as_bytes()).await?;
        Ok(GARBAGE)
    }
}

pub struct FireHost(Caller);

/// Number of the host.
const ADDRESS: &str = "889";

impl Device for FireHost {
    const TYPE: &'static str = "gb26875";
    const CLOCK: Clock = Clock::Local;
    const ANSWER: Result<&'static str, &'static str> = Ok("confirm");
    const TEXT: Result<&'static str, &'static str> = Ok("text");
    const REPEATS: bool = true;

    async fn start(place: &Place) -> Result<Option<Self>> {
        Ok(Caller::new("gb26875.py", place)?.map(Self))
    }

    fn keys(&self) -> String {
        format!(
            "tcp = \"127.0.0.1:{}\"\n[[source.host]]\naddress = {ADDRESS}\nid = \"{}\"\n",
            self.0.line.port, self.0.place.name
        )
    }

    async fn ready(&mut self, scene: &Equipped) -> Result<()> {
        scene.connected(self.0.place.name).await
    }

    async fn say(&mut self, _scene: &Equipped, alarm: &Alarm, wait: Duration) -> Result<Said> {
        let at = alarm.local();
        let time = [
            at.second(),
            at.minute(),
            at.hour(),
            at.day(),
            at.month(),
            (at.year() % 100) as i8,
        ];
        let step = json!({
            "serial": alarm.number,
            "parts": [{
                "number": alarm.number, "bits": 2, "time": hex::encode(time.map(i8::cast_unsigned)),
                "text": alarm.words(), "encoding": alarm.encoding(),
            }],
        });
        let raw = self.0.builder.frame(alarm, &[ADDRESS], &step)?;
        let answer = self.0.line.ask(&raw, b"##", wait).await?;
        // A frame of its serial that confirms.
        let answered = answer.get(26) == Some(&3) && answer[2..4] == alarm.number.to_le_bytes();
        Ok(Said { answered, raw })
    }

    async fn garbage(&mut self, _scene: &Equipped) -> Result<&'static str> {
        self.0.garbage().await
    }

    fn is(&self, alarm: &Alarm, event: &Event) -> bool {
        let part = format!("{}/1.1.1.{}", self.0.place.name, alarm.number);
        event.kind == "fire.alarm" && event.device == part
    }
}

pub struct Panel(Caller);

impl Device for Panel {
    const TYPE: &'static str = "dc09";
    const CLOCK: Clock = Clock::Utc;
    const ANSWER: Result<&'static str, &'static str> = Ok("ACK");
    const TEXT: Result<&'static str, &'static str> = Ok("text");
    const REPEATS: bool = true;

    async fn start(place: &Place) -> Result<Option<Self>> {
        Ok(Caller::new("dc09.py", place)?.map(Self))
    }

    fn keys(&self) -> String {
        format!(
            "tcp = \"127.0.0.1:{}\"\n[[source.account]]\naccount = \"1234\"\nid = \"{}\"\n",
            self.0.line.port, self.0.place.name
        )
    }

    async fn ready(&mut self, scene: &Equipped) -> Result<()> {
        scene.connected(self.0.place.name).await
    }

    async fn say(&mut self, _scene: &Equipped, alarm: &Alarm, wait: Duration) -> Result<Said> {
        let step = json!({
            "id": "SIA-DCS", "seq": alarm.number, "at": alarm.at.as_second(),
            "data": format!("#1234|NFA{}^{}^", alarm.number, alarm.words()), "encoding": alarm.encoding(),
        });
        let raw = self.0.builder.frame(alarm, &["1234", "-"], &step)?;
        let answer = self.0.line.ask(&raw, b"\r", wait).await?;
        let acknowledges = format!("\"ACK\"{:04}", alarm.number);
        let answered = String::from_utf8_lossy(&answer).contains(&acknowledges);
        Ok(Said { answered, raw })
    }

    async fn garbage(&mut self, _scene: &Equipped) -> Result<&'static str> {
        self.0.garbage().await
    }

    fn is(&self, alarm: &Alarm, event: &Event) -> bool {
        let zone = format!("{}/{}", self.0.place.name, alarm.number);
        event.kind == "fire.alarm" && event.device == zone
    }
}

/// Id of the gateway, and of each test's recorder.
const GATEWAY: &str = "34020000002000000001";
const RECORDER: &str = "34020000001180000001";

/// A recorder whose address is known, so that it needs no registration.
pub struct Recorder {
    port: u16,
    socket: UdpSocket,
    place: Place,
}

impl Device for Recorder {
    const TYPE: &'static str = "gb28181";
    const CLOCK: Clock = Clock::Local;
    const ANSWER: Result<&'static str, &'static str> = Ok("200 OK");
    const TEXT: Result<&'static str, &'static str> = Ok("text");
    const REPEATS: bool = true;

    async fn start(place: &Place) -> Result<Option<Self>> {
        let port = free_tcp_port()?;
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(("127.0.0.1", port)).await?;
        let place = place.clone();
        Ok(Some(Self {
            port,
            socket,
            place,
        }))
    }

    fn keys(&self) -> String {
        format!(
            "udp = \"127.0.0.1:{}\"\nid = \"{GATEWAY}\"\npassword_file = \"sip.password\"\ncatalog_every = \"0s\"\n\
             [[source.device]]\nid = \"{RECORDER}\"\npeer = \"127.0.0.1\"\n",
            self.port
        )
    }

    fn files(&self) -> Vec<(String, String)> {
        vec![("sip.password".to_owned(), "12345678".to_owned())]
    }

    async fn ready(&mut self, scene: &Equipped) -> Result<()> {
        scene.connected(self.place.name).await
    }

    async fn say(&mut self, _scene: &Equipped, alarm: &Alarm, wait: Duration) -> Result<Said> {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"GB2312\"?>\r\n<Notify>\r\n<CmdType>Alarm</CmdType>\r\n<SN>{}</SN>\r\n\
             <DeviceID>{RECORDER}</DeviceID>\r\n<AlarmPriority>4</AlarmPriority>\r\n<AlarmMethod>6</AlarmMethod>\r\n\
             <AlarmTime>{}</AlarmTime>\r\n<AlarmDescription>{}</AlarmDescription>\r\n\
             <Info><AlarmType>1</AlarmType></Info>\r\n</Notify>\r\n",
            alarm.number,
            alarm.local(),
            alarm.words()
        );
        let body = alarm.encoded(&text);
        let call = format!("Call-ID: alarm-{}\r\n", alarm.number);
        let head = format!(
            "MESSAGE sip:{GATEWAY}@3402000000 SIP/2.0\r\nVia: SIP/2.0/UDP {};rport;branch=z9hG4bK{}\r\n\
             From: <sip:{RECORDER}@3402000000>;tag=1\r\nTo: <sip:{GATEWAY}@3402000000>\r\n{call}CSeq: 1 MESSAGE\r\n\
             Max-Forwards: 70\r\nContent-Type: Application/MANSCDP+xml\r\nContent-Length: {}\r\n\r\n",
            self.socket.local_addr()?,
            alarm.number,
            body.len()
        );
        let raw = [head.as_bytes(), &body].concat();
        self.socket.send(&raw).await?;
        let answered = timeout(wait, async {
            let mut datagram = [0; 2048];
            loop {
                let count = self.socket.recv(&mut datagram).await?;
                let answer = String::from_utf8_lossy(&datagram[..count]);
                // What the agent asks is no answer.
                if answer.starts_with("SIP/2.0 ") && answer.contains(&call) {
                    ensure!(answer.starts_with("SIP/2.0 200 "), "{answer}");
                    return Ok(());
                }
            }
        });
        let answered = match answered.await {
            Ok(answer) => answer.map(|()| true)?,
            Err(_) => false,
        };
        Ok(Said { answered, raw })
    }

    async fn garbage(&mut self, _scene: &Equipped) -> Result<&'static str> {
        self.socket.send(GARBAGE.as_bytes()).await?;
        Ok(GARBAGE)
    }

    fn is(&self, alarm: &Alarm, event: &Event) -> bool {
        let id = format!("{RECORDER}-{RECORDER}-{}-", alarm.number);
        event.kind == "device.fault" && event.source_id.starts_with(&id)
    }
}
