//! `linli-hub rules …`
use linli_shared::service::exit::{self, Failure, config_code, failure};
use linli_shared::service::output;
use std::sync::Arc;

use super::console::{Console, failed};
use crate::commands::cli::RulesCommand;
use crate::config::Config;
use crate::rules::RuleLoader;
use crate::services::ServiceError;
use crate::services::rules::RuleView;
use backtest::Period;
use linli_domain::correlate::rule::Rule;
use linli_domain::correlate::trial;
use linli_store::Store;

mod backtest;
mod explain;
mod why_not;

fn load(loader: &RuleLoader) -> Result<Vec<Arc<Rule>>, Failure> {
    loader
        .load()
        .map_err(|error| failure(config_code(&error))(&error))
}

fn loader(config: &Config, directory: Option<&std::path::PathBuf>) -> RuleLoader {
    let loader = RuleLoader::new(config.rules_dir.clone(), &config.centre());
    match directory {
        Some(directory) => loader.of_directory(directory.clone()),
        None => loader,
    }
}

/// Commands that need the files only; `None`: the command needs the store.
pub fn without_store(config: &Config, command: &RulesCommand) -> Result<Option<u8>, Failure> {
    match command {
        RulesCommand::Check { directory } => {
            let rules = load(&loader(config, directory.as_ref()))?;
            output::line(format_args!("规则有效 rules are valid: {}", rules.len()));
            for rule in rules.iter().filter(|rule| !rule.runs(now_ms())) {
                let why = if rule.enabled {
                    "已到期 expired"
                } else {
                    "已停用 switched off"
                };
                output::line(format_args!("  {}: {why}", rule.id));
            }
            Ok(Some(exit::OK))
        }
        RulesCommand::Test { directory, rule } => {
            let rules = load(&loader(config, directory.as_ref()))?;
            test(&rules, rule.as_deref()).map(Some)
        }
        RulesCommand::List { json } => {
            for rule in load(&loader(config, None))? {
                let view = RuleView::of(&rule);
                if *json {
                    output::line(serde_json::to_string(&view).unwrap_or_default());
                    continue;
                }
                output::line(format_args!(
                    "{:28} {:9} {:8} {} {}{}",
                    view.id,
                    view.kind,
                    view.severity,
                    view.name,
                    if view.shadow { "试运行 shadow " } else { "" },
                    if view.running { "" } else { "停用 off" },
                ));
            }
            Ok(Some(exit::OK))
        }
        RulesCommand::Why { .. } | RulesCommand::WhyNot { .. } | RulesCommand::Backtest { .. } => {
            Ok(None)
        }
    }
}

fn now_ms() -> i64 {
    linli_shared::service::clock::wall_ms()
}

fn test(rules: &[Arc<Rule>], only: Option<&str>) -> Result<u8, Failure> {
    let mut wrong = 0;
    let mut run = 0;
    let wanted = |rule: &&Arc<Rule>| only.is_none_or(|only| only == rule.id);
    for rule in rules.iter().filter(wanted) {
        for entry in &rule.trials {
            run += 1;
            let differences = trial::run(rule, entry);
            let mark = if differences.is_empty() { "√" } else { "×" };
            output::line(format_args!("{mark} {} · {}", rule.id, entry.name));
            for difference in &differences {
                output::line(format_args!("    {difference}"));
            }
            wrong += usize::from(!differences.is_empty());
        }
    }
    if let (Some(only), 0) = (only, run) {
        return Err(Failure {
            text: format!(
                "there is no rule {only:?} with tests: `linli-hub rules list` shows the rules"
            ),
            code: exit::USAGE,
        });
    }
    output::line(format_args!("测试 tests: {run}, 未过 failed: {wrong}"));
    Ok(if wrong == 0 { exit::OK } else { exit::DATA })
}

/// Commands that read the store.
pub async fn with_store(
    config: &Config,
    store: &Store,
    command: RulesCommand,
) -> Result<u8, Failure> {
    let io = failure(exit::IO);
    let offices = config.centre().offices();
    match command {
        RulesCommand::Why { warning, json } => {
            let rules = load(&loader(config, None))?;
            let console = Console::with_rules(config, store, rules.clone());
            let object = format!("warning/{warning}");
            console.reads(&object, "why".to_owned()).await?;
            let shown = console.services.warning(&console.actor, warning).await;
            let shown = shown.map_err(|error| match error {
                ServiceError::Missing { detail, .. } => Failure {
                    text: format!("{detail}: `linli-hub warnings` shows them"),
                    code: exit::DATA,
                },
                error => failed(error),
            })?;
            explain::why(store, &rules, shown, json)
                .await
                .map_err(|error| io(&error))?;
        }
        RulesCommand::WhyNot { rule, key, at } => {
            let rules = load(&loader(config, None))?;
            let console = Console::with_rules(config, store, rules.clone());
            let shown = |known: &&Arc<Rule>| {
                known.id == rule && console.services.shows_rule(&console.actor, known)
            };
            let Some(rule) = rules.iter().find(shown) else {
                return Err(Failure {
                    text: format!("there is no rule {rule:?}: `linli-hub rules list` shows them"),
                    code: exit::USAGE,
                });
            };
            why_not::check_key(rule, &key).map_err(|text| Failure {
                text,
                code: exit::USAGE,
            })?;
            let at_ms = at.map_or_else(now_ms, jiff::Timestamp::as_millisecond);
            let object = format!("rule/{}", rule.id);
            console.reads(&object, format!("why-not {key}")).await?;
            why_not::why_not(store, rule, offices, &key, at_ms)
                .await
                .map_err(|error| io(&error))?;
        }
        RulesCommand::Backtest {
            from,
            to,
            directory,
            json,
        } => {
            let rules = load(&loader(config, directory.as_ref()))?;
            let period = Period {
                from_ms: from.as_millisecond(),
                to_ms: to.as_millisecond(),
            };
            if period.from_ms >= period.to_ms {
                return Err(Failure {
                    text: "--from must be before --to".to_owned(),
                    code: exit::USAGE,
                });
            }
            let console = Console::with_rules(config, store, rules.clone());
            let rules: Vec<Arc<Rule>> = rules
                .into_iter()
                .filter(|rule| console.services.shows_rule(&console.actor, rule))
                .collect();
            let detail = format!("{} to {}", period.from_ms, period.to_ms);
            console.reads("rules/backtest", detail).await?;
            let differences = backtest::backtest(store, &rules, offices, period)
                .await
                .map_err(|error| io(&error))?;
            backtest::show(&differences, json);
        }
        RulesCommand::Check { .. } | RulesCommand::Test { .. } | RulesCommand::List { .. } => {}
    }
    Ok(exit::OK)
}
