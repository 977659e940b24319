//! `linli-agent source test NAME`: shows messages of a source live, raw beside normalised, and their errors.
//!
//! If the agent runs, its own source is watched: it shows the stored events. If it does not run, the source is run
//! here for the time of the test, with the agent's spool: an acknowledgement to a device is final.
use http_body_util::BodyExt;
use linli_shared::service::exit::{self, Failure, failure};
use linli_shared::service::{clock, data_dir, output};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::{Status, socket_path};
use crate::app::Spools;
use crate::config::Checked;
use crate::identity::Identity;
use crate::ingest::Shared;
use crate::ingest::live_tap::{LiveLine, Seen};
use crate::ingest::source_status::SourceView;
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::pseudonym::Pseudonyms;
use crate::sources::Sources;
use crate::transport::bodies::Bodies;
use crate::{bind, clock_anchors, http, socket};

/// Lines queued for the screen.
const LINES_MAX: usize = 64;
/// Connections of the push listener during a test.
const CONNECTIONS_MAX: usize = 64;
/// Grace period of the source after the test.
const GRACE: Duration = Duration::from_secs(5);

/// The parameters of a test.
pub struct SourceTest {
    /// Name of the source.
    pub name: String,
    /// Duration.
    pub lasts: Duration,
    /// Number of messages after which it ends.
    pub count: Option<u64>,
    /// Show signs of life with their raw message.
    pub all: bool,
    /// JSON lines.
    pub json: bool,
}

/// An outcome in words, Chinese first.
fn words(outcome: &str) -> String {
    let chinese = match outcome {
        "event" => "事件",
        "heartbeat" => "心跳",
        "repeated" => "重复",
        "left_out" => "略过",
        "rejected" => "无法解析",
        "refused" => "拒收",
        _ => return outcome.to_owned(),
    };
    format!("{chinese} {outcome}")
}

/// Counts of the messages.
#[derive(Default)]
struct Tally {
    messages: u64,
    events: u64,
    rejected: u64,
}

impl SourceTest {
    /// Runs the test; the exit code tells whether any good message arrived.
    pub async fn run(self, checked: Checked) -> Result<u8, Failure> {
        let known = checked
            .sources
            .iter()
            .any(|source| source.settings.name == self.name);
        if !known {
            let names: Vec<&str> = checked
                .sources
                .iter()
                .map(|source| source.settings.name.as_str())
                .collect();
            return Err(Failure {
                text: format!(
                    "no [[source]] of the config has the name {:?}: there are {}",
                    self.name,
                    names.join(", ")
                ),
                code: exit::USAGE,
            });
        }
        let socket = socket_path(&checked.config.data_dir);
        if tokio::net::UnixStream::connect(&socket).await.is_ok() {
            self.watch(&socket).await
        } else {
            self.alone(checked).await
        }
    }

    /// Watches the running agent.
    async fn watch(&self, socket: &Path) -> Result<u8, Failure> {
        let uri = format!("/v1/sources/{}/watch", self.name);
        let mut body = socket::open(socket, &uri)
            .await
            .map_err(|error| failure(exit::UNAVAILABLE)(&error))?;
        let (sender, lines) = mpsc::channel(LINES_MAX);
        let reader = async move {
            let mut rest = Vec::new();
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                rest.extend_from_slice(&data);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    if let Ok(live) = serde_json::from_slice(&line)
                        && sender.send(live).await.is_err()
                    {
                        return;
                    }
                }
            }
        };
        let reader = tokio::spawn(reader);
        let tally = self.show(lines).await;
        reader.abort();
        let bytes = socket::call(socket, hyper::Method::GET, "/v1/status", Vec::new())
            .await
            .map_err(|error| failure(exit::UNAVAILABLE)(&error))?;
        let status: Status =
            serde_json::from_slice(&bytes).map_err(|error| failure(exit::FAILURE)(&error))?;
        if !self.json {
            output::text(format!("{}\n", status.clock_text()).as_bytes());
        }
        let view = status
            .sources
            .into_iter()
            .find(|source| source.name == self.name);
        Ok(self.conclude(&tally, view))
    }

    /// Runs the source here.
    async fn alone(&self, checked: Checked) -> Result<u8, Failure> {
        if !self.json {
            output::text(
                "代理未运行，本命令自行接收 the agent does not run, this command takes what comes itself\n".as_bytes(),
            );
        }
        let Checked {
            config,
            mut pushes,
            mut sources,
            devices,
            ..
        } = checked;
        sources.retain(|source| source.settings.name == self.name);
        pushes.retain(|name, _| *name == self.name);
        data_dir::prepare(&config.data_dir).map_err(|error| failure(exit::IO)(&error))?;
        let listener = TcpListener::bind(config.push.listen)
            .await
            .map_err(|error| Failure {
                text: format!(
                    "cannot listen on [push] listen {}: {error}: {}",
                    config.push.listen,
                    bind::remedy(&error)
                ),
                code: exit::UNAVAILABLE,
            })?;
        let spools = Spools::open(&config).map_err(|error| failure(exit::IO)(&error))?;
        let boot = clock::boot_id().map_err(|error| failure(exit::IO)(&error))?;
        let metrics = Metrics::new().map_err(|error| failure(exit::FAILURE)(&error))?;
        let agent =
            Identity::load(&config.data_dir).map(|identity| identity.agent.agent.to_string());
        let shared = Shared {
            agent: agent.unwrap_or_default().into(),
            down_since_ms: crate::downtime::known_ms(&config.data_dir),
            intake: Intake::new(
                spools.handles.clone(),
                boot,
                clock_anchors::gateway(&config.data_dir, boot),
                metrics.clone(),
            ),
            pending: Default::default(),
            places: Arc::new(devices),
            pseudonyms: Pseudonyms::load(&config.data_dir, &config.pseudonyms, clock::wall_ms()),
            raw: None,
            metrics,
        };
        let bodies = Bodies::new(config.push.body_max.0 as usize);
        let sources = Sources::new(sources, pushes, bodies, &config.data_dir, &shared);
        let keeper = sources.keeper();
        let ingest = sources.ingests().remove(0);
        let mut seen = ingest.tap().subscribe();
        let stop = CancellationToken::new();
        let (routes, running) = sources.start(stop.clone());
        let running = tokio::spawn(running);
        let served = tokio::spawn(http::serve(
            listener,
            routes,
            http::Limits::of_connections(CONNECTIONS_MAX),
            stop.clone(),
        ));
        let (sender, lines) = mpsc::channel(LINES_MAX);
        let first = LiveLine::Standing(ingest.view());
        let reader = tokio::spawn(async move {
            let mut live = first;
            while sender.send(live).await.is_ok() {
                live = match seen.recv().await {
                    Ok(seen) => LiveLine::Message(Seen::clone(&seen)),
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(missed)) => {
                        LiveLine::Missed(missed)
                    }
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                };
            }
        });
        let tally = self.show(lines).await;
        let view = ingest.view();
        stop.cancel();
        reader.abort();
        // A part that does not end in time is cut off: acknowledged events are synced.
        let _ = tokio::time::timeout(GRACE, async { tokio::join!(running, served) }).await;
        drop((ingest, shared));
        tokio::task::block_in_place(|| {
            // First: once the spools are free an agent may start, and read the states.
            keeper.keep_now();
            spools.close();
        });
        Ok(self.conclude(&tally, Some(view)))
    }

    /// Prints messages until the time is over.
    async fn show(&self, mut lines: mpsc::Receiver<LiveLine>) -> Tally {
        let end = Instant::now() + self.lasts;
        let mut tally = Tally::default();
        while let Ok(Some(live)) = tokio::time::timeout_at(end, lines.recv()).await {
            if let LiveLine::Message(seen) = &live {
                tally.messages += 1;
                tally.events += seen.events.len() as u64;
                tally.rejected +=
                    u64::from(matches!(seen.outcome.as_ref(), "rejected" | "refused"));
            }
            output::text(self.line(&live).as_bytes());
            if self.count.is_some_and(|count| tally.messages >= count) {
                break;
            }
        }
        tally
    }

    fn line(&self, live: &LiveLine) -> String {
        if self.json {
            return serde_json::to_string(live).unwrap_or_default() + "\n";
        }
        match live {
            LiveLine::Standing(view) => format!(
                "{}\n观察 {} 秒，触发一次设备以查看 watching for {} s; make the device do something\n",
                view.lines().join("\n"),
                self.lasts.as_secs(),
                self.lasts.as_secs()
            ),
            LiveLine::Missed(missed) => {
                format!("… {missed} 条未显示 messages were too fast to be shown\n")
            }
            LiveLine::Message(seen) => {
                let outcome = words(&seen.outcome);
                if seen.outcome == "heartbeat" && seen.events.is_empty() && !self.all {
                    return format!("{} {outcome}\n", seen.at);
                }
                let mut text = format!("\n{} {outcome}", seen.at);
                if let Some(reason) = &seen.reason {
                    text.push_str(&format!(": {reason}"));
                }
                text.push_str(&format!(
                    "\n  原文 raw:  {}\n",
                    seen.raw.trim_end().replace('\n', "\n             ")
                ));
                for event in &seen.events {
                    text.push_str(&format!("  事件 event: {event}\n"));
                }
                text
            }
        }
    }

    /// Prints the problems, if any.
    fn conclude(&self, tally: &Tally, view: Option<SourceView>) -> u8 {
        let Some(view) = view else {
            return exit::UNAVAILABLE;
        };
        let code = if tally.messages == 0 {
            exit::UNAVAILABLE
        } else if tally.rejected == tally.messages && tally.events == 0 {
            exit::DATA
        } else {
            exit::OK
        };
        if self.json {
            output::text(
                (serde_json::to_string(&LiveLine::Standing(view)).unwrap_or_default() + "\n")
                    .as_bytes(),
            );
            return code;
        }
        let mut text = format!(
            "\n共 {} 条消息，{} 个事件，{} 条无法解析 messages {}, events {}, not readable {}\n",
            tally.messages,
            tally.events,
            tally.rejected,
            tally.messages,
            tally.events,
            tally.rejected
        );
        for line in view.lines() {
            text.push_str(&line);
            text.push('\n');
        }
        for sample in &view.samples {
            text.push_str(&format!(
                "  {} {}\n    {}\n",
                sample.at,
                sample.reason,
                sample.raw.replace('\n', "\n    ")
            ));
        }
        if tally.messages == 0 {
            text.push_str(
                "没有收到消息：检查设备上填写的本机地址和端口、两者之间的防火墙、设备的上报开关，见 configs/devices。\n\
                 No message came: check the address and port of this gateway in the device, firewalls between the two, and that \
                 the device's reporting is on; see configs/devices.\n",
            );
        }
        output::text(text.as_bytes());
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(outcome: &'static str, all: bool) -> String {
        let test = SourceTest {
            name: "s".to_owned(),
            lasts: Duration::ZERO,
            count: None,
            all,
            json: false,
        };
        let mut seen = Seen::new(0, b"the raw message");
        seen.outcome = outcome.into();
        test.line(&LiveLine::Message(seen))
    }

    #[test]
    fn a_sign_of_life_is_one_line_unless_all_is_asked_for() {
        let short = line("heartbeat", false);
        assert_eq!(short.trim().lines().count(), 1, "{short}");
        assert!(short.ends_with("心跳 heartbeat\n"), "{short}");
        for (outcome, all) in [("heartbeat", true), ("left_out", false)] {
            let whole = line(outcome, all);
            assert!(whole.contains("the raw message"), "{whole}");
        }
        assert!(line("rejected", false).contains("无法解析 rejected"));
    }
}
