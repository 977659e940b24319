//! The files of cases, which stand in `attachments` beside a database: in the data directory, and beside a backup.
//!
//! They go with the database, one by one: what is there and whole is not copied again, so backups into one directory
//! share their files. What no backup there refers to any more is not deleted: who deletes old backups makes a new
//! directory now and then, and deletes the old one as a whole.
use linli_shared::service::exit::{self, Failure, failure};
use linli_shared::service::{output, telemetry};
use std::path::Path;
use std::sync::Arc;

use super::{io, wrong};
use crate::attachments::files::Files;
use crate::config::Config;
use linli_store::attachments::{self, Referred};
use linli_store::sealed::Sealer;
use linli_store::{Connection, Place, Store, StoreError, catalogue};

/// Rows that are read at once.
const PAGE: i64 = 500;

/// A file that is missing or damaged.
struct Bad {
    of: Referred,
    why: String,
}

/// The files beside a database, with the keys of this hub.
fn beside(config: &Config, directory: &Path) -> Result<Files, Failure> {
    let sealer = Sealer::load(&config.data_dir);
    let sealer = sealer.map_err(|error| failure(exit::CONFIG)(&error))?;
    Ok(Files::beside(directory, Arc::new(sealer)))
}

/// Where a file of a database is.
fn directory_of(file: &Path) -> &Path {
    let parent = file.parent().filter(|path| !path.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// The files that a database refers to after a row; none if it is older than files of cases.
async fn page(connection: &mut Connection, after: (i64, i64)) -> Result<Vec<Referred>, StoreError> {
    if after == (0, 0) {
        let there = catalogue::there(connection).await?.unwrap_or_default();
        if !there.iter().any(|table| table.name == "attachments") {
            return Ok(Vec::new());
        }
    }
    attachments::after(connection, after, PAGE).await
}

/// Does something with each file; how many there are, and those with which it did not go well.
async fn each(
    connection: &mut Connection,
    mut act: impl FnMut(&Referred) -> Result<(), linli_store::sealed::file::FileError>,
) -> Result<(u64, Vec<Bad>), Failure> {
    let (mut after, mut count, mut bad) = ((0, 0), 0, Vec::new());
    loop {
        let page = page(connection, after).await.map_err(|error| io(&error))?;
        let Some(last) = page.last() else {
            return Ok((count, bad));
        };
        after = (last.case_id, last.number);
        for of in page {
            count += 1;
            if let Err(error) = act(&of) {
                let why = telemetry::chain(&error);
                bad.push(Bad { of, why });
            }
        }
    }
}

/// Names each case that misses something.
fn say(bad: &[Bad], what: &str) -> Result<(), Failure> {
    for Bad { of, why } in bad {
        output::line(format_args!(
            "附件缺失或损坏 a file is missing or damaged: case {} #{}: {why} ({})",
            of.code, of.number, of.digest
        ));
    }
    if bad.is_empty() {
        return Ok(());
    }
    Err(wrong(
        exit::DATA,
        format!(
            "{what}: {} files of cases are missing or damaged",
            bad.len()
        ),
    ))
}

/// Reads all files of a database to their ends.
async fn check(connection: &mut Connection, files: &Files, what: &str) -> Result<(), Failure> {
    let (count, bad) = each(connection, |of| files.verify(&of.digest, of.bytes)).await?;
    say(&bad, what)?;
    output::line(format_args!("附件完好 files of cases are whole: {count}"));
    Ok(())
}

/// The files of the hub's own database.
pub async fn check_own(config: &Config, store: &Store) -> Result<(), Failure> {
    let mut connection = store.connect().await.map_err(|error| io(&error))?;
    let files = beside(config, &config.data_dir)?;
    check(&mut connection, &files, &config.place.to_string()).await
}

/// The files beside a backup.
pub async fn check_file(
    config: &Config,
    connection: &mut Connection,
    file: &Path,
) -> Result<(), Failure> {
    let there = page(connection, (0, 0)).await.map_err(|error| io(&error))?;
    if there.is_empty() {
        return Ok(());
    }
    let files = beside(config, directory_of(file))?;
    check(connection, &files, &file.display().to_string()).await
}

/// Copies the files that a database refers to; a missing or damaged one is named, the others are copied.
async fn copy(
    config: &Config,
    connection: &mut Connection,
    from: &Path,
    to: &Path,
    is_wanted: impl AsyncFn(&Referred) -> Result<bool, StoreError>,
) -> Result<(), Failure> {
    let there = page(connection, (0, 0)).await.map_err(|error| io(&error))?;
    if there.is_empty() {
        return Ok(());
    }
    let (from, to) = (beside(config, from)?, beside(config, to)?);
    let mut copied = 0_u64;
    let (count, found) = each(connection, |of| {
        copied += u64::from(to.copy_from(&from, &of.digest, of.bytes)?);
        Ok(())
    })
    .await?;
    output::line(format_args!(
        "附件 files of cases: {count}，其中新复制 copied now: {copied} ({})",
        to.root().display()
    ));
    let mut bad = Vec::new();
    for found in found {
        if is_wanted(&found.of).await.map_err(|error| io(&error))? {
            bad.push(found);
        }
    }
    say(&bad, "the rest is there")
}

/// Puts the files of a backup beside it.
pub async fn back_up(config: &Config, store: &Store, file: &Path) -> Result<(), Failure> {
    let place = Place::Sqlite(file.to_owned());
    let mut backup = place.connect().await.map_err(|error| io(&error))?;
    // A file that was removed and deleted since the backup's moment is not missing.
    let is_wanted = async |of: &Referred| {
        let mut now = store.connect().await?;
        let digests = std::slice::from_ref(&of.digest);
        Ok(!attachments::referred(&mut now, digests).await?.is_empty())
    };
    copy(
        config,
        &mut backup,
        &config.data_dir,
        directory_of(file),
        is_wanted,
    )
    .await
}

/// Brings the files of a backup back.
pub async fn restore(config: &Config, file: &Path) -> Result<(), Failure> {
    let place = Place::Sqlite(file.to_owned());
    let mut backup = place.connect().await.map_err(|error| io(&error))?;
    copy(
        config,
        &mut backup,
        directory_of(file),
        &config.data_dir,
        async |_: &Referred| Ok(true),
    )
    .await
}

/// After a copy of the database: a file has them beside it, those of a server's hub are in its data directory.
pub async fn follow(config: &Config, store: &Store, place: &Place) -> Result<(), Failure> {
    let root = config.data_dir.join("attachments");
    let Place::Sqlite(file) = place else {
        if root.exists() {
            output::line(format_args!(
                "附件留在原处，须随数据目录带走 files of cases stay where they are, and belong to the data directory of \
                 the hub that uses the copy: {}/",
                root.display()
            ));
        }
        return Ok(());
    };
    let directory = directory_of(file);
    let mut connection = store.connect().await.map_err(|error| io(&error))?;
    copy(
        config,
        &mut connection,
        &config.data_dir,
        directory,
        async |_: &Referred| Ok(true),
    )
    .await
}
