//! What a door controller did while nobody listened: `POST /ISAPI/AccessControl/AcsEvent?format=json`, in pages.
//!
//! ```text
//! {"AcsEventCond": {"searchID", "searchResultPosition", "maxResults", "major": 0, "minor": 0,
//!                   "startTime", "endTime", "beginSerialNo", "endSerialNo"}}
//! {"AcsEvent": {"responseStatusStrg": "OK" | "MORE" | "NO MATCH", "numOfMatches", "InfoList": [{"major", "minor", "time",
//!               "serialNo", "doorNo", "cardNo", …}]}}
//! ```
//!
//! It begins after the serial that was seen last; after a start of the agent, `catch_up` ago. A device that does not know
//! the request is a camera, or an old one: then there is only what it tells again by itself.
use linli_shared::service::clock;
use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Session;
use crate::random;
use crate::transport::outbound;
use crate::transport::outbound::Peer;
use crate::transport::reconnect::Ended;
use linli_devices::device_event::Reject;
use linli_devices::hikvision::door::DoorEvent;
use linli_devices::hikvision::map::Mapper;
use linli_devices::lenient_json::LenientText;

const PATH: &str = "/ISAPI/AccessControl/AcsEvent?format=json";
/// Events of a page; more than 30 are refused by some devices.
const PAGE_EVENTS: usize = 30;
/// Pages that are asked for after one connection: beyond are 6,000 events.
const PAGES_MAX: usize = 200;
/// Largest page.
const PAGE_BYTES_MAX: usize = 512 << 10;
/// The highest serial that devices know.
const SERIAL_MAX: u64 = 3_000_000_000;

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, rename = "AcsEvent")]
    page: Page<'a>,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow, default, rename = "responseStatusStrg")]
    status: LenientText<'a>,
    #[serde(borrow, default, rename = "InfoList")]
    rows: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct At<'a> {
    #[serde(borrow, default)]
    time: LenientText<'a>,
}

impl Session {
    /// Asks for what was missed and makes it durable.
    pub(super) async fn catch_up(&self, peer: &mut Peer<'_>) {
        let Ok(_turn) = self.catch_ups.acquire().await else {
            return;
        };
        let state = &self.device.state;
        match self.pages(peer).await {
            Ok(true) => state.known(Mapper::caught_up).await,
            Ok(false) => tracing::warn!(
                source = self.ingest.name(),
                device = self.device.known.id,
                events = PAGES_MAX * PAGE_EVENTS,
                "a device has more events of the past than are asked for at once: what is left is asked for after the next connection"
            ),
            Err(ended) => {
                self.ingest.count("catch_up_failed", 1);
                tracing::debug!(
                    source = self.ingest.name(),
                    device = self.device.known.id,
                    why = %ended,
                    "what was missed cannot be asked for"
                );
            }
        }
    }

    /// True: there is no more.
    async fn pages(&self, peer: &mut Peer<'_>) -> Result<bool, Ended> {
        let last = self
            .device
            .state
            .known(|mapper| mapper.last().cloned())
            .await;
        let zone = self.ingest.zone();
        let at = |ms: i64| {
            let time = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
            time.to_zoned(zone.clone())
                .strftime("%Y-%m-%dT%H:%M:%S%:z")
                .to_string()
        };
        let now_ms = clock::wall_ms();
        let (start, serial) = match &last {
            Some(last) => (last.time.clone(), last.serial.saturating_add(1)),
            None => (at(now_ms - self.catch_up.as_millis() as i64), 1),
        };
        let search = format!("{:016x}", random::jitter());
        let mut position = 0;
        for _ in 0..PAGES_MAX {
            let condition = serde_json::json!({"AcsEventCond": {
                "searchID": search, "searchResultPosition": position, "maxResults": PAGE_EVENTS, "major": 0, "minor": 0,
                "startTime": start, "endTime": at(now_ms + 86_400_000), "beginSerialNo": serial, "endSerialNo": SERIAL_MAX,
            }});
            let answer = peer
                .ask(Method::POST, PATH, Some(&condition.to_string()))
                .await?;
            let body = outbound::body(answer, PAGE_BYTES_MAX).await?;
            let text = linli_devices::text::lossy(&body);
            let answer: Answer<'_> = serde_json::from_str(&text).map_err(|error| {
                Ended::lost(format!("the answer is not what it should be: {error}"))
            })?;
            let rows = answer.page.rows;
            self.store(&rows).await;
            position += rows.len();
            if rows.is_empty() || answer.page.status.0 != "MORE" {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes the rows of a page durable, however long that takes.
    async fn store(&self, rows: &[&RawValue]) {
        loop {
            let stored = self.device.state.with(&self.ingest, |mapper, batch| {
                for row in rows {
                    let raw = row.get();
                    let read = (
                        serde_json::from_str::<DoorEvent<'_>>(raw),
                        serde_json::from_str::<At<'_>>(raw),
                    );
                    match &read {
                        (Ok(event), Ok(at)) => {
                            batch.message(raw.as_bytes(), Ok(mapper.door(event, &at.time.0)))
                        }
                        (Err(error), _) | (_, Err(error)) => {
                            batch.message(
                                raw.as_bytes(),
                                Err(Reject::new(format!("a row is broken: {error}"))),
                            );
                        }
                    }
                }
            });
            if stored.await.is_ok() {
                return;
            }
            tokio::time::sleep(super::QUIET_EVERY).await;
        }
    }
}
