//! A hub against agents that do not behave: other versions, other names, broken order, other content.
use anyhow::{Context, Result};
use linli_shared::protocol::chunk::{Chunk, ChunkBuilder, Packed, Run};
use linli_shared::protocol::event::Draft;
use linli_shared::protocol::frame::{Ack, Frame, Heartbeat, Hello, LaneOpen, LanePosition};
use linli_shared::protocol::ids::{BootId, Epoch, Lane, Retention, Sequence};
use linli_shared::protocol::{ALPN, VERSION};
use linli_shared::service::link::{FrameReader, transport};
use linli_shared::service::tls;
use linli_tests::harness::{Agent, AgentSetup, Hub, metric, tell_station, until};
use quinn::SendStream;
use quinn::crypto::rustls::QuicClientConfig;
use std::sync::Arc;
use std::time::Duration;
use tempfile::{TempDir, tempdir};

const EPOCH: Epoch = Epoch(7);

/// A hub, and the identity of an agent that never runs.
async fn hub_and_identity() -> Result<(TempDir, Hub, Agent)> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let agent = Agent::joined(&directory.path().join("a"), &hub, "gw-1", "yuyuan")?;
    Ok((directory, hub, agent))
}

async fn connect(hub: &Hub, agent: &Agent, with_certificate: bool) -> Result<quinn::Connection> {
    let identity = agent.data().join("identity");
    let builder = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(tls::roots(&identity.join("root.pem"))?);
    let mut config = if with_certificate {
        builder.with_client_auth_cert(
            tls::certificates("certificate", &identity.join("agent.pem"))?,
            tls::private_key("key", &identity.join("agent.key"))?,
        )?
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    let mut quic = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?));
    quic.transport_config(Arc::new(transport()));
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse()?)?;
    let address = format!("127.0.0.1:{}", hub.port).parse()?;
    Ok(endpoint.connect_with(quic, address, tls::HUB_NAME)?.await?)
}

fn hello(agent: &str) -> Result<Hello> {
    Ok(Hello {
        version: VERSION,
        version_min: VERSION,
        agent: agent.parse()?,
        site: "yuyuan".parse()?,
        boot: BootId(1),
        software: "strange".to_owned(),
        monotonic_ms: 1,
        wall_ms: 1_800_000_000_000,
        wall_set: true,
        anchors: Vec::new(),
        lanes: vec![LanePosition {
            lane: Lane::Routine.number(),
            epoch: EPOCH,
            first: Sequence(0),
            next: Sequence(0),
        }],
        case_status_stored: None,
    })
}

/// Sends a hello and gives the answer; the control stream stays open with what is returned.
async fn greet(
    connection: &quinn::Connection,
    hello: Hello,
) -> Result<(Frame, SendStream, FrameReader)> {
    let (mut send, receive) = connection.open_bi().await?;
    send.write_all(&Frame::Hello(hello).encode()?).await?;
    let mut reader = FrameReader::new(receive);
    let answer = reader.next().await?.context("an answer")?;
    Ok((answer, send, reader))
}

fn chunk(first: u64, texts: &[&str]) -> Result<Chunk> {
    let mut builder = ChunkBuilder::new()?;
    // A builder that knows the stream makes one chunk of events that compress well.
    for _ in 0..20 {
        let mut built = chunks(&mut builder, first, texts)?;
        if built.len() == 1 {
            return built.pop().context("a chunk");
        }
    }
    anyhow::bail!("the events do not fit one chunk")
}

fn chunks(builder: &mut ChunkBuilder, first: u64, texts: &[&str]) -> Result<Vec<Chunk>> {
    let mut packed = Packed::default();
    for text in texts {
        packed.push(&Draft {
            kind: "door.opened",
            source_id: text,
            occurred_at_ms: 1_800_000_000_000,
            received_at_ms: 1_800_000_000_000,
            ..Draft::default()
        })?;
    }
    let run = Run {
        lane: Lane::Routine,
        retention: Retention::Standard,
        epoch: EPOCH,
        first: Sequence(first),
        boot: BootId(1),
    };
    let mut built = Vec::new();
    builder.build(run, &packed, &mut built)?;
    Ok(built)
}

/// Opens the stream of the routine lane.
async fn open_lane(connection: &quinn::Connection) -> Result<(SendStream, FrameReader)> {
    let (mut send, receive) = connection.open_bi().await?;
    let lane = Lane::Routine.number();
    send.write_all(&Frame::LaneOpen(LaneOpen { lane }).encode()?)
        .await?;
    Ok((send, FrameReader::new(receive)))
}

/// Sends a batch and waits for its acknowledgement.
async fn deliver(
    send: &mut SendStream,
    acks: &mut FrameReader,
    batch: Vec<Chunk>,
) -> Result<Sequence> {
    send.write_all(&Frame::Batch(batch).encode()?).await?;
    match acks.next().await? {
        Some(Frame::Ack(Ack { next })) => Ok(next),
        other => anyhow::bail!("{other:?} instead of an acknowledgement"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_versions_names_and_missing_certificates_are_refused_with_the_fix() -> Result<()> {
    let (_directory, hub, agent) = hub_and_identity().await?;
    let mut newer = hello("gw-1")?;
    newer.version = VERSION + 9;
    newer.version_min = VERSION + 8;
    for (hello, code, says) in [
        (newer, "version", "update the older"),
        (hello("gw-2")?, "identity", "the certificate is for gw-1"),
    ] {
        let connection = connect(&hub, &agent, true).await?;
        let (answer, _send, _reader) = greet(&connection, hello).await?;
        let Frame::Refuse(refuse) = answer else {
            anyhow::bail!("{} instead of a refusal", answer.name());
        };
        assert_eq!(refuse.code, code);
        assert!(refuse.message.contains(says), "{}", refuse.message);
        connection.close(0_u32.into(), b"");
        let counted = format!("linli_hub_sessions_total{{outcome=\"{code}\"}}");
        until("the refusal to be counted", async || {
            let refused = metric(&hub.metrics().await?, &counted);
            Ok((refused >= Some(1.0)).then_some(()))
        })
        .await?;
    }
    // Without a certificate nothing is waited for, not even a hello.
    let connection = connect(&hub, &agent, false).await?;
    let closed = connection.closed().await.to_string();
    assert!(closed.contains("join first"), "{closed}");
    // A newer agent that still speaks this version is taken in.
    let mut both = hello("gw-1")?;
    both.version = VERSION + 9;
    let connection = connect(&hub, &agent, true).await?;
    let (answer, _send, _reader) = greet(&connection, both).await?;
    let Frame::Welcome(welcome) = answer else {
        anyhow::bail!("{} instead of a welcome", answer.name());
    };
    assert_eq!(welcome.version, VERSION);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_twice_is_dropped_other_content_is_kept_aside_and_gaps_end_the_session()
-> Result<()> {
    let (_directory, hub, agent) = hub_and_identity().await?;
    let connection = connect(&hub, &agent, true).await?;
    let (answer, mut control, _reader) = greet(&connection, hello("gw-1")?).await?;
    assert!(matches!(answer, Frame::Welcome(_)));
    // A frame of a later version on the control stream is skipped.
    control.write_all(&Frame::Unknown(200).encode()?).await?;
    let (mut send, mut acks) = open_lane(&connection).await?;
    send.write_all(&Frame::Unknown(201).encode()?).await?;
    for (chunk, next) in [
        (chunk(0, &["a", "b"])?, 2),
        // The same again.
        (chunk(0, &["a", "b"])?, 2),
        // The same events in other chunks, and one more.
        (chunk(1, &["b", "c"])?, 3),
        // Other content under the same number, and the same other content again.
        (chunk(1, &["X"])?, 3),
        (chunk(1, &["X"])?, 3),
        (chunk(3, &["d"])?, 4),
    ] {
        let acked = deliver(&mut send, &mut acks, vec![chunk]).await?;
        assert_eq!(acked, Sequence(next));
    }
    let ids: Vec<String> = hub
        .stored()
        .await?
        .into_iter()
        .map(|stored| format!("{}={}", stored.sequence, stored.event.source_id))
        .collect();
    assert_eq!(ids, ["0=a", "1=b", "2=c", "3=d"]);
    let text = hub.metrics().await?;
    assert_eq!(
        metric(&text, "linli_hub_events_quarantined_total"),
        Some(1.0)
    );
    assert_eq!(
        metric(&text, "linli_hub_events_doubled_total{lane=\"routine\"}"),
        Some(4.0)
    );
    let gap = Frame::Batch(vec![chunk(9, &["z"])?]);
    send.write_all(&gap.encode()?).await?;
    let closed = connection.closed().await.to_string();
    assert!(
        closed.contains("sequence 9 came where 4 is wanted"),
        "{closed}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_chunk_is_stored_however_many_chunks_it_takes() -> Result<()> {
    let (_directory, hub, agent) = hub_and_identity().await?;
    let connection = connect(&hub, &agent, true).await?;
    let (_answer, _control, _reader) = greet(&connection, hello("gw-1")?).await?;
    let (mut send, mut acks) = open_lane(&connection).await?;
    let texts: Vec<String> = (0..256)
        .map(|n| format!("{n:03}{}", "-".repeat(90)))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    // As the hub's own builder, which has seen nothing yet, would make them.
    assert!(chunks(&mut ChunkBuilder::new()?, 1, &texts[1..])?.len() > 1);
    let one = chunk(0, &texts)?;
    let front = chunk(0, &texts[..1])?;
    assert_eq!(
        deliver(&mut send, &mut acks, vec![front]).await?,
        Sequence(1)
    );
    assert_eq!(
        deliver(&mut send, &mut acks, vec![one]).await?,
        Sequence(256)
    );
    let stored = hub.stored().await?;
    let ids: Vec<&str> = stored
        .iter()
        .map(|stored| stored.event.source_id.as_str())
        .collect();
    assert_eq!(ids, texts);
    let sequences: Vec<u64> = stored.iter().map(|stored| stored.sequence).collect();
    assert_eq!(sequences, (0..256).collect::<Vec<u64>>());
    let text = hub.metrics().await?;
    let quarantined = metric(&text, "linli_hub_events_quarantined_total");
    assert_eq!(quarantined, Some(0.0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_small_on_the_wire_and_large_in_memory_is_taken_in_parts_and_answered_once()
-> Result<()> {
    let (_directory, hub, agent) = hub_and_identity().await?;
    let connection = connect(&hub, &agent, true).await?;
    let (_answer, _control, _reader) = greet(&connection, hello("gw-1")?).await?;
    let (mut send, mut acks) = open_lane(&connection).await?;
    let same = ["same"; 256];
    let mut batch = Vec::new();
    for number in 0..100 {
        batch.push(chunk(number * 256, &same)?);
    }
    let bytes: usize = batch.iter().map(|chunk| chunk.bytes().len()).sum();
    assert!(bytes < 32 * 1024, "{bytes}");
    let end = Sequence(100 * 256);
    assert_eq!(deliver(&mut send, &mut acks, batch.clone()).await?, end);
    // Exactly one answer came: the next is that of the next frame.
    let next = chunk(end.0, &["last"])?;
    let acked = deliver(&mut send, &mut acks, vec![next]).await?;
    assert_eq!(acked, end.plus(1));
    assert_eq!(
        deliver(&mut send, &mut acks, Vec::new()).await?,
        end.plus(1)
    );
    assert_eq!(hub.stored().await?.len() as u64, end.0 + 1);
    let commits = metric(&hub.metrics().await?, "linli_hub_commit_seconds_count");
    assert!(commits >= Some(12.0), "{commits:?} transactions");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn more_streams_or_lanes_than_there_are_end_the_session_and_count_as_protocol() -> Result<()>
{
    let (_directory, hub, agent) = hub_and_identity().await?;
    let connection = connect(&hub, &agent, true).await?;
    let (_answer, _control, _reader) = greet(&connection, hello("gw-1")?).await?;
    let (mut send, mut acks) = open_lane(&connection).await?;
    deliver(&mut send, &mut acks, vec![chunk(0, &["a"])?]).await?;
    let _second = open_lane(&connection).await?;
    let closed = connection.closed().await.to_string();
    assert!(closed.contains("second stream"), "{closed}");

    let connection = connect(&hub, &agent, true).await?;
    let mut many = hello("gw-1")?;
    let lane = many.lanes[0].clone();
    many.lanes = vec![lane; 17];
    let refused = greet(&connection, many).await;
    assert!(refused.is_err());
    let closed = connection.closed().await.to_string();
    assert!(closed.contains("too many lanes"), "{closed}");

    until("both to be counted", async || {
        let counted = metric(
            &hub.metrics().await?,
            "linli_hub_sessions_total{outcome=\"protocol\"}",
        );
        Ok((counted == Some(2.0)).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_one_site_does_not_take_over_the_name_of_another_sites_agent() -> Result<()> {
    let (directory, hub, agent) = hub_and_identity().await?;
    let address = format!("127.0.0.1:{}", hub.port);
    let token = directory.path().join("token");
    std::fs::write(&token, hub.join_token("binjiang")?)?;
    let mut other = Agent::new(&AgentSetup {
        directory: &directory.path().join("b"),
        name: "gw-1",
        site: "binjiang",
        hub_address: address.clone(),
        listen: "127.0.0.1",
        more: "",
    })?;
    let join = |agent: &Agent| -> Result<std::process::Output> {
        Ok(agent
            .command()?
            .args(["join", &address, "--agent", &agent.name, "--token-file"])
            .arg(&token)
            .output()?)
    };
    let refused = join(&other)?;
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("join under another name"), "{said}");
    // The one that was there is still let in, and the token is still good.
    let connection = connect(&hub, &agent, true).await?;
    let (answer, _send, _reader) = greet(&connection, hello("gw-1")?).await?;
    assert!(matches!(answer, Frame::Welcome(_)));
    other.name = "gw-2".to_owned();
    let joined = join(&other)?;
    assert!(joined.status.success(), "{joined:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_sends_a_station_what_comes_after_its_word_and_no_more_than_may_be_on_its_way()
-> Result<()> {
    let (_directory, hub, agent) = hub_and_identity().await?;
    tell_station(&hub, "gw-1", 100).await?;
    let numbers = async |reader: &mut FrameReader, count: usize| -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            match reader.next().await?.context("a frame")? {
                Frame::CaseStatus(status) => numbers.push(status.id),
                other => anyhow::bail!("{}", other.name()),
            }
        }
        Ok(numbers)
    };
    let silence = Duration::from_millis(700);
    // One that serves no station is sent none.
    let connection = connect(&hub, &agent, true).await?;
    let (_, _send, mut reader) = greet(&connection, hello("gw-1")?).await?;
    assert!(tokio::time::timeout(silence, reader.next()).await.is_err());

    let serving = |stored| -> Result<Hello> {
        Ok(Hello {
            case_status_stored: Some(stored),
            ..hello("gw-1")?
        })
    };
    let connection = connect(&hub, &agent, true).await?;
    let (_, mut send, mut reader) = greet(&connection, serving(0)?).await?;
    let first: Vec<u64> = (1..=32).collect();
    assert_eq!(numbers(&mut reader, 32).await?, first);
    assert!(tokio::time::timeout(silence, reader.next()).await.is_err());
    let mut acknowledge = async |through: u64| -> Result<()> {
        let heartbeat = Heartbeat {
            wall_ms: 1_800_000_000_000,
            watermark_ms: 0,
            spool: Vec::new(),
            case_status_stored: Some(through),
        };
        let bytes = Frame::Heartbeat(heartbeat).encode()?;
        Ok(send.write_all(&bytes).await?)
    };
    acknowledge(10).await?;
    assert_eq!(
        numbers(&mut reader, 10).await?,
        (33..=42).collect::<Vec<_>>()
    );
    // Less than it had said changes nothing.
    acknowledge(3).await?;
    assert!(tokio::time::timeout(silence, reader.next()).await.is_err());

    // Another session: what it had acknowledged does not come again, all else does.
    let connection = connect(&hub, &agent, true).await?;
    let (_, _send, mut reader) = greet(&connection, serving(40)?).await?;
    assert_eq!(
        numbers(&mut reader, 32).await?,
        (41..=72).collect::<Vec<_>>()
    );
    // Its disk was put back: it gets again what it has lost.
    let connection = connect(&hub, &agent, true).await?;
    let (_, _send, mut reader) = greet(&connection, serving(5)?).await?;
    assert_eq!(
        numbers(&mut reader, 32).await?,
        (6..=37).collect::<Vec<_>>()
    );
    Ok(())
}
