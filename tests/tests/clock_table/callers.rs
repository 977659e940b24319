//! Devices that call the agent, each frame written from the standard's text: alarm panels (SIA DC-09) and fire alarm hosts
//! (GB/T 26875.3).
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use linli_tests::harness::free_tcp_port;
use std::fmt::Write;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::peer::{Peer, named, number, places};
use super::table::{Message, Said, Way};

const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Says it on a connection of its own, and gives what is answered up to `end`.
async fn ask(port: u16, bytes: &[u8], end: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(bytes).await?;
    let mut answer = Vec::new();
    let read = async {
        while !answer.ends_with(end) {
            ensure!(
                stream.read_buf(&mut answer).await? > 0,
                "the connection was ended after {:?}",
                answer.escape_ascii().to_string()
            );
        }
        Ok(())
    };
    timeout(ANSWER_WITHIN, read).await.context("no answer")??;
    Ok(answer)
}

/// Panels that send in clear.
pub struct Panels(u16);

impl Panels {
    pub fn new() -> Result<Self> {
        Ok(Self(free_tcp_port()?))
    }
}

/// CRC-16/ARC.
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0xa001 } else { 0 }
        })
    })
}

fn utc(ms: i64) -> Result<String> {
    let time = Timestamp::from_millisecond(ms)?;
    Ok(time.strftime("%H:%M:%S,%m-%d-%Y").to_string())
}

impl Peer for Panels {
    const SOURCE: &'static str = "panels";
    const KINDS: &'static [&'static str] = &["fire.alarm"];
    const ROWS: &'static [&'static str] = &[
        "right",
        "slow-16m",
        "slow-8h",
        "ahead-3y",
        "1970",
        "stepped",
        "no-time",
        "unreadable",
    ];
    const REPLAYED: Option<Way> = Some(Way::Replayed);

    fn blocks(&self) -> Result<String> {
        let mut blocks = places::<Self>();
        write!(
            blocks,
            "[[source]]\nname = \"panels\"\ntype = \"dc09\"\ntcp = \"127.0.0.1:{}\"\n",
            self.0
        )?;
        for (place, row) in Self::ROWS.iter().enumerate() {
            let id = named::<Self>(row);
            writeln!(
                blocks,
                "[[source.account]]\naccount = \"{:04X}\"\nid = \"{id}\"",
                place + 1
            )?;
        }
        Ok(blocks)
    }

    fn place(&self, message: &Message) -> String {
        let panel = named::<Self>(&message.device());
        format!("{panel}|{panel}/{}", message.number)
    }

    async fn say(&mut self, message: &Message) -> Result<()> {
        let account = format!("{:04X}", number::<Self>(message));
        // What waited in the panel has the time when it happened, beside that of its transmission.
        let (occurred, sent) = match message.said {
            Said::Ms(ms) if message.is_replayed() => {
                let sent_ms = ms + 30 * 60_000;
                (format!("[H{}]", utc(ms)?), format!("_{}", utc(sent_ms)?))
            }
            Said::Ms(ms) => (String::new(), format!("_{}", utc(ms)?)),
            Said::Nothing => (String::new(), String::new()),
            Said::Garbage => (String::new(), "_29:61:00,13-32-2026".to_owned()),
        };
        // Reported before: N of SIA is new, O is old.
        let age = if message.is_replayed() { 'O' } else { 'N' };
        let body = format!(
            "\"SIA-DCS\"{:04}L0#{account}[#{account}|{age}FA{}]{occurred}{sent}",
            message.number, message.number
        );
        let frame = format!("\n{:04X}0{:03X}{body}\r", crc(body.as_bytes()), body.len());
        let answer = ask(self.0, frame.as_bytes(), b"\r").await?;
        let answer = String::from_utf8_lossy(&answer);
        ensure!(answer.contains("\"ACK\""), "{answer}");
        Ok(())
    }
}

/// Fire alarm hosts.
pub struct Hosts(u16);

impl Hosts {
    pub fn new() -> Result<Self> {
        Ok(Self(free_tcp_port()?))
    }
}

/// Clause 8.2.2: second, minute, hour, day, month, year of the century.
fn six(message: &Message) -> Result<[u8; 6]> {
    Ok(match message.said {
        Said::Ms(ms) => {
            let at = Timestamp::from_millisecond(ms)?.in_tz("Asia/Shanghai")?;
            let year = (at.year() % 100) as i8;
            [
                at.second(),
                at.minute(),
                at.hour(),
                at.day(),
                at.month(),
                year,
            ]
            .map(i8::cast_unsigned)
        }
        Said::Nothing => [0; 6],
        Said::Garbage => [0xff; 6],
    })
}

impl Peer for Hosts {
    const SOURCE: &'static str = "hosts";
    const KINDS: &'static [&'static str] = &["fire.alarm"];
    /// Its years have two digits: 1970 is 2070 on the wire.
    const ROWS: &'static [&'static str] = &[
        "right",
        "slow-16m",
        "slow-8h",
        "slow-8d",
        "ahead-3y",
        "stepped",
        "no-time",
        "unreadable",
    ];
    const REPLAYED: Option<Way> = Some(Way::Replayed);

    fn blocks(&self) -> Result<String> {
        let mut blocks = places::<Self>();
        write!(
            blocks,
            "[[source]]\nname = \"hosts\"\ntype = \"gb26875\"\ntcp = \"127.0.0.1:{}\"\n",
            self.0
        )?;
        for (place, row) in Self::ROWS.iter().enumerate() {
            let id = named::<Self>(row);
            writeln!(
                blocks,
                "[[source.host]]\naddress = {}\nid = \"{id}\"",
                place + 1
            )?;
        }
        Ok(blocks)
    }

    fn place(&self, message: &Message) -> String {
        let host = named::<Self>(&message.device());
        format!("{host}|{host}/1.1.1.{}", message.number)
    }

    async fn say(&mut self, message: &Message) -> Result<()> {
        let time = six(message)?;
        let part = u16::try_from(message.number)?.to_le_bytes();
        // One part of a host: a smoke detector of zone 1 that has an alarm.
        let unit = [&[2, 1, 1, 1, 40, 1, 0][..], &part, &[2, 0], &[0; 31], &time].concat();
        // 5: the answer to a question about the past.
        let command = if message.is_replayed() { 5 } else { 2 };
        let address = (number::<Self>(message) as u64).to_le_bytes();
        let control = [
            &part[..],
            &[1, 1],
            &time,
            &address[..6],
            &[0, 0, 0, 0, 0, 9],
            &u16::try_from(unit.len())?.to_le_bytes(),
            &[command],
            &unit,
        ]
        .concat();
        let sum = control
            .iter()
            .fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        let frame = [b"@@", &control[..], &[sum], b"##"].concat();
        if message.is_replayed() {
            // An answer is not answered.
            let mut stream = TcpStream::connect(("127.0.0.1", self.0)).await?;
            return Ok(stream.write_all(&frame).await?);
        }
        let answer = ask(self.0, &frame, b"##").await?;
        ensure!(answer.get(26) == Some(&3), "{answer:x?}");
        Ok(())
    }
}
