//! From channels and routes as they are written to checked ones. Every refusal names the thing and the fix.
use linli_shared::protocol::event::Severity;
use linli_shared::service::config::Span;
use reqwest::Url;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use linli_shared::service::config::WrongValue;

use super::{
    CHANNELS_MAX, Channel, ChannelEntry, ChannelKind, DEFAULT_ROUTES, GRADES, Login, MailTarget,
    MailTls, Mailbox, RECIPIENTS_MAX, ROUTES_MAX, Rate, Route, RouteEntry, Target,
};

const NAME_BYTES_MAX: usize = 64;
const WECOM_URL: &str = "https://qyapi.weixin.qq.com/cgi-bin/webhook/send";
const DINGTALK_URL: &str = "https://oapi.dingtalk.com/robot/send";
const FEISHU_URL: &str = "https://open.feishu.cn/open-apis/bot/v2/hook";

/// Checks all channels. `directory` is that of the config file: paths are relative to it.
pub fn channels(entries: Vec<ChannelEntry>, directory: &Path) -> Result<Vec<Channel>, WrongValue> {
    if entries.len() > CHANNELS_MAX {
        return Err((
            "channel".to_owned(),
            format!("more than {CHANNELS_MAX} channels"),
        ));
    }
    let mut names = HashSet::new();
    entries
        .into_iter()
        .map(|entry| {
            let name = entry.name.clone();
            check_name("channel", &name)?;
            if !names.insert(name.clone()) {
                return Err(doubled("channel", &name));
            }
            channel(entry, directory).map_err(|(key, fix)| (format!("channel {name:?} {key}"), fix))
        })
        .collect()
}

/// Checks all routes against the channels.
pub fn routes(entries: Vec<RouteEntry>, channels: &[Channel]) -> Result<Vec<Route>, WrongValue> {
    if entries.len() > ROUTES_MAX {
        return Err(("route".to_owned(), format!("more than {ROUTES_MAX} routes")));
    }
    if entries.is_empty() {
        let route = |name: &str| Route {
            name: name.to_owned(),
            channels: Vec::new(),
            escalate: None,
        };
        return Ok(DEFAULT_ROUTES.map(route).into());
    }
    let known: Vec<&str> = channels
        .iter()
        .map(|channel| channel.name.as_str())
        .collect();
    let mut routes: Vec<Route> = Vec::with_capacity(entries.len());
    for entry in entries {
        let name = entry.name;
        check_name("route", &name)?;
        if routes.iter().any(|route| route.name == name) {
            return Err(doubled("route", &name));
        }
        for (place, channel) in entry.channels.iter().enumerate() {
            let key = || format!("route {name:?} channels");
            if !known.contains(&channel.as_str()) {
                return Err((
                    key(),
                    format!(
                        "there is no channel {channel:?}: {}",
                        one_of(&known, "[[channel]]")
                    ),
                ));
            }
            if entry.channels[..place].contains(channel) {
                return Err((key(), format!("{channel:?} stands there twice: remove one")));
            }
        }
        routes.push(Route {
            name,
            channels: entry.channels,
            escalate: entry.escalate,
        });
    }
    check_escalations(&routes)?;
    Ok(routes)
}

/// Every escalation leads to a route, and to an end.
fn check_escalations(routes: &[Route]) -> Result<(), WrongValue> {
    let names: Vec<&str> = routes.iter().map(|route| route.name.as_str()).collect();
    for start in routes {
        let key = || format!("route {:?} escalate", start.name);
        let mut way = vec![start.name.as_str()];
        let mut next = start.escalate.as_deref();
        while let Some(name) = next {
            let Some(route) = routes.iter().find(|route| route.name == name) else {
                return Err((
                    key(),
                    format!(
                        "there is no route {name:?}: {}",
                        one_of(&names, "[[route]]")
                    ),
                ));
            };
            let comes_again = way.contains(&name);
            way.push(name);
            if comes_again {
                return Err((
                    key(),
                    format!(
                        "goes round in a circle, {}: remove one of them",
                        way.join(" → ")
                    ),
                ));
            }
            next = route.escalate.as_deref();
        }
    }
    Ok(())
}

fn one_of(names: &[&str], table: &str) -> String {
    if names.is_empty() {
        format!("add it as {table}")
    } else {
        format!("write one of {}, or add it as {table}", names.join(", "))
    }
}

fn doubled(table: &str, name: &str) -> WrongValue {
    (
        format!("{table} {name:?}"),
        format!("there is another {table} of this name: give each its own"),
    )
}

fn check_name(table: &str, name: &str) -> Result<(), WrongValue> {
    let good = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if good {
        return Ok(());
    }
    Err((
        format!("{table} name"),
        format!(
            "{name:?} is not a name: write letters, digits, \"-\", \"_\" and \".\", at most {NAME_BYTES_MAX}, like \"duty-robot\""
        ),
    ))
}

/// The fields of an entry that are set, to be taken by its kind; what is left over has no meaning there.
fn channel(mut entry: ChannelEntry, directory: &Path) -> Result<Channel, WrongValue> {
    let missing = |key: &str, fix: &str| (key.to_owned(), format!("is missing: {fix}"));
    let file = |path: Option<PathBuf>, key: &str, fix: &str| {
        path.map(|path| directory.join(path))
            .ok_or_else(|| missing(key, fix))
    };
    let login = |user: Option<String>, password_file: Option<PathBuf>| match (user, password_file) {
        (Some(user), Some(path)) => Ok(Some(Login {
            user,
            password_file: directory.join(path),
        })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(missing(
            "password_file",
            "a user needs the file with the password",
        )),
        (None, Some(_)) => Err(missing("user", "a password needs its user")),
    };
    const KEY: &str =
        "write the robot's key into a file that only the hub may read, and its path here";
    const SECRET: &str =
        "write the key of the signature into a file that only the hub may read, and its path here";
    let (target, messages) = match entry.kind {
        ChannelKind::Webhook => (
            Target::Webhook {
                url: url(entry.url.take(), None)?,
                secret_file: file(entry.secret_file.take(), "secret_file", SECRET)?,
            },
            600,
        ),
        ChannelKind::Wecom => (
            Target::Wecom {
                url: url(entry.url.take(), Some(WECOM_URL))?,
                key_file: file(entry.key_file.take(), "key_file", KEY)?,
            },
            20,
        ),
        ChannelKind::Dingtalk => (
            Target::Dingtalk {
                url: url(entry.url.take(), Some(DINGTALK_URL))?,
                key_file: file(entry.key_file.take(), "key_file", KEY)?,
                secret_file: file(entry.secret_file.take(), "secret_file", SECRET)?,
            },
            20,
        ),
        ChannelKind::Feishu => (
            Target::Feishu {
                url: url(entry.url.take(), Some(FEISHU_URL))?,
                key_file: file(entry.key_file.take(), "key_file", KEY)?,
                secret_file: file(entry.secret_file.take(), "secret_file", SECRET)?,
            },
            20,
        ),
        ChannelKind::Mail => (Target::Mail(Box::new(mail(&mut entry, login)?)), 30),
        ChannelKind::Alertmanager => (
            Target::Alertmanager {
                url: url(entry.url.take(), None)?,
                login: login(entry.user.take(), entry.password_file.take())?,
            },
            600,
        ),
    };
    let left = [
        ("url", entry.url.is_some()),
        ("key_file", entry.key_file.is_some()),
        ("secret_file", entry.secret_file.is_some()),
        ("smtp", entry.smtp.is_some()),
        ("port", entry.port.is_some()),
        ("tls", entry.tls.is_some()),
        ("from", entry.from.is_some()),
        ("to", !entry.to.is_empty()),
        ("user", entry.user.is_some()),
        ("password_file", entry.password_file.is_some()),
    ];
    if let Some((key, _)) = left.iter().find(|(_, is_left)| *is_left) {
        let kind = entry.kind;
        return Err((
            (*key).to_owned(),
            format!("has no meaning for a channel of kind {kind:?}: remove it").to_lowercase(),
        ));
    }
    let rate = entry.rate.unwrap_or(Rate {
        messages,
        per: Span::from_secs(60),
    });
    if !(1..=10_000).contains(&rate.messages)
        || !(1_000..=86_400_000).contains(&rate.per.as_millis())
    {
        return Err((
            "rate".to_owned(),
            "wants 1 to 10000 messages per \"1s\" to \"1d\", like { messages = 20, per = \"1m\" }"
                .to_owned(),
        ));
    }
    let severity_min = match &entry.severity_min {
        None => Severity::Info,
        Some(name) => Severity::from_name(name).ok_or_else(|| {
            let names = Severity::ALL.map(Severity::as_str).join(", ");
            (
                "severity_min".to_owned(),
                format!("{name:?} is none of {names}"),
            )
        })?,
    };
    if let Some(grade) = entry
        .grades
        .iter()
        .find(|grade| !GRADES.contains(&grade.as_str()))
    {
        return Err((
            "grades".to_owned(),
            format!("{grade:?} is none of {}", GRADES.join(", ")),
        ));
    }
    Ok(Channel {
        name: entry.name,
        target,
        ca_file: entry.ca_file.map(|path| directory.join(path)),
        rate,
        severity_min,
        grades: entry.grades,
    })
}

fn mail(
    entry: &mut ChannelEntry,
    login: impl Fn(Option<String>, Option<PathBuf>) -> Result<Option<Login>, WrongValue>,
) -> Result<MailTarget, WrongValue> {
    let mailbox = |key: &str, text: &str| {
        text.parse::<Mailbox>().map_err(|_| {
            (
                key.to_owned(),
                format!("{text:?} is not an address, like \"duty@centre.example\""),
            )
        })
    };
    let host = entry.smtp.take().ok_or_else(|| {
        (
            "smtp".to_owned(),
            "is missing: the host of the mail server".to_owned(),
        )
    })?;
    let from = entry.from.take().ok_or_else(|| {
        (
            "from".to_owned(),
            "is missing: the address that mail comes from".to_owned(),
        )
    })?;
    let to = std::mem::take(&mut entry.to);
    if to.is_empty() || to.len() > RECIPIENTS_MAX {
        return Err((
            "to".to_owned(),
            format!("needs 1 to {RECIPIENTS_MAX} addresses, like [\"duty@centre.example\"]"),
        ));
    }
    let tls = entry.tls.take().unwrap_or(MailTls::Required);
    if tls == MailTls::None && !is_loopback(&host) {
        return Err((
            "tls".to_owned(),
            format!(
                "\"none\" is for a mail server on this machine, and {host:?} is another: write \"required\""
            ),
        ));
    }
    let port = entry.port.take();
    let login = login(entry.user.take(), entry.password_file.take())?;
    if login.is_some() && tls == MailTls::Opportunistic {
        return Err((
            "tls".to_owned(),
            "a password is never sent without TLS: write \"required\"".to_owned(),
        ));
    }
    Ok(MailTarget {
        port: port.unwrap_or(if tls == MailTls::None { 25 } else { 587 }),
        from: mailbox("from", &from)?,
        to: to
            .iter()
            .map(|address| mailbox("to", address))
            .collect::<Result<_, _>>()?,
        host,
        tls,
        login,
    })
}

/// HTTPS, or HTTP to this machine; no keys in it, for the config is shown and copied.
fn url(text: Option<String>, default: Option<&str>) -> Result<Url, WrongValue> {
    let wrong = |fix: String| ("url".to_owned(), fix);
    let text = text.or(default.map(str::to_owned)).ok_or_else(|| {
        wrong("is missing: write one like \"https://example.org/hook\"".to_owned())
    })?;
    let url: Url = text.parse().map_err(|error| {
        wrong(format!(
            "{text:?} is not a URL ({error}): write one like \"https://example.org/hook\""
        ))
    })?;
    match (url.scheme(), url.host_str()) {
        ("https", Some(_)) => {}
        ("http", Some(host)) if is_loopback(host) => {}
        ("http", _) => {
            return Err(wrong(format!(
                "{text:?} is plaintext to another machine: write https (http is for this machine only)"
            )));
        }
        _ => {
            return Err(wrong(format!(
                "{text:?} is neither https nor http: write https"
            )));
        }
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "holds a password: write user and password_file".to_owned(),
        ));
    }
    if url
        .query_pairs()
        .any(|(name, _)| name == "key" || name == "access_token")
    {
        return Err(wrong(
            "holds the robot's key: write it into a file that only the hub may read, as key_file, and remove what follows \"?\"".to_owned(),
        ));
    }
    Ok(url)
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
