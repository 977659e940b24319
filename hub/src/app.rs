//! The components of the running hub, their dependencies, and the order of shutdown.
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use linli_shared::service::data_dir::{self, DataDirError};
use linli_shared::service::metrics::Registrar;
use linli_shared::service::tls::{self, TlsError};
use linli_shared::service::{file, shutdown, systemd};
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::metrics::ApiMetrics;
use crate::api::{self, Api};
use crate::attachments::files::Files as AttachedFiles;
use crate::attachments::metrics::AttachmentMetrics;
use crate::ca::{self, Authority, CaError, Files};
use crate::case_policy::{CasePolicy, NamedOnly};
use crate::clock_watch::ClockWatch;
use crate::config::Config;
use crate::health::Health;
use crate::ingest::metrics::IngestMetrics;
use crate::ingest::{Ingest, Writer, WriterError};
use crate::listener::metrics::ListenerMetrics;
use crate::listener::{Listener, ListenerError, Sessions, Shared};
use crate::notify::Notifier;
use crate::notify::metrics::NotifyMetrics;
use crate::notify::peer::PeerError;
use crate::oidc::Oidc;
use crate::retention::Floors;
use crate::retention::job::Job;
use crate::retention::metrics::RetentionMetrics;
use crate::rules::{RuleLoader, Rules};
use crate::services::rules::RunningRules;
use crate::services::{CaseParts, Parts, Services, Writes};
use crate::sign_in_audit::Refusals;
use connections::BoundedAcceptor;
use linli_store::sealed::{SealError, Sealer};
use linli_store::{Store, StoreError};
use metrics::ProcessMetrics;
use monitoring::{ApiProbe, Monitoring, Scraped};

mod connections;
pub mod metrics;
mod monitoring;

/// How long parts may take to end.
const GRACE: Duration = Duration::from_secs(10);
/// How long the API waits for requests that are under way.
const REQUESTS_GRACE: Duration = Duration::from_secs(3);
/// How long a client of the API may take to send the head of a request, so that one that says nothing
/// holds no connection.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Requests that one connection of HTTP/2 makes at a time.
const STREAMS_OF_CONNECTION: u32 = 64;
/// The longest head of a request of HTTP/2, bytes.
const HEADER_LIST_BYTES: u32 = 16 * 1024;
/// A connection of HTTP/2 is asked this often whether its peer is there, and closed when it does not answer in time.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_DEADLINE: Duration = Duration::from_secs(20);

/// Why the hub could not start, or ended early.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Rules.
    #[error(transparent)]
    Rules(#[from] linli_shared::service::config::ConfigError),
    /// Certificates.
    #[error("the hub's certificates cannot be used: has `linli-hub init` been run?")]
    Ca(#[from] CaError),
    /// Certificates.
    #[error("the hub's certificates cannot be used: has `linli-hub init` been run?")]
    Tls(#[from] TlsError),
    /// Store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data directory is not this user's.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Another hub runs there.
    #[error("the data directory {0:?} is in use by another process: is the hub already running?")]
    InUse(PathBuf),
    /// The lock cannot be taken.
    #[error("the lock {path:?} cannot be taken: may this user write there?")]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Keys of sealed fields.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Files of cases.
    #[error("{path:?} cannot be read: may this user write there?")]
    Files {
        /// Where they are.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The config does not keep what the rules need.
    #[error("{0}")]
    Retention(String),
    /// The client of the OpenID provider.
    #[error("the client for [oidc] cannot be made")]
    Oidc(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Writer.
    #[error("the writer cannot start")]
    Writer(#[from] WriterError),
    /// A channel.
    #[error(transparent)]
    Channel(#[from] PeerError),
    /// Listener.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// An address cannot be listened on.
    #[error("cannot listen on {what} {address}: is another program there? Change it in the config")]
    Listen {
        /// For what.
        what: &'static str,
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Figures.
    #[error("metrics could not be set up")]
    Metrics(#[from] prometheus::Error),
    /// A part ended by itself.
    #[error("the {part} ended by itself")]
    Ended {
        /// Which.
        part: &'static str,
        /// Why.
        #[source]
        source: Option<io::Error>,
    },
}

/// A hub that is built and has its ports, and does not run yet.
pub struct App {
    listener: Listener,
    writer: Writer,
    notifier: Notifier,
    retention: Job,
    rules: Rules,
    api: Api,
    refusals: Refusals,
    api_listener: TcpListener,
    api_tls: RustlsConfig,
    metrics_listener: TcpListener,
    registrar: Registrar,
    scraped: Scraped,
    probe: ApiProbe,
    stop: CancellationToken,
    store: Store,
    clock: ClockWatch,
    /// Held until the end: one hub has one writer.
    _lock: File,
}

impl App {
    /// Builds everything; nothing runs yet.
    pub async fn build(config: Config) -> Result<Self, AppError> {
        data_dir::prepare(&config.data_dir)?;
        let lock = take_lock(&config.data_dir)?;
        let centre = config.centre();
        let loader = RuleLoader::new(config.rules_dir.clone(), &centre);
        let rules = loader.load()?;
        Floors::of(&rules)
            .check(&config.retention)
            .map_err(AppError::Retention)?;
        loader.warn_of_untold(&rules);
        centre.warn_of_case_notices(&config.case_files.taxonomy);
        let authority = Authority::load(&config.data_dir, config.certificate_days)?;
        let registrar = Registrar::default();
        let metrics = ProcessMetrics::register(&registrar)?;
        let ingest_metrics = IngestMetrics::register(&registrar)?;
        let listener_metrics = ListenerMetrics::register(&registrar)?;
        let notify_metrics = NotifyMetrics::register(&registrar)?;
        let attachment_metrics = AttachmentMetrics::register(&registrar)?;
        let api_metrics = ApiMetrics::register(&registrar)?;
        let files = Files::at(&config.data_dir);
        metrics.certificate("root", ca::not_after_s("root certificate", &files.root)?);
        metrics.certificate("hub", ca::not_after_s("hub certificate", &files.hub)?);
        let store = Store::open(&config.place, false).await?;
        let api_listener = listen("[api] listen", config.api.listen)?;
        let metrics_listener = listen("[metrics] listen", config.metrics.listen)?;
        let stop = CancellationToken::new();
        let (ingest, inbox) = Ingest::channel();
        let sessions = Sessions::default();
        let (clock_publisher, clock) = ClockWatch::channel();
        let listener = Listener::bind(
            &config.data_dir,
            config.listen,
            Shared {
                ingest: ingest.clone(),
                store: store.clone(),
                metrics: listener_metrics.clone(),
                authority,
                announce: config.announce.clone(),
                heartbeat: config.heartbeat.0,
                sessions: sessions.clone(),
                clock: clock.clone(),
            },
        )?;
        let source = source(&files)?;
        let notifier = Notifier::open(
            &config.channels,
            &source,
            &store,
            &ingest,
            &notify_metrics,
            &clock,
        )?;
        let mute_life = centre.mute_life;
        let sites = centre.sites().map(str::to_owned).collect();
        if config.oidc.is_some() {
            api_metrics.oidc_outcomes(&api::OIDC_OUTCOMES);
        }
        let sealer = Arc::new(Sealer::load(&config.data_dir)?);
        let files = AttachedFiles::beside(&config.data_dir, Arc::clone(&sealer));
        files.clear_incoming().map_err(|source| AppError::Files {
            path: files.root().to_owned(),
            source,
        })?;
        let casework = CasePolicy::new(config.case_files.clone(), Arc::clone(&sealer));
        let writer = Writer::open(
            &store,
            rules.clone(),
            centre,
            casework,
            inbox,
            ingest_metrics.clone(),
            (&config.clock, clock_publisher),
        )
        .await?;
        let refusals = Refusals::new(ingest.clone());
        let rules = Rules::new(loader, rules, ingest.clone(), &registrar)?;
        Ok(Self {
            listener,
            writer,
            notifier,
            retention: Job {
                store: store.clone(),
                ingest: ingest.clone(),
                rules: rules.watch(),
                config: config.retention.clone(),
                sealer: Arc::clone(&sealer),
                files: files.clone(),
                metrics: RetentionMetrics::register(&registrar)?,
                attachments: attachment_metrics.clone(),
                clock: clock.clone(),
            },
            rules: rules.clone(),
            api: Api {
                services: Services::new(Parts {
                    store: store.clone(),
                    writes: Writes::Writer(ingest.clone()),
                    rules: RunningRules::Live(Box::new(rules.clone())),
                    named_only: NamedOnly::new(&config.case_files),
                    dispatch: Arc::clone(&config.case_files.dispatch),
                    mute_life,
                    sites,
                    cases: Some(CaseParts::new(
                        sealer,
                        files,
                        config.attachments.clone(),
                        attachment_metrics.clone(),
                    )),
                    refusals: Some(refusals.clone()),
                    clock: clock.clone(),
                }),
                sessions,
                metrics: api_metrics,
                oidc: config
                    .oidc
                    .clone()
                    .map(Oidc::new)
                    .transpose()
                    .map_err(AppError::Oidc)?,
                clock: clock.clone(),
                changes: ingest.changes(),
                stop: stop.clone(),
                streams: Arc::new(Semaphore::new(api::STREAMS_MAX)),
            },
            refusals,
            clock,
            api_listener,
            api_tls: api_tls(&config)?,
            metrics_listener,
            probe: ApiProbe::new(&Files::at(&config.data_dir), config.api.listen)?,
            stop,
            registrar,
            scraped: Scraped {
                process: metrics,
                ingest: ingest_metrics,
                listener: listener_metrics,
                attachments: attachment_metrics,
            },
            store,
            _lock: lock,
        })
    }

    /// Runs until SIGTERM, SIGINT or the end of a part.
    pub async fn run(self) -> Result<(), AppError> {
        let stop = self.stop;
        let health = Health::default();
        let signals = shutdown::on_signal(stop.clone())
            .map_err(|source| ended("signal handler", Some(source)))?;
        let reloads = self
            .rules
            .on_hangup(stop.clone())
            .map_err(|source| ended("reloads", Some(source)))?;
        let mut parts: JoinSet<(&'static str, io::Result<()>)> = JoinSet::new();
        let api_handle = axum_server::Handle::new();
        let api_stop = api_handle.clone();
        let api = api::router(self.api);
        let acceptor = RustlsAcceptor::new(self.api_tls).acceptor(BoundedAcceptor::default());
        let mut api_server = axum_server::from_tcp(self.api_listener)
            .map_err(|source| ended("API", Some(source)))?
            .acceptor(acceptor)
            .handle(api_handle);
        let http = api_server.http_builder();
        http.http1().header_read_timeout(HEAD_DEADLINE);
        http.http2()
            .max_concurrent_streams(STREAMS_OF_CONNECTION)
            .max_header_list_size(HEADER_LIST_BYTES)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_DEADLINE);
        let api_server = api_server.serve(api.into_make_service_with_connect_info::<SocketAddr>());
        let metrics_listener = tokio::net::TcpListener::from_std(self.metrics_listener)
            .map_err(|source| ended("metrics listener", Some(source)))?;
        let metrics_server = axum::serve(
            metrics_listener,
            Monitoring {
                registrar: self.registrar,
                scraped: self.scraped,
                store: self.store,
                clock: self.clock,
                health: health.clone(),
                probe: self.probe,
            }
            .router(),
        )
        .with_graceful_shutdown(stop.clone().cancelled_owned());
        let listener = self
            .listener
            .run(health.part("listener of agents"), stop.clone());
        let notifier = self.notifier.run(health.clone(), stop.clone());
        let retention = self.retention.run(health.part("retention"), stop.clone());
        let refusals = self
            .refusals
            .run(health.part("log of wrong sign-ins"), stop.clone());
        let watchdog = monitoring::watchdog(health.clone(), stop.clone());
        let line = health.part("writer");
        // The writer ends last: when the last session has let go of its handle. It works for milliseconds
        // at a time, so it has a thread of its own and keeps none of the sessions' waiting.
        let runtime = tokio::runtime::Handle::current();
        let writer = tokio::task::spawn_blocking(move || runtime.block_on(self.writer.run(line)));
        parts.spawn(async move { ("listener", listener.await) });
        parts.spawn(async move { ("API", api_server.await) });
        parts.spawn(async move { ("metrics listener", metrics_server.into_future().await) });
        parts.spawn(async move { ("notifier", notifier.await) });
        parts.spawn(async move { ("retention", retention.await) });
        parts.spawn(async move { ("wrong sign-ins", refusals.await) });
        parts.spawn(async move { ("signal handler", signals.await) });
        parts.spawn(async move { ("reloads", reloads.await) });
        parts.spawn(async move { ("watchdog", watchdog.await) });
        systemd::ready("the hub takes agents");
        tracing::info!("the hub runs");
        let mut writer = writer;
        // Both arms are cancel-safe: a JoinSet and a JoinHandle keep their results.
        let first = tokio::select! {
            first = parts.join_next() => match first {
                Some(Ok((part, result))) => ended(part, result.err()),
                _ => ended("task", None),
            },
            result = &mut writer => ended("writer", result.map_err(io::Error::other).and_then(|result| result).err()),
        };
        let outcome = if stop.is_cancelled() {
            Ok(())
        } else {
            Err(first)
        };
        stop.cancel();
        systemd::stopping();
        api_stop.graceful_shutdown(Some(REQUESTS_GRACE));
        let drained = tokio::time::timeout(GRACE, async {
            while parts.join_next().await.is_some() {}
            if !writer.is_finished()
                && let Err(error) = (&mut writer).await
            {
                tracing::error!(%error, "the writer failed");
            }
        })
        .await;
        if drained.is_err() {
            tracing::warn!(
                grace_s = GRACE.as_secs(),
                "some parts did not end in time and are cut off"
            );
        }
        outcome
    }
}

/// The name of this hub for receivers: the hash of its root, which stays as long as its data.
pub fn source(files: &Files) -> Result<String, CaError> {
    let root = ca::root_certificate(files)?;
    Ok(format!(
        "urn:linli:hub:{}",
        hex::encode(&tls::fingerprint(&root)[..8])
    ))
}

fn ended(part: &'static str, source: Option<io::Error>) -> AppError {
    AppError::Ended { part, source }
}

fn listen(what: &'static str, address: std::net::SocketAddr) -> Result<TcpListener, AppError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|source| AppError::Listen {
        what,
        address: address.to_string(),
        source,
    })
}

fn api_tls(config: &Config) -> Result<RustlsConfig, AppError> {
    let files = Files::at(&config.data_dir);
    let mut tls = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::from)?
        .with_no_client_auth()
        .with_single_cert(
            tls::certificates("hub certificate", &files.hub)?,
            tls::private_key("hub key", &files.hub_key)?,
        )
        .map_err(TlsError::from)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(tls)))
}

/// Takes the data directory for this process: two hubs would each decide by windows and positions of
/// their own.
fn take_lock(data_dir: &Path) -> Result<File, AppError> {
    let path = data_dir.join("lock");
    match file::lock(&path) {
        Ok(lock) => lock.ok_or_else(|| AppError::InUse(data_dir.to_owned())),
        Err(source) => Err(AppError::Lock { path, source }),
    }
}
