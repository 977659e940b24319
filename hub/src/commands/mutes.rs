//! `linli-hub mutes`.
use linli_shared::service::exit::{self, Failure, config_code, failure};
use linli_shared::service::{clock, output};

use crate::commands::cli::MutesCommand;
use crate::config::Config;
use crate::ingest::attend;
use crate::rules::RuleLoader;
use linli_domain::warnings::{Mute, MuteState, MuteTerms};
use linli_store::{Store, agents, mutes};

fn wrong(text: String) -> Failure {
    Failure {
        text,
        code: exit::DATA,
    }
}

/// Lists, makes and ends mutes.
pub async fn mutes(config: &Config, store: &Store, command: MutesCommand) -> Result<(), Failure> {
    let io = failure(exit::IO);
    let now_ms = clock::wall_ms();
    match command {
        MutesCommand::List { list } => {
            let found = mutes::list(store.readers(), None, list.limit as usize).await;
            for mute in found.map_err(|error| io(&error))? {
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
            // A mute without a rule does not need the rule files.
            let rules = if mute.rule.is_empty() {
                Vec::new()
            } else {
                let loaded = RuleLoader::new(config.rules_dir.clone(), &config.centre()).load();
                loaded.map_err(|error| failure(config_code(&error))(&error))?
            };
            let mut sites = agents::sites(store.readers())
                .await
                .map_err(|error| io(&error))?;
            sites.extend(config.site.iter().map(|site| site.name.clone()));
            mute.check(&MuteTerms {
                now_ms,
                life_allowed: config.warnings.mute_life,
                rules: &rules,
                sites: &sites,
            })
            .map_err(|(field, message)| wrong(format!("{}: {message}", option(field, is_later))))?;
            let id = store
                .in_transaction(async |connection| attend::mute(connection, &mute, now_ms).await);
            let id = id.await.map_err(|error| io(&error))?;
            output::line(format_args!("已静默 muted: {id}"));
            if mute.rule.is_empty() && !mute.life {
                output::line(
                    "  涉及生命安全的预警仍会通知 people are still told of warnings of life safety",
                );
            }
        }
        MutesCommand::End { id } => {
            let ended =
                store.in_transaction(async |connection| mutes::end(connection, id, now_ms).await);
            if !ended.await.map_err(|error| io(&error))? {
                return Err(wrong(format!(
                    "no mute {id} holds now: `linli-hub mutes list` shows them"
                )));
            }
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
