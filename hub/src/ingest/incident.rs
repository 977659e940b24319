//! 警情: an incident that a police station reports becomes one case, however often the station pushes it.
//!
//! The directory names the agents of stations. An incident is identified by its agent and the station's number, or
//! without a number by its event. Imported history opens no case: the import marks it, and an old event of an import by an
//! older agent counts as history.
use linli_shared::protocol::event::{Delivery, Event, Severity};
use std::collections::BTreeSet;

use super::unit_of_work::UnitOfWork;
use crate::case_policy::{CasePolicy, NATURE};
use linli_domain::cases::{self, Opening};
use linli_domain::correlate::{HORIZON_MS, Origin};
use linli_store::{StoreError, cases as stored, chunks, text};

/// The kind of incident events.
const REPORTED: &str = "dispute.reported";

/// A reported incident.
#[derive(Debug, Clone)]
pub struct Incident {
    agent: String,
    /// Its identity.
    number: String,
    event: String,
    site: String,
    building: String,
    unit: String,
    address: String,
    nature: String,
    severity: Severity,
}

impl Incident {
    /// The incident that an event reports, if it opens a case.
    pub fn of(
        event: &Event,
        origin: &Origin<'_>,
        casework: &CasePolicy,
        now_ms: i64,
    ) -> Option<Self> {
        let is_now = event.delivery != Delivery::History
            && now_ms.saturating_sub(event.occurred_at_ms) <= HORIZON_MS;
        if event.kind != REPORTED || !is_now {
            return None;
        }
        casework.directory.station_of(origin.agent)?;
        let identity = origin.identity();
        let own = |value: &str| text(value).into_owned();
        Some(Self {
            agent: origin.agent.to_owned(),
            number: number(event, &identity),
            event: identity,
            site: origin.site.to_owned(),
            building: own(&event.place.building),
            unit: own(&event.place.unit),
            address: own(&event.place.address),
            nature: event
                .attributes
                .get(NATURE)
                .map(|nature| own(nature))
                .unwrap_or_default(),
            severity: event.severity,
        })
    }
}

/// The identity of an incident.
fn number(event: &Event, identity: &str) -> String {
    if event.source_id.is_empty() {
        return identity.to_owned();
    }
    text(&format!("{}/{}", event.source, event.source_id)).into_owned()
}

impl UnitOfWork<'_> {
    /// Opens the cases of the reported incidents, each once.
    pub async fn open_incidents(&mut self) -> Result<(), StoreError> {
        for incident in std::mem::take(&mut self.incidents) {
            let known = stored::of_incident(self.connection, &incident.agent, &incident.number);
            let case = match known.await? {
                Some(case) => case,
                None => self.open_incident(&incident).await?,
            };
            self.incident_cases.insert(incident.event, case);
        }
        Ok(())
    }

    /// The cases of the incidents that these events report: a station may push an incident repeatedly, and each push is an
    /// event of its own.
    pub async fn cases_of_events(
        &mut self,
        events: &[String],
    ) -> Result<BTreeSet<i64>, StoreError> {
        let opened = stored::of_events(self.connection, events).await?;
        let mut cases: BTreeSet<i64> = opened.iter().map(|(_, case)| *case).collect();
        for identity in events {
            if opened.iter().any(|(event, _)| event == identity) {
                continue;
            }
            if let Some(case) = self.incident_cases.get(identity) {
                cases.insert(*case);
                continue;
            }
            let agent = identity.split('/').next().unwrap_or_default();
            if self.casework.directory.station_of(agent).is_none() {
                continue;
            }
            // An event of an earlier transaction: the stored event names its incident.
            let Some(event) = chunks::event(self.connection, identity).await? else {
                continue;
            };
            if event.kind == REPORTED {
                let number = number(&event, identity);
                let case = stored::of_incident(self.connection, agent, &number).await?;
                cases.extend(case);
            }
        }
        Ok(cases)
    }

    async fn open_incident(&mut self, incident: &Incident) -> Result<i64, StoreError> {
        let casework = self.casework;
        let kind = casework.taxonomy.of_word(&incident.nature);
        let risk = match kind.risk.as_str() {
            risk if casework.terms.has_risk(risk) => risk.to_owned(),
            _ => casework.risk(incident.severity),
        };
        let place = casework
            .directory
            .locate(&incident.site, &incident.building, &incident.unit)
            .map(|place| place.id.clone())
            .unwrap_or_default();
        let station = casework
            .directory
            .station_of(&incident.agent)
            .map(|station| station.name.clone())
            .unwrap_or_default();
        let id = self.memory.last_case + 1;
        let opening = Opening {
            code: cases::code(id, self.now_ms),
            kind: kind.code.clone(),
            title: format!("{}（{station}）", kind.name),
            site: incident.site.clone(),
            place,
            key: incident.address.clone(),
            route: String::new(),
            source: cases::POLICE,
            agent: incident.agent.clone(),
            incident: incident.number.clone(),
            event: incident.event.clone(),
            opened_ms: self.now_ms,
        };
        let named_only = kind.named_only;
        let actor = format!("agent:{}", incident.agent);
        self.open_case(&opening, risk, named_only, "", &actor, BTreeSet::new())
            .await
    }
}
