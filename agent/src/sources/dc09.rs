//! Alarm panels (报警主机) by SIA DC-09 (2007 to 2026) over TCP and UDP, with Contact ID and SIA events, in clear or sealed. The
//! agent is the receiver: panels connect to it, or send it datagrams.
//!
//! ```text
//! bytes ▶ frame (CRC, resynchronised) ▶ header ▶ opened with the account's key ▶ window of the clock ▶ Contact ID or SIA
//!       ▶ map ▶ feed ▶ durable ▶ answer (ACK, NAK, DUH)
//! ```
//!
//! * A panel is known by the account in its header (`[[source.account]]`). One with a key may send sealed messages only. One
//!   that is not known is told NAK, unless `unknown = "take"`.
//! * The time of a sealed message must be within `clock_behind` and `clock_ahead`; the NAK of another has the agent's
//!   time, by which the panel sets its clock. While the agent's own clock is not set no time is judged and no NAK sent.
//! * `NULL` is the panel's sign of life. What it sends again is stored once ([`recent`]).
//! * Limits: those of [`callers`](super::callers), [`frame`], [`message`] and [`sia_dcs`].
pub mod cipher;
pub mod contact_id;
pub mod frame;
pub mod map;
pub mod meaning;
pub mod message;
pub mod recent;
pub mod sia_dcs;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use linli_shared::service::clock;
use linli_shared::service::config::{ConfigError, Span};
use serde::Deserialize;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::callers::{self, Callers, Line, Out, Rest, Unknown};
use super::feed::{Feed, Group};
use super::reading::{Reject, Said};
use super::{Check, Source};
use cipher::{Key, PAD_BYTES_MAX};
use contact_id::Report;
use frame::{Framer, Piece};
use map::From;
use message::{ACCOUNT_BYTES_MAX, Content, Header, Id, MessageError, Window};
use recent::{Mark, Recent};
use sia_dcs::Block;

/// Accounts in the config.
const ACCOUNTS_MAX: usize = 4096;

/// `[[source]] type = "dc09"`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where panels connect.
    tcp: Option<SocketAddr>,
    /// Where they send datagrams.
    udp: Option<SocketAddr>,
    /// At once.
    #[serde(default = "default_connections_max")]
    connections_max: usize,
    /// How long a connection may say nothing.
    #[serde(default = "default_idle")]
    idle: Span,
    /// What is done with accounts that are not below.
    #[serde(default)]
    unknown: Unknown,
    /// How far the time of a sealed message may be behind the agent's.
    #[serde(default = "default_clock_behind")]
    clock_behind: Span,
    /// How far it may be ahead.
    #[serde(default = "default_clock_ahead")]
    clock_ahead: Span,
    /// Accounts that are known.
    #[serde(default)]
    account: Vec<AccountConfig>,
}

/// `[[source.account]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountConfig {
    /// As it stands behind `#`.
    account: String,
    /// The device on its events.
    id: String,
    /// File with its AES key: 32, 48 or 64 hexadecimal digits.
    key_file: Option<PathBuf>,
    /// The address that it calls from.
    peer: Option<IpAddr>,
}

fn default_connections_max() -> usize {
    256
}

fn default_idle() -> Span {
    Span::from_secs(300)
}

fn default_clock_behind() -> Span {
    Span::from_secs(40)
}

fn default_clock_ahead() -> Span {
    Span::from_secs(20)
}

#[derive(Debug, Clone)]
struct Account {
    id: String,
    key: Option<Key>,
    peer: Option<IpAddr>,
}

/// Who may say something, and how near its clock must be.
#[derive(Debug)]
struct Accounts {
    /// By the account in capitals.
    known: HashMap<String, Account>,
    unknown: Unknown,
    window: Window,
}

impl Accounts {
    fn find(&self, account: &str, peer: IpAddr) -> Result<Account, Reject> {
        let shown = account.to_ascii_uppercase();
        match self.known.get(&shown) {
            Some(Account {
                peer: Some(from), ..
            }) if *from != peer => Err(Reject::new(format!(
                "account {shown} calls from {peer}, not from the peer of its [[source.account]], {from}: correct it if the panel has moved"
            ))),
            Some(known) => Ok(known.clone()),
            None if self.unknown == Unknown::Take && !shown.is_empty() => Ok(Account {
                id: shown,
                key: None,
                peer: None,
            }),
            None => Err(Reject::new(format!(
                "account {shown:?}, which calls from {peer}, is not in the config: add [[source.account]] with account = {shown:?}"
            ))),
        }
    }
}

/// The source.
#[derive(Debug)]
pub(crate) struct Dc09 {
    callers: Callers,
    accounts: Accounts,
}

impl Source for Dc09 {
    const TYPE: &'static str = "dc09";
    // Panels poll from once in 90 s to once a day; this is four polls of a usual one.
    const SILENT_AFTER: Option<Duration> = Some(Duration::from_secs(3600));
    type Config = Config;

    fn new(config: Config, check: &Check<'_>) -> Result<Self, ConfigError> {
        let callers = Callers {
            tcp: config.tcp,
            udp: config.udp,
            connections_max: config.connections_max,
            idle: config.idle,
        }
        .check(check)?;
        if config.account.is_empty() && config.unknown == Unknown::Refuse {
            return Err(check.wrong(
                "account",
                "is missing: write [[source.account]] with account and id for each panel, or unknown = \"take\"",
            ));
        }
        if config.account.len() > ACCOUNTS_MAX {
            return Err(check.wrong(
                "account",
                format!("is there more than {ACCOUNTS_MAX} times: make two sources of it"),
            ));
        }
        let seconds = |key, span: Span| match span.0.as_secs() {
            seconds @ 1..=86_400 => Ok(seconds as i64),
            _ => Err(check.wrong(key, "must be between \"1s\" and \"1d\"")),
        };
        let window = Window {
            behind_s: seconds("clock_behind", config.clock_behind)?,
            ahead_s: seconds("clock_ahead", config.clock_ahead)?,
        };
        let mut known = HashMap::new();
        let mut ids: HashMap<String, usize> = HashMap::new();
        for (index, account) in config.account.into_iter().enumerate() {
            let key = |name: &str| format!("account[{index}].{name}");
            let number = account.account.trim_start_matches('#').to_ascii_uppercase();
            let is_account = (1..=ACCOUNT_BYTES_MAX).contains(&number.len())
                && number.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if !is_account {
                return Err(check.wrong(
                    &key("account"),
                    format!("{:?} must be up to {ACCOUNT_BYTES_MAX} letters and digits, as the panel has it", account.account),
                ));
            }
            if account.id.is_empty() || account.id.contains('/') {
                return Err(check.wrong(
                    &key("id"),
                    format!(
                        "{:?} must be a name without '/': zones of the panel stand behind one",
                        account.id
                    ),
                ));
            }
            if let Some(other) = ids.insert(account.id.clone(), index) {
                return Err(check.wrong(
                    &key("id"),
                    format!("{:?} is the id of account[{other}] too", account.id),
                ));
            }
            let aes = match &account.key_file {
                Some(file) => {
                    let text = check.password(&key("key_file"), file)?;
                    let aes = Key::from_digits(&text).ok_or_else(|| {
                        check.wrong(
                            &key("key_file"),
                            format!("{file:?} must hold the panel's AES key: 32, 48 or 64 hexadecimal digits"),
                        )
                    })?;
                    Some(aes)
                }
                None => None,
            };
            let shown = number.clone();
            let account = Account {
                id: account.id,
                key: aes,
                peer: account.peer,
            };
            if known.insert(number, account).is_some() {
                return Err(check.wrong(
                    &key("account"),
                    format!("{shown:?} is there twice: remove one of the two"),
                ));
            }
        }
        Ok(Self {
            callers,
            accounts: Accounts {
                known,
                unknown: config.unknown,
                window,
            },
        })
    }

    fn devices(&self) -> Vec<String> {
        self.accounts
            .known
            .values()
            .map(|account| account.id.clone())
            .collect()
    }

    async fn run(self, feed: Feed, stop: CancellationToken) {
        let accounts = Arc::new(self.accounts);
        // A panel may connect anew for each message.
        let recent = Arc::new(Mutex::new(Recent::default()));
        let line = move || PanelLine {
            framer: Framer::default(),
            peer: None,
            accounts: accounts.clone(),
            recent: recent.clone(),
        };
        callers::run(self.callers, feed, stop, line).await;
    }
}

/// What comes on a connection, or in datagrams.
struct PanelLine {
    framer: Framer,
    peer: Option<IpAddr>,
    accounts: Arc<Accounts>,
    recent: Arc<Mutex<Recent>>,
}

/// The time of a message's receipt.
struct Now {
    ms: i64,
    utc: DateTime,
    is_set: bool,
}

/// Why a message is not taken, and what its panel is told.
enum Refusal {
    /// `NAK`.
    Nak(Reject),
    /// `DUH`.
    Duh(Reject),
    /// Nothing.
    Silent(Reject),
}

impl Refusal {
    fn duh(error: impl ToString) -> Self {
        Self::Duh(Reject::new(error.to_string()))
    }

    fn nak(error: impl ToString) -> Self {
        Self::Nak(Reject::new(error.to_string()))
    }
}

/// A message that was opened, and whose it is.
struct Opened<'a> {
    header: Header<'a>,
    account: Account,
    kind: Id,
    /// In clear, from behind the first `[` on.
    clear: std::borrow::Cow<'a, [u8]>,
}

/// Finds out whose a message is and opens it.
fn open<'a>(
    body: &'a [u8],
    accounts: &Accounts,
    peer: IpAddr,
) -> Result<Opened<'a>, (Refusal, Option<Header<'a>>)> {
    let (header, rest) = Header::read(body)
        .map_err(|error| (Refusal::Silent(Reject::new(error.to_string())), None))?;
    let refused = |refusal| (refusal, Some(header));
    let mut named = header.account.to_owned();
    if named.is_empty() && !header.sealed {
        // Some name themselves in the data only.
        let data = Content::read(rest).map(|content| content.data.into_owned());
        let data = data.unwrap_or_default();
        let first = data
            .split('|')
            .next()
            .and_then(|block| block.strip_prefix('#'));
        named = first.unwrap_or_default().to_owned();
    }
    let account = accounts
        .find(&named, peer)
        .map_err(|reject| refused(Refusal::Nak(reject)))?;
    let clear = match (&account.key, header.sealed) {
        (Some(key), true) => message::open(&header, rest, key)
            .map_err(|error| refused(Refusal::nak(error)))?
            .into(),
        (None, false) => rest.into(),
        (Some(_), false) => {
            return Err(refused(Refusal::nak(format!(
                "account {named} has a key and sends in clear: switch encryption on at the panel, or remove key_file"
            ))));
        }
        (None, true) => {
            let error = MessageError::Sealed(named);
            return Err(refused(Refusal::nak(error)));
        }
    };
    let Some(kind) = header.kind() else {
        return Err(refused(Refusal::duh(format!(
            "messages of {} are not read: set the panel to SIA-DCS or ADM-CID",
            header.id
        ))));
    };
    Ok(Opened {
        header,
        account,
        kind,
        clear,
    })
}

impl Opened<'_> {
    /// Reads it and hands it over.
    fn take(
        &self,
        raw: &[u8],
        window: Window,
        recent: &Mutex<Recent>,
        now: &Now,
        group: &mut Group<'_>,
    ) -> Result<(), Refusal> {
        let content = Content::read(&self.clear).map_err(Refusal::duh)?;
        if self.header.sealed
            && now.is_set
            && let Some(time) = content.time
            && !window.holds(time, now.utc)
        {
            return Err(Refusal::nak(format!(
                "the clock of account {} is off by {} s: it was told the time and sends again",
                self.header.account,
                time.duration_since(now.utc).as_secs()
            )));
        }
        let panel = self.account.id.as_str();
        if self.kind == Id::Null {
            let device = panel.into();
            group.message(raw, Ok(Said::Heartbeat { device }));
            return Ok(());
        }
        let mark = Mark {
            device: panel.to_owned(),
            sequence: self.header.sequence.to_owned(),
            data: frame::crc(content.data.as_bytes()),
        };
        let sent_ms = content.time.and_then(map::utc_ms);
        let stem = recent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stem(mark, sent_ms, now.ms);
        let from = From {
            panel,
            account: self.header.account,
            stem: &stem,
            content: &content,
        };
        let said = match self.kind {
            Id::AdmCid => from.report(Report::read(&content.data).map_err(Refusal::duh)?),
            Id::SiaDcs | Id::Null => from.block(Block::read(&content.data).map_err(Refusal::duh)?),
        };
        group.message(raw, Ok(said));
        Ok(())
    }
}

impl PanelLine {
    fn body(
        &self,
        body: &[u8],
        raw: &[u8],
        peer: IpAddr,
        now: &Now,
        group: &mut Group<'_>,
        out: &mut Out,
    ) {
        let taken = match open(body, &self.accounts, peer) {
            Ok(opened) => {
                out.good(&opened.account.id);
                let window = self.accounts.window;
                match opened.take(raw, window, &self.recent, now, group) {
                    Ok(()) => {
                        let key = opened.account.key.as_ref();
                        out.answers
                            .push(message::ack(&opened.header, key, now.utc, &random()));
                        return;
                    }
                    Err(refusal) => Err((refusal, Some(opened.header))),
                }
            }
            Err(refused) => {
                out.bad();
                Err::<(), _>(refused)
            }
        };
        let Err((refusal, header)) = taken else {
            return;
        };
        let reject = match refusal {
            Refusal::Silent(reject) => reject,
            Refusal::Nak(reject) => {
                // The panel would set its clock by ours.
                if now.is_set {
                    out.answers.push(message::nak(now.utc));
                }
                reject
            }
            Refusal::Duh(reject) => {
                out.answers
                    .extend(header.map(|header| message::duh(&header)));
                reject
            }
        };
        group.message(raw, Err(reject));
    }
}

/// For a pad. Without randomness all pads are alike, which costs secrecy of answers and nothing else.
fn random() -> [u8; PAD_BYTES_MAX] {
    let mut bytes = [0; PAD_BYTES_MAX];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes
}

impl Line for PanelLine {
    fn feed(&mut self, peer: IpAddr, bytes: &[u8]) {
        self.peer = Some(peer);
        self.framer.feed(bytes);
    }

    fn take(&mut self, group: &mut Group<'_>, out: &mut Out, mut rest: Rest) {
        let Some(peer) = self.peer else { return };
        let ms = group.received_ms();
        let now = Now {
            ms,
            utc: Timestamp::from_millisecond(ms)
                .unwrap_or(Timestamp::UNIX_EPOCH)
                .to_zoned(TimeZone::UTC)
                .datetime(),
            is_set: clock::is_set(ms),
        };
        let mut framer = std::mem::take(&mut self.framer);
        while !group.is_full() {
            let piece = match rest {
                Rest::Coming => framer.take(),
                Rest::Late | Rest::Ended => framer.give_up(),
            };
            if rest == Rest::Late {
                rest = Rest::Coming;
            }
            match piece {
                None => break,
                Some(Piece::Rejected(why, bytes)) => {
                    out.bad();
                    group.message(bytes, Err(Reject::new(why.to_string())));
                }
                Some(Piece::Body(body, raw)) => self.body(body, raw, peer, &now, group, out),
            }
        }
        self.framer = framer;
    }

    fn held(&self) -> usize {
        self.framer.held()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn checked(text: &str) -> Result<Dc09, ConfigError> {
        let directory = tempfile::tempdir().expect("directory");
        std::fs::write(directory.path().join("key"), "a5".repeat(16)).expect("a key");
        std::fs::write(directory.path().join("short"), "a5a5").expect("a key");
        let config = toml::from_str(text).expect("TOML of it");
        let check = Check {
            name: "panels",
            path: &directory.path().join("agent.toml"),
            key: "source[0]",
        };
        Dc09::new(config, &check)
    }

    fn account(account: &str, id: &str, more: &str) -> String {
        format!("[[account]]\naccount = {account:?}\nid = {id:?}\n{more}\n")
    }

    #[test]
    fn a_wrong_config_names_its_key() {
        let tcp = "tcp = \"0.0.0.0:12128\"\n";
        let good = account("1234", "panel-1", "key_file = \"key\"");
        for (text, key) in [
            (good.clone(), "source[0].tcp"),
            (tcp.to_owned(), "source[0].account"),
            (
                format!("{tcp}clock_behind = \"0s\"\n{good}"),
                "source[0].clock_behind",
            ),
            (
                format!("{tcp}clock_ahead = \"2d\"\n{good}"),
                "source[0].clock_ahead",
            ),
            (format!("{tcp}{good}{good}"), "source[0].account[1].id"),
            (
                format!("{tcp}{good}{}", account("1234", "b", "")),
                "source[0].account[1].account",
            ),
            (
                format!("{tcp}{}", account("12-34", "b", "")),
                "source[0].account[0].account",
            ),
            (
                format!("{tcp}{}", account("1234", "a/b", "")),
                "source[0].account[0].id",
            ),
            (
                format!("{tcp}{}", account("1234", "b", "key_file = \"short\"")),
                "source[0].account[0].key_file",
            ),
        ] {
            match checked(&text) {
                Err(ConfigError::Value { key: named, .. }) => assert_eq!(named, key, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        let missing = format!("{tcp}{}", account("1234", "b", "key_file = \"none\""));
        assert!(matches!(checked(&missing), Err(ConfigError::Read { .. })));
        assert_eq!(
            checked(&format!("{tcp}{good}"))
                .expect("a config")
                .devices(),
            ["panel-1"]
        );
    }

    #[test]
    fn a_message_is_opened_by_its_account_only() {
        let text = format!(
            "tcp = \"0.0.0.0:12128\"\n{}{}",
            account("abcd", "sealed", "key_file = \"key\""),
            account("#1234", "clear", "")
        );
        let accounts = checked(&text).expect("a config").accounts;
        let id = |body: &str| {
            let opened = open(body.as_bytes(), &accounts, PEER).ok()?;
            Some(opened.account.id)
        };
        assert_eq!(
            id("\"SIA-DCS\"0001L0#1234[#1234|NFA1]").as_deref(),
            Some("clear")
        );
        assert_eq!(
            id("\"SIA-DCS\"0001L0[#1234|NFA1]").as_deref(),
            Some("clear")
        );
        let key = Key::from_digits(&"a5".repeat(16)).expect("a key");
        let sealed = key.seal(b"|#ABCD|NFA1]_10:00:00,01-01-2026", &[3; PAD_BYTES_MAX]);
        assert_eq!(
            id(&format!("\"*SIA-DCS\"0001L0#ABCD[{sealed}")).as_deref(),
            Some("sealed")
        );
        for (body, nak) in [
            (format!("\"*SIA-DCS\"0001L0#1234[{sealed}"), true),
            ("\"SIA-DCS\"0001L0#ABCD[#ABCD|NFA1]".to_owned(), true),
            ("\"SIA-DCS\"0001L0#9999[#9999|NFA1]".to_owned(), true),
            ("\"*SIA-DCS\"0001L0#ABCD[00]".to_owned(), true),
            ("\"SIA-PUL\"0001L0#1234[x]".to_owned(), false),
        ] {
            let Err((refusal, header)) = open(body.as_bytes(), &accounts, PEER) else {
                panic!("{body}");
            };
            assert!(header.is_some(), "{body}");
            assert_eq!(matches!(refusal, Refusal::Nak(_)), nak, "{body}");
        }
        assert!(matches!(
            open(b"\"SIA-DCS", &accounts, PEER),
            Err((Refusal::Silent(_), None))
        ));
    }
}
