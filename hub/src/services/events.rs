//! Events: what agents have reported.
use linli_shared::protocol::event::Event;
use linli_shared::service::clock;
use serde::Serialize;
use std::collections::BTreeMap;

use super::{Page, ServiceError, Services, bad_cursor};
use linli_domain::rights::{Act, Actor};
use linli_domain::station_kinds;
use linli_store::chunks::{self, EventFilter, StoredEvent};

/// Where.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct PlaceView {
    /// Building, shed or zone.
    building: String,
    /// Unit of the place.
    unit: String,
    /// Key of an address outside the site.
    address: String,
}

/// An event as the API shows it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct EventView {
    /// Agent.
    agent: String,
    /// Lane: urgent, routine, media.
    lane: String,
    /// Life of the agent's spool, hexadecimal.
    epoch: String,
    /// Number in its lane.
    sequence: u64,
    /// Site.
    site: String,
    /// Dotted kind.
    kind: String,
    /// info, notice, warning, alarm, life.
    severity: String,
    /// When it happened, RFC 3339.
    occurred_at: String,
    /// When the agent received it, RFC 3339.
    received_at: String,
    /// When the hub stored it, RFC 3339.
    stored_at: String,
    /// By which rule occurred_at was decided: device, agent, unset, corrected, implausible, receipt, shifted, unknown, other.
    clock: String,
    /// What the device claims, RFC 3339; left out where it gave no time that can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_time: Option<String>,
    /// live: reported when it happened; replayed: afterwards; history: imported for rules that look back and statistics.
    delivery: String,
    /// Where.
    place: PlaceView,
    /// Device.
    device: String,
    /// Source in the agent's config.
    source: String,
    /// The source's own id.
    source_id: String,
    /// What else the mapping declares.
    attributes: BTreeMap<String, String>,
    /// Where the picture or clip lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    media: Option<String>,
    /// Why no rule has seen it and no case was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    withheld: Option<&'static str>,
}

impl From<StoredEvent> for EventView {
    fn from(stored: StoredEvent) -> Self {
        let claim_ms = stored.event.claim_ms();
        let Event {
            kind,
            occurred_at_ms,
            received_at_ms,
            clock: quality,
            severity,
            source,
            source_id,
            device,
            place,
            attributes,
            media,
            delivery,
            device_time_ms: _,
            monotonic_ms: _,
            // As it came it is for people who look into a fault, not for lists.
            raw: _,
        } = stored.event;
        Self {
            agent: stored.agent,
            lane: stored.lane.to_string(),
            epoch: format!("{:016x}", stored.epoch),
            sequence: stored.sequence,
            site: stored.site,
            kind,
            severity: severity.as_str().to_owned(),
            occurred_at: clock::rfc3339(occurred_at_ms),
            received_at: clock::rfc3339(received_at_ms),
            stored_at: clock::rfc3339(stored.stored_ms),
            clock: quality.as_str().to_owned(),
            device_time: claim_ms.map(clock::rfc3339),
            delivery: delivery.as_str().to_owned(),
            place: PlaceView {
                building: place.building,
                unit: place.unit,
                address: place.address,
            },
            device,
            source,
            source_id,
            attributes,
            media,
            withheld: stored.withheld.then_some(station_kinds::REASON),
        }
    }
}

impl std::fmt::Display for EventView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let PlaceView {
            building,
            unit,
            address,
        } = &self.place;
        write!(
            f,
            "{} {:8} {:18} {} {building} {unit} {address} {} ({}/{}/{})",
            self.occurred_at,
            self.severity,
            self.kind,
            self.site,
            self.device,
            self.agent,
            self.lane,
            self.sequence,
        )?;
        let claim = self.device_time.as_ref();
        if let Some(claim) = claim.filter(|claim| **claim != self.occurred_at) {
            write!(f, " 设备称 device says {claim}（{}）", self.clock)?;
        }
        if let Some(reason) = self.withheld {
            write!(f, " 隔离 withheld: {reason}")?;
        }
        match self.delivery.as_str() {
            "replayed" => write!(f, " 补传 replayed, 收到 received {}", self.received_at),
            "history" => write!(f, " 历史 history"),
            _ => Ok(()),
        }
    }
}

impl Services {
    /// Events of the sites that the actor sees, newest arrival first, without incidents for named handlers only. A page
    /// can be short while there is a next one. `cursor` is `next` of the page before.
    pub async fn events(
        &self,
        actor: &Actor,
        filter: EventFilter,
        cursor: Option<&str>,
    ) -> Result<Page<EventView>, ServiceError> {
        self.permit(actor, Act::Watch, "GET", "/api/v1/events")
            .await?;
        let filter = EventFilter {
            watched: self.watched(actor).await?,
            before: cursor.map(parse_cursor).transpose()?,
            ..filter
        };
        let (mut events, next) = chunks::events(self.store.readers(), &filter).await?;
        events.retain(|stored| !self.named_only.hides_incident(&stored.event, &actor.login));
        Ok(Page {
            items: events.into_iter().map(EventView::from).collect(),
            next: next.map(|(row, sequence)| format!("{row}.{sequence}")),
        })
    }
}

fn parse_cursor(text: &str) -> Result<(i64, u64), ServiceError> {
    text.split_once('.')
        .and_then(|(row, sequence)| Some((row.parse().ok()?, sequence.parse().ok()?)))
        .ok_or_else(bad_cursor)
}
