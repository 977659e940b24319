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
}
