//! What a hub has stored, read straight from its database.
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use linli_shared::protocol::chunk::Chunk;
use linli_shared::protocol::event::{AGENT_STARTED, Event};
use sqlx::Row;
use sqlx::any::AnyRow;
use std::collections::{HashMap, HashSet};

use super::{Hub, engine};

/// An event with its identity.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// Agent.
    pub agent: String,
    /// Site.
    pub site: String,
    /// Lane.
    pub lane: String,
    /// Epoch.
    pub epoch: u64,
    /// Sequence.
    pub sequence: u64,
    /// Offset of the boot's clock, where the hub had one.
    pub clock_offset_ms: Option<i64>,
    /// The event as it was sent.
    pub event: Event,
}

async fn rows(database: &str, statement: &'static str) -> Result<Vec<AnyRow>> {
    let mut connection = engine::connect(database).await?;
    Ok(sqlx::query(statement).fetch_all(&mut connection).await?)
}

/// The events of sources: all but what agents tell of themselves.
pub async fn stored_events(database: &str) -> Result<Vec<StoredEvent>> {
    let mut stored = all_events(database).await?;
    stored.retain(|stored| stored.event.kind != AGENT_STARTED);
    Ok(stored)
}

/// What agents tell of their starts.
pub async fn stored_starts(database: &str) -> Result<Vec<StoredEvent>> {
    let mut stored = all_events(database).await?;
    stored.retain(|stored| stored.event.kind == AGENT_STARTED);
    Ok(stored)
}

async fn all_events(database: &str) -> Result<Vec<StoredEvent>> {
    let statement = "SELECT agent, site, clock_offset_ms, bytes FROM chunks ORDER BY id";
    let rows = rows(database, statement).await?;
    let mut stored = Vec::new();
    for row in rows {
        let chunk = Chunk::parse(&Bytes::from(row.get::<Vec<u8>, _>("bytes")))
            .context("a stored chunk is damaged")?;
        let header = *chunk.header();
        for (index, event) in chunk.events()?.into_iter().enumerate() {
            stored.push(StoredEvent {
                agent: row.get("agent"),
                site: row.get("site"),
                lane: header.lane.to_string(),
                epoch: header.epoch.0,
                sequence: header.first.0 + index as u64,
                clock_offset_ms: row.get("clock_offset_ms"),
                event,
            });
        }
    }
    Ok(stored)
}

/// The source ids of all events in quarantine.
pub async fn quarantined_ids(database: &str) -> Result<HashSet<String>> {
    let rows = rows(database, "SELECT bytes FROM quarantine").await?;
    let mut ids = HashSet::new();
    for row in rows {
        let chunk = Chunk::parse(&Bytes::from(row.get::<Vec<u8>, _>("bytes")))?;
        ids.extend(chunk.events()?.into_iter().map(|event| event.source_id));
    }
    Ok(ids)
}

/// Every acknowledged id is stored once, and no identity twice.
pub async fn assert_stored_once(hub: &Hub, acknowledged: &HashSet<String>) -> Result<()> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut identities = HashSet::new();
    for stored in hub.stored().await? {
        *counts.entry(stored.event.source_id.clone()).or_default() += 1;
        let identity = (stored.agent, stored.lane, stored.epoch, stored.sequence);
        ensure!(
            identities.insert(identity.clone()),
            "{identity:?} is stored twice"
        );
    }
    let missing: Vec<&String> = acknowledged
        .iter()
        .filter(|id| !counts.contains_key(*id))
        .collect();
    ensure!(missing.is_empty(), "acknowledged and lost: {missing:?}");
    let doubled: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    ensure!(doubled.is_empty(), "stored twice: {doubled:?}");
    Ok(())
}
