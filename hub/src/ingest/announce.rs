//! Notices: from a decision to the outbox, within the transaction of the decision. The notifier is woken after the
//! commit (`writer`).
use linli_shared::protocol::event::Severity;

use super::unit_of_work::UnitOfWork;
use crate::centre::case_notices;
use linli_domain::cases::action::Action;
use linli_domain::cases::case::Case;
use linli_domain::changes::ChangeKind;
use linli_domain::correlate::rule::Field;
use linli_domain::notice::{CaseNews, Notice, What, place};
use linli_store::warnings::{ACTIVE, NotifiableWarning};
use linli_store::{StoreError, cases, outbox};

impl UnitOfWork<'_> {
    /// Notifies the channels of a warning's route of a change. Nobody is notified of a warning that is on trial, muted,
    /// inhibited or about a case for named handlers only; of a 补报 one, unless it is about life; of the end of one that nobody
    /// was notified of. False: no channel took the notice.
    pub async fn tell(
        &mut self,
        told: &NotifiableWarning,
        what: What,
        reason: &str,
    ) -> Result<bool, StoreError> {
        let rules = self.memory.engine.rules();
        let rule = rules.iter().find(|rule| rule.id == told.rule).cloned();
        let withdrawn = what == What::Withdrawn;
        let named_only = rule
            .as_ref()
            .is_some_and(|rule| self.opens_named_only(rule));
        let severity = Severity::from_name(&told.severity).unwrap_or(Severity::Life);
        let silent = (told.late && severity < Severity::Life)
            || told.shadow
            || told.muted_by.is_some()
            || told.inhibited_by.is_some()
            || (told.state != ACTIVE && !withdrawn)
            || (!named_only && cases::is_hidden(self.connection, told.id).await?);
        let routes: Vec<String> = self
            .routes(told, what)
            .into_iter()
            .filter(|route| self.centre.addressees.has_any(route))
            .collect();
        if silent || routes.is_empty() {
            return Ok(false);
        }
        let fields: Vec<String> = rule
            .as_ref()
            .map_or_else(Vec::new, |rule| rule.key.iter().map(Field::name).collect());
        let (grade, grade_words) = self.centre.grade(severity);
        let (id, step) = (told.id, told.escalations);
        let decision = match what {
            What::Escalated => format!("warning/{id}/{}/{step}", what.as_str()),
            // Once for each severity that it rises to.
            What::Amended => format!("warning/{id}/{}/{}", what.as_str(), told.severity),
            // It may go on, and is then raised as a present one.
            What::Raised if told.late => format!("warning/{id}/{}/late", what.as_str()),
            _ => format!("warning/{id}/{}", what.as_str()),
        };
        let mut notice = Notice {
            warning: id,
            what,
            grade: grade.to_owned(),
            grade_words: grade_words.to_owned(),
            severity,
            rule: told.rule.clone(),
            rule_name: told.name.clone(),
            site: told.site.clone(),
            place: place(&fields, &told.key, &told.site),
            at_ms: told.at_ms,
            late: told.late,
            late_ms: told
                .late
                .then(|| self.now_ms.saturating_sub(told.until_ms).max(0)),
            case: outbox::case_of(self.connection, id, named_only).await?,
            news: None,
            reason: reason.to_owned(),
            route: told.route.clone(),
        };
        if withdrawn {
            for channel in outbox::drop_waiting(self.connection, id, reason, self.now_ms).await? {
                self.changes.touch(ChangeKind::Notifications, channel);
            }
        }
        let mut is_told = false;
        for route in routes {
            notice.route = route;
            is_told |= self.enqueue(&decision, &notice).await?;
        }
        Ok(is_told)
    }

    /// The routes of a change: for an end and a withdrawal, all that the warning was escalated to.
    fn routes(&self, told: &NotifiableWarning, what: What) -> Vec<String> {
        let mut routes = vec![told.route.clone()];
        if !matches!(what, What::Ended | What::Withdrawn) || told.escalated_to.is_empty() {
            return routes;
        }
        let mut at = told.route.as_str();
        while at != told.escalated_to {
            // The chain in the config may have changed.
            let next = self.centre.next_route(at);
            at = next
                .filter(|next| routes.iter().all(|known| known != next))
                .unwrap_or(&told.escalated_to);
            routes.push(at.to_owned());
        }
        routes
    }

    /// Notifies the channels of an action on a case; see [`case_notices`].
    pub async fn tell_of_case(
        &mut self,
        at: &str,
        site: &str,
        (before, after): (&Case, &Case),
        action: &Action,
    ) -> Result<(), StoreError> {
        let (centre, casework) = (self.centre, self.casework);
        if centre.case_notices.is_empty() {
            return Ok(());
        }
        let Some((what, severity, organisation)) = case_notices::of_action(before, after, action)
        else {
            return Ok(());
        };
        let orgs = casework.orgs(after, at);
        let wanted = centre
            .case_notices
            .iter()
            .filter(|entry| entry.takes(what, after, &orgs));
        let grades = &casework.terms.grade;
        let grade = grades.iter().find(|grade| grade.name == after.risk);
        let name = |org: &str| {
            let known = casework.directory.orgs.get(org);
            known.map_or_else(|| org.to_owned(), |org| org.name.clone())
        };
        let known = casework.taxonomy.registered(&after.kind);
        let mut notice = Notice {
            warning: 0,
            what,
            grade: after.risk.clone(),
            grade_words: grade.map_or_else(String::new, |grade| grade.words.clone()),
            severity,
            rule: after.kind.clone(),
            rule_name: known.map_or_else(|| after.kind.clone(), |kind| kind.name),
            site: site.to_owned(),
            place: match casework.directory.places.get(at) {
                Some(place) => place.name.clone(),
                None => site.to_owned(),
            },
            at_ms: action.at_ms,
            late: false,
            late_ms: None,
            case: Some(after.code.clone()),
            news: Some(CaseNews {
                version: action.number,
                state: after.state.as_str().to_owned(),
                state_words: after.state.words().to_owned(),
                lead: after.lead.clone(),
                organisation_name: name(&organisation),
                organisation,
                rung: after.rung.words().1.to_owned(),
                due_ms: after.due_ms(),
            }),
            reason: String::new(),
            route: String::new(),
        };
        if after.named_only {
            // Neither its kind nor its place.
            notice.rule = "named-only".to_owned();
            notice.rule_name = "仅限指定经办人".to_owned();
            notice.site.clear();
            notice.place.clear();
        }
        let decision = format!("case/{}/{}", after.code, action.number);
        for entry in wanted {
            notice.route.clone_from(&entry.route);
            self.enqueue(&decision, &notice).await?;
        }
        Ok(())
    }

    /// Adds a notice to the outbox for every channel of its route that accepts it. A decision that is
    /// there already is skipped. False: no channel accepts it.
    async fn enqueue(&mut self, decision: &str, notice: &Notice) -> Result<bool, StoreError> {
        let centre = self.centre;
        let mut is_taken = false;
        for channel in centre.addressees.of(notice) {
            let id = self.memory.last_outbox + 1;
            let is_new =
                outbox::enqueue(self.connection, id, channel, decision, notice, self.now_ms)
                    .await?;
            is_taken = true;
            if is_new {
                self.changes.touch(ChangeKind::Notifications, channel);
                self.memory.last_outbox = id;
                self.tally.outbox_moved();
            }
        }
        Ok(is_taken)
    }

    /// Writes deliveries of notices; returns how many changed a row.
    pub async fn settle(
        &mut self,
        settlements: &[outbox::Settlement],
    ) -> Result<usize, StoreError> {
        let mut settled = 0;
        for settlement in settlements {
            let channel = outbox::settle(self.connection, settlement, self.now_ms).await?;
            if let Some(channel) = channel {
                settled += 1;
                self.changes.touch(ChangeKind::Notifications, channel);
                if settlement.outcome == outbox::Delivery::Again {
                    self.tally.outbox_moved();
                }
            }
        }
        Ok(settled)
    }
}
