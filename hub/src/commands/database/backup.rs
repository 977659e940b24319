//! `db backup`, `db check` and `db restore`: the database as one file.
//!
//! SQLite writes a backup itself (`VACUUM INTO`), from one snapshot, while the hub runs and commits. It is made under a
//! temporary name that only its owner can read, synced, and gets its name last: a backup is there whole or not at all.
//! A server's database is backed up with the server's own program; the command for it is printed.
use linli_shared::service::exit::{self, Failure, failure};
use linli_shared::service::{clock, data_dir, file, output};
use sqlx::Row as _;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{attachments, belongings, io, note, wrong};
use crate::config::Config;
use linli_domain::audit::Verifier;
use linli_domain::changes::{ChangeKind, ChangeSet};
use linli_store::rows::Shape;
use linli_store::{Connection, Place, Store, audit, catalogue, changes, chunks, copying};

/// Entries or rows that are read at once.
const PAGE: i64 = 1000;

/// Makes a backup.
pub async fn backup(config: &Config, store: &Store, path: &Path) -> Result<(), Failure> {
    if matches!(config.place, Place::Postgres(_)) {
        return Err(wrong(
            exit::UNAVAILABLE,
            format!(
                "the database is on a server: `pg_dump --format=custom --file={} --dbname={}` backs it up \
                 (the password from ~/.pgpass or PGPASSFILE), `pg_restore --dbname=…` puts it back; the files of cases are \
                 in {}/; or `linli-hub db copy --to FILE` makes a file of it, with these beside it",
                quoted(&path.display().to_string()),
                quoted(&config.place.to_string()),
                config.data_dir.join("attachments").display(),
            ),
        ));
    }
    if path.exists() {
        return Err(wrong(
            exit::IO,
            format!(
                "{} is there already: a backup overwrites nothing",
                path.display()
            ),
        ));
    }
    note(store, "database.backed_up", &path.display().to_string()).await?;
    let cannot = |error: std::io::Error| {
        wrong(
            exit::IO,
            format!("{} cannot be written: {error}", path.display()),
        )
    };
    let temporary = temporary(path);
    let made = make(store, &temporary).await;
    if let Err(failure) = made {
        // The incomplete file is useless.
        let _ = std::fs::remove_file(&temporary);
        return Err(failure);
    }
    // The file gets its name when all that it refers to is beside it.
    let files = attachments::back_up(config, store, &temporary).await;
    finish(&temporary, path).map_err(cannot)?;
    output::line(format_args!("已备份 backed up: {}", path.display()));
    output::line(format_args!(
        "请校验并另存他处 check it and keep it elsewhere: linli-hub db check {}",
        quoted(&path.display().to_string())
    ));
    belongings(config);
    files
}

async fn make(store: &Store, temporary: &Path) -> Result<(), Failure> {
    File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(temporary)
        .map_err(|error| {
            wrong(
                exit::IO,
                format!("{} cannot be written: {error}", temporary.display()),
            )
        })?;
    let mut connection = store.connect().await.map_err(|error| io(&error))?;
    sqlx::query("VACUUM INTO $1")
        .bind(temporary.display().to_string())
        .execute(&mut connection)
        .await
        .map_err(|error| io(&linli_store::failed("writing a backup")(error)))?;
    Ok(())
}

fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Syncs a file and renames it to an unused name.
fn finish(temporary: &Path, path: &Path) -> std::io::Result<()> {
    File::open(temporary)?.sync_all()?;
    // A link fails where a rename would replace.
    std::fs::hard_link(temporary, path)?;
    std::fs::remove_file(temporary)?;
    let directory = path.parent().filter(|path| !path.as_os_str().is_empty());
    file::sync_directory(directory.unwrap_or(Path::new(".")))
}

/// For a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Reads a file of a database to its end, and changes nothing.
pub async fn check(config: &Config, path: &Path) -> Result<(), Failure> {
    let mut connection = check_rows(path).await?;
    attachments::check_file(config, &mut connection, path).await?;
    output::line(format_args!("完好 good: {}", path.display()));
    Ok(())
}

async fn check_rows(path: &Path) -> Result<Connection, Failure> {
    let bad = |text: String| wrong(exit::DATA, format!("{}: {text}", path.display()));
    let place = Place::Sqlite(path.to_owned());
    let pool = place.pool(1).await.map_err(|error| io(&error))?;
    let mut connection = place.connect().await.map_err(|error| io(&error))?;
    let said = sqlx::query("PRAGMA integrity_check(10)")
        .fetch_all(&mut connection)
        .await
        .map_err(|error| bad(format!("it cannot be read: {error}")))?;
    let said: Vec<String> = said.iter().map(|row| row.get(0)).collect();
    if said != ["ok"] {
        return Err(bad(format!("the file is damaged: {}", said.join("; "))));
    }
    let there = catalogue::there(&mut connection)
        .await
        .map_err(|error| io(&error))?;
    let there = there.map_err(&bad)?;
    if there.iter().any(|table| table.own)
        && copying::is_unfinished(&mut connection)
            .await
            .map_err(|error| io(&error))?
    {
        return Err(bad("a copy into it was cut off: it is not whole".to_owned()));
    }
    for table in there {
        let shape = Shape::read(&mut connection, table)
            .await
            .map_err(|error| io(&error))?;
        let rows = shape
            .count(&mut connection)
            .await
            .map_err(|error| io(&error))?;
        if rows > 0 {
            output::line(format_args!("  {}: {rows}", table.name));
        }
    }
    let mut after = 0;
    loop {
        let page = chunks::unreadable(&mut connection, after, PAGE).await;
        let page = page.map_err(|error| io(&error))?;
        if let Some(id) = page.bad.first() {
            return Err(bad(format!("chunk {id} is not what was stored")));
        }
        match page.last {
            Some(last) => after = last,
            None => break,
        }
    }
    let mut verifier = Verifier::default();
    loop {
        let page = audit::after(&pool, verifier.end().0, PAGE).await;
        let page = page.map_err(|error| io(&error))?;
        if page.is_empty() {
            break;
        }
        for entry in page {
            verifier
                .follow(&entry)
                .map_err(|text| bad(format!("the audit log: {text}")))?;
        }
    }
    let (count, last) = verifier.end();
    output::line(format_args!(
        "审计日志完整 the audit log is whole: {count} {last}"
    ));
    Ok(connection)
}

/// Makes a backup the database of a data directory that has none.
pub async fn restore(config: &Config, from: &Path) -> Result<(), Failure> {
    let Place::Sqlite(to) = &config.place else {
        return Err(wrong(
            exit::UNAVAILABLE,
            format!(
                "the database is on a server: `pg_restore --dbname={} FILE` puts back what pg_dump made; a file of \
                 `linli-hub db backup` gets there with a config whose database is that file, and `linli-hub db copy`",
                quoted(&config.place.to_string())
            ),
        ));
    };
    data_dir::prepare(&config.data_dir).map_err(|error| failure(exit::IO)(&error))?;
    let lock = file::lock(&config.data_dir.join("lock"));
    let lock = lock.map_err(|error| failure(exit::IO)(&error))?;
    if lock.is_none() {
        return Err(wrong(
            exit::IO,
            format!("a hub runs in {}", config.data_dir.display()),
        ));
    }
    for suffix in ["", "-wal", "-shm"] {
        let mut there = to.as_os_str().to_owned();
        there.push(suffix);
        if Path::new(&there).exists() {
            return Err(wrong(
                exit::IO,
                format!(
                    "{} is there: nothing is overwritten. Move it away first, with its -wal and -shm",
                    Path::new(&there).display()
                ),
            ));
        }
    }
    let mut log = from.as_os_str().to_owned();
    log.push("-wal");
    if Path::new(&log).exists() {
        return Err(wrong(
            exit::DATA,
            format!(
                "{} has a log beside it, so it is no backup: `linli-hub db backup` makes one",
                from.display()
            ),
        ));
    }
    check_rows(from).await?;
    let cannot = |error: std::io::Error| {
        wrong(
            exit::IO,
            format!("{} cannot be written: {error}", to.display()),
        )
    };
    // Missing files are named at the end: the rest is worth more than nothing.
    let files = attachments::restore(config, from).await;
    let temporary = temporary(to);
    copy_file(from, &temporary).map_err(cannot)?;
    finish(&temporary, to).map_err(cannot)?;
    // Its log is made, and its tables brought to this version.
    let store = Store::open(&config.place, true)
        .await
        .map_err(|error| io(&error))?;
    // A reader of changes may be ahead of the backup: it reads everything again.
    let mut restored = ChangeSet::default();
    restored.touch(ChangeKind::Restored, "");
    store
        .in_transaction(async |connection| {
            changes::write(connection, &restored, clock::wall_ms()).await
        })
        .await
        .map_err(|error| io(&error))?;
    store.close().await;
    output::line(format_args!("已恢复 restored: {}", to.display()));
    for path in [
        crate::ca::Files::at(&config.data_dir).root,
        linli_store::sealed::key_file(&config.data_dir),
    ] {
        if !path.exists() {
            output::line(format_args!(
                "缺少，请从备份恢复，否则网关和案件无法使用 missing, restore it too, or agents and cases cannot be used: {}",
                path.display()
            ));
        }
    }
    output::line(format_args!(
        "须与数据库配套 these must be those of this database: {}/ {}",
        config.data_dir.join("ca").display(),
        linli_store::sealed::key_file(&config.data_dir).display()
    ));
    files
}

fn copy_file(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut out = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(to)?;
    std::io::copy(&mut File::open(from)?, &mut out)?;
    out.sync_all()
}
