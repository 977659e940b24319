//! `linli-hub mutes`.
use linli_shared::service::exit::{self, Failure};
use linli_shared::service::{clock, output};

use super::console::{Console, failed};
use crate::commands::cli::MutesCommand;
use crate::services::ServiceError;
use linli_domain::warnings::{Mute, MuteState};

fn wrong(text: String) -> Failure {
    Failure {
        text,
        code: exit::DATA,
    }
}

/// Lists, makes and ends mutes.
pub async fn mutes(console: &Console, command: MutesCommand) -> Result<(), Failure> {
    let now_ms = clock::wall_ms();
    match command {
        MutesCommand::List { list } => {
            let limit = list.limit as usize;
            let found = console.services.mutes(&console.actor, limit, None).await;
            for mute in found.map_err(failed)?.items {
                if list.json {
                    output::line(serde_json::to_string(&mute).unwrap_or_default());
                    continue;
                }
                let state = MuteState::at(now_ms, mute.from_ms, mute.until_ms, mute.ended_ms);
                output::line(format_args!(
                    "#{} {} … {} {} {} {} {} {}",
                    mute.id,
                    clock::rfc3339(mute.from_ms),
                    clock::rfc3339(mute.ended_ms.unwrap_or(mute.until_ms)),
                    state.words(),
                    [mute.rule, mute.site, mute.key].join(" ").trim(),
                    mute.owner,
                    mute.reason,
                    if mute.life {
                        "含生命安全 life too"
                    } else {
                        ""
                    },
                ));
            }
        }
        MutesCommand::Add {
            rule,
            site,
            key,
            reason,
            owner,
            from,
            lasting,
            life,
        } => {
            let from_ms = from.map_or(now_ms, jiff::Timestamp::as_millisecond);
            let mute = Mute {
                id: 0,
                rule,
                site,
                key,
                reason,
                owner,
                from_ms,
                until_ms: from_ms.saturating_add(lasting.as_millis()),
                life,
            };
            let is_later = from.is_some();
            console
                .changes("mutes", format!("add by {}", mute.owner))
                .await?;
            let (rule, life) = (mute.rule.clone(), mute.life);
            let added = console.services.add_mute(&console.actor, mute).await;
            let id = added.map_err(|error| match error {
                ServiceError::Invalid { field, message } => {
                    wrong(format!("{}: {message}", option(&field, is_later)))
                }
                error => failed(error),
            })?;
            output::line(format_args!("已静默 muted: {id}"));
            if rule.is_empty() && !life {
                output::line(
                    "  涉及生命安全的预警仍会通知 people are still told of warnings of life safety",
                );
            }
        }
        MutesCommand::End { id } => {
            console
                .changes(&format!("mute/{id}"), "end".to_owned())
                .await?;
            let ended = console.services.end_mute(&console.actor, id).await;
            ended.map_err(|error| match error {
                ServiceError::Missing { detail, .. } => {
                    wrong(format!("{detail}: `linli-hub mutes list` shows them"))
                }
                error => failed(error),
            })?;
            output::line(format_args!("已结束 over: {id}"));
        }
    }
    Ok(())
}

/// The option that gives a field of a mute.
fn option(field: &str, is_later: bool) -> String {
    match field {
        "until" if is_later => "--from, --for".to_owned(),
        "until" => "--for".to_owned(),
        field => format!("--{field}"),
    }
}
