//! Fetches the events of a door controller from while nobody listened: `POST
//! /ISAPI/AccessControl/AcsEvent?format=json`, in pages.
//!
//! ```text
//! {"AcsEventCond": {"searchID", "searchResultPosition", "maxResults", "major": 0, "minor": 0,
//!                   "startTime", "endTime", "beginSerialNo", "endSerialNo"}}
//! {"AcsEvent": {"responseStatusStrg": "OK" | "MORE" | "NO MATCH", "numOfMatches", "InfoList": [{"major", "minor", "time",
//!               "serialNo", "doorNo", "cardNo", …}]}}
//! ```
//!
//! * It runs beside the stream and blocks neither the stream nor another device: a turn is one page.
//! * It begins at a [`Cursor`] by the device's own clock, which only a complete answer advances; the stream does not.
//!   Without one it begins `catch_up` ago, or when the agent went down if that is earlier.
//! * A page that is damaged is a rejected message, and does not advance the cursor: it is asked for again after [`AGAIN`],
//!   and then ever more rarely.
//! * It runs at each connection and every [`EVERY`]: so the cursor stays near, and events that the stream lost arrive
//!   too.
//! * A device that does not know the request is a camera, or an old one: only its own repeats remain then.
use linli_shared::service::clock;
use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::convert::Infallible;
use std::time::Duration;

use super::Session;
use crate::ingest::device::Cursor;
use crate::transport::outbound::{self, Peer};
use crate::transport::reconnect::Ended;
use linli_devices::device_event::{DecodedMessage, Reject};
use linli_devices::hikvision::door::DoorEvent;
use linli_devices::hikvision::map::Mapper;
use linli_devices::lenient_json::LenientText;
use linli_devices::lenient_json::parse::Damage;
use linli_devices::lenient_json::repair::{Repaired, repair};
use linli_devices::{text, time};
use linli_shared::service::random;

const PATH: &str = "/ISAPI/AccessControl/AcsEvent?format=json";
/// Interval between requests to a connected device.
const EVERY: Duration = Duration::from_secs(3600);
/// Events of a page; some devices refuse more than 30.
const PAGE_EVENTS: usize = 30;
/// Largest number of pages of one catch-up: 300,000 events are as many as the largest controllers keep.
const PAGES_MAX: usize = 10_000;
/// Longest wait for a live message that shows the device's clock; the heartbeats of most devices arrive within it.
const CLOCK_WAIT: Duration = Duration::from_secs(10);
const CLOCK_LOOK: Duration = Duration::from_millis(500);
/// A row so far ahead of the device's clock says nothing of what comes next, milliseconds.
const AHEAD_MS_MAX: i64 = 120_000;
/// Largest page.
const PAGE_BYTES_MAX: usize = 512 << 10;
/// The highest serial that devices have.
const SERIAL_MAX: u64 = 3_000_000_000;
/// Serials before the cursor's that are asked for again: devices write events of one moment in any order.
const SERIAL_SLACK: u64 = 64;
/// After a catch-up that the routine lane has refused in part, and first after one that could not be read.
const AGAIN: Duration = Duration::from_secs(60);
/// Before a page that the spool refused is stored again.
const STORE_RETRY: Duration = Duration::from_secs(5);
/// Farthest that devices are asked back, milliseconds: 30 days.
pub(super) const BACK_MS_MAX: i64 = 30 * 86_400_000;
/// The recorded start of the agent's downtime is late by up to this much, milliseconds.
const DOWN_SLACK_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, rename = "AcsEvent")]
    page: Page<'a>,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow, default, rename = "responseStatusStrg")]
    status: LenientText<'a>,
    #[serde(borrow, default, rename = "numOfMatches")]
    matches: LenientText<'a>,
    #[serde(borrow, default, rename = "InfoList")]
    rows: Option<Vec<&'a RawValue>>,
    /// The part that was unreadable.
    #[serde(skip)]
    damage: Option<Damage>,
}

impl<'a> Page<'a> {
    fn rows(&self) -> &[&'a RawValue] {
        self.rows.as_deref().unwrap_or_default()
    }

    /// Why a page that a parser accepts is damaged: it counts rows that it does not have, or its status is none, and there
    /// may be more pages.
    fn fault(&self) -> Option<String> {
        if let Some(damage) = self.damage {
            return Some(damage.to_string());
        }
        let status = self.status.0.as_ref();
        let is_status = ["", "OK", "MORE", "NO MATCH"]
            .iter()
            .any(|known| status.eq_ignore_ascii_case(known));
        if !is_status {
            return Some(format!("responseStatusStrg {status:.40?} is none"));
        }
        let is_told = self.matches.0.parse().is_ok_and(|count: u64| count > 0);
        (is_told && self.rows().is_empty())
            .then(|| format!("it has {} events and no InfoList", self.matches.0))
    }

    /// A full page without a status is followed by another.
    fn is_last(&self) -> bool {
        let has_more = match self.status.0.as_ref() {
            "" => self.rows().len() >= PAGE_EVENTS,
            status => status.eq_ignore_ascii_case("MORE"),
        };
        self.rows().is_empty() || !has_more
    }
}

/// The page of an answer that no strict parser accepts. A damaged page without rows is an error: it would pass for
/// the last.
fn repaired_page(repaired: Option<&Repaired>) -> Option<Page<'_>> {
    let repaired = repaired?;
    let text = repaired.texts().next()?;
    let answer: Answer<'_> = serde_json::from_str(text).ok()?;
    let damage = repaired.damage(&(0..repaired.text.len()));
    (damage.is_none() || !answer.page.rows().is_empty()).then_some(Page {
        damage,
        ..answer.page
    })
}

/// Progress of a catch-up.
enum Reached {
    /// All events up to here are read; `None` if there never was any.
    End(Option<Cursor>),
    /// There was no end within [`PAGES_MAX`].
    PagesMax,
    /// All is read, and the routine lane has refused some of it: it is asked for again.
    Refused,
    /// A page could not be read, or not all of it: it is asked for again. With how far the rest was read, if all pages
    /// came.
    Unread(Option<Cursor>),
}

/// The beginning of a catch-up, by the device's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Start {
    second: i64,
    serial: u64,
    /// Events up to here are known.
    cursor: Option<Cursor>,
    /// Rows after this second do not advance the cursor.
    last_second: i64,
}

impl Start {
    /// Begins at the cursor, or at `since_ms`. `last_serial` is that of the device's last event: if it is lower than
    /// the cursor's, the device's serials began anew. A cursor ahead of the device's clock dates from before the
    /// clock was set. All times are by the device's clock.
    fn new(cursor: Option<Cursor>, since_ms: i64, now_ms: i64, last_serial: Option<u64>) -> Self {
        let second_of = |ms: i64| ms.div_euclid(1000);
        let last_second = second_of(now_ms.saturating_add(AHEAD_MS_MAX));
        let oldest = second_of(now_ms.saturating_sub(BACK_MS_MAX));
        let since = second_of(since_ms).max(oldest);
        let Some(known) = cursor else {
            return Self {
                second: since,
                serial: 1,
                cursor,
                last_second,
            };
        };
        let has_begun_anew = last_serial.is_some_and(|serial| serial < known.serial);
        let serial = match has_begun_anew {
            true => 1,
            false => known.serial.saturating_sub(SERIAL_SLACK).max(1),
        };
        let second = match known.second > last_second {
            true => since,
            false => known.second.max(oldest),
        };
        let cursor = Cursor {
            second: known.second.min(second),
            ..known
        };
        Self {
            second,
            serial,
            cursor: Some(cursor),
            last_second,
        }
    }

    /// Whether a row was stored before, or is older than requested: some devices answer with everything that they
    /// have.
    fn is_known(&self, row: Cursor) -> bool {
        let is_stored = self
            .cursor
            .is_some_and(|cursor| row.second < cursor.second && row.serial <= cursor.serial);
        is_stored || (self.cursor.is_none() && row.second < self.second)
    }
}

impl Session {
    /// Fetches missed events, now and every [`EVERY`].
    pub(super) async fn catch_ups(&self) -> Infallible {
        self.clock_is_known().await;
        let mut unread = AGAIN;
        loop {
            // Boxed: it is over soon, and the task of each device lives long.
            let pause = Box::pin(self.catch_up(&mut unread)).await;
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks once; how long after that it is asked again. `unread`: the pause after a page that cannot be read, which
    /// grows while that goes on.
    async fn catch_up(&self, unread: &mut Duration) -> Duration {
        let Some((url, account)) = &self.device.known.at else {
            return EVERY;
        };
        let device = &self.device.known.id;
        let mut peer = Peer::new(&self.client, url, account);
        match self.pages(&mut peer).await {
            Ok(Reached::End(cursor)) => {
                *unread = AGAIN;
                self.device.state.known(Mapper::caught_up).await;
                // A device without any event may have a clock that is not set yet: no cursor can be trusted.
                if let Some(cursor) = cursor {
                    self.reached(cursor);
                }
            }
            Ok(Reached::PagesMax) => tracing::warn!(
                source = self.ingest.name(),
                device,
                events = PAGES_MAX * PAGE_EVENTS,
                "a device goes on with events of the past without an end: they are asked for again in an hour"
            ),
            Ok(Reached::Refused) => return AGAIN,
            Ok(Reached::Unread(cursor)) => {
                let pause = *unread;
                *unread = (2 * pause).min(EVERY);
                // A row that stays damaged must not have all rows since read again for ever.
                if let (Some(cursor), EVERY) = (cursor, pause) {
                    self.reached(cursor);
                }
                return pause;
            }
            Err(ended) => {
                self.ingest.count("catch_up_failed", 1);
                tracing::debug!(
                    source = self.ingest.name(),
                    device,
                    why = %ended,
                    "what was missed cannot be asked for"
                );
            }
        }
        EVERY
    }

    /// Records how far the device's memory was read.
    fn reached(&self, cursor: Cursor) {
        let now_ms = clock::monotonic_ms();
        let device = &self.device.known.id;
        self.ingest
            .with_devices(|devices| devices.set_cursor(device, cursor, now_ms));
    }

    /// Decides where to begin.
    async fn start(&self) -> Start {
        let device = &self.device.known.id;
        let now_ms = clock::wall_ms();
        let (cursor, offset_ms) = self
            .ingest
            .with_devices(|devices| (devices.cursor(device), devices.clock_offset_ms(device)));
        let last_serial = self
            .device
            .state
            .known(|mapper| mapper.last().map(|last| last.serial));
        let mut since_ms = now_ms - self.catch_up.as_millis() as i64;
        if let Some(down_since_ms) = self.ingest.down_since_ms() {
            since_ms = since_ms.min(down_since_ms - DOWN_SLACK_MS);
        }
        let offset_ms = offset_ms.unwrap_or_default();
        let of_device = |ms: i64| ms.saturating_sub(offset_ms);
        Start::new(
            cursor,
            of_device(since_ms),
            of_device(now_ms),
            last_serial.await,
        )
    }

    /// Waits until a live message has shown the device's clock: it corrects the times of old rows and of the request.
    async fn clock_is_known(&self) {
        let device = &self.device.known.id;
        let bound_ms = self.ingest.clock_bound_ms();
        self.ingest
            .with_devices(|devices| devices.doubt_clock(device));
        let deadline = tokio::time::Instant::now() + CLOCK_WAIT;
        while tokio::time::Instant::now() < deadline
            && !self
                .ingest
                .with_devices(|devices| devices.is_clock_known(device, bound_ms))
        {
            tokio::time::sleep(CLOCK_LOOK).await;
        }
    }

    /// Reads all pages.
    async fn pages(&self, peer: &mut Peer<'_>) -> Result<Reached, Ended> {
        let start = self.start().await;
        let zone = self.ingest.zone();
        let at = |second: i64| {
            let time = jiff::Timestamp::from_second(second).unwrap_or_default();
            time.to_zoned(zone.clone())
                .strftime("%Y-%m-%dT%H:%M:%S%:z")
                .to_string()
        };
        // The end lies after any time that the device's clock may show.
        let end_second = (clock::wall_ms() + DAY_MS)
            .div_euclid(1000)
            .max(start.second + 2 * DAY_MS / 1000);
        let search = format!("{:016x}", random::jitter());
        // The past states of doors are kept apart from the current ones.
        let mut mapper = self.device.state.known(|mapper| mapper.clone()).await;
        mapper.connected();
        let mut reached = start.cursor;
        let mut position = 0;
        let (mut is_refused, mut is_unread) = (false, false);
        for _ in 0..PAGES_MAX {
            let condition = serde_json::json!({"AcsEventCond": {
                "searchID": search, "searchResultPosition": position, "maxResults": PAGE_EVENTS, "major": 0, "minor": 0,
                "startTime": at(start.second), "endTime": at(end_second), "beginSerialNo": start.serial,
                "endSerialNo": SERIAL_MAX,
            }});
            let body = {
                // One page a turn: a slow device delays no other with its whole history.
                let _turn = self.catch_ups.acquire().await;
                let answer = peer
                    .ask(Method::POST, PATH, Some(&condition.to_string()))
                    .await?;
                outbound::body(answer, PAGE_BYTES_MAX).await?
            };
            let text = text::lossy(&body);
            let repaired;
            let page = match serde_json::from_str::<Answer<'_>>(&text) {
                Ok(answer) => answer.page,
                Err(error) => {
                    repaired = repair(&text);
                    let Some(page) = repaired_page(repaired.as_ref()) else {
                        let why = format!("a page of what was missed cannot be read: {error}");
                        let reject = Reject::new(why.as_str()).of(&self.device.known.id);
                        // It contains no event, so no spool refuses it.
                        let _ = self.ingest.take(&body, Err(reject)).await;
                        return Ok(Reached::Unread(None));
                    };
                    page
                }
            };
            position += page.rows().len();
            let is_last = page.is_last();
            is_unread |= page.fault().is_some();
            is_refused |= !self
                .store(&page, &body, &mut mapper, &start, &mut reached)
                .await;
            if is_last {
                return Ok(match (is_unread, is_refused) {
                    (_, true) => Reached::Refused,
                    (true, false) => Reached::Unread(reached),
                    (false, false) => Reached::End(reached),
                });
            }
        }
        Ok(Reached::PagesMax)
    }

    /// Makes the rows of a page durable, however long that takes. False: their alarms are, and the routine lane has refused the
    /// others; what lies behind them is not held up.
    async fn store(
        &self,
        page: &Page<'_>,
        body: &[u8],
        mapper: &mut Mapper,
        start: &Start,
        reached: &mut Option<Cursor>,
    ) -> bool {
        loop {
            let mut next = mapper.clone();
            let mut furthest = *reached;
            let mut batch = self.ingest.batch();
            batch.set_replayed(true);
            if let Some(fault) = page.fault() {
                let reject = Reject::new(format!("a page of what was missed: {fault}"));
                batch.message(body, Err(reject.of(&self.device.known.id)));
            }
            for row in page.rows() {
                let raw = row.get();
                let (event, at) = DoorEvent::row(raw);
                let second = time::read(&at, self.ingest.zone()).map(|ms| ms.div_euclid(1000));
                let place = second
                    .zip(event.serial.parse().ok())
                    .map(|(second, serial)| Cursor { second, serial });
                if let Some(place) = place {
                    if start.is_known(place) {
                        batch.message(
                            raw.as_bytes(),
                            Ok(DecodedMessage::LeftOut {
                                device: self.device.known.id.as_str().into(),
                                what: "of before what was asked for".into(),
                            }),
                        );
                        continue;
                    }
                    if place.second <= start.last_second {
                        furthest = furthest.max(Some(place));
                    }
                }
                batch.message(raw.as_bytes(), next.history(&event, &at));
            }
            match self.ingest.store(batch).await {
                Ok(_) => {
                    *mapper = next;
                    *reached = furthest;
                    return true;
                }
                Err(error) if error.has_kept_alarms() => {
                    *mapper = next;
                    return false;
                }
                Err(error) => {
                    tracing::debug!(source = self.ingest.name(), %error, "a page waits for the spool");
                    tokio::time::sleep(STORE_RETRY).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_the_cursor_and_passes_over_what_lies_before_it() {
        let cursor = Cursor {
            second: 1000,
            serial: 500,
        };
        let row = |second, serial| Cursor { second, serial };
        let start = Start::new(Some(cursor), 0, 1_000_000, Some(600));
        assert_eq!((start.second, start.serial), (1000, 436));
        assert!(start.is_known(row(999, 499)));
        // A lower serial in the same second, and serials that began anew, are not old rows.
        assert!(!start.is_known(row(1000, 499)));
        assert!(!start.is_known(row(1001, 3)));
        assert_eq!(Start::new(Some(cursor), 0, 1_000_000, Some(7)).serial, 1);
        // A cursor that is too old is not used.
        let now_ms = BACK_MS_MAX + 5_000_000;
        assert_eq!(Start::new(Some(cursor), 0, now_ms, None).second, 5000);
    }

    #[test]
    fn a_cursor_ahead_of_the_devices_clock_is_one_of_before_that_was_put_right() {
        let cursor = Cursor {
            second: 1_000_000,
            serial: 500,
        };
        let start = Start::new(Some(cursor), 50_000, 60_000, Some(600));
        assert_eq!((start.second, start.serial), (50, 436));
        let row = |second, serial| Cursor { second, serial };
        assert!(!start.is_known(row(55, 501)) && start.is_known(row(49, 500)));
        assert!(start.cursor < Some(row(55, 501)));
        // A row of a clock that was put right later.
        assert!(1_000_000 > start.last_second);
    }

    #[test]
    fn a_page_without_rows_is_the_last_and_a_full_one_without_a_status_is_not() {
        let is_last = |text: &str| {
            let answer: Answer<'_> = serde_json::from_str(text).expect("a page");
            answer.page.is_last()
        };
        assert!(is_last(r#"{"AcsEvent": {"InfoList": null}}"#));
        assert!(is_last(
            r#"{"AcsEvent": {"responseStatusStrg": ["x"], "InfoList": [{}]}}"#
        ));
        assert!(!is_last(
            r#"{"AcsEvent": {"responseStatusStrg": "More", "InfoList": [{}]}}"#
        ));
        let full = vec!["{}"; PAGE_EVENTS].join(",");
        assert!(!is_last(&format!(
            r#"{{"AcsEvent": {{"InfoList": [{full}]}}}}"#
        )));
    }

    #[test]
    fn a_damaged_page_has_the_rows_that_are_whole_and_says_what_it_lacks() {
        let text = r#"{"AcsEvent": {"responseStatusStrg": "OK", "InfoList": [{"serialNo": 1}, {"serialNo": 2, "time": "x}]}}"#;
        let repaired = repair(text);
        let page = repaired_page(repaired.as_ref()).expect("a page");
        assert!(!page.rows().is_empty() && page.damage.is_some());
        assert!(repaired_page(repair("{\"AcsEvent\": {\"InfoList\": [").as_ref()).is_none());
        assert!(repaired_page(repair("<html>").as_ref()).is_none());
    }

    #[test]
    fn a_page_that_lacks_its_rows_or_has_no_known_status_is_damaged() {
        let fault = |text: &str| {
            let answer: Answer<'_> = serde_json::from_str(text).expect("a page");
            answer.page.fault()
        };
        for whole in [
            r#"{"AcsEvent": {"responseStatusStrg": "NO MATCH", "numOfMatches": 0}}"#,
            r#"{"AcsEvent": {"responseStatusStrg": "OK", "numOfMatches": 1, "InfoList": [{}]}}"#,
            r#"{"AcsEvent": {"InfoList": null}}"#,
            r#"{"AcsEvent": {"responseStatusStrg": "more", "numOfMatches": "1", "InfoList": [{}]}}"#,
        ] {
            assert_eq!(fault(whole), None, "{whole}");
        }
        for damaged in [
            r#"{"AcsEvent": {"responseStatusStrg": "OK", "numOfMatches": 1, "InfpList": [{}]}}"#,
            r#"{"AcsEvent": {"responseStatusStrg": "MORF", "numOfMatches": 1, "InfoList": [{}]}}"#,
        ] {
            assert!(fault(damaged).is_some(), "{damaged}");
        }
    }

    #[test]
    fn without_a_cursor_nothing_older_than_was_asked_for_is_taken() {
        let start = Start::new(None, 90_000, 90_000, None);
        assert_eq!((start.second, start.serial), (90, 1));
        let row = |second| Cursor { second, serial: 7 };
        assert!(start.is_known(row(89)) && !start.is_known(row(90)));
    }
}
