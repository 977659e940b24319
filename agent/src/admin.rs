//! The local interface of the agent: a Unix socket for `status` and `import` (only the agent's user and root can open
//! it), and a TCP listener for Prometheus and health checks.
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{Stream, StreamExt};
use linli_shared::protocol::ids::Lane;
use linli_shared::protocol::limits::EVENT_BYTES_MAX;
use linli_shared::service::problem::Problem;
use linli_shared::service::{clock, telemetry};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{broadcast, watch};

use crate::gateway_clock::ClockSource;
use crate::import::GROUP_ROWS;
use crate::ingest::SourceIngest;
use crate::ingest::device_clock;
use crate::ingest::live_tap::{LiveLine, Seen};
use crate::ingest::source_status::SourceView;
use crate::intake::{Intake, Submission, SubmitOutcome, Submitted};
use crate::metrics::Metrics;
use crate::pseudonym::Pseudonyms;
use crate::stations::Stations;
use crate::uplink::UplinkStatus;
use linli_spool::{LaneStatus, Spool};

/// Largest submission of an import, bytes: a group of rows, each as large as an event may be.
const SUBMIT_BYTES_MAX: usize = 4 << 20;
const _: () = assert!(GROUP_ROWS * EVENT_BYTES_MAX < SUBMIT_BYTES_MAX);
/// Largest number of simultaneous socket connections: imports, each with a submission, and people.
pub const SOCKET_CONNECTIONS_MAX: usize = 8;
/// Largest number of simultaneous connections of the metrics listener.
pub const METRICS_CONNECTIONS_MAX: usize = 32;

/// Path of the socket.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("admin.sock")
}

/// State shared by the handlers.
#[derive(Clone)]
pub struct Admin {
    /// Agent and site.
    pub agent: String,
    /// Site.
    pub site: String,
    /// End of the certificate, seconds since 1970 UTC.
    pub cert_not_after_s: i64,
    /// The intake that receives the events.
    pub intake: Intake,
    /// The ingest of each source.
    pub ingests: Arc<[SourceIngest]>,
    /// Pseudonyms.
    pub pseudonyms: Pseudonyms,
    /// Spools.
    pub spools: [Spool; Lane::ALL.len()],
    /// The uplink's state.
    pub uplink: watch::Receiver<UplinkStatus>,
    /// The inbox of the station, if this agent serves one.
    pub stations: Option<Stations>,
    /// The last error of the station's webhook.
    pub station_trouble: watch::Receiver<Option<String>>,
    /// Metrics.
    pub metrics: Metrics,
}

/// The station in [`Status`].
#[derive(Debug, Serialize, Deserialize)]
pub struct StationView {
    /// Messages waiting for the station's system.
    pub waiting: usize,
    /// Bytes of these messages.
    pub bytes: u64,
    /// Arrival of the oldest of them.
    pub oldest: Option<String>,
    /// The last stored number.
    pub stored: u64,
    /// The last number that the station's system has accepted.
    pub delivered: u64,
    /// The last error of the webhook.
    pub last_error: Option<String>,
    /// Why no more messages are stored.
    pub refusing: Option<String>,
}

/// A lane in [`Status`].
#[derive(Debug, Serialize, Deserialize)]
pub struct LaneView {
    /// Lane.
    pub lane: String,
    /// Events waiting for the hub.
    pub events: u64,
    /// Sequence of the next event.
    pub next: u64,
    /// First sequence that the hub has not acknowledged.
    pub acked: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Receipt of the oldest waiting event.
    pub oldest: Option<String>,
    /// Why appends are refused.
    pub refusing: Option<String>,
    /// Events lost by damage or quota since the start.
    pub lost_events: u64,
    /// Damaged generations since the start.
    pub damaged: u64,
}

/// The output of `linli-agent status`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// Agent.
    pub agent: String,
    /// Site.
    pub site: String,
    /// Version.
    pub version: String,
    /// The connected hub.
    pub connected: Option<String>,
    /// Time of the last change of `connected`.
    pub since: String,
    /// When the hub last acknowledged.
    pub last_ack: Option<String>,
    /// Why the last session or try ended.
    pub last_error: Option<String>,
    /// End of the certificate.
    pub cert_not_after: String,
    /// The wall clock is synchronised.
    pub clock_set: bool,
    /// Authority for that.
    #[serde(default)]
    pub clock_source: ClockSource,
    /// How far it is ahead of the hub's, if a hub reported it, milliseconds.
    #[serde(default)]
    pub clock_skew_ms: Option<i64>,
    /// Why personal data are dropped from events, or why their key is an old one.
    #[serde(default)]
    pub pseudonyms: Option<String>,
    /// Lanes.
    pub lanes: Vec<LaneView>,
    /// Sources.
    #[serde(default)]
    pub sources: Vec<SourceView>,
    /// The station, if this agent serves one.
    #[serde(default)]
    pub station: Option<StationView>,
}

impl Status {
    /// The state of this gateway's clock, in words.
    pub fn clock_text(&self) -> String {
        let skew = match self.clock_skew_ms {
            // Differences below a second may be the transit time of the request.
            Some(skew_ms) if skew_ms.abs() < 1000 => "，与中枢一致 as the hub's".to_owned(),
            Some(skew_ms) => {
                let words = device_clock::words(-skew_ms);
                format!("，中枢认为 the hub says: {words}")
            }
            None => "，中枢尚未核对 not compared with a hub yet".to_owned(),
        };
        let state = match (self.clock_set, self.clock_source) {
            (true, ClockSource::Kernel) => "已同步 synchronised (NTP)",
            (true, _) => "已同步 synchronised (中枢 hub)",
            (false, _) => {
                "未同步 not synchronised: 检查 NTP 或时钟电池 check NTP or the clock's battery"
            }
        };
        format!("时钟 clock:    {state}{skew}")
    }

    /// The status for people, Chinese first.
    pub fn text(&self) -> String {
        let mut lines = vec![format!(
            "网关 agent:    {} @ {}  {}",
            self.agent, self.site, self.version
        )];
        lines.push(match &self.connected {
            Some(hub) => format!(
                "中枢 hub:      已连接 connected to {hub} since {}",
                self.since
            ),
            None => format!("中枢 hub:      未连接 not connected since {}", self.since),
        });
        if let Some(error) = &self.last_error {
            lines.push(format!("  最近错误 last error: {error}"));
        }
        lines.push(format!(
            "最近确认 last ack: {}",
            self.last_ack.as_deref().unwrap_or("-")
        ));
        lines.push(format!(
            "证书到期 certificate until: {}",
            self.cert_not_after
        ));
        lines.push(self.clock_text());
        if let Some(trouble) = &self.pseudonyms {
            lines.push(format!("化名 pseudonyms: {trouble}"));
        }
        for lane in &self.lanes {
            lines.push(format!(
                "{:8} 待传 waiting {:>8}  磁盘 disk {:>10} B  最早 oldest {}",
                lane.lane,
                lane.events,
                lane.bytes,
                lane.oldest.as_deref().unwrap_or("-"),
            ));
            if let Some(reason) = &lane.refusing {
                lines.push(format!("  拒收 refusing: {reason}"));
            }
            if lane.lost_events > 0 || lane.damaged > 0 {
                lines.push(format!(
                    "  丢失 lost {} events, 损坏 damaged generations {}",
                    lane.lost_events, lane.damaged
                ));
            }
        }
        lines.extend(self.sources.iter().flat_map(SourceView::lines));
        if let Some(station) = &self.station {
            lines.push(format!(
                "派出所 station: 待交 waiting {}  已交至 delivered up to {} of {}  最早 oldest {}",
                station.waiting,
                station.delivered,
                station.stored,
                station.oldest.as_deref().unwrap_or("-"),
            ));
            if let Some(error) = &station.last_error {
                lines.push(format!("  最近错误 last error: {error}"));
            }
            if let Some(reason) = &station.refusing {
                lines.push(format!("  暂不接收 not storing: {reason}"));
            }
        }
        lines.join("\n") + "\n"
    }
}

impl Admin {
    fn status(&self) -> Status {
        let uplink = self.uplink.borrow().clone();
        Status {
            agent: self.agent.clone(),
            site: self.site.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            connected: uplink.connected,
            since: clock::rfc3339(uplink.since_ms),
            last_ack: uplink.last_ack_ms.map(clock::rfc3339),
            last_error: uplink.last_error,
            cert_not_after: clock::rfc3339(self.cert_not_after_s.saturating_mul(1000)),
            clock_set: self.intake.gateway().is_synchronised(),
            clock_source: self.intake.gateway().source(),
            clock_skew_ms: self.intake.gateway().skew_ms(),
            pseudonyms: self.pseudonyms.trouble(),
            lanes: self
                .spools
                .iter()
                .map(|spool| lane_view(spool.lane(), &spool.status().borrow()))
                .collect(),
            sources: self.ingests.iter().map(SourceIngest::view).collect(),
            station: self.stations.as_ref().map(|stations| {
                let standing = stations.standing().borrow().clone();
                StationView {
                    waiting: standing.waiting,
                    bytes: standing.bytes,
                    oldest: standing.oldest_ms.map(clock::rfc3339),
                    stored: standing.stored,
                    delivered: standing.removed,
                    last_error: self.station_trouble.borrow().clone(),
                    refusing: standing.refusing,
                }
            }),
        }
    }

    /// The routes of the Unix socket.
    pub fn socket_router(self) -> Router {
        Router::new()
            .route("/v1/status", get(status))
            .route("/v1/submit", post(submit))
            .route("/v1/sources/{name}/watch", get(watch_source))
            .route("/v1/pseudonyms/rotate", post(rotate))
            .layer(DefaultBodyLimit::max(SUBMIT_BYTES_MAX))
            .with_state(Arc::new(self))
    }

    /// The routes of the metrics listener.
    pub fn metrics_router(self) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/health/livez", get(|| async { "ok\n" }))
            .route("/health/readyz", get(ready))
            .with_state(Arc::new(self))
    }
}

fn lane_view(lane: Lane, status: &LaneStatus) -> LaneView {
    LaneView {
        lane: lane.to_string(),
        events: status.events(),
        next: status.next.0,
        acked: status.acked.0,
        bytes: status.bytes,
        oldest: status.oldest_ms.map(clock::rfc3339),
        refusing: status.refusing.clone(),
        lost_events: status.lost_events,
        damaged: status.damaged,
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> Json<Status> {
    Json(admin.status())
}

async fn submit(State(admin): State<Arc<Admin>>, body: Bytes) -> Result<Json<Submitted>, Problem> {
    let submission = Submission::decode(&body, admin.intake.gateway()).map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "submission",
            format!(
                "{}: is `linli-agent import` of the same version as the running agent?",
                telemetry::chain(&error)
            ),
        )
    })?;
    admin
        .intake
        .submit(submission)
        .await
        .and_then(SubmitOutcome::whole)
        .map(Json)
        .map_err(|error| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "spool",
                telemetry::chain(&error),
            )
            .retry_after(5)
        })
}

/// Streams messages of a source, live: a line of JSON a message, until the client disconnects.
async fn watch_source(
    State(admin): State<Arc<Admin>>,
    UrlPath(name): UrlPath<String>,
) -> Result<Body, Problem> {
    let ingest = admin.ingests.iter().find(|ingest| ingest.name() == name);
    let Some(ingest) = ingest else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "unknown-source",
            format!("the running agent has no source {name:?}: restart it if its config is newer"),
        ));
    };
    let seen = ingest.tap().subscribe();
    Ok(Body::from_stream(live(ingest.clone(), seen)))
}

/// The source's status first, then its messages.
fn live(
    ingest: SourceIngest,
    seen: broadcast::Receiver<Arc<Seen>>,
) -> impl Stream<Item = Result<String, serde_json::Error>> {
    let standing = futures_util::stream::once(async move { LiveLine::Standing(ingest.view()) });
    let messages = futures_util::stream::unfold(seen, async |mut seen| {
        let live = match seen.recv().await {
            Ok(seen) => LiveLine::Message(Seen::clone(&seen)),
            Err(broadcast::error::RecvError::Lagged(missed)) => LiveLine::Missed(missed),
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        Some((live, seen))
    });
    standing
        .chain(messages)
        .map(|live| Ok(serde_json::to_string(&live)? + "\n"))
}

async fn rotate(State(admin): State<Arc<Admin>>) -> Result<Json<u64>, Problem> {
    let pseudonyms = admin.pseudonyms.clone();
    let failed = |detail: String| Problem::new(StatusCode::CONFLICT, "pseudonyms", detail);
    let number = tokio::task::spawn_blocking(move || pseudonyms.rotate(clock::wall_ms()))
        .await
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(telemetry::chain(&error)))?;
    tracing::info!(number, "pseudonyms have a new key, as was asked for");
    Ok(Json(number))
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Result<impl IntoResponse, Problem> {
    let wall_ms = clock::wall_ms();
    for spool in &admin.spools {
        admin
            .metrics
            .spool(spool.lane(), &spool.status().borrow(), wall_ms);
    }
    if let Some(stations) = &admin.stations {
        let standing = stations.standing();
        let standing = standing.borrow();
        let oldest_age_s = standing
            .oldest_ms
            .map_or(0, |oldest_ms| ((wall_ms - oldest_ms) / 1000).max(0));
        admin.metrics.station(
            standing.waiting,
            standing.bytes,
            oldest_age_s,
            standing.refusing.is_some(),
        );
    }
    for ingest in admin.ingests.iter() {
        ingest.scrape();
    }
    let is_broken = admin.pseudonyms.trouble().is_some();
    admin.metrics.pseudonyms_broken.set(i64::from(is_broken));
    let text = admin.metrics.text().map_err(|error| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "metrics",
            error.to_string(),
        )
    })?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text))
}

/// Ready means: events are accepted. An unreachable hub does not make an agent unready: the spool covers that.
async fn ready(State(admin): State<Arc<Admin>>) -> Result<&'static str, Problem> {
    for spool in &admin.spools {
        if let Some(reason) = &spool.status().borrow().refusing {
            return Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "spool",
                format!("the {} lane refuses events: {reason}", spool.lane()),
            ));
        }
    }
    Ok("ok\n")
}
