//! `/api/v1/events`
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use linli_shared::protocol::event::Event;
use linli_shared::service::clock;
use linli_shared::service::problem::Problem;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::list::{Page, bad_cursor, limit, query, time_ms};
use super::{Api, store_problem, watched};
use linli_domain::rights::Actor;
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

/// Which events.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// Only of this site.
    site: Option<String>,
    /// Only of this agent.
    agent: Option<String>,
    /// Only of this kind.
    kind: Option<String>,
    /// Only of this device.
    device: Option<String>,
    /// Only at this address.
    address: Option<String>,
    /// Not earlier, RFC 3339.
    from: Option<String>,
    /// Earlier than, RFC 3339.
    to: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// 1 to 500, default 50.
    limit: Option<u32>,
}

/// Events of what who asks watches, newest arrival first. A page can be short while there is a next one.
#[utoipa::path(get, path = "/api/v1/events", params(EventQuery), responses(
    (status = 200, body = Page<EventView>),
    super::auth::Refusals,
))]
pub async fn list(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    parameters: Result<Query<EventQuery>, QueryRejection>,
) -> Result<Json<Page<EventView>>, Problem> {
    let parameters = query(parameters)?;
    let filter = EventFilter {
        watched: watched::of(&api, &actor).await?,
        from_ms: time_ms("from", parameters.from.as_deref())?,
        to_ms: time_ms("to", parameters.to.as_deref())?,
        before: parameters.cursor.as_deref().map(cursor).transpose()?,
        limit: limit(parameters.limit)?,
        site: parameters.site,
        agent: parameters.agent,
        kind: parameters.kind,
        device: parameters.device,
        address: parameters.address,
    };
    let (mut events, next) = chunks::events(api.store.readers(), &filter)
        .await
        .map_err(store_problem)?;
    events.retain(|stored| !api.named_only.hides_incident(&stored.event, &actor.login));
    Ok(Json(Page {
        items: events.into_iter().map(EventView::from).collect(),
        next: next.map(|(row, sequence)| format!("{row}.{sequence}")),
    }))
}

fn cursor(text: &str) -> Result<(i64, u64), Problem> {
    text.split_once('.')
        .and_then(|(row, sequence)| Some((row.parse().ok()?, sequence.parse().ok()?)))
        .ok_or_else(bad_cursor)
}
