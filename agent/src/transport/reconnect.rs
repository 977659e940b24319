//! Sessions with devices and platforms that come and go: connected again and again, with a pause that grows.
//!
//! * A device that says no to the password is asked seldom: many lock an address out after a few wrong tries.
//! * A panic costs the session that it happens in, no other and not the agent ([`catch_panic`]): what was not stored was not
//!   answered, and comes again.
use futures_util::FutureExt;
use linli_shared::service::backoff::Backoff;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::ingest::SourceIngest;
use crate::random;

const FIRST: Duration = Duration::from_millis(500);
const MAX: Duration = Duration::from_secs(60);
/// After a refusal.
const REFUSED_FIRST: Duration = Duration::from_secs(120);
const REFUSED_MAX: Duration = Duration::from_secs(1800);
/// After a panic, before a connection is given up.
const PANIC_PAUSE: Duration = Duration::from_secs(1);
/// A session that lived as long had been good.
const GOOD_AFTER: Duration = Duration::from_secs(30);

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// It may work in a moment.
    Lost,
    /// The peer does not want us as we are: a password, a certificate, a path.
    Refused,
    /// By a fault of ours.
    Panicked,
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Names the peer, what went wrong, and what to do where that is known.
    pub why: String,
    how: How,
}

impl Ended {
    /// It may work in a moment.
    pub fn lost(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            how: How::Lost,
        }
    }

    /// It works when somebody has changed something.
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

/// Runs a session or a connection so that a panic is its end, counted and told as what it is: a fault to be mended.
///
/// A combinator and no `async fn`, which would hold the session twice: in its argument, and where it waits for it. There are
/// hundreds.
pub fn catch_panic<'f>(
    ingest: &'f SourceIngest,
    session: impl Future<Output = Ended> + Send + 'f,
) -> impl Future<Output = Ended> + Send + 'f {
    // What sessions share changes whole in one statement, or is put in place of what was once it is stored.
    AssertUnwindSafe(session)
        .catch_unwind()
        .then(move |ended| async move {
            match ended {
                Ok(ended) => ended,
                Err(_) => panicked(ingest).await,
            }
        })
}

/// The panic itself, with its place, was printed when it began.
async fn panicked(ingest: &SourceIngest) -> Ended {
    tracing::error!(source = ingest.name(), "a session ended with a panic");
    ingest.count("session_panicked", 1);
    // Who makes it happen may come again at once: the log is not to be filled.
    tokio::time::sleep(PANIC_PAUSE).await;
    Ended {
        why: "a fault of this program: please report what its log says of a panic".to_owned(),
        how: How::Panicked,
    }
}

/// Waits for all tasks of a source. Sessions are guarded: a panic beside them goes on in the source.
pub async fn all(mut tasks: JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// Runs sessions until `stop`: of these devices of a source, or of the source itself where there are none. A session
/// says by [`SourceIngest::up`] or by its messages that it is there.
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
        // A session is dropped at a stop: what its device was not answered for comes again.
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
