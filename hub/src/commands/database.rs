//! `linli-hub db`: the database as a whole, copied to the other engine, backed up, checked, restored.
//!
//! * `copy` takes all tables of the catalogue into an empty database, from one snapshot of the source, and compares
//!   both at the end (`copy`). The hub may run meanwhile; what comes after the snapshot is not copied. To move a hub
//!   for good it is stopped first.
//! * `compare` is that comparison alone. If hubs run on either, it finds their changes since.
//! * `backup` makes a file that is whole in itself while the hub runs, `check` reads one to its end, `restore` makes it
//!   the database of a data directory that has none (`backup`).
//!
//! `retention` is `linli-hub retention`: what the job does by itself, now, and its proofs.
//!
//! The files of cases (`attachments/`) go with the database (`attachments`). All of it is about these two and nothing
//! else. The hub's certificates (`ca/`) and the keys of sealed fields
//! (`fields.key`) belong to it and are kept apart, so that who has a backup cannot read what is sealed in it; every
//! command that moves a database says so. Copies and backups are noted in the audit log before they are made, for they
//! are a reading of all that there is.
mod attachments;
mod backup;
mod copy;
pub mod retention;

use linli_shared::service::exit::{self, Failure, failure};
use linli_shared::service::output;
use std::path::Path;

use super::console::{actor, failed};
use crate::commands::cli::DbCommand;
use crate::config::Config;
use crate::ingest::people_changes::PeopleChange;
use crate::services::Writes;
use linli_store::{Place, Store, StoreError};

fn wrong(code: u8, text: impl Into<String>) -> Failure {
    Failure {
        text: text.into(),
        code,
    }
}

fn io(error: &StoreError) -> Failure {
    failure(exit::IO)(error)
}

/// Commands that need no database of the config; `None` if the command is another.
pub async fn without_store(config: &Config, command: &DbCommand) -> Result<Option<u8>, Failure> {
    match command {
        DbCommand::Check { file: Some(file) } => backup::check(config, file).await?,
        DbCommand::Restore { file } => backup::restore(config, file).await?,
        _ => return Ok(None),
    }
    Ok(Some(exit::OK))
}

/// Commands on the database of the config.
pub async fn with_store(config: &Config, store: &Store, command: DbCommand) -> Result<(), Failure> {
    match command {
        DbCommand::Copy {
            to,
            to_password_file,
            resume,
        } => {
            let place = place(&to, to_password_file.as_deref())?;
            note(store, "database.copied", &place.to_string()).await?;
            copy::copy(store, &place, resume).await?;
            belongings(config);
            attachments::follow(config, store, &place).await
        }
        DbCommand::Compare {
            to,
            to_password_file,
        } => {
            let place = place(&to, to_password_file.as_deref())?;
            let other = Store::open_unfinished(&place, false)
                .await
                .map_err(|error| io(&error))?;
            copy::compare(store, &other).await
        }
        DbCommand::Backup { file } => backup::backup(config, store, &file).await,
        DbCommand::Check { file: None } => attachments::check_own(config, store).await,
        DbCommand::Check { .. } | DbCommand::Restore { .. } => Ok(()),
    }
}

/// Where `--to` is: an address of a server, or a file.
fn place(to: &str, password_file: Option<&Path>) -> Result<Place, Failure> {
    let usage = |text: String| wrong(exit::USAGE, text);
    if !to.contains("://") {
        if password_file.is_some() {
            return Err(usage(
                "--to-password-file: a file has no password".to_owned(),
            ));
        }
        let path = Path::new(to);
        return Ok(Place::Sqlite(if path.is_dir() {
            path.join("hub.db")
        } else {
            path.to_owned()
        }));
    }
    let password = password_file.map(|path| {
        std::fs::read_to_string(path)
            .map_err(|error| usage(format!("--to-password-file {}: {error}", path.display())))
    });
    let password = password.transpose()?;
    let password = password
        .as_deref()
        .map(|text| text.trim_end_matches(['\r', '\n']));
    Place::postgres(to, password).map_err(|message| usage(format!("--to {message}")))
}

/// Notes in the audit log that all of the database is read.
async fn note(store: &Store, action: &str, to: &str) -> Result<(), Failure> {
    let note = PeopleChange::Note {
        action: action.to_owned(),
        object: "database".to_owned(),
        reason: String::new(),
        detail: to.to_owned(),
    };
    let (writes, actor) = (Writes::Own(store.clone()), actor());
    let noted = writes.people(note, &actor.login).await;
    noted.map(|_| ()).map_err(failed)
}

/// Names the files that belong to the database.
fn belongings(config: &Config) {
    output::line(format_args!(
        "不含证书与密钥，请另行妥善保存 without certificates and keys; keep these apart and safe: {}/ {}",
        config.data_dir.join("ca").display(),
        linli_store::sealed::key_file(&config.data_dir).display()
    ));
}
