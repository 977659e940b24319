//! A session that a test speaks by hand, with the identity of an agent that has joined and never runs.
use anyhow::{Context, Result, bail};
use linli_shared::protocol::chunk::{ChunkBuilder, Packed, Run};
use linli_shared::protocol::event::Draft;
use linli_shared::protocol::frame::{
    Ack, Frame, Heartbeat, Hello, LaneOpen, LanePosition, Lost, Welcome,
};
use linli_shared::protocol::ids::{BootId, Epoch, Lane, Retention, Sequence};
use linli_shared::protocol::{ALPN, VERSION};
use linli_shared::service::link::{FrameReader, transport};
use linli_shared::service::tls;
use quinn::SendStream;
use quinn::crypto::rustls::QuicClientConfig;
use std::sync::Arc;

use super::{Agent, Hub, now_ms};

/// The life of its spool.
const EPOCH: Epoch = Epoch(7);

/// A session that is open, with its urgent lane.
pub struct HandMade {
    connection: quinn::Connection,
    control: SendStream,
    _frames: FrameReader,
    lane: SendStream,
    acks: FrameReader,
    builder: ChunkBuilder,
    next: u64,
    /// What the hub said.
    pub welcome: Welcome,
}

impl HandMade {
    /// Opens a session; `hello` may say other things than a good agent does. Its urgent lane begins at `next`.
    pub async fn connect(
        hub: &Hub,
        agent: &Agent,
        site: &str,
        next: u64,
        hello: impl FnOnce(&mut Hello),
    ) -> Result<Self> {
        let identity = agent.data().join("identity");
        let mut config = rustls::ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(tls::roots(&identity.join("root.pem"))?)
            .with_client_auth_cert(
                tls::certificates("certificate", &identity.join("agent.pem"))?,
                tls::private_key("key", &identity.join("agent.key"))?,
            )?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        let mut quic = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?));
        quic.transport_config(Arc::new(transport()));
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse()?)?;
        let address = format!("127.0.0.1:{}", hub.port).parse()?;
        let connection = endpoint.connect_with(quic, address, tls::HUB_NAME)?.await?;
        let mut greeting = Hello {
            version: VERSION,
            version_min: VERSION,
            agent: agent.name.parse()?,
            site: site.parse()?,
            boot: BootId(1),
            software: "hand-made".to_owned(),
            monotonic_ms: 1,
            wall_ms: now_ms(),
            wall_set: true,
            anchors: Vec::new(),
            lanes: vec![LanePosition {
                lane: Lane::Urgent.number(),
                epoch: EPOCH,
                first: Sequence(0),
                next: Sequence(next),
            }],
            case_status_stored: None,
        };
        hello(&mut greeting);
        let (mut control, receive) = connection.open_bi().await?;
        control.write_all(&Frame::Hello(greeting).encode()?).await?;
        let mut frames = FrameReader::new(receive);
        let welcome = match frames.next().await?.context("an answer")? {
            Frame::Welcome(welcome) => welcome,
            other => bail!("{} instead of a welcome", other.name()),
        };
        let (mut lane, receive) = connection.open_bi().await?;
        let open = LaneOpen {
            lane: Lane::Urgent.number(),
        };
        lane.write_all(&Frame::LaneOpen(open).encode()?).await?;
        Ok(Self {
            connection,
            control,
            _frames: frames,
            lane,
            acks: FrameReader::new(receive),
            builder: ChunkBuilder::new()?,
            next,
            welcome,
        })
    }

    /// Delivers events; returns when they are acknowledged.
    pub async fn deliver(&mut self, drafts: &[Draft<'_>]) -> Result<()> {
        let mut packed = Packed::default();
        for draft in drafts {
            packed.push(draft)?;
        }
        let run = Run {
            lane: Lane::Urgent,
            retention: Retention::Standard,
            epoch: EPOCH,
            first: Sequence(self.next),
            boot: BootId(1),
        };
        let mut built = Vec::new();
        self.builder.build(run, &packed, &mut built)?;
        self.next += drafts.len() as u64;
        self.lane.write_all(&Frame::Batch(built).encode()?).await?;
        let acked = self.acknowledged().await?;
        anyhow::ensure!(
            acked == self.next,
            "{acked} is acknowledged, not {}",
            self.next
        );
        Ok(())
    }

    /// Reports a range as lost; what the hub wants next after it.
    pub async fn lose(&mut self, first: u64, end: u64) -> Result<u64> {
        let lost = Lost {
            first: Sequence(first),
            end: Sequence(end),
            reason: "damage".to_owned(),
        };
        self.lane.write_all(&Frame::Lost(lost).encode()?).await?;
        self.next = self.acknowledged().await?;
        Ok(self.next)
    }

    async fn acknowledged(&mut self) -> Result<u64> {
        match self.acks.next().await? {
            Some(Frame::Ack(Ack { next })) => Ok(next.0),
            other => bail!("{other:?} instead of an acknowledgement"),
        }
    }

    /// Says that it lives, and how far it has told everything.
    pub async fn beat(&mut self, wall_ms: i64, watermark_ms: i64) -> Result<()> {
        let heartbeat = Heartbeat {
            wall_ms,
            watermark_ms,
            spool: Vec::new(),
            case_status_stored: None,
        };
        let bytes = Frame::Heartbeat(heartbeat).encode()?;
        Ok(self.control.write_all(&bytes).await?)
    }

    /// Waits until the hub ends the session; why.
    pub async fn closed(&self) -> String {
        self.connection.closed().await.to_string()
    }
}
