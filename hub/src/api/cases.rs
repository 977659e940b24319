//! `/api/v1/cases`
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use linli_shared::service::problem::Problem;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::list::{Page, bad, bad_cursor, body, limit, page, path, query, why};
use super::{Api, auth, busy, readings, store_problem};
use crate::ingest::casework::{CaseRefusal, Registering, allowed};
use linli_domain::cases::State as CaseState;
use linli_domain::cases::action::Action;
use linli_domain::cases::dispatch::About;
use linli_domain::cases::moves::Move;
use linli_domain::cases::narrative::Narrative;
use linli_domain::cases::refused::Refused;
use linli_domain::notice::without_numbers;
use linli_domain::orgs::Directory;
use linli_domain::rights::{Actor, CaseAct, Decision, Role};
use linli_store::cases::{self, ActionView, CaseFilter, CaseView, Record};
use linli_store::{Connection, StoreError};

/// The longest title and key, characters.
const TITLE_CHARS_MAX: usize = 200;
/// Similar cases that are shown.
const SIMILAR_MAX: usize = 20;

/// Which cases.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CaseQuery {
    /// Only of this site.
    site: Option<String>,
    /// Only of this kind.
    kind: Option<String>,
    /// Only in this state.
    state: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// 1 to 500, default 50.
    limit: Option<u32>,
}

/// Which cases somebody sees in lists.
pub fn scope(actor: &Actor, directory: &Directory) -> Option<String> {
    (!directory.has_all(&actor.org)).then(|| actor.org.clone())
}

/// Grid workers and who revisits see what is of their place, not what their organisation is given.
pub fn keep_own(cases: &mut Vec<CaseView>, actor: &Actor, directory: &Directory) {
    if matches!(actor.role, Role::Grid | Role::Revisit) && scope(actor, directory).is_some() {
        cases.retain(|case| directory.covers(&actor.org, &case.place));
    }
}

/// Cases, newest first: those that who asks may see.
#[utoipa::path(get, path = "/api/v1/cases", params(CaseQuery), responses(
    (status = 200, body = Page<CaseView>),
    super::auth::Refusals,
))]
pub async fn list(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    parameters: Result<Query<CaseQuery>, QueryRejection>,
) -> Result<Json<Page<CaseView>>, Problem> {
    let parameters = query(parameters)?;
    let limit = limit(parameters.limit)?;
    if let Some(state) = &parameters.state
        && CaseState::from_name(state).is_none()
    {
        let names = CaseState::ALL.map(CaseState::as_str).join(", ");
        return Err(bad("state", format!("{state:?} is none of {names}")));
    }
    let mut snapshot = api.store.snapshot().await.map_err(store_problem)?;
    let directory = api
        .directory
        .of(&mut snapshot)
        .await
        .map_err(store_problem)?;
    let before = match &parameters.cursor {
        Some(code) => {
            let id = cases::id_of(&mut snapshot, code).await;
            Some(id.map_err(store_problem)?.ok_or_else(bad_cursor)?)
        }
        None => None,
    };
    let filter = CaseFilter {
        site: parameters.site,
        kind: parameters.kind,
        state: parameters.state,
        key: None,
        org: scope(&actor, &directory),
        login: Some(actor.login.clone()),
        before,
        limit: limit + 1,
    };
    let found = cases::list(&mut snapshot, &filter)
        .await
        .map_err(store_problem)?;
    let mut page = page(found, limit, |case| case.code.clone());
    keep_own(&mut page.items, &actor, &directory);
    Ok(Json(page))
}

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

/// One case.
#[utoipa::path(get, path = "/api/v1/cases/{code}", params(("code" = String, Path, description = "Code")), responses(
    (status = 200, body = WholeCase),
    super::auth::Refusals,
    (status = 404, description = "no such case", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn get(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    code: Result<Path<String>, PathRejection>,
) -> Result<Json<WholeCase>, Problem> {
    let code = path("code", code)?;
    seen(&api, &actor, &code).await.map(Json)
}

/// All of a case that somebody may see, as one commit has left it.
async fn seen(api: &Api, actor: &Actor, code: &str) -> Result<WholeCase, Problem> {
    let mut snapshot = api.store.snapshot().await.map_err(store_problem)?;
    let record = visible(api, &mut snapshot, actor, code, CaseAct::See).await?;
    let whole = whole(api, &mut snapshot, actor, record)
        .await
        .map_err(store_problem)?;
    // The snapshot is given back first: the note is written by another connection.
    drop(snapshot);
    if reads_texts(actor) {
        readings::note(api, actor, code).await?;
    }
    Ok(whole)
}

async fn whole(
    api: &Api,
    snapshot: &mut Connection,
    actor: &Actor,
    record: Record,
) -> Result<WholeCase, StoreError> {
    let view = cases::get(snapshot, record.id).await?;
    let narrative = cases::narrative(snapshot, &api.sealer, record.id).await?;
    let narrative: Narrative = serde_json::from_str(&narrative).unwrap_or_default();
    let log = cases::log(snapshot, &api.sealer, record.id).await?;
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
            let directory = api.directory.of(snapshot).await?;
            match api.dispatch.candidates(about, &directory) {
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
pub fn shown(action: &Action, note: impl Fn(String) -> String) -> ActionView {
    ActionView {
        number: action.number,
        at_ms: action.at_ms,
        actor: action.actor.clone(),
        organisation: action.organisation.clone(),
        action: action.word().to_owned(),
        note: note(action.note()),
    }
}

/// A case that somebody may see, or do something about.
pub async fn visible(
    api: &Api,
    snapshot: &mut Connection,
    actor: &Actor,
    code: &str,
    act: CaseAct,
) -> Result<Record, Problem> {
    let id = cases::id_of(snapshot, code).await;
    let record = match id.map_err(store_problem)? {
        Some(id) => cases::load(snapshot, &api.sealer, id)
            .await
            .map_err(store_problem)?,
        None => None,
    };
    let record = record.ok_or_else(unknown)?;
    let directory = api.directory.of(snapshot).await.map_err(store_problem)?;
    match allowed(&directory, actor, act, &record.case, &record.place) {
        Decision::Allowed => Ok(record),
        Decision::Hidden => Err(unknown()),
        Decision::Refused => {
            let path = format!("case/{code}");
            let word = match act {
                CaseAct::Unmask => "unmask",
                CaseAct::Supervise => "subject",
                CaseAct::Note => "attach",
                _ => "see",
            };
            auth::refuse(api, &actor.login, word, &path).await
        }
    }
}

fn unknown() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "not-found",
        "没有这个案件，或您无权查看 / there is no case of this code, or it is not for you to see",
    )
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

/// 登记: registers a case.
#[utoipa::path(post, path = "/api/v1/cases", request_body = NewCase, responses(
    (status = 201, body = WholeCase),
    (status = 202, description = "it is registered, and not for who registered it to see, or cannot be shown at the moment", body = Registered),
    super::auth::Refusals,
    (status = 409, description = "the case does not take it", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn register(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    new: Result<Json<NewCase>, JsonRejection>,
) -> Result<Response, Problem> {
    let code = register_one(&api, &actor, body(new)?).await?;
    match seen(&api, &actor, &code).await {
        Ok(whole) => Ok((StatusCode::CREATED, Json(whole)).into_response()),
        // It is there: an error would have it sent again.
        Err(_) => Ok((StatusCode::ACCEPTED, Json(Registered { code })).into_response()),
    }
}

/// The code of a case that was registered.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Registered {
    /// Code.
    code: String,
}

/// Registers a case that is as it should be; its code.
pub async fn register_one(api: &Api, actor: &Actor, new: NewCase) -> Result<String, Problem> {
    let title = new.title.trim();
    if title.is_empty() || title.chars().count() > TITLE_CHARS_MAX {
        return Err(bad("title", format!("1 to {TITLE_CHARS_MAX} characters")));
    }
    for (key, text) in [("key", &new.key), ("external", &new.external)] {
        if text.chars().count() > TITLE_CHARS_MAX {
            return Err(bad(key, format!("at most {TITLE_CHARS_MAX} characters")));
        }
    }
    new.narrative
        .check()
        .map_err(|(key, message)| bad(key, message))?;
    let narrative = if new.narrative.is_empty() {
        String::new()
    } else {
        serde_json::to_string(&new.narrative).unwrap_or_default()
    };
    let registering = Registering {
        kind: new.kind,
        title: title.to_owned(),
        place: new.place,
        key: new.key,
        external: new.external,
        risk: new.risk,
        narrative,
    };
    let registered = api.ingest.register(actor.clone(), registering).await;
    registered.map_err(busy)?.map_err(refusal)
}

/// A move, and the version of the case that who makes it has seen.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseMove {
    /// The version that was seen.
    version: i64,
    /// What is done.
    #[serde(rename = "move")]
    wanted: Move,
}

/// Its version after the move.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Moved {
    /// Version.
    pub version: i64,
}

/// Moves a case on.
#[utoipa::path(post, path = "/api/v1/cases/{code}/moves", request_body = CaseMove, params(("code" = String, Path, description = "Code")), responses(
    (status = 200, body = Moved),
    super::auth::Refusals,
    (status = 404, description = "no such case", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
    (status = 409, description = "the case does not take it: its state, its version, who has worked on it", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn make_move(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    code: Result<Path<String>, PathRejection>,
    wanted: Result<Json<CaseMove>, JsonRejection>,
) -> Result<Json<Moved>, Problem> {
    let code = path("code", code)?;
    let CaseMove { version, wanted } = body(wanted)?;
    let moved = api.ingest.move_case(code, actor, version, wanted).await;
    let version = moved.map_err(busy)?.map_err(refusal)?;
    Ok(Json(Moved { version }))
}

pub fn refusal(refusal: CaseRefusal) -> Problem {
    match refusal {
        CaseRefusal::Unknown => unknown(),
        CaseRefusal::Right => auth::forbidden(),
        CaseRefusal::Refused(refused) => {
            let status = match refused {
                Refused::Forbidden { .. }
                | Refused::Stale { .. }
                | Refused::Already { .. }
                | Refused::SamePerson { .. }
                | Refused::SameOrganisation { .. }
                | Refused::TooLate { .. }
                | Refused::JointOpen { .. }
                | Refused::LeadWanted
                | Refused::LeadNamed
                | Refused::LastHandler
                | Refused::NotNext { .. }
                | Refused::TooMany { .. }
                | Refused::TooLarge { .. }
                | Refused::NoRequest { .. }
                | Refused::StillNeeded { .. } => StatusCode::CONFLICT,
                Refused::NotForYou { .. } => StatusCode::FORBIDDEN,
                _ => StatusCode::BAD_REQUEST,
            };
            Problem::new(status, refused.code(), refused.to_string())
        }
    }
}

/// Why somebody wants to see more.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Unmask {
    /// Why; it is kept.
    reason: String,
}

/// What a case says of people, and all that people wrote.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Unmasked {
    #[serde(flatten)]
    narrative: Narrative,
    /// What was done, oldest first.
    actions: Vec<ActionView>,
}

/// Shows what a case says of people, unmasked. Who asked, when and why goes into the audit log first.
#[utoipa::path(post, path = "/api/v1/cases/{code}/unmask", request_body = Unmask, params(("code" = String, Path, description = "Code")), responses(
    (status = 200, body = Unmasked),
    super::auth::Refusals,
    (status = 404, description = "no such case", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn unmask(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    code: Result<Path<String>, PathRejection>,
    unmask: Result<Json<Unmask>, JsonRejection>,
) -> Result<Json<Unmasked>, Problem> {
    let code = path("code", code)?;
    let Unmask { reason } = body(unmask)?;
    let reason = why(&reason)?;
    let mut snapshot = api.store.snapshot().await.map_err(store_problem)?;
    let record = visible(&api, &mut snapshot, &actor, &code, CaseAct::Unmask).await?;
    readings::write(&api, &actor, "case.unmask", &code, reason, String::new()).await?;
    let narrative = cases::narrative(&mut snapshot, &api.sealer, record.id)
        .await
        .map_err(store_problem)?;
    let log = cases::log(&mut snapshot, &api.sealer, record.id)
        .await
        .map_err(store_problem)?;
    Ok(Json(Unmasked {
        narrative: serde_json::from_str(&narrative).unwrap_or_default(),
        actions: log
            .iter()
            .map(|action| shown(action, |note| note))
            .collect(),
    }))
}

/// Cases of the same key or the same place and kind that who asks may see, newest first: a person decides whether
/// they are one.
#[utoipa::path(get, path = "/api/v1/cases/{code}/similar", params(("code" = String, Path, description = "Code")), responses(
    (status = 200, body = Page<CaseView>),
    super::auth::Refusals,
    (status = 404, description = "no such case", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn similar(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    code: Result<Path<String>, PathRejection>,
) -> Result<Json<Page<CaseView>>, Problem> {
    let code = path("code", code)?;
    let mut snapshot = api.store.snapshot().await.map_err(store_problem)?;
    let record = visible(&api, &mut snapshot, &actor, &code, CaseAct::See).await?;
    let directory = api
        .directory
        .of(&mut snapshot)
        .await
        .map_err(store_problem)?;
    let own = cases::get(&mut snapshot, record.id)
        .await
        .map_err(store_problem)?
        .ok_or_else(unknown)?;
    if own.key.is_empty() {
        return Ok(Json(Page {
            items: Vec::new(),
            next: None,
        }));
    }
    let filter = CaseFilter {
        key: Some(own.key),
        org: scope(&actor, &directory),
        login: Some(actor.login.clone()),
        limit: SIMILAR_MAX + 1,
        ..CaseFilter::default()
    };
    let mut items = cases::list(&mut snapshot, &filter)
        .await
        .map_err(store_problem)?;
    items.retain(|case| case.code != code);
    keep_own(&mut items, &actor, &directory);
    items.truncate(SIMILAR_MAX);
    Ok(Json(Page { items, next: None }))
}
