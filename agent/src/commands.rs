//! The commands of the command line: each parses its arguments, builds, runs, and maps errors to exit codes.
use clap::{CommandFactory, Parser};
use linli_shared::protocol::ids::AgentId;
use linli_shared::protocol::token::JoinToken;
use linli_shared::service::clock;
use linli_shared::service::data_dir;
use linli_shared::service::exit::{self, Failure, config_code, failure, start_logs};
use linli_shared::service::output;
use linli_shared::service::telemetry::LogConfig;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::{Cli, Command, PseudonymsCommand, SourceCommand};
use crate::config::Config;
use crate::pseudonym::Pseudonyms;
use crate::source_test::SourceTest;
use crate::{
    admin, app, cli, clock_anchors, config, files, identity, import, intake, join, memory, metrics,
    socket,
};

/// Runs the program.
pub fn main() -> ExitCode {
    memory::prepare();
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "linli-agent", &mut script);
            print(&script)
        }
        Command::Man { directory } => std::fs::create_dir_all(&directory)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), &directory))
            .map(|()| exit::OK)
            .map_err(|error| failure(exit::IO)(&error)),
        Command::Validate { json } => validate(&cli.config, json),
        Command::Run => runtime(2).and_then(|runtime| runtime.block_on(run(&cli.config))),
        command => runtime(1).and_then(|runtime| runtime.block_on(once(&cli.config, command))),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("linli-agent: {}", failure.text);
            ExitCode::from(failure.code)
        }
    }
}

/// Prints the output of a command.
fn print(text: impl AsRef<[u8]>) -> Result<u8, Failure> {
    output::text(text.as_ref());
    Ok(exit::OK)
}

fn runtime(threads: usize) -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| failure(exit::FAILURE)(&error))
}

fn load(path: &Path) -> Result<config::Checked, Failure> {
    Config::load(path).map_err(|error| failure(config_code(&error))(&error))
}

fn validate(path: &Path, json: bool) -> Result<u8, Failure> {
    let checked = load(path)?;
    let identity = identity::Identity::load(&checked.config.data_dir);
    if let Err(error) = &identity
        && !matches!(error, identity::IdentityError::NotJoined(_))
    {
        return Err(failure(identity_code(error))(error));
    }
    let joined = identity
        .as_ref()
        .ok()
        .map(|identity| format!("{} @ {}", identity.agent.agent, identity.agent.site));
    let sources: Vec<&str> = checked
        .sources
        .iter()
        .map(|source| source.settings.name.as_str())
        .collect();
    let devices = checked.sources.iter().flat_map(|source| &source.devices);
    let without_place: Vec<&str> = devices
        .filter(|device| !checked.devices.contains_key(*device))
        .map(String::as_str)
        .collect();
    if json {
        let report = serde_json::json!({
            "config": path, "valid": true, "joined": joined,
            "sources": sources, "places": checked.devices.len(), "without_place": without_place,
        });
        return print(format!("{report}\n"));
    }
    print(format!(
        "配置有效 config is valid: {}\n  数据源 sources: {}\n  位置 places: {}\n  身份 identity: {}\n{}",
        path.display(),
        sources.join(", "),
        checked.devices.len(),
        joined.as_deref().unwrap_or("尚未加入 not joined yet"),
        placeless(&without_place),
    ))
}

/// A warning: rules about buildings never match a device without a building.
fn placeless(devices: &[&str]) -> String {
    const SHOWN_MAX: usize = 20;
    if devices.is_empty() {
        return String::new();
    }
    let shown = devices[..devices.len().min(SHOWN_MAX)].join(", ");
    format!(
        "  注意：{} 台设备没有位置，按楼栋的预警规则听不到它们，请补 [[device]] / devices without a place, of which rules about \
         buildings hear nothing; add [[device]]: {shown}{}\n",
        devices.len(),
        if devices.len() > SHOWN_MAX {
            " …"
        } else {
            ""
        }
    )
}

/// An inaccessible directory may be repaired without a change of the config.
fn identity_code(error: &identity::IdentityError) -> u8 {
    match error {
        identity::IdentityError::Look { .. } => exit::IO,
        _ => exit::CONFIG,
    }
}

async fn run(path: &Path) -> Result<u8, Failure> {
    let checked = load(path)?;
    start_logs(&checked.config.log)?;
    let app = app::App::build(checked).await.map_err(|error| {
        let code = match &error {
            app::AppError::Identity(error) => identity_code(error),
            app::AppError::DataDir(_) | app::AppError::Spool(_) => exit::IO,
            _ => exit::UNAVAILABLE,
        };
        failure(code)(&error)
    })?;
    app.run()
        .await
        .map(|()| exit::OK)
        .map_err(|error| failure(exit::FAILURE)(&error))
}

async fn once(path: &Path, command: Command) -> Result<u8, Failure> {
    // Join works before there is a config: defaults suffice, unless a config was requested or is there and wrong.
    let defaults_do =
        matches!(command, Command::Join { .. }) && path == Path::new(cli::CONFIG_PATH);
    let checked = if path.exists() || !defaults_do {
        load(path)?
    } else {
        config::Checked {
            config: Config::default(),
            pushes: Default::default(),
            sources: Default::default(),
            devices: Default::default(),
            station: None,
        }
    };
    start_logs(&LogConfig {
        level: "warn".to_owned(),
        ..checked.config.log.clone()
    })?;
    match command {
        Command::Join {
            hub,
            token_file,
            agent,
            force,
        } => join(&checked.config, &hub, &token_file, agent, force).await,
        Command::Import {
            file,
            mapping,
            source,
            format,
            rejects,
            again,
            history,
            no_history,
            dry_run,
            json,
        } => {
            let name = source.unwrap_or_else(|| {
                mapping
                    .file_stem()
                    .map(|stem| stem.to_string_lossy().into_owned())
                    .unwrap_or_default()
            });
            let mapping_path = mapping;
            let mapping = files::load_mapping(&name, &mapping_path)
                .map_err(|error| failure(exit::CONFIG)(&error))?;
            let format = format
                .or_else(|| import::Format::of(&file))
                .ok_or_else(|| Failure {
                    text: format!(
                        "{file:?} ends neither in .csv nor in .jsonl: say --format csv or --format jsonl"
                    ),
                    code: exit::USAGE,
                })?;
            let import = import::Import {
                path: &file,
                format,
                source: &name,
                mapping: &mapping,
                mapping_path: &mapping_path,
                rejects_path: rejects.as_deref(),
                data_dir: &checked.config.data_dir,
                gateway: clock_anchors::gateway(
                    &checked.config.data_dir,
                    clock::boot_id().unwrap_or_default(),
                ),
                again,
                mode: match (history, no_history) {
                    (true, _) => import::history::Mode::All,
                    (_, true) => import::history::Mode::None,
                    _ => import::history::Mode::ByAge,
                },
                skew_ms: hub_skew_ms(&checked.config).await,
            };
            let preview = import.preview();
            if dry_run {
                let preview = preview.map_err(|error| import_failure(&error))?;
                print(if json {
                    let text = serde_json::to_string(&preview)
                        .map_err(|error| failure(exit::FAILURE)(&error))?;
                    format!("{text}\n")
                } else {
                    preview.text()
                })?;
                return Ok(exit::OK);
            }
            // A file that is damaged in its middle is imported up to there; then the import reports the damage.
            if !json && let Ok(preview) = preview {
                print(preview.text())?;
            }
            run_import(&checked.config, &import, json).await
        }
        Command::Source(SourceCommand::Test {
            name,
            seconds,
            count,
            all,
            json,
        }) => {
            let test = SourceTest {
                name,
                lasts: Duration::from_secs(seconds),
                count,
                all,
                json,
            };
            test.run(checked).await
        }
        Command::Pseudonyms(PseudonymsCommand::Rotate) => rotate(&checked.config).await,
        Command::Status { json } => status(&checked.config, json).await,
        Command::Run
        | Command::Validate { .. }
        | Command::Completions { .. }
        | Command::Man { .. } => Ok(exit::OK),
    }
}

async fn join(
    config: &Config,
    hub: &str,
    token_file: &Path,
    agent: Option<AgentId>,
    force: bool,
) -> Result<u8, Failure> {
    let mut text = String::new();
    let read = if token_file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(|_| ())
    } else {
        std::fs::read_to_string(token_file).map(|read| text = read)
    };
    read.map_err(|error| Failure {
        text: format!("cannot read the token from {token_file:?}: {error}"),
        code: exit::IO,
    })?;
    let token: JoinToken = text
        .parse()
        .map_err(|error: linli_shared::protocol::token::TokenError| failure(exit::USAGE)(&error))?;
    let agent = match agent {
        Some(agent) => agent,
        None => rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .parse()
            .map_err(|error: linli_shared::protocol::ids::NameError| Failure {
                text: format!("{error}; say --agent NAME"),
                code: exit::USAGE,
            })?,
    };
    let name = agent.to_string();
    let joined = join::join(&config.data_dir, hub, &token, agent, force)
        .await
        .map_err(|error| {
            let code = match &error {
                join::JoinError::Refused { .. } | join::JoinError::Already(_) => exit::REFUSED,
                join::JoinError::Files { .. }
                | join::JoinError::DataDir(_)
                | join::JoinError::Look(_) => exit::IO,
                _ => exit::UNAVAILABLE,
            };
            failure(code)(&error)
        })?;
    print(format!(
        "已加入 joined: {name} @ {}\n下一步 next: linli-agent run\n",
        joined.site
    ))
}

async fn run_import(
    config: &Config,
    import: &import::Import<'_>,
    json: bool,
) -> Result<u8, Failure> {
    // Before anything is made in it: a mark is, even if the running agent stores the rows.
    data_dir::prepare(&config.data_dir).map_err(|error| failure(exit::IO)(&error))?;
    let socket = admin::socket_path(&config.data_dir);
    let running = tokio::net::UnixStream::connect(&socket).await.is_ok();
    let (target, spools) = if running {
        (import::Target::Running(socket), None)
    } else {
        let spools = app::Spools::open(config).map_err(|error| failure(exit::IO)(&error))?;
        let boot = clock::boot_id().map_err(|error| failure(exit::IO)(&error))?;
        let metrics = metrics::Metrics::new().map_err(|error| failure(exit::FAILURE)(&error))?;
        let intake = intake::Intake::new(
            spools.handles.clone(),
            boot,
            clock_anchors::gateway(&config.data_dir, boot),
            metrics,
        );
        (import::Target::Spool(Box::new(intake)), Some(spools))
    };
    let (summary, outcome) = import.run(&target).await;
    drop(target);
    if let Some(spools) = spools {
        // Blocks until the last sync; nothing else runs here.
        tokio::task::block_in_place(|| spools.close());
    }
    if outcome.is_ok() || summary.rows > 0 {
        print(if json {
            let text =
                serde_json::to_string(&summary).map_err(|error| failure(exit::FAILURE)(&error))?;
            format!("{text}\n")
        } else {
            summary.text()
        })?;
    }
    outcome.map_err(|error| import_failure(&error))?;
    // If the mapping leaves out every row, the file or the mapping is probably the wrong one.
    let is_nothing = summary.rows > 0 && summary.filtered == summary.rows;
    Ok(
        if summary.rejected > 0 || summary.conflicts > 0 || is_nothing {
            exit::DATA
        } else {
            exit::OK
        },
    )
}

fn import_failure(error: &import::ImportError) -> Failure {
    let code = match error {
        import::ImportError::Socket { .. } | import::ImportError::Submit { .. } => {
            exit::UNAVAILABLE
        }
        import::ImportError::Header(_)
        | import::ImportError::Other { .. }
        | import::ImportError::NoColumn { .. }
        | import::ImportError::Empty(_)
        | import::ImportError::NotAFile(_)
        | import::ImportError::Unclosed { .. } => exit::DATA,
        _ => exit::IO,
    };
    failure(code)(error)
}

/// How far this clock is ahead of the hub's, by the running agent; 0 if unknown.
async fn hub_skew_ms(config: &Config) -> i64 {
    let socket = admin::socket_path(&config.data_dir);
    let answered = socket::call(&socket, hyper::Method::GET, "/v1/status", Vec::new()).await;
    let status = answered
        .ok()
        .and_then(|bytes| serde_json::from_slice::<admin::Status>(&bytes).ok());
    status
        .and_then(|status| status.clock_skew_ms)
        .unwrap_or_default()
}

/// Rotates in the running agent, which would otherwise continue with the old key, or here.
async fn rotate(config: &Config) -> Result<u8, Failure> {
    let socket = admin::socket_path(&config.data_dir);
    let uri = "/v1/pseudonyms/rotate";
    let number: u64 = if tokio::net::UnixStream::connect(&socket).await.is_ok() {
        let bytes = socket::call(&socket, hyper::Method::POST, uri, Vec::new())
            .await
            .map_err(|error| failure(exit::UNAVAILABLE)(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| failure(exit::FAILURE)(&error))?
    } else {
        let now_ms = clock::wall_ms();
        Pseudonyms::load(&config.data_dir, &config.pseudonyms, now_ms)
            .rotate(now_ms)
            .map_err(|error| failure(exit::CONFIG)(&error))?
    };
    print(format!("化名密钥已更换 pseudonyms have key {number} now\n"))
}

async fn status(config: &Config, json: bool) -> Result<u8, Failure> {
    let socket = admin::socket_path(&config.data_dir);
    let bytes = socket::call(&socket, hyper::Method::GET, "/v1/status", Vec::new())
        .await
        .map_err(|error| failure(exit::UNAVAILABLE)(&error))?;
    if json {
        return print([bytes.as_ref(), b"\n"].concat());
    }
    let status: admin::Status =
        serde_json::from_slice(&bytes).map_err(|error| failure(exit::FAILURE)(&error))?;
    print(status.text())
}
