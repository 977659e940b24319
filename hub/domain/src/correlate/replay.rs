//! Replays events through rules without a store: for the tests of rules, for evaluating the past with other
//! rules, and for property tests. It decides with the same [`Engine`] and [`revise`] as the hub.
use linli_shared::protocol::event::Event;
use std::collections::HashMap;
use std::sync::Arc;

use super::engine::{Engine, Outdated, Overflow, Touched};
use super::revise::{Change, StandingWarning, Terms, revise};
use super::rule::{Roster, Rule};
use super::{Finding, Origin};

/// A warning raised in a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    /// Id of the rule.
    pub rule: String,
    /// Key of the rule.
    pub key: String,
    /// The finding that the warning stands for.
    pub finding: Finding,
    /// It is 补报.
    pub late: bool,
    /// It was withdrawn.
    pub withdrawn: bool,
}

/// Rules and the warnings that they raised.
pub struct Replay {
    engine: Engine,
    warnings: Vec<Raised>,
    /// Rule and key → indices in `warnings`.
    by_key: HashMap<(usize, String), Vec<usize>>,
    overflows: Vec<Overflow>,
}

impl Replay {
    /// A replay without events.
    pub fn new(rules: Vec<Arc<Rule>>, offices: HashMap<String, String>) -> Self {
        Self {
            engine: Engine::in_memory(rules, offices),
            warnings: Vec::new(),
            by_key: HashMap::new(),
            overflows: Vec::new(),
        }
    }

    /// Starts the wait for the things on the rosters of rules.
    pub fn expect_all(&mut self, since_ms: i64) {
        for (index, rule) in self.engine.rules().to_vec().iter().enumerate() {
            if let Roster::Keys(keys) = &rule.roster {
                for (key, agent) in keys {
                    self.engine.expect(index, key, "", agent, since_ms);
                }
            }
        }
    }

    /// Evaluates one event.
    pub fn bring(&mut self, event: &Event, origin: &Origin<'_>, now_ms: i64) {
        self.engine.observe(event, origin, now_ms);
        self.settle(now_ms);
    }

    /// Sets the watermark of an agent.
    pub fn heard(&mut self, agent: &str, watermark_ms: i64, now_ms: i64) {
        self.engine.advance(agent, watermark_ms);
        self.settle(now_ms);
    }

    /// Replaces the engine, as a restart of the hub does; the warnings stay.
    pub fn restart(&mut self, engine: Engine) {
        self.engine = engine;
    }

    /// The engine.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// The limits that rules reached.
    #[cfg(test)]
    pub fn overflows(&self) -> &[Overflow] {
        &self.overflows
    }

    /// The open warnings, ordered by rule, key and time.
    pub fn standing(&self) -> Vec<&Raised> {
        let mut standing: Vec<&Raised> = self
            .warnings
            .iter()
            .filter(|warning| !warning.withdrawn)
            .collect();
        standing.sort_by(|one, other| {
            (&one.rule, &one.key, one.finding.from_ms).cmp(&(
                &other.rule,
                &other.key,
                other.finding.from_ms,
            ))
        });
        standing
    }

    fn settle(&mut self, now_ms: i64) {
        if !self.engine.has_outcome() {
            return;
        }
        let outcome = self.engine.outcome();
        self.overflows.extend(outcome.overflows);
        for touched in outcome.touched {
            self.reconsider(&touched, now_ms);
        }
        for outdated in outcome.outdated {
            self.join_or_raise(outdated, now_ms);
        }
    }

    /// Mirrors `ingest/raise.rs`.
    fn join_or_raise(&mut self, outdated: Outdated, now_ms: i64) {
        let rule = Arc::clone(&self.engine.rules()[outdated.rule]);
        let (key, finding) = (outdated.key, outdated.finding);
        let places = self.by_key.entry((outdated.rule, key.clone())).or_default();
        let near = places.iter().copied().find(|at| {
            let warning = &self.warnings[*at];
            !warning.withdrawn && finding.is_near(&warning.finding, rule.fold_ms)
        });
        if let Some(at) = near {
            self.warnings[at].finding.join(&finding);
            return;
        }
        let terms = Terms {
            now_ms,
            fresh_ms: rule.fresh_ms,
            known_from_ms: i64::MIN,
            fresh_hits: 1,
        };
        places.push(self.warnings.len());
        self.warnings.push(Raised {
            rule: rule.id.clone(),
            key,
            late: terms.is_late(&finding),
            finding,
            withdrawn: false,
        });
    }

    fn reconsider(&mut self, touched: &Touched, now_ms: i64) {
        let rule = Arc::clone(&self.engine.rules()[touched.rule]);
        let places = self
            .by_key
            .entry((touched.rule, touched.key.clone()))
            .or_default();
        let (from_ms, to_ms) = (
            touched.from_ms.saturating_sub(rule.fold_ms),
            touched.to_ms.saturating_add(rule.fold_ms),
        );
        let mut standing: Vec<StandingWarning> = places
            .iter()
            .map(|at| (*at, &self.warnings[*at]))
            .filter(|(_, warning)| {
                !warning.withdrawn
                    && warning.finding.from_ms <= to_ms
                    && warning.finding.to_ms >= from_ms
            })
            .map(|(at, warning)| StandingWarning {
                id: at as i64,
                from_ms: warning.finding.from_ms,
                to_ms: warning.finding.to_ms,
                hits: warning.finding.hits,
                reasons: warning.finding.reasons.clone(),
                values: warning.finding.values.clone(),
                ended_ms: warning.finding.ended_ms,
                late: warning.late,
                of_other_rule: false,
            })
            .collect();
        standing.sort_by_key(|warning| (warning.from_ms, warning.id));
        let (from_ms, to_ms) = hull(&standing, from_ms, to_ms);
        let (findings, known_from_ms) =
            self.engine
                .findings(touched.rule, &touched.key, from_ms, to_ms);
        let terms = Terms {
            now_ms,
            fresh_ms: rule.fresh_ms,
            known_from_ms,
            fresh_hits: touched.fresh_hits,
        };
        for change in revise(findings, &standing, terms) {
            match change {
                Change::Raise { finding, late } => {
                    places.push(self.warnings.len());
                    self.warnings.push(Raised {
                        rule: rule.id.clone(),
                        key: touched.key.clone(),
                        finding,
                        late,
                        withdrawn: false,
                    });
                }
                Change::Extend {
                    id,
                    finding,
                    now_fresh,
                    ..
                }
                | Change::Amend {
                    id,
                    finding,
                    now_fresh,
                    ..
                } => {
                    let warning = &mut self.warnings[id as usize];
                    warning.finding = finding;
                    warning.late &= !now_fresh;
                }
                Change::End { id, finding } => self.warnings[id as usize].finding = finding,
                Change::Withdraw { id, .. } => self.warnings[id as usize].withdrawn = true,
            }
        }
    }
}

/// The time span, extended to include all these warnings.
pub fn hull(standing: &[StandingWarning], from_ms: i64, to_ms: i64) -> (i64, i64) {
    standing
        .iter()
        .fold((from_ms, to_ms), |(from_ms, to_ms), warning| {
            (from_ms.min(warning.from_ms), to_ms.max(warning.to_ms))
        })
}
