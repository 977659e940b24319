//! A hub against agents that do not behave: other versions, other names, broken order, other content.
use anyhow::{Context, Result};
use linli_shared::protocol::chunk::{Chunk, ChunkBuilder, Packed, Run};
use linli_shared::protocol::event::Draft;
use linli_shared::protocol::frame::{Ack, Frame, Hello, LaneOpen, LanePosition};
use linli_shared::protocol::ids::{BootId, Epoch, Lane, Retention, Sequence};
use linli_shared::protocol::{ALPN, VERSION};
use linli_shared::service::link::{FrameReader, transport};
use linli_shared::service::tls;
use linli_tests::harness::{Agent, Hub, metric, until};
use quinn::SendStream;
use quinn::crypto::rustls::QuicClientConfig;
use std::sync::Arc;
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
    ChunkBuilder::new()?.build(run, &packed, &mut built)?;
    built.pop().context("a chunk")
}

#[tokio::test(flavor = "multi_thread")]
async fn other_versions_names_and_missing_certificates_are_refused_with_the_fix() -> Result<()> {
    let (_directory, hub, agent) = hub_and_identity().await?;
    let mut newer = hello("gw-1")?;
    newer.version = VERSION + 9;
    newer.version_min = VERSION + 8;
    for (hello, certificate, code, says) in [
        (newer, true, "version", "update the older"),
        (
            hello("gw-2")?,
            true,
            "identity",
            "the certificate is for gw-1",
        ),
        (hello("gw-1")?, false, "identity", "join first"),
    ] {
        let connection = connect(&hub, &agent, certificate).await?;
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
    let (mut send, receive) = connection.open_bi().await?;
    let mut acks = FrameReader::new(receive);
    let lane = Lane::Routine.number();
    send.write_all(&Frame::LaneOpen(LaneOpen { lane }).encode()?)
        .await?;
    send.write_all(&Frame::Unknown(201).encode()?).await?;
    for (chunk, next) in [
        (chunk(0, &["a", "b"])?, 2),
        // The same again.
        (chunk(0, &["a", "b"])?, 2),
        // The same events in other chunks, and one more.
        (chunk(1, &["b", "c"])?, 3),
        // Other content under the same number.
        (chunk(1, &["X"])?, 3),
        (chunk(3, &["d"])?, 4),
    ] {
        send.write_all(&Frame::Batch(vec![chunk]).encode()?).await?;
        let ack = acks.next().await?.context("an acknowledgement")?;
        assert_eq!(
            ack,
            Frame::Ack(Ack {
                next: Sequence(next)
            })
        );
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
        Some(3.0)
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
