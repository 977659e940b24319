//! A hub with rules, agents beside it, and what came of their events.
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::path::Path;

use super::{Agent, Hub, metric, now_ms, until};

/// A second.
pub const SECOND_MS: i64 = 1000;
/// A minute.
pub const MINUTE_MS: i64 = 60 * SECOND_MS;
/// A day.
pub const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// What the source `doors` pushes of one event; the serial is made of all that tells it from others.
pub fn door_event(kind: &str, building: &str, device: &str, at_ms: i64) -> Value {
    json!({
        "serial": format!("{kind}-{building}-{device}-{at_ms}"), "type": kind, "building": building,
        "unit": "1", "device": device, "time": at_ms, "replayed": at_ms < now_ms() - MINUTE_MS - 30_000,
    })
}

/// An event of a building, as it happened so long ago.
pub fn ago(kind: &str, building: &str, ms: i64) -> Value {
    door_event(kind, building, "door-1", now_ms() - ms)
}

/// An agent that has joined and runs; the hub vouches for its clock, so that it believes devices whose clocks agree with it.
pub async fn joined(directory: &Path, hub: &Hub, name: &str, site: &str) -> Result<Agent> {
    let mut agent = Agent::joined(&directory.join(name), hub, name, site)?;
    agent.start().await?;
    until("the hub to vouch for the clock", async || {
        let is_set = metric(&agent.metrics().await?, "linli_agent_clock_set");
        Ok((is_set == Some(1.0)).then_some(()))
    })
    .await?;
    Ok(agent)
}

/// A running hub with these rules and no others, or with those of the project, and the agent `gw-1` of the
/// site `yuyuan`.
pub async fn running(directory: &Path, rules: Option<&str>) -> Result<(Hub, Agent)> {
    let path = directory.join("hub");
    let mut hub = match rules {
        Some(rules) => Hub::with_rules(&path, rules)?,
        None => Hub::new(&path)?,
    };
    hub.start().await?;
    let agent = joined(directory, &hub, "gw-1", "yuyuan").await?;
    Ok((hub, agent))
}

/// What was done about a warning (`changes`) or a case (`actions`), in order.
pub fn actions(of: &Value, list: &str) -> Vec<String> {
    of[list]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|change| Some(change["action"].as_str()?.to_owned()))
        .collect()
}

/// The number of a warning.
pub fn id(warning: &Value) -> Result<i64> {
    warning["id"].as_i64().context("an id")
}

impl Hub {
    /// The keys of a rule's standing warnings, sorted.
    pub async fn keys(&mut self, rule: &str) -> Result<Vec<String>> {
        let warnings = self.warnings(&format!("rule={rule}")).await?;
        let mut keys: Vec<String> = warnings
            .iter()
            .filter_map(|warning| Some(warning["key"].as_str()?.to_owned()))
            .collect();
        keys.sort();
        Ok(keys)
    }

    /// Waits until a rule has a standing warning of a key; that warning.
    pub async fn raised(&mut self, rule: &str, key: &str) -> Result<Value> {
        until(&format!("{rule} to warn of {key}"), async || {
            let warnings = self.warnings(&format!("rule={rule}")).await?;
            Ok(warnings.into_iter().find(|warning| warning["key"] == key))
        })
        .await
    }

    /// What a counter or gauge stands at, `rule_keys` or `warnings_raised_total{rule="x"}`.
    pub async fn figure(&self, name: &str) -> Result<f64> {
        let text = self.metrics().await?;
        let name = format!("linli_hub_{name}");
        super::metric(&text, &name).with_context(|| format!("{name} in {text}"))
    }
}
