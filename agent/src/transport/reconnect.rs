//! Sessions with devices and platforms that come and go: opened again after each end, with a growing pause.
//!
//! * A device that refuses the password is asked rarely: many lock an address out after a few wrong tries.
//! * A panic ends only the session that it happens in, and not the agent ([`catch_panic`]): events that were not
//!   stored were not acknowledged, and arrive again.
use futures_util::FutureExt;
use linli_shared::service::backoff::Backoff;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::ingest::SourceIngest;
use linli_shared::service::random;

const FIRST: Duration = Duration::from_millis(500);
const MAX: Duration = Duration::from_secs(60);
/// First pause after a refusal.
const REFUSED_FIRST: Duration = Duration::from_secs(120);
const REFUSED_MAX: Duration = Duration::from_secs(1800);
/// Pause after a panic, before the connection is closed.
const PANIC_PAUSE: Duration = Duration::from_secs(1);
/// A session that lasted this long was good.
const GOOD_AFTER: Duration = Duration::from_secs(30);

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// A retry may succeed in a moment.
    Lost,
    /// The peer refuses our password, certificate or path.
    Refused,
    /// A fault of this program.
    Panicked,
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Names the peer, the error, and the remedy if known.
    pub why: String,
    how: How,
}

impl Ended {
    /// An end after which a retry may succeed in a moment.
    pub fn lost(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            how: How::Lost,
        }
    }

    /// An end that a person must resolve.
    pub fn refused(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            how: How::Refused,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Runs a session or a connection so that a panic ends it, counted and reported as a fault of the program.
///
/// A combinator and no `async fn`, which would hold the session twice: as its argument, and while awaiting it. There
/// are hundreds.
pub fn catch_panic<'f>(
    ingest: &'f SourceIngest,
    session: impl Future<Output = Ended> + Send + 'f,
) -> impl Future<Output = Ended> + Send + 'f {
    // State shared by sessions changes completely in one statement, or is replaced once it is stored.
    AssertUnwindSafe(session)
        .catch_unwind()
        .then(move |ended| async move {
            match ended {
                Ok(ended) => ended,
                Err(_) => panicked(ingest).await,
            }
        })
}

/// The panic itself, with its location, was printed when it began.
async fn panicked(ingest: &SourceIngest) -> Ended {
    tracing::error!(source = ingest.name(), "a session ended with a panic");
    ingest.count("session_panicked", 1);
    // The peer that causes it may return at once: the log must not fill.
    tokio::time::sleep(PANIC_PAUSE).await;
    Ended {
        why: "a fault of this program: please report what its log says of a panic".to_owned(),
        how: How::Panicked,
    }
}

/// Waits for all tasks of a source. Sessions are guarded: a panic outside of them propagates to the source.
pub async fn all(mut tasks: JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// Runs sessions until `stop`: with these devices of a source, or with the source itself if there are none. A session
/// reports by [`SourceIngest::up`] or by its messages that it is connected.
pub async fn run_with_reconnect<F: Future<Output = Ended> + Send>(
    ingest: &SourceIngest,
    devices: &[&str],
    stop: &CancellationToken,
    mut session: impl FnMut() -> F,
) {
    let mut lost = Backoff::new(FIRST, MAX);
    let mut refused = Backoff::new(REFUSED_FIRST, REFUSED_MAX);
    let mut last = String::new();
    while !stop.is_cancelled() {
        let start = Instant::now();
        // A session is dropped at a stop: its unacknowledged events arrive again.
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = catch_panic(ingest, session()) => ended,
        };
        if start.elapsed() >= GOOD_AFTER {
            lost.reset();
            refused.reset();
        }
        if devices.is_empty() {
            ingest.down(&ended.why);
        }
        for device in devices {
            ingest.trouble(device, &ended.why);
        }
        match ended.how {
            How::Lost => ingest.count("session_lost", 1),
            How::Refused => ingest.count("session_refused", 1),
            How::Panicked => {}
        }
        if ended.why != last {
            tracing::warn!(source = ingest.name(), ?devices, why = %ended, "a session ended");
            last.clone_from(&ended.why);
        }
        let pause = match ended.how {
            How::Refused => refused.next(random::jitter()),
            How::Lost | How::Panicked => lost.next(random::jitter()),
        };
        // Both arms are cancel-safe: a sleep and a token.
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
