//! The states of points: what a message reports, compared with what is known. Pure.
//!
//! A state whose event is on its way into the spool is *in flight*: later messages are compared with it and depend on
//! its outcome. Once the event is durable the state is known; if the spool refuses it, the message has no effect.
use crate::intake::Way;

/// The state of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// On.
    pub active: bool,
    /// The state dates from before the device fell silent or the agent was started.
    pub stale: bool,
    /// When the state began, if the source reports it and its messages can arrive out of order.
    pub at_ms: Option<i64>,
    /// When the message arrived that said so, since boot.
    pub arrived_ms: u64,
}

/// A batch on its way into the spool, and the way of an event in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flight {
    /// Number of the batch.
    pub batch: u64,
    /// Lane and retention class; `None`: the state has no event.
    pub way: Option<Way>,
}

/// A state that a message reports; it is known once its event is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Device.
    pub device: String,
    /// Point.
    pub point: String,
    /// On.
    pub active: bool,
    /// When the state began, if messages can arrive out of order.
    pub at_ms: Option<i64>,
    /// When its message arrived, since boot.
    pub arrived_ms: u64,
}

/// Comparison of a reported state with the known one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The state was not known, or has changed.
    Changed,
    /// The state is the same as the durable one or the one in flight.
    Repeated(Option<Flight>),
    /// The state is older than the known one: it gives an event, and the known state stays.
    Late,
    /// The state comes from a snapshot: it becomes known and gives no event.
    Noted,
}

impl Point {
    /// A state from before the start.
    pub fn recalled(active: bool) -> Self {
        Self {
            active,
            stale: true,
            at_ms: None,
            arrived_ms: 0,
        }
    }
}

impl From<&Staged> for Point {
    fn from(staged: &Staged) -> Self {
        Self {
            active: staged.active,
            stale: false,
            at_ms: staged.at_ms,
            arrived_ms: staged.arrived_ms,
        }
    }
}

/// States in flight.
#[derive(Debug, Default)]
pub struct InFlight(Vec<(Flight, Staged)>);

impl InFlight {
    /// Adds a state whose event is on its way into the spool.
    pub fn add(&mut self, flight: Flight, staged: Staged) {
        self.0.push((flight, staged));
    }

    /// The newest state of a point.
    pub fn newest(&self, device: &str, point: &str) -> Option<(Point, Flight)> {
        let mut newest_first = self.0.iter().rev();
        newest_first
            .find(|(_, staged)| staged.device == device && staged.point == point)
            .map(|(flight, staged)| (Point::from(staged), *flight))
    }

    /// Removes the states of a batch and returns them.
    pub fn landed(&mut self, batch: u64) -> Vec<Staged> {
        let landed = self.0.extract_if(.., |(flight, _)| flight.batch == batch);
        landed.map(|(_, staged)| staged).collect()
    }
}

/// Compares a reported state with the known one. From a snapshot (`initial`), a state is news if the known one is
/// different, or if it is on and was on before: nobody listened in between. A state with a time before that of the
/// known one is late, and so is one of a message that arrived earlier and is tried again (`is_retry`).
pub fn compare(
    staged: &Staged,
    known: Option<Point>,
    flight: Option<Flight>,
    initial: bool,
    is_retry: bool,
) -> News {
    match known {
        Some(known) if !known.stale && is_before(staged.at_ms, known.at_ms) => News::Late,
        Some(known) if is_retry && staged.arrived_ms < known.arrived_ms => News::Late,
        Some(known) if known.active == staged.active && !known.stale => News::Repeated(flight),
        Some(known) if initial && !staged.active && !known.active => News::Noted,
        Some(_) => News::Changed,
        None if initial => News::Noted,
        // A point that is off, and was never seen on, may have been on while nobody listened.
        None => News::Changed,
    }
}

/// Whether a state is older than the known one, if both have a time.
pub fn is_before(at_ms: Option<i64>, known_ms: Option<i64>) -> bool {
    at_ms
        .zip(known_ms)
        .is_some_and(|(at_ms, known_ms)| at_ms < known_ms)
}
