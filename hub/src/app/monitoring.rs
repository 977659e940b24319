//! What a monitoring system asks: `/metrics`, `/health/livez`, `/health/readyz`, over plain HTTP on an address of its own.
//!
//! `livez` fails where a part is stuck: a restart may help, and systemd's watchdog does it. `readyz` also fails where a
//! part cannot do its work now, or the store or the API does not answer. A clock that the hub does not believe is told
//! and fails neither.
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use linli_shared::service::metrics::{Registrar, TEXT_TYPE};
use linli_shared::service::problem::Problem;
use linli_shared::service::systemd;
use linli_shared::service::tls::{self, TlsError};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::AppError;
use super::metrics::ProcessMetrics;
use crate::attachments::metrics::AttachmentMetrics;
use crate::ca::{self, Files};
use crate::clock_watch::ClockWatch;
use crate::health::Health;
use crate::ingest::metrics::IngestMetrics;
use crate::listener::metrics::ListenerMetrics;
use linli_store::Store;

/// A handshake with the hub's own API takes this long at most.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);
/// A name that every certificate of a hub has.
const PROBE_NAME: &str = "localhost";

/// The metrics that are read from the store at each scrape.
#[derive(Clone)]
pub struct Scraped {
    /// Process, certificates, disk.
    pub process: ProcessMetrics,
    /// The writer.
    pub ingest: IngestMetrics,
    /// Sessions of agents.
    pub listener: ListenerMetrics,
    /// Files of cases.
    pub attachments: AttachmentMetrics,
}

impl Scraped {
    async fn refresh(&self, store: &Store, now_ms: i64) {
        self.process.refresh(store).await;
        self.ingest.refresh(store).await;
        self.attachments.refresh(store).await;
        self.listener.refresh(store, now_ms).await;
    }
}

/// What the answers are made of.
#[derive(Clone)]
pub struct Monitoring {
    /// All metrics.
    pub registrar: Registrar,
    /// Those that are read at a scrape.
    pub scraped: Scraped,
    /// The store.
    pub store: Store,
    /// The hub's clock.
    pub clock: ClockWatch,
    /// The parts.
    pub health: Health,
    /// The API.
    pub probe: ApiProbe,
}

impl Monitoring {
    /// The routes.
    pub fn router(self) -> Router {
        let (metrics, ready, live) = (self.clone(), self.clone(), self);
        Router::new()
            .route(
                "/metrics",
                get(move || async move {
                    let now_ms = metrics.clock.now_ms();
                    metrics.scraped.refresh(&metrics.store, now_ms).await;
                    let text = metrics.registrar.text();
                    text.map(|text| ([(header::CONTENT_TYPE, TEXT_TYPE)], text))
                        .map_err(|error| {
                            let status = StatusCode::INTERNAL_SERVER_ERROR;
                            Problem::new(status, "metrics", error.to_string())
                        })
                        .into_response()
                }),
            )
            .route(
                "/health/livez",
                get(move || async move { live.livez().await }),
            )
            .route(
                "/health/readyz",
                get(move || async move { ready.readyz().await }),
            )
    }

    async fn livez(&self) -> Result<&'static str, Problem> {
        let report = self.health.report().await;
        if report.stuck.is_empty() {
            return Ok("ok\n");
        }
        Err(unavailable("stuck", report.stuck.join("; ")))
    }

    async fn readyz(&self) -> Result<String, Problem> {
        let (report, api) = tokio::join!(self.health.report(), self.probe.ask());
        let mut wrong = report.stuck;
        wrong.extend(report.unready);
        if let Err(why) = api {
            wrong.push(format!("API: {why}"));
        }
        if let Err(error) = sqlx::query("SELECT 1").execute(self.store.readers()).await {
            wrong.push(format!("the store does not answer: {error}"));
        }
        if !wrong.is_empty() {
            return Err(unavailable("not-ready", wrong.join("; ")));
        }
        Ok(match self.clock.doubt() {
            None => "ok\n".to_owned(),
            Some(doubt) => format!(
                "ok\nclock doubtful ({}): {}; retention, expiry and escalation are held\n",
                doubt.as_str(),
                doubt.words()
            ),
        })
    }
}

fn unavailable(kind: &str, detail: String) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, kind, detail)
}

/// Asks the API by a connection of its own: accepting and TLS work.
#[derive(Clone)]
pub struct ApiProbe {
    connector: TlsConnector,
    address: SocketAddr,
}

impl ApiProbe {
    /// For an API that listens on this address with the hub's certificate.
    pub fn new(files: &Files, listen: SocketAddr) -> Result<Self, AppError> {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(ca::root_certificate(files)?)
            .map_err(TlsError::from)?;
        let config = rustls::ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::from)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let address = match listen.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            address: SocketAddr::new(address, listen.port()),
        })
    }

    async fn ask(&self) -> Result<(), String> {
        let name = PROBE_NAME.try_into().map_err(|_| PROBE_NAME.to_owned())?;
        let handshake = async {
            let stream = TcpStream::connect(self.address).await?;
            self.connector.connect(name, stream).await.map(drop)
        };
        match tokio::time::timeout(PROBE_DEADLINE, handshake).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no handshake within {PROBE_DEADLINE:?}")),
        }
    }
}

/// Tells systemd that the hub is alive, as long as no part is stuck.
pub async fn watchdog(health: Health, stop: CancellationToken) -> io::Result<()> {
    let interval = systemd::watchdog_interval();
    loop {
        // Both arms are cancel-safe: the parts are asked anew.
        tokio::select! {
            report = health.report() => {
                if report.stuck.is_empty() {
                    systemd::alive();
                } else {
                    tracing::error!(stuck = report.stuck.join("; "), "parts of the hub are stuck");
                }
            }
            () = stop.cancelled() => return Ok(()),
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}
