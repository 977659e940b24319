//! The store: SQLite through sqlx, in SQL that PostgreSQL also takes.
//!
//! * One connection writes, and belongs to the ingest writer; everything that a commit says is durable
//!   when it returns (`synchronous = FULL`, write-ahead log).
//! * A small pool reads, for the API and the command line. A reader never waits for the writer.
//! * One connection looks up who is admitted, so that agents do not wait for slow questions to the API.
//! * Events are rows of chunks, the bytes as the agent made them; never a row each.
//!
//! Each file below is one noun: its statements and the structs that they give.
pub mod agents;
pub mod cases;
pub mod chunks;
pub mod mutes;
pub mod occurrences;
pub mod outbox;
pub mod positions;
pub mod tokens;
pub mod warnings;

use sqlx::ConnectOptions;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

static MIGRATIONS: Migrator = sqlx::migrate!();

const READERS_MAX: u32 = 4;
/// What the probe writes: as much as a commit of a busy hub, so that room for it is room for one.
const PROBE_BYTES: usize = 256 * 1024;
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Numbers that one statement asks for; SQLite takes 32,766 values.
const IDS_OF_QUERY_MAX: usize = 1000;
/// Two chunks and their row headers fit a page, so little of it is wasted.
const PAGE_BYTES: u32 = 16 * 1024;
/// The log is folded into the database after this many pages: 64 MiB.
const CHECKPOINT_PAGES: &str = "4096";

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be opened.
    #[error(
        "the database {path:?} cannot be opened: has `linli-hub init` been run, and may this user write there?"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The tables cannot be brought up to date.
    #[error("the tables cannot be brought to this version")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A statement failed.
    #[error("{operation} failed in the database")]
    Statement {
        /// What was tried.
        operation: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
}

/// Names the operation of a failed statement.
pub fn failed(operation: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Statement { operation, source }
}

/// For an answer that is read in more than one statement: all of them see what one commit has left.
async fn snapshot(pool: &SqlitePool) -> Result<sqlx::SqliteTransaction<'static>, StoreError> {
    pool.begin().await.map_err(failed("beginning to read"))
}

/// The stored twin of a 64-bit epoch, and back.
pub fn signed(value: u64) -> i64 {
    value.cast_signed()
}

/// Readers and the place of the database.
#[derive(Clone)]
pub struct Store {
    path: PathBuf,
    readers: SqlitePool,
    admissions: SqlitePool,
}

impl Store {
    /// Opens the database, making it if `create`, and brings its tables up to date.
    pub async fn open(path: &Path, create: bool) -> Result<Self, StoreError> {
        let open_error = |source| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        let mut writer = options(path)
            .create_if_missing(create)
            .connect()
            .await
            .map_err(open_error)?;
        MIGRATIONS.run(&mut writer).await?;
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .connect_with(options(path))
        };
        Ok(Self {
            path: path.to_owned(),
            readers: pool(READERS_MAX).await.map_err(open_error)?,
            admissions: pool(1).await.map_err(open_error)?,
        })
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For reading, and for the rare writes of the command line.
    pub fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// For looking up who may come.
    pub fn admissions(&self) -> &SqlitePool {
        &self.admissions
    }

    /// A connection of its own, for the ingest writer.
    pub async fn writer(&self) -> Result<SqliteConnection, StoreError> {
        options(&self.path)
            .connect()
            .await
            .map_err(|source| StoreError::Open {
                path: self.path.clone(),
                source,
            })
    }
}

/// Writes something and syncs it: the disk takes a commit again.
pub async fn probe(connection: &mut SqliteConnection, now_ms: i64) -> Result<(), StoreError> {
    // SQLite leaves out a write that changes nothing, so the bytes are others each time.
    let bytes = now_ms.to_be_bytes().repeat(PROBE_BYTES / 8);
    sqlx::query(
        "INSERT INTO probe (id, bytes) VALUES (1, $1) \
         ON CONFLICT (id) DO UPDATE SET bytes = excluded.bytes",
    )
    .bind(bytes)
    .execute(connection)
    .await
    .map_err(failed("writing a probe"))?;
    Ok(())
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .page_size(PAGE_BYTES)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .disable_statement_logging()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_is_looked_up_while_every_reader_is_busy() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("hub.db");
        let store = Store::open(&path, true).await.expect("a store");
        let mut busy = Vec::new();
        for _ in 0..READERS_MAX {
            busy.push(store.readers().acquire().await.expect("a reader"));
        }
        assert!(store.readers().try_acquire().is_none());
        let agent = "gw-1".parse().expect("a name");
        let admitted = agents::admitted(store.admissions(), &agent, "1").await;
        assert!(matches!(admitted, Ok(Err(_))), "{admitted:?}");
    }

    #[tokio::test]
    async fn the_roster_has_agents_that_are_not_revoked_and_keeps_what_they_told_last() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("hub.db");
        let store = Store::open(&path, true).await.expect("a store");
        let mut writer = store.writer().await.expect("a writer");
        let site = "yuyuan".parse().expect("a name");
        for name in ["gw-2", "gw-1", "gw-gone"] {
            let agent = name.parse().expect("a name");
            let saved = agents::save(&mut writer, &agent, &site, "1", 7).await;
            saved.expect("an agent");
        }
        sqlx::query("UPDATE agents SET revoked_ms = 8 WHERE agent = 'gw-gone'")
            .execute(&mut writer)
            .await
            .expect("revoked");
        let agent = "gw-2".parse().expect("a name");
        // A heartbeat, and the hello after it, which tells no watermark.
        for (seen_ms, watermark_ms) in [(20, Some(15)), (30, None)] {
            let sign = agents::Sign {
                software: String::new(),
                seen_ms,
                watermark_ms,
                waiting_events: 0,
                skew_ms: Some(-3),
            };
            let noted = agents::sign(&mut writer, &agent, &sign).await;
            noted.expect("a sign");
        }
        let roster = agents::roster(&mut writer).await.expect("a roster");
        let shown: Vec<(&str, &str, i64, i64, i64)> = roster
            .iter()
            .map(|entry| {
                (
                    entry.agent.as_str(),
                    entry.site.as_str(),
                    entry.joined_ms,
                    entry.seen_ms,
                    entry.watermark_ms,
                )
            })
            .collect();
        let wanted = [("gw-1", "yuyuan", 7, 0, 0), ("gw-2", "yuyuan", 7, 30, 15)];
        assert_eq!(shown, wanted);
        let listed = agents::list(store.readers()).await.expect("a list");
        assert_eq!(listed[1].skew_ms, Some(-3));
    }
}
