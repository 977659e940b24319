//! Request bodies that a handler has answered without reading.
//!
//! A client that still sends when its answer comes would find its connection reset, and would lose the answer or the next
//! request. So the rest of such a body is read before the answer goes out, at most [`DRAIN_BYTES_MAX`] within
//! [`DRAIN_DEADLINE`]; beyond that the answer says `Connection: close`.
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

const DRAIN_BYTES_MAX: usize = 256 << 10;
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);

/// A body whose rest can be read after its handler.
#[derive(Clone)]
struct SharedBody(Arc<Mutex<Body>>);

impl SharedBody {
    fn with<T>(&self, act: impl FnOnce(Pin<&mut Body>) -> T) -> T {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(Pin::new(&mut *body))
    }

    /// Reads the rest. False: it has no end within the bounds.
    async fn drain(&self) -> bool {
        let rest = async {
            let mut left = DRAIN_BYTES_MAX;
            loop {
                match poll_fn(|context| self.with(|body| body.poll_frame(context))).await {
                    None => return true,
                    Some(Err(_)) => return false,
                    Some(Ok(frame)) => {
                        let bytes = frame.data_ref().map_or(0, Bytes::len);
                        match left.checked_sub(bytes) {
                            Some(rest) => left = rest,
                            None => return false,
                        }
                    }
                }
            }
        };
        tokio::time::timeout(DRAIN_DEADLINE, rest)
            .await
            .unwrap_or(false)
    }
}

impl HttpBody for SharedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.with(|body| body.poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.with(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|body| body.size_hint())
    }
}

/// Answers a request, and reads the body that its handler has left.
pub async fn drain(request: Request, next: Next) -> Response {
    // Streams of HTTP/2 end by themselves.
    if request.body().is_end_stream() || request.version() > Version::HTTP_11 {
        return next.run(request).await;
    }
    // A client that waits for permission to send its body has not sent any, and is not asked for it.
    let waits = request.headers().contains_key(header::EXPECT);
    let (head, body) = request.into_parts();
    let body = SharedBody(Arc::new(Mutex::new(body)));
    let mut response = next
        .run(Request::from_parts(head, Body::new(body.clone())))
        .await;
    let is_read = body.is_end_stream() || (!waits && body.drain().await);
    if !is_read {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::http::StatusCode;
    use axum::middleware;
    use axum::routing::post;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    async fn server() -> TcpStream {
        let router = Router::new()
            .route("/refused", post(|| async { StatusCode::FORBIDDEN }))
            .layer(middleware::from_fn(drain));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        TcpStream::connect(address).await.expect("a connection")
    }

    async fn head(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("an answer"));
        }
        String::from_utf8(head).expect("text").to_lowercase()
    }

    #[tokio::test]
    async fn a_connection_goes_on_after_a_body_that_was_not_wanted() {
        let mut stream = server().await;
        for _ in 0..2 {
            let length = 1000;
            let request =
                format!("POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("sent");
            // The body arrives after the handler's answer.
            tokio::task::yield_now().await;
            stream.write_all(&vec![b'x'; length]).await.expect("sent");
            let head = head(&mut stream).await;
            assert!(
                head.contains("403") && !head.contains("connection: close"),
                "{head}"
            );
        }
    }

    #[tokio::test]
    async fn a_body_without_an_end_closes_the_connection_and_says_so() {
        let mut stream = server().await;
        let length = DRAIN_BYTES_MAX * 2;
        let request =
            format!("POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        stream
            .write_all(&vec![b'x'; DRAIN_BYTES_MAX + 1])
            .await
            .expect("sent");
        let head = head(&mut stream).await;
        assert!(
            head.contains("403") && head.contains("connection: close"),
            "{head}"
        );
    }
}
