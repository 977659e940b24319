//! The store: SQLite or PostgreSQL through sqlx, with SQL that both accept.
//!
//! * One connection writes and belongs to the ingest writer; a commit is durable when it returns. The command
//!   line writes occasionally; a lock serialises the two.
//! * A small pool reads, for the API and the command line. A reader never waits for the writer.
//! * One connection looks up admissions, so that agents do not wait for slow queries of the API.
//! * Events are stored as rows of chunks, with the bytes as the agent made them; never one row per event.
//!
//! `engine` contains the differences between the engines; `statement` builds statements whose text depends on
//! a query; `catalogue` lists all tables; `rows` reads and writes any of them. Each other module covers one
//! noun: its statements and the structs that they return.
#![expect(
    rustdoc::private_intra_doc_links,
    reason = "the docs are for who works on the program, and are made with what is private"
)]

pub mod agents;
pub mod attachments;
pub mod audit;
pub mod cases;
pub mod catalogue;
pub mod changes;
pub mod chunks;
pub mod copying;
mod engine;
pub mod hub_clock;
pub mod identities;
pub mod mutes;
pub mod occurrences;
pub mod orgs;
pub mod outbox;
pub mod positions;
pub mod retention;
pub mod rows;
pub mod sealed;
pub mod sequences;
mod statement;
pub mod stations;
pub mod statistics;
pub mod tokens;
pub mod users;
pub mod versions;
pub mod warnings;

use sqlx::migrate::Migrator;
use sqlx::pool::PoolConnection;
use sqlx::{Any, Row as _};
use std::borrow::Cow;

pub use engine::{Place, begin};
use engine::{snapshot, take_hub};

/// A connection to either engine.
pub type Connection = sqlx::AnyConnection;
/// A pool of connections to either engine.
pub type Pool = sqlx::AnyPool;
/// A row of either engine.
pub type Row = sqlx::any::AnyRow;

static MIGRATIONS: Migrator = sqlx::migrate!();

const READERS_MAX: u32 = 4;
/// Size of the probe: as much as a commit of a busy hub writes, so room for the probe is room for a commit.
const PROBE_BYTES: usize = 256 * 1024;
/// Maximum number of ids in one statement; SQLite accepts 32,766 values.
const IDS_OF_QUERY_MAX: usize = 1000;

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be opened.
    #[error(
        "the database {place:?} cannot be opened: has `linli-hub init` been run, and may this user use it?"
    )]
    Open {
        /// The database.
        place: String,
        /// Cause.
        #[source]
        source: sqlx::Error,
    },
    /// The server's settings do not guarantee durability.
    #[error(
        "the server's {setting} is {value:?} and must be {needed:?}: what it acknowledges could be lost, or not be read"
    )]
    Server {
        /// Name of the setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// The required value.
        needed: &'static str,
    },
    /// Another hub writes to the database.
    #[error("another hub uses the database {place:?}: each needs one of its own")]
    InUse {
        /// The database.
        place: String,
    },
    /// The database is an unfinished copy.
    #[error(
        "a copy into the database {place:?} was cut off: `linli-hub db copy --resume` goes on with it"
    )]
    Unfinished {
        /// The database.
        place: String,
    },
    /// Stored data cannot be read: a key is missing, or the data was changed.
    #[error("what is stored of {what} cannot be read")]
    Unreadable {
        /// The data.
        what: &'static str,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The migrations failed.
    #[error("the tables cannot be brought to this version")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A statement failed.
    #[error("{operation} failed in the database")]
    Statement {
        /// The operation.
        operation: &'static str,
        /// Cause.
        #[source]
        source: sqlx::Error,
    },
}

impl StoreError {
    /// The store itself is the cause: its disk, its memory, its connection, a lock. The same statement may succeed later.
    /// Else the statement is, and fails each time.
    pub fn is_of_the_store(&self) -> bool {
        match self {
            Self::Open { .. }
            | Self::Server { .. }
            | Self::InUse { .. }
            | Self::Unfinished { .. }
            | Self::Migrate(_) => true,
            Self::Unreadable { .. } => false,
            Self::Statement { source, .. } => match source {
                sqlx::Error::Database(error) => {
                    error.code().is_none_or(|code| is_of_the_server(&code))
                }
                // What was read or bound is not as the statement wants it.
                sqlx::Error::RowNotFound
                | sqlx::Error::TypeNotFound { .. }
                | sqlx::Error::ColumnIndexOutOfBounds { .. }
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Encode(_)
                | sqlx::Error::Decode(_) => false,
                _ => true,
            },
        }
    }
}

/// Codes of a server or file that cannot do its work now. SQLite has sequences, the kind in the lowest byte; PostgreSQL has five
/// characters, the class in the first two.
fn is_of_the_server(code: &str) -> bool {
    // BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, CORRUPT, FULL, CANTOPEN, PROTOCOL, NOTADB.
    const SQLITE: [u32; 11] = [5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 26];
    // Connection, transaction rollback, resources, object state, intervention, system, config, internal.
    const POSTGRES: [&str; 8] = ["08", "40", "53", "55", "57", "58", "F0", "XX"];
    if code.len() == 5 {
        return POSTGRES.iter().any(|class| code.starts_with(class));
    }
    code.parse::<u32>()
        .is_ok_and(|code| SQLITE.contains(&(code & 0xff)))
}

/// Names the operation of a failed statement.
pub fn failed(operation: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Statement { operation, source }
}

/// The stored representation of a 64-bit epoch or sequence.
pub fn signed(value: u64) -> i64 {
    value.cast_signed()
}

/// Text of outside origin, in a form that both engines accept: PostgreSQL has no NUL in a text, and a refused
/// statement would block everything in the same commit.
pub fn text(from_outside: &str) -> Cow<'_, str> {
    if from_outside.contains('\0') {
        Cow::Owned(from_outside.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(from_outside)
    }
}

/// Reads a flag, stored as 0 or 1.
fn flag(row: &Row, column: &str) -> bool {
    row.get::<i16, _>(column) != 0
}

/// The database and its pools for reading.
#[derive(Clone)]
pub struct Store {
    place: Place,
    readers: Pool,
    admissions: Pool,
}

impl Store {
    /// Opens the database and migrates it; creates it if `create`. Errors: [`StoreError`]; also for an
    /// unfinished copy.
    pub async fn open(place: &Place, create: bool) -> Result<Self, StoreError> {
        let store = Self::open_unfinished(place, create).await?;
        let mut connection = store
            .admissions
            .acquire()
            .await
            .map_err(failed("connecting"))?;
        if copying::is_unfinished(&mut connection).await? {
            return Err(StoreError::Unfinished {
                place: place.to_string(),
            });
        }
        drop(connection);
        Ok(store)
    }

    /// Like [`Store::open`], but accepts an unfinished copy. Errors: [`StoreError`].
    pub async fn open_unfinished(place: &Place, create: bool) -> Result<Self, StoreError> {
        if create {
            place.create().await?;
        }
        let mut writer = place.connect().await?;
        MIGRATIONS.run(&mut writer).await?;
        Ok(Self {
            readers: place.pool(READERS_MAX).await?,
            admissions: place.pool(1).await?,
            place: place.clone(),
        })
    }

    /// Closes all connections. SQLite merges its log into the file with the last one.
    pub async fn close(self) {
        self.readers.close().await;
        self.admissions.close().await;
    }

    /// The pool for reading, and for the rare writes of the command line.
    pub fn readers(&self) -> &Pool {
        &self.readers
    }

    /// One connection for reading. Errors: [`StoreError`].
    pub async fn reader(&self) -> Result<PoolConnection<Any>, StoreError> {
        self.readers.acquire().await.map_err(failed("connecting"))
    }

    /// The pool for looking up admissions.
    pub fn admissions(&self) -> &Pool {
        &self.admissions
    }

    /// Size of the database and free space on its disk, bytes; `None` if unknown.
    pub async fn size(&self) -> (Option<i64>, Option<i64>) {
        self.place.size(&self.readers).await
    }

    /// Begins a read transaction: all its statements see the same snapshot. Errors: [`StoreError`].
    pub async fn snapshot(&self) -> Result<sqlx::Transaction<'static, sqlx::Any>, StoreError> {
        snapshot(&self.readers).await
    }

    /// A separate connection, for the command line. Errors: [`StoreError`].
    pub async fn connect(&self) -> Result<Connection, StoreError> {
        self.place.connect().await
    }

    /// Runs `act` in a separate transaction, for the command line. Errors: [`StoreError`].
    pub async fn in_transaction<T>(
        &self,
        act: impl AsyncFnOnce(&mut Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.connect().await?;
        let mut transaction = begin(&mut connection).await?;
        let done = act(&mut transaction).await?;
        transaction
            .commit()
            .await
            .map_err(failed("committing a transaction"))?;
        Ok(done)
    }

    /// The connection of the only writing hub or copy. Errors: [`StoreError::InUse`] if another has it.
    pub async fn writer(&self) -> Result<Connection, StoreError> {
        let mut connection = self.place.connect().await?;
        if take_hub(&mut connection).await? {
            return Ok(connection);
        }
        Err(StoreError::InUse {
            place: self.place.to_string(),
        })
    }
}

/// Writes and syncs a probe, to check whether the disk accepts commits again. Errors: [`StoreError`].
pub async fn probe(connection: &mut Connection, now_ms: i64) -> Result<(), StoreError> {
    // An engine may skip a write that changes nothing, so the bytes differ each time.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Poll;

    #[tokio::test]
    async fn a_reader_that_is_cancelled_leaves_no_connection_in_the_past() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(&Place::of_test(directory.path()), true)
            .await
            .expect("a store");
        let mut all = Vec::new();
        for _ in 0..READERS_MAX {
            all.push(store.reader().await.expect("a reader"));
        }
        drop(all);
        let mut writer = store.connect().await.expect("a writer");
        // Cancelled before the answer to BEGIN, and after it; between two steps the server has answered the one before.
        for steps in [2, 2, 2, 3, 3, 3] {
            let mut reading = std::pin::pin!(store.snapshot());
            for _ in 0..steps {
                let step = std::future::poll_fn(|context| {
                    Poll::Ready(reading.as_mut().poll(context).is_ready())
                });
                if step.await {
                    break;
                }
                for _ in 0..3 {
                    versions::get(&mut writer, "test").await.expect("read");
                }
            }
        }
        // A transaction sees what its first statement saw.
        for number in [7, 8] {
            versions::set(&mut writer, "test", number)
                .await
                .expect("written");
            let mut readers = Vec::new();
            for _ in 0..READERS_MAX {
                let mut reader = store.reader().await.expect("a reader");
                let seen = versions::get(&mut reader, "test").await.expect("read");
                assert_eq!(seen, number, "a connection shows the past");
                readers.push(reader);
            }
        }
    }

    #[test]
    fn a_full_disk_is_the_stores_and_a_violated_constraint_the_statements() {
        for (code, is_of_it) in [
            ("13", true),
            ("778", true),
            ("5", true),
            ("1811", false),
            ("1555", false),
            ("53100", true),
            ("57P01", true),
            ("23505", false),
            ("P0001", false),
            ("22001", false),
        ] {
            assert_eq!(is_of_the_server(code), is_of_it, "{code}");
        }
    }

    #[tokio::test]
    async fn who_comes_is_looked_up_while_every_reader_is_busy() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(&Place::of_test(directory.path()), true)
            .await
            .expect("a store");
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
        let store = Store::open(&Place::of_test(directory.path()), true)
            .await
            .expect("a store");
        let mut writer = store.connect().await.expect("a writer");
        let site = "yuyuan".parse().expect("a name");
        for name in ["gw-2", "gw-1", "gw-gone"] {
            let agent = name.parse().expect("a name");
            let joining = agents::JoiningAgent {
                agent: &agent,
                site: &site,
                station: false,
                serial: "1",
            };
            let saved = agents::save(&mut writer, joining, 7).await;
            saved.expect("an agent");
        }
        sqlx::query("UPDATE agents SET revoked_ms = 8 WHERE agent = 'gw-gone'")
            .execute(&mut writer)
            .await
            .expect("revoked");
        let agent = "gw-2".parse().expect("a name");
        // A heartbeat, followed by a hello without a watermark.
        for (seen_ms, watermark_ms) in [(20, Some(15)), (30, None)] {
            let sign = agents::Sign {
                software: String::new(),
                seen_ms,
                watermark_ms,
                waiting_events: 0,
                skew_ms: Some(-3),
                clock_set: true,
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
