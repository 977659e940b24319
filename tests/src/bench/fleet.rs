//! Many agents on one hub: how soon a thousand that come at once are served, and what a held
//! connection costs. The agents are the protocol's own client without a spool: what is measured is
//! the hub.
use anyhow::{Context, Result, bail};
use linli_shared::protocol::chunk::{ChunkBuilder, Packed, Run};
use linli_shared::protocol::event::Draft;
use linli_shared::protocol::frame::{
    Frame, Heartbeat, Hello, LaneOpen, LanePosition, batch_header,
};
use linli_shared::protocol::ids::{AgentId, BootId, Epoch, Lane, Retention, Sequence, SiteId};
use linli_shared::protocol::{ALPN, VERSION};
use linli_shared::service::{clock, link, tls};
use quinn::crypto::rustls::QuicClientConfig;
use rcgen::{CertificateParams, Issuer, KeyPair, SanType, SerialNumber};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sqlx::ConnectOptions;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};

use super::host::{Hosts, Running, Scratch, Side, Usage};
use super::{linli, peers};
use crate::harness::Hub;

/// Agents that come at once.
pub const STORM: usize = 1_000;
/// Agents that are held.
pub const HELD: usize = 5_000;
/// Addresses that they come from.
const ADDRESSES: u8 = 16;
/// How many of the rest connect at once.
const CALM: usize = 64;
/// How long all may take.
const DEADLINE: Duration = Duration::from_secs(120);
const SITE: &str = "bench";
/// From one sign of life to the next while connections are held.
const HEARTBEAT: &str = "15s";
/// For a connection, as the agent has it.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// After a refusal.
const RETRY: Duration = Duration::from_millis(250);

/// What was measured.
pub struct Report {
    /// From the first packet until the last of [`STORM`] agents has its event acknowledged, seconds.
    pub storm_s: f64,
    /// CPU time of the hub for that, seconds.
    pub storm_cpu_s: f64,
    /// Memory of the hub for each of [`HELD`] connections, KiB.
    pub held_kib: f64,
}

fn name(number: usize) -> String {
    format!("gw-{number:05}")
}

/// Sixteen bytes, the first as a serial number's must be.
fn serial(number: usize) -> String {
    format!("40{number:030x}")
}

/// Both measurements.
pub fn run(hosts: &Hosts) -> super::host::Result<Report> {
    let scratch = Scratch::new("fleet")?;
    let hub_files = Hub::listening_on(&scratch.path().join("hub"), &hosts.hub_ip().to_string())?;
    let config = std::fs::read_to_string(hub_files.config())?;
    std::fs::write(hub_files.config(), config.replace("500ms", HEARTBEAT))?;
    admit(&hub_files.database())?;
    let sources = hosts.add_edge_addresses(ADDRESSES)?;
    let mut hub = linli::start_hub(hosts, &hub_files, scratch.path())?;
    let before = Usage::of(hub.pid())?;
    let ca = scratch.path().join("hub/data/ca");
    let mut args = vec![
        "fleet".to_owned(),
        format!("{}:{}", hosts.hub_ip(), hub_files.port),
        ca.display().to_string(),
    ];
    args.extend(sources.iter().map(ToString::to_string));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut fleet = peers::errand(hosts, Side::Edge, "linli-fleet", &args, scratch.path())?;
    let log = scratch.path().join("linli-fleet.log");
    let storm_s = wait_for(&log, "storm", &mut fleet, &mut hub)?;
    let storm_cpu_s = Usage::of(hub.pid())?.cpu_s - before.cpu_s;
    wait_for(&log, "held", &mut fleet, &mut hub)?;
    let held_mb = Usage::of(hub.pid())?.resident_mb - before.resident_mb;
    let mut database = super::latency::Database::open(&hub_files.database(), 0)?;
    let stored = database.events()?;
    if stored != HELD as u64 {
        return Err(format!("{stored} events of {HELD} agents are stored").into());
    }
    Ok(Report {
        storm_s,
        storm_cpu_s,
        held_kib: held_mb * 1e6 / 1024.0 / HELD as f64,
    })
}

/// Takes all agents in, as a join would.
fn admit(database: &Path) -> super::host::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut connection = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(database)
            .connect()
            .await?;
        sqlx::query("BEGIN").execute(&mut connection).await?;
        for number in 0..HELD {
            sqlx::query(
                "INSERT INTO agents (agent, site, serial, joined_ms) VALUES ($1, $2, $3, 0)",
            )
            .bind(name(number))
            .bind(SITE)
            .bind(serial(number))
            .execute(&mut connection)
            .await?;
        }
        sqlx::query("COMMIT").execute(&mut connection).await?;
        Ok(())
    })
}

/// Waits until the fleet says `word`, and gives the number that follows it.
fn wait_for(
    log: &Path,
    word: &str,
    fleet: &mut Running,
    hub: &mut Running,
) -> super::host::Result<f64> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let found = text.lines().find_map(|line| line.strip_prefix(word));
        if let Some(number) = found {
            return Ok(number.trim().parse()?);
        }
        fleet.check()?;
        hub.check()?;
        if Instant::now() > deadline {
            return Err(format!("the fleet was not served in time: {text}").into());
        }
        std::thread::sleep(super::host::POLL);
    }
}

/// The fleet's process: `HUB CA-DIRECTORY SOURCE-ADDRESS…`. Ends when it is killed.
pub fn main(args: &[String]) -> Result<()> {
    let [hub, ca, sources @ ..] = args else {
        bail!("fleet wants HUB CA-DIRECTORY SOURCE-ADDRESS…");
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(fleet(hub.parse()?, Path::new(ca), sources))
}

async fn fleet(hub: SocketAddr, ca: &Path, sources: &[String]) -> Result<()> {
    let root_pem = std::fs::read_to_string(ca.join("root.pem"))?;
    let ca_key = KeyPair::from_pem(&std::fs::read_to_string(ca.join("root.key"))?)?;
    let issuer = Issuer::from_ca_cert_pem(&root_pem, ca_key)?;
    let roots = Arc::new(tls::roots(&ca.join("root.pem"))?);
    // One key for all: making thousands would only cost time.
    let key = KeyPair::generate()?;
    let mut clients = Vec::with_capacity(HELD);
    for number in 0..HELD {
        clients.push(client(number, &issuer, &key, roots.clone())?);
    }
    let mut endpoints = Vec::with_capacity(sources.len());
    for source in sources {
        let socket = link::udp_socket(SocketAddr::new(source.parse()?, 0))?;
        endpoints.push(quinn::Endpoint::new(
            quinn::EndpointConfig::default(),
            None,
            socket,
            Arc::new(quinn::TokioRuntime),
        )?);
    }
    let served = Arc::new((AtomicUsize::new(0), Notify::new()));
    let calm = Arc::new(Semaphore::new(CALM));
    let rest = clients.split_off(STORM);
    let started = Instant::now();
    for (number, config) in clients.into_iter().enumerate() {
        let endpoint = endpoints[number % endpoints.len()].clone();
        tokio::spawn(live(endpoint, hub, number, config, None, served.clone()));
    }
    wait(&served, STORM).await;
    say("storm", started.elapsed().as_secs_f64())?;
    for (number, config) in rest.into_iter().enumerate() {
        let number = number + STORM;
        let endpoint = endpoints[number % endpoints.len()].clone();
        let turn = calm.clone().acquire_owned().await?;
        tokio::spawn(live(
            endpoint,
            hub,
            number,
            config,
            Some(turn),
            served.clone(),
        ));
    }
    wait(&served, HELD).await;
    say("held", HELD as f64)?;
    std::future::pending().await
}

fn say(word: &str, number: f64) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word} {number}")?;
    Ok(out.flush()?)
}

async fn wait(served: &(AtomicUsize, Notify), count: usize) {
    loop {
        let changed = served.1.notified();
        if served.0.load(Ordering::Acquire) >= count {
            return;
        }
        changed.await;
    }
}

fn client(
    number: usize,
    issuer: &Issuer<'_, KeyPair>,
    key: &KeyPair,
    roots: Arc<rustls::RootCertStore>,
) -> Result<quinn::ClientConfig> {
    let agent: AgentId = name(number).parse()?;
    let site: SiteId = SITE.parse()?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.subject_alt_names = vec![SanType::URI(tls::agent_uri(&agent, &site).try_into()?)];
    params.serial_number = Some(SerialNumber::from(hex::decode(serial(number))?));
    let certificate = params.signed_by(key, issuer)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate.der().clone()], key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Gateways that come back after a power cut have no session to resume.
    config.resumption = rustls::client::Resumption::disabled();
    let mut quic = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config)?));
    quic.transport_config(Arc::new(link::transport()));
    Ok(quic)
}

/// One agent: comes until it is taken in, sends an event, and then lives on.
async fn live(
    endpoint: quinn::Endpoint,
    hub: SocketAddr,
    number: usize,
    config: quinn::ClientConfig,
    turn: Option<tokio::sync::OwnedSemaphorePermit>,
    served: Arc<(AtomicUsize, Notify)>,
) {
    let (connection, control) = loop {
        match serve(&endpoint, hub, number, &config).await {
            Ok(open) => break open,
            Err(error) => {
                eprintln!("{}: {error:#}", name(number));
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    drop(turn);
    served.0.fetch_add(1, Ordering::AcqRel);
    served.1.notify_one();
    if let Err(error) = beat(control).await {
        eprintln!("{} is gone: {error:#}", name(number));
    }
    drop(connection);
}

struct Control {
    send: quinn::SendStream,
    reader: link::FrameReader,
    every: Duration,
    _lane: (quinn::SendStream, link::FrameReader),
}

async fn serve(
    endpoint: &quinn::Endpoint,
    hub: SocketAddr,
    number: usize,
    config: &quinn::ClientConfig,
) -> Result<(quinn::Connection, Control)> {
    let connecting = endpoint.connect_with(config.clone(), hub, tls::HUB_NAME)?;
    let connection = tokio::time::timeout(CONNECT_DEADLINE, connecting)
        .await
        .context("no answer")??;
    let (mut send, receive) = connection.open_bi().await?;
    send.write_all(&Frame::Hello(hello(number)?).encode()?)
        .await?;
    let mut reader = link::FrameReader::new(receive);
    let Some(Frame::Welcome(welcome)) = reader.next().await? else {
        bail!("not taken in");
    };
    let (mut lane, receive) = connection.open_bi().await?;
    let open = LaneOpen {
        lane: Lane::Routine.number(),
    };
    lane.write_all(&Frame::LaneOpen(open).encode()?).await?;
    let chunk = chunk()?;
    lane.write_all(&batch_header(chunk.len())).await?;
    lane.write_all(&chunk).await?;
    let mut acks = link::FrameReader::new(receive);
    let Some(Frame::Ack(ack)) = acks.next().await? else {
        bail!("not acknowledged");
    };
    if ack.next != Sequence(1) {
        bail!("acknowledged up to {}", ack.next);
    }
    let control = Control {
        send,
        reader,
        every: Duration::from_millis(welcome.heartbeat_ms),
        _lane: (lane, acks),
    };
    Ok((connection, control))
}

fn hello(number: usize) -> Result<Hello> {
    let wall_ms = clock::wall_ms();
    Ok(Hello {
        version: VERSION,
        version_min: VERSION,
        agent: name(number).parse()?,
        site: SITE.parse()?,
        boot: BootId(1),
        software: "bench".to_owned(),
        monotonic_ms: 1,
        wall_ms,
        wall_set: true,
        anchors: Vec::new(),
        lanes: vec![LanePosition {
            lane: Lane::Routine.number(),
            epoch: Epoch(1),
            first: Sequence(0),
            next: Sequence(1),
        }],
        case_status_stored: None,
    })
}

fn chunk() -> Result<bytes::Bytes> {
    let mut packed = Packed::default();
    let now_ms = clock::wall_ms();
    packed.push(&Draft {
        kind: "device.online",
        occurred_at_ms: now_ms,
        received_at_ms: now_ms,
        ..Draft::default()
    })?;
    let run = Run {
        lane: Lane::Routine,
        retention: Retention::Standard,
        epoch: Epoch(1),
        first: Sequence(0),
        boot: BootId(1),
    };
    let mut chunks = Vec::new();
    ChunkBuilder::new()?.build(run, &packed, &mut chunks)?;
    let chunk = chunks.pop().context("a chunk")?;
    Ok(chunk.bytes().clone())
}

/// Shows that the agent lives until the hub ends the connection.
async fn beat(mut control: Control) -> Result<()> {
    let mut beat = tokio::time::interval(control.every);
    loop {
        // Both arms are cancel-safe.
        tokio::select! {
            _ = beat.tick() => {
                let wall_ms = clock::wall_ms();
                let heartbeat = Heartbeat { wall_ms, watermark_ms: wall_ms, spool: Vec::new(), case_status_stored: None };
                control.send.write_all(&Frame::Heartbeat(heartbeat).encode()?).await?;
            }
            frame = control.reader.next() => {
                frame?.context("the hub ended the control stream")?;
            }
        }
    }
}
