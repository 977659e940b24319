//! What is done under a resident's request, which is the case of that code: search, export, correction, deletion.
//!
//! Each needs an actor who supervises the place of the request, and of the case that it is about. Searching and giving out
//! are in the audit log before anything is shown, with the code of the request as their reason.
use linli_shared::service::clock;
use serde::Serialize;

use super::cases::shown;
use super::{ServiceError, Services, bad_cursor};
use crate::attachments::name;
use crate::ingest::casework::allowed;
use crate::ingest::subject::{ANSWER, SubjectChange};
use linli_domain::cases::case::Case;
use linli_domain::cases::narrative::Narrative;
use linli_domain::cases::subject::{self, Wish};
use linli_domain::mask::mask;
use linli_domain::rights::{Act, Actor, CaseAct, Decision};
use linli_store::cases::{self, ActionView, CaseView};
use linli_store::sealed::Sealer;
use linli_store::{Connection, StoreError};

const OBJECT: &str = "/api/v1/cases";
/// Cases whose narratives one search opens; `next` goes on from there.
const SCANNED_MAX: usize = 20_000;
/// Read at once.
const PAGE: i64 = 500;
/// The shortest number that is looked for, digits: less would find others.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=20;
/// Cases of one export.
const EXPORTED_MAX: usize = 20;

/// What was found.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SubjectFound {
    /// Cases whose narrative has the phone, of those that who asks may see unmasked; newest first.
    items: Vec<CaseView>,
    /// There are older ones that were not looked at: pass it as `cursor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
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

impl Services {
    /// A request that the actor may answer.
    async fn request(
        &self,
        snapshot: &mut Connection,
        actor: &Actor,
        code: &str,
        wishes: &[Wish],
    ) -> Result<Case, ServiceError> {
        let record = self.visible_case(snapshot, actor, code, ANSWER).await?;
        subject::asks(&record.case, wishes)?;
        Ok(record.case)
    }

    /// Looks for the cases that name a phone. It opens every narrative, 20,000 for a request.
    pub async fn search_subject(
        &self,
        actor: &Actor,
        code: &str,
        phone: &str,
        cursor: Option<&str>,
    ) -> Result<SubjectFound, ServiceError> {
        self.permit(actor, Act::Watch, "POST", OBJECT).await?;
        let number = phone_digits(phone)?;
        let before = cursor.map(str::parse::<i64>).transpose();
        let mut before = before.map_err(|_| bad_cursor())?;
        let sealer = &self.case_parts()?.sealer;
        let mut snapshot = self.store.snapshot().await?;
        self.request(&mut snapshot, actor, code, &Wish::ALL).await?;
        let reason = code.to_owned();
        self.note_of_case(actor, "subject.search", code, reason, mask(&number))
            .await?;
        let directory = self.directory.of(&mut snapshot).await?;
        let mut found = SubjectFound {
            items: Vec::new(),
            next: None,
        };
        let mut scanned = 0;
        loop {
            let page = cases::narratives(&mut snapshot, sealer, before, PAGE).await;
            let page = page?;
            let Some((last, _)) = page.last() else {
                return Ok(found);
            };
            before = Some(*last);
            scanned += page.len();
            for (id, narrative) in page {
                let narrative: Narrative = serde_json::from_str(&narrative).unwrap_or_default();
                if !names(&narrative, &number) {
                    continue;
                }
                let record = cases::load(&mut snapshot, sealer, id).await;
                let Some(record) = record? else {
                    continue;
                };
                let may = |act| {
                    allowed(&directory, actor, act, &record.case, &record.place)
                        == Decision::Allowed
                };
                if record.case.code != code && may(ANSWER) && may(CaseAct::Unmask) {
                    let view = cases::get(&mut snapshot, id).await?;
                    found.items.extend(view);
                }
            }
            if scanned >= SCANNED_MAX {
                found.next = before.map(|id| id.to_string());
                return Ok(found);
            }
        }
    }

    /// Gives out what cases hold of the requester. Texts can name others: a person reads them before they are handed out.
    pub async fn export_subject(
        &self,
        actor: &Actor,
        code: &str,
        codes: &[String],
        phone: &str,
    ) -> Result<Held, ServiceError> {
        self.permit(actor, Act::Watch, "POST", OBJECT).await?;
        if codes.is_empty() || codes.len() > EXPORTED_MAX {
            let message = format!("1 to {EXPORTED_MAX} codes");
            return Err(ServiceError::invalid("cases", message));
        }
        let number = phone_digits(phone)?;
        let sealer = &self.case_parts()?.sealer;
        let mut snapshot = self.store.snapshot().await?;
        self.request(&mut snapshot, actor, code, &[Wish::See])
            .await?;
        let mut records = Vec::new();
        for wanted in codes {
            self.visible_case(&mut snapshot, actor, wanted, ANSWER)
                .await?;
            records.push(
                self.visible_case(&mut snapshot, actor, wanted, CaseAct::Unmask)
                    .await?,
            );
        }
        // Of all before any is shown.
        for wanted in codes {
            let (reason, detail) = (code.to_owned(), mask(&number));
            self.note_of_case(actor, "subject.export", wanted, reason, detail)
                .await?;
        }
        let mut held = Held {
            request: code.to_owned(),
            at_ms: clock::wall_ms(),
            cases: Vec::new(),
        };
        for record in records {
            let case = held_case(sealer, &mut snapshot, &record, &number).await;
            held.cases.extend(case?);
        }
        Ok(held)
    }

    /// Corrects the narrative of a case, or with `None` deletes what a closed case says of people: its narrative, its files
    /// and the texts of its log. Nothing of the earlier content stays. Returns the version of the case.
    pub async fn change_subject(
        &self,
        actor: &Actor,
        request: String,
        code: String,
        version: i64,
        narrative: Option<Narrative>,
    ) -> Result<i64, ServiceError> {
        self.permit(actor, Act::Watch, "POST", OBJECT).await?;
        if let Some(narrative) = &narrative {
            narrative
                .check()
                .map_err(|(key, message)| ServiceError::invalid(key, message))?;
        }
        let narrative =
            narrative.map(|narrative| serde_json::to_string(&narrative).unwrap_or_default());
        let wanted = SubjectChange {
            request,
            code,
            version,
            narrative,
        };
        let writer = self.writes.writer()?;
        Ok(writer.subject(actor.clone(), wanted).await??)
    }
}

async fn held_case(
    sealer: &Sealer,
    snapshot: &mut Connection,
    record: &cases::Record,
    phone: &str,
) -> Result<Option<HeldCase>, StoreError> {
    let Some(case) = cases::get(snapshot, record.id).await? else {
        return Ok(None);
    };
    let narrative = cases::narrative(snapshot, sealer, record.id).await?;
    let narrative: Narrative = serde_json::from_str(&narrative).unwrap_or_default();
    let log = cases::log(snapshot, sealer, record.id).await?;
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

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// The digits of a phone that can be looked for.
fn phone_digits(phone: &str) -> Result<String, ServiceError> {
    let number = digits(phone);
    if PHONE_DIGITS.contains(&number.len()) {
        return Ok(number);
    }
    Err(ServiceError::invalid("phone", "7 to 20 digits"))
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
