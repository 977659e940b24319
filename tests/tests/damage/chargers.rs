//! Charge points by OCPP 1.6-J: the text of a frame is damaged, with bytes that are no UTF-8 too.
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use linli_tests::harness::{Equipped, free_tcp_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::cases::{Cases, Expected, Made, account, behind, whole};

const TEXT: u8 = 0x81;

/// Opens a WebSocket.
async fn open(port: u16) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!(
        "GET /ocpp/cp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\nSec-WebSocket-Protocol: ocpp1.6\r\n\r\n",
        BASE64.encode([7; 16])
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
    Ok(stream)
}

/// A frame, masked with zeros.
fn frame(payload: &[u8]) -> Result<Vec<u8>> {
    let length = u16::try_from(payload.len())?.to_be_bytes();
    Ok([&[TEXT, 0x80 | 126], &length[..], &[0; 4], payload].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_ocpp() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let port = free_tcp_port()?;
    let blocks = format!(
        "[[source]]\nname = \"piles\"\ntype = \"ocpp\"\nlisten = \"127.0.0.1:{port}\"\nchargers = [\"cp\"]\n"
    );
    let scene = Equipped::listening(directory.path(), "piles", &blocks, &[]).await?;
    let make = |number: u32| {
        let connector = format!("{{\"connectorId\":{number},");
        let text = format!(
            "[2,\"m7\",\"StatusNotification\",{connector}\"errorCode\":\"HighTemperature\",\"status\":\"Faulted\",\"info\":\"枪头\"}}]"
        );
        let heads = [
            "[2,\"m7\",\"StatusNotification\",",
            &connector,
            "\"errorCode\":\"HighTemperature\",",
        ];
        Made::new(text, &heads)
    };
    let cases = Cases {
        step: 1,
        first: 20_000,
    }
    .of(make);
    let mut events = whole(&cases);
    let (mut answers, mut calls) = open(port).await?.into_split();
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        // One connection takes them all: it ends with the test.
        let _ = answers.read_to_end(&mut all).await;
    });
    for case in &cases {
        calls
            .write_all(&frame(&case.bytes)?)
            .await
            .with_context(|| case.what.clone())?;
    }
    calls.write_all(&frame(&make(50_000).bytes)?).await?;
    events.push((50_000, "whole, behind all".to_owned()));
    let expected = Expected {
        source: "piles",
        sent: cases.len() + 1,
        left_out: 0,
        events,
    };
    account(&scene, &expected, |event| {
        (event.kind == "pile.overheat").then(|| behind(&event.device, '/'))?
    })
    .await?;
    ensure!(!reading.is_finished(), "the connection was ended");
    Ok(())
}
