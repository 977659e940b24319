//! The hub's config file: strict TOML, every key with a default that works.
use linli_shared::service::config::{ConfigError, Span, WrongValue, load};
use linli_shared::service::telemetry::LogConfig;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::attachments::AttachmentsConfig;
use crate::case_policy::{CaseFiles, CasesConfig};
use crate::centre::case_notices::{self, CaseNotice};
use crate::centre::channels::{self, Channel, ChannelEntry, Route, RouteEntry};
use crate::centre::{self, Centre, Site};
use crate::oidc::config::{OidcConfig, OidcEntry};
use crate::retention::config::RetentionConfig;
use linli_domain::clock_guard::ClockConfig;
use linli_domain::warnings::{Grade, Grades};
use linli_store::Place;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where certificates are, and the database where it is a file.
    pub data_dir: PathBuf,
    /// `[database]` as it is written.
    database: DatabaseConfig,
    /// Where the database is.
    #[serde(skip)]
    pub place: Place,
    /// UDP address for agents.
    pub listen: SocketAddr,
    /// Addresses (`host:port`) that agents are told at their join; empty: the one that they joined at.
    pub announce: Vec<String>,
    /// How often agents show that they live.
    pub heartbeat: Span,
    /// Days that an agent's certificate is good.
    pub certificate_days: u64,
    /// Directory of rule files; relative to this file.
    pub rules_dir: PathBuf,
    /// HTTP API.
    pub api: ApiConfig,
    /// Prometheus and health.
    pub metrics: MetricsConfig,
    /// Logs.
    pub log: LogConfig,
    /// `[[channel]]` as they are written.
    channel: Vec<ChannelEntry>,
    /// `[[route]]` as they are written.
    route: Vec<RouteEntry>,
    /// `[[case_notice]]`: what is told of cases.
    case_notice: Vec<CaseNotice>,
    /// `[[site]]`: compounds and stations.
    pub site: Vec<Site>,
    /// `[[grade]]`: the words of severities.
    grade: Vec<Grade>,
    /// Warnings.
    pub warnings: WarningsConfig,
    /// Whether the hub's own clock is believed.
    pub clock: ClockConfig,
    /// How long data stays.
    pub retention: RetentionConfig,
    /// `[oidc]` as it is written.
    #[serde(rename = "oidc")]
    oidc_entry: Option<OidcEntry>,
    /// Signing in by OpenID Connect, where that is wanted.
    #[serde(skip)]
    pub oidc: Option<OidcConfig>,
    /// Files of cases.
    pub attachments: AttachmentsConfig,
    /// `[cases]` as it is written.
    cases: CasesConfig,
    /// What it names for cases.
    #[serde(skip)]
    pub case_files: CaseFiles,
    /// The words of all severities.
    #[serde(skip)]
    pub grades: Grades,
    /// Where people are told of warnings.
    #[serde(skip)]
    pub channels: Vec<Channel>,
    /// The lists of channels that rules name.
    #[serde(skip)]
    pub routes: Vec<Route>,
}

/// `[database]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DatabaseConfig {
    /// `postgres://…`; none: a file of the data directory.
    url: Option<String>,
    /// A file with the password, relative to this file.
    password_file: Option<PathBuf>,
}

/// `[api]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Address to listen on, TLS.
    pub listen: SocketAddr,
}

/// `[metrics]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
}

/// `[warnings]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WarningsConfig {
    /// Warnings of life safety may be muted, where the mute says so.
    pub mute_life: bool,
    /// Warnings that one agent raises in a minute; what is more is held by one.
    pub per_agent_minute: u32,
}

impl Default for WarningsConfig {
    fn default() -> Self {
        Self {
            mute_life: false,
            per_agent_minute: centre::WARNINGS_PER_AGENT_MINUTE,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("/var/lib/linli-hub"),
            database: DatabaseConfig::default(),
            place: Place::Sqlite(PathBuf::from("/var/lib/linli-hub/hub.db")),
            listen: SocketAddr::from(([0, 0, 0, 0], 4433)),
            announce: Vec::new(),
            heartbeat: Span::from_secs(10),
            certificate_days: 365,
            rules_dir: PathBuf::from("rules"),
            api: ApiConfig::default(),
            metrics: MetricsConfig::default(),
            log: LogConfig::default(),
            channel: Vec::new(),
            route: Vec::new(),
            case_notice: Vec::new(),
            site: Vec::new(),
            grade: Vec::new(),
            warnings: WarningsConfig::default(),
            clock: ClockConfig::default(),
            retention: RetentionConfig::default(),
            oidc_entry: None,
            oidc: None,
            attachments: AttachmentsConfig::default(),
            cases: CasesConfig::default(),
            case_files: CaseFiles::default(),
            grades: Grades::default(),
            channels: Vec::new(),
            routes: Vec::new(),
        }
    }
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
        }
    }
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9465)),
        }
    }
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let mut config: Config = load(path)?;
        let wrong = |key: &str, message: String| ConfigError::Value {
            path: path.to_owned(),
            key: key.to_owned(),
            message,
        };
        if !(200..=300_000).contains(&config.heartbeat.as_millis()) {
            return Err(wrong(
                "heartbeat",
                "must be between \"200ms\" and \"5m\"".to_owned(),
            ));
        }
        if !(1..=3650).contains(&config.certificate_days) {
            return Err(wrong(
                "certificate_days",
                "must be between 1 and 3650".to_owned(),
            ));
        }
        for address in &config.announce {
            let port = address
                .rsplit_once(':')
                .map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                return Err(wrong(
                    "announce",
                    format!("{address:?} is not host:port, like \"hub.example:4433\""),
                ));
            }
        }
        let directory = path.parent().unwrap_or(Path::new("."));
        config.rules_dir = directory.join(&config.rules_dir);
        config.place = config
            .find_database(directory)
            .map_err(|(key, message)| wrong(key, message))?;
        config.case_files = CaseFiles::load(&config.cases, directory)?;
        let named = |(key, message): WrongValue| wrong(&key, message);
        config.channels =
            channels::channels(std::mem::take(&mut config.channel), directory).map_err(named)?;
        config.routes =
            channels::routes(std::mem::take(&mut config.route), &config.channels).map_err(named)?;
        let routes: Vec<String> = config
            .routes
            .iter()
            .map(|route| route.name.clone())
            .collect();
        case_notices::check(&config.case_notice, &routes).map_err(named)?;
        if let Some(entry) = config.oidc_entry.take() {
            config.oidc = Some(crate::oidc::config::oidc(entry, directory).map_err(named)?);
        }
        config
            .retention
            .check()
            .map_err(|(key, message)| wrong(&key, message))?;
        config
            .attachments
            .check()
            .map_err(|(key, message)| wrong(key, message))?;
        if config.clock.step.as_millis() < 10_000 {
            return Err(wrong(
                "clock.step",
                "must be \"10s\" or more, like \"5m\"".to_owned(),
            ));
        }
        if config.warnings.per_agent_minute == 0 {
            return Err(wrong(
                "warnings.per_agent_minute",
                "must be 1 or more, like 60".to_owned(),
            ));
        }
        centre::check_sites(&config.site).map_err(|message| wrong("site", message))?;
        config.grades = Grades::new(std::mem::take(&mut config.grade))
            .map_err(|message| wrong("grade", message))?;
        Ok(config)
    }

    /// What it says of the centre.
    pub fn centre(&self) -> Centre {
        Centre::new(
            &self.channels,
            &self.routes,
            &self.site,
            self.grades.clone(),
            self.warnings.mute_life,
        )
        .bounding_warnings(self.warnings.per_agent_minute)
        .telling_of_cases(self.case_notice.clone())
    }

    fn find_database(&self, directory: &Path) -> Result<Place, (&'static str, String)> {
        let Some(address) = &self.database.url else {
            if self.database.password_file.is_some() {
                let message = "needs database.url: a file has no password";
                return Err(("database.password_file", message.to_owned()));
            }
            return Ok(Place::Sqlite(self.data_dir.join("hub.db")));
        };
        let mut password = None;
        if let Some(file) = &self.database.password_file {
            let path = directory.join(file);
            let text = std::fs::read_to_string(&path).map_err(|error| {
                let message = format!("{} cannot be read: {error}", path.display());
                ("database.password_file", message)
            })?;
            password = Some(text.trim_end_matches(['\r', '\n']).to_owned());
        }
        Place::postgres(address, password.as_deref()).map_err(|message| ("database.url", message))
    }
}
