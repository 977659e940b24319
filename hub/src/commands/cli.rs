//! The command line.
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use linli_shared::protocol::ids::SiteId;
use linli_shared::service::config::Span;
use std::path::PathBuf;

use linli_domain::rights::Role;

/// 邻里中枢：汇集事件、关联预警、办理案件。
/// Hub of Linli: stores events once, correlates, raises warnings, opens cases.
#[derive(Debug, Parser)]
#[command(name = "linli-hub", version, about, max_term_width = 100)]
pub struct Cli {
    /// 配置文件 / Config file
    #[arg(long, global = true, default_value = "/etc/linli/hub.toml")]
    pub config: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The roles, each with what it does.
fn role() -> impl TypedValueParser<Value = Role> {
    let known = Role::ALL.map(|role| PossibleValue::new(role.as_str()).help(role.words()));
    PossibleValuesParser::new(known).try_map(|name| Role::from_name(&name).ok_or("no role"))
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// 初始化：生成根证书、中枢证书和数据库 / Make the CA, the hub's certificate and the database
    Init {
        /// Host name or address under which the API is reached; can be repeated
        #[arg(long = "name")]
        names: Vec<String>,
        /// A new certificate for the hub with these names; root, agents and data stay
        #[arg(long)]
        reissue: bool,
    },
    /// 运行 / Run until SIGTERM
    Serve,
    /// 检查配置和规则 / Check the config, the rules and the certificates
    Validate {
        /// JSON output
        #[arg(long)]
        json: bool,
    },
    /// 网关加入令牌 / Tokens with which gateways join
    Token {
        /// What to do.
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// 接口令牌 / Tokens of the HTTP API
    ApiToken {
        /// What to do.
        #[command(subcommand)]
        command: ApiTokenCommand,
    },
    /// 查看事件 / Show events, newest arrival first
    Events {
        /// Only of this site
        #[arg(long)]
        site: Option<String>,
        /// Only of this kind
        #[arg(long)]
        kind: Option<String>,
        /// Paging and form.
        #[command(flatten)]
        list: ListArgs,
    },
    /// 查看预警 / Show warnings, newest first
    Warnings {
        /// Only of this site
        #[arg(long)]
        site: Option<String>,
        /// Only of this rule
        #[arg(long)]
        rule: Option<String>,
        /// 试运行规则的预警 / Those of rules on trial, in place of the others
        #[arg(long)]
        shadow: bool,
        /// Paging and form.
        #[command(flatten)]
        list: ListArgs,
    },
    /// 查看案件 / Show cases, newest first
    Cases {
        /// Only of this site
        #[arg(long)]
        site: Option<String>,
        /// Only in this state
        #[arg(long)]
        state: Option<String>,
        /// Paging and form.
        #[command(flatten)]
        list: ListArgs,
    },
    /// 查看网关 / Show agents
    Agents {
        /// JSON output
        #[arg(long)]
        json: bool,
    },
    /// 中枢时钟：查看、确认 / The hub's own clock: look, say that it is right
    Clock {
        /// What to do; none: show how it stands
        #[command(subcommand)]
        command: Option<ClockCommand>,
        /// JSON output
        #[arg(long)]
        json: bool,
    },
    /// 规则：检查、测试、解释、回测 / Rules: check, test, explain, look back
    Rules {
        /// What to do.
        #[command(subcommand)]
        command: RulesCommand,
    },
    /// 签收预警 / Acknowledge a warning
    Acknowledge {
        /// Number of the warning
        id: i64,
        /// Who acknowledges it
        #[arg(long)]
        by: String,
        /// What they say
        #[arg(long, default_value = "")]
        note: String,
    },
    /// 静默与检修 / Mutes and maintenance windows
    Mutes {
        /// What to do.
        #[command(subcommand)]
        command: MutesCommand,
    },
    /// 用户 / Users
    User {
        /// What to do.
        #[command(subcommand)]
        command: UserCommand,
    },
    /// 审计日志 / The audit log
    Audit {
        /// What to do.
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// 组织与地点 / Organisations and places
    Org {
        /// What to do.
        #[command(subcommand)]
        command: OrgCommand,
    },
    /// 通知：查看、重发、测试 / What people are told: look, send again, test
    Notifications {
        /// What to do.
        #[command(subcommand)]
        command: NotificationsCommand,
    },
    /// 数据库：复制、比较、备份、校验、恢复 / The database: copy, compare, back up, check, restore
    Db {
        /// What to do.
        #[command(subcommand)]
        command: DbCommand,
    },
    /// 保存期限：删除到期数据，查看删除证明 / Retention: delete what is due, show the proofs
    Retention {
        /// What to do.
        #[command(subcommand)]
        command: RetentionCommand,
    },
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

/// `db`
#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// 复制到空库（SQLite 与 PostgreSQL 互转），并核对 / Copy into an empty database of either engine, and compare
    ///
    /// 复制的是一个快照，中枢可同时运行，之后的数据不复制；迁移前请先停止中枢。不含 ca/ 和 fields.key。
    ///
    /// A snapshot is copied; the hub may run, and what comes after is not copied: to move for good, stop the hub
    /// first. ca/ and fields.key are not in it.
    Copy {
        /// Where to: postgres://user@host/database, or a file
        #[arg(long)]
        to: String,
        /// A file with the password of the server
        #[arg(long)]
        to_password_file: Option<PathBuf>,
        /// 继续被中断的复制 / Go on with a copy that was cut off
        #[arg(long)]
        resume: bool,
    },
    /// 与另一个库逐表核对行数和内容 / Compare with another database: rows and content of every table
    Compare {
        /// The other: postgres://user@host/database, or a file
        #[arg(long)]
        to: String,
        /// A file with the password of the server
        #[arg(long)]
        to_password_file: Option<PathBuf>,
    },
    /// 备份为一个文件，中枢可同时运行 / Back up into a new file, while the hub runs
    ///
    /// 附件放在旁边的 attachments/，同一目录的多个备份共用。Files of cases go into attachments/ beside it, which the
    /// backups of one directory share.
    Backup {
        /// The file; nothing may have its name
        file: PathBuf,
    },
    /// 校验备份文件及附件 / Read a backup to its end: the file, each chunk, the audit log, the files of cases beside it
    ///
    /// 不给文件名：只校验本中枢的附件。Without a file: the files of cases of this hub, and nothing else.
    Check {
        /// The file
        file: Option<PathBuf>,
    },
    /// 恢复到没有数据库的数据目录 / Make a backup the database of a data directory that has none
    Restore {
        /// The file
        file: PathBuf,
    },
}

/// `retention`
#[derive(Debug, Subcommand)]
pub enum RetentionCommand {
    /// 立即删除到期数据 / Delete now what is due; the hub does it each day
    Run {
        /// 只统计，不删除 / Count only
        #[arg(long)]
        dry_run: bool,
        /// JSON Lines output, of all classes
        #[arg(long)]
        json: bool,
    },
    /// 列出删除证明，新的在前 / List the proofs of what was deleted, newest first
    List {
        /// Paging and form.
        #[command(flatten)]
        list: ListArgs,
    },
}

/// How lists are shown.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// At most so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// JSON Lines output
    #[arg(long)]
    pub json: bool,
}

/// `token`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// 生成一次性令牌（只显示一次）/ Make a single-use token; it is shown once
    Create {
        /// Site of the agent that will join with it
        #[arg(long)]
        site: SiteId,
        /// 派出所网关：可上报警情、纠纷、危险提示 / The agent is a station's: it may report disputes, incidents and dangers
        #[arg(long)]
        station: bool,
        /// How long it is good
        #[arg(long, default_value = "24h")]
        valid: Span,
    },
}

/// `clock`
#[derive(Debug, Subcommand)]
pub enum ClockCommand {
    /// 确认时钟正确：恢复清理、过期和升级 / Say that the clock is right: retention, expiry and escalation go on by it
    Trust,
}

/// `notifications`
#[derive(Debug, Subcommand)]
pub enum NotificationsCommand {
    /// 查看通知，新的在前 / Show notifications, newest first
    List {
        /// Only in this state
        #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(linli_store::outbox::STATES))]
        state: Option<String>,
        /// Only of this channel
        #[arg(long)]
        channel: Option<String>,
        /// Paging and form.
        #[command(flatten)]
        list: ListArgs,
    },
    /// 重发已放弃的通知 / Send dead notifications again, within 15 s if the hub runs
    #[command(group(clap::ArgGroup::new("which").required(true).args(["id", "all_dead"])))]
    Resend {
        /// Its number, from the list
        id: Option<i64>,
        /// All that are dead
        #[arg(long)]
        all_dead: bool,
    },
    /// 立即向渠道发送测试消息，显示对方应答 / Send a test message to a channel now, and show the answer
    Test {
        /// Name of the channel in the config
        channel: String,
    },
}

/// `api-token`
#[derive(Debug, Subcommand)]
pub enum ApiTokenCommand {
    /// 生成接口令牌（只显示一次）/ Make a token of the API; it is shown once
    Create {
        /// What it is for
        #[arg(long)]
        name: String,
        /// What it may do
        #[arg(long, default_value = "operator", value_parser = role())]
        role: Role,
        /// For which organisation; none: the centre's
        #[arg(long, default_value = "")]
        org: String,
        /// How long it is good
        #[arg(long, default_value = "90d")]
        valid: Span,
    },
    /// 列出接口令牌（不含密钥）/ List tokens; their secrets are not kept
    List {
        /// JSON Lines output
        #[arg(long)]
        json: bool,
    },
    /// 吊销接口令牌，立即生效 / Revoke a token; it takes effect at once
    Revoke {
        /// Its id: what stands between the dots of `llt.<id>.<secret>`, and in the list
        id: String,
    },
}

/// `rules`
#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// 检查全部规则文件 / Check all rule files
    Check {
        /// Another directory of rules than the config's
        #[arg(long)]
        directory: Option<PathBuf>,
    },
    /// 运行规则自带的测试 / Run the tests that stand beside the rules
    Test {
        /// Another directory of rules than the config's
        #[arg(long)]
        directory: Option<PathBuf>,
        /// Only of this rule
        #[arg(long)]
        rule: Option<String>,
    },
    /// 列出规则 / List rules
    List {
        /// JSON Lines output
        #[arg(long)]
        json: bool,
    },
    /// 为何预警 / Why a warning was raised
    Why {
        /// Number of the warning
        warning: i64,
        /// JSON output
        #[arg(long)]
        json: bool,
    },
    /// 为何未预警 / Why a rule has raised no warning for a key
    WhyNot {
        /// Id of the rule
        rule: String,
        /// Values of its key, with | between
        key: String,
        /// The time, RFC 3339, like 2026-03-01T08:00:00+08:00; now if it is not given
        #[arg(long)]
        at: Option<jiff::Timestamp>,
    },
    /// 用历史数据回测 / What rules would have raised in the past, against what was raised
    Backtest {
        /// From, RFC 3339
        #[arg(long)]
        from: jiff::Timestamp,
        /// Up to, RFC 3339
        #[arg(long)]
        to: jiff::Timestamp,
        /// Another directory of rules than the config's
        #[arg(long)]
        directory: Option<PathBuf>,
        /// JSON Lines output
        #[arg(long)]
        json: bool,
    },
}

/// `user`
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// 添加用户，密码从标准输入读取一行（--oidc 除外）/ Add a user; the password is a line of standard input, but for --oidc
    Add {
        /// Login
        login: String,
        /// What people call them
        #[arg(long)]
        name: Option<String>,
        /// Role
        #[arg(long, value_parser = role())]
        role: Role,
        /// Id of the organisation, from `linli-hub org list`; none: the centre's
        #[arg(long, default_value = "")]
        org: String,
        /// 经 OpenID Connect 登录，不设密码 / They sign in by OpenID Connect, without a password
        #[arg(long)]
        oidc: bool,
    },
    /// 允许用户经 OpenID Connect 登录 / Let a user sign in by OpenID Connect: the next account of this login is theirs
    Oidc {
        /// Login
        login: String,
        /// 取消，解除关联并结束其会话 / No more: the account is forgotten, sessions end
        #[arg(long)]
        off: bool,
    },
    /// 设置密码（标准输入一行），结束其全部会话 / Set a password, a line of standard input; sessions end
    Password {
        /// Login
        login: String,
    },
    /// 停用用户 / Let a user sign in no more
    Disable {
        /// Login
        login: String,
        /// 重新启用 / Let them sign in again
        #[arg(long)]
        enable: bool,
    },
    /// 列出用户 / List users
    List {
        /// JSON Lines output
        #[arg(long)]
        json: bool,
    },
}

/// `audit`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// 列出，新的在前 / List, newest first
    List {
        /// Only of this, like user/wang
        #[arg(long)]
        object: Option<String>,
        /// Only by this one
        #[arg(long)]
        actor: Option<String>,
        /// Paging and form.
        #[command(flatten)]
        list: ListArgs,
    },
    /// 校验哈希链，发现被改动的条目 / Follow the chain of hashes and find a changed entry
    Verify {
        /// A hash that was printed before: it must be in the chain
        #[arg(long)]
        hash: Option<String>,
    },
}

/// `org`
#[derive(Debug, Subcommand)]
pub enum OrgCommand {
    /// 检查文件 / Check a file of organisations and places
    Check {
        /// The file
        file: PathBuf,
    },
    /// 载入文件：新增、变更、停用 / Make the directory that of a file; what is not in it is retired
    Load {
        /// The file
        file: PathBuf,
    },
    /// 列出组织 / List organisations
    List {
        /// JSON Lines output
        #[arg(long)]
        json: bool,
    },
    /// 列出地点及其街道、派出所、网格 / List places, each with its office, station and grid
    Places {
        /// JSON Lines output
        #[arg(long)]
        json: bool,
    },
}

/// `mutes`
#[derive(Debug, Subcommand)]
pub enum MutesCommand {
    /// 列出静默，新的在前 / List mutes, newest first
    List {
        /// Paging and form.
        #[command(flatten)]
        list: ListArgs,
    },
    /// 新建静默：期间照常预警、立案，不通知 / Raise and open cases as ever, but tell nobody, for a time
    ///
    /// 期间产生的预警，静默结束后也不补发通知，请自行查看（linli-hub warnings）。涉及生命安全的预警只在注明
    /// --life 且配置允许时静默。
    ///
    /// What is raised under a mute is not told after it either: look with `linli-hub warnings`. Warnings of
    /// life safety are muted with --life only, where the config allows it.
    Add {
        /// Only warnings of this rule
        #[arg(long, default_value = "")]
        rule: String,
        /// Only of this site
        #[arg(long, default_value = "")]
        site: String,
        /// Only of this key
        #[arg(long, default_value = "")]
        key: String,
        /// Why
        #[arg(long)]
        reason: String,
        /// Who answers for it
        #[arg(long)]
        owner: String,
        /// From when, RFC 3339; now if it is not given
        #[arg(long)]
        from: Option<jiff::Timestamp>,
        /// For how long
        #[arg(long = "for")]
        lasting: Span,
        /// For warnings of life safety too, where the config allows it
        #[arg(long)]
        life: bool,
    },
    /// 结束静默 / Take a mute back
    End {
        /// Its number
        id: i64,
    },
}
