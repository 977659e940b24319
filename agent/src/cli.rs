//! The command line.
use clap::{Parser, Subcommand};
use linli_shared::protocol::ids::AgentId;
use std::path::PathBuf;

use crate::import::Format;

/// Default path of the config.
pub const CONFIG_PATH: &str = "/etc/linli/agent.toml";

/// 邻里网关代理：接收门禁、报警和警情数据，落盘后转发到中枢。
/// Gateway agent of Linli: takes events in, makes them durable, forwards them to the hub.
#[derive(Debug, Parser)]
#[command(name = "linli-agent", version, about, max_term_width = 100)]
pub struct Cli {
    /// 配置文件 / Config file
    #[arg(long, global = true, default_value = CONFIG_PATH)]
    pub config: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// 运行 / Run until SIGTERM
    Run,
    /// 检查配置及其引用的文件 / Check the config and everything it names
    Validate {
        /// JSON output
        #[arg(long)]
        json: bool,
    },
    /// 用令牌加入中枢 / Join a hub with a token
    Join {
        /// Hub, HOST:PORT
        hub: String,
        /// File with the token, "-" for standard input
        #[arg(long)]
        token_file: PathBuf,
        /// Name of this agent; default: this machine's host name
        #[arg(long)]
        agent: Option<AgentId>,
        /// Join anew although this agent has joined before
        #[arg(long)]
        force: bool,
    },
    /// 导入历史数据 / Import a backlog from CSV or JSON Lines
    Import {
        /// The file
        file: PathBuf,
        /// Mapping file
        #[arg(long)]
        mapping: PathBuf,
        /// Name of the source that its events carry; default: the mapping file's name
        #[arg(long)]
        source: Option<String>,
        /// Layout of the file; default: by its ending
        #[arg(long)]
        format: Option<Format>,
        /// Write all rejected rows to this file: line, tab, reason
        #[arg(long)]
        rejects: Option<PathBuf>,
        /// Import all rows, also those that an earlier import of the file has answered for
        #[arg(long)]
        again: bool,
        /// 全部作为历史，不产生预警 / All of it is history: for rules that look back and statistics, it raises nothing
        ///
        /// 默认：早于 7 天的为历史。By default what is older than 7 days is history.
        #[arg(long, conflicts_with = "no_history")]
        history: bool,
        /// 全部作为新事件 / None of it is history, however old it is
        #[arg(long)]
        no_history: bool,
        /// 只看会做什么，不导入 / Show what it would do, and import nothing
        #[arg(long)]
        dry_run: bool,
        /// JSON output
        #[arg(long)]
        json: bool,
    },
    /// 查看运行状态 / Show how the running agent stands
    Status {
        /// JSON output
        #[arg(long)]
        json: bool,
    },
    /// 数据源 / Sources
    #[command(subcommand)]
    Source(SourceCommand),
    /// 化名密钥 / The key of pseudonyms
    #[command(subcommand)]
    Pseudonyms(PseudonymsCommand),
    /// 生成命令补全脚本 / Print a shell completion script
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// 生成手册页 / Write man pages into a directory
    Man {
        /// Directory
        directory: PathBuf,
    },
}

/// What to do with sources.
#[derive(Debug, Subcommand)]
pub enum SourceCommand {
    /// 实时查看一个数据源收到的原文和事件，并指出问题 / Show live what arrives at a source, raw beside normalised, and what is wrong
    ///
    /// 代理运行时旁观它所收到的；代理未运行时，本命令自行接收：应答设备，落盘。
    /// While the agent runs, what it takes is watched. While it does not run, this command takes what comes itself: devices
    /// are answered, events are stored.
    Test {
        /// Name of the source in the config
        name: String,
        /// For so many seconds
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// End after so many messages
        #[arg(long)]
        count: Option<u64>,
        /// 心跳也显示原文 / Show signs of life with their raw message too
        #[arg(long)]
        all: bool,
        /// JSON lines
        #[arg(long)]
        json: bool,
    },
}

/// What to do with the key of pseudonyms.
#[derive(Debug, Subcommand)]
pub enum PseudonymsCommand {
    /// 更换密钥；旧密钥即销毁，新旧化名不再对应 / Make a new key; the old one is gone, and old pseudonyms stand alone
    Rotate,
}
