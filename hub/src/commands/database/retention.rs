//! `linli-hub retention`.
use linli_shared::service::exit::{self, Failure, config_code, failure};
use linli_shared::service::{clock, output};
use std::sync::Arc;

use crate::attachments::files::Files;
use crate::commands::cli::RetentionCommand;
use crate::commands::console;
use crate::config::Config;
use crate::retention::sweep;
use crate::retention::{Floors, RetentionWriter, Run};
use crate::rules::RuleLoader;
use linli_store::sealed::Sealer;
use linli_store::{Store, hub_clock, retention};

/// An error while the hub's clock is doubtful: nothing is deleted by a clock that may be wrong.
async fn is_clock_believed(store: &Store) -> Result<(), Failure> {
    let io = failure(exit::IO);
    let mut reader = store.reader().await.map_err(|error| io(&error))?;
    let doubt = hub_clock::doubt(&mut reader).await;
    match doubt.map_err(|error| io(&error))? {
        None => Ok(()),
        Some(doubt) => Err(Failure {
            text: format!(
                "时钟存疑，未删除任何数据；确认时间正确后先执行 linli-hub clock trust / the hub's clock is doubtful \
                 ({}) and nothing was deleted; once the time is right, run: linli-hub clock trust",
                doubt.words()
            ),
            code: exit::REFUSED,
        }),
    }
}

/// Carries out `retention`.
pub async fn run(config: &Config, store: &Store, command: RetentionCommand) -> Result<(), Failure> {
    let io = failure(exit::IO);
    match command {
        RetentionCommand::Run { dry_run, json } => {
            if !dry_run {
                is_clock_believed(store).await?;
            }
            let rules = RuleLoader::new(config.rules_dir.clone(), &config.centre()).load();
            let rules = rules.map_err(|error| failure(config_code(&error))(&error))?;
            let floors = Floors::of(&rules).check(&config.retention);
            floors.map_err(|text| Failure {
                text,
                code: exit::CONFIG,
            })?;
            let sealer = Sealer::load(&config.data_dir);
            let sealer = Arc::new(sealer.map_err(|error| failure(exit::CONFIG)(&error))?);
            let files = Files::beside(&config.data_dir, Arc::clone(&sealer));
            let actor = console::actor().login;
            let run = Run {
                store,
                sealer: &sealer,
                files: &files,
                config: &config.retention,
                rules: &rules,
                actor: &actor,
                now_ms: clock::wall_ms(),
            };
            let deleted = if dry_run {
                run.carry_out(RetentionWriter::Nobody).await
            } else {
                let mut connection = store.connect().await.map_err(|error| io(&error))?;
                run.carry_out(RetentionWriter::Own(&mut connection)).await
            };
            let deleted = deleted.map_err(|error| io(&error))?;
            if json {
                output::line(serde_json::json!({
                    "class": "attachments", "rows": deleted.files, "rule": sweep::RULE, "dry_run": dry_run,
                }));
            } else if deleted.files > 0 {
                output::line(format_args!(
                    "附件文件 files of cases: {} ({})",
                    deleted.files,
                    sweep::RULE
                ));
            }
            for (class, rows) in deleted.rows {
                if json {
                    output::line(serde_json::json!({
                        "class": class.as_str(), "rows": rows, "rule": config.retention.words(class), "dry_run": dry_run,
                    }));
                } else if rows > 0 {
                    let words = if dry_run {
                        "将删除 would go"
                    } else {
                        "已删除 deleted"
                    };
                    output::line(format_args!(
                        "{words}: {} {rows} ({})",
                        class.as_str(),
                        config.retention.words(class)
                    ));
                }
            }
            if dry_run && !json {
                output::line(
                    "试算，未删除；案件删除后其预警才到期 nothing was deleted; warnings of cases are due once these are gone",
                );
            }
        }
        RetentionCommand::List { list } => {
            let mut reader = store.reader().await.map_err(|error| io(&error))?;
            let proofs = retention::list(&mut reader, i64::from(list.limit)).await;
            for proof in proofs.map_err(|error| io(&error))? {
                if list.json {
                    output::line(serde_json::to_string(&proof).unwrap_or_default());
                    continue;
                }
                output::line(format_args!(
                    "#{} {} {} {} {}..{} {} {} {}",
                    proof.number,
                    clock::rfc3339(proof.began_ms),
                    proof.class,
                    proof.deleted,
                    clock::rfc3339(proof.from_ms),
                    clock::rfc3339(proof.to_ms),
                    proof.rule,
                    proof.actor,
                    proof.ids_sha256
                ));
            }
        }
    }
    Ok(())
}
