//! The client of the agent's own Unix socket, for `status` and `import`.
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// The agent answers, or reports an error, earlier than this.
const DEADLINE: Duration = Duration::from_secs(90);

/// Why the running agent gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Nothing listens there.
    #[error("no agent answers at {path:?}: is it running, and may this user open the socket?")]
    Away {
        /// The socket.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The exchange failed.
    #[error("talking to the running agent failed")]
    Http(#[from] hyper::Error),
    /// The agent does not answer.
    #[error("the running agent did not answer within {} s", DEADLINE.as_secs())]
    Silent,
    /// The answer has another format.
    #[error("the answer of the running agent is not understood: is it of another version?")]
    Answer(#[source] serde_json::Error),
    /// The request could not be made.
    #[error("the request to the running agent could not be made")]
    Request(#[from] hyper::http::Error),
    /// The agent refuses.
    #[error("the running agent refuses: {detail}")]
    Refused {
        /// Status.
        status: StatusCode,
        /// The agent's message.
        detail: String,
    },
}

impl SocketError {
    /// Whether the agent is there and busy at the moment.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::SERVICE_UNAVAILABLE)
    }
}

/// Sends a GET whose answer is endless; returns its body, on a connection that lives as long as it is read.
pub async fn open(socket: &Path, uri: &str) -> Result<Incoming, SocketError> {
    let (mut sender, driver) = connect(socket).await?;
    tokio::spawn(driver);
    let request = Request::builder()
        .uri(uri)
        .header("host", "agent")
        .body(Full::new(Bytes::new()))?;
    let answer = tokio::time::timeout(DEADLINE, sender.send_request(request))
        .await
        .map_err(|_| SocketError::Silent)??;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer.into_body());
    }
    let body = answer.into_body().collect().await?.to_bytes();
    Err(refused(status, &body))
}

/// The `detail` of the problem in the answer, or the whole answer if it is none, with its status.
fn refused(status: StatusCode, body: &[u8]) -> SocketError {
    let told: Option<ProblemText> = serde_json::from_slice(body).ok();
    let detail = match told {
        Some(ProblemText { detail }) => detail,
        None => format!("{status} {}", String::from_utf8_lossy(body)),
    };
    SocketError::Refused { status, detail }
}

/// The part of a problem for people.
#[derive(Deserialize)]
struct ProblemText {
    detail: String,
}

async fn connect(
    socket: &Path,
) -> Result<
    (
        SendRequest<Full<Bytes>>,
        Connection<TokioIo<UnixStream>, Full<Bytes>>,
    ),
    SocketError,
> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|source| SocketError::Away {
            path: socket.to_owned(),
            source,
        })?;
    Ok(hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?)
}

/// One request on a connection of its own.
pub async fn call(
    socket: &Path,
    method: Method,
    uri: &str,
    body: Vec<u8>,
) -> Result<Bytes, SocketError> {
    let (mut sender, connection) = connect(socket).await?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "agent")
        .body(Full::new(Bytes::from(body)))?;
    let exchange = tokio::time::timeout(DEADLINE, async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        Ok::<_, hyper::Error>((status, body))
    })
    .await;
    driver.abort();
    let (status, body) = exchange.map_err(|_| SocketError::Silent)??;
    if status.is_success() {
        return Ok(body);
    }
    Err(refused(status, &body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_what_is_wrong_and_no_json() {
        let body =
            br#"{"type":"about:blank","title":"pseudonyms","status":409,"detail":"they are off"}"#;
        let refused = |body| super::refused(StatusCode::CONFLICT, body).to_string();
        assert_eq!(refused(body), "the running agent refuses: they are off");
        let other = refused(b"no JSON");
        assert!(
            other.contains("409") && other.ends_with("no JSON"),
            "{other}"
        );
    }
}
