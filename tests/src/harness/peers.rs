//! Real receivers of notifications: HTTP, SMTP, Alertmanager.
use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinHandle;

use super::{Process, free_tcp_port, http, run, until};

/// Debian's own, which sees the modules of Debian's packages.
const PYTHON: &str = "/usr/bin/python3";

/// One request that a [`Receiver`] has got.
#[derive(Debug, Clone)]
pub struct Received {
    /// Path.
    pub path: String,
    /// Query, decoded.
    pub query: HashMap<String, String>,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: String,
}

impl Received {
    /// A header as text.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| self.body.clone())
    }
}

/// How a [`Receiver`] answers on a path.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Status and body.
    Now(u16, String),
    /// Never.
    Never,
}

#[derive(Default)]
struct Seen {
    received: Vec<Received>,
    replies: HashMap<String, Reply>,
}

/// An HTTP server that remembers what it got. It stops with its handle.
pub struct Receiver {
    /// Its port.
    pub port: u16,
    seen: Arc<Mutex<Seen>>,
    server: JoinHandle<()>,
}

impl Receiver {
    /// Listens on a free port.
    pub async fn start() -> Result<Self> {
        Self::on(free_tcp_port()?).await
    }

    /// Listens on this port. All is taken, as robots say it, until [`Receiver::reply`] says otherwise.
    pub async fn on(port: u16) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let router = Router::new().fallback(take).with_state(seen.clone());
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        let server = tokio::spawn(async move {
            // It ends with the task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { port, seen, server })
    }

    /// From now on, answers this on a path.
    pub fn reply(&self, path: &str, reply: Reply) {
        lock(&self.seen).replies.insert(path.to_owned(), reply);
    }

    /// What it got on a path, in order.
    pub fn received(&self, path: &str) -> Vec<Received> {
        let seen = lock(&self.seen);
        let on_path = |received: &&Received| received.path == path;
        seen.received.iter().filter(on_path).cloned().collect()
    }

    /// All that it got.
    pub fn all(&self) -> Vec<Received> {
        lock(&self.seen).received.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn take(
    State(seen): State<Arc<Mutex<Seen>>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let query = format!("http://x/?{}", uri.query().unwrap_or_default())
        .parse::<reqwest::Url>()
        .map(|url| url.query_pairs().into_owned().collect())
        .unwrap_or_default();
    let reply = {
        let mut seen = lock(&seen);
        seen.received.push(Received {
            path: uri.path().to_owned(),
            query,
            headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        });
        seen.replies.get(uri.path()).cloned()
    };
    match reply {
        None => (
            StatusCode::OK,
            r#"{"errcode":0,"code":0,"errmsg":"ok"}"#.to_owned(),
        ),
        Some(Reply::Now(status, body)) => (
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            body,
        ),
        Some(Reply::Never) => std::future::pending().await,
    }
}

/// A real Alertmanager (Debian's `prometheus-alertmanager`).
pub struct Alertmanager {
    /// Its port.
    pub port: u16,
    _process: Process,
}

impl Alertmanager {
    /// Starts it in a directory and waits until it takes alerts.
    pub async fn start(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let config = directory.join("alertmanager.yml");
        std::fs::write(
            &config,
            "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n",
        )?;
        let port = free_tcp_port()?;
        let mut process = Process::start(
            "alertmanager",
            Command::new("prometheus-alertmanager")
                .arg(format!("--config.file={}", config.display()))
                .arg(format!(
                    "--storage.path={}",
                    directory.join("data").display()
                ))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .arg("--cluster.listen-address="),
            &directory.join("log"),
        )?;
        let client = http().build()?;
        let url = format!("http://127.0.0.1:{port}/-/ready");
        until("Alertmanager to be ready", async || {
            process.check_alive()?;
            let answer = client.get(&url).send().await;
            Ok(answer
                .is_ok_and(|answer| answer.status().is_success())
                .then_some(()))
        })
        .await?;
        Ok(Self {
            port,
            _process: process,
        })
    }

    /// The alerts that are active.
    pub async fn alerts(&self) -> Result<Vec<Value>> {
        let url = format!("http://127.0.0.1:{}/api/v2/alerts", self.port);
        let answer = http().build()?.get(url).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }
}

/// A real SMTP server (Debian's `python3-aiosmtpd`) that keeps what it gets.
pub struct MailServer {
    /// Its port.
    pub port: u16,
    maildir: PathBuf,
    _process: Process,
}

impl MailServer {
    /// Starts it in a directory and waits until it greets.
    pub async fn start(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let maildir = directory.join("mail");
        let port = free_tcp_port()?;
        let mut process = Process::start(
            "aiosmtpd",
            Command::new(PYTHON)
                .args(["-m", "aiosmtpd", "-n", "-l"])
                .arg(format!("127.0.0.1:{port}"))
                .args(["-c", "aiosmtpd.handlers.Mailbox"])
                .arg(&maildir),
            &directory.join("log"),
        )?;
        until("the mail server to listen", async || {
            process.check_alive()?;
            let connected = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
            Ok(connected.is_ok().then_some(()))
        })
        .await?;
        Ok(Self {
            port,
            maildir,
            _process: process,
        })
    }

    /// Headers and text of every mail, decoded.
    pub fn mails(&self) -> Result<Vec<String>> {
        const READ: &str = "import email, email.policy, sys\n\
             for path in sys.argv[1:]:\n\
             \x20   mail = email.message_from_binary_file(open(path, 'rb'), policy=email.policy.default)\n\
             \x20   print('\\n'.join(f'{k}: {v}' for k, v in mail.items()), mail.get_content(), sep='\\n\\n', end='\\0')\n";
        let Ok(entries) = std::fs::read_dir(self.maildir.join("new")) else {
            return Ok(Vec::new());
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        paths.sort();
        let text = run(Command::new(PYTHON)
            .env("PYTHONIOENCODING", "utf-8")
            .args(["-c", READ])
            .args(&paths))?;
        let mails: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
        ensure!(mails.len() == paths.len(), "{text}");
        Ok(mails)
    }
}

/// HMAC-SHA-256.
pub fn hmac(key: &str, message: &str) -> Result<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())?;
    mac.update(message.as_bytes());
    Ok(mac.finalize().into_bytes().to_vec())
}

/// The events of a webhook's message, single or batch, after a look at its signature, which is of now.
pub fn signed_events(received: &Received, secret: &str) -> Result<Vec<Value>> {
    let (signed_s, events) = signed_events_at(received, secret)?;
    let age_s = jiff::Timestamp::now().as_second() - signed_s;
    ensure!((-5..600).contains(&age_s), "signed {age_s} s ago");
    Ok(events)
}

/// The same, whenever it was signed: that, in seconds since 1970, and the events.
pub fn signed_events_at(received: &Received, secret: &str) -> Result<(i64, Vec<Value>)> {
    let (time, tag) = received
        .header("linli-signature")
        .strip_prefix("t=")
        .and_then(|rest| rest.split_once(",v1="))
        .context("a signature")?;
    let signed = hmac(secret, &format!("{time}.{}", received.body))?;
    ensure!(hex::encode(signed) == tag, "the signature is wrong");
    let events = match received.header("content-type") {
        "application/cloudevents+json" => vec![received.json()?],
        "application/cloudevents-batch+json" => {
            received.json()?.as_array().context("a batch")?.clone()
        }
        other => bail!("content type {other}"),
    };
    Ok((time.parse()?, events))
}
