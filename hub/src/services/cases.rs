//! Cases: listed, shown with masked texts, registered, moved, unmasked under a reason.
use serde::{Deserialize, Serialize};

use super::{Page, ServiceError, Services, bad_cursor, reason};
use crate::ingest::casework::{NewRegistration, allowed};
use linli_domain::cases::State as CaseState;
use linli_domain::cases::action::Action;
use linli_domain::cases::dispatch::About;
use linli_domain::cases::moves::Move;
use linli_domain::cases::narrative::Narrative;
use linli_domain::notice::without_numbers;
use linli_domain::orgs::Directory;
use linli_domain::rights::{Act, Actor, CaseAct, Decision, Role};
use linli_store::Connection;
use linli_store::cases::{self, ActionView, CaseFilter, CaseView, Record};

const OBJECT: &str = "/api/v1/cases";
/// The longest title and key, characters.
const TITLE_CHARS_MAX: usize = 200;
/// Similar cases that are shown.
const SIMILAR_MAX: usize = 20;

/// A case with what was done, and what it says of people.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct WholeCase {
    #[serde(flatten)]
    case: CaseView,
    /// 经办人
    handler: Option<String>,
    /// Who is to lead by the dispatch rules, while nobody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    proposed_lead: Option<String>,
    /// How far up the ladder it is: grid, office, centre, joint_meeting, leader.
    rung: &'static str,
    /// The leader who has taken it.
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<String>,
    /// 协办, by organisation; true: its part is done.
    joint: std::collections::BTreeMap<String, bool>,
    /// Moves that the state takes.
    moves: Vec<&'static str>,
    /// What it says of people, masked.
    narrative: Narrative,
    /// What was done, oldest first. What people wrote is shown to those who work with cases, without numbers of
    /// telephones and identity cards; who has read it is in the audit log.
    actions: Vec<ActionView>,
}

/// What somebody registers.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCase {
    /// Code of its kind, from the taxonomy.
    pub kind: String,
    /// What lists show: nothing of a person.
    pub title: String,
    /// Id of the place.
    #[serde(default)]
    pub place: String,
    /// Key of its address or thing, by which repeats are found.
    #[serde(default)]
    pub key: String,
    /// The number that whoever sends it has for it: sent again, it is the same case.
    #[serde(default)]
    pub external: String,
    /// Grade of its risk; by its kind if it is not given.
    #[serde(default)]
    pub risk: String,
    /// What it says of people.
    #[serde(default)]
    pub narrative: Narrative,
}

/// What a case says of people, and all that people wrote.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Unmasked {
    #[serde(flatten)]
    narrative: Narrative,
    /// What was done, oldest first.
    actions: Vec<ActionView>,
}

/// The organisation whose cases an actor sees in lists; `None`: all.
pub(super) fn scope(actor: &Actor, directory: &Directory) -> Option<String> {
    (!directory.has_all(&actor.org)).then(|| actor.org.clone())
}

/// Grid workers and who revisits see what is of their place, not what their organisation is given.
fn keep_own(cases: &mut Vec<CaseView>, actor: &Actor, directory: &Directory) {
    if matches!(actor.role, Role::Grid | Role::Revisit) && scope(actor, directory).is_some() {
        cases.retain(|case| directory.covers(&actor.org, &case.place));
    }
}

/// There is no such case, or the actor may not know of it.
pub(super) fn unknown() -> ServiceError {
    ServiceError::missing(
        "没有这个案件，或您无权查看 / there is no case of this code, or it is not for you to see",
    )
}

impl Services {
    /// Cases that the actor sees, newest first, without what they say of people. `cursor` is the code that the page before
    /// gave as next; `filter.limit` is of one page.
    pub async fn cases(
        &self,
        actor: &Actor,
        filter: CaseFilter,
        cursor: Option<&str>,
    ) -> Result<Page<CaseView>, ServiceError> {
        self.permit(actor, Act::Watch, "GET", OBJECT).await?;
        if let Some(state) = &filter.state
            && CaseState::from_name(state).is_none()
        {
            let names = CaseState::ALL.map(CaseState::as_str).join(", ");
            let message = format!("{state:?} is none of {names}");
            return Err(ServiceError::invalid("state", message));
        }
        self.case_page(actor, filter, cursor).await
    }

    /// A page of the cases that the actor sees; `filter.limit` is of one page.
    pub(super) async fn case_page(
        &self,
        actor: &Actor,
        filter: CaseFilter,
        cursor: Option<&str>,
    ) -> Result<Page<CaseView>, ServiceError> {
        let mut snapshot = self.store.snapshot().await?;
        let directory = self.directory.of(&mut snapshot).await?;
        let before = match cursor {
            Some(code) => {
                let id = cases::id_of(&mut snapshot, code).await?;
                Some(id.ok_or_else(bad_cursor)?)
            }
            None => None,
        };
        let limit = filter.limit;
        let filter = CaseFilter {
            org: scope(actor, &directory),
            login: Some(actor.login.clone()),
            before,
            limit: limit + 1,
            ..filter
        };
        let found = cases::list(&mut snapshot, &filter).await?;
        let mut page = Page::first(found, limit, |case| case.code.clone());
        keep_own(&mut page.items, actor, &directory);
        Ok(page)
    }

    /// All of a case, as one commit has left it. The first reading of an hour is in the audit log.
    pub async fn case(&self, actor: &Actor, code: &str) -> Result<WholeCase, ServiceError> {
        self.permit(actor, Act::Watch, "GET", OBJECT).await?;
        let mut snapshot = self.store.snapshot().await?;
        let record = self
            .visible_case(&mut snapshot, actor, code, CaseAct::See)
            .await?;
        let whole = self.whole_case(&mut snapshot, actor, record).await?;
        // The snapshot is given back first: the note is written by another connection.
        drop(snapshot);
        if reads_texts(actor) {
            self.note_reading(actor, code).await?;
        }
        Ok(whole)
    }

    async fn whole_case(
        &self,
        snapshot: &mut Connection,
        actor: &Actor,
        record: Record,
    ) -> Result<WholeCase, ServiceError> {
        let sealer = &self.case_parts()?.sealer;
        let view = cases::get(snapshot, record.id).await?;
        let narrative = cases::narrative(snapshot, sealer, record.id).await?;
        let narrative: Narrative = serde_json::from_str(&narrative).unwrap_or_default();
        let log = cases::log(snapshot, sealer, record.id).await?;
        let reads = reads_texts(actor);
        let actions = log
            .iter()
            .map(|action| {
                shown(action, |note| {
                    if is_by_program(action) {
                        note
                    } else if reads {
                        without_numbers(&note)
                    } else {
                        String::new()
                    }
                })
            })
            .collect();
        let case = record.case;
        let proposed_lead = match case.state {
            CaseState::Registered | CaseState::Accepted | CaseState::Returned => {
                let about = About::of(&case, &record.place);
                let directory = self.directory.of(snapshot).await?;
                match self.dispatch.candidates(about, &directory) {
                    Some(candidates) => cases::least(snapshot, candidates).await?,
                    None => None,
                }
            }
            _ => None,
        };
        Ok(WholeCase {
            proposed_lead,
            rung: case.rung.words().1,
            leader: case.leader.clone(),
            case: view
                .ok_or_else(|| linli_store::failed("reading a case")(sqlx::Error::RowNotFound))?,
            handler: case.handler.clone(),
            joint: case
                .joint
                .iter()
                .map(|(org, joint)| (org.clone(), joint.done))
                .collect(),
            moves: case
                .state
                .allows()
                .into_iter()
                .map(|kind| kind.words().1)
                .collect(),
            narrative: narrative.masked(),
            actions,
        })
    }

    /// A case that the actor may see, or do something about. A refusal is in the audit log.
    pub(super) async fn visible_case(
        &self,
        snapshot: &mut Connection,
        actor: &Actor,
        code: &str,
        act: CaseAct,
    ) -> Result<Record, ServiceError> {
        let record = match cases::id_of(snapshot, code).await? {
            Some(id) => cases::load(snapshot, &self.case_parts()?.sealer, id).await?,
            None => None,
        };
        let record = record.ok_or_else(unknown)?;
        let directory = self.directory.of(snapshot).await?;
        match allowed(&directory, actor, act, &record.case, &record.place) {
            Decision::Allowed => Ok(record),
            Decision::Hidden => Err(unknown()),
            Decision::Refused => {
                let word = match act {
                    CaseAct::Unmask => "unmask",
                    CaseAct::Supervise => "subject",
                    CaseAct::Note => "attach",
                    _ => "see",
                };
                self.refuse(actor, word, &format!("case/{code}")).await
            }
        }
    }

    /// Registers a case; returns its code. Sent again with the same external number, it is the same case.
    pub async fn register_case(&self, actor: &Actor, new: NewCase) -> Result<String, ServiceError> {
        self.permit(actor, Act::Watch, "POST", OBJECT).await?;
        let title = new.title.trim();
        if title.is_empty() || title.chars().count() > TITLE_CHARS_MAX {
            let message = format!("1 to {TITLE_CHARS_MAX} characters");
            return Err(ServiceError::invalid("title", message));
        }
        for (key, text) in [("key", &new.key), ("external", &new.external)] {
            if text.chars().count() > TITLE_CHARS_MAX {
                let message = format!("at most {TITLE_CHARS_MAX} characters");
                return Err(ServiceError::invalid(key, message));
            }
        }
        new.narrative
            .check()
            .map_err(|(key, message)| ServiceError::invalid(key, message))?;
        let narrative = if new.narrative.is_empty() {
            String::new()
        } else {
            serde_json::to_string(&new.narrative).unwrap_or_default()
        };
        let registering = NewRegistration {
            kind: new.kind,
            title: title.to_owned(),
            place: new.place,
            key: new.key,
            external: new.external,
            risk: new.risk,
            narrative,
        };
        let writer = self.writes.writer()?;
        Ok(writer.register(actor.clone(), registering).await??)
    }

    /// Moves a case on, if it still has the version that the actor has seen. Returns its version after the move.
    pub async fn move_case(
        &self,
        actor: &Actor,
        code: String,
        version: i64,
        wanted: Move,
    ) -> Result<i64, ServiceError> {
        self.permit(actor, Act::Watch, "POST", OBJECT).await?;
        let writer = self.writes.writer()?;
        Ok(writer
            .move_case(code, actor.clone(), version, wanted)
            .await??)
    }

    /// What a case says of people, unmasked. Who asked, when and why is in the audit log before it is read.
    pub async fn unmask(
        &self,
        actor: &Actor,
        code: &str,
        why: &str,
    ) -> Result<Unmasked, ServiceError> {
        self.permit(actor, Act::Watch, "POST", OBJECT).await?;
        let why = reason(why)?;
        let sealer = &self.case_parts()?.sealer;
        let mut snapshot = self.store.snapshot().await?;
        let record = self
            .visible_case(&mut snapshot, actor, code, CaseAct::Unmask)
            .await?;
        self.note_of_case(actor, "case.unmask", code, why, String::new())
            .await?;
        let narrative = cases::narrative(&mut snapshot, sealer, record.id).await?;
        let log = cases::log(&mut snapshot, sealer, record.id).await?;
        Ok(Unmasked {
            narrative: serde_json::from_str(&narrative).unwrap_or_default(),
            actions: log
                .iter()
                .map(|action| shown(action, |note| note))
                .collect(),
        })
    }

    /// Cases of the same key, or the same place and kind, that the actor sees, newest first: a person decides whether they
    /// are one.
    pub async fn similar_cases(
        &self,
        actor: &Actor,
        code: &str,
    ) -> Result<Vec<CaseView>, ServiceError> {
        self.permit(actor, Act::Watch, "GET", OBJECT).await?;
        let mut snapshot = self.store.snapshot().await?;
        let record = self
            .visible_case(&mut snapshot, actor, code, CaseAct::See)
            .await?;
        let directory = self.directory.of(&mut snapshot).await?;
        let own = cases::get(&mut snapshot, record.id)
            .await?
            .ok_or_else(unknown)?;
        if own.key.is_empty() {
            return Ok(Vec::new());
        }
        let filter = CaseFilter {
            key: Some(own.key),
            org: scope(actor, &directory),
            login: Some(actor.login.clone()),
            limit: SIMILAR_MAX + 1,
            ..CaseFilter::default()
        };
        let mut items = cases::list(&mut snapshot, &filter).await?;
        items.retain(|case| case.code != code);
        keep_own(&mut items, actor, &directory);
        items.truncate(SIMILAR_MAX);
        Ok(items)
    }
}

/// Somebody reads what people wrote.
fn reads_texts(actor: &Actor) -> bool {
    !matches!(actor.role, Role::Operator | Role::Grid)
}

/// A program did it: what it says is not of a person.
fn is_by_program(action: &Action) -> bool {
    action.actor == linli_domain::cases::action::HUB
        || action.actor.starts_with("rule:")
        || action.actor.starts_with("agent:")
}

/// An action, with what becomes of its note.
pub(super) fn shown(action: &Action, note: impl Fn(String) -> String) -> ActionView {
    ActionView {
        number: action.number,
        at_ms: action.at_ms,
        actor: action.actor.clone(),
        organisation: action.organisation.clone(),
        action: action.word().to_owned(),
        note: note(action.note()),
    }
}
