//! Poison: a request, an event or a due deadline that makes its transaction fail or panic each time.
//!
//! ```text
//! a transaction fails ─▶ does the store take a small write? (recover) ─▶ was it the store? all askers come again
//!                                                                     └▶ else: halves, each in a transaction of its own
//!                                                                        ─▶ the one that fails alone is passed over
//! ```
//!
//! An event that fails alone goes to quarantine with its reason, and its number is passed. A person's request that fails
//! alone is answered with [`Rejection::Poison`]. A deadline that fails alone is left for [`PASSED_OVER_FOR`]. Everything
//! else of the transaction is committed. Whether it was the store is judged by the code of its error ([`Failure::of`]): a
//! full disk, a lost connection or a lock is never taken for poison, for then nothing would be processed.
//!
//! Each failure costs a look at all that correlation needs (`recall`), as after any failed transaction; at most about ten
//! for one poisonous event among 500.
use linli_shared::protocol::chunk::ChunkBuilder;
use linli_shared::service::telemetry;
use std::any::Any;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::unit_of_work::{Due, divided};
use super::{Arrival, Decoded, Rejection, Reply, Request};
use linli_store::StoreError;

/// A deadline that failed is tried again after so long.
const PASSED_OVER_FOR: Duration = Duration::from_secs(600);
/// The longest reason, characters.
const REASON_CHARS_MAX: usize = 300;

/// Why a transaction did not commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In words.
    pub reason: String,
    /// Something in the transaction is the cause, not the store.
    pub is_poison: bool,
}

impl Failure {
    /// Of an error of the store.
    pub fn of(error: &StoreError) -> Self {
        Self {
            reason: bounded(&telemetry::chain(error)),
            is_poison: !error.is_of_the_store(),
        }
    }

    /// Of a panic.
    pub fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("without a message");
        Self {
            reason: bounded(&format!("panic: {text}")),
            is_poison: true,
        }
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(REASON_CHARS_MAX).collect()
}

/// What one transaction is made of.
#[derive(Default)]
pub struct Batch {
    /// Requests, in order.
    pub requests: Vec<Request>,
    /// What time alone brings about.
    pub due: Due,
}

impl Batch {
    /// It is empty.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.due.is_empty()
    }

    /// What it is of, for the log.
    pub fn words(&self) -> String {
        match self.requests.as_slice() {
            [] => format!("deadlines: {}", self.due.names().join(", ")),
            [Request::Arrive { key, arrival, .. }] => {
                let first = match arrival {
                    Arrival::Batch(batch) => batch.first().map(|first| first.chunk.header().first),
                    Arrival::Lost { first, .. } => Some(*first),
                };
                let first = first.map_or(0, |first| first.0);
                format!("{} {} from {first}", key.agent, key.lane)
            }
            [request] => request.name().to_owned(),
            requests => format!("{} requests", requests.len()),
        }
    }

    /// Two halves; `Err`: it cannot be divided.
    pub fn halves(mut self, builder: &mut ChunkBuilder) -> Result<(Self, Self), Box<Self>> {
        if !self.requests.is_empty() && !self.due.is_empty() {
            let due = std::mem::take(&mut self.due);
            let second = Self {
                requests: Vec::new(),
                due,
            };
            return Ok((self, second));
        }
        if self.requests.len() > 1 {
            let second = self.requests.split_off(self.requests.len() / 2);
            let second = Self {
                requests: second,
                due: Due::default(),
            };
            return Ok((self, second));
        }
        if let Some(request) = self.requests.pop() {
            return match divide(request, builder) {
                Ok((first, second)) => Ok((Self::one(first), Self::one(second))),
                Err(request) => Err(Box::new(Self::one(*request))),
            };
        }
        divided(self.due)
            .map(|(first, second)| (Self::of_due(first), Self::of_due(second)))
            .map_err(|due| Box::new(Self::of_due(*due)))
    }

    fn one(request: Request) -> Self {
        Self {
            requests: vec![request],
            due: Due::default(),
        }
    }

    fn of_due(due: Due) -> Self {
        Self {
            requests: Vec::new(),
            due,
        }
    }

    /// Events as they are on the wire: the failed transaction may have corrected their times.
    pub fn decode_again(&mut self) {
        for request in &mut self.requests {
            if let Request::Arrive {
                arrival: Arrival::Batch(batch),
                ..
            } = request
            {
                for decoded in batch.iter_mut().filter(|decoded| decoded.events.is_ok()) {
                    decoded.events = decoded.chunk.events().map_err(|error| error.to_string());
                }
            }
        }
    }

    /// Makes what fails alone harmless; `None`: nothing is left to commit.
    pub fn passed_over(mut self, failure: &Failure, passed: &mut PassedOver) -> Option<Self> {
        passed.add(&self.due);
        match self.requests.pop()? {
            Request::Arrive {
                key,
                site,
                offsets,
                arrival: Arrival::Batch(batch),
                reply,
            } if batch.iter().any(|decoded| decoded.events.is_ok()) => {
                let reason = format!("it makes the hub fail: {}", failure.reason);
                let unreadable = |decoded: Decoded| Decoded {
                    events: Err(reason.clone()),
                    ..decoded
                };
                Some(Self::one(Request::Arrive {
                    key,
                    site,
                    offsets,
                    arrival: Arrival::Batch(batch.into_iter().map(unreadable).collect()),
                    reply,
                }))
            }
            request => {
                request.refuse();
                None
            }
        }
    }
}

/// Divides an arrival by its chunks, then a chunk by its events; the answer goes with the second part.
fn divide(
    request: Request,
    builder: &mut ChunkBuilder,
) -> Result<(Request, Request), Box<Request>> {
    let Request::Arrive {
        key,
        site,
        offsets,
        arrival: Arrival::Batch(mut batch),
        reply,
    } = request
    else {
        return Err(Box::new(request));
    };
    let (first, second) = if batch.len() > 1 {
        let second = batch.split_off(batch.len() / 2);
        (batch, second)
    } else {
        let halves = batch.first().and_then(|decoded| {
            let count = decoded.events.as_ref().map_or(0, Vec::len);
            let first = super::unit_of_work::part(builder, decoded, 0..count / 2).ok()?;
            let second = super::unit_of_work::part(builder, decoded, count / 2..count).ok()?;
            (count > 1).then_some((first, second))
        });
        match halves {
            Some(halves) => halves,
            None => {
                return Err(Box::new(Request::Arrive {
                    key,
                    site,
                    offsets,
                    arrival: Arrival::Batch(batch),
                    reply,
                }));
            }
        }
    };
    // Nobody waits for the position in the middle.
    let (unasked, _) = Reply::channel();
    let arrive = |batch, reply| Request::Arrive {
        key: key.clone(),
        site: site.clone(),
        offsets: offsets.clone(),
        arrival: Arrival::Batch(batch),
        reply,
    };
    Ok((arrive(first, unasked), arrive(second, reply)))
}

/// Deadlines that failed lately.
#[derive(Default)]
pub struct PassedOver(HashMap<String, Instant>);

impl PassedOver {
    fn add(&mut self, due: &Due) {
        for name in due.names() {
            self.0.insert(name, Instant::now());
        }
    }

    /// Whether this one failed lately.
    pub fn has(&self, name: &str) -> bool {
        self.0
            .get(name)
            .is_some_and(|failed| failed.elapsed() < PASSED_OVER_FOR)
    }

    /// Forgets those that are to be tried again.
    pub fn forget_old(&mut self) {
        self.0
            .retain(|_, failed| failed.elapsed() < PASSED_OVER_FOR);
    }
}

impl Request {
    /// What is asked, for the log.
    fn name(&self) -> &'static str {
        match self {
            Self::Arrive { .. } => "events",
            Self::Positions { .. } => "positions",
            Self::Sign { .. } => "a sign of life",
            Self::Join { .. } => "a join",
            Self::Reload { .. } => "a reload of the rules",
            Self::Acknowledge { .. } => "an acknowledgement",
            Self::Mute { .. } | Self::EndMute { .. } => "a mute",
            Self::MoveCase { .. } => "a move of a case",
            Self::Register { .. } => "a registration",
            Self::Attach { .. } | Self::Detach { .. } => "a file of a case",
            Self::Subject { .. } => "a resident's request",
            Self::PeopleChange { .. } => "a change of people or organisations",
            Self::Retention { .. } => "a step of retention",
            Self::Settle { .. } => "an outcome of notices",
            Self::Station { .. } => "an acknowledgement of a station",
            #[cfg(test)]
            Self::TellStation { .. } => "a message to a station",
            #[cfg(test)]
            Self::Panic { .. } => "a panic",
        }
    }

    /// Answers that it makes the hub fail.
    fn refuse(self) {
        fn no<T>(reply: &Reply<T>) {
            reply.send(Err(Rejection::Poison));
        }
        match self {
            Self::Arrive { reply, .. } => no(&reply),
            Self::Positions { reply, .. } => no(&reply),
            Self::Sign { .. } => {}
            Self::Join { reply, .. } => no(&reply),
            Self::Reload { reply, .. } => no(&reply),
            Self::Acknowledge { reply, .. } => no(&reply),
            Self::Mute { reply, .. } => no(&reply),
            Self::EndMute { reply, .. } => no(&reply),
            Self::MoveCase { reply, .. } => no(&reply),
            Self::Register { reply, .. } => no(&reply),
            Self::Attach { reply, .. } => no(&reply),
            Self::Detach { reply, .. } => no(&reply),
            Self::Subject { reply, .. } => no(&reply),
            Self::PeopleChange { reply, .. } => no(&reply),
            Self::Retention { reply, .. } => no(&reply),
            Self::Settle { reply, .. } => no(&reply),
            Self::Station { reply, .. } => no(&reply),
            #[cfg(test)]
            Self::TellStation { reply, .. } => no(&reply),
            #[cfg(test)]
            Self::Panic { reply } => no(&reply),
        }
    }
}
