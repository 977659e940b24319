//! HTTP/1.1 as the agent serves it to devices, to itself and to Prometheus: every connection is bounded
//! in size and in time, so that no peer can hold memory or a shutdown by sending slowly or not at all.
//!
//! `app` starts one [`serve`] for each listener. A connection ends by itself after [`CONNECTION_AGE_MAX`];
//! at a stop it may answer the request that it has, then it is cut off. [`serve`] returns after the last
//! connection is gone, with everything that its handlers held.
use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use linli_shared::service::problem::Problem;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// From a connection's start, or its last answer, to the end of the next request's head. So it is also
/// how long a connection may idle.
const HEAD_DEADLINE: Duration = Duration::from_secs(15);
/// From the head of a request to its answer. A push bounds its body within it.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);
/// A connection that is older takes no further request. It bounds what no other deadline does: a peer
/// that sends requests and never reads an answer.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);
/// How long connections may take to end at a stop.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// How long, and for how many bytes, the rest of a refused request is read after its answer: a peer that
/// still writes when its connection goes sees a broken pipe and not the answer that names the fix.
const LINGER_DEADLINE: Duration = Duration::from_secs(5);
const LINGER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// What a connection buffers: a head must fit, a body comes in pieces of it.
const BUFFER_BYTES_MAX: usize = 32 * 1024;

/// Serves until `stop`. With `connections_max` open, further ones wait in the kernel's queue until one
/// ends, which the deadlines above see to.
pub async fn serve<L: Listener>(
    mut listener: L,
    router: Router,
    connections_max: usize,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        // All arms are cancel-safe: a connection that is not accepted yet stays in the kernel's queue.
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection ended with a panic");
                }
                continue;
            }
            (stream, _) = listener.accept(), if connections.len() < connections_max => stream,
        };
        connections.spawn(attend(stream, router.clone(), stop.clone()));
    }
    drop(listener);
    let drained = tokio::time::timeout(DRAIN_DEADLINE, async {
        while connections.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        tracing::debug!(
            connections = connections.len(),
            "connections are cut off: they did not end in time"
        );
        connections.shutdown().await;
    }
    Ok(())
}

/// One connection, from its first byte to its end.
async fn attend(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    stop: CancellationToken,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let with_body = !request.body().is_end_stream();
        let answer = router.call(request);
        Box::pin(async move {
            let mut response = in_time(answer).await;
            // What is refused may not have been read to its end, and then this connection takes no other
            // request: who is not told so loses the next one.
            if with_body && !response.status().is_success() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // All arms are cancel-safe: the connection is only polled, and goes on below.
    let ended = tokio::select! {
        ended = poll_fn(|context| connection.poll_without_shutdown(context)) => ended,
        () = async {
            tokio::select! {
                () = tokio::time::sleep(CONNECTION_AGE_MAX) => {}
                () = stop.cancelled() => {}
            }
        } => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            let last = poll_fn(|context| connection.poll_without_shutdown(context));
            tokio::time::timeout(REQUEST_DEADLINE, last).await.unwrap_or(Ok(()))
        }
    };
    let stream = connection.into_parts().io.into_inner();
    match ended {
        // Cancel-safe: what is read is not wanted.
        Ok(()) => {
            tokio::select! {
                () = linger(stream) => {}
                () = stop.cancelled() => {}
            }
        }
        // A peer that goes away or sends what is not HTTP is its own affair.
        Err(error) => tracing::debug!(%error, "a connection ended with an error"),
    }
}

/// A request shows this token, compared in constant time.
pub fn has_token(headers: &HeaderMap, token: &[u8]) -> bool {
    let sent = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .unwrap_or_default();
    bool::from(sent.ct_eq(token))
}

/// Says that nothing more will be written, then reads until the peer is done too.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let ended = async {
        stream.shutdown().await?;
        let mut rest = stream.take(LINGER_BYTES_MAX);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // A peer that is gone, or does not end, has had its answer.
    let _ = tokio::time::timeout(LINGER_DEADLINE, ended).await;
}

/// The router's answer, or one that says that it took too long.
async fn in_time(answer: impl Future<Output = Result<Response, Infallible>>) -> Response {
    match tokio::time::timeout(REQUEST_DEADLINE, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "deadline",
            format!(
                "not done within {} s: the disk may be slow; send the request again",
                REQUEST_DEADLINE.as_secs()
            ),
        )
        .retry_after(10)
        .into_response(),
    }
}
