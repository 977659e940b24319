//! The limit of the warnings of one agent in a minute: a broken or captured agent must not bury the warnings
//! of the others.
//!
//! Beyond the limit a warning is held by one visible warning of the rule [`FLOOD_RULE`], which counts and lists the held ones by
//! rule and key, has the gravest of their severities, and notifies people once, and again when a graver one
//! is held. A held warning opens no case; its rule raises it with its next event, when there is room again.
//!
//! Graver classes have limits of their own ([`Class`]). Warnings that page nobody (补报, not about life) have a limit
//! [`RECORDED_FACTOR`] times as high: a gateway that was offline brings the warnings of hours at once.
use linli_shared::protocol::event::Severity;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::unit_of_work::UnitOfWork;
use linli_domain::correlate::rule::{Kind, Rule};
use linli_domain::correlate::{Finding, Reason};
use linli_domain::notice::What;
use linli_domain::warnings::NotificationOutcome;
use linli_store::StoreError;
use linli_store::warnings;

/// The id of the rule of holding warnings.
pub const FLOOD_RULE: &str = "agent.flood";
/// The window of the limit, milliseconds.
const MINUTE_MS: u64 = 60_000;
/// A flood ends after so long without a held warning, milliseconds.
const OVER_MS: i64 = 10 * 60_000;
/// Factor of the limit for warnings that page nobody.
const RECORDED_FACTOR: u32 = 20;
/// Maximum number of held warnings of one agent that are distinguished; more may be counted twice.
const TOLD_APART_MAX: usize = 100_000;
/// Stands for rules whose cases are for named handlers only.
const HIDDEN: &str = "named-only";
/// Maximum number of listed keys of one rule, and of listed events; all are counted.
const LISTED_MAX: usize = 100;

/// A held warning.
pub struct Held {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The key.
    pub key: String,
    /// The finding.
    pub finding: Finding,
    /// Its case would be for named handlers only: it is counted, and neither named nor listed.
    pub is_hidden: bool,
}

/// The held warnings of one rule in a flood.
#[derive(Debug, Default, Clone)]
struct OfRule {
    count: u64,
    /// The first keys, each once.
    keys: Vec<String>,
}

/// The window of one agent, and its held warnings.
#[derive(Debug, Default)]
struct AgentFlood {
    began_ms: u64,
    /// Warnings raised in the window, of each class.
    raised: [u32; 3],
    /// Hashes of rule, key and time: a held warning is found again with each event of its key.
    seen: HashSet<u64>,
    held: BTreeMap<String, OfRule>,
}

/// A class with a limit of its own: many notices hold back no alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It pages nobody.
    Recorded,
    /// It is below an alarm.
    Minor,
    /// An alarm, or about life.
    Grave,
}

impl Class {
    /// Of a warning of this severity.
    pub fn of(severity: Severity, late: bool) -> Self {
        match severity {
            Severity::Life => Self::Grave,
            _ if late => Self::Recorded,
            Severity::Alarm => Self::Grave,
            _ => Self::Minor,
        }
    }
}

/// The windows of all agents.
#[derive(Debug, Default)]
pub struct Floods(HashMap<String, AgentFlood>);

impl Floods {
    /// True if one more warning of this agent may be raised. `now_ms` is of a monotonic clock.
    pub fn admits(&mut self, agent: &str, now_ms: u64, per_minute: u32, class: Class) -> bool {
        let flood = self.0.entry(agent.to_owned()).or_default();
        if now_ms.saturating_sub(flood.began_ms) >= MINUTE_MS || flood.raised == [0; 3] {
            flood.began_ms = now_ms;
            flood.raised = [0; 3];
        }
        let limit = match class {
            Class::Recorded => per_minute.saturating_mul(RECORDED_FACTOR),
            Class::Minor | Class::Grave => per_minute,
        };
        let raised = &mut flood.raised[class as usize];
        if *raised >= limit {
            return false;
        }
        *raised += 1;
        true
    }

    /// Adds held warnings; `is_new`: the flood before is over. Returns how many are new, and a text about all.
    fn hold(&mut self, agent: &str, is_new: bool, held: &[Held]) -> (i64, String) {
        let flood = self.0.entry(agent.to_owned()).or_default();
        if is_new {
            flood.held.clear();
            flood.seen.clear();
        }
        let mut count = 0;
        for held in held {
            let mut hasher = DefaultHasher::new();
            (&held.rule.id, &held.key, held.finding.from_ms).hash(&mut hasher);
            let is_full = flood.seen.len() >= TOLD_APART_MAX;
            if !is_full && !flood.seen.insert(hasher.finish()) {
                continue;
            }
            count += 1;
            let name = if held.is_hidden {
                HIDDEN
            } else {
                held.rule.id.as_str()
            };
            let of_rule = flood.held.entry(name.to_owned()).or_default();
            of_rule.count += 1;
            if held.is_hidden {
                continue;
            }
            if of_rule.keys.len() < LISTED_MAX && !of_rule.keys.contains(&held.key) {
                of_rule.keys.push(held.key.clone());
            }
        }
        let words = flood.held.iter().map(|(rule, of_rule)| {
            let (count, keys) = (of_rule.count, of_rule.keys.join(", "));
            let more = if of_rule.keys.len() == LISTED_MAX {
                ", …"
            } else {
                ""
            };
            match keys.is_empty() {
                true => format!("{rule} ×{count}"),
                false => format!("{rule} ×{count}: {keys}{more}"),
            }
        });
        (count, words.collect::<Vec<_>>().join("; "))
    }
}

impl UnitOfWork<'_> {
    /// Writes held warnings into the holding warnings, one for each agent.
    pub async fn write_floods(&mut self) -> Result<(), StoreError> {
        let mut by_agent: BTreeMap<String, Vec<Held>> = BTreeMap::new();
        for held in std::mem::take(&mut self.held) {
            let agent = held.finding.agent.clone();
            by_agent.entry(agent).or_default().push(held);
        }
        for (agent, held) in by_agent {
            self.write_flood(&agent, &held).await?;
        }
        Ok(())
    }

    async fn write_flood(&mut self, agent: &str, held: &[Held]) -> Result<(), StoreError> {
        let Some(gravest) = held.iter().max_by_key(|held| held.rule.severity) else {
            return Ok(());
        };
        let rule = Rule {
            id: FLOOD_RULE.to_owned(),
            name: "网关预警过多，合并显示".to_owned(),
            case: None,
            shadow: false,
            key: Vec::new(),
            kind: Kind::Match,
            ..(*gravest.rule).clone()
        };
        let from_ms = self.now_ms.saturating_sub(OVER_MS);
        let standing =
            warnings::standing(self.connection, &rule, agent, from_ms, self.now_ms).await?;
        let before = standing.last();
        let (count, listed) = self.memory.floods.hold(agent, before.is_none(), held);
        for _ in 0..count {
            self.tally.outcome(NotificationOutcome::Folded);
        }
        if count == 0 {
            return Ok(());
        }
        let mut finding = Finding {
            site: gravest.finding.site.clone(),
            agent: agent.to_owned(),
            from_ms: self.now_ms,
            to_ms: self.now_ms,
            hits: count,
            reasons: Vec::new(),
            values: listed,
            ended_ms: None,
            arrived_ms: Some(self.now_ms),
        };
        let mut reasons: Vec<Reason> =
            before.map_or_else(Vec::new, |before| before.reasons.clone());
        let shown = held.iter().filter(|held| !held.is_hidden);
        let more = shown.flat_map(|held| held.finding.reasons.iter());
        reasons.extend(more.take(LISTED_MAX.saturating_sub(reasons.len())).cloned());
        finding.reasons = reasons;
        let Some(before) = before else {
            tracing::error!(
                agent,
                per_minute = self.centre.warnings_per_agent_minute,
                "an agent raises more warnings than it may in a minute: the others are held by one"
            );
            return self.raise_always(&rule, agent, &finding, false).await;
        };
        finding.from_ms = before.from_ms;
        finding.hits += before.hits;
        self.update_warning(before.id, &finding, false).await?;
        let Some(told) = warnings::find(self.connection, before.id).await? else {
            return Ok(());
        };
        if !rule.is_graver_than(&told.severity) {
            return Ok(());
        }
        let due_ms = rule.ack_ms.map(|ack_ms| self.now_ms.saturating_add(ack_ms));
        warnings::make_graver(self.connection, before.id, &rule, due_ms).await?;
        let note = "更严重的预警并入 a graver one is held";
        self.note(&rule, before.id, "amended", note).await?;
        if let Some(told) = warnings::find(self.connection, before.id).await? {
            self.tell(&told, What::Amended, note).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_has_its_number_in_a_minute_and_the_next_minute_again() {
        let mut floods = Floods::default();
        let mut admitted = |agent: &str, now_ms| {
            (0..100)
                .filter(|_| floods.admits(agent, now_ms, 60, Class::Grave))
                .count()
        };
        assert_eq!(admitted("gw-1", 5), 60);
        assert_eq!(admitted("gw-1", 60_004), 0);
        assert_eq!(admitted("gw-2", 60_004), 60, "others have their own");
        assert_eq!(admitted("gw-1", 60_005), 60);
        for (class, wanted) in [
            (Class::Recorded, 1_200),
            (Class::Minor, 60),
            (Class::Grave, 0),
        ] {
            let more = (0..9_999).filter(|_| floods.admits("gw-1", 60_006, 60, class));
            assert_eq!(more.count(), wanted, "{class:?}");
        }
    }
}
