//! Agents that have joined.
use linli_shared::protocol::ids::{AgentId, SiteId};
use serde::Serialize;
use sqlx::Row as _;
use std::collections::BTreeSet;

use super::{Connection, Pool, StoreError, failed};

/// An agent as the API shows it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct AgentView {
    /// Name.
    pub agent: String,
    /// Site.
    pub site: String,
    /// Version of its software at the last session.
    pub software: String,
    /// When it joined, milliseconds since 1970 UTC.
    pub joined_ms: i64,
    /// When it was revoked.
    pub revoked_ms: Option<i64>,
    /// Last sign of life, milliseconds since 1970 UTC; 0: never seen.
    pub seen_ms: i64,
    /// Everything that it received up to this time has arrived, milliseconds since 1970 UTC.
    pub watermark_ms: i64,
    /// Events that waited at the last sign of life.
    pub waiting_events: i64,
    /// By how much its clock was ahead of the hub's at the last sign of life, milliseconds; null: not known,
    /// for its clock is not set.
    pub skew_ms: Option<i64>,
    /// A session is open now. Only the API of the running hub knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
}

/// What a sign of life tells.
#[derive(Debug, Clone)]
pub struct Sign {
    /// Version of its software.
    pub software: String,
    /// When it came.
    pub seen_ms: i64,
    /// How far it is, by the hub's clock; `None` if it does not tell.
    pub watermark_ms: Option<i64>,
    /// What waits.
    pub waiting_events: i64,
    /// By how much its clock is ahead.
    pub skew_ms: Option<i64>,
}

/// All agents by name.
pub async fn list(pool: &Pool) -> Result<Vec<AgentView>, StoreError> {
    let rows = sqlx::query("SELECT * FROM agents ORDER BY agent")
        .fetch_all(pool)
        .await
        .map_err(failed("listing agents"))?;
    Ok(rows
        .iter()
        .map(|row| AgentView {
            agent: row.get("agent"),
            site: row.get("site"),
            software: row.get("software"),
            joined_ms: row.get("joined_ms"),
            revoked_ms: row.get("revoked_ms"),
            seen_ms: row.get("seen_ms"),
            watermark_ms: row.get("watermark_ms"),
            waiting_events: row.get("waiting_events"),
            skew_ms: row.get("skew_ms"),
            connected: None,
        })
        .collect())
}

/// The sites of all agents that have joined.
pub async fn sites(pool: &Pool) -> Result<BTreeSet<String>, StoreError> {
    let rows = sqlx::query("SELECT DISTINCT site FROM agents")
        .fetch_all(pool)
        .await
        .map_err(failed("listing the sites of agents"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// An agent that events are expected of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterEntry {
    /// Name.
    pub agent: String,
    /// Site.
    pub site: String,
    /// When it joined, milliseconds since 1970 UTC.
    pub joined_ms: i64,
    /// Last sign of life; 0: never seen.
    pub seen_ms: i64,
    /// Everything that it received up to this time has arrived; 0: it has told nothing yet.
    pub watermark_ms: i64,
}

/// All agents that have joined and are not revoked, by name: whose silence means something.
pub async fn roster(connection: &mut Connection) -> Result<Vec<RosterEntry>, StoreError> {
    let rows = sqlx::query(
        "SELECT agent, site, joined_ms, seen_ms, watermark_ms FROM agents \
         WHERE revoked_ms IS NULL ORDER BY agent",
    )
    .fetch_all(connection)
    .await
    .map_err(failed("reading the roster"))?;
    Ok(rows
        .iter()
        .map(|row| RosterEntry {
            agent: row.get("agent"),
            site: row.get("site"),
            joined_ms: row.get("joined_ms"),
            seen_ms: row.get("seen_ms"),
            watermark_ms: row.get("watermark_ms"),
        })
        .collect())
}

/// Whether an agent may have a session: it has joined with this certificate and is not revoked.
pub async fn admitted(
    pool: &Pool,
    agent: &AgentId,
    serial: &str,
) -> Result<Result<(), &'static str>, StoreError> {
    let row = sqlx::query("SELECT serial, revoked_ms FROM agents WHERE agent = $1")
        .bind(agent.as_str())
        .fetch_optional(pool)
        .await
        .map_err(failed("reading an agent"))?;
    Ok(match row {
        None => Err("no agent of this name has joined this hub: join it with a new token"),
        Some(row) if row.get::<Option<i64>, _>("revoked_ms").is_some() => {
            Err("this agent was revoked: join it with a new token")
        }
        Some(row) if row.get::<String, _>("serial") != serial => {
            Err("the agent has joined again since: this certificate is the old one")
        }
        Some(_) => Ok(()),
    })
}

/// The site of an agent that has joined.
pub async fn site_of(
    connection: &mut Connection,
    agent: &AgentId,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT site FROM agents WHERE agent = $1")
        .bind(agent.as_str())
        .fetch_optional(connection)
        .await
        .map_err(failed("reading the site of an agent"))?;
    Ok(row.map(|row| row.get(0)))
}

/// Takes an agent in after its join.
pub async fn save(
    connection: &mut Connection,
    agent: &AgentId,
    site: &SiteId,
    serial: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO agents (agent, site, serial, joined_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (agent) DO UPDATE SET site = excluded.site, serial = excluded.serial, \
         joined_ms = excluded.joined_ms, revoked_ms = NULL",
    )
    .bind(agent.as_str())
    .bind(site.as_str())
    .bind(serial)
    .bind(now_ms)
    .execute(connection)
    .await
    .map_err(failed("writing an agent"))?;
    Ok(())
}

/// Notes a sign of life.
pub async fn sign(
    connection: &mut Connection,
    agent: &AgentId,
    sign: &Sign,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE agents SET software = $2, seen_ms = $3, watermark_ms = \
         CASE WHEN $4 > watermark_ms THEN $4 ELSE watermark_ms END, waiting_events = $5, skew_ms = $6 WHERE agent = $1",
    )
    .bind(agent.as_str())
    .bind(sign.software.as_str())
    .bind(sign.seen_ms)
    .bind(sign.watermark_ms)
    .bind(sign.waiting_events)
    .bind(sign.skew_ms)
    .execute(connection)
    .await
    .map_err(failed("noting a sign of life"))?;
    Ok(())
}
