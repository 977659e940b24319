//! Cases within a transaction: opened, moved, and advanced by deadlines. Each change of a case is an action, decided
//! purely (`linli_domain::cases`) and written together with the case.
use linli_domain::audit::AuditRecord;
use linli_domain::cases::action::{Action, HUB, Registration};
use linli_domain::cases::case::Case;
use linli_domain::cases::decide::{self, By};
use linli_domain::cases::dispatch::About;
use linli_domain::cases::kind::Kind;
use linli_domain::cases::moves::{Move, Rung};
use linli_domain::cases::refused::Refused;
use linli_domain::cases::{Opening, POLICE, due};
use linli_domain::rights::{Act, Actor, CaseAct, CaseFacts, Decision, Role, may, may_case};
use linli_shared::protocol::frame::case_kind;
use linli_shared::service::telemetry;
use linli_store::cases::{self, NewCase, Record};
use linli_store::stations::Message;
use linli_store::{StoreError, audit, warnings};
use std::collections::BTreeSet;

use super::unit_of_work::UnitOfWork;

/// Maximum number of cases with due deadlines in one transaction.
pub const WAKING_MAX: i64 = 100;

/// An unreadable case is tried again after this time, milliseconds: a day.
const UNREADABLE_MS: i64 = 86_400_000;

/// Why a move was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaseRefusal {
    /// The actor may not know of the case.
    Unknown,
    /// The actor lacks the right.
    Right,
    /// The case refuses the move.
    Refused(Refused),
}

/// The right that a move needs.
pub fn act_of(kind: Kind) -> CaseAct {
    match kind {
        Kind::Accept
        | Kind::Decline
        | Kind::Dispatch
        | Kind::NameLead
        | Kind::SetRisk
        | Kind::NameHandler
        | Kind::UnnameHandler => CaseAct::Triage,
        Kind::Sign | Kind::Answer | Kind::JoinDone | Kind::AskDelay => CaseAct::UnitOfWork,
        Kind::Return
        | Kind::Transfer
        | Kind::Join
        | Kind::Suspend
        | Kind::Resume
        | Kind::Escalate => CaseAct::PassOn,
        Kind::Verify | Kind::GrantDelay | Kind::RefuseDelay | Kind::Reopen | Kind::Archive => {
            CaseAct::Supervise
        }
        Kind::Revisit | Kind::Evaluate => CaseAct::Revisit,
        Kind::Merge | Kind::Unmerge | Kind::LinkWarning | Kind::UnlinkWarning => CaseAct::JoinAsOne,
        Kind::Note => CaseAct::Note,
    }
}

/// Decides whether an actor may do something about a case.
pub fn allowed(
    directory: &linli_domain::orgs::Directory,
    actor: &Actor,
    act: CaseAct,
    case: &Case,
    place: &str,
) -> Decision {
    let joint: Vec<String> = case.joint.keys().cloned().collect();
    let named: Vec<String> = case.named.iter().cloned().collect();
    let facts = CaseFacts {
        place,
        lead: &case.lead,
        joint: &joint,
        named_only: case.named_only.then_some(named.as_slice()),
    };
    may_case(directory, actor, act, facts)
}

/// A case to register.
#[derive(Debug, Clone)]
pub struct NewRegistration {
    /// Code of its kind.
    pub kind: String,
    /// Title, without anything about a person.
    pub title: String,
    /// Id of its place; empty: none.
    pub place: String,
    /// Key of its address or thing, by which repeats are found.
    pub key: String,
    /// The sender's number of it; empty: none. The same number is the same case.
    pub external: String,
    /// Grade of its risk; empty: that of its kind.
    pub risk: String,
    /// What it says of people, as JSON; sealed.
    pub narrative: String,
}

impl UnitOfWork<'_> {
    /// Opens a case; returns its id.
    pub async fn open_case(
        &mut self,
        opening: &Opening,
        risk: String,
        named_only: bool,
        narrative: &str,
        actor: &str,
        warnings: BTreeSet<i64>,
    ) -> Result<i64, StoreError> {
        self.memory.last_case += 1;
        let id = self.memory.last_case;
        let casework = &self.casework;
        let rung = if opening.place.is_empty() {
            Rung::Centre
        } else {
            Rung::Office
        };
        let centre = casework.centre().to_owned();
        let registration = Registration {
            code: opening.code.clone(),
            kind: opening.kind.clone(),
            risk,
            centre: centre.clone(),
            rung,
            named_only,
            warnings: warnings.clone(),
        };
        let by = By {
            person: actor.to_owned(),
            organisation: centre,
            seen_version: None,
        };
        let context = casework.context(self.now_ms);
        // Names of rules and tables were checked when these were read.
        let action = decide::register(registration, &by, &context).map_err(unexpected)?;
        let case = Case::replay(std::slice::from_ref(&action)).map_err(|error| {
            linli_store::failed("opening a case")(sqlx::Error::Decode(Box::new(error)))
        })?;
        let orgs = casework.orgs(&case, &opening.place);
        let new = NewCase {
            id,
            opening,
            narrative,
        };
        let sealer = std::sync::Arc::clone(&casework.sealer);
        cases::insert(self.connection, &sealer, &new, &case, &action, &orgs).await?;
        self.changes.case(&case.code, case.version, Vec::new());
        for warning in warnings {
            self.changes.warning(warning);
            cases::link(self.connection, id, warning).await?;
        }
        self.tally.case_opened();
        self.tell_of_case(&opening.place, &opening.site, (&case, &case), &action)
            .await?;
        if opening.source == POLICE {
            self.tell_incident(&opening.agent, &opening.incident, &case, case_kind::RECEIPT)
                .await?;
        }
        if named_only {
            self.name_handlers(id, actor).await?;
        }
        self.dispatch(id, &case, &opening.place).await?;
        Ok(id)
    }

    /// Names the handlers of the config in a case; true if that changed something.
    async fn name_handlers(&mut self, id: i64, actor: &str) -> Result<bool, StoreError> {
        let mut named = false;
        for person in self.casework.named_handlers.clone() {
            let name = Move::NameHandler { person };
            // A person who is named already is not named again.
            named |= self.move_by_hub(id, actor, name).await?.is_ok();
        }
        Ok(named)
    }

    /// Names the handlers of the config in cases after an id that are for named handlers only and have none who can sign in.
    /// Returns how many cases changed, and the last id.
    pub async fn name_missing_handlers(
        &mut self,
        after: i64,
    ) -> Result<(usize, Option<i64>), StoreError> {
        let ids = cases::without_handlers(self.connection, after, WAKING_MAX).await?;
        let mut named = 0;
        for id in &ids {
            named += usize::from(self.name_handlers(*id, HUB).await?);
        }
        Ok((named, ids.last().copied()))
    }

    /// Accepts and dispatches a new case, if a dispatch rule says so.
    async fn dispatch(&mut self, id: i64, case: &Case, place: &str) -> Result<(), StoreError> {
        let casework = self.casework;
        let about = About::of(case, place);
        let candidates = casework.dispatch.candidates(about, &casework.directory);
        let Some(candidates) = candidates.filter(|candidates| candidates.automatic) else {
            return Ok(());
        };
        let Some(organisation) = cases::least(self.connection, candidates).await? else {
            return Ok(());
        };
        for wanted in [Move::Accept {}, Move::Dispatch { organisation }] {
            if let Err(refused) = self.move_by_hub(id, HUB, wanted).await? {
                tracing::warn!(case = id, %refused, "a case is not dispatched by its rule");
                break;
            }
        }
        Ok(())
    }

    /// Makes a move of a rule, or of the hub itself.
    pub async fn move_by_hub(
        &mut self,
        id: i64,
        actor: &str,
        wanted: Move,
    ) -> Result<Result<Case, Refused>, StoreError> {
        let Some(record) = self.case(id).await? else {
            return Ok(Err(unknown_case()));
        };
        let by = By {
            person: actor.to_owned(),
            organisation: record.case.centre.clone(),
            seen_version: None,
        };
        self.move_case(record, &by, &wanted, None).await
    }

    /// Makes a move of a person, if the person has the right.
    pub async fn move_by(
        &mut self,
        code: &str,
        actor: &Actor,
        seen_version: i64,
        wanted: &Move,
    ) -> Result<Result<i64, CaseRefusal>, StoreError> {
        let act = act_of(wanted.kind());
        let record = self.case_for(code, actor, act, wanted.kind().words().1);
        let record = match record.await? {
            Ok(record) => record,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Move::LinkWarning { warning } = wanted
            && !self.may_link(*warning, &record.case).await?
        {
            return Ok(Err(CaseRefusal::Refused(Refused::Unknown {
                field: "warning",
                name: warning.to_string(),
            })));
        }
        let by = By {
            person: actor.login.clone(),
            organisation: self.acting_for(actor, act, wanted, &record.case),
            seen_version: Some(seen_version),
        };
        let moved = self.move_case(record, &by, wanted, Some(actor)).await?;
        Ok(moved.map(|case| case.version).map_err(CaseRefusal::Refused))
    }

    /// A case that an actor has a right on; a refusal is in the audit log, with `word`.
    pub(super) async fn case_for(
        &mut self,
        code: &str,
        actor: &Actor,
        act: CaseAct,
        word: &str,
    ) -> Result<Result<Record, CaseRefusal>, StoreError> {
        let id = cases::id_of(self.connection, code).await?;
        let record = match id {
            Some(id) => self.case(id).await?,
            None => None,
        };
        let Some(record) = record else {
            return Ok(Err(CaseRefusal::Unknown));
        };
        let directory = &self.casework.directory;
        match allowed(directory, actor, act, &record.case, &record.place) {
            Decision::Allowed => Ok(Ok(record)),
            Decision::Hidden => Ok(Err(CaseRefusal::Unknown)),
            Decision::Refused => {
                self.note_refusal(actor, &format!("case/{code}"), word)
                    .await?;
                Ok(Err(CaseRefusal::Right))
            }
        }
    }

    /// True if the warning exists and is as hidden as the case. The rule of a warning must still run: else nobody knows whether
    /// it is hidden.
    async fn may_link(&mut self, warning: i64, case: &Case) -> Result<bool, StoreError> {
        let Some(rule) = warnings::rule_of(self.connection, warning).await? else {
            return Ok(false);
        };
        let rules = self.memory.engine.rules();
        let rule = rules.iter().find(|known| known.id == rule).cloned();
        let Some(rule) = rule else {
            return Ok(false);
        };
        let is_hidden =
            self.opens_named_only(&rule) || cases::is_hidden(self.connection, warning).await?;
        Ok(is_hidden == case.named_only)
    }

    async fn note_refusal(
        &mut self,
        actor: &Actor,
        object: &str,
        detail: &str,
    ) -> Result<(), StoreError> {
        let deed = AuditRecord {
            at_ms: self.now_ms,
            actor: actor.login.clone(),
            action: "refused".to_owned(),
            object: object.to_owned(),
            reason: String::new(),
            detail: detail.to_owned(),
        };
        audit::append(self.connection, deed).await
    }

    /// The organisation that an actor acts for: an actor above the lead, or above a joint handler, acts for it.
    fn acting_for(&self, actor: &Actor, act: CaseAct, wanted: &Move, case: &Case) -> String {
        let casework = &self.casework;
        let own = casework.org_of(actor);
        if !matches!(act, CaseAct::UnitOfWork | CaseAct::PassOn) || own == casework.centre() {
            return own.to_owned();
        }
        let within = |org: &str| casework.directory.is_within(org, own);
        match wanted {
            Move::JoinDone { organisation, .. } if within(organisation) => organisation.clone(),
            _ if within(&case.lead) => case.lead.clone(),
            _ => case
                .joint
                .keys()
                .find(|org| within(org))
                .map_or_else(|| own.to_owned(), Clone::clone),
        }
    }

    /// Makes a move, and its effect on another case.
    async fn move_case(
        &mut self,
        record: Record,
        by: &By,
        wanted: &Move,
        actor: Option<&Actor>,
    ) -> Result<Result<Case, Refused>, StoreError> {
        // Due deadlines are in the log before a move is decided.
        let seen_version = by.seen_version;
        let is_seen = seen_version.is_none_or(|seen| seen == record.case.version);
        let record = self.apply_due(record).await?;
        let by = By {
            seen_version: if is_seen { None } else { seen_version },
            ..by.clone()
        };
        let action = {
            let context = self.casework.context(self.now_ms);
            match decide::decide(&record.case, &by, wanted, &context) {
                Ok(action) => action,
                Err(refused) => return Ok(Err(refused)),
            }
        };
        if let Some((other, twin)) = match self.twin(&record.case, &by, wanted, actor).await? {
            Ok(twin) => twin,
            Err(refused) => return Ok(Err(refused)),
        } {
            self.write_action(&other, &twin).await?;
        }
        match wanted {
            Move::LinkWarning { warning } => {
                self.changes.warning(*warning);
                cases::link(self.connection, record.id, *warning).await?;
            }
            Move::UnlinkWarning { warning, .. } => {
                self.changes.warning(*warning);
                cases::unlink(self.connection, record.id, *warning).await?;
            }
            _ => {}
        }
        let case = self.write_action(&record, &action).await?;
        // A graver risk can escalate it at once.
        let record = self.apply_due(Record { case, ..record }).await?;
        Ok(Ok(record.case))
    }

    /// The other side of a merge, or of its undoing.
    async fn twin(
        &mut self,
        case: &Case,
        by: &By,
        wanted: &Move,
        actor: Option<&Actor>,
    ) -> Result<Result<Option<(Record, Action)>, Refused>, StoreError> {
        let other = match wanted {
            Move::Merge { into, .. } => into.clone(),
            Move::Unmerge { .. } => case
                .merging
                .as_ref()
                .map(|merging| merging.into.clone())
                .unwrap_or_default(),
            _ => return Ok(Ok(None)),
        };
        let record = match cases::id_of(self.connection, &other).await? {
            Some(id) => self.case(id).await?,
            None => None,
        };
        // An actor without the right on the other case is not told that it exists. Cases for named handlers only and others
        // are never merged.
        let directory = &self.casework.directory;
        let may = |record: &Record| {
            actor.is_none_or(|actor| {
                allowed(
                    directory,
                    actor,
                    CaseAct::JoinAsOne,
                    &record.case,
                    &record.place,
                ) == Decision::Allowed
            })
        };
        let record = record
            .filter(|record| record.case.named_only == case.named_only)
            .filter(may);
        let Some(record) = record else {
            return Ok(Err(Refused::Unknown {
                field: "into",
                name: other,
            }));
        };
        let by = By {
            seen_version: None,
            ..by.clone()
        };
        let twin = match wanted {
            Move::Merge { .. } => decide::absorb(&record.case, &by, &case.code, self.now_ms),
            _ => decide::release(&record.case, &by, &case.code, self.now_ms),
        };
        Ok(twin.map(|action| Some((record, action))))
    }

    async fn case(&mut self, id: i64) -> Result<Option<Record>, StoreError> {
        let sealer = std::sync::Arc::clone(&self.casework.sealer);
        match cases::load(self.connection, &sealer, id).await {
            Err(error @ StoreError::Unreadable { .. }) => {
                // An unreadable case delays neither the others nor events.
                tracing::error!(
                    case = id,
                    error = telemetry::chain(&error),
                    "a case cannot be read: is its key in fields.key?"
                );
                cases::put_off(self.connection, id, self.now_ms + UNREADABLE_MS).await?;
                Ok(None)
            }
            outcome => outcome,
        }
    }

    pub(super) async fn write_action(
        &mut self,
        record: &Record,
        action: &Action,
    ) -> Result<Case, StoreError> {
        let after = record.case.clone().apply(action);
        let casework = &self.casework;
        let sealer = std::sync::Arc::clone(&casework.sealer);
        // A reopened case may be of a place that belongs to another office now.
        let moved = record.case.lead != after.lead
            || record.case.joint.keys().ne(after.joint.keys())
            || (record.case.state.is_closed() && !after.state.is_closed());
        let orgs = moved.then(|| casework.orgs(&after, &record.place));
        cases::append(
            self.connection,
            &sealer,
            record.id,
            &record.case,
            &after,
            action,
        )
        .await?;
        let mut left = Vec::new();
        if let Some(orgs) = orgs {
            let before = cases::orgs_of(self.connection, record.id).await?;
            left = before.difference(&orgs).cloned().collect();
            cases::place(self.connection, record.id, &orgs, after.state).await?;
        }
        self.changes.case(&after.code, after.version, left);
        let both = (&record.case, &after);
        self.tell_of_case(&record.place, &record.site, both, action)
            .await?;
        if record.case.state != after.state {
            let (station, incident) = (&record.station, &record.incident);
            self.tell_incident(station, incident, &after, case_kind::STATUS)
                .await?;
        }
        Ok(after)
    }

    /// Sends the state of an incident's case to its station, without texts of people.
    async fn tell_incident(
        &mut self,
        station: &str,
        incident: &str,
        case: &Case,
        kind: &'static str,
    ) -> Result<(), StoreError> {
        if station.is_empty() {
            return Ok(());
        }
        let (source, source_id) = incident.split_once('/').unwrap_or(("", incident));
        let message = Message {
            case: case.code.clone(),
            source: source.to_owned(),
            source_id: source_id.to_owned(),
            kind,
            state: case.state.as_str().to_owned(),
            at_ms: case.last_ms,
            text: case.state.words().to_owned(),
        };
        self.tell_station(station, &message).await?;
        Ok(())
    }

    /// Applies due deadlines to a case.
    async fn apply_due(&mut self, mut record: Record) -> Result<Record, StoreError> {
        let actions = due::due(&record.case, &self.casework.context(self.now_ms));
        for action in actions {
            record.case = self.write_action(&record, &action).await?;
        }
        Ok(record)
    }

    /// Applies due deadlines to cases.
    pub async fn wake(&mut self, ids: &[i64]) -> Result<(), StoreError> {
        for id in ids {
            if let Some(record) = self.case(*id).await? {
                self.apply_due(record).await?;
            }
        }
        Ok(())
    }

    /// Recomputes the deadlines and the organisations of cases after a change of calendars, terms or
    /// organisations.
    pub async fn recompute(&mut self, ids: &[i64]) -> Result<(), StoreError> {
        for id in ids {
            let Some(mut record) = self.case(*id).await? else {
                continue;
            };
            let action = due::recompute(&record.case, &self.casework.context(self.now_ms));
            if let Some(action) = action {
                record.case = self.write_action(&record, &action).await?;
            }
            let record = self.apply_due(record).await?;
            let orgs = self.casework.orgs(&record.case, &record.place);
            let before = cases::orgs_of(self.connection, *id).await?;
            if before != orgs {
                let left = before.difference(&orgs).cloned().collect();
                let case = &record.case;
                self.changes.case(&case.code, case.version, left);
                cases::place(self.connection, *id, &orgs, record.case.state).await?;
            }
        }
        Ok(())
    }

    /// Registers a case; returns its code. The same external number is the same case.
    pub async fn register(
        &mut self,
        actor: &Actor,
        new: NewRegistration,
    ) -> Result<Result<String, CaseRefusal>, StoreError> {
        if !may(actor, Act::Register) {
            self.note_refusal(actor, "cases", "register").await?;
            return Ok(Err(CaseRefusal::Right));
        }
        let by = actor.login.clone();
        if let Some(id) = cases::of_incident(self.connection, &by, &new.external).await? {
            let known = self.case(id).await?.map(|record| record.case.code);
            return Ok(known.ok_or(CaseRefusal::Unknown));
        }
        let casework = &self.casework;
        let unknown = |field: &'static str, name: &str| {
            Ok(Err(CaseRefusal::Refused(Refused::Unknown {
                field,
                name: name.to_owned(),
            })))
        };
        let Some(kind) = casework.taxonomy.registered(&new.kind) else {
            return unknown("kind", &new.kind);
        };
        if !new.place.is_empty() && !casework.directory.places.contains_key(&new.place) {
            return unknown("place", &new.place);
        }
        let mut risk = new.risk;
        if risk.is_empty() {
            risk.clone_from(&kind.risk);
        }
        if risk.is_empty() {
            risk = casework.risk(linli_shared::protocol::event::Severity::Notice);
        }
        if !casework.terms.has_risk(&risk) {
            return unknown("risk", &risk);
        }
        let site = casework
            .directory
            .chain(&new.place)
            .find(|place| place.kind == linli_domain::orgs::PlaceKind::Compound)
            .map(|place| place.site.clone())
            .unwrap_or_default();
        let id = self.memory.last_case + 1;
        let opening = Opening {
            code: linli_domain::cases::code(id, self.now_ms),
            kind: kind.code.clone(),
            title: new.title,
            site,
            place: new.place,
            key: new.key,
            route: String::new(),
            source: if actor.role == Role::Grid {
                "grid"
            } else {
                "desk"
            },
            agent: if new.external.is_empty() {
                String::new()
            } else {
                by.clone()
            },
            incident: new.external,
            event: String::new(),
            opened_ms: self.now_ms,
        };
        self.open_case(
            &opening,
            risk,
            kind.named_only,
            &new.narrative,
            &by,
            BTreeSet::new(),
        )
        .await?;
        Ok(Ok(opening.code))
    }
}

fn unknown_case() -> Refused {
    Refused::Unknown {
        field: "case",
        name: String::new(),
    }
}

fn unexpected(refused: Refused) -> StoreError {
    linli_store::failed("registering a case")(sqlx::Error::Decode(Box::new(refused)))
}
