//! The command line: the implementation of each command.
mod acknowledge;
pub mod cli;
mod clock;
mod console;
mod database;
mod mutes;
mod orgs;
mod rules;
mod show;
mod users;

use crate::config::Config;
use crate::notify::peer::{Letter, Peer};
use crate::retention::Floors;
use crate::rules::RuleLoader;
use crate::services::resend_dead;
use crate::{app, ca};
use clap::{CommandFactory, Parser};
use cli::{ApiTokenCommand, Cli, Command, NotificationsCommand, TokenCommand};
use console::{Console, failed};
use linli_domain::notice::Notice;
use linli_shared::service::data_dir;
use linli_shared::service::exit::{self, Failure, config_code, failure, start_logs};
use linli_shared::service::telemetry::LogConfig;
use linli_shared::service::{clock as time, output};
use linli_store::{Store, tokens};
use std::path::Path;
use std::process::ExitCode;

/// Tasks that a thread runs before it looks at its sockets again. Decoding a batch takes a millisecond or
/// two, and an alarm that has arrived must not wait for sixty of them, as the runtime's default has it.
const EVENT_INTERVAL: u32 = 4;

/// Runs the program: parses the command line, carries out the command, maps errors to exit codes.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "linli-hub", &mut script);
            output::text(&script);
            Ok(exit::OK)
        }
        Command::Man { directory } => std::fs::create_dir_all(&directory)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), &directory))
            .map(|()| exit::OK)
            .map_err(|error| failure(exit::IO)(&error)),
        Command::Validate { json } => validate(&cli.config, json),
        command => tokio::runtime::Builder::new_multi_thread()
            .event_interval(EVENT_INTERVAL)
            .enable_all()
            .build()
            .map_err(|error| failure(exit::FAILURE)(&error))
            .and_then(|runtime| runtime.block_on(run(&cli.config, command))),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("linli-hub: {}", failure.text);
            ExitCode::from(failure.code)
        }
    }
}

fn load(path: &Path) -> Result<Config, Failure> {
    Config::load(path).map_err(|error| failure(config_code(&error))(&error))
}

fn validate(path: &Path, json: bool) -> Result<u8, Failure> {
    let config = load(path)?;
    let loader = RuleLoader::new(config.rules_dir.clone(), &config.centre());
    let rules = loader
        .load()
        .map_err(|error| failure(exit::CONFIG)(&error))?;
    let floors = Floors::of(&rules).check(&config.retention);
    floors.map_err(|text| Failure {
        text,
        code: exit::CONFIG,
    })?;
    let untold = loader.untold(&rules, time::wall_ms());
    for channel in &config.channels {
        Peer::open(channel, "").map_err(|error| failure(exit::CONFIG)(&error))?;
    }
    let channels: Vec<&str> = config
        .channels
        .iter()
        .map(|channel| channel.name.as_str())
        .collect();
    let initialised = ca::Files::at(&config.data_dir).root.exists();
    if initialised {
        ca::Authority::load(&config.data_dir, config.certificate_days)
            .map_err(|error| failure(exit::CONFIG)(&error))?;
    }
    let ids: Vec<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
    if json {
        output::line(serde_json::json!({
            "config": path, "valid": true, "rules": ids, "channels": channels,
            "initialised": initialised, "routes_without_channel": untold,
        }));
    } else {
        output::line(format_args!("配置有效 config is valid: {}", path.display()));
        output::line(format_args!("  规则 rules: {}", ids.join(", ")));
        if !channels.is_empty() {
            output::line(format_args!("  通知渠道 channels: {}", channels.join(", ")));
        }
        output::line(format_args!(
            "  证书 certificates: {}",
            if initialised {
                "可用 good"
            } else {
                "尚未初始化 not initialised yet: linli-hub init"
            }
        ));
        for untold in untold {
            output::line(format_args!(
                "  警告 warning: 去向 {} 没有渠道，这些规则的预警不通知任何人 has no channel, nobody is told of the warnings of: {}",
                untold.route,
                untold.rules.join(", ")
            ));
        }
    }
    Ok(exit::OK)
}

async fn run(path: &Path, command: Command) -> Result<u8, Failure> {
    let config = load(path)?;
    if let Command::Serve = command {
        start_logs(&config.log)?;
        let app = app::App::build(config).await.map_err(|error| {
            let code = match &error {
                app::AppError::Rules(error) => config_code(error),
                app::AppError::Ca(_)
                | app::AppError::Tls(_)
                | app::AppError::Channel(_)
                | app::AppError::Seal(_)
                | app::AppError::Oidc(_)
                | app::AppError::Retention(_) => exit::CONFIG,
                app::AppError::Store(_)
                | app::AppError::Writer(_)
                | app::AppError::DataDir(_)
                | app::AppError::InUse(_)
                | app::AppError::Files { .. }
                | app::AppError::Lock { .. } => exit::IO,
                _ => exit::UNAVAILABLE,
            };
            failure(code)(&error)
        })?;
        return app
            .run()
            .await
            .map(|()| exit::OK)
            .map_err(|error| failure(exit::FAILURE)(&error));
    }
    start_logs(&LogConfig {
        level: "warn".to_owned(),
        ..config.log.clone()
    })?;
    if let Command::Init { names, reissue } = command {
        data_dir::prepare(&config.data_dir).map_err(|error| failure(exit::IO)(&error))?;
        let is_made = config.place.is_made().await;
        let is_made = is_made.map_err(|error| failure(exit::IO)(&error))?;
        let made = if reissue {
            ca::reissue(&config.data_dir, &names)
        } else {
            ca::init(&config.data_dir, &names)
        };
        // An init that was cut off after the certificates is ended by the next one; certificates that are
        // there stay, for agents have joined with them.
        let (files, is_new) = match made {
            Err(ca::CaError::Exists(_)) if !is_made => (ca::Files::at(&config.data_dir), false),
            made => made.map(|files| (files, true)).map_err(|error| {
                let code = match &error {
                    ca::CaError::Exists(_) => exit::CONFIG,
                    ca::CaError::Name(_) => exit::USAGE,
                    _ => exit::IO,
                };
                failure(code)(&error)
            })?,
        };
        let keys = linli_store::sealed::init(&config.data_dir)
            .map_err(|error| failure(exit::IO)(&error))?;
        Store::open(&config.place, true)
            .await
            .map_err(|error| failure(exit::IO)(&error))?;
        output::line(format_args!(
            "已初始化 initialised: {}",
            config.data_dir.display()
        ));
        output::line(format_args!(
            "  根证书 root certificate: {}",
            files.root.display()
        ));
        if is_new {
            output::line(format_args!(
                "  中枢证书的名称 names of the hub's certificate: {}",
                ca::hub_names(&names).join(", ")
            ));
        }
        output::line(format_args!(
            "  请离线备份根密钥 keep a copy of the root key offline: {}",
            files.root_key.display()
        ));
        output::line(format_args!(
            "  请离线备份敏感字段密钥，丢失则无法恢复 keep a copy of the keys of sealed fields; without them they are lost: {}",
            keys.display()
        ));
        output::line("下一步 next: linli-hub serve; linli-hub token create --site SITE");
        return Ok(exit::OK);
    }
    if let Command::Rules { command } = &command
        && let Some(code) = rules::without_store(&config, command)?
    {
        return Ok(code);
    }
    if let Command::Db { command } = &command
        && let Some(code) = database::without_store(&config, command).await?
    {
        return Ok(code);
    }
    let store = Store::open(&config.place, false)
        .await
        .map_err(|error| failure(exit::IO)(&error))?;
    with_store(&config, &store, command).await
}

async fn with_store(config: &Config, store: &Store, command: Command) -> Result<u8, Failure> {
    let console = Console::new(config, store);
    let actor = &console.actor;
    match command {
        Command::Token {
            command:
                TokenCommand::Create {
                    site,
                    valid,
                    station,
                },
        } => {
            let root = ca::root_certificate(&ca::Files::at(&config.data_dir))
                .map_err(|error| failure(exit::CONFIG)(&error))?;
            let root = linli_shared::service::tls::fingerprint(&root);
            let grant = tokens::JoinGrant {
                site: site.to_string(),
                station,
            };
            let made = console
                .services
                .create_join_token(actor, root, grant, valid.as_millis());
            let token = made.await.map_err(failed)?;
            output::line(token);
        }
        Command::ApiToken {
            command:
                ApiTokenCommand::Create {
                    name,
                    role,
                    org,
                    valid,
                },
        } => {
            let holder = tokens::Holder { name, role, org };
            let made = console
                .services
                .create_api_token(actor, holder, valid.as_millis());
            let token = made.await.map_err(failed)?;
            output::line(token);
        }
        Command::ApiToken {
            command: ApiTokenCommand::List { json },
        } => show::api_tokens(&console, json).await?,
        Command::ApiToken {
            command: ApiTokenCommand::Revoke { id },
        } => {
            console
                .services
                .revoke_api_token(actor, &id)
                .await
                .map_err(failed)?;
            output::line(format_args!("已吊销 revoked: {id}"));
        }
        Command::Events { site, kind, list } => {
            show::events(&console, site, kind, &list).await?;
        }
        Command::Warnings {
            site,
            rule,
            shadow,
            list,
        } => {
            let console = Console::load(config, store)?;
            show::warnings(&console, site, rule, shadow, &list).await?;
        }
        Command::Cases { site, state, list } => {
            show::cases(&console, site, state, &list).await?;
        }
        Command::Rules { command } => {
            return rules::with_store(config, store, command).await;
        }
        Command::Acknowledge { id, by, note } => {
            let console = Console::load(config, store)?;
            acknowledge::acknowledge(&console, id, &by, &note).await?;
        }
        Command::Mutes { command } => mutes::mutes(&Console::load(config, store)?, command).await?,
        Command::User { command } => users::user(&console, command).await?,
        Command::Audit { command } => users::audit(&console, store, command).await?,
        Command::Org { command } => orgs::run(&console, command).await?,
        Command::Db { command } => database::with_store(config, store, command).await?,
        Command::Retention { command } => database::retention::run(config, store, command).await?,
        Command::Notifications { command } => notifications(config, store, command).await?,
        Command::Clock { command, json } => {
            clock::clock(store, command, json).await?;
        }
        Command::Agents { json } => {
            show::agents(&console, json).await?;
        }
        Command::Init { .. }
        | Command::Serve
        | Command::Validate { .. }
        | Command::Completions { .. }
        | Command::Man { .. } => {}
    }
    Ok(exit::OK)
}

async fn notifications(
    config: &Config,
    store: &Store,
    command: NotificationsCommand,
) -> Result<(), Failure> {
    match command {
        NotificationsCommand::List {
            state,
            channel,
            list,
        } => {
            let console = Console::load(config, store)?;
            show::notifications(&console, state, channel, &list).await
        }
        NotificationsCommand::Resend { id, all_dead: _ } => {
            // Clap sees to it that it is either one or all.
            let which = id.map_or("all dead".to_owned(), |id| id.to_string());
            Console::new(config, store)
                .changes("notifications", format!("resend {which}"))
                .await?;
            let again = resend_dead(store, id).await.map_err(failed)?;
            if let (Some(id), 0) = (id, again) {
                return Err(Failure {
                    text: format!(
                        "there is no dead notification {id}: `linli-hub notifications list --state dead` shows them"
                    ),
                    code: exit::DATA,
                });
            }
            output::line(format_args!("将重新发送 will be sent again: {again}"));
            Ok(())
        }
        NotificationsCommand::Test { channel } => test_channel(config, store, &channel).await,
    }
}

async fn test_channel(config: &Config, store: &Store, name: &str) -> Result<(), Failure> {
    let Some(channel) = config.channels.iter().find(|channel| channel.name == name) else {
        let names: Vec<&str> = config
            .channels
            .iter()
            .map(|channel| channel.name.as_str())
            .collect();
        return Err(Failure {
            text: format!(
                "there is no channel {name:?} in the config; there are: {}",
                names.join(", ")
            ),
            code: exit::USAGE,
        });
    };
    let wrong = failure(exit::CONFIG);
    let source = app::source(&ca::Files::at(&config.data_dir)).map_err(|error| wrong(&error))?;
    let peer = Peer::open(channel, &source).map_err(|error| wrong(&error))?;
    let now_ms = time::wall_ms();
    let letter = Letter {
        id: format!("test/{now_ms}/{name}"),
        notice: Notice::test(now_ms),
    };
    match peer.send(store, &[letter], now_ms).await {
        Ok(answer) => {
            output::line(format_args!("已发送 sent: {name}"));
            let answered = format!("{} {}", answer.status, answer.text.trim());
            output::line(format_args!(
                "  对方应答 the peer answered: {}",
                answered.trim_end()
            ));
            Ok(())
        }
        Err(refused) => Err(Failure {
            text: format!(
                "channel {name:?} did not take the message: {}",
                refused.error()
            ),
            code: exit::UNAVAILABLE,
        }),
    }
}
