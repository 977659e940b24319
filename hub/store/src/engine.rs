//! The two engines: SQLite in a file beside the hub, or PostgreSQL by its address.
//!
//! All differences between them are in this module: how to open and check a connection, how a transaction
//! takes its lock, and how only one hub writes. Tables and statements are the same. Numbers are BIGINT, small
//! ones SMALLINT, flags SMALLINT 0 or 1, bytes BYTEA, everything else TEXT.
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Any, ConnectOptions, Connection as _, Row as _, Transaction};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Once;
use url::Url;

use super::{Connection, Pool, StoreError, failed};

pub mod schema;

/// Two chunks and their row headers fit into a page, so little of it is wasted.
const PAGE_BYTES: u32 = 16 * 1024;
/// Settings of SQLite: writers wait for each other; the log is merged into the database after 4,096 pages (64
/// MiB); a commit is synced before it returns. The file does not store them, so each connection sets them.
const PRAGMAS: &str = "PRAGMA busy_timeout = 10000; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                       PRAGMA wal_autocheckpoint = 4096";
/// Takes the lock at the beginning: a transaction that reads first and then finds at its first write that
/// another one has committed in the meantime could not continue.
const BEGIN_SQLITE: &str = "BEGIN IMMEDIATE";
/// PostgreSQL: the lock for writing, held until the end of the transaction, by the hub or the command line.
const LOCK_WRITING: &str = "SELECT pg_advisory_xact_lock(5135721, 1)";
/// PostgreSQL: the lock of the running hub, held as long as the writing connection lives. The server takes a
/// moment to notice that a killed hub is gone, so the next one waits a little.
const LOCK_HUB: [&str; 3] = [
    "SET lock_timeout = '5s'",
    "SELECT pg_advisory_lock(5135721, 2)",
    "SET lock_timeout = 0",
];
/// PostgreSQL's error code for a lock that was not granted in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// The location of a hub's database.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    /// Path of a file.
    Sqlite(PathBuf),
    /// Address of a server: `postgres://user@host/database`, or `postgres:///database?host=/run/postgresql`.
    Postgres(String),
}

impl fmt::Debug for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Omits the password.
impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(formatter, "{}", path.display()),
            Self::Postgres(address) => match PgConnectOptions::from_str(address) {
                Ok(options) => {
                    let socket = options
                        .get_socket()
                        .map(|socket| socket.display().to_string());
                    write!(
                        formatter,
                        "postgres://{}@{}/{}",
                        options.get_username(),
                        socket.unwrap_or_else(|| options.get_host().to_owned()),
                        options.get_database().unwrap_or(options.get_username()),
                    )
                }
                Err(_) => formatter.write_str("postgres://…"),
            },
        }
    }
}

impl Place {
    /// A server by its address and password. Errors: the problem with the address.
    pub fn postgres(address: &str, password: Option<&str>) -> Result<Self, String> {
        let expected = "must be like \"postgres://linli@db.example/linli\" or \"postgres:///linli?host=/run/postgresql\"";
        let mut url = Url::parse(address).map_err(|error| format!("{expected}: {error}"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(expected.to_owned());
        }
        if url.password().is_some() {
            return Err(
                "must not hold the password: name a file with it in password_file".to_owned(),
            );
        }
        if password.is_some() && url.set_password(password).is_err() {
            return Err("needs user@host where there is a password_file".to_owned());
        }
        PgConnectOptions::from_str(url.as_str()).map_err(|error| format!("{expected}: {error}"))?;
        Ok(Self::Postgres(url.into()))
    }
}

impl Place {
    /// A database for one test of this crate or of a crate above: a file in `directory`, or a new database on
    /// the server whose socket directory `LINLI_TEST_POSTGRES` names.
    pub fn of_test(directory: &Path) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let Some(socket) = std::env::var("LINLI_TEST_POSTGRES")
            .ok()
            .filter(|socket| !socket.is_empty())
        else {
            return Self::Sqlite(directory.join("hub.db"));
        };
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("unit_{}_{number}", std::process::id());
        let made = std::process::Command::new("createdb")
            .args(["--host", &socket, "--username", "postgres", &name])
            .status()
            .expect("createdb");
        assert!(made.success(), "a database of the test server");
        Self::Postgres(format!(
            "postgres://postgres@localhost/{name}?host={socket}"
        ))
    }
}

/// Installs the drivers, once per process.
fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(sqlx::any::install_default_drivers);
}

impl Place {
    fn options(&self) -> Result<AnyConnectOptions, sqlx::Error> {
        install();
        let options = match self {
            Self::Sqlite(path) => {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                let options = SqliteConnectOptions::new().filename(path);
                AnyConnectOptions::from_url(&options.to_url_lossy())?
            }
            Self::Postgres(address) => AnyConnectOptions::from_str(address)?,
        };
        Ok(options.disable_statement_logging())
    }

    fn open_error(&self) -> impl Fn(sqlx::Error) -> StoreError {
        let place = self.to_string();
        move |source| StoreError::Open {
            place: place.clone(),
            source,
        }
    }

    /// Creates the file if it does not exist. The operator of a server creates its database. Errors:
    /// [`StoreError`].
    pub async fn create(&self) -> Result<(), StoreError> {
        let Self::Sqlite(path) = self else {
            return Ok(());
        };
        let made = SqliteConnectOptions::new()
            .filename(path)
            .page_size(PAGE_BYTES)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .create_if_missing(true)
            .disable_statement_logging()
            .connect()
            .await
            .map_err(self.open_error())?;
        made.close().await.map_err(self.open_error())
    }

    /// True if `linli-hub init` has created the database. Errors: [`StoreError`].
    pub async fn is_made(&self) -> Result<bool, StoreError> {
        if let Self::Sqlite(path) = self {
            return Ok(path.exists());
        }
        let mut connection = self.connect().await?;
        let row = sqlx::query("SELECT COUNT(*) FROM pg_tables WHERE tablename = 'chunks' AND schemaname = ANY(current_schemas(FALSE))")
            .fetch_one(&mut connection)
            .await
            .map_err(failed("looking for the tables"))?;
        Ok(row.get::<i64, _>(0) > 0)
    }

    /// Size of the database, and free space on its disk if it is on this machine, bytes; `None` if
    /// unreadable.
    pub async fn size(&self, pool: &Pool) -> (Option<i64>, Option<i64>) {
        match self {
            Self::Sqlite(path) => {
                let mut log = path.as_os_str().to_owned();
                log.push("-wal");
                let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
                let free = rustix::fs::statvfs(path).ok();
                (
                    Some((bytes(path) + bytes(Path::new(&log))) as i64),
                    free.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) as i64),
                )
            }
            Self::Postgres(_) => {
                let row = sqlx::query("SELECT pg_database_size(current_database())")
                    .fetch_one(pool)
                    .await;
                (row.ok().map(|row| row.get(0)), None)
            }
        }
    }

    /// Opens one connection, ready for use. Errors: [`StoreError`].
    pub async fn connect(&self) -> Result<Connection, StoreError> {
        let options = self.options().map_err(self.open_error())?;
        let mut connection = options.connect().await.map_err(self.open_error())?;
        prepare(&mut connection).await.map_err(self.open_error())?;
        if matches!(self, Self::Postgres(_)) {
            check_server(&mut connection).await?;
        }
        Ok(connection)
    }

    /// Opens a pool for reading. Errors: [`StoreError`].
    pub async fn pool(&self, connections: u32) -> Result<Pool, StoreError> {
        let options = self.options().map_err(self.open_error())?;
        AnyPoolOptions::new()
            .max_connections(connections)
            .after_connect(|connection, _| Box::pin(prepare(connection)))
            .connect_with(options)
            .await
            .map_err(self.open_error())
    }
}

async fn prepare(connection: &mut Connection) -> Result<(), sqlx::Error> {
    if is_postgres(connection) {
        return Ok(());
    }
    sqlx::query(PRAGMAS).execute(connection).await?;
    Ok(())
}

fn is_postgres(connection: &Connection) -> bool {
    connection.backend_name() == "PostgreSQL"
}

/// Refuses a server that reports a commit before it has synced it: an acknowledgement must mean durability.
async fn check_server(connection: &mut Connection) -> Result<(), StoreError> {
    for (setting, needed) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("server_encoding", "UTF8"),
    ] {
        let row = sqlx::query("SELECT current_setting($1)")
            .bind(setting)
            .fetch_one(&mut *connection)
            .await
            .map_err(failed("reading a setting of the server"))?;
        let value: String = row.get(0);
        // A stricter value is accepted: the server then waits for a second server too.
        let is_good =
            value == needed || (setting == "synchronous_commit" && value.starts_with("remote"));
        if !is_good {
            return Err(StoreError::Server {
                setting,
                value,
                needed,
            });
        }
    }
    Ok(())
}

/// Takes the lock of the hub for this connection; false if another hub has the database. SQLite needs no
/// lock, because the data directory is locked.
pub async fn take_hub(connection: &mut Connection) -> Result<bool, StoreError> {
    if !is_postgres(connection) {
        return Ok(true);
    }
    for statement in LOCK_HUB {
        match sqlx::query(statement).execute(&mut *connection).await {
            Err(sqlx::Error::Database(error))
                if error.code().is_some_and(|code| code == LOCK_NOT_AVAILABLE) =>
            {
                return Ok(false);
            }
            outcome => outcome.map_err(failed("taking the lock of the hub"))?,
        };
    }
    Ok(true)
}

/// Begins a write transaction, after other writers have finished. Errors: [`StoreError`].
pub async fn begin(connection: &mut Connection) -> Result<Transaction<'_, Any>, StoreError> {
    let beginning = failed("beginning a transaction");
    if !is_postgres(connection) {
        return connection.begin_with(BEGIN_SQLITE).await.map_err(beginning);
    }
    let mut transaction = connection.begin().await.map_err(beginning)?;
    sqlx::query(LOCK_WRITING)
        .execute(&mut *transaction)
        .await
        .map_err(failed("waiting to write"))?;
    Ok(transaction)
}

/// Begins a read transaction: all its statements see the same snapshot. Errors: [`StoreError`].
///
/// The caller may be cancelled, like a request whose client goes. A `BEGIN` that is cancelled on its way would leave its
/// connection in a transaction that the driver does not know of; back in the pool, the connection would show later
/// readers the past. So `BEGIN` has a task of its own, which ends and rolls back whoever waits for it.
pub async fn snapshot(pool: &Pool) -> Result<Transaction<'static, Any>, StoreError> {
    let beginning = failed("beginning to read");
    let statement = match pool.connect_options().database_url.scheme() {
        "sqlite" => "BEGIN",
        _ => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    };
    let pool = pool.clone();
    let begun = tokio::spawn(async move { pool.begin_with(statement).await }).await;
    begun
        .map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))
        .flatten()
        .map_err(beginning)
}
