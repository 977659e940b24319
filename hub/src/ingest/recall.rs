//! What the writer knows beside the database, and how it is read from there.
use linli_shared::protocol::ids::Sequence;
use linli_shared::service::{clock, systemd, telemetry};
use sqlx::sqlite::SqliteConnection;
use std::collections::HashMap;

use crate::correlate::Origin;
use crate::correlate::engine::Engine;
use crate::correlate::rule::Rule;
use crate::metrics::Metrics;
use crate::store::chunks::{self, StoredChunk, correct};
use crate::store::positions::LaneKey;
use crate::store::{StoreError, cases, outbox, warnings};

/// Rows that are read at once; between two pages systemd is told that the hub lives.
const PAGE_ROWS: i64 = 500;
/// Rows back that are looked at. Most are passed over without their bytes, so a start stays within the
/// ten minutes that its unit grants.
const ROWS_MAX: i64 = 1_000_000;

/// Read again when a transaction fails.
pub struct Memory {
    /// Where lanes stand, of those that have asked.
    pub positions: HashMap<LaneKey, Sequence>,
    /// Rules with their windows.
    pub engine: Engine,
    /// The numbers that were given last.
    pub last_chunk: i64,
    pub last_quarantine: i64,
    pub last_warning: i64,
    pub last_case: i64,
    pub last_outbox: i64,
}

/// Reads numbers, and fills the windows of the rules from the stored events. What fires again on the way
/// was raised before, so it is left out.
pub async fn recall(
    connection: &mut SqliteConnection,
    rules: &[Rule],
    metrics: &Metrics,
) -> Result<Memory, StoreError> {
    let (last_chunk, last_quarantine) = chunks::last_ids(connection).await?;
    let mut memory = Memory {
        positions: HashMap::new(),
        engine: Engine::new(rules.to_vec()),
        last_chunk,
        last_quarantine,
        last_warning: warnings::last_id(connection).await?,
        last_case: cases::last_id(connection).await?,
        last_outbox: outbox::last_id(connection).await?,
    };
    fill(connection, &mut memory.engine, last_chunk, metrics).await?;
    Ok(memory)
}

/// Newest page first, until one is older than all windows: the order of arrival does not decide what
/// fires, and the past of years is not read to find where the windows begin.
async fn fill(
    connection: &mut SqliteConnection,
    engine: &mut Engine,
    last_chunk: i64,
    metrics: &Metrics,
) -> Result<(), StoreError> {
    let Some(reach_ms) = engine.reach_ms() else {
        return Ok(());
    };
    let started = std::time::Instant::now();
    let kinds: Vec<String> = engine
        .windowed_kinds()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let now_ms = clock::wall_ms();
    let from_ms = now_ms.saturating_sub(reach_ms);
    let floor = (last_chunk - ROWS_MAX).max(0);
    let mut last = last_chunk;
    let mut events = 0;
    let mut reached = floor == 0;
    while last > floor {
        let after = (last - PAGE_ROWS).max(floor);
        let page = chunks::replay(connection, &kinds, from_ms, after, last).await?;
        if page.newest_ms.is_some_and(|newest_ms| newest_ms < from_ms) {
            reached = true;
            break;
        }
        for stored in &page.chunks {
            events += observe(engine, stored, now_ms);
        }
        last = after;
        systemd::alive();
    }
    metrics.recall_cut.set(i64::from(!reached));
    if !reached {
        tracing::warn!(
            rows = ROWS_MAX,
            "the windows of the rules are not filled to their beginning: rules with long windows may miss what happened before; make their `within` shorter"
        );
    }
    tracing::info!(
        events,
        took_ms = started.elapsed().as_millis() as u64,
        "the windows of the rules are filled from the store"
    );
    Ok(())
}

/// Lets the rules see the events of a stored chunk again; how many they were.
fn observe(engine: &mut Engine, stored: &StoredChunk, now_ms: i64) -> usize {
    let events = match stored.chunk.events() {
        Ok(events) => events,
        Err(error) => {
            tracing::error!(row = stored.id, error = %telemetry::chain(&error), "a stored chunk cannot be read");
            return 0;
        }
    };
    let header = stored.chunk.header();
    let count = events.len();
    let mut raised_before = Vec::new();
    for (index, mut event) in events.into_iter().enumerate() {
        correct(&mut event, stored.clock_offset_ms);
        let origin = Origin {
            site: &stored.site,
            agent: &stored.agent,
            lane: header.lane,
            epoch: header.epoch.0,
            sequence: header.first.0 + index as u64,
        };
        engine.observe(&event, &origin, now_ms, &mut raised_before);
    }
    count
}
