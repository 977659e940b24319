//! Devices that call the agent with checked frames: panels by SIA DC-09 and fire alarm hosts by GB/T 26875.3, over TCP and UDP. A frame
//! that is damaged is sent again by its device; so behind each comes a whole one, which must be answered and be an event.
use anyhow::{Context, Result};
use jiff::tz::TimeZone;
use linli_tests::harness::{Equipped, free_tcp_port};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::cases::{Case, Cases, Expected, Made, account, behind};

/// After this long without an answer a device sends its message again.
const AGAIN: Duration = Duration::from_secs(3);
/// How often.
const TRIES: usize = 10;

/// A device's way to the agent.
enum Line {
    Tcp(u16, Option<TcpStream>),
    Udp(UdpSocket),
}

impl Line {
    async fn udp(port: u16) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(("127.0.0.1", port)).await?;
        Ok(Self::Udp(socket))
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Udp(socket) => {
                socket.send(bytes).await?;
            }
            Self::Tcp(port, stream) => {
                if stream.is_none() {
                    *stream = Some(TcpStream::connect(("127.0.0.1", *port)).await?);
                }
                let sent = stream
                    .as_mut()
                    .context("a connection")?
                    .write_all(bytes)
                    .await;
                if sent.is_err() {
                    *stream = None;
                }
            }
        }
        Ok(())
    }

    /// The next bytes of the agent; none if the connection is ended.
    async fn receive(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        let read = match self {
            Self::Udp(socket) => socket.recv(&mut bytes).await.unwrap_or(0),
            Self::Tcp(_, Some(stream)) => stream.read(&mut bytes).await.unwrap_or(0),
            Self::Tcp(_, None) => 0,
        };
        bytes.truncate(read);
        if read == 0
            && let Self::Tcp(_, stream) = self
        {
            *stream = None;
        }
        bytes
    }

    /// Sends a message until it is answered.
    async fn ask(&mut self, bytes: &[u8], is_answer: impl Fn(&[u8]) -> bool) -> Result<()> {
        for _ in 0..TRIES {
            self.send(bytes).await?;
            let mut answer = Vec::new();
            let answered = timeout(AGAIN, async {
                while !is_answer(&answer) {
                    let more = self.receive().await;
                    if more.is_empty() {
                        return false;
                    }
                    answer.extend(more);
                }
                true
            });
            if answered.await == Ok(true) {
                return Ok(());
            }
        }
        anyhow::bail!("no answer to {}", bytes.escape_ascii())
    }
}

/// Sends each case and a whole message behind it, by both transports; all must be accounted for.
async fn both_ways(
    keys: &str,
    cases: &Cases,
    make: impl Fn(u32) -> Made,
    is_answer: impl Fn(u32, &[u8]) -> bool,
    letter: char,
) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let port = free_tcp_port()?;
    let blocks = format!(
        "[[source]]\nname = \"callers\"\ntcp = \"127.0.0.1:{port}\"\nudp = \"127.0.0.1:{port}\"\n{keys}"
    );
    let scene = Equipped::listening(directory.path(), "callers", &blocks, &[]).await?;
    let cases: Vec<Case> = cases.of(&make);
    let mut events = Vec::new();
    let lines = [Line::Tcp(port, None), Line::udp(port).await?];
    for (first, mut line) in [50_000, 60_000].into_iter().zip(lines) {
        for (good, case) in (first..).zip(&cases) {
            line.send(&case.bytes).await?;
            line.ask(&make(good).bytes, |answer| is_answer(good, answer))
                .await
                .with_context(|| format!("behind {}", case.what))?;
            events.push((good, format!("whole, behind {}", case.what)));
        }
    }
    let expected = Expected {
        source: "callers",
        sent: 4 * cases.len(),
        left_out: 0,
        events,
    };
    account(&scene, &expected, |event| {
        (event.kind == "fire.alarm").then(|| behind(&event.device, letter))?
    })
    .await
}

/// CRC-16/ARC.
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| match crc & 1 {
            0 => crc >> 1,
            _ => (crc >> 1) ^ 0xa001,
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_of_dc09() -> Result<()> {
    let time = jiff::Timestamp::now()
        .strftime("%H:%M:%S,%m-%d-%Y")
        .to_string();
    let make = |number: u32| {
        let body = format!(
            "\"ADM-CID\"{:04}R1L2#1234[#1234|1110 01 {number}][L3F]_{time}",
            number % 10_000
        );
        let frame = format!("\n{:04X}{:04X}{body}\r", crc(body.as_bytes()), body.len());
        // Every byte is checked.
        Made::new(frame.clone(), &[&frame])
    };
    let keys = "type = \"dc09\"\n[[source.account]]\naccount = \"1234\"\nid = \"panel\"\n";
    let is_answer = |number: u32, answer: &[u8]| {
        let wanted = format!("\"ACK\"{:04}", number % 10_000);
        String::from_utf8_lossy(answer).contains(&wanted)
    };
    both_ways(
        keys,
        &Cases {
            step: 1,
            first: 20_000,
        },
        make,
        is_answer,
        '/',
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_of_gb26875() -> Result<()> {
    let now = jiff::Timestamp::now()
        .to_zoned(TimeZone::get("Asia/Shanghai")?)
        .datetime();
    let year = now.year().rem_euclid(100) as i8;
    let time = [
        now.second(),
        now.minute(),
        now.hour(),
        now.day(),
        now.month(),
        year,
    ]
    .map(i8::cast_unsigned);
    let make = |number: u32| {
        let number = u16::try_from(number).expect("two bytes").to_le_bytes();
        // One part: type and address of its system, its type, zone, number, bits, text, time.
        let mut data = vec![2, 1, 1, 3, 40, 10, 0, number[0], number[1], 2, 0];
        data.extend("3号楼".as_bytes());
        data.resize(42, 0);
        data.extend(time);
        let mut frame = [&number[..], &[1, 1], &time, &[0x79, 3, 0, 0, 0, 0], &[0; 6]].concat();
        frame.extend(u16::try_from(data.len()).expect("short").to_le_bytes());
        frame.push(2);
        frame.extend(data);
        let sum = frame.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        let frame = [b"@@", &frame[..], &[sum], b"##"].concat();
        Made {
            bytes: frame,
            heads: Vec::new(),
        }
    };
    let keys = "type = \"gb26875\"\n[[source.host]]\naddress = 889\nid = \"host\"\n";
    let is_answer = |number: u32, answer: &[u8]| {
        let serial = u16::try_from(number).unwrap_or_default().to_le_bytes();
        let head = [b"@@", &serial[..]].concat();
        let mut windows = answer.windows(27);
        // Command 3 confirms.
        windows.any(|window| window.starts_with(&head) && window[26] == 3)
    };
    both_ways(
        keys,
        &Cases {
            step: 1,
            first: 20_000,
        },
        make,
        is_answer,
        '.',
    )
    .await
}
