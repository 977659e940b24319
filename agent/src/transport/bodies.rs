//! The body of a push, read into memory: bounded in size, in time, and in what all bodies take together.
//!
//! A source with a token is authenticated before its body is read. One that signs its body is not, so its bodies have
//! a memory limit of their own: an attacker who sends unsigned bodies slowly can exhaust only that one.
use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory of the bodies of one room, unless a single one may be larger.
const ROOM_BYTES: usize = 4 << 20;
/// Unit in which room is allotted.
const PIECE_BYTES: usize = 1024;
/// Longest wait of a push for room before it is refused.
const ROOM_DEADLINE: Duration = Duration::from_secs(5);
/// Deadline of a body.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// Whether a push is authenticated before its body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It is, by its token.
    Given,
    /// It is not: the body carries the proof.
    InBody,
}

/// Why a body was refused.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The body is larger than allowed.
    #[error(
        "the body is larger than {bytes_max} bytes: send fewer items in one request, or raise [push] body_max"
    )]
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// The client ended within it.
    #[error("the body was cut off")]
    CutOff(#[source] axum::Error),
    /// The body did not arrive in time.
    #[error("the body did not come within {} s: send fewer items in one request", BODY_DEADLINE.as_secs())]
    TooSlow,
    /// Other bodies fill the room.
    #[error("the agent has as many bodies in memory as it may: send this one again later")]
    Full,
}

impl BodyError {
    /// The outcome that it is counted as, and the status of its answer.
    pub fn outcome(&self) -> (&'static str, StatusCode) {
        match self {
            Self::TooLarge { .. } => ("too_large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::CutOff(_) => ("cut_off", StatusCode::BAD_REQUEST),
            Self::TooSlow => ("too_slow", StatusCode::REQUEST_TIMEOUT),
            Self::Full => ("refused", StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

/// The rooms of all bodies.
pub struct Bodies {
    bytes_max: usize,
    proven: Arc<Semaphore>,
    unproven: Arc<Semaphore>,
}

impl Bodies {
    /// `bytes_max` is the largest size of one body.
    pub fn new(bytes_max: usize) -> Self {
        let room = || Arc::new(Semaphore::new(pieces(ROOM_BYTES.max(bytes_max))));
        Self {
            bytes_max,
            proven: room(),
            unproven: room(),
        }
    }

    /// Reads a body to its end. It occupies its room as long as the returned value lives.
    pub async fn read(
        &self,
        proof: Proof,
        body: Body,
    ) -> Result<(Bytes, OwnedSemaphorePermit), BodyError> {
        let too_large = BodyError::TooLarge {
            bytes_max: self.bytes_max,
        };
        let told = body.size_hint();
        if told.lower() > self.bytes_max as u64 {
            return Err(too_large);
        }
        // Without a length it may become as large as any.
        let bytes_max = told
            .upper()
            .map_or(self.bytes_max, |upper| self.bytes_max.min(upper as usize));
        let room = match proof {
            Proof::Given => &self.proven,
            Proof::InBody => &self.unproven,
        };
        let place = room.clone().acquire_many_owned(pieces(bytes_max) as u32);
        let place = match tokio::time::timeout(ROOM_DEADLINE, place).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) | Err(_) => return Err(BodyError::Full),
        };
        let bytes = tokio::time::timeout(BODY_DEADLINE, whole(body, bytes_max))
            .await
            .map_err(|_| BodyError::TooSlow)??;
        let bytes = bytes.ok_or(too_large)?;
        Ok((bytes, place))
    }
}

fn pieces(bytes: usize) -> usize {
    bytes.div_ceil(PIECE_BYTES)
}

/// Reads a whole body; `None` if it has more than `bytes_max`.
async fn whole(mut body: Body, bytes_max: usize) -> Result<Option<Bytes>, BodyError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(BodyError::CutOff)?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > bytes_max {
            return Ok(None);
        }
        if bytes.is_empty() && body.is_end_stream() {
            return Ok(Some(data));
        }
        if bytes.capacity() == 0 {
            // The rest in one piece if its length is declared: the kernel allots pages as they fill.
            let rest = body.size_hint().exact().unwrap_or(0) as usize;
            bytes.reserve(data.len() + rest.min(bytes_max));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Some(bytes.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::body::Frame;
    use std::collections::VecDeque;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    /// Yields these bytes in order, or an error; then ends.
    struct Pieces(VecDeque<Result<Bytes, &'static str>>);

    impl hyper::body::Body for Pieces {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            match self.0.pop_front() {
                Some(piece) => Poll::Ready(Some(piece.map(Frame::data))),
                None => Poll::Pending,
            }
        }
    }

    fn body<const N: usize>(pieces: [Result<usize, &'static str>; N]) -> Body {
        let pieces = pieces.map(|piece| piece.map(|bytes| Bytes::from(vec![b'x'; bytes])));
        Body::new(Pieces(pieces.into()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_room_sends_a_body_away_and_leaves_the_other_room_open() {
        let bodies = Bodies::new(ROOM_BYTES);
        let whole = || Body::from(vec![b'x'; ROOM_BYTES]);
        let held = bodies.read(Proof::InBody, whole()).await.expect("room");
        let refused = bodies.read(Proof::InBody, whole()).await;
        assert!(matches!(refused, Err(BodyError::Full)));
        assert!(bodies.read(Proof::Given, whole()).await.is_ok());
        drop(held);
        assert!(bodies.read(Proof::InBody, whole()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_too_large_cut_off_or_too_slow_says_which() {
        let bodies = Bodies::new(1024);
        let told = bodies.read(Proof::Given, Body::from(vec![0; 1025])).await;
        assert!(matches!(told, Err(BodyError::TooLarge { bytes_max: 1024 })));
        let untold = bodies.read(Proof::Given, body([Ok(1000), Ok(25)])).await;
        assert!(matches!(untold, Err(BodyError::TooLarge { .. })));
        let cut = bodies
            .read(Proof::Given, body([Ok(10), Err("reset")]))
            .await;
        assert!(matches!(cut, Err(BodyError::CutOff(_))));
        let slow = bodies.read(Proof::Given, body([Ok(1)])).await;
        assert!(matches!(slow, Err(BodyError::TooSlow)));
    }
}
