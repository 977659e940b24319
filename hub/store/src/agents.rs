//! Agents that have joined.
use linli_shared::protocol::ids::{AgentId, SiteId};
use serde::Serialize;
use sqlx::Row as _;
use std::collections::BTreeSet;

use super::{Connection, Pool, StoreError, failed, flag};

/// Maximum lead of a watermark over the hub's clock, milliseconds: a smaller skew is not corrected.
pub const WATERMARK_AHEAD_MS_MAX: i64 = 5_000;

/// An agent as the API shows it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct AgentView {
    /// Name.
    pub agent: String,
    /// Site.
    pub site: String,
    /// It is a station's agent: it may report disputes, incidents and dangers.
    pub station: bool,
    /// Version of its software at the last session.
    pub software: String,
    /// When it joined, milliseconds since 1970 UTC.
    pub joined_ms: i64,
    /// When it was revoked, milliseconds since 1970 UTC.
    pub revoked_ms: Option<i64>,
    /// Last sign of life, milliseconds since 1970 UTC; 0: never seen.
    pub seen_ms: i64,
    /// Watermark: everything that it received up to this time has arrived, milliseconds since 1970 UTC.
    pub watermark_ms: i64,
    /// Number of events waiting in its spool at the last sign of life.
    pub waiting_events: i64,
    /// How far its clock was ahead of the hub's at the last sign of life, milliseconds; null: unknown,
    /// because its clock is not set.
    pub skew_ms: Option<i64>,
    /// Whether it reported its clock as synchronised at the last sign of life; null: not reported.
    pub clock_synchronised: Option<bool>,
    /// A session is open now. Only the API of the running hub can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
}

/// The content of a sign of life.
#[derive(Debug, Clone)]
pub struct Sign {
    /// Version of its software.
    pub software: String,
    /// When it arrived, milliseconds since 1970 UTC.
    pub seen_ms: i64,
    /// Watermark by the hub's clock, milliseconds since 1970 UTC; `None` if not reported.
    pub watermark_ms: Option<i64>,
    /// Number of waiting events.
    pub waiting_events: i64,
    /// How far its clock is ahead, milliseconds.
    pub skew_ms: Option<i64>,
    /// Its clock is synchronised.
    pub clock_set: bool,
}

/// All agents, ordered by name. Errors: [`StoreError`].
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
            station: flag(row, "station"),
            software: row.get("software"),
            joined_ms: row.get("joined_ms"),
            revoked_ms: row.get("revoked_ms"),
            seen_ms: row.get("seen_ms"),
            watermark_ms: row.get("watermark_ms"),
            waiting_events: row.get("waiting_events"),
            skew_ms: row.get("skew_ms"),
            clock_synchronised: row.get::<Option<i64>, _>("clock_set").map(|set| set == 1),
            connected: None,
        })
        .collect())
}

/// The sites of all agents that have joined. Errors: [`StoreError`].
pub async fn sites(pool: &Pool) -> Result<BTreeSet<String>, StoreError> {
    let rows = sqlx::query("SELECT DISTINCT site FROM agents")
        .fetch_all(pool)
        .await
        .map_err(failed("listing the sites of agents"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// An agent on the roster: events are expected from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterEntry {
    /// Name.
    pub agent: String,
    /// Site.
    pub site: String,
    /// When it joined, milliseconds since 1970 UTC.
    pub joined_ms: i64,
    /// Last sign of life, milliseconds since 1970 UTC; 0: never seen.
    pub seen_ms: i64,
    /// Watermark, milliseconds since 1970 UTC; 0: none reported yet.
    pub watermark_ms: i64,
    /// It joined with a station's token.
    pub station: bool,
}

/// All agents that have joined and are not revoked, ordered by name. Errors: [`StoreError`].
pub async fn roster(connection: &mut Connection) -> Result<Vec<RosterEntry>, StoreError> {
    let rows = sqlx::query(
        "SELECT agent, site, joined_ms, seen_ms, watermark_ms, station FROM agents \
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
            station: flag(row, "station"),
        })
        .collect())
}

/// Checks that an agent may open a session: it joined with this certificate and is not revoked. Errors:
/// [`StoreError`].
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

/// The site of an agent. Errors: [`StoreError`].
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

/// An agent whose name differs from this one only in the case of letters. Errors: [`StoreError`].
pub async fn alike(
    connection: &mut Connection,
    agent: &AgentId,
) -> Result<Option<String>, StoreError> {
    let row =
        sqlx::query("SELECT agent FROM agents WHERE LOWER(agent) = LOWER($1) AND agent <> $1")
            .bind(agent.as_str())
            .fetch_optional(connection)
            .await
            .map_err(failed("looking for an agent with a name that is alike"))?;
    Ok(row.map(|row| row.get(0)))
}

/// A joining agent.
#[derive(Debug, Clone, Copy)]
pub struct JoiningAgent<'a> {
    /// Its name.
    pub agent: &'a AgentId,
    /// Its site.
    pub site: &'a SiteId,
    /// It is a station's agent.
    pub station: bool,
    /// Serial number of its certificate.
    pub serial: &'a str,
}

/// Stores an agent after its join. Errors: [`StoreError`].
pub async fn save(
    connection: &mut Connection,
    joining: JoiningAgent<'_>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let JoiningAgent {
        agent,
        site,
        station,
        serial,
    } = joining;
    sqlx::query(
        "INSERT INTO agents (agent, site, serial, joined_ms, station) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (agent) DO UPDATE SET site = excluded.site, serial = excluded.serial, \
         joined_ms = excluded.joined_ms, station = excluded.station, revoked_ms = NULL",
    )
    .bind(agent.as_str())
    .bind(site.as_str())
    .bind(serial)
    .bind(now_ms)
    .bind(i16::from(station))
    .execute(connection)
    .await
    .map_err(failed("writing an agent"))?;
    Ok(())
}

/// Records a sign of life. Errors: [`StoreError`].
pub async fn sign(
    connection: &mut Connection,
    agent: &AgentId,
    sign: &Sign,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE agents SET software = $2, seen_ms = $3, watermark_ms = \
         CASE WHEN $4 > watermark_ms OR ($4 IS NOT NULL AND watermark_ms > $8) THEN $4 ELSE watermark_ms END, waiting_events = $5, skew_ms = $6, \
         clock_set = $7 WHERE agent = $1",
    )
    .bind(agent.as_str())
    .bind(sign.software.as_str())
    .bind(sign.seen_ms)
    .bind(sign.watermark_ms)
    .bind(sign.waiting_events)
    .bind(sign.skew_ms)
    .bind(i16::from(sign.clock_set))
    // A watermark in the future dates from before agents' claims were bounded.
    .bind(sign.seen_ms.saturating_add(WATERMARK_AHEAD_MS_MAX))
    .execute(connection)
    .await
    .map_err(failed("noting a sign of life"))?;
    Ok(())
}
