//! `linli-hub org`: loads, shows and writes the organisations and places.
use linli_shared::service::exit::{self, Failure, failure};
use linli_shared::service::{clock, output};

use crate::commands::cli::OrgCommand;
use linli_domain::audit::COMMAND_LINE;
use linli_domain::orgs::{Answering, Directory, changes, file};
use linli_store::{Store, StoreError, orgs};

/// Carries out a command.
pub async fn run(store: &Store, command: OrgCommand) -> Result<(), Failure> {
    let io = failure(exit::IO);
    match command {
        OrgCommand::Check { file } => {
            let directory = file::read(&file).map_err(|error| failure(exit::CONFIG)(&error))?;
            output::line(format_args!("组织 organisations: {}", directory.orgs.len()));
            output::line(format_args!("地点 places: {}", directory.places.len()));
        }
        OrgCommand::Load { file } => {
            let wanted = file::read(&file).map_err(|error| failure(exit::CONFIG)(&error))?;
            let changed = load(store, &wanted).await.map_err(|error| io(&error))?;
            for (action, words) in [("added", "新增"), ("changed", "变更"), ("retired", "停用")]
            {
                let count = changed.iter().filter(|change| **change == action).count();
                output::line(format_args!("{words} {action}: {count}"));
            }
        }
        OrgCommand::List { json } => {
            let directory = read(store).await.map_err(|error| io(&error))?;
            for org in directory.orgs.values() {
                if json {
                    output::line(serde_json::to_string(org).unwrap_or_default());
                    continue;
                }
                output::line(format_args!(
                    "{} {} {} {}",
                    org.id,
                    org.kind.as_str(),
                    org.name,
                    org.parent
                ));
            }
        }
        OrgCommand::Places { json } => {
            let directory = read(store).await.map_err(|error| io(&error))?;
            for place in directory.places.values() {
                if json {
                    output::line(serde_json::to_string(place).unwrap_or_default());
                    continue;
                }
                let Answering {
                    office,
                    station,
                    grid,
                } = directory.answering(&place.id);
                output::line(format_args!(
                    "{} {} {} {office} {station} {grid}",
                    place.id,
                    place.kind.as_str(),
                    place.name
                ));
            }
        }
    }
    Ok(())
}

async fn read(store: &Store) -> Result<Directory, StoreError> {
    let mut connection = store.connect().await?;
    orgs::read(&mut connection).await
}

/// Makes the stored directory this one; what was done to each entry that is other than before.
async fn load(store: &Store, wanted: &Directory) -> Result<Vec<&'static str>, StoreError> {
    store
        .in_transaction(async |connection| {
            let before = orgs::read(connection).await?;
            let changes = changes(&before, wanted);
            orgs::write(connection, &changes, COMMAND_LINE, clock::wall_ms()).await?;
            Ok(changes
                .iter()
                .map(linli_domain::orgs::Change::action)
                .collect())
        })
        .await
}
