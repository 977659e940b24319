//! Which events, warnings and agents an actor sees: the centre sees all, another organisation what is of its sites, and
//! its own agent.
use std::collections::BTreeSet;

use super::{ServiceError, Services};
use linli_domain::correlate::rule::Rule;
use linli_domain::orgs::Watched;
use linli_domain::rights::Actor;
use linli_store::cases;
use linli_store::warnings::WarningView;

impl Services {
    /// The sites and agents that an actor sees; `None`: all.
    pub(super) async fn watched(&self, actor: &Actor) -> Result<Option<Watched>, ServiceError> {
        Ok(self.directory.get().await?.watched(&actor.org))
    }

    /// Lets through an actor that sees all sites; a refusal is in the audit log.
    pub(super) async fn permit_all_sites(
        &self,
        actor: &Actor,
        method: &str,
        object: &str,
    ) -> Result<(), ServiceError> {
        match self.watched(actor).await? {
            None => Ok(()),
            Some(_) => self.refuse(actor, method, object).await,
        }
    }

    /// Lets through an actor that sees this site; a refusal is in the audit log.
    pub(super) async fn permit_site(
        &self,
        actor: &Actor,
        site: &str,
        method: &str,
        object: &str,
    ) -> Result<(), ServiceError> {
        match self.watched(actor).await? {
            Some(own) if !own.has(site, "") => self.refuse(actor, method, object).await,
            _ => Ok(()),
        }
    }

    /// A warning is hidden from an actor: it is of another site, of a rule that opens cases for named handlers only, or of
    /// such a case, and the actor is not named.
    pub(super) async fn hides_warning(
        &self,
        actor: &Actor,
        warning: &WarningView,
    ) -> Result<bool, ServiceError> {
        let watched = self.watched(actor).await?;
        let is_elsewhere = watched.is_some_and(|own| !own.has(&warning.site, &warning.agent));
        let hidden = self.hidden_cases(actor, &warning.cases).await?;
        Ok(is_elsewhere || !hidden.is_empty() || self.hidden_rules(actor).contains(&warning.rule))
    }

    /// Those of these codes that are of cases for named handlers only, where the actor is not named.
    pub(super) async fn hidden_cases(
        &self,
        actor: &Actor,
        codes: &[String],
    ) -> Result<BTreeSet<String>, ServiceError> {
        if codes.is_empty() {
            return Ok(BTreeSet::new());
        }
        let mut snapshot = self.store.snapshot().await?;
        Ok(cases::hidden(&mut snapshot, codes, &actor.login).await?)
    }

    /// Whether an actor may see what a rule is about.
    pub fn shows_rule(&self, actor: &Actor, rule: &Rule) -> bool {
        let hides = |kind: &String| self.named_only.hides(kind, &actor.login);
        !rule.case.as_ref().is_some_and(hides)
    }

    /// Rules whose warnings are hidden from an actor: they open cases for named handlers only.
    pub(super) fn hidden_rules(&self, actor: &Actor) -> Vec<String> {
        let rules = self.rules.running();
        rules
            .iter()
            .filter(|rule| !self.shows_rule(actor, rule))
            .map(|rule| rule.id.clone())
            .collect()
    }
}
