//! Recorders by GB/T 28181: a MESSAGE with an alarm, over UDP, and over TCP with a connection for each, because a message that is cut
//! there ends with its connection.
use anyhow::{Context, Result, ensure};
use jiff::tz::TimeZone;
use linli_tests::harness::{Equipped, free_tcp_port};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::cases::{Cases, Expected, Made, account, whole};

const GATEWAY: &str = "34020000002000000001";
const RECORDER: &str = "34020000001180000001";
const DEADLINE: Duration = Duration::from_secs(20);

fn call(number: u32) -> String {
    format!("Call-ID: alarm-{number}\r\n")
}

/// A MESSAGE with its number as SN. On a stream its length is part of what says where it ends.
fn message(transport: &str, time: &str, number: u32) -> Made {
    let sn = format!("<SN>{number}</SN>");
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"GB2312\"?>\r\n<Notify>\r\n<CmdType>Alarm</CmdType>\r\n{sn}\r\n\
         <DeviceID>{RECORDER}</DeviceID>\r\n<AlarmPriority>1</AlarmPriority>\r\n<AlarmMethod>2</AlarmMethod>\r\n\
         <AlarmTime>{time}</AlarmTime>\r\n<AlarmDescription>words</AlarmDescription>\r\n\
         <Info><AlarmType>2</AlarmType></Info>\r\n</Notify>\r\n"
    );
    let head = format!(
        "MESSAGE sip:{GATEWAY}@3402000000 SIP/2.0\r\nVia: SIP/2.0/{transport} 127.0.0.1:5060;rport;branch=z9hG4bK{number}\r\n\
         From: <sip:{RECORDER}@3402000000>;tag=1\r\nTo: <sip:{GATEWAY}@3402000000>\r\n{}CSeq: 1 MESSAGE\r\n\
         Content-Type: Application/MANSCDP+xml\r\nContent-Length: ",
        call(number)
    );
    let length = body.len();
    let announced = match transport {
        "TCP" => format!("Content-Length: {length}\r\n\r\n<"),
        _ => "\r\n\r\n<".to_owned(),
    };
    let heads = [
        &head,
        &announced,
        &sn,
        "<CmdType>Alarm</CmdType>",
        "<AlarmMethod>2</AlarmMethod>",
        "<AlarmType>2</AlarmType>",
    ];
    Made::new(format!("{head}{length}\r\n\r\n{body}"), &heads)
}

async fn start(directory: &std::path::Path, port: u16) -> Result<Equipped> {
    let blocks = format!(
        "[[source]]\nname = \"video\"\ntype = \"gb28181\"\ntcp = \"127.0.0.1:{port}\"\nudp = \"127.0.0.1:{port}\"\n\
         id = \"{GATEWAY}\"\npassword_file = \"sip.password\"\ncatalog_every = \"0s\"\n\
         [[source.device]]\nid = \"{RECORDER}\"\npeer = \"127.0.0.1\"\n"
    );
    Equipped::listening(directory, "video", &blocks, &[("sip.password", "12345678")]).await
}

fn now() -> Result<String> {
    let now = jiff::Timestamp::now().to_zoned(TimeZone::get("Asia/Shanghai")?);
    Ok(now.strftime("%Y-%m-%dT%H:%M:%S").to_string())
}

/// The SN in the id of an event.
fn sn(event: &linli_shared::protocol::event::Event) -> Option<u32> {
    event.source_id.split('-').nth(2)?.parse().ok()
}

fn is_answer(number: u32, answer: &[u8]) -> bool {
    let answer = String::from_utf8_lossy(answer);
    let mut answers = answer.split("SIP/2.0 ");
    answers.any(|answer| answer.starts_with("200 ") && answer.contains(&call(number)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datagram_of_gb28181() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let port = free_tcp_port()?;
    let scene = start(directory.path(), port).await?;
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(("127.0.0.1", port)).await?;
    let time = now()?;
    let make = |number| message("UDP", &time, number);
    let cases = Cases {
        step: 4,
        first: 20_000,
    }
    .of(make);
    let mut events = whole(&cases);
    for (good, case) in (50_000..).zip(&cases) {
        socket.send(&case.bytes).await?;
        socket.send(&make(good).bytes).await?;
        let answered = timeout(DEADLINE, async {
            let mut datagram = [0; 2048];
            loop {
                let count = socket.recv(&mut datagram).await?;
                if is_answer(good, &datagram[..count]) {
                    return anyhow::Ok(());
                }
            }
        });
        answered
            .await
            .with_context(|| format!("behind {}", case.what))??;
        events.push((good, format!("whole, behind {}", case.what)));
    }
    let expected = Expected {
        source: "video",
        sent: 2 * cases.len(),
        left_out: 0,
        events,
    };
    account(&scene, &expected, sn).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_gb28181() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let port = free_tcp_port()?;
    let scene = start(directory.path(), port).await?;
    let time = now()?;
    let make = |number| message("TCP", &time, number);
    let cases = Cases {
        step: 6,
        first: 20_000,
    }
    .of(make);
    let mut events = whole(&cases);
    let mut line = TcpStream::connect(("127.0.0.1", port)).await?;
    for (good, case) in (50_000..).zip(&cases) {
        let mut own = TcpStream::connect(("127.0.0.1", port)).await?;
        own.write_all(&case.bytes).await?;
        own.shutdown().await?;
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = timeout(DEADLINE, own.read_to_end(&mut rest))
            .await
            .with_context(|| format!("{} holds its connection", case.what))?;
        line.write_all(&make(good).bytes).await?;
        let mut answer = Vec::new();
        while !is_answer(good, &answer) {
            let read = timeout(DEADLINE, line.read_buf(&mut answer)).await;
            let read = read.with_context(|| format!("behind {}", case.what))??;
            ensure!(
                read > 0,
                "the agent ended the connection behind {}",
                case.what
            );
        }
        events.push((good, format!("whole, behind {}", case.what)));
    }
    let expected = Expected {
        source: "video",
        sent: 2 * cases.len(),
        left_out: 0,
        events,
    };
    account(&scene, &expected, sn).await
}
