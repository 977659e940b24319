//! Messages that mappings read: pushes by HTTP, and payloads of MQTT.
use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, stream};
use linli_tests::harness::{DOORS_TOKEN, Equipped, free_tcp_port};
use std::collections::VecDeque;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::cases::{Case, Cases, Counted, Expected, Made, account, behind, whole};

/// Pushes at once.
const AT_ONCE: usize = 8;

/// Pushes each case; none may be left out. Each answer must account for its push.
async fn push(scene: &Equipped, source: &str, cases: &[Case]) -> Result<()> {
    let answers = stream::iter(cases).map(|case| async move {
        let answer = scene
            .agent
            .push_raw(source, DOORS_TOKEN, case.bytes.clone());
        Ok::<_, anyhow::Error>((case, answer.await?))
    });
    let mut answers = answers.buffer_unordered(AT_ONCE);
    while let Some(answered) = answers.next().await {
        let (case, answer) = answered?;
        let of = |outcome: &str| answer.body[outcome].as_u64().unwrap_or(0);
        let accounted = of("stored") + of("doubled") + of("repeated") + of("rejected");
        let is_refused = matches!(answer.status, 400 | 415 | 422);
        ensure!(
            is_refused || (answer.status == 200 && accounted > 0),
            "{}: {answer:?}",
            case.what
        );
        ensure!(
            !case.is_whole || of("stored") == 1,
            "{} is no event: {answer:?} of {}",
            case.what,
            String::from_utf8_lossy(&case.bytes)
        );
        ensure!(
            of("filtered") == 0,
            "{}: {answer:?} to {}",
            case.what,
            String::from_utf8_lossy(&case.bytes)
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_and_one_of_a_station() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let blocks = "[[source]]\nname = \"desk\"\nmapping = \"mappings/police-incident.toml\"\ntoken_file = \"secrets/doors.token\"\n";
    let scene = Equipped::start(directory.path(), blocks, &[]).await?;
    let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let doors = Cases { step: 1, first: 20_000 }.of(|number| {
        let serial = format!("\"serial\":\"{number}\"");
        let text = format!(
            "{{\"events\":[{{{serial},\"device\":\"d\",\"building\":\"3号楼\",\"type\":\"fire\",\"time\":\"{time}\"}}]}}"
        );
        Made::new(text, &["{\"events\":[{", &serial, "\"type\":\"fire\""])
    });
    push(&scene, "doors", &doors).await?;
    let expected = Expected {
        source: "doors",
        sent: doors.len(),
        left_out: 0,
        events: whole(&doors),
    };
    account(&scene, &expected, |event| event.source_id.parse().ok()).await?;
    let incidents = Cases { step: 1, first: 20_000 }.of(|number| {
        let id = format!("\"jqbh\":\"{number}\"");
        let text = format!(
            "{{{id},\"category\":\"邻里\",\"level\":\"2\",\"station\":\"s\",\"address_key\":\"a\",\"reported_at\":\"{time}\"}}"
        );
        Made::new(text, &["{", &id, "\"category\":\"邻里\""])
    });
    push(&scene, "desk", &incidents).await?;
    let answer = scene
        .agent
        .push_raw(
            "desk",
            DOORS_TOKEN,
            "{\"jqbh\":\"1\",\"category\":\"邻里\"}".into(),
        )
        .await?;
    ensure!(answer.body["stored"] == 1, "{answer:?}");
    let counted = Counted::of(&scene, "desk").await?;
    ensure!(counted.all() > incidents.len() as u64);
    ensure!(counted.get("filtered") == 0);
    Ok(())
}

/// A broker of MQTT 3.1.1 as plain as one subscriber needs it.
struct Broker {
    stream: TcpStream,
}

impl Broker {
    /// Takes the agent's connection and its subscription.
    async fn accept(listener: &TcpListener) -> Result<Self> {
        let (stream, _) = listener.accept().await?;
        let mut broker = Self { stream };
        let (kind, _) = broker.packet().await?;
        ensure!(kind == 0x10, "CONNECT and not {kind:#x}");
        broker.stream.write_all(&[0x20, 2, 0, 0]).await?;
        let (kind, body) = broker.packet().await?;
        ensure!(kind == 0x82, "SUBSCRIBE and not {kind:#x}");
        broker
            .stream
            .write_all(&[0x90, 3, body[0], body[1], 1])
            .await?;
        Ok(broker)
    }

    async fn packet(&mut self) -> Result<(u8, Vec<u8>)> {
        let kind = self.stream.read_u8().await?;
        let mut length = 0;
        for shift in [0, 7, 14] {
            let byte = self.stream.read_u8().await?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        Ok((kind, body))
    }

    /// Publishes with QoS 1.
    async fn publish(&mut self, topic: &str, packet_id: u16, payload: &[u8]) -> Result<()> {
        let length = 2 + topic.len() + 2 + payload.len();
        let mut packet = vec![0x32, (length % 128) as u8 | 0x80, (length / 128) as u8];
        packet.extend(u16::try_from(topic.len())?.to_be_bytes());
        packet.extend(topic.as_bytes());
        packet.extend(packet_id.to_be_bytes());
        packet.extend(payload);
        self.stream.write_all(&packet).await?;
        Ok(())
    }
}

/// Messages that the broker sends before it waits for an acknowledgement.
const WINDOW: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_of_mqtt() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let port = free_tcp_port()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let blocks = format!(
        "[[source]]\nname = \"smoke\"\ntype = \"mqtt\"\nbroker = \"mqtt://127.0.0.1:{port}\"\nversion = 4\n\
         [[source.topic]]\nfilter = \"zigbee2mqtt/+\"\nmappings = [\"mappings/zigbee-smoke.toml\"]\n"
    );
    let scene = Equipped::start(directory.path(), &blocks, &[]).await?;
    let mut broker = Broker::accept(&listener).await?;
    let mut cases: VecDeque<Case> = Cases {
        step: 1,
        first: 20_000,
    }
    .of(|_| {
        let text =
            "{\"battery_low\":false,\"name\":\"三楼烟感\",\"smoke\":true,\"temperature\":21.5}";
        Made::new(text, &["{", "\"smoke\":true"])
    })
    .into();
    let last = cases.back().context("cases")?.number + 1;
    cases.push_back(Case {
        number: last,
        bytes: b"{\"smoke\":true}".to_vec(),
        is_whole: true,
        what: "whole".to_owned(),
    });
    let sent = cases.len();
    let events = whole(cases.make_contiguous());
    let mut waiting = 0;
    while !cases.is_empty() || waiting > 0 {
        if waiting < WINDOW
            && let Some(case) = cases.pop_front()
        {
            // Each is a sensor of its own.
            let topic = format!("zigbee2mqtt/s-{}", case.number);
            broker
                .publish(&topic, case.number as u16, &case.bytes)
                .await?;
            waiting += 1;
            continue;
        }
        let (kind, _) = broker.packet().await?;
        match kind {
            0x40 => waiting -= 1,
            0xc0 => broker.stream.write_all(&[0xd0, 0]).await?,
            other => anyhow::bail!("a packet {other:#x}"),
        }
    }
    let expected = Expected {
        source: "smoke",
        sent,
        left_out: 0,
        events,
    };
    account(&scene, &expected, |event| {
        (event.kind == "smoke.alarm").then(|| behind(&event.device, '-'))?
    })
    .await
}
