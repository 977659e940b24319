//! `[[channel]]` and `[[route]]`: where people are told of warnings.
//!
//! A channel is one place that messages go to; a route is a list of channels that rules name
//! (`then.route`). Without any `[[route]]` the routes [`DEFAULT_ROUTES`] exist and have no channels.
//! Secrets stand in files only; they are read when the hub starts (`notify::peer`).
//!
//! Limits: [`CHANNELS_MAX`] channels, [`ROUTES_MAX`] routes, [`RECIPIENTS_MAX`] addresses of one mail.
mod check;

use lettre::Address;
use linli_shared::protocol::event::Severity;
use linli_shared::service::config::Span;
use reqwest::Url;
use serde::Deserialize;
use std::path::PathBuf;

pub use check::{channels, routes};

/// Channels of one hub.
pub const CHANNELS_MAX: usize = 64;
/// Routes of one hub.
pub const ROUTES_MAX: usize = 64;
/// Recipients of one mail.
pub const RECIPIENTS_MAX: usize = 50;
/// The routes where the config names none: 值班中心、物业、街道办、调解、派出所.
pub const DEFAULT_ROUTES: [&str; 5] = ["duty-centre", "property", "office", "mediation", "police"];
/// Grades that a channel can be limited to.
pub const GRADES: [&str; 4] = ["red", "orange", "yellow", "blue"];

/// `kind` of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// CloudEvents with a signature.
    Webhook,
    /// 企业微信群机器人
    Wecom,
    /// 钉钉群机器人
    Dingtalk,
    /// 飞书群机器人
    Feishu,
    /// SMTP.
    Mail,
    /// Prometheus Alertmanager.
    Alertmanager,
}

/// `[[channel]]` as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelEntry {
    name: String,
    kind: ChannelKind,
    url: Option<String>,
    key_file: Option<PathBuf>,
    secret_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    smtp: Option<String>,
    port: Option<u16>,
    tls: Option<MailTls>,
    from: Option<String>,
    #[serde(default)]
    to: Vec<String>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    rate: Option<Rate>,
    severity_min: Option<String>,
    #[serde(default)]
    grades: Vec<String>,
}

/// `[[route]]` as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteEntry {
    name: String,
    #[serde(default)]
    channels: Vec<String>,
    escalate: Option<String>,
}

/// So many messages in any span of this length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many.
    pub messages: u32,
    /// In how long.
    pub per: Span,
}

/// How mail is protected on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// TLS from the beginning on port 465, STARTTLS elsewhere; without it nothing is sent.
    Required,
    /// STARTTLS where the server offers it.
    Opportunistic,
    /// Plaintext, on this machine only.
    None,
}

/// A user and the file with the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Who.
    pub user: String,
    /// The file.
    pub password_file: PathBuf,
}

/// Who mail is from or to: "duty@centre.example" or "值班 <duty@centre.example>".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// What people see.
    pub name: Option<String>,
    /// Where it goes.
    pub address: Address,
}

impl std::str::FromStr for Mailbox {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (name, address) = match text.strip_suffix('>').and_then(|text| text.split_once('<')) {
            Some((name, address)) => (Some(name.trim().to_owned()), address),
            None => (None, text),
        };
        if name.iter().any(|name| name.chars().any(char::is_control)) {
            return Err(());
        }
        Ok(Self {
            name: name.filter(|name| !name.is_empty()),
            address: address.trim().parse().map_err(|_| ())?,
        })
    }
}

/// A mail server, and who gets what from whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailTarget {
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS.
    pub tls: MailTls,
    /// Sender.
    pub from: Mailbox,
    /// Recipients.
    pub to: Vec<Mailbox>,
    /// For servers that want one.
    pub login: Option<Login>,
}

/// Where a channel's messages go.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// CloudEvents with a signature.
    Webhook {
        /// Where.
        url: Url,
        /// Key of the signature.
        secret_file: PathBuf,
    },
    /// 企业微信群机器人
    Wecom {
        /// Where, without the key.
        url: Url,
        /// The robot's key.
        key_file: PathBuf,
    },
    /// 钉钉群机器人
    Dingtalk {
        /// Where, without the access token.
        url: Url,
        /// The access token.
        key_file: PathBuf,
        /// Key of the signature.
        secret_file: PathBuf,
    },
    /// 飞书群机器人
    Feishu {
        /// Where, without the last part of the path.
        url: Url,
        /// The last part of the path.
        key_file: PathBuf,
        /// Key of the signature.
        secret_file: PathBuf,
    },
    /// SMTP.
    Mail(Box<MailTarget>),
    /// Alertmanager's API v2.
    Alertmanager {
        /// Where it is.
        url: Url,
        /// For one behind basic authentication.
        login: Option<Login>,
    },
}

/// A channel that has been checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    /// Name.
    pub name: String,
    /// Where its messages go.
    pub target: Target,
    /// More roots to trust than the system's.
    pub ca_file: Option<PathBuf>,
    /// How many messages it may be sent.
    pub rate: Rate,
    /// Lesser warnings do not go there.
    pub severity_min: Severity,
    /// Only these grades; empty: all.
    pub grades: Vec<String>,
}

/// A route that has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Name.
    pub name: String,
    /// Names of its channels.
    pub channels: Vec<String>,
    /// The route that is told when nobody of this one answers.
    pub escalate: Option<String>,
}

#[cfg(test)]
mod tests;
