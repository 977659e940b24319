//! Numbered changes: what a reader missed since a number, limited to what its actor may see now.
//!
//! A change names an object; the reader fetches the object again. An object that the actor may not see is left out, but
//! for a case that has moved away from the actor's organisation: that one is reported as gone, so that a page drops it.
//! Events, notifications, mutes and agents are reported by their site or channel, without content.
//!
//! [`Changes::reset`] tells that changes are missing: retention has deleted them, the database was restored, or the number
//! is of another database. The reader then reads everything again and goes on from [`Changes::next`].
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

use super::cases::scope;
use super::{ServiceError, Services};
use linli_domain::changes::{ChangeKind, NumberedChange};
use linli_domain::orgs::{Directory, Watched};
use linli_domain::rights::{Act, Actor, Role, may};
use linli_shared::service::clock;
use linli_store::warnings::WarningFilter;
use linli_store::{cases, changes, warnings};

/// Changes of one answer, before those that the actor may not see are left out.
const PAGE: i64 = 500;

/// A change as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = NumberedChange)]
pub struct ChangeView {
    /// Its number; pass it as `after`.
    pub number: i64,
    /// What kind of object.
    pub kind: ChangeKind,
    /// Which: the code of a case, the number of a warning, the name of an agent, channel, user or class.
    pub object: String,
    /// Its site, where the kind has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub site: String,
    /// Its version, where it has one.
    #[serde(skip_serializing_if = "is_zero")]
    pub version: i64,
    /// The object is with others now and not for this reader any more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
    /// When, RFC 3339.
    pub at: String,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Some changes after a number.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Changes {
    /// Oldest first; empty where `reset` is true.
    pub items: Vec<ChangeView>,
    /// Pass it as `after` for the next answer.
    pub next: i64,
    /// There are more after `next` now.
    pub more: bool,
    /// Changes are missing: read everything again, then go on from `next`.
    pub reset: bool,
}

impl Services {
    /// Changes after a number; without one, none: `next` is where to begin.
    pub async fn changes(
        &self,
        actor: &Actor,
        after: Option<i64>,
    ) -> Result<Changes, ServiceError> {
        let mut snapshot = self.store.snapshot().await?;
        let kept = changes::kept(&mut snapshot).await?;
        let Some(after) = after else {
            return Ok(Changes {
                items: Vec::new(),
                next: kept.last,
                more: false,
                reset: false,
            });
        };
        let reset = Changes {
            items: Vec::new(),
            next: kept.last,
            more: false,
            reset: true,
        };
        if !kept.reaches_back_to(after) {
            return Ok(reset);
        }
        let found = changes::after(&mut snapshot, after, PAGE).await?;
        if found
            .iter()
            .any(|change| change.kind == ChangeKind::Restored)
        {
            return Ok(reset);
        }
        let next = found.last().map_or(kept.last, |last| last.number);
        let directory = self.directory.of(&mut snapshot).await?;
        let watched = directory.watched(&actor.org);
        let cases = {
            let codes = of_kind(&found, ChangeKind::Case);
            let org = scope(actor, &directory);
            let mut seen =
                cases::visible(&mut snapshot, &codes, org.as_deref(), &actor.login).await?;
            if org.is_some() && matches!(actor.role, Role::Grid | Role::Revisit) {
                seen.retain(|_, place| directory.covers(&actor.org, place));
            }
            seen
        };
        let warnings = {
            let ids: Vec<i64> = of_kind(&found, ChangeKind::Warning)
                .iter()
                .filter_map(|id| id.parse().ok())
                .collect();
            let filter = WarningFilter {
                watched: watched.clone(),
                hidden: self.hidden_rules(actor),
                login: Some(actor.login.clone()),
                ..WarningFilter::default()
            };
            warnings::visible(&mut snapshot, &ids, &filter).await?
        };
        let sight = Sight {
            actor,
            directory: &directory,
            watched,
            cases,
            warnings,
        };
        Ok(Changes {
            items: found
                .into_iter()
                .filter_map(|change| sight.view(change))
                .collect(),
            next,
            more: next < kept.last,
            reset: false,
        })
    }
}

fn of_kind(changes: &[NumberedChange], kind: ChangeKind) -> Vec<String> {
    let objects: BTreeSet<&String> = changes
        .iter()
        .filter(|change| change.kind == kind)
        .map(|change| &change.object)
        .collect();
    objects.into_iter().cloned().collect()
}

/// What an actor sees now.
struct Sight<'a> {
    actor: &'a Actor,
    directory: &'a Directory,
    watched: Option<Watched>,
    cases: BTreeMap<String, String>,
    warnings: BTreeSet<i64>,
}

impl Sight<'_> {
    fn view(&self, change: NumberedChange) -> Option<ChangeView> {
        let watches = may(self.actor, Act::Watch);
        let detail = &change.detail;
        let mut gone = false;
        let is_seen = match change.kind {
            ChangeKind::Events | ChangeKind::Agent => {
                let own = self.watched.as_ref();
                watches && own.is_none_or(|own| own.has(&detail.site, &detail.agent))
            }
            ChangeKind::Warning => {
                let id = change.object.parse::<i64>();
                watches && id.is_ok_and(|id| self.warnings.contains(&id))
            }
            ChangeKind::Case => {
                let is_there = self.cases.contains_key(&change.object);
                gone = !is_there && self.was_with_own(&detail.orgs);
                watches && (is_there || gone)
            }
            ChangeKind::Notifications => watches && self.watched.is_none(),
            ChangeKind::Mutes => {
                let own = self.watched.as_ref();
                let is_own = |own: &Watched| detail.site.is_empty() || own.has(&detail.site, "");
                watches && own.is_none_or(is_own)
            }
            ChangeKind::User => may(self.actor, Act::Manage),
            ChangeKind::Rules | ChangeKind::Deleted => watches,
            ChangeKind::Directory | ChangeKind::Clock | ChangeKind::Restored => true,
        };
        is_seen.then(|| ChangeView {
            number: change.number,
            kind: change.kind,
            site: change.detail.site,
            version: if gone { 0 } else { change.detail.version },
            gone,
            object: change.object,
            at: clock::rfc3339(change.at_ms),
        })
    }

    /// The actor's organisation, or one under it, had the case before.
    fn was_with_own(&self, orgs: &[String]) -> bool {
        let own = self.actor.org.as_str();
        let within = |org: &String| org == own || self.directory.is_within(org, own);
        !own.is_empty() && orgs.iter().any(within)
    }
}
