//! `db copy` and `db compare`.
//!
//! ```text
//! source: one snapshot ─▶ table by table, in the order of its key ─▶ batch ─▶ transaction: rows, and how far it is
//! target: lock of a hub · empty, or a copy that was cut off ─────────────────────────────────────▶ compare ─▶ whole
//! ```
//!
//! * The target has all tables and no rows, and no hub. From the first transaction to the last it is marked as
//!   unfinished (`store/copying`), and no hub starts on it.
//! * `--resume` goes on with a target that is marked, from another snapshot. What is there of a table is compared with
//!   the source first; where it is not the same (the source's hub has run on), that table is copied anew. So a copy
//!   that was resumed is of one snapshot too: the last one.
//! * At the end both sides are read once more: rows and digest of each table (`store/rows`). Only then the mark goes.
use indicatif::{ProgressBar, ProgressStyle};
use linli_shared::service::exit::{self, Failure};
use linli_shared::service::{file, output};
use sqlx::Connection as _;
use std::fs::File;
use std::io::IsTerminal as _;
use std::time::Instant;

use super::{io, wrong};
use linli_store::catalogue::{self, Table};
use linli_store::copying::{self, Progress};
use linli_store::rows::{Batch, Digest, Shape, Side};
use linli_store::{self as store, Connection, Place, Store, StoreError, failed};

/// How a copy shows that it goes on: a bar on a terminal, a line a table elsewhere.
struct Shown {
    bar: Option<ProgressBar>,
}

impl Shown {
    fn of(table: &str, rows: u64) -> Self {
        let style = ProgressStyle::with_template("{msg:16} {wide_bar} {pos}/{len} {per_sec} {eta}");
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(rows).with_message(table.to_owned());
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar
        });
        Self { bar }
    }

    fn add(&self, rows: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(rows);
        }
    }

    fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Copies all tables, and compares.
pub async fn copy(source: &Store, place: &Place, resume: bool) -> Result<(), Failure> {
    let started = Instant::now();
    // Held to the end.
    let _lock = lock_directory(place)?;
    if let Place::Sqlite(path) = place
        && !path.exists()
        && let Err(error) = create_closed(path)
    {
        return Err(wrong(
            exit::IO,
            format!("{} cannot be made: {error}", path.display()),
        ));
    }
    let target = Store::open_unfinished(place, true)
        .await
        .map_err(|error| io(&error))?;
    let mut writer = target.writer().await.map_err(|error| io(&error))?;
    prepare(&mut writer, place, resume).await?;
    let mut snapshot = source.snapshot().await.map_err(|error| io(&error))?;
    let mut rows = 0;
    for table in catalogue::copied() {
        rows += copy_table(&mut snapshot, &mut writer, table)
            .await
            .map_err(|error| io(&error))?;
    }
    let copied_s = started.elapsed().as_secs_f64();
    output::line(format_args!(
        "已复制 copied: {rows} rows, {copied_s:.1} s, {:.0} rows/s",
        rows as f64 / copied_s.max(0.001)
    ));
    check(&mut snapshot, &mut writer).await?;
    copying::finish(&mut writer)
        .await
        .map_err(|error| io(&error))?;
    // The file of the target is then whole by itself, and can be moved.
    let closing = failed("closing the copy");
    writer.close().await.map_err(|error| io(&closing(error)))?;
    target.close().await;
    output::line(format_args!("完整 whole: {place}"));
    output::line(
        "快照之后的数据未复制；若要迁移，请先停止原中枢 what came after the snapshot is not copied: to move for good, stop the hub first",
    );
    Ok(())
}

/// A database file that only its owner can read.
fn create_closed(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map(|_| ())
}

/// The lock of the data directory in which the target is, if it is in one: no hub may run there.
fn lock_directory(place: &Place) -> Result<Option<File>, Failure> {
    let Place::Sqlite(path) = place else {
        return Ok(None);
    };
    let lock = path.with_file_name("lock");
    if !lock.exists() {
        return Ok(None);
    }
    match file::lock(&lock) {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(wrong(
            exit::IO,
            format!("a hub runs in the directory of {place}: stop it first"),
        )),
        Err(error) => Err(wrong(
            exit::IO,
            format!("{} cannot be taken: {error}", lock.display()),
        )),
    }
}

/// Sees to it that the target is empty, or was left by a copy that is to be resumed, and marks it.
async fn prepare(writer: &mut Connection, place: &Place, resume: bool) -> Result<(), Failure> {
    let begun = copying::is_unfinished(writer)
        .await
        .map_err(|error| io(&error))?;
    match (begun, resume) {
        (true, true) => return Ok(()),
        (true, false) => {
            return Err(wrong(
                exit::DATA,
                format!("a copy into {place} was cut off: --resume goes on with it"),
            ));
        }
        (false, true) => {
            return Err(wrong(
                exit::DATA,
                format!("no copy into {place} was cut off: there is nothing to resume"),
            ));
        }
        (false, false) => {}
    }
    for table in catalogue::TABLES {
        let shape = Shape::read(writer, table)
            .await
            .map_err(|error| io(&error))?;
        let rows = shape.count(writer).await.map_err(|error| io(&error))?;
        if rows > 0 {
            return Err(wrong(
                exit::DATA,
                format!(
                    "{place} is not empty: table {} has {rows} rows. Nothing was changed; copy into a new database",
                    table.name
                ),
            ));
        }
    }
    copying::save(writer, copying::WHOLE, &Progress::default())
        .await
        .map_err(|error| io(&error))
}

/// Copies the missing rows of a table; returns how many.
async fn copy_table(
    source: &mut Connection,
    target: &mut Connection,
    table: &Table,
) -> Result<u64, StoreError> {
    let shape = Shape::read(source, table).await?;
    if shape != Shape::read(target, table).await? {
        let message = format!("table {} has other columns there", table.name);
        return Err(failed("comparing the tables")(sqlx::Error::Decode(
            message.into(),
        )));
    }
    let mut progress = copying::read(target).await?.remove(table.name);
    if let Some(begun) = &progress {
        let side = (!begun.last_key.is_empty()).then_some((Side::UpTo, begun.last_key.as_str()));
        let there = shape.digest(target, None).await?;
        let wanted = match side {
            Some(side) => shape.digest(source, Some(side)).await?,
            None => Digest::default(),
        };
        if there != wanted {
            output::line(format_args!(
                "{}: 源库已变化，重新复制 the source has changed since, copied anew",
                table.name
            ));
            let mut transaction = store::begin(target).await?;
            shape.empty(&mut transaction).await?;
            copying::save(&mut transaction, table.name, &Progress::default()).await?;
            commit(transaction).await?;
            progress = None;
        }
    }
    let mut progress = progress.unwrap_or_default();
    let total = shape.count(source).await?;
    let shown = Shown::of(table.name, total);
    shown.add(progress.copied.cast_unsigned());
    let after = progress.last_key.clone();
    let side = (!after.is_empty()).then_some((Side::After, after.as_str()));
    let mut batch = Batch::default();
    let mut copied = 0;
    shape
        .each(source, side, async |row| {
            if batch.push(row) {
                copied += write(
                    target,
                    &shape,
                    table,
                    std::mem::take(&mut batch),
                    &mut progress,
                    &shown,
                )
                .await?;
            }
            Ok(())
        })
        .await?;
    copied += write(target, &shape, table, batch, &mut progress, &shown).await?;
    shown.end();
    if total > 0 {
        output::line(format_args!("  {}: {total}", table.name));
    }
    Ok(copied)
}

/// Writes a batch and how far the table is with it, in one transaction.
async fn write(
    target: &mut Connection,
    shape: &Shape,
    table: &Table,
    batch: Batch,
    progress: &mut Progress,
    shown: &Shown,
) -> Result<u64, StoreError> {
    let Some(last) = batch.rows.last() else {
        return Ok(0);
    };
    let rows = batch.rows.len() as u64;
    progress.last_key = shape.key_of(last);
    progress.copied += rows.cast_signed();
    let mut transaction = store::begin(target).await?;
    shape.insert(&mut transaction, &batch.rows).await?;
    copying::save(&mut transaction, table.name, progress).await?;
    commit(transaction).await?;
    shown.add(rows);
    Ok(rows)
}

async fn commit(transaction: sqlx::Transaction<'_, sqlx::Any>) -> Result<(), StoreError> {
    let committing = failed("committing copied rows");
    transaction.commit().await.map_err(committing)
}

/// `db compare`: both as they are now.
pub async fn compare(source: &Store, other: &Store) -> Result<(), Failure> {
    let mut one = source.snapshot().await.map_err(|error| io(&error))?;
    let mut two = other.snapshot().await.map_err(|error| io(&error))?;
    check(&mut one, &mut two).await?;
    output::line("一致 they are the same");
    Ok(())
}

/// Compares counts and digests of all tables.
async fn check(source: &mut Connection, target: &mut Connection) -> Result<(), Failure> {
    let started = Instant::now();
    let mut differing = Vec::new();
    let mut rows = 0;
    for table in catalogue::copied() {
        let (one, two) = tokio::try_join!(digest(source, table), digest(target, table))
            .map_err(|error| io(&error))?;
        rows += one.rows;
        if one == two {
            continue;
        }
        differing.push(if one.rows == two.rows {
            format!(
                "{} ({} rows, other content: {} and {})",
                table.name,
                one.rows,
                &one.hex()[..16],
                &two.hex()[..16]
            )
        } else {
            format!("{} ({} and {} rows)", table.name, one.rows, two.rows)
        });
    }
    if !differing.is_empty() {
        return Err(wrong(
            exit::DATA,
            format!(
                "the databases differ: {}. The second one is no copy of the first: empty it and copy again",
                differing.join(", ")
            ),
        ));
    }
    output::line(format_args!(
        "已核对 compared: {rows} rows, {:.1} s",
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}

async fn digest(connection: &mut Connection, table: &Table) -> Result<Digest, StoreError> {
    let shape = Shape::read(connection, table).await?;
    shape.digest(connection, None).await
}
