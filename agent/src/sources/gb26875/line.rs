//! Messages of hosts, from bytes to answers.
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use linli_shared::service::clock;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::hosts::Hosts;
use crate::ingest::IngestBatch;
use crate::transport::inbound::{Line, Out, Rest};
use linli_devices::device_event::Reject;
use linli_devices::gb26875::answer::{self, Answer};
use linli_devices::gb26875::frame::{Address, Frame, Framer, Head, Piece};
use linli_devices::gb26875::map;
use linli_devices::gb26875::unit::Unit;

/// Least time between two settings of a host's clock.
const CLOCK_EVERY: Duration = Duration::from_secs(600);
/// Hosts of a connection whose clocks are watched.
const CLOCKS_MAX: usize = 1024;
/// Serial of the agent's own frames: at most one is on its way.
const OWN_SERIAL: u16 = 0;

/// Reads a connection, or datagrams.
pub(crate) struct HostLine {
    framer: Framer,
    peer: Option<IpAddr>,
    hosts: Arc<Hosts>,
    zone: TimeZone,
    set_clock_beyond: Option<Duration>,
    /// When the clock of a host was set last, milliseconds since boot.
    clocks: HashMap<Address, u64>,
}

impl HostLine {
    /// Sets clocks that are off by more than `set_clock_beyond`.
    pub fn new(hosts: Arc<Hosts>, zone: TimeZone, set_clock_beyond: Option<Duration>) -> Self {
        Self {
            framer: Framer::default(),
            peer: None,
            hosts,
            zone,
            set_clock_beyond,
            clocks: HashMap::new(),
        }
    }
}

/// Whether a host's clock must be set now.
fn is_clock_due(
    head: &Head,
    now: DateTime,
    beyond: Duration,
    last_ms: Option<u64>,
    now_ms: u64,
) -> bool {
    let every_ms = CLOCK_EVERY.as_millis() as u64;
    if last_ms.is_some_and(|last_ms| now_ms.saturating_sub(last_ms) < every_ms) {
        return false;
    }
    match head.time.civil() {
        Some(time) => time.duration_since(now).unsigned_abs() > beyond,
        None => true,
    }
}

impl Line for HostLine {
    fn feed(&mut self, peer: SocketAddr, bytes: &[u8]) {
        self.peer = Some(peer.ip());
        self.framer.feed(bytes);
    }

    fn take(&mut self, batch: &mut IngestBatch, out: &mut Out, mut rest: Rest) {
        let Some(peer) = self.peer else { return };
        let now = Timestamp::from_millisecond(batch.received_ms())
            .unwrap_or(Timestamp::UNIX_EPOCH)
            .to_zoned(self.zone.clone())
            .datetime();
        let told = batch.is_synchronised().then_some(now);
        while !batch.is_full() {
            let piece = match rest {
                Rest::Coming => self.framer.take(),
                Rest::Late | Rest::Ended => self.framer.give_up(),
            };
            if rest == Rest::Late {
                rest = Rest::Coming;
            }
            match piece {
                None => return,
                Some(Piece::Rejected { why, bytes, head }) => {
                    out.bad();
                    batch.message(bytes, Err(Reject::new(why.to_string())));
                    if let Some(head) = head
                        && self.hosts.id(head.source, peer).is_ok()
                    {
                        out.answers.push(Answer::Deny.encode(&head, told));
                    }
                }
                Some(Piece::Frame(frame, raw)) => {
                    let Ok(id) = self
                        .hosts
                        .id(frame.head.source, peer)
                        .map_err(|reject| batch.message(raw, Err(reject)))
                    else {
                        out.bad();
                        out.answers.push(Answer::Deny.encode(&frame.head, told));
                        continue;
                    };
                    out.good(&id);
                    out.answers.extend(taken(&id, &frame, raw, now, batch));
                    let Some(beyond) = self.set_clock_beyond else {
                        continue;
                    };
                    let head = frame.head;
                    let now_ms = clock::monotonic_ms();
                    let last_ms = self.clocks.get(&head.source).copied();
                    let is_known = last_ms.is_some() || self.clocks.len() < CLOCKS_MAX;
                    if is_known
                        && batch.is_synchronised()
                        && is_clock_due(&head, now, beyond, last_ms, now_ms)
                    {
                        self.clocks.insert(head.source, now_ms);
                        let set = answer::set_clock(OWN_SERIAL, head.destination, head.source, now);
                        out.answers.push(set);
                    }
                }
            }
        }
    }

    fn held(&self) -> usize {
        self.framer.held()
    }
}

/// Stores a frame; returns the answer.
fn taken(
    id: &str,
    frame: &Frame<'_>,
    raw: &[u8],
    now: DateTime,
    batch: &mut IngestBatch,
) -> Option<Vec<u8>> {
    let unit = Unit::decode(frame.data);
    let answer = match unit {
        Ok(unit) => {
            let answer = answer::to(&frame.head, Some(&unit), true);
            batch.message(raw, map::said(id, &frame.head, unit, now));
            answer
        }
        Err(error) => {
            batch.message(raw, Err(Reject::new(error.to_string())));
            answer::to(&frame.head, None, false)
        }
    };
    let told = batch.is_synchronised().then_some(now);
    answer.map(|answer| answer.encode(&frame.head, told))
}

#[cfg(test)]
mod tests {
    use super::*;
    use linli_devices::gb26875::frame::{Command, WireTime};

    #[test]
    fn a_clock_is_set_when_it_is_off_and_not_all_the_time() {
        let now = DateTime::constant(2026, 8, 1, 19, 19, 0, 0);
        let beyond = Duration::from_secs(60);
        let head = |time| Head {
            serial: 1,
            version: [1, 1],
            time,
            source: Address([1; 6]),
            destination: Address([0; 6]),
            command: Command::Send,
        };
        let near = head(WireTime([0, 20, 19, 1, 8, 26]));
        let far = head(WireTime([1, 20, 19, 1, 8, 26]));
        let none = head(WireTime([0; 6]));
        assert!(!is_clock_due(&near, now, beyond, None, 0));
        assert!(is_clock_due(&far, now, beyond, None, 0));
        assert!(is_clock_due(&none, now, beyond, None, 0));
        assert!(!is_clock_due(&none, now, beyond, Some(0), 599_999));
        assert!(is_clock_due(&none, now, beyond, Some(0), 600_000));
    }
}
