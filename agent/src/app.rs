//! Builds every component of the running agent with its inputs, and defines the order of shutdown.
use linli_shared::protocol::ids::Lane;
use linli_shared::service::data_dir::{self, DataDirError};
use linli_shared::service::{clock, peer, shutdown, systemd};
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, METRICS_CONNECTIONS_MAX, SOCKET_CONNECTIONS_MAX, socket_path};
use crate::bind;
use crate::clock_anchors::ClockAnchors;
use crate::config::station::Station;
use crate::config::{Checked, Config};
use crate::downtime::{self, Downtime};
use crate::gateway_clock::GatewayClock;
use crate::http;
use crate::identity::{Identity, IdentityError};
use crate::ingest::Shared;
use crate::ingest::raw_log::{self, RawWriter};
use crate::ingest::state_store::StateStore;
use crate::intake::Intake;
use crate::memory;
use crate::metrics::Metrics;
use crate::pending::Pending;
use crate::pseudonym::Pseudonyms;
use crate::sources::{Prepared, Sources};
use crate::start_progress;
use crate::stations::fetch::{self, Fetch};
use crate::stations::webhook::Webhook;
use crate::stations::{Stations, StationsThread};
use crate::transport::bodies::Bodies;
use crate::uplink::{Downlink, Uplink, UplinkStatus};
use linli_spool::{Progress, Spool, SpoolThread, WhenFull};

/// Grace period of the parts.
const GRACE: Duration = Duration::from_secs(10);
/// Deadline of the spools after that. Together with the grace period it is less than the unit's TimeoutStopSec.
const CLOSE_DEADLINE: Duration = Duration::from_secs(15);
/// Longest watch of a source: only this user reaches the socket.
const WATCH_FOR_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Largest number of simultaneous connections of devices and platforms.
const PUSH_CONNECTIONS_MAX: usize = 512;
/// Queued messages of the hub.
const DOWNLINK_MAX: usize = 64;

/// Why the agent could not start, or ended early.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The identity is missing or unusable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A spool could not be opened.
    #[error("the spool cannot be opened")]
    Spool(#[from] linli_spool::OpenError),
    /// An address cannot be listened on.
    #[error("cannot listen on {what} {address}: {}", bind::remedy(source))]
    Listen {
        /// Purpose of the address.
        what: &'static str,
        /// The address.
        address: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The boot id cannot be read.
    #[error("the boot id cannot be read")]
    Boot(#[source] io::Error),
    /// The client of the station's webhook cannot be made.
    #[error("the client of [station] webhook cannot be made")]
    StationClient(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Metrics could not be registered.
    #[error("metrics could not be set up")]
    Metrics(#[from] prometheus::Error),
    /// A spool was not closed in time.
    #[error(
        "the spools were not closed within {} s: a disk hangs; every event that was acknowledged is on disk",
        CLOSE_DEADLINE.as_secs()
    )]
    Close,
    /// A part ended early.
    #[error("the {part} ended by itself")]
    Ended {
        /// The part.
        part: &'static str,
        /// The cause.
        #[source]
        source: Option<io::Error>,
    },
}

/// The spools of all lanes, with their threads.
pub struct Spools {
    /// Handles in the order of [`Lane::ALL`].
    pub handles: [Spool; Lane::ALL.len()],
    threads: Vec<SpoolThread>,
}

impl Spools {
    /// Opens all lanes below the data directory. Blocking.
    pub fn open(config: &Config) -> Result<Self, linli_spool::OpenError> {
        Self::open_lanes(Self::settings(config, &Progress::default()))
    }

    /// Opens all lanes on a thread of its own, and extends systemd's start timeout while that makes progress.
    async fn open_watched(config: &Config) -> Result<Self, AppError> {
        let progress = Progress::default();
        let settings = Self::settings(config, &progress);
        let opening = tokio::task::spawn_blocking(move || Self::open_lanes(settings));
        match start_progress::watch(opening, &progress).await {
            Ok(opened) => Ok(opened?),
            Err(error) => Err(ended(Err(error))),
        }
    }

    fn settings(config: &Config, progress: &Progress) -> [linli_spool::Settings; Lane::ALL.len()] {
        Lane::ALL.map(|lane| linli_spool::Settings {
            directory: config.data_dir.join("spool").join(lane.as_str()),
            lane,
            generation_bytes: config.spool.generation.0,
            quota_bytes: config.spool.share(lane),
            // Alarms still find room when routine events of doors have filled the disk.
            free_bytes_min: match lane {
                Lane::Urgent => config.spool.free_min.0 / 2,
                Lane::Routine | Lane::Media => config.spool.free_min.0,
            },
            seen_max: config.spool.seen_max,
            when_full: if lane == Lane::Routine {
                config.spool.routine_when_full
            } else {
                WhenFull::Refuse
            },
            progress: progress.clone(),
        })
    }

    fn open_lanes(
        settings: [linli_spool::Settings; Lane::ALL.len()],
    ) -> Result<Self, linli_spool::OpenError> {
        let mut threads = Vec::new();
        let mut open = |settings: linli_spool::Settings| {
            let (handle, thread) = Spool::open(settings)?;
            threads.push(thread);
            Ok::<_, linli_spool::OpenError>(handle)
        };
        let [urgent, routine, media] = settings;
        let handles = [open(urgent)?, open(routine)?, open(media)?];
        Ok(Self { handles, threads })
    }

    /// Ends the thread of one lane: later requests are refused. Blocking.
    #[cfg(test)]
    pub fn close_lane(&mut self, lane: Lane) {
        self.threads.remove(usize::from(lane.number())).close();
    }

    /// Ends the threads even if handles remain, and waits until everything is on disk. Blocking.
    pub fn close(self) {
        for thread in self.threads {
            thread.close();
        }
    }
}

/// A built agent that listens and does not run yet.
pub struct App {
    push_listener: TcpListener,
    metrics_listener: TcpListener,
    socket: UnixListener,
    socket_path: PathBuf,
    sources: Sources,
    raw: RawWriter,
    admin: Admin,
    uplink: Uplink,
    alive: Downtime,
    anchors: ClockAnchors,
    downlink: mpsc::Receiver<Downlink>,
    spools: Spools,
    station: Option<Served>,
    metrics: Metrics,
}

/// The parts that serve a station.
struct Served {
    handle: Stations,
    thread: StationsThread,
    webhook: Option<Webhook>,
    fetch: Option<Fetch>,
}

impl Served {
    /// Opens the inbox; connects to nothing.
    fn open(
        data_dir: &Path,
        station: Station,
        agent: &str,
        metrics: &Metrics,
        trouble: watch::Sender<Option<String>>,
    ) -> Result<Self, AppError> {
        let (handle, thread) = Stations::open(data_dir, station.limits)
            .map_err(|source| ended(Ok(("inbox of the station", Err(source)))))?;
        let webhook = match station.target {
            Some(target) => {
                let user_agent = concat!("linli-agent/", env!("CARGO_PKG_VERSION"));
                let client =
                    peer::client(target.roots, user_agent).map_err(AppError::StationClient)?;
                Some(Webhook::new(
                    client,
                    target.url,
                    &target.secret,
                    agent,
                    handle.clone(),
                    metrics.clone(),
                    trouble,
                ))
            }
            None => None,
        };
        let fetch = station.token.map(|token| Fetch {
            stations: handle.clone(),
            token,
            metrics: metrics.clone(),
        });
        Ok(Self {
            handle,
            thread,
            webhook,
            fetch,
        })
    }
}

impl App {
    /// Builds everything; nothing runs yet.
    pub async fn build(checked: Checked) -> Result<Self, AppError> {
        let Checked {
            config,
            pushes,
            sources,
            devices,
            station,
        } = checked;
        data_dir::prepare(&config.data_dir)?;
        let identity = Identity::load(&config.data_dir)?;
        let metrics = Metrics::new()?;
        metrics.cert_not_after.set(identity.agent.not_after_s);
        let boot = clock::boot_id().map_err(AppError::Boot)?;
        let push_listener = listen("[push] listen", config.push.listen).await?;
        let metrics_listener = listen("[metrics] listen", config.metrics.listen).await?;
        let spools = Spools::open_watched(&config).await?;
        let agent = identity.agent.agent.to_string();
        let (trouble, station_trouble) = watch::channel(None);
        let station = match station {
            Some(station) => Some(Served::open(
                &config.data_dir,
                station,
                &agent,
                &metrics,
                trouble,
            )?),
            None => None,
        };
        let stations = station.as_ref().map(|station| station.handle.clone());
        let socket_path = socket_path(&config.data_dir);
        let socket = bind_socket(&socket_path)?;
        let gateway = GatewayClock::default();
        let intake = Intake::new(
            spools.handles.clone(),
            boot,
            gateway.clone(),
            metrics.clone(),
        );
        let (anchors, anchors_seen) =
            ClockAnchors::load(&config.data_dir, boot, gateway.clone(), metrics.clone());
        let (uplink_status, uplink_seen) = watch::channel(UplinkStatus::default());
        let (downlink_sender, downlink) = mpsc::channel(DOWNLINK_MAX);
        let pending = Pending::default();
        let (raw_log, raw) = raw_log::open(
            &config.data_dir,
            keep_raw_for(&sources),
            config.spool.free_min.0,
            metrics.raw_dropped.clone(),
        );
        let shared = Shared {
            agent: agent.as_str().into(),
            down_since_ms: downtime::known_ms(&config.data_dir),
            intake: intake.clone(),
            pending: pending.clone(),
            places: Arc::new(devices),
            pseudonyms: Pseudonyms::load(&config.data_dir, &config.pseudonyms, clock::wall_ms()),
            raw: Some(raw_log),
            metrics: metrics.clone(),
        };
        let bodies = Bodies::new(config.push.body_max.0 as usize);
        let sources = Sources::new(sources, pushes, bodies, &config.data_dir, &shared);
        sources.keeper().remove_others();
        let admin = Admin {
            agent,
            ingests: sources.ingests().into(),
            pseudonyms: shared.pseudonyms,
            site: identity.agent.site.to_string(),
            cert_not_after_s: identity.agent.not_after_s,
            intake: intake.clone(),
            spools: spools.handles.clone(),
            uplink: uplink_seen,
            stations: stations.clone(),
            station_trouble,
            metrics: metrics.clone(),
        };
        let addresses = if config.hub.addresses.is_empty() {
            identity.hubs.clone()
        } else {
            config.hub.addresses.clone()
        };
        let alive = Downtime::load(&config.data_dir, boot, intake.clone(), &pending);
        let uplink = Uplink {
            identity,
            addresses,
            spools: spools.handles.clone(),
            sent: Default::default(),
            pending: pending.clone(),
            gateway: gateway.clone(),
            anchors: anchors_seen,
            stations,
            downlink: downlink_sender,
            metrics: metrics.clone(),
            status: uplink_status,
        };
        Ok(Self {
            push_listener,
            metrics_listener,
            socket,
            socket_path,
            sources,
            raw,
            admin,
            uplink,
            alive,
            anchors,
            downlink,
            spools,
            station,
            metrics,
        })
    }

    /// Runs until SIGTERM, SIGINT or the end of a part.
    pub async fn run(mut self) -> Result<(), AppError> {
        let stop = CancellationToken::new();
        let signals = shutdown::on_signal(stop.clone())
            .map_err(|source| ended(Ok(("signal handler", Err(source)))))?;
        // Before this process answers anything.
        self.alive.tell_first().await;
        let mut parts: JoinSet<(&'static str, io::Result<()>)> = JoinSet::new();
        let watchdog = watchdog(
            self.spools.handles.clone(),
            self.admin.uplink.clone(),
            stop.clone(),
        );
        let agent = self.admin.agent.clone();
        let mut station_thread = None;
        let mut fetch = None;
        if let Some(station) = self.station {
            station_thread = Some(station.thread);
            fetch = station.fetch;
            if let Some(webhook) = station.webhook {
                let webhook = webhook.run(stop.clone());
                parts.spawn(async move { ("station webhook", webhook.await) });
            }
        }
        let keeper = self.sources.keeper();
        let (routes, sources) = self.sources.start(stop.clone());
        let push = http::serve(
            self.push_listener,
            routes.merge(fetch::router(fetch)),
            http::Limits::of_connections(PUSH_CONNECTIONS_MAX),
            stop.clone(),
        );
        let socket = http::serve(
            self.socket,
            self.admin.clone().socket_router(),
            http::Limits {
                connections_max: SOCKET_CONNECTIONS_MAX,
                age_max: WATCH_FOR_MAX,
            },
            stop.clone(),
        );
        let metrics = http::serve(
            self.metrics_listener,
            self.admin.metrics_router(),
            http::Limits::of_connections(METRICS_CONNECTIONS_MAX),
            stop.clone(),
        );
        let uplink = self.uplink.run(stop.clone());
        let alive = self.alive.run(stop.clone());
        let anchors = self.anchors.run(stop.clone());
        let downlink = act(self.downlink, self.metrics, stop.clone());
        let raw = self.raw.run(stop.clone());
        let memory = memory::run(stop.clone());
        parts.spawn(async move { ("push listener", push.await) });
        parts.spawn(async move { ("sources", sources.await) });
        parts.spawn(async move { ("raw messages", raw.await) });
        parts.spawn(async move { ("admin socket", socket.await) });
        parts.spawn(async move { ("metrics listener", metrics.await) });
        parts.spawn(async move { ("uplink", uplink.await) });
        parts.spawn(async move { ("sign of life", alive.await) });
        parts.spawn(async move { ("clock", anchors.await) });
        parts.spawn(async move { ("downlink", downlink.await) });
        parts.spawn(async move { ("memory", memory.await) });
        parts.spawn(async move { ("signal handler", signals.await) });
        parts.spawn(async move { ("watchdog", watchdog.await) });
        systemd::ready(&format!("agent {agent} takes events"));
        tracing::info!(agent, "the agent runs");
        let mut outcome = Ok(());
        if let Some(first) = parts.join_next().await
            && !stop.is_cancelled()
        {
            outcome = Err(ended(first));
        }
        stop.cancel();
        systemd::stopping();
        let drained = tokio::time::timeout(GRACE, async {
            while let Some(part) = parts.join_next().await {
                if let Ok((part, Err(error))) = part {
                    tracing::warn!(part, %error, "ended with an error");
                }
            }
        })
        .await;
        if drained.is_err() {
            tracing::warn!(
                grace_s = GRACE.as_secs(),
                "some parts did not end in time and are cut off"
            );
            parts.shutdown().await;
        }
        let closed = close(self.spools, station_thread, keeper).await;
        // It is made again at the next start; a stale one is harmless.
        let _ = std::fs::remove_file(&self.socket_path);
        outcome.and(closed)
    }
}

/// The retention of raw messages by source.
fn keep_raw_for(sources: &[Prepared]) -> HashMap<String, Duration> {
    let settings = sources.iter().map(|prepared| &prepared.settings);
    settings
        .map(|settings| (settings.name.clone(), settings.keep_raw_for))
        .collect()
}

/// Closes the spools and keeps the states of points on a thread of its own, which may outlive the deadline on a
/// hanging disk: the process ends anyway.
async fn close(
    spools: Spools,
    station: Option<StationsThread>,
    keeper: StateStore,
) -> Result<(), AppError> {
    let (done, closed) = oneshot::channel();
    std::thread::spawn(move || {
        spools.close();
        if let Some(station) = station {
            station.close();
        }
        keeper.keep_now();
        // After the deadline there is no receiver.
        let _ = done.send(());
    });
    match tokio::time::timeout(CLOSE_DEADLINE, closed).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(AppError::Close),
    }
}

fn ended(part: Result<(&'static str, io::Result<()>), tokio::task::JoinError>) -> AppError {
    match part {
        Ok((part, result)) => AppError::Ended {
            part,
            source: result.err(),
        },
        Err(error) => AppError::Ended {
            part: "task",
            source: Some(io::Error::other(error)),
        },
    }
}

async fn listen(
    what: &'static str,
    address: std::net::SocketAddr,
) -> Result<TcpListener, AppError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| AppError::Listen {
            what,
            address: address.to_string(),
            source,
        })
}

fn bind_socket(path: &Path) -> Result<UnixListener, AppError> {
    let failed = |source| AppError::Listen {
        what: "the admin socket",
        address: path.display().to_string(),
        source,
    };
    // The spool's lock proves that no other agent runs here, so an existing socket is a leftover.
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    // Until the mode is set, the data directory denies access to others.
    let socket = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(socket)
}

/// Handles messages of the hub. Case states arrive here only if no station is served, from a hub that ignores that in
/// the hello, and are logged; commands are refused by name, so that a newer hub notices.
async fn act(
    mut downlink: mpsc::Receiver<Downlink>,
    metrics: Metrics,
    stop: CancellationToken,
) -> io::Result<()> {
    loop {
        // Both arms are cancel-safe.
        let message = tokio::select! {
            message = downlink.recv() => message,
            () = stop.cancelled() => return Ok(()),
        };
        match message {
            Some(Downlink::Case(status)) => {
                tracing::info!(
                    case = status.case,
                    state = status.state,
                    source = status.source,
                    source_id = status.source_id,
                    "a case has changed"
                );
            }
            Some(Downlink::Command(command)) => {
                metrics.unknown_frames.inc();
                tracing::warn!(
                    command = command.name,
                    "a command that this version does not know"
                );
            }
            None => {
                stop.cancelled().await;
                return Ok(());
            }
        }
    }
}

/// Reports the agent to systemd as alive, as long as every spool thread answers and the uplink's loop runs. Ends with
/// an error, and the agent with it, when a spool thread is gone.
async fn watchdog(
    spools: [Spool; Lane::ALL.len()],
    uplink: watch::Receiver<UplinkStatus>,
    stop: CancellationToken,
) -> io::Result<()> {
    let interval = systemd::watchdog_interval();
    let mut uplink_rounds = u64::MAX;
    loop {
        let pulse = async {
            for spool in &spools {
                let mut status = spool.status();
                let before = status.borrow_and_update().rounds;
                spool.tick().await;
                // Ends when the thread has answered; an error means that it never will.
                status
                    .wait_for(|status| status.rounds > before)
                    .await
                    .map_err(|_| {
                        io::Error::other(format!(
                            "the thread of the {} spool is gone",
                            spool.lane()
                        ))
                    })?;
            }
            Ok::<_, io::Error>(())
        };
        // Both arms are cancel-safe.
        tokio::select! {
            answered = pulse => answered?,
            () = stop.cancelled() => return Ok(()),
        }
        let rounds = uplink.borrow().rounds;
        if rounds != uplink_rounds {
            systemd::alive();
        }
        uplink_rounds = rounds;
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}
