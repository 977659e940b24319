//! The engine that hubs of a test run use: SQLite, or the PostgreSQL of `tests/postgres` where
//! `LINLI_TEST_POSTGRES` names its directory.
use anyhow::{Context, Result};
use sqlx::AnyConnection;
use sqlx::Connection as _;
use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use super::run;

/// The socket's directory, where the run is on PostgreSQL.
pub fn postgres() -> Option<String> {
    std::env::var("LINLI_TEST_POSTGRES")
        .ok()
        .filter(|directory| !directory.is_empty())
}

/// A test is about the database's file: on a server it says so and is passed over.
pub fn has_no_file() -> bool {
    let server = postgres().is_some();
    if server {
        println!("skipped: it is about the file of a database, and this run is on PostgreSQL");
    }
    server
}

/// The address of a database for a new hub: none is a file in `data_dir`.
pub fn database(data_dir: &Path) -> Result<(Option<String>, String)> {
    Ok(match server_database()? {
        Some(url) => (Some(url.clone()), url),
        None => (None, sqlite_url(&data_dir.join("hub.db"))),
    })
}

/// A database in a file, for sqlx.
pub fn sqlite_url(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}

/// The address of a new database of the test server; `None` where the run has none.
pub fn server_database() -> Result<Option<String>> {
    let Some(socket) = postgres() else {
        return Ok(None);
    };
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = format!("hub_{}_{number}", std::process::id());
    run(Command::new("createdb").args(["--host", &socket, "--username", "postgres", &name]))
        .context("a database of the test server")?;
    Ok(Some(format!(
        "postgres://postgres@localhost/{name}?host={socket}"
    )))
}

/// A connection beside the hub's own.
pub async fn connect(url: &str) -> Result<AnyConnection> {
    static DRIVERS: Once = Once::new();
    DRIVERS.call_once(sqlx::any::install_default_drivers);
    Ok(AnyConnection::connect(url).await?)
}
