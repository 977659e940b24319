//! Chargers (充电桩) by OCPP 1.6-J: charge points connect by WebSocket (RFC 6455, subprotocol `ocpp1.6`) to
//! `ws://<gateway>:<port>/<anything>/<id of the charge point>` and report their state. The meaning of messages:
//! [`message`].
//!
//! The agent is a monitor and no billing system: it accepts every request to charge, and keeps no transaction.
//!
//! * Authentication is HTTP Basic with the charge point's id and the source's password (OCPP-J 1.6, § 6.2), if
//!   `password_file` is set: as text, or as the 20 bytes that 40 hexadecimal digits stand for. Ids have no `/`: it
//!   precedes the number of a part. The transport is plain: use it in the compound's own network only.
//! * Text that is not UTF-8 is read in its encoding, or with its bad bytes replaced ([`lenient_frames`]).
//! * A call is answered once its events are durable. While the spool refuses, storing is tried for
//!   [`STORE_DEADLINE`]; then the connection is closed, and the states are requested again when the charge point is
//!   back.
//! * Limits: `connections_max`, those of one address ([`callers`](crate::transport::inbound)), [`MESSAGE_BYTES_MAX`],
//!   [`HANDSHAKE_DEADLINE`], and silence of three heartbeats.

mod lenient_frames;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::{SinkExt, StreamExt};
use linli_shared::service::clock;
use linli_shared::service::config::{ConfigError, Span};
use serde::Deserialize;
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};
use tokio_util::sync::CancellationToken;

use super::{Check, Listens, Source};
use crate::ingest::SourceIngest;
use crate::intake::SubmitError;
use crate::transport::inbound::places::{Peers, Place};
use crate::transport::reconnect::{Ended, catch_panic, run_with_reconnect};
use lenient_frames::LenientFrames;
use linli_devices::device_event::{DecodedMessage, Reject};
use linli_devices::ocpp::message::{self, Message, Reply};
use linli_devices::text;

const SUBPROTOCOL: &str = "ocpp1.6";
/// Largest message.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Deadline from the connection to the end of the handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// How long the spool may refuse before the connection is closed.
const STORE_DEADLINE: Duration = Duration::from_secs(20);
const STORE_RETRY: Duration = Duration::from_secs(1);
/// Deadline for writing an answer.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Length of an AuthorizationKey.
const AUTHORIZATION_KEY_BYTES: usize = 20;
/// Longest id of a charge point.
const CHARGER_BYTES_MAX: usize = 48;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Address where charge points connect.
    listen: SocketAddr,
    /// File with the password of all charge points; without it none is required.
    password_file: Option<PathBuf>,
    /// Heartbeat interval of charge points.
    #[serde(default = "default_heartbeat")]
    heartbeat: Span,
    #[serde(default = "default_connections")]
    connections_max: usize,
    /// Expected charge points; others are accepted too.
    #[serde(default)]
    chargers: Vec<String>,
    /// Accept no others.
    #[serde(default)]
    only_these: bool,
}

fn default_heartbeat() -> Span {
    Span::from_secs(60)
}

fn default_connections() -> usize {
    256
}

pub(crate) struct Ocpp {
    config: Config,
    password: Option<String>,
}

impl Source for Ocpp {
    const TYPE: &'static str = "ocpp";
    type Config = Config;

    fn new(config: Config, check: &Check<'_>) -> Result<Self, ConfigError> {
        if !(1..=4096).contains(&config.connections_max) {
            return Err(check.wrong("connections_max", "must be between 1 and 4096"));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&config.heartbeat.0) {
            return Err(check.wrong("heartbeat", "must be between \"1s\" and \"1d\""));
        }
        if let Some(bad) = config.chargers.iter().find(|id| !is_charger(id)) {
            return Err(check.wrong(
                "chargers",
                format!("{bad:?} has not 1 to {CHARGER_BYTES_MAX} letters, digits and -_.:"),
            ));
        }
        if config.only_these && config.chargers.is_empty() {
            return Err(check.wrong(
                "only_these",
                "would refuse every charge point: list them in chargers, or leave it out",
            ));
        }
        let password = match &config.password_file {
            Some(file) => Some(check.password("password_file", file)?),
            None => None,
        };
        Ok(Self { config, password })
    }

    fn silent_after(&self) -> Option<Duration> {
        Some(self.config.heartbeat.0 * 3)
    }

    fn interval(&self) -> Option<Duration> {
        Some(self.config.heartbeat.0)
    }

    fn listens(&self) -> Vec<Listens> {
        vec![("listen", "tcp", self.config.listen)]
    }

    fn devices(&self) -> Vec<String> {
        self.config.chargers.clone()
    }

    async fn run(self, ingest: SourceIngest, stop: CancellationToken) {
        let shared = Arc::new(self);
        run_with_reconnect(&ingest, &[], &stop, || {
            listen(shared.clone(), ingest.clone())
        })
        .await;
    }
}

fn is_charger(id: &str) -> bool {
    (1..=CHARGER_BYTES_MAX).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}

/// Accepts connections until the listener fails.
async fn listen(source: Arc<Ocpp>, ingest: SourceIngest) -> Ended {
    let address = source.config.listen;
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => {
            return Ended::lost(format!(
                "cannot listen on {address}: {error}: {}",
                crate::bind::remedy(&error)
            ));
        }
    };
    ingest.listens(&format!("ws://{address}"));
    let mut connections = JoinSet::new();
    let peers = Peers::default();
    loop {
        // Both arms are cancel-safe: a connection that is not accepted yet stays in the kernel's queue.
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < source.config.connections_max => {
                match accepted {
                    Ok((stream, peer)) => match Place::take(&peers, peer.ip().to_canonical(), source.config.connections_max) {
                        Some(place) => {
                            let (source, ingest) = (source.clone(), ingest.clone());
                            let peer = peer.ip().to_canonical();
                            connections.spawn(async move {
                                let _place = place;
                                let mut charger = String::new();
                                let ended = catch_panic(&ingest, attend(&source, &ingest, stream, peer, &mut charger)).await;
                                if !charger.is_empty() {
                                    ingest.trouble(&charger, &ended.why);
                                }
                            });
                        }
                        None => ingest.count("too_many_connections", 1),
                    },
                    // Too many files are open: wait until others end.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        }
    }
}

/// Serves one charge point, from its connection to its end; sets its id once that is known.
async fn attend(
    source: &Ocpp,
    ingest: &SourceIngest,
    stream: TcpStream,
    peer: IpAddr,
    charger: &mut String,
) -> Ended {
    let mut why = None;
    #[expect(clippy::result_large_err, reason = "the type is the library's")]
    let check = |request: &Request, mut response: Response| match greet(source, request) {
        Ok(id) => {
            *charger = id;
            response.headers_mut().insert(
                header::SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_static(SUBPROTOCOL),
            );
            Ok(response)
        }
        Err((status, text)) => {
            let mut refusal = ErrorResponse::new(Some(text.clone()));
            *refusal.status_mut() = status;
            why = Some(text);
            Err(refusal)
        }
    };
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MESSAGE_BYTES_MAX);
    config.max_frame_size = Some(MESSAGE_BYTES_MAX);
    let opened = timeout(
        HANDSHAKE_DEADLINE,
        accept_hdr_async_with_config(LenientFrames::new(stream), check, Some(config)),
    );
    let opened = match opened.await {
        Ok(opened) => opened.map_err(|error| why.unwrap_or_else(|| error.to_string())),
        Err(_) => Err("it did not ask for a WebSocket in time".to_owned()),
    };
    match opened {
        Ok(mut socket) => {
            socket.get_mut().opened();
            ingest.error_is_over();
            converse(source, ingest, charger, &mut socket).await
        }
        Err(why) => {
            ingest.count("handshake_failed", 1);
            ingest.refused("handshake_failed", &[], &format!("{peer}: {why}"));
            Ended::lost(why)
        }
    }
}

/// Returns the id of an accepted charge point; else the status of the refusal, and the remedy.
fn greet(source: &Ocpp, request: &Request) -> Result<String, (StatusCode, String)> {
    let last = request.uri().path().rsplit('/').next().unwrap_or_default();
    let id = &*percent_decoded(last);
    if !is_charger(id) {
        let why = "the path does not end with the id of a charge point: set the URL of the charge point to ws://<gateway>:<port>/<id>";
        return Err((StatusCode::NOT_FOUND, why.to_owned()));
    }
    let is_known = source.config.chargers.iter().any(|known| known == id);
    if source.config.only_these && !is_known {
        let why = format!("charge point {id:?} is not among chargers of the source: add it there");
        return Err((StatusCode::NOT_FOUND, why));
    }
    let headers = request.headers();
    if let Some(password) = &source.password {
        let sent = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| basic(value.as_bytes()))
            .unwrap_or_default();
        let is_good = keys(password)
            .iter()
            .any(|key| bool::from(sent.ct_eq(&[id.as_bytes(), b":", key].concat())));
        if !is_good {
            let why = format!(
                "the password of charge point {id:?} is wrong or missing: set the one of password_file (its AuthorizationKey, Basic, user = id)"
            );
            return Err((StatusCode::UNAUTHORIZED, why));
        }
    }
    // Several lines are one list (RFC 9110, § 5.3); names of protocols are compared without case by most servers.
    let is_offered = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case(SUBPROTOCOL));
    if !is_offered {
        let why = format!(
            "charge point {id:?} does not offer the subprotocol {SUBPROTOCOL}: set it to OCPP 1.6-J"
        );
        return Err((StatusCode::BAD_REQUEST, why));
    }
    Ok(id.to_owned())
}

/// The decoded credentials of Basic authentication, whose scheme is case-insensitive.
fn basic(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = value.trim_ascii().split_at_checked(b"basic".len())?;
    let is_basic = scheme.eq_ignore_ascii_case(b"basic") && rest.starts_with(b" ");
    BASE64.decode(rest.trim_ascii()).ok().filter(|_| is_basic)
}

/// The forms in which a charge point may send this password: the text, or, if it is an AuthorizationKey of 40
/// hexadecimal digits, also their 20 bytes (OCPP-J 1.6, § 6.2, and the white paper on security, A00).
fn keys(password: &str) -> Vec<Vec<u8>> {
    let mut keys = vec![password.as_bytes().to_vec()];
    if password.len() == 2 * AUTHORIZATION_KEY_BYTES {
        keys.extend(hex::decode(password).ok());
    }
    keys
}

/// Decodes the escapes of a path segment; invalid ones stay as written.
fn percent_decoded(part: &str) -> Cow<'_, str> {
    if !part.contains('%') {
        return part.into();
    }
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|digits| hex::decode(digits).ok());
        match escaped {
            Some(byte) => {
                bytes.extend(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).map_or(part.into(), Into::into)
}

/// Reads messages and answers them, until the connection ends.
async fn converse(
    source: &Ocpp,
    ingest: &SourceIngest,
    charger: &str,
    socket: &mut WebSocketStream<LenientFrames<TcpStream>>,
) -> Ended {
    let silence = source.config.heartbeat.0 * 3;
    let interval_s = source.config.heartbeat.0.as_secs();
    let first = message::trigger_status(&format!("linli-{}", clock::monotonic_ms()));
    let mut answers = vec![first];
    loop {
        for text in answers.drain(..) {
            match timeout(WRITE_DEADLINE, socket.send(Frame::text(text))).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Ended::lost(format!("the connection broke: {error}")),
                Err(_) => return Ended::lost("the charge point takes no answer"),
            }
        }
        let frame = match timeout(silence, socket.next()).await {
            Err(_) => return Ended::lost(format!("nothing was heard for {} s", silence.as_secs())),
            Ok(None) => return Ended::lost("the charge point ended the connection"),
            Ok(Some(Err(error))) => {
                return Ended::lost(format!("the connection broke: {error}"));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let bytes = match &frame {
            Frame::Text(text) => text.as_bytes(),
            // OCPP-J is text: see [`lenient_frames`]. Some charge points send it in binary frames.
            Frame::Binary(bytes) => bytes,
            Frame::Close(_) => return Ended::lost("the charge point ended the connection"),
            // The library answers these.
            Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_) => continue,
        };
        let text = text::lossy(bytes);
        let until = Instant::now() + STORE_DEADLINE;
        let mut refused = None;
        for message in message::messages(&text) {
            match take(ingest, charger, bytes, message, interval_s, until).await {
                Ok(answer) => answers.extend(answer),
                // A call that the routine lane refuses does not keep an alarm behind it.
                Err(error) => refused = Some(error),
            }
        }
        if let Some(error) = refused {
            return Ended::lost(format!("the spool refuses: {error}"));
        }
    }
}

/// Makes a message durable; returns its answer.
async fn take(
    ingest: &SourceIngest,
    charger: &str,
    raw: &[u8],
    message: Result<Message<'_>, Reject>,
    interval_s: u64,
    until: Instant,
) -> Result<Option<String>, SubmitError> {
    loop {
        let told_ms = ingest.told_ms();
        // A charge point that is not accepted reports no fault, and the answer must have a time: an unsynchronised
        // time is better than a missed alarm.
        let now = clock::rfc3339(told_ms.unwrap_or_else(clock::wall_ms));
        let (said, answer) = match &message {
            // To a question of the agent.
            Ok(Message::Answer) => (Ok(DecodedMessage::heartbeat(charger)), None),
            Ok(Message::Call {
                id,
                action,
                payload,
            }) => {
                let (said, reply) = message::call(charger, action, payload.get(), &now, interval_s);
                let reply = if action.eq_ignore_ascii_case("Heartbeat") && told_ms.is_none() {
                    let why = "the clock of the gateway is not synchronised";
                    Reply::Error("InternalError", why.into())
                } else {
                    reply
                };
                let answer = match reply {
                    Reply::Result(payload) => message::result(id, &payload),
                    Reply::Error(code, text) => message::error(id, code, &text),
                };
                (said, Some(answer))
            }
            Err(reject) => (Err(reject.clone()), None),
        };
        match ingest
            .take(raw, said.map_err(|reject| reject.of(charger)))
            .await
        {
            Ok(_) => return Ok(answer),
            Err(_) if Instant::now() < until => tokio::time::sleep(STORE_RETRY).await,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_text_or_the_bytes_that_its_digits_stand_for() {
        assert_eq!(keys("secret"), [b"secret"]);
        let digits = "a1".repeat(AUTHORIZATION_KEY_BYTES);
        let raw = vec![0xa1; AUTHORIZATION_KEY_BYTES];
        assert_eq!(keys(&digits), [digits.as_bytes().to_vec(), raw]);
        assert_eq!(basic(b"basic YTpi").as_deref(), Some(&b"a:b"[..]));
        assert_eq!(basic(b"Bearer YTpi"), None);
    }

    #[test]
    fn an_id_of_a_path_has_no_slash() {
        assert_eq!(percent_decoded("CP%2D1"), "CP-1");
        assert_eq!(percent_decoded("CP%2f1"), "CP/1");
        assert_eq!(percent_decoded("CP%"), "CP%");
        assert!(is_charger("CP-1") && !is_charger("CP/1") && !is_charger(""));
    }
}
