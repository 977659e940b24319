//! The roster of agents: detects agents without a sign of life for too long.
//!
//! Signs of life are not events; only the last of each agent is known. So a silence that ended is over, and a
//! silence while the hub was down is unknown: after a start each agent has the rule's whole time again.
//!
//! Times may be of any clock that does not step; the hub passes its monotonic clock.
use std::collections::HashMap;

/// The state of one agent.
#[derive(Debug, Clone, Copy)]
struct Watch {
    /// The last sign of life, or the start of the wait for it, milliseconds.
    heard_ms: i64,
    /// The silence has been reported.
    silent: bool,
}

/// The agents of one rule.
#[derive(Debug, Clone, Default)]
pub struct AgentRoster {
    agents: HashMap<String, Watch>,
}

/// A silence begins or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// No sign of life since `heard_ms`; the limit passed at `at_ms`.
    Begins {
        /// Id of the agent.
        agent: String,
        /// The last sign of life, milliseconds.
        heard_ms: i64,
        /// When the limit passed, milliseconds.
        at_ms: i64,
    },
    /// A silent agent gave a sign of life.
    Ends {
        /// Id of the agent.
        agent: String,
        /// When it gave the sign of life, milliseconds.
        at_ms: i64,
    },
}

impl AgentRoster {
    /// Adds an agent to the roster; `silent` if an open warning reports its silence.
    pub fn expect(&mut self, agent: &str, since_ms: i64, silent: bool) {
        self.agents.entry(agent.to_owned()).or_insert(Watch {
            heard_ms: since_ms,
            silent,
        });
    }

    /// Records a sign of life; returns the end of a silence.
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

    /// True if the silence of the agent has been reported.
    pub fn is_silent(&self, agent: &str) -> bool {
        self.agents.get(agent).is_some_and(|watch| watch.silent)
    }

    /// Reports the agents that have been silent for longer than `within_ms`, each once.
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
