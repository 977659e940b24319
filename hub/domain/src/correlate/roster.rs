//! Agents that are to be heard: who has given no sign of life for too long.
//!
//! Signs of life are not events: only the last of each agent is known. So a silence that ends is over, and
//! one that the hub slept through is not known: after a start each agent has the rule's whole time again.
//!
//! Times are of any clock that does not step; a hub gives those of its monotonic one.
use std::collections::HashMap;

/// What is known of one agent.
#[derive(Debug, Clone, Copy)]
struct Watch {
    /// The last sign, or since when it is waited for, milliseconds.
    heard_ms: i64,
    /// It is silent, and that has been said.
    silent: bool,
}

/// The agents of one rule.
#[derive(Debug, Clone, Default)]
pub struct AgentRoster {
    agents: HashMap<String, Watch>,
}

/// Silence begins or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// It has given no sign since `heard_ms`, longer than is allowed at `at_ms`.
    Begins {
        agent: String,
        heard_ms: i64,
        at_ms: i64,
    },
    /// It has given a sign.
    Ends { agent: String, at_ms: i64 },
}

impl AgentRoster {
    /// An agent is on the roster from now on; `silent` if a warning of before says so.
    pub fn expect(&mut self, agent: &str, since_ms: i64, silent: bool) {
        self.agents.entry(agent.to_owned()).or_insert(Watch {
            heard_ms: since_ms,
            silent,
        });
    }

    /// An agent has given a sign.
    pub fn heard(&mut self, agent: &str, at_ms: i64) -> Option<Silence> {
        let watch = self.agents.entry(agent.to_owned()).or_insert(Watch {
            heard_ms: at_ms,
            silent: false,
        });
        watch.heard_ms = watch.heard_ms.max(at_ms);
        std::mem::take(&mut watch.silent).then(|| Silence::Ends {
            agent: agent.to_owned(),
            at_ms,
        })
    }

    /// It has been said that an agent is silent.
    pub fn is_silent(&self, agent: &str) -> bool {
        self.agents.get(agent).is_some_and(|watch| watch.silent)
    }

    /// Who has been silent for longer than `within_ms`.
    pub fn overdue(&mut self, within_ms: i64, now_ms: i64) -> Vec<Silence> {
        let mut silent = Vec::new();
        for (agent, watch) in &mut self.agents {
            let at_ms = watch.heard_ms.saturating_add(within_ms);
            if !watch.silent && at_ms <= now_ms {
                watch.silent = true;
                silent.push(Silence::Begins {
                    agent: agent.clone(),
                    heard_ms: watch.heard_ms,
                    at_ms,
                });
            }
        }
        silent.sort_by(|one, other| key(one).cmp(key(other)));
        silent
    }
}

fn key(silence: &Silence) -> &str {
    match silence {
        Silence::Begins { agent, .. } | Silence::Ends { agent, .. } => agent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_said_once_and_ends_with_the_next_sign() {
        let mut roster = AgentRoster::default();
        roster.expect("gw-1", 0, false);
        roster.expect("gw-2", 0, true);
        assert_eq!(roster.overdue(10, 9), []);
        let begins = Silence::Begins {
            agent: "gw-1".to_owned(),
            heard_ms: 0,
            at_ms: 10,
        };
        assert_eq!(roster.overdue(10, 15), [begins]);
        assert_eq!(roster.overdue(10, 20), []);
        for agent in ["gw-1", "gw-2"] {
            let ends = Silence::Ends {
                agent: agent.to_owned(),
                at_ms: 21,
            };
            assert_eq!(roster.heard(agent, 21), Some(ends));
            assert_eq!(roster.heard(agent, 22), None);
        }
        assert_eq!(roster.overdue(10, 31), []);
        assert_eq!(roster.overdue(10, 32).len(), 2);
    }
}
