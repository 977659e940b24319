//! `linli-hub org`: loads, shows and writes the organisations and places.
use linli_shared::service::exit::{self, Failure, failure};
use linli_shared::service::output;

use super::console::{Console, failed};
use crate::commands::cli::OrgCommand;
use linli_domain::orgs::{Answering, file};

/// Carries out a command.
pub async fn run(console: &Console, command: OrgCommand) -> Result<(), Failure> {
    match command {
        OrgCommand::Check { file } => {
            let directory = file::read(&file).map_err(|error| failure(exit::CONFIG)(&error))?;
            output::line(format_args!("组织 organisations: {}", directory.orgs.len()));
            output::line(format_args!("地点 places: {}", directory.places.len()));
        }
        OrgCommand::Load { file } => {
            let wanted = file::read(&file).map_err(|error| failure(exit::CONFIG)(&error))?;
            let changed = console
                .services
                .change_directory(&console.actor, "orgs", |directory| *directory = wanted);
            let changed = changed.await.map_err(failed)?;
            for (action, words) in [("added", "新增"), ("changed", "变更"), ("retired", "停用")]
            {
                let count = changed.iter().filter(|change| **change == action).count();
                output::line(format_args!("{words} {action}: {count}"));
            }
        }
        OrgCommand::List { json } => {
            let directory = console.services.directory().await.map_err(failed)?;
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
            let directory = console.services.directory().await.map_err(failed)?;
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
