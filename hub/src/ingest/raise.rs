//! From findings of rules to warnings and cases, within the transaction of the events.
use linli_shared::protocol::event::Severity;
use linli_shared::protocol::frame::case_kind;
use linli_shared::service::clock;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::flood::{Class, Held};
use super::unit_of_work::UnitOfWork;
use super::warm_up::row;
use linli_domain::cases::case::Case;
use linli_domain::cases::moves::Move;
use linli_domain::cases::refused::Refused;
use linli_domain::cases::{self, Opening};
use linli_domain::correlate::engine::{Occurrence, Outdated, Overflow, Touched, Trigger};
use linli_domain::correlate::replay::hull;
use linli_domain::correlate::revise::{Change, Terms, revise};
use linli_domain::correlate::roster::Silence;
use linli_domain::correlate::rule::{Field, Inhibits, Rule, Same};
use linli_domain::correlate::timeline::Entry;
use linli_domain::correlate::{Finding, HORIZON_MS, OVERFLOW_RULE, Origin};
use linli_domain::local_time;
use linli_domain::notice::{What, place};
use linli_domain::warnings::NotificationOutcome;
use linli_store::cases as stored_cases;
use linli_store::occurrences::{self, OccurrenceRow};
use linli_store::stations::Message;
use linli_store::warnings::{self, NewWarning, NotifiableWarning};
use linli_store::{StoreError, mutes};

/// New events of one key of a rule that reads the store.
type Fresh = BTreeMap<(usize, String), Vec<(Entry, Trigger)>>;

impl UnitOfWork<'_> {
    /// Brings warnings and cases up to date with the findings.
    pub async fn raise_all(&mut self) -> Result<(), StoreError> {
        if !self.memory.engine.has_outcome() {
            return Ok(());
        }
        let outcome = self.memory.engine.outcome();
        self.occurred(outcome.occurrences).await?;
        // Keys that were read from the store are in memory now, and were touched with the others.
        let from_store = self.memory.engine.outcome();
        for touched in outcome.touched.iter().chain(&from_store.touched) {
            let engine = &self.memory.engine;
            let reads_store = engine.rules()[touched.rule].kind.reads_store();
            // It may have been evicted since it was touched.
            if reads_store && !engine.knows(touched.rule, &touched.key) {
                self.look_back(touched.rule, &touched.key, &[]).await?;
            }
            self.reconsider(touched).await?;
        }
        for outdated in &outcome.outdated {
            self.join_or_raise(outdated).await?;
        }
        for overflow in &outcome.overflows {
            self.overflowed(overflow).await?;
        }
        Ok(())
    }

    /// Notes events of rules that read the store, and reads their keys if they are not in memory.
    async fn occurred(&mut self, occurrences: Vec<Occurrence>) -> Result<(), StoreError> {
        if occurrences.is_empty() {
            return Ok(());
        }
        let rows: Vec<OccurrenceRow> = occurrences
            .iter()
            .map(|occurrence| row(&self.memory.engine, occurrence))
            .collect();
        occurrences::insert(self.connection, &rows).await?;
        let mut fresh = Fresh::new();
        for occurrence in occurrences
            .into_iter()
            .filter(|occurrence| !occurrence.is_known)
        {
            let place = (occurrence.rule, occurrence.key);
            let event = (occurrence.entry, occurrence.cause);
            fresh.entry(place).or_default().push(event);
        }
        for ((index, key), events) in fresh {
            self.look_back(index, &key, &events).await?;
        }
        Ok(())
    }

    async fn look_back(
        &mut self,
        index: usize,
        key: &str,
        fresh: &[(Entry, Trigger)],
    ) -> Result<(), StoreError> {
        let rule = Arc::clone(&self.memory.engine.rules()[index]);
        let limit = rule.max_events;
        let rows = occurrences::read(self.connection, &rule.id, key, limit).await?;
        // Events beyond the limit are unknown.
        let floor_ms = rows
            .first()
            .filter(|_| rows.len() >= limit)
            .map(|first| first.at_ms - 1);
        let engine = &mut self.memory.engine;
        let entries = rows
            .iter()
            .map(|row| {
                let origin = Origin {
                    site: &row.site,
                    agent: &row.agent,
                    lane: row.lane,
                    epoch: row.epoch,
                    sequence: row.sequence,
                };
                Entry {
                    at_ms: row.at_ms,
                    sequence: row.sequence,
                    source: engine.source(&origin),
                    value: 0,
                    received_s: row.received_s,
                    steps: row.steps,
                    delivery: row.delivery,
                }
            })
            .collect();
        engine.remember(index, key, entries, floor_ms, fresh);
        Ok(())
    }

    /// Compares the findings around a time with the warnings there, and changes the warnings.
    async fn reconsider(&mut self, touched: &Touched) -> Result<(), StoreError> {
        let rule = Arc::clone(&self.memory.engine.rules()[touched.rule]);
        let key = &touched.key;
        let (from_ms, to_ms) = (
            touched.from_ms.saturating_sub(rule.fold_ms),
            touched.to_ms.saturating_add(rule.fold_ms),
        );
        let standing = warnings::standing(self.connection, &rule, key, from_ms, to_ms).await?;
        let (from_ms, to_ms) = hull(&standing, from_ms, to_ms);
        let engine = &self.memory.engine;
        let (findings, known_from_ms) = engine.findings(touched.rule, key, from_ms, to_ms);
        let terms = Terms {
            known_from_ms,
            fresh_hits: touched.fresh_hits,
            ..self.terms(&rule)
        };
        for change in revise(findings, &standing, terms) {
            self.change(&rule, key, &touched.cause, change).await?;
        }
        Ok(())
    }

    /// The limit beyond which a finding is late.
    fn terms(&self, rule: &Rule) -> Terms {
        Terms {
            now_ms: self.now_ms,
            // With a doubtful clock the age of an event is unknown. Paging for nothing is better than not paging.
            fresh_ms: if self.time.is_doubtful {
                i64::MAX
            } else {
                rule.fresh_ms
            },
            known_from_ms: i64::MIN,
            fresh_hits: 1,
        }
    }

    /// An event before the timeline that is a hit by itself: it joins the warning near it, or raises one.
    async fn join_or_raise(&mut self, outdated: &Outdated) -> Result<(), StoreError> {
        let rule = Arc::clone(&self.memory.engine.rules()[outdated.rule]);
        let (key, hit) = (&outdated.key, &outdated.finding);
        let from_ms = hit.from_ms.saturating_sub(rule.fold_ms);
        let to_ms = hit.to_ms.saturating_add(rule.fold_ms);
        let standing = warnings::standing(self.connection, &rule, key, from_ms, to_ms).await?;
        let late = self.terms(&rule).is_late(hit);
        let Some(near) = standing.first() else {
            return self.raise(&rule, key, hit, late).await;
        };
        let mut finding = Finding {
            from_ms: near.from_ms,
            to_ms: near.to_ms,
            hits: near.hits,
            reasons: near.reasons.clone(),
            values: near.values.clone(),
            ended_ms: near.ended_ms,
            ..hit.clone()
        };
        finding.join(hit);
        let now_fresh = near.late && !late;
        self.update_warning(near.id, &finding, now_fresh).await?;
        self.go_on(&rule, near.id, &finding, now_fresh, false).await
    }

    async fn change(
        &mut self,
        rule: &Rule,
        key: &str,
        cause: &Trigger,
        change: Change,
    ) -> Result<(), StoreError> {
        match change {
            Change::Raise { finding, late } => {
                self.raise(rule, key, &finding, late).await?;
            }
            Change::Extend {
                id,
                finding,
                now_fresh,
                now_ended,
            } => {
                self.update_warning(id, &finding, now_fresh).await?;
                self.go_on(rule, id, &finding, now_fresh, now_ended).await?;
            }
            Change::End { id, finding } => {
                self.update_warning(id, &finding, false).await?;
                self.go_on(rule, id, &finding, false, true).await?;
            }
            Change::Amend {
                id,
                finding,
                now_fresh,
                now_ended,
            } => {
                self.update_warning(id, &finding, now_fresh).await?;
                let note = format!(
                    "{}：{} 起，{} 次",
                    why(cause),
                    time(finding.from_ms),
                    finding.hits
                );
                self.note(rule, id, "amended", &note).await?;
                self.note_in_cases(rule, id, &format!("预警更正 amended：{note}"))
                    .await?;
                self.tally.revised(&rule.id, "amended");
                self.go_on(rule, id, &finding, now_fresh, now_ended).await?;
            }
            Change::Withdraw { id, merged_into } => {
                let told = warnings::find(self.connection, id).await?;
                self.changes.warning(id);
                warnings::withdraw(self.connection, id).await?;
                let note = match merged_into {
                    Some(other) => format!(
                        "{}：并入预警 {other} / one with warning {other}",
                        why(cause)
                    ),
                    None => format!("{}：条件不成立 / the condition does not hold", why(cause)),
                };
                self.note(rule, id, "withdrawn", &note).await?;
                self.note_in_cases(rule, id, &format!("预警撤销 withdrawn：{note}"))
                    .await?;
                self.tally.revised(&rule.id, "withdrawn");
                if let Some(told) = told {
                    self.tell(&told, What::Withdrawn, &note).await?;
                }
            }
        }
        Ok(())
    }

    /// Writes the present content of a warning.
    pub async fn update_warning(
        &mut self,
        id: i64,
        finding: &Finding,
        now_fresh: bool,
    ) -> Result<(), StoreError> {
        self.changes.warning(id);
        warnings::update(self.connection, id, finding, now_fresh).await
    }

    /// Notifies people of a warning that is fresh now, or has ended.
    async fn go_on(
        &mut self,
        rule: &Rule,
        id: i64,
        finding: &Finding,
        now_fresh: bool,
        now_ended: bool,
    ) -> Result<(), StoreError> {
        if now_fresh {
            self.freshen(rule, id).await?;
        }
        match finding.ended_ms.filter(|_| now_ended) {
            Some(ended_ms) => self.ended(rule, id, ended_ms).await,
            None => Ok(()),
        }
    }

    /// Raises a warning, unless its agent has reached its limit.
    async fn raise(
        &mut self,
        rule: &Rule,
        key: &str,
        finding: &Finding,
        late: bool,
    ) -> Result<(), StoreError> {
        let per_minute = self.centre.warnings_per_agent_minute;
        let now_ms = clock::monotonic_ms();
        let floods = &mut self.memory.floods;
        let class = Class::of(rule.severity, late);
        if rule.shadow || floods.admits(&finding.agent, now_ms, per_minute, class) {
            return self.raise_always(rule, key, finding, late).await;
        }
        self.held.push(Held {
            rule: Arc::new(rule.clone()),
            key: key.to_owned(),
            finding: finding.clone(),
            is_hidden: self.opens_named_only(rule),
        });
        Ok(())
    }

    /// Raises a warning, and opens or joins its case.
    pub async fn raise_always(
        &mut self,
        rule: &Rule,
        key: &str,
        finding: &Finding,
        late: bool,
    ) -> Result<(), StoreError> {
        let muted_by = self.muted_by(rule, key, &finding.site).await?;
        let inhibited_by = self
            .inhibited_by(rule, key, &finding.agent, &finding.site)
            .await?;
        let silent = late || rule.shadow || muted_by.is_some() || inhibited_by.is_some();
        let ack_due_ms = rule
            .ack_ms
            .filter(|_| !silent)
            .map(|ack_ms| self.now_ms.saturating_add(ack_ms));
        self.memory.last_warning += 1;
        let id = self.memory.last_warning;
        let new = NewWarning {
            id,
            rule,
            key,
            finding,
            raised_ms: self.now_ms,
            late,
            watermark_ms: self.memory.engine.watermark_ms(&finding.agent),
            muted_by,
            inhibited_by,
            ack_due_ms,
        };
        self.changes.warning(id);
        warnings::insert(self.connection, &new).await?;
        let known_ms = finding.arrived_ms.unwrap_or(finding.to_ms);
        self.tally
            .warned(&rule.id, self.now_ms.saturating_sub(known_ms), late);
        self.note(rule, id, "raised", "").await?;
        if let Some(mute) = muted_by {
            self.note(rule, id, "muted", &format!("静默 {mute} / mute {mute}"))
                .await?;
        }
        if let Some(other) = inhibited_by {
            self.note(rule, id, "inhibited", &goes_on(other)).await?;
        }
        tracing::info!(
            warning = id,
            rule = rule.id,
            late,
            shadow = rule.shadow,
            "a warning is raised"
        );
        if rule.shadow {
            self.tally.outcome(NotificationOutcome::Shadow);
            return Ok(());
        }
        if let Some(opening) =
            cases::opening(rule, key, finding, self.memory.last_case + 1, self.now_ms)
        {
            self.open_or_join(rule, id, finding, opening).await?;
        }
        let is_told = match warnings::find(self.connection, id).await? {
            Some(told) => self.tell(&told, What::Raised, "").await?,
            None => false,
        };
        self.tally.outcome(if late && !is_told {
            NotificationOutcome::Late
        } else if muted_by.is_some() {
            NotificationOutcome::Muted
        } else if inhibited_by.is_some() {
            NotificationOutcome::Inhibited
        } else if is_told {
            NotificationOutcome::Told
        } else {
            NotificationOutcome::NoChannel
        });
        let is_grave = !silent && rule.severity >= Severity::Alarm;
        if is_grave && !stored_cases::is_hidden(self.connection, id).await? {
            self.tell_danger(rule, key, finding).await?;
        }
        Ok(())
    }

    /// Sends a grave warning to the station of its place. A rule's key is never a person's.
    async fn tell_danger(
        &mut self,
        rule: &Rule,
        key: &str,
        finding: &Finding,
    ) -> Result<(), StoreError> {
        // A case for named handlers only makes its own notices, and no others.
        if self.opens_named_only(rule) {
            return Ok(());
        }
        let fields: Vec<String> = rule.key.iter().map(Field::name).collect();
        let directory = &self.casework.directory;
        let station = directory
            .of_site(&finding.site)
            .map(|place| directory.answering(&place.id).station)
            .and_then(|station| directory.orgs.get(station));
        let Some(agent) = station
            .map(|station| station.agent.clone())
            .filter(|agent| !agent.is_empty())
        else {
            return Ok(());
        };
        let message = Message {
            case: String::new(),
            source: String::new(),
            source_id: String::new(),
            kind: case_kind::DANGER,
            state: rule.severity.as_str().to_owned(),
            at_ms: finding.to_ms,
            text: format!("{}：{}", rule.name, place(&fields, key, &finding.site)),
        };
        self.tell_station(&agent, &message).await?;
        Ok(())
    }

    async fn muted_by(
        &mut self,
        rule: &Rule,
        key: &str,
        site: &str,
    ) -> Result<Option<i64>, StoreError> {
        let holding = mutes::holding(self.connection, self.now_ms).await?;
        let mute = holding
            .iter()
            .find(|mute| mute.matches(&rule.id, site, key, rule.severity));
        Ok(mute.map(|mute| mute.id))
    }

    async fn inhibited_by(
        &mut self,
        rule: &Rule,
        key: &str,
        agent: &str,
        site: &str,
    ) -> Result<Option<i64>, StoreError> {
        let rules = self.memory.engine.rules().to_vec();
        for other in rules
            .iter()
            .filter(|other| other.id != rule.id && !other.shadow)
        {
            let Some(inhibits) = &other.inhibits else {
                continue;
            };
            if !names(inhibits, rule) {
                continue;
            }
            let open = warnings::open(self.connection, &other.id).await?;
            let same = open.iter().find(|open| match inhibits.same {
                Same::Agent => open.agent == agent,
                Same::Site => open.site == site,
                Same::Key => open.key == key,
            });
            if let Some(open) = same {
                return Ok(Some(open.id));
            }
        }
        Ok(None)
    }

    /// A 补报 warning goes on now: notify people.
    async fn freshen(&mut self, rule: &Rule, id: i64) -> Result<(), StoreError> {
        self.note(
            rule,
            id,
            "amended",
            "补报的情况仍在继续 / what was reported late goes on",
        )
        .await?;
        let Some(told) = warnings::find(self.connection, id).await? else {
            return Ok(());
        };
        if told.muted_by.is_none()
            && let Some(mute) = self.muted_by(rule, &told.key, &told.site).await?
        {
            self.changes.warning(id);
            warnings::mute(self.connection, id, mute).await?;
            let note = format!("静默 {mute} / mute {mute}");
            return self.note(rule, id, "muted", &note).await;
        }
        if told.inhibited_by.is_none()
            && let Some(other) = self
                .inhibited_by(rule, &told.key, &told.agent, &told.site)
                .await?
        {
            self.changes.warning(id);
            warnings::inhibit(self.connection, id, other).await?;
            return self.note(rule, id, "inhibited", &goes_on(other)).await;
        }
        if told.acked_ms.is_none() && told.muted_by.is_none() && told.inhibited_by.is_none() {
            let due_ms = rule.ack_ms.map(|ack_ms| self.now_ms.saturating_add(ack_ms));
            self.changes.warning(id);
            warnings::set_ack_due(self.connection, id, due_ms.filter(|_| !rule.shadow)).await?;
        }
        self.tell(&told, What::Raised, "").await?;
        Ok(())
    }

    async fn ended(&mut self, rule: &Rule, id: i64, at_ms: i64) -> Result<(), StoreError> {
        let note = format!("{} 恢复 / over", time(at_ms));
        self.note(rule, id, "ended", &note).await?;
        if let Some(told) = warnings::find(self.connection, id).await? {
            self.tell(&told, What::Ended, &note).await?;
        }
        Ok(())
    }

    pub async fn note(
        &mut self,
        rule: &Rule,
        id: i64,
        action: &str,
        note: &str,
    ) -> Result<(), StoreError> {
        let actor = format!("rule:{}", rule.id);
        warnings::note(self.connection, id, self.now_ms, &actor, action, note).await
    }

    async fn note_in_cases(&mut self, rule: &Rule, id: i64, note: &str) -> Result<(), StoreError> {
        let actor = format!("rule:{}", rule.id);
        for case in stored_cases::of_warning(self.connection, id).await? {
            let text = format!("{note} (warning {id})");
            let noted = self.move_by_hub(case, &actor, Move::Note { text }).await?;
            pass_over(case, noted);
        }
        Ok(())
    }

    /// True if the rule opens cases for named handlers only.
    pub fn opens_named_only(&self, rule: &Rule) -> bool {
        let taxonomy = &self.casework.taxonomy;
        let kind = rule.case.as_deref();
        kind.is_some_and(|kind| taxonomy.is_named_only(kind))
    }

    /// A warning of an incident joins the incident's open case; another one joins the open case of its key, or opens a
    /// case. Cases for named handlers only and others never mix. A warning of an ordinary rule about incidents of cases for
    /// named handlers only joins those, and is as hidden as they are: a case of its own would reveal
    /// them.
    async fn open_or_join(
        &mut self,
        rule: &Rule,
        warning: i64,
        finding: &Finding,
        mut opening: Opening,
    ) -> Result<(), StoreError> {
        let actor = format!("rule:{}", rule.id);
        let risk = self.casework.risk(rule.severity);
        let events: Vec<String> = finding
            .reasons
            .iter()
            .map(|reason| reason.event.clone())
            .collect();
        let named_only = self.opens_named_only(rule);
        let of_events = self.cases_of_events(&events).await?;
        let mut joined = stored_cases::open_among(self.connection, &of_events, named_only).await?;
        if joined.is_empty() && !named_only {
            let hidden = stored_cases::open_among(self.connection, &of_events, true).await?;
            for case in &hidden {
                let linked = self.link_warning(*case, &actor, warning).await?;
                pass_over(*case, linked);
            }
            if !hidden.is_empty() {
                return Ok(());
            }
        }
        if joined.is_empty() {
            let open = stored_cases::find_open(self.connection, &opening, named_only).await?;
            joined.extend(open);
        }
        if joined.is_empty() {
            let place = self.casework.directory.of_site(&opening.site);
            opening.place = place.map(|place| place.id.clone()).unwrap_or_default();
            let warnings = BTreeSet::from([warning]);
            self.open_case(&opening, risk, named_only, "", &actor, warnings)
                .await?;
            return Ok(());
        }
        for case in joined {
            let linked = self.link_warning(case, &actor, warning).await?;
            let graver = linked
                .as_ref()
                .is_ok_and(|case| self.casework.is_graver(&risk, &case.risk));
            pass_over(case, linked);
            if graver {
                let set = Move::SetRisk {
                    risk: risk.clone(),
                    reason: format!("{} (warning {warning})", rule.name),
                };
                let set = self.move_by_hub(case, &actor, set).await?;
                pass_over(case, set);
            }
        }
        Ok(())
    }

    /// Links a warning to a case. A case at its limit has the link beside its log.
    async fn link_warning(
        &mut self,
        case: i64,
        actor: &str,
        warning: i64,
    ) -> Result<Result<Case, Refused>, StoreError> {
        self.changes.warning(warning);
        stored_cases::link(self.connection, case, warning).await?;
        let link = Move::LinkWarning { warning };
        self.move_by_hub(case, actor, link).await
    }

    /// An agent becomes silent, or gives a sign of life.
    pub async fn silence(&mut self, rule: &Rule, silence: &Silence) -> Result<(), StoreError> {
        match silence {
            Silence::Begins {
                agent,
                heard_ms,
                at_ms,
            } => {
                let finding = Finding {
                    site: self.memory.site_of(agent),
                    agent: agent.clone(),
                    from_ms: *at_ms,
                    to_ms: *at_ms,
                    hits: 1,
                    reasons: Vec::new(),
                    values: format!("heard={}", local_time::text(*heard_ms, "%FT%T%:z")),
                    ended_ms: None,
                    arrived_ms: Some(*at_ms),
                };
                let late = self.terms(rule).is_late(&finding);
                let mut key = String::new();
                linli_domain::correlate::rule::push_escaped(&mut key, agent);
                self.raise(rule, &key, &finding, late).await
            }
            Silence::Ends { agent, at_ms } => {
                for told in warnings::open(self.connection, &rule.id).await? {
                    if told.agent == *agent {
                        self.changes.warning(told.id);
                        warnings::end(self.connection, told.id, *at_ms).await?;
                        self.ended(rule, told.id, *at_ms).await?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Raises a warning about a rule that has reached a limit.
    async fn overflowed(&mut self, overflow: &Overflow) -> Result<(), StoreError> {
        let rule = Arc::clone(&self.memory.engine.rules()[overflow.rule]);
        let limit = overflow.limit;
        let seen = Rule {
            id: OVERFLOW_RULE.to_owned(),
            name: format!("规则容量超限（{limit}）：{}", rule.name),
            severity: Severity::Warning,
            case: None,
            route: String::new(),
            ack_ms: None,
            shadow: false,
            kind: linli_domain::correlate::rule::Kind::Match,
            ..(*rule).clone()
        };
        tracing::warn!(
            rule = rule.id,
            limit,
            "a rule has met a limit: raise it, or let its key or steps take less"
        );
        let from_ms = overflow.at_ms.saturating_sub(HORIZON_MS);
        let standing =
            warnings::standing(self.connection, &seen, &rule.id, from_ms, overflow.at_ms).await?;
        let mut finding = Finding {
            site: overflow.site.clone(),
            agent: overflow.agent.clone(),
            from_ms: overflow.at_ms,
            to_ms: overflow.at_ms,
            hits: 1,
            reasons: Vec::new(),
            values: format!(
                "{limit}={}",
                if limit == "max_keys" {
                    rule.max_keys
                } else {
                    rule.max_events
                }
            ),
            ended_ms: None,
            arrived_ms: Some(overflow.at_ms),
        };
        let Some(before) = standing.last() else {
            return self.raise_always(&seen, &rule.id, &finding, false).await;
        };
        finding.from_ms = before.from_ms;
        finding.hits = before.hits + 1;
        self.update_warning(before.id, &finding, false).await
    }

    /// Escalates warnings whose acknowledgement is overdue.
    pub async fn escalate(&mut self, overdue: Vec<NotifiableWarning>) -> Result<(), StoreError> {
        for told in overdue {
            let at = if told.escalated_to.is_empty() {
                &told.route
            } else {
                &told.escalated_to
            };
            let next = self.centre.next_route(at).map(str::to_owned);
            let actor = "hub";
            let Some(next) = next else {
                let note =
                    "无人签收，已无上一级 / nobody has acknowledged it, and there is nobody beyond";
                self.changes.warning(told.id);
                warnings::set_ack_due(self.connection, told.id, None).await?;
                warnings::note(
                    self.connection,
                    told.id,
                    self.now_ms,
                    actor,
                    "escalated",
                    note,
                )
                .await?;
                continue;
            };
            let due_ms = told.ack_ms.map(|ack_ms| self.now_ms.saturating_add(ack_ms));
            // It may have been acknowledged or muted since it was found.
            let still = warnings::escalated(self.connection, told.id, &next, self.now_ms, due_ms);
            if !still.await? {
                continue;
            }
            self.changes.warning(told.id);
            let note = format!(
                "超时未签收，升级至 {next} / not acknowledged in time, passed on to {next}"
            );
            warnings::note(
                self.connection,
                told.id,
                self.now_ms,
                actor,
                "escalated",
                &note,
            )
            .await?;
            self.tally.escalated(&told.rule);
            let told = NotifiableWarning {
                route: next,
                escalations: told.escalations + 1,
                ..told
            };
            self.tell(&told, What::Escalated, &note).await?;
        }
        Ok(())
    }
}

/// If a case refuses a rule's change (it is merged, or full), log it and raise the warning anyway.
fn pass_over(case: i64, outcome: Result<Case, Refused>) {
    if let Err(refused) = outcome {
        tracing::warn!(case, %refused, "a case does not take what a rule has for it");
    }
}

fn names(inhibits: &Inhibits, rule: &Rule) -> bool {
    inhibits.rules.contains(&rule.id)
        || inhibits.kinds.iter().any(|kind| kind == rule.kind.as_str())
}

/// Why an inhibited warning notifies nobody.
fn goes_on(other: i64) -> String {
    format!("预警 {other} 期间不通知 / warning {other} goes on")
}

/// The trigger of a change, in words.
fn why(cause: &Trigger) -> String {
    if cause.kind.is_empty() {
        return format!("已知至 {} / all is known up to then", time(cause.at_ms));
    }
    format!(
        "{} 的 {} 到达（{}）",
        time(cause.at_ms),
        cause.kind,
        cause.event
    )
}

/// A time by the clock of the centre.
fn time(at_ms: i64) -> String {
    local_time::text(at_ms, "%m-%d %H:%M:%S")
}
