//! `/api/v1/cases/{code}/subject`: what is done under a resident's request, which is the case of that code.
//!
//! Each is for who supervises the place of the request, and of what it is about. Looking and giving out are in the audit
//! log before anything is shown, with the code of the request as their reason.
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::{Extension, Json};
use linli_shared::service::problem::Problem;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::cases::{Moved, refusal, shown, visible};
use super::list::{bad, body, path};
use super::{Api, busy, readings, store_problem};
use crate::attachments::name;
use crate::ingest::casework::{CaseRefusal, allowed};
use crate::ingest::subject::{ANSWER, Subjecting};
use linli_domain::cases::case::Case;
use linli_domain::cases::narrative::Narrative;
use linli_domain::cases::subject::{self, Wish};
use linli_domain::mask::mask;
use linli_domain::rights::{Actor, CaseAct, Decision};
use linli_store::cases::{self, ActionView, CaseView};
use linli_store::{Connection, StoreError};

/// Cases whose narratives one search opens; `next` goes on from there.
const SCANNED_MAX: usize = 20_000;
/// Read at once.
const PAGE: i64 = 500;
/// The shortest number that is looked for, digits: less would find others.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=20;
/// Cases of one export.
const EXPORTED_MAX: usize = 20;

/// Whom to look for.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubjectSearch {
    /// Their phone: 7 to 20 digits.
    phone: String,
    /// `next` of the answer before.
    #[serde(default)]
    cursor: Option<String>,
}

/// What was found.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SubjectFound {
    /// Cases whose narrative has the phone, of those that who asks may see unmasked; newest first.
    items: Vec<CaseView>,
    /// There are older ones that were not looked at: pass it as `cursor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A request that who asks may answer.
async fn request(
    api: &Api,
    snapshot: &mut Connection,
    actor: &Actor,
    code: &str,
    wishes: &[Wish],
) -> Result<Case, Problem> {
    let record = visible(api, snapshot, actor, code, ANSWER).await?;
    subject::asks(&record.case, wishes)
        .map_err(|refused| refusal(CaseRefusal::Refused(refused)))?;
    Ok(record.case)
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// The digits of a phone that can be looked for.
fn phone_digits(phone: &str) -> Result<String, Problem> {
    let number = digits(phone);
    if PHONE_DIGITS.contains(&number.len()) {
        return Ok(number);
    }
    Err(bad("phone", "7 to 20 digits"))
}

/// Numbers that are the same but for what stands before them, like that of the country.
fn is_same(one: &str, phone: &str) -> bool {
    let one = digits(one);
    one.len() >= *PHONE_DIGITS.start() && (one.ends_with(phone) || phone.ends_with(&one))
}

/// A narrative has a phone: of a party, or in its text.
fn names(narrative: &Narrative, phone: &str) -> bool {
    narrative
        .parties
        .iter()
        .any(|party| is_same(&party.phone, phone))
        || digits(&narrative.text).contains(phone)
}

/// Looks for the cases that are about somebody, by phone. It opens every narrative, 20,000 for a request.
#[utoipa::path(post, path = "/api/v1/cases/{code}/subject/search", request_body = SubjectSearch, params(("code" = String, Path, description = "Code of the request")), responses(
    (status = 200, body = SubjectFound),
    super::auth::Refusals,
    (status = 404, description = "no such case", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
    (status = 409, description = "the case is no request, or is closed", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn search(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    code: Result<Path<String>, PathRejection>,
    search: Result<Json<SubjectSearch>, JsonRejection>,
) -> Result<Json<SubjectFound>, Problem> {
    let code = path("code", code)?;
    let SubjectSearch { phone, cursor } = body(search)?;
    let number = phone_digits(&phone)?;
    let mut before = match cursor {
        Some(cursor) => Some(
            cursor
                .parse::<i64>()
                .map_err(|_| super::list::bad_cursor())?,
        ),
        None => None,
    };
    let mut snapshot = api.store.snapshot().await.map_err(store_problem)?;
    request(&api, &mut snapshot, &actor, &code, &Wish::ALL).await?;
    let reason = code.clone();
    readings::write(&api, &actor, "subject.search", &code, reason, mask(&number)).await?;
    let directory = api
        .directory
        .of(&mut snapshot)
        .await
        .map_err(store_problem)?;
    let mut found = SubjectFound {
        items: Vec::new(),
        next: None,
    };
    let mut scanned = 0;
    loop {
        let page = cases::narratives(&mut snapshot, &api.sealer, before, PAGE).await;
        let page = page.map_err(store_problem)?;
        let Some((last, _)) = page.last() else {
            return Ok(Json(found));
        };
        before = Some(*last);
        scanned += page.len();
        for (id, narrative) in page {
            let narrative: Narrative = serde_json::from_str(&narrative).unwrap_or_default();
            if !names(&narrative, &number) {
                continue;
            }
            let record = cases::load(&mut snapshot, &api.sealer, id).await;
            let Some(record) = record.map_err(store_problem)? else {
                continue;
            };
            let may = |act| {
                allowed(&directory, &actor, act, &record.case, &record.place) == Decision::Allowed
            };
            if record.case.code != code && may(ANSWER) && may(CaseAct::Unmask) {
                let view = cases::get(&mut snapshot, id).await.map_err(store_problem)?;
                found.items.extend(view);
            }
        }
        if scanned >= SCANNED_MAX {
            found.next = before.map(|id| id.to_string());
            return Ok(Json(found));
        }
    }
}

/// What is to be given out.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubjectExport {
    /// Codes of the cases: 1 to 20.
    cases: Vec<String>,
    /// The phone of who asks: other parties stay masked.
    phone: String,
}

/// A file that a case has.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct HeldFile {
    /// Its number.
    number: i64,
    /// Its name, masked: it is given out by itself.
    name: String,
    /// Bytes of its content.
    bytes: u64,
}

/// What a case holds.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct HeldCase {
    /// The case.
    #[serde(flatten)]
    case: CaseView,
    /// What it says of people; other parties are masked.
    narrative: Narrative,
    /// What was done.
    actions: Vec<ActionView>,
    /// Its files.
    attachments: Vec<HeldFile>,
}

/// What is held of somebody.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Held {
    /// Code of the request.
    request: String,
    /// When it was read, milliseconds since 1970 UTC.
    at_ms: i64,
    /// Cases.
    cases: Vec<HeldCase>,
}

/// Gives out what cases hold of who asks. Texts can name others: they are to be read before they are handed out.
#[utoipa::path(post, path = "/api/v1/cases/{code}/subject/export", request_body = SubjectExport, params(("code" = String, Path, description = "Code of the request")), responses(
    (status = 200, body = Held),
    super::auth::Refusals,
    (status = 404, description = "no such case", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
    (status = 409, description = "the case is no request to see, or is closed", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn export(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    code: Result<Path<String>, PathRejection>,
    export: Result<Json<SubjectExport>, JsonRejection>,
) -> Result<Json<Held>, Problem> {
    let code = path("code", code)?;
    let SubjectExport {
        cases: codes,
        phone,
    } = body(export)?;
    if codes.is_empty() || codes.len() > EXPORTED_MAX {
        return Err(bad("cases", format!("1 to {EXPORTED_MAX} codes")));
    }
    let number = phone_digits(&phone)?;
    let mut snapshot = api.store.snapshot().await.map_err(store_problem)?;
    request(&api, &mut snapshot, &actor, &code, &[Wish::See]).await?;
    let mut records = Vec::new();
    for wanted in &codes {
        visible(&api, &mut snapshot, &actor, wanted, ANSWER).await?;
        records.push(visible(&api, &mut snapshot, &actor, wanted, CaseAct::Unmask).await?);
    }
    // Of all before any is shown.
    for wanted in &codes {
        let (reason, detail) = (code.clone(), mask(&number));
        readings::write(&api, &actor, "subject.export", wanted, reason, detail).await?;
    }
    let mut held = Held {
        request: code,
        at_ms: linli_shared::service::clock::wall_ms(),
        cases: Vec::new(),
    };
    for record in records {
        let case = held_case(&api, &mut snapshot, &record, &number).await;
        held.cases.extend(case.map_err(store_problem)?);
    }
    Ok(Json(held))
}

async fn held_case(
    api: &Api,
    snapshot: &mut Connection,
    record: &cases::Record,
    phone: &str,
) -> Result<Option<HeldCase>, StoreError> {
    let Some(case) = cases::get(snapshot, record.id).await? else {
        return Ok(None);
    };
    let narrative = cases::narrative(snapshot, &api.sealer, record.id).await?;
    let narrative: Narrative = serde_json::from_str(&narrative).unwrap_or_default();
    let log = cases::log(snapshot, &api.sealer, record.id).await?;
    Ok(Some(HeldCase {
        case,
        narrative: of_one(narrative, phone),
        actions: log
            .iter()
            .map(|action| shown(action, |note| note))
            .collect(),
        attachments: record
            .case
            .attachments
            .iter()
            .map(|(number, file)| HeldFile {
                number: *number,
                name: name::masked(&file.name),
                bytes: file.bytes,
            })
            .collect(),
    }))
}

/// With the other parties masked.
fn of_one(mut narrative: Narrative, phone: &str) -> Narrative {
    for party in &mut narrative.parties {
        if !is_same(&party.phone, phone) {
            party.name = mask(&party.name);
            party.phone = mask(&party.phone);
        }
    }
    narrative
}

/// What is right.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubjectCorrection {
    /// Code of the case that is corrected.
    case: String,
    /// The version of it that was seen.
    version: i64,
    /// All that it says of people from now on.
    narrative: Narrative,
}

/// Puts another narrative in the place of that of a case. Of the one before nothing stays.
#[utoipa::path(post, path = "/api/v1/cases/{code}/subject/correct", request_body = SubjectCorrection, params(("code" = String, Path, description = "Code of the request")), responses(
    (status = 200, body = Moved),
    super::auth::Refusals,
    (status = 404, description = "no such case", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
    (status = 409, description = "the case is no request to correct, or is closed; or the other has changed", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn correct(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    code: Result<Path<String>, PathRejection>,
    correction: Result<Json<SubjectCorrection>, JsonRejection>,
) -> Result<Json<Moved>, Problem> {
    let request = path("code", code)?;
    let SubjectCorrection {
        case,
        version,
        narrative,
    } = body(correction)?;
    narrative
        .check()
        .map_err(|(key, message)| bad(key, message))?;
    let narrative = serde_json::to_string(&narrative).unwrap_or_default();
    let wanted = Subjecting {
        request,
        code: case,
        version,
        narrative: Some(narrative),
    };
    carry_out(&api, actor, wanted).await
}

/// Which case.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubjectDeletion {
    /// Code of the closed case.
    case: String,
    /// The version of it that was seen.
    version: i64,
}

/// Deletes what a closed case says of people: its narrative, its files, what was written into its log.
#[utoipa::path(post, path = "/api/v1/cases/{code}/subject/delete", request_body = SubjectDeletion, params(("code" = String, Path, description = "Code of the request")), responses(
    (status = 200, body = Moved),
    super::auth::Refusals,
    (status = 404, description = "no such case", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
    (status = 409, description = "the case is no request to delete, or is closed; or the other is open, or has changed", body = super::auth::ProblemSchema, content_type = "application/problem+json"),
))]
pub async fn delete(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    code: Result<Path<String>, PathRejection>,
    deletion: Result<Json<SubjectDeletion>, JsonRejection>,
) -> Result<Json<Moved>, Problem> {
    let request = path("code", code)?;
    let SubjectDeletion { case, version } = body(deletion)?;
    let wanted = Subjecting {
        request,
        code: case,
        version,
        narrative: None,
    };
    carry_out(&api, actor, wanted).await
}

async fn carry_out(api: &Api, actor: Actor, wanted: Subjecting) -> Result<Json<Moved>, Problem> {
    let done = api.ingest.subject(actor, wanted).await;
    let version = done.map_err(busy)?.map_err(refusal)?;
    Ok(Json(Moved { version }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use linli_domain::cases::narrative::Party;

    #[test]
    fn a_phone_is_found_however_it_is_written_and_others_stay_masked() {
        let party = |name: &str, phone: &str| Party {
            name: name.to_owned(),
            phone: phone.to_owned(),
        };
        let narrative = Narrative {
            parties: vec![
                party("王小明", "+86 138-0013-8000"),
                party("李四", "13900000000"),
            ],
            address: String::new(),
            text: "联系人电话 021-6234 5678".to_owned(),
        };
        for (phone, wanted) in [
            ("13800138000", true),
            ("8613800138000", true),
            ("13900000000", true),
            ("02162345678", true),
            ("13800138001", false),
            ("62345678", true),
        ] {
            assert_eq!(names(&narrative, phone), wanted, "{phone}");
        }
        let shown = of_one(narrative, "13800138000");
        let names: Vec<&str> = shown
            .parties
            .iter()
            .map(|party| party.name.as_str())
            .collect();
        assert_eq!(names, ["王小明", "李**"]);
    }
}
