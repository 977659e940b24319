//! Cases and their append-only actions.
//!
//! A row has the columns for lists and look-ups; the case itself and its actions are sealed, because they
//! contain texts that people wrote. Both are written in one transaction, so a case always equals the fold of
//! its log.
use serde::Serialize;
use sqlx::Row as _;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::statement::Statement;
use super::{Connection, IDS_OF_QUERY_MAX, Row, StoreError, failed, flag, sequences};
use crate::sealed::{SealError, Sealer};
use linli_domain::cases::action::Action;
use linli_domain::cases::case::Case;
use linli_domain::cases::clock::Mark;
use linli_domain::cases::dispatch::Candidates;
use linli_domain::cases::{Opening, POLICE, State};

/// An action on a case.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct ActionView {
    /// Number, from 1 without gaps.
    pub number: i64,
    /// Time, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// Actor: a person, a rule, or the hub.
    pub actor: String,
    /// The organisation for which the actor acts.
    pub organisation: String,
    /// Word of the action.
    pub action: String,
    /// The text and the recipient.
    pub note: String,
}

/// A case as the API shows it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct CaseView {
    /// Code: the only name of the case, from the registration to the archive.
    pub code: String,
    /// Kind.
    pub kind: String,
    /// Title.
    pub title: String,
    /// State.
    pub state: String,
    /// Grade of its risk.
    pub risk: String,
    /// Site.
    pub site: String,
    /// Id of the place.
    pub place: String,
    /// Key of the place or thing that it is about.
    pub key: String,
    /// Route of the notices of its rule.
    pub route: String,
    /// Source: rule, police, desk or import.
    pub source: String,
    /// Id of the organisation that leads.
    pub lead: String,
    /// Level of supervision; empty: none.
    pub supervision: String,
    /// It is for named handlers only.
    pub named_only: bool,
    /// When it was opened, milliseconds since 1970 UTC.
    pub opened_ms: i64,
    /// When it last changed, milliseconds since 1970 UTC.
    pub changed_ms: i64,
    /// The earliest deadline of its clocks, milliseconds since 1970 UTC.
    pub due_ms: Option<i64>,
    /// Version; increases with every action.
    pub version: i64,
    /// Ids of its warnings.
    pub warnings: Vec<i64>,
}

/// A filter of cases.
#[derive(Debug, Clone, Default)]
pub struct CaseFilter {
    /// Only this site.
    pub site: Option<String>,
    /// Only this kind.
    pub kind: Option<String>,
    /// Only this state.
    pub state: Option<String>,
    /// Only this key.
    pub key: Option<String>,
    /// Only cases with this organisation; `None`: all.
    pub org: Option<String>,
    /// Of cases for named handlers only, those that name this login; `None`: all.
    pub login: Option<String>,
    /// Only ids below this one, in the order of opening.
    pub before: Option<i64>,
    /// Maximum number of cases.
    pub limit: usize,
}

/// The data of a case to be stored that its log does not contain.
#[derive(Debug, Clone)]
pub struct NewCase<'a> {
    /// Id.
    pub id: i64,
    /// How the case was opened.
    pub opening: &'a Opening,
    /// The narrative, as JSON.
    pub narrative: &'a str,
}

/// A case with the data needed to work on it.
#[derive(Debug, Clone)]
pub struct Record {
    /// Id.
    pub id: i64,
    /// Site.
    pub site: String,
    /// Id of the place.
    pub place: String,
    /// Agent of the station that reported it; empty if none did.
    pub station: String,
    /// The incident by which the station identifies it: its source and number there.
    pub incident: String,
    /// The case.
    pub case: Case,
}

fn unsealed(error: SealError) -> StoreError {
    StoreError::Unreadable {
        what: "a case",
        source: Box::new(error),
    }
}

fn unread(error: serde_json::Error) -> StoreError {
    StoreError::Unreadable {
        what: "a case",
        source: Box::new(error),
    }
}

/// The owner with which a sealed field of a case is authenticated.
fn belongs(field: &str, id: i64) -> String {
    format!("cases.{field}/{id}")
}

/// The owner with which a sealed action is authenticated.
fn of_action(id: i64, number: i64) -> String {
    format!("case_actions/{id}/{number}")
}

/// The level of supervision of a case, as a word.
fn supervision(case: &Case) -> &'static str {
    case.supervision.map_or("", |mark: Mark| mark.words().1)
}

/// The columns of a view, without sealed ones, which are long and are read for one case at a time.
const VIEW: &str = "cases.id, code, kind, title, cases.state, risk, site, place, case_key, route, source, lead, \
                    supervision, named_only, opened_ms, changed_ms, due_ms, version";

/// The open case of a kind about a key on a route. A case on another route is with other people, who must not
/// get data that was not sent to them. Errors: [`StoreError`].
pub async fn find_open(
    connection: &mut Connection,
    opening: &Opening,
    named_only: bool,
) -> Result<Option<i64>, StoreError> {
    let mut query = Statement::new("SELECT id FROM cases WHERE kind = ");
    query
        .bind(opening.kind.as_str())
        .push(" AND case_key = ")
        .bind(opening.key.as_str())
        .push(" AND route = ")
        .bind(opening.route.as_str())
        .push(" AND named_only = ")
        .bind(i16::from(named_only))
        .push(" AND state NOT IN (")
        .bind_all(State::closed())
        .push(") ORDER BY id LIMIT 1");
    let row = query
        .build()
        .fetch_optional(connection)
        .await
        .map_err(failed("looking for an open case"))?;
    Ok(row.map(|row| row.get(0)))
}

/// Cases that these events opened, each with its event. Errors: [`StoreError`].
pub async fn of_events(
    connection: &mut Connection,
    events: &[String],
) -> Result<Vec<(String, i64)>, StoreError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = Statement::new("SELECT event, id FROM cases WHERE event <> '' AND event IN (");
    query.bind_all(events.iter().map(String::as_str)).push(")");
    let rows = query
        .build()
        .fetch_all(connection)
        .await
        .map_err(failed("looking for the cases of events"))?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The open ones of these cases: only those for named handlers, or only the others. Errors: [`StoreError`].
pub async fn open_among(
    connection: &mut Connection,
    ids: &BTreeSet<i64>,
    named_only: bool,
) -> Result<Vec<i64>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = Statement::new("SELECT id FROM cases WHERE id IN (");
    query
        .bind_all(ids.iter().copied())
        .push(") AND named_only = ")
        .bind(i16::from(named_only))
        .push(" AND state NOT IN (")
        .bind_all(State::closed())
        .push(") ORDER BY id");
    let rows = query
        .build()
        .fetch_all(connection)
        .await
        .map_err(failed("looking for open cases"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The case of an incident. Errors: [`StoreError`].
pub async fn of_incident(
    connection: &mut Connection,
    agent: &str,
    incident: &str,
) -> Result<Option<i64>, StoreError> {
    let row =
        sqlx::query("SELECT id FROM cases WHERE agent = $1 AND incident = $2 AND incident <> ''")
            .bind(agent)
            .bind(incident)
            .fetch_optional(connection)
            .await
            .map_err(failed("looking for the case of an incident"))?;
    Ok(row.map(|row| row.get(0)))
}

/// True if a warning belongs to a case for named handlers only. Errors: [`StoreError`].
pub async fn is_hidden(connection: &mut Connection, warning: i64) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT 1 FROM case_warnings JOIN cases ON case_id = id WHERE warning_id = $1 AND named_only = 1 LIMIT 1",
    )
    .bind(warning)
    .fetch_optional(connection)
    .await
    .map_err(failed("looking whether a warning is hidden"))?;
    Ok(row.is_some())
}

/// The codes among `codes` of cases for named handlers only that do not name `login`. Errors: [`StoreError`].
pub async fn hidden(
    connection: &mut Connection,
    codes: &[String],
    login: &str,
) -> Result<BTreeSet<String>, StoreError> {
    let mut hidden = BTreeSet::new();
    for codes in codes.chunks(IDS_OF_QUERY_MAX) {
        let mut query = Statement::new(
            "SELECT code FROM cases WHERE named_only = 1 AND id NOT IN (SELECT case_id FROM case_named WHERE login = ",
        );
        query
            .bind(login)
            .push(") AND code IN (")
            .bind_all(codes.iter().map(String::as_str))
            .push(")");
        let rows = query
            .build()
            .fetch_all(&mut *connection)
            .await
            .map_err(failed("looking for what is for named handlers only"))?;
        hidden.extend(rows.iter().map(|row| row.get::<String, _>(0)));
    }
    Ok(hidden)
}

/// Inserts a case with its first action. Errors: [`StoreError`].
pub async fn insert(
    connection: &mut Connection,
    sealer: &Sealer,
    new: &NewCase<'_>,
    case: &Case,
    action: &Action,
    orgs: &BTreeSet<String>,
) -> Result<(), StoreError> {
    let (id, opening) = (new.id, new.opening);
    let detail = serde_json::to_string(case).map_err(unread)?;
    sqlx::query(
        "INSERT INTO cases (id, code, kind, title, state, risk, site, place, case_key, route, source, agent, \
         incident, event, lead, supervision, named_only, opened_ms, changed_ms, due_ms, wake_ms, version, detail, \
         narrative) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $18, \
         $19, $20, $21, $22, $23)",
    )
    .bind(id)
    .bind(opening.code.as_str())
    .bind(opening.kind.as_str())
    .bind(opening.title.as_str())
    .bind(case.state.as_str())
    .bind(case.risk.as_str())
    .bind(opening.site.as_str())
    .bind(opening.place.as_str())
    .bind(opening.key.as_str())
    .bind(opening.route.as_str())
    .bind(opening.source)
    .bind(opening.agent.as_str())
    .bind(opening.incident.as_str())
    .bind(opening.event.as_str())
    .bind(case.lead.as_str())
    .bind(supervision(case))
    .bind(i16::from(case.named_only))
    .bind(opening.opened_ms)
    .bind(case.due_ms())
    .bind(linli_domain::cases::due::next_wake_ms(case))
    .bind(case.version)
    .bind(sealer.seal(&detail, &belongs("detail", id)))
    .bind(sealer.seal(new.narrative, &belongs("narrative", id)))
    .execute(&mut *connection)
    .await
    .map_err(failed("opening a case"))?;
    note(connection, sealer, id, action).await?;
    place(connection, id, orgs, case.state).await
}

/// Writes an action, and the case after it. Errors: [`StoreError`].
pub async fn append(
    connection: &mut Connection,
    sealer: &Sealer,
    id: i64,
    before: &Case,
    case: &Case,
    action: &Action,
) -> Result<(), StoreError> {
    let detail = serde_json::to_string(case).map_err(unread)?;
    // An action on a case that stays closed does not extend its retention.
    let is_over = before.state.is_closed() && before.state == case.state;
    let changed_ms = (!is_over).then_some(action.at_ms);
    sqlx::query(
        "UPDATE cases SET state = $2, risk = $3, lead = $4, supervision = $5, changed_ms = COALESCE($6, changed_ms), due_ms = $7, \
         wake_ms = $8, version = $9, detail = $10 WHERE id = $1",
    )
    .bind(id)
    .bind(case.state.as_str())
    .bind(case.risk.as_str())
    .bind(case.lead.as_str())
    .bind(supervision(case))
    .bind(changed_ms)
    .bind(case.due_ms())
    .bind(linli_domain::cases::due::next_wake_ms(case))
    .bind(case.version)
    .bind(sealer.seal(&detail, &belongs("detail", id)))
    .execute(&mut *connection)
    .await
    .map_err(failed("writing what a case has become"))?;
    if before.state != case.state {
        sqlx::query("UPDATE case_orgs SET state = $2 WHERE case_id = $1")
            .bind(id)
            .bind(case.state.as_str())
            .execute(&mut *connection)
            .await
            .map_err(failed("writing the state of a case for its organisations"))?;
    }
    if before.named != case.named {
        name(connection, id, &case.named).await?;
    }
    note(connection, sealer, id, action).await
}

async fn note(
    connection: &mut Connection,
    sealer: &Sealer,
    id: i64,
    action: &Action,
) -> Result<(), StoreError> {
    let detail = serde_json::to_string(action).map_err(unread)?;
    sqlx::query(
        "INSERT INTO case_actions (case_id, number, at_ms, actor, organisation, action, detail) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(id)
    .bind(action.number)
    .bind(action.at_ms)
    .bind(action.actor.as_str())
    .bind(action.organisation.as_str())
    .bind(action.word())
    .bind(sealer.seal(&detail, &of_action(id, action.number)))
    .execute(connection)
    .await
    .map_err(failed("noting an action on a case"))?;
    Ok(())
}

/// Sets the organisations that a case is with. Errors: [`StoreError`].
pub async fn place(
    connection: &mut Connection,
    id: i64,
    orgs: &BTreeSet<String>,
    state: State,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM case_orgs WHERE case_id = $1")
        .bind(id)
        .execute(&mut *connection)
        .await
        .map_err(failed("taking a case from its organisations"))?;
    if orgs.is_empty() {
        return Ok(());
    }
    let mut query = Statement::new("INSERT INTO case_orgs (org, case_id, state) ");
    query.rows(orgs, |row, org| {
        row.bind(org.as_str()).bind(id).bind(state.as_str());
    });
    query
        .build()
        .execute(connection)
        .await
        .map_err(failed("giving a case to its organisations"))?;
    Ok(())
}

/// The organisations that a case is with. Errors: [`StoreError`].
pub async fn orgs_of(connection: &mut Connection, id: i64) -> Result<BTreeSet<String>, StoreError> {
    let rows = sqlx::query("SELECT org FROM case_orgs WHERE case_id = $1")
        .bind(id)
        .fetch_all(connection)
        .await
        .map_err(failed("reading the organisations of a case"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Number of open cases of each of these organisations; organisations without one are missing.
async fn open_with(
    connection: &mut Connection,
    orgs: &[String],
) -> Result<HashMap<String, i64>, StoreError> {
    let open = State::ALL.into_iter().filter(|state| !state.is_closed());
    let mut query = Statement::new("SELECT org, COUNT(*) FROM case_orgs WHERE org IN (");
    query
        .bind_all(orgs.iter().map(String::as_str))
        .push(") AND state IN (")
        .bind_all(open.map(State::as_str))
        .push(") GROUP BY org");
    let rows = query
        .build()
        .fetch_all(connection)
        .await
        .map_err(failed("counting the open cases of organisations"))?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The candidate with the fewest open cases. Errors: [`StoreError`].
pub async fn least(
    connection: &mut Connection,
    candidates: Candidates,
) -> Result<Option<String>, StoreError> {
    let open = match candidates.orgs.len() {
        0 | 1 => HashMap::new(),
        _ => open_with(connection, &candidates.orgs).await?,
    };
    Ok(candidates.least(|org| open.get(org).copied().unwrap_or_default()))
}

/// Cases for named handlers only, after an id, none of whose handlers is an enabled user. Errors:
/// [`StoreError`].
pub async fn without_handlers(
    connection: &mut Connection,
    after: i64,
    limit: i64,
) -> Result<Vec<i64>, StoreError> {
    let rows = sqlx::query(
        "SELECT id FROM cases WHERE named_only = 1 AND state <> 'merged' AND id > $1 AND id NOT IN \
         (SELECT case_id FROM case_named JOIN users ON users.login = case_named.login WHERE disabled_ms IS NULL) \
         ORDER BY id LIMIT $2",
    )
        .bind(after)
        .bind(limit)
        .fetch_all(connection)
        .await
        .map_err(failed("looking for cases without a named handler"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn name(
    connection: &mut Connection,
    id: i64,
    named: &BTreeSet<String>,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM case_named WHERE case_id = $1")
        .bind(id)
        .execute(&mut *connection)
        .await
        .map_err(failed("taking a case from its named handlers"))?;
    for login in named {
        sqlx::query("INSERT INTO case_named (login, case_id) VALUES ($1, $2)")
            .bind(login.as_str())
            .bind(id)
            .execute(&mut *connection)
            .await
            .map_err(failed("giving a case to its named handlers"))?;
    }
    Ok(())
}

/// Reads a case with the data needed to work on it. Errors: [`StoreError`].
pub async fn load(
    connection: &mut Connection,
    sealer: &Sealer,
    id: i64,
) -> Result<Option<Record>, StoreError> {
    let row = sqlx::query("SELECT * FROM cases WHERE id = $1")
        .bind(id)
        .fetch_optional(connection)
        .await
        .map_err(failed("reading a case"))?;
    row.map(|row| record(&row, sealer)).transpose()
}

fn record(row: &Row, sealer: &Sealer) -> Result<Record, StoreError> {
    let id: i64 = row.get("id");
    let detail = sealer
        .open(row.get("detail"), &belongs("detail", id))
        .map_err(unsealed)?;
    Ok(Record {
        id,
        site: row.get("site"),
        place: row.get("place"),
        station: match row.get("source") {
            POLICE => row.get("agent"),
            _ => String::new(),
        },
        incident: row.get("incident"),
        case: serde_json::from_str(&detail).map_err(unread)?,
    })
}

/// The narrative of a case, as JSON. Errors: [`StoreError`].
pub async fn narrative(
    connection: &mut Connection,
    sealer: &Sealer,
    id: i64,
) -> Result<String, StoreError> {
    let row = sqlx::query("SELECT narrative FROM cases WHERE id = $1")
        .bind(id)
        .fetch_one(connection)
        .await
        .map_err(failed("reading a narrative"))?;
    sealer
        .open(row.get(0), &belongs("narrative", id))
        .map_err(unsealed)
}

/// The narratives of cases below an id, as JSON, newest first, including empty ones. Errors: [`StoreError`].
pub async fn narratives(
    connection: &mut Connection,
    sealer: &Sealer,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<(i64, String)>, StoreError> {
    let rows =
        sqlx::query("SELECT id, narrative FROM cases WHERE id < $1 ORDER BY id DESC LIMIT $2")
            .bind(before.unwrap_or(i64::MAX))
            .bind(limit)
            .fetch_all(connection)
            .await
            .map_err(failed("reading narratives"))?;
    rows.iter()
        .map(|row| {
            let id = row.get("id");
            let text = sealer.open(row.get("narrative"), &belongs("narrative", id));
            Ok((id, text.map_err(unsealed)?))
        })
        .collect()
}

/// Replaces the narrative of a case. Errors: [`StoreError`].
pub async fn set_narrative(
    connection: &mut Connection,
    sealer: &Sealer,
    id: i64,
    narrative: &str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE cases SET narrative = $2 WHERE id = $1")
        .bind(id)
        .bind(sealer.seal(narrative, &belongs("narrative", id)))
        .execute(connection)
        .await
        .map_err(failed("writing a narrative"))?;
    Ok(())
}

/// Replaces actions by versions without texts, and clears the key, which may contain an address. Errors:
/// [`StoreError`].
pub async fn rewrite(
    connection: &mut Connection,
    sealer: &Sealer,
    id: i64,
    log: &[Action],
) -> Result<(), StoreError> {
    for action in log {
        let detail = serde_json::to_string(action).map_err(unread)?;
        sqlx::query("UPDATE case_actions SET detail = $3 WHERE case_id = $1 AND number = $2")
            .bind(id)
            .bind(action.number)
            .bind(sealer.seal(&detail, &of_action(id, action.number)))
            .execute(&mut *connection)
            .await
            .map_err(failed("taking texts out of the log of a case"))?;
    }
    sqlx::query("UPDATE cases SET case_key = '' WHERE id = $1")
        .bind(id)
        .execute(connection)
        .await
        .map_err(failed("taking the key of an address from a case"))?;
    Ok(())
}

/// The log of a case, oldest action first. Errors: [`StoreError`].
pub async fn log(
    connection: &mut Connection,
    sealer: &Sealer,
    id: i64,
) -> Result<Vec<Action>, StoreError> {
    let rows =
        sqlx::query("SELECT number, detail FROM case_actions WHERE case_id = $1 ORDER BY number")
            .bind(id)
            .fetch_all(connection)
            .await
            .map_err(failed("reading the log of a case"))?;
    rows.iter()
        .map(|row| {
            let detail = sealer
                .open(row.get("detail"), &of_action(id, row.get("number")))
                .map_err(unsealed)?;
            serde_json::from_str(&detail).map_err(unread)
        })
        .collect()
}

/// Cases with a due effect of time, longest due first. Errors: [`StoreError`].
pub async fn waking(
    connection: &mut Connection,
    now_ms: i64,
    limit: i64,
) -> Result<Vec<i64>, StoreError> {
    let rows = sqlx::query(
        "SELECT id FROM cases WHERE wake_ms IS NOT NULL AND wake_ms <= $1 ORDER BY wake_ms, id LIMIT $2",
    )
    .bind(now_ms)
    .bind(limit)
    .fetch_all(connection)
    .await
    .map_err(failed("looking for cases that are due"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Defers the next evaluation of a case at least until this time. Errors: [`StoreError`].
pub async fn put_off(
    connection: &mut Connection,
    id: i64,
    until_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE cases SET wake_ms = $2 WHERE id = $1 AND wake_ms < $2")
        .bind(id)
        .bind(until_ms)
        .execute(connection)
        .await
        .map_err(failed("putting off a case"))?;
    Ok(())
}

/// Open cases after an id, which may have clocks. A clock beyond the end of its calendar has no wake time, so
/// all open cases are returned. Errors: [`StoreError`].
pub async fn with_clocks(
    connection: &mut Connection,
    after: i64,
    limit: i64,
) -> Result<Vec<i64>, StoreError> {
    let mut query = Statement::new("SELECT id FROM cases WHERE state NOT IN (");
    query
        .bind_all(State::closed())
        .push(") AND id > ")
        .bind(after)
        .push(" ORDER BY id LIMIT ")
        .bind(limit);
    let rows = query
        .build()
        .fetch_all(connection)
        .await
        .map_err(failed("looking for cases that have clocks"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The cases of a warning. Errors: [`StoreError`].
pub async fn of_warning(connection: &mut Connection, warning: i64) -> Result<Vec<i64>, StoreError> {
    let rows =
        sqlx::query("SELECT case_id FROM case_warnings WHERE warning_id = $1 ORDER BY case_id")
            .bind(warning)
            .fetch_all(connection)
            .await
            .map_err(failed("looking for the cases of a warning"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Links a case and a warning. Errors: [`StoreError`].
pub async fn link(connection: &mut Connection, case: i64, warning: i64) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO case_warnings (case_id, warning_id) VALUES ($1, $2) \
         ON CONFLICT (case_id, warning_id) DO NOTHING",
    )
    .bind(case)
    .bind(warning)
    .execute(connection)
    .await
    .map_err(failed("linking a case and a warning"))?;
    Ok(())
}

/// Removes the link between a case and a warning. Errors: [`StoreError`].
pub async fn unlink(
    connection: &mut Connection,
    case: i64,
    warning: i64,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM case_warnings WHERE case_id = $1 AND warning_id = $2")
        .bind(case)
        .bind(warning)
        .execute(connection)
        .await
        .map_err(failed("unlinking a case and a warning"))?;
    Ok(())
}

/// The highest assigned id. Errors: [`StoreError`].
pub async fn last_id(connection: &mut Connection) -> Result<i64, StoreError> {
    sequences::last(connection, "cases").await
}

/// Cases, newest first. Errors: [`StoreError`].
pub async fn list(
    connection: &mut Connection,
    filter: &CaseFilter,
) -> Result<Vec<CaseView>, StoreError> {
    let rows = match &filter.org {
        Some(org) => of_org(connection, filter, org).await?,
        None => {
            let mut query = Statement::new("SELECT ");
            query.push(VIEW).push(" FROM cases WHERE 1 = 1");
            let (before, limit) = (filter.before, filter.limit);
            page(connection, query, filter, before, limit).await?
        }
    };
    views(connection, &rows).await
}

/// Cases of an organisation: takes a part of its cases along its index, newest first, and filters them. A
/// single statement could make a server walk all cases of the hub. If too few of a large organisation's cases
/// match, the rest is searched from the side of the filter.
async fn of_org(
    connection: &mut Connection,
    filter: &CaseFilter,
    org: &str,
) -> Result<Vec<Row>, StoreError> {
    let is_any = filter.site.is_none() && filter.kind.is_none() && filter.key.is_none();
    let part = if is_any {
        filter.limit
    } else {
        IDS_OF_QUERY_MAX
    };
    let part = part.min(IDS_OF_QUERY_MAX);
    let (mut rows, mut before) = (Vec::new(), filter.before);
    loop {
        let mut query = Statement::new("SELECT case_id FROM case_orgs WHERE org = ");
        query.bind(org);
        if let Some(state) = &filter.state {
            query.push(" AND state = ").bind(state.as_str());
        }
        if let Some(before) = before {
            query.push(" AND case_id < ").bind(before);
        }
        query
            .push(" ORDER BY case_id DESC LIMIT ")
            .bind(part as i64);
        let own = query
            .build()
            .fetch_all(&mut *connection)
            .await
            .map_err(failed("listing the cases of an organisation"))?;
        let ids: Vec<i64> = own.iter().map(|row| row.get(0)).collect();
        if !ids.is_empty() {
            let mut query = Statement::new("SELECT ");
            query
                .push(VIEW)
                .push(" FROM cases WHERE id IN (")
                .bind_all(ids.iter().copied())
                .push(")");
            let left = filter.limit - rows.len();
            rows.extend(page(connection, query, filter, before, left).await?);
        }
        before = ids.last().copied();
        if rows.len() >= filter.limit || ids.len() < part {
            return Ok(rows);
        }
        if !is_any {
            let mut query = Statement::new("SELECT ");
            query
                .push(VIEW)
                .push(" FROM cases WHERE EXISTS (SELECT 1 FROM case_orgs WHERE case_id = cases.id AND org = ")
                .bind(org)
                .push(")");
            let left = filter.limit - rows.len();
            rows.extend(page(connection, query, filter, before, left).await?);
            return Ok(rows);
        }
    }
}

/// The cases of a statement that match the filter, below an id, newest first.
async fn page(
    connection: &mut Connection,
    mut query: Statement,
    filter: &CaseFilter,
    before: Option<i64>,
    limit: usize,
) -> Result<Vec<Row>, StoreError> {
    for (column, value) in [
        (" AND state = ", &filter.state),
        (" AND site = ", &filter.site),
        (" AND kind = ", &filter.kind),
        (" AND case_key = ", &filter.key),
    ] {
        if let Some(value) = value {
            query.push(column).bind(value.as_str());
        }
    }
    if let Some(login) = &filter.login {
        query
            .push(" AND (named_only = 0 OR id IN (SELECT case_id FROM case_named WHERE login = ")
            .bind(login.as_str())
            .push("))");
    }
    if let Some(before) = before {
        query.push(" AND id < ").bind(before);
    }
    query.push(" ORDER BY id DESC LIMIT ").bind(limit as i64);
    query
        .build()
        .fetch_all(connection)
        .await
        .map_err(failed("listing cases"))
}

/// Those of these cases that are with an organisation (`None`: with any) and not for named handlers other than the
/// login; each with its place.
pub async fn visible(
    connection: &mut Connection,
    codes: &[String],
    org: Option<&str>,
    login: &str,
) -> Result<BTreeMap<String, String>, StoreError> {
    let mut visible = BTreeMap::new();
    for codes in codes.chunks(IDS_OF_QUERY_MAX) {
        let mut query = Statement::new("SELECT code, place FROM cases WHERE code IN (");
        query.bind_all(codes.iter().map(String::as_str)).push(")");
        query
            .push(" AND (named_only = 0 OR id IN (SELECT case_id FROM case_named WHERE login = ")
            .bind(login)
            .push("))");
        if let Some(org) = org {
            query
                .push(" AND EXISTS (SELECT 1 FROM case_orgs WHERE case_id = cases.id AND org = ")
                .bind(org)
                .push(")");
        }
        let rows = query
            .build()
            .fetch_all(&mut *connection)
            .await
            .map_err(failed("looking up who sees cases"))?;
        visible.extend(rows.iter().map(|row| (row.get(0), row.get(1))));
    }
    Ok(visible)
}

/// The number of a case.
pub async fn id_of(connection: &mut Connection, code: &str) -> Result<Option<i64>, StoreError> {
    let row = sqlx::query("SELECT id FROM cases WHERE code = $1")
        .bind(code)
        .fetch_optional(connection)
        .await
        .map_err(failed("looking up the code of a case"))?;
    Ok(row.map(|row| row.get(0)))
}

/// One case. Errors: [`StoreError`].
pub async fn get(connection: &mut Connection, id: i64) -> Result<Option<CaseView>, StoreError> {
    let mut query = Statement::new("SELECT ");
    query.push(VIEW).push(" FROM cases WHERE id = ").bind(id);
    let row = query
        .build()
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed("reading a case"))?;
    Ok(views(connection, row.as_slice()).await?.pop())
}

/// Cases with their warnings, in two statements regardless of their number.
async fn views(connection: &mut Connection, rows: &[Row]) -> Result<Vec<CaseView>, StoreError> {
    let mut warnings: HashMap<i64, Vec<i64>> = HashMap::new();
    for cases in rows.chunks(IDS_OF_QUERY_MAX) {
        let mut query =
            Statement::new("SELECT case_id, warning_id FROM case_warnings WHERE case_id IN (");
        query
            .bind_all(cases.iter().map(|case| case.get::<i64, _>("id")))
            .push(") ORDER BY warning_id");
        let linked = query
            .build()
            .fetch_all(&mut *connection)
            .await
            .map_err(failed("reading the warnings of cases"))?;
        for row in linked {
            warnings.entry(row.get(0)).or_default().push(row.get(1));
        }
    }
    Ok(rows
        .iter()
        .map(|row| CaseView {
            code: row.get("code"),
            kind: row.get("kind"),
            title: row.get("title"),
            state: row.get("state"),
            risk: row.get("risk"),
            site: row.get("site"),
            place: row.get("place"),
            key: row.get("case_key"),
            route: row.get("route"),
            source: row.get("source"),
            lead: row.get("lead"),
            supervision: row.get("supervision"),
            named_only: flag(row, "named_only"),
            opened_ms: row.get("opened_ms"),
            changed_ms: row.get("changed_ms"),
            due_ms: row.get("due_ms"),
            version: row.get("version"),
            warnings: warnings.remove(&row.get("id")).unwrap_or_default(),
        })
        .collect())
}
