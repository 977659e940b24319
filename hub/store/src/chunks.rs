//! Rows of chunks, the quarantine, and reading events from chunks.
use bytes::Bytes;
use futures_util::StreamExt;
use linli_shared::protocol::chunk::Chunk;
use linli_shared::protocol::event::{AGENT_STARTED, ClockQuality, DOWN_SINCE, Event};
use linli_shared::protocol::ids::{AgentId, Epoch, Lane, Sequence};
use linli_shared::protocol::limits::CHUNK_EVENTS_MAX;
use linli_shared::service::{clock, telemetry};
use sqlx::Row as _;

use super::positions::LaneKey;
use super::statement::Statement;
use super::{Connection, Pool, Row, StoreError, failed, flag, sequences, signed};
use linli_domain::correlate::AHEAD_MS_MAX;
use linli_domain::orgs::Watched;
use linli_domain::station_kinds;

/// Maximum number of rows that one query of events scans; the cursor continues from there.
const SCAN_ROWS_MAX: i64 = 2000;
/// Maximum number of rows of one INSERT: 16 values each, SQLite accepts 32,766.
const INSERT_ROWS_MAX: usize = 512;

/// Corrections of the times of a chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clocks {
    /// For times of an unset clock: wall time minus monotonic time of the boot, by the hub's clock,
    /// milliseconds.
    pub offset_ms: Option<i64>,
    /// How far the agent's clock was ahead of the hub's, milliseconds; `None` if too small for a correction.
    pub skew_ms: Option<i64>,
}

/// A chunk to be stored.
#[derive(Debug)]
pub struct NewChunk {
    /// Id of the row.
    pub id: i64,
    /// Site of the agent.
    pub site: String,
    /// Agent, lane, epoch.
    pub key: LaneKey,
    /// The chunk.
    pub chunk: Chunk,
    /// Earliest and latest time of its events, milliseconds since 1970 UTC.
    pub occurred_ms: (i64, i64),
    /// When the hub received it, milliseconds since 1970 UTC.
    pub stored_ms: i64,
    /// Corrections of the times of its events.
    pub clocks: Clocks,
    /// Kinds of its events: ",kind,kind,".
    pub kinds: String,
    /// Its events of kinds reserved for stations are withheld.
    pub withheld: bool,
}

/// Inserts chunks. Errors: [`StoreError`].
pub async fn insert(connection: &mut Connection, chunks: &[NewChunk]) -> Result<(), StoreError> {
    for rows in chunks.chunks(INSERT_ROWS_MAX) {
        let mut query = Statement::new(
            "INSERT INTO chunks (id, site, agent, lane, retention, epoch, first_seq, end_seq, \
             occurred_min_ms, occurred_max_ms, stored_ms, clock_offset_ms, skew_ms, kinds, bytes, withheld) ",
        );
        query.rows(rows, |row, new| {
            let header = new.chunk.header();
            row.bind(new.id)
                .bind(new.site.as_str())
                .bind(new.key.agent.as_str())
                .bind(i16::from(header.lane.number()))
                .bind(i16::from(header.retention.number()))
                .bind(signed(header.epoch.0))
                .bind(signed(header.first.0))
                .bind(signed(header.end().0))
                .bind(new.occurred_ms.0)
                .bind(new.occurred_ms.1)
                .bind(new.stored_ms)
                .bind(new.clocks.offset_ms)
                .bind(new.clocks.skew_ms)
                .bind(new.kinds.as_str())
                .bind(new.chunk.bytes().as_ref())
                .bind(i16::from(new.withheld));
        });
        query
            .build()
            .execute(&mut *connection)
            .await
            .map_err(failed("inserting chunks"))?;
    }
    Ok(())
}

/// The stored event of an identity, `agent/lane/epoch/sequence`; `None`: it is not stored, or is no identity.
pub async fn event(
    connection: &mut Connection,
    identity: &str,
) -> Result<Option<Event>, StoreError> {
    let parts: Vec<&str> = identity.split('/').collect();
    let &[agent, lane, epoch, sequence] = parts.as_slice() else {
        return Ok(None);
    };
    let (Ok(agent), Some(lane), Ok(epoch), Ok(sequence)) = (
        agent.parse::<AgentId>(),
        Lane::ALL.into_iter().find(|known| known.as_str() == lane),
        u64::from_str_radix(epoch, 16),
        sequence.parse::<u64>(),
    ) else {
        return Ok(None);
    };
    let key = LaneKey {
        agent,
        lane,
        epoch: Epoch(epoch),
    };
    let first = Sequence(sequence);
    let found = overlapping(connection, &key, first, first.plus(1)).await?;
    Ok(found.first().and_then(|chunk| {
        let at = sequence.checked_sub(chunk.header().first.0)? as usize;
        chunk.events().ok()?.into_iter().nth(at)
    }))
}

/// The stored chunks that overlap the sequences `first..end`. Errors: [`StoreError`].
pub async fn overlapping(
    connection: &mut Connection,
    key: &LaneKey,
    first: Sequence,
    end: Sequence,
) -> Result<Vec<Chunk>, StoreError> {
    let rows = sqlx::query(
        "SELECT bytes FROM chunks WHERE agent = $1 AND lane = $2 AND epoch = $3 \
         AND first_seq > $6 AND first_seq < $5 AND end_seq > $4 ORDER BY first_seq",
    )
    .bind(key.agent.as_str())
    .bind(i16::from(key.lane.number()))
    .bind(signed(key.epoch.0))
    .bind(signed(first.0))
    .bind(signed(end.0))
    // An earlier chunk is too short to reach `first`: the index is read from here, not from the first chunk ever.
    .bind(signed(first.0).saturating_sub(CHUNK_EVENTS_MAX as i64))
    .fetch_all(connection)
    .await
    .map_err(failed("reading stored chunks"))?;
    Ok(rows.iter().filter_map(parse).collect())
}

/// `None` if the bytes were not selected, or are damaged.
fn parse(row: &Row) -> Option<Chunk> {
    let bytes: Vec<u8> = row.get::<Option<Vec<u8>>, _>("bytes")?;
    match Chunk::parse(&Bytes::from(bytes)) {
        Ok(chunk) => Some(chunk),
        Err(error) => {
            tracing::error!(error = %telemetry::chain(&error), "a stored chunk is damaged");
            None
        }
    }
}

/// True if a chunk with exactly these bytes is in quarantine already. Errors: [`StoreError`].
pub async fn is_quarantined(
    connection: &mut Connection,
    key: &LaneKey,
    chunk: &Chunk,
) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT 1 FROM quarantine WHERE agent = $1 AND lane = $2 AND epoch = $3 AND first_seq = $4 \
         AND bytes = $5 LIMIT 1",
    )
    .bind(key.agent.as_str())
    .bind(i16::from(key.lane.number()))
    .bind(signed(key.epoch.0))
    .bind(signed(chunk.header().first.0))
    .bind(chunk.bytes().as_ref())
    .fetch_optional(connection)
    .await
    .map_err(failed("looking into the quarantine"))?;
    Ok(row.is_some())
}

/// Stores a chunk in quarantine, because its sequence is taken. Errors: [`StoreError`].
pub async fn quarantine(
    connection: &mut Connection,
    id: i64,
    key: &LaneKey,
    chunk: &Chunk,
    reason: &str,
    noted_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO quarantine (id, agent, lane, epoch, first_seq, reason, noted_ms, bytes) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(id)
    .bind(key.agent.as_str())
    .bind(i16::from(key.lane.number()))
    .bind(signed(key.epoch.0))
    .bind(signed(chunk.header().first.0))
    .bind(reason)
    .bind(noted_ms)
    .bind(chunk.bytes().as_ref())
    .execute(connection)
    .await
    .map_err(failed("quarantining a chunk"))?;
    Ok(())
}

/// The highest assigned ids: of chunks and of the quarantine. Errors: [`StoreError`].
pub async fn last_ids(connection: &mut Connection) -> Result<(i64, i64), StoreError> {
    let chunk = sequences::last(connection, "chunks").await?;
    Ok((chunk, sequences::last(connection, "quarantine").await?))
}

/// The result of a check of stored chunks.
pub struct Unreadable {
    /// Id of the last checked row; `None`: there are no more.
    pub last: Option<i64>,
    /// Ids of rows whose bytes are damaged, or contradict the row.
    pub bad: Vec<i64>,
}

/// Checks up to `limit` chunks after the row `after`. Errors: [`StoreError`].
pub async fn unreadable(
    connection: &mut Connection,
    after: i64,
    limit: i64,
) -> Result<Unreadable, StoreError> {
    let rows = sqlx::query(
        "SELECT id, lane, retention, epoch, first_seq, bytes FROM chunks WHERE id > $1 ORDER BY id LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await
    .map_err(failed("checking stored chunks"))?;
    let is_good = |row: &Row| {
        parse(row).is_some_and(|chunk| {
            let header = chunk.header();
            let stands = (
                i64::from(header.lane.number()),
                i64::from(header.retention.number()),
                signed(header.epoch.0),
                signed(header.first.0),
            );
            let told = (
                row.get("lane"),
                row.get("retention"),
                row.get("epoch"),
                row.get("first_seq"),
            );
            stands == told
        })
    };
    Ok(Unreadable {
        last: rows.last().map(|row| row.get("id")),
        bad: rows
            .iter()
            .filter(|row| !is_good(row))
            .map(|row| row.get("id"))
            .collect(),
    })
}

/// A stored chunk with the data needed to read its events.
pub struct StoredChunk {
    /// Id of the row.
    pub id: i64,
    /// Site of the agent.
    pub site: String,
    /// Agent.
    pub agent: String,
    /// When the hub received it, milliseconds since 1970 UTC.
    pub stored_ms: i64,
    /// Corrections of the times of its events.
    pub clocks: Clocks,
    /// The chunk.
    pub chunk: Chunk,
    withheld: bool,
}

impl StoredChunk {
    /// True if an event of this kind is withheld, because the agent may not report it.
    pub fn withholds(&self, kind: &str) -> bool {
        self.withheld && station_kinds::is_reserved(kind)
    }
}

fn stored(row: &Row) -> Option<StoredChunk> {
    Some(StoredChunk {
        id: row.get("id"),
        site: row.get("site"),
        agent: row.get("agent"),
        stored_ms: row.get("stored_ms"),
        clocks: Clocks {
            offset_ms: row.get("clock_offset_ms"),
            skew_ms: row.get("skew_ms"),
        },
        chunk: parse(row)?,
        withheld: flag(row, "withheld"),
    })
}

/// A page of rows for a replay.
pub struct ReplayPage {
    /// The selected readable chunks, newest first.
    pub chunks: Vec<StoredChunk>,
    /// When the newest row arrived, milliseconds since 1970 UTC; `None` for a page without rows.
    pub newest_ms: Option<i64>,
}

/// The chunks of the rows `after..=last` that contain one of `kinds` and arrived or happened since `from_ms`,
/// for the warm-up of correlation. Errors: [`StoreError`].
pub async fn replay(
    connection: &mut Connection,
    kinds: &[String],
    from_ms: i64,
    after: i64,
    last: i64,
) -> Result<ReplayPage, StoreError> {
    let mut query = Statement::new("WITH wanted (pattern) AS (");
    query.rows(kinds, |row, kind| {
        row.bind(format!("%,{kind},%"));
    });
    // The bytes of other rows are not even read.
    query.push(
        ") SELECT id, site, agent, stored_ms, clock_offset_ms, skew_ms, withheld, CASE WHEN (stored_ms >= ",
    );
    query
        .bind(from_ms)
        .push(" OR occurred_max_ms >= ")
        .bind(from_ms)
        .push(
            ") AND EXISTS (SELECT 1 FROM wanted WHERE kinds LIKE pattern) THEN bytes END AS bytes \
             FROM chunks WHERE id > ",
        )
        .bind(after)
        .push(" AND id <= ")
        .bind(last)
        .push(" ORDER BY id DESC");
    let rows = query
        .build()
        .fetch_all(connection)
        .await
        .map_err(failed("reading chunks for correlation"))?;
    Ok(ReplayPage {
        newest_ms: rows.iter().map(|row| row.get("stored_ms")).max(),
        chunks: rows.iter().filter_map(stored).collect(),
    })
}

/// Corrects the times from the agent's clock: those of an unset clock by the offset of its boot, others by
/// the skew. Times from a device stay as they are. The stored bytes never change, so the correction is
/// applied at every read, with the values known when the chunk arrived. `stored_ms` is when the hub received
/// the chunk: no event can have been received later, and an unknown receipt is set to it.
pub fn correct(event: &mut Event, clocks: Clocks, stored_ms: i64) {
    let by_boot = clocks.offset_ms.zip(event.monotonic_ms);
    let by_boot = by_boot.map(|(offset_ms, since_ms)| offset_ms.saturating_add(since_ms as i64));
    if event.clock == ClockQuality::Unset {
        if let Some(received_ms) = by_boot {
            event.occurred_at_ms = received_ms;
            event.received_at_ms = received_ms;
            event.clock = ClockQuality::Corrected;
        }
    } else if let Some(received_ms) = by_boot
        && event.clock != ClockQuality::Other
    {
        // The agent could not check a device's time in its past.
        event.received_at_ms = received_ms;
        if event.occurred_at_ms > received_ms.saturating_add(AHEAD_MS_MAX) {
            event.device_time_ms = Some(event.occurred_at_ms);
            event.occurred_at_ms = received_ms;
            event.clock = ClockQuality::Implausible;
        }
    } else if let Some(skew_ms) = clocks.skew_ms
        && event.monotonic_ms.is_none()
        && event.clock != ClockQuality::Other
    {
        event.received_at_ms = event.received_at_ms.saturating_sub(skew_ms);
        if event.clock.is_agents() {
            event.occurred_at_ms = event.occurred_at_ms.saturating_sub(skew_ms);
        }
    }
    let is_ahead = event.received_at_ms > stored_ms.saturating_add(AHEAD_MS_MAX);
    let is_unknown = event.clock == ClockQuality::Unset && !clock::is_set(event.received_at_ms);
    if clock::is_set(stored_ms) && (is_ahead || is_unknown) {
        let off_ms = event.received_at_ms.saturating_sub(stored_ms);
        event.received_at_ms = stored_ms;
        if event.clock.is_agents() || event.clock == ClockQuality::Unset {
            event.occurred_at_ms = event.occurred_at_ms.saturating_sub(off_ms);
        }
    }
    // The start of an agent's downtime is a time of its own clock too.
    if event.kind == AGENT_STARTED
        && let Some(skew_ms) = clocks.skew_ms
        && let Some(text) = event.attributes.get_mut(DOWN_SINCE)
        && let Ok(down_since_ms) = text.parse::<i64>()
    {
        *text = down_since_ms.saturating_sub(skew_ms).to_string();
    }
}

/// A filter of events.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Only these sites and this agent; `None`: all.
    pub watched: Option<Watched>,
    /// Only this site.
    pub site: Option<String>,
    /// Only this agent.
    pub agent: Option<String>,
    /// Only this kind.
    pub kind: Option<String>,
    /// Only this device.
    pub device: Option<String>,
    /// Only this address.
    pub address: Option<String>,
    /// Earliest time, included, milliseconds since 1970 UTC.
    pub from_ms: Option<i64>,
    /// Latest time, excluded, milliseconds since 1970 UTC.
    pub to_ms: Option<i64>,
    /// Continue below this position: (row, sequence).
    pub before: Option<(i64, u64)>,
    /// Maximum number of events.
    pub limit: usize,
}

/// A stored event with its identity.
pub struct StoredEvent {
    /// Id of its row.
    pub row: i64,
    /// Site of the agent.
    pub site: String,
    /// Agent.
    pub agent: String,
    /// Lane.
    pub lane: Lane,
    /// Epoch.
    pub epoch: u64,
    /// Sequence number.
    pub sequence: u64,
    /// When the hub stored it, milliseconds since 1970 UTC.
    pub stored_ms: i64,
    /// Its agent may not report this kind: no rule has evaluated it.
    pub withheld: bool,
    /// The event, with corrected times.
    pub event: Event,
}

/// Events, newest arrival first, and the position to continue from. A page can be short or empty and still
/// have a successor: one call scans a bounded number of rows, whatever the filter. Errors: [`StoreError`].
pub async fn events(
    pool: &Pool,
    filter: &EventFilter,
) -> Result<(Vec<StoredEvent>, Option<(i64, u64)>), StoreError> {
    // Rows are selected by conditions that an index answers in order, so that LIMIT bounds the scanned rows.
    // The other conditions only decide whether the bytes are read.
    let mut query = Statement::new(
        "SELECT id, site, agent, stored_ms, clock_offset_ms, skew_ms, withheld, CASE WHEN 1 = 1",
    );
    if let Some(watched) = &filter.watched {
        query.watched(watched);
    }
    if let Some(site) = &filter.site {
        query.push(" AND site = ").bind(site);
    }
    if let Some(kind) = &filter.kind {
        query.push(" AND kinds LIKE ").bind(format!("%,{kind},%"));
    }
    if let Some(from_ms) = filter.from_ms {
        query.push(" AND occurred_max_ms >= ").bind(from_ms);
    }
    if let Some(to_ms) = filter.to_ms {
        query.push(" AND occurred_min_ms < ").bind(to_ms);
    }
    query.push(" THEN bytes END AS bytes FROM chunks WHERE id <= ");
    query.bind(filter.before.map_or(i64::MAX, |(row, _)| row));
    // An agent belongs to one site, so it is more selective.
    match (&filter.agent, &filter.site) {
        (Some(agent), _) => {
            query.push(" AND agent = ").bind(agent);
        }
        (None, Some(site)) => {
            query.push(" AND site = ").bind(site);
        }
        (None, None) => {}
    }
    query.push(" ORDER BY id DESC LIMIT ").bind(SCAN_ROWS_MAX);
    let mut found = Vec::new();
    let mut scanned = 0;
    let mut last_row = 0;
    // Rows are read one at a time: a page of events does not keep thousands of chunks in memory.
    let mut rows = query.build().fetch(pool);
    while let Some(row) = rows.next().await {
        let row = row.map_err(failed("reading events"))?;
        scanned += 1;
        last_row = row.get("id");
        let Some(stored) = stored(&row) else { continue };
        take(filter, &stored, &mut found);
        if found.len() > filter.limit {
            found.truncate(filter.limit);
            let last = found.last().map(|event| (event.row, event.sequence));
            return Ok((found, last));
        }
    }
    let more = (scanned == SCAN_ROWS_MAX).then_some((last_row, 0));
    Ok((found, more))
}

fn take(filter: &EventFilter, stored: &StoredChunk, found: &mut Vec<StoredEvent>) {
    let events = match stored.chunk.events() {
        Ok(events) => events,
        Err(error) => {
            tracing::error!(row = stored.id, error = %telemetry::chain(&error), "a stored chunk cannot be read");
            return;
        }
    };
    let header = stored.chunk.header();
    for (index, mut event) in events.into_iter().enumerate().rev() {
        let sequence = header.first.plus(index as u64).0;
        if filter
            .before
            .is_some_and(|(row, before)| stored.id == row && sequence >= before)
        {
            continue;
        }
        correct(&mut event, stored.clocks, stored.stored_ms);
        let wanted = filter.kind.as_ref().is_none_or(|kind| *kind == event.kind)
            && filter
                .device
                .as_ref()
                .is_none_or(|device| *device == event.device)
            && filter
                .address
                .as_ref()
                .is_none_or(|address| *address == event.place.address)
            && filter
                .from_ms
                .is_none_or(|from_ms| event.occurred_at_ms >= from_ms)
            && filter
                .to_ms
                .is_none_or(|to_ms| event.occurred_at_ms < to_ms);
        if wanted {
            found.push(StoredEvent {
                row: stored.id,
                site: stored.site.clone(),
                agent: stored.agent.clone(),
                lane: header.lane,
                epoch: header.epoch.0,
                sequence,
                stored_ms: stored.stored_ms,
                withheld: stored.withholds(&event.kind),
                event,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Occurrence, receipt and start of the downtime, after the correction of an event.
    fn corrected(event: Event, clocks: Clocks) -> (i64, i64, Option<String>) {
        let mut event = Event {
            occurred_at_ms: 1_000_000,
            received_at_ms: 1_000_100,
            ..event
        };
        correct(&mut event, clocks, 1_000_000);
        let down_since = event.attributes.remove(DOWN_SINCE);
        (event.occurred_at_ms, event.received_at_ms, down_since)
    }

    #[test]
    fn nothing_was_received_after_it_was_stored_and_what_nobody_knows_better_was_then() {
        let stored_ms = 1_790_000_000_000;
        let of = |clock, occurred_at_ms, received_at_ms| {
            let mut event = Event {
                occurred_at_ms,
                received_at_ms,
                clock,
                ..Event::default()
            };
            correct(&mut event, Clocks::default(), stored_ms);
            (event.occurred_at_ms, event.received_at_ms)
        };
        let ahead_ms = stored_ms + 86_400_000;
        for (clock, times, wanted) in [
            // An agent whose clock is ahead, with unknown skew.
            (
                ClockQuality::Agent,
                (ahead_ms, ahead_ms),
                (stored_ms, stored_ms),
            ),
            (
                ClockQuality::Device,
                (ahead_ms - 7, ahead_ms),
                (ahead_ms - 7, stored_ms),
            ),
            (
                ClockQuality::Shifted,
                (ahead_ms - 7, ahead_ms),
                (stored_ms - 7, stored_ms),
            ),
            // A boot with unknown offset.
            (ClockQuality::Unset, (9_000, 9_000), (stored_ms, stored_ms)),
            (
                ClockQuality::Agent,
                (stored_ms + 100, stored_ms + 100),
                (stored_ms + 100, stored_ms + 100),
            ),
            (ClockQuality::Device, (5, stored_ms - 1), (5, stored_ms - 1)),
        ] {
            assert_eq!(of(clock, times.0, times.1), wanted, "{clock:?} {times:?}");
        }
    }

    #[test]
    fn a_claim_of_the_future_that_an_agent_without_a_clock_believed_is_the_receipt() {
        let stored_ms = 1_790_000_000_000;
        let clocks = Clocks {
            offset_ms: Some(stored_ms - 10),
            skew_ms: Some(-10_800_000),
        };
        for (ahead_ms, wanted) in [
            (-1_800_000, ClockQuality::Device),
            (AHEAD_MS_MAX, ClockQuality::Device),
            (94_608_000_000, ClockQuality::Implausible),
        ] {
            let mut event = Event {
                occurred_at_ms: stored_ms + ahead_ms,
                received_at_ms: stored_ms - 10_800_000,
                monotonic_ms: Some(10),
                ..Event::default()
            };
            correct(&mut event, clocks, stored_ms);
            assert_eq!((event.received_at_ms, event.clock), (stored_ms, wanted));
            let is_claim = wanted == ClockQuality::Device;
            let occurred_ms = stored_ms + if is_claim { ahead_ms } else { 0 };
            assert_eq!(event.occurred_at_ms, occurred_ms);
            assert_eq!(event.claim_ms(), Some(stored_ms + ahead_ms));
        }
    }

    #[test]
    fn only_times_of_the_agents_clock_are_put_right_by_its_skew() {
        let clocks = Clocks {
            offset_ms: Some(500_000),
            skew_ms: Some(600),
        };
        let of = |clock| Event {
            clock,
            ..Event::default()
        };
        for (clock, wanted) in [
            (ClockQuality::Device, (1_000_000, 999_500)),
            (ClockQuality::Agent, (999_400, 999_500)),
            (ClockQuality::Implausible, (999_400, 999_500)),
            (ClockQuality::Other, (1_000_000, 1_000_100)),
            (ClockQuality::Unset, (1_000_000, 1_000_100)),
        ] {
            let (occurred_ms, received_ms, _) = corrected(of(clock), clocks);
            assert_eq!((occurred_ms, received_ms), wanted, "{clock:?}");
            let as_it_was = corrected(of(clock), Clocks::default());
            assert_eq!(as_it_was, (1_000_000, 1_000_100, None), "{clock:?}");
        }
        // The offset refers to the hub's clock already.
        let unset = Event {
            monotonic_ms: Some(7),
            ..of(ClockQuality::Unset)
        };
        assert_eq!(corrected(unset, clocks), (500_007, 500_007, None));
        // A time in the past that the agent could not check: the receipt still follows from the boot's
        // offset.
        let device = Event {
            monotonic_ms: Some(500_007),
            ..of(ClockQuality::Device)
        };
        let wanted = (1_000_000, 1_000_007, None);
        assert_eq!(corrected(device, clocks), wanted);
        let started = Event {
            kind: AGENT_STARTED.to_owned(),
            attributes: [(DOWN_SINCE.to_owned(), "5000".to_owned())].into(),
            ..of(ClockQuality::Agent)
        };
        let wanted = (999_400, 999_500, Some("4400".to_owned()));
        assert_eq!(corrected(started, clocks), wanted);
    }
}
