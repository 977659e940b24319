//! Units by Modbus TCP, a unit for each case: the answer to its first poll is damaged, and those to the next ones are whole.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{Equipped, free_tcp_port};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::cases::{Cases, Counted, Expected, Made, account, behind};

const MAP: &str = r#"
schema = 1
[[point]]
name = "temperature"
area = "holding"
address = 0
type = "i16"
scale = 0.1
valid = [-40.0, 200.0]
repeat = { count = 2, stride = 1 }
[[point.alarm]]
above = 70.0
clear = 60.0
kind = "pile.overheat"
restored = "pile.restored"
severity = "alarm"
"#;

/// Registers of the whole answers: 80 and 25 °C.
const REGISTERS: [u8; 4] = [0x03, 0x20, 0x00, 0xfa];
/// Bytes of an answer before its registers.
const HEAD_BYTES: usize = 9;

/// An answer to the first request of a connection.
fn answer(transaction: [u8; 2]) -> Vec<u8> {
    let head = [transaction[0], transaction[1], 0, 0, 0, 7, 1, 3, 4];
    [&head[..], &REGISTERS].concat()
}

/// Damage to the first answer of a unit: bytes that are flipped, and the length that it is cut to.
struct Damage {
    flips: Vec<u8>,
    cut: usize,
}

type Waiting = Arc<Mutex<HashMap<IpAddr, Damage>>>;

/// Answers the requests of one connection.
async fn serve(mut stream: TcpStream, waiting: Waiting) -> Result<()> {
    loop {
        let mut request = [0; 12];
        stream.read_exact(&mut request).await?;
        let mut bytes = answer([request[0], request[1]]);
        let damage = {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.remove(&stream.local_addr()?.ip())
        };
        let Some(Damage { flips, cut }) = damage else {
            stream.write_all(&bytes).await?;
            continue;
        };
        for (byte, flip) in bytes.iter_mut().zip(flips) {
            *byte ^= flip;
        }
        stream.write_all(&bytes[..cut]).await?;
        if cut < bytes.len() {
            // The connection breaks in the middle of it.
            return Ok(());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_modbus() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let port = free_tcp_port()?;
    let whole = answer([0, 0]);
    let cases = Cases { step: 1, first: 0 }.of(|_| Made::new(whole.clone(), &[]));
    let waiting = Waiting::default();
    let mut blocks = "[[source]]\nname = \"piles\"\ntype = \"modbus\"\n".to_owned();
    let mut rejected = 0;
    for case in &cases {
        let host = format!("127.0.{}.{}", 2 + case.number / 200, case.number % 200 + 1);
        blocks += &format!(
            "[[source.device]]\nid = \"p-{}\"\naddress = \"{host}:{port}\"\nevery = \"100ms\"\nmap = \"pile.toml\"\n",
            case.number
        );
        let flips: Vec<u8> = case
            .bytes
            .iter()
            .zip(&whole)
            .map(|(one, other)| one ^ other)
            .collect();
        let cut = case.bytes.len();
        let is_of_head = cut < whole.len() || flips[..HEAD_BYTES].iter().any(|flip| *flip != 0);
        rejected += u64::from(is_of_head);
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(host.parse().context("an address")?, Damage { flips, cut });
    }
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    let damages = waiting.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A connection ends as its peer wants it.
            tokio::spawn(serve(stream, damages.clone()));
        }
    });
    let scene = Equipped::start(directory.path(), &blocks, &[("pile.toml", MAP)]).await?;
    let expected = Expected {
        source: "piles",
        sent: 2 * cases.len(),
        left_out: 0,
        // However the first answer was damaged, the next one tells the alarm.
        events: cases
            .iter()
            .map(|case| (case.number, case.what.clone()))
            .collect(),
    };
    account(&scene, &expected, |event| {
        let (unit, _) = event.device.split_once('/')?;
        (event.kind == "pile.overheat").then(|| behind(unit, '-'))?
    })
    .await?;
    let counted = Counted::of(&scene, "piles").await?;
    ensure!(
        counted.get("rejected") >= rejected,
        "{} rejected, {rejected} answers had a damaged head",
        counted.get("rejected")
    );
    let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(waiting.is_empty(), "{} were not asked", waiting.len());
    Ok(())
}
