//! What of events, warnings and agents is for somebody to see: the centre sees all, another organisation what is of
//! its sites, and of its own agent.
use linli_shared::service::problem::Problem;
use std::collections::BTreeSet;

use super::{Api, auth, store_problem};
use linli_domain::orgs::Watched;
use linli_domain::rights::Actor;
use linli_store::cases;
use linli_store::warnings::WarningView;

/// What somebody watches; `None`: all.
pub async fn of(api: &Api, actor: &Actor) -> Result<Option<Watched>, Problem> {
    let directory = api.directory.get().await.map_err(store_problem)?;
    Ok(directory.watched(&actor.org))
}

/// Lets through who watches all; who does not is noted.
pub async fn all(api: &Api, actor: &Actor, method: &str, path: &str) -> Result<(), Problem> {
    match of(api, actor).await? {
        None => Ok(()),
        Some(_) => auth::refuse(api, &actor.login, method, path).await,
    }
}

/// Lets through who watches all, or this site; who does not is noted.
pub async fn site(
    api: &Api,
    actor: &Actor,
    site: &str,
    method: &str,
    path: &str,
) -> Result<(), Problem> {
    match of(api, actor).await? {
        Some(own) if !own.has(site, "") => auth::refuse(api, &actor.login, method, path).await,
        _ => Ok(()),
    }
}

/// A warning is not for somebody: it is of elsewhere, of a rule that opens cases for named handlers only, or of such a
/// case, where they are not named.
pub async fn hides(api: &Api, actor: &Actor, warning: &WarningView) -> Result<bool, Problem> {
    let watched = of(api, actor).await?;
    let is_elsewhere = watched.is_some_and(|own| !own.has(&warning.site, &warning.agent));
    let hidden = hidden_cases(api, actor, &warning.cases).await?;
    Ok(is_elsewhere || !hidden.is_empty() || hidden_rules(api, actor).contains(&warning.rule))
}

/// Those of these codes that are of cases for named handlers only, where this one is not named.
pub async fn hidden_cases(
    api: &Api,
    actor: &Actor,
    codes: &[String],
) -> Result<BTreeSet<String>, Problem> {
    if codes.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut snapshot = api.store.snapshot().await.map_err(store_problem)?;
    cases::hidden(&mut snapshot, codes, &actor.login)
        .await
        .map_err(store_problem)
}

/// Rules whose warnings are not for this one to see: they open cases for named handlers only.
pub fn hidden_rules(api: &Api, actor: &Actor) -> Vec<String> {
    let rules = api.rules.running();
    let hides = |kind: &String| api.named_only.hides(kind, &actor.login);
    rules
        .iter()
        .filter(|rule| rule.case.as_ref().is_some_and(hides))
        .map(|rule| rule.id.clone())
        .collect()
}
