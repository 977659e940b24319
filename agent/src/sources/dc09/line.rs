//! Messages of panels, from bytes to answers: who sent one, whether it is authentic, and what it means.
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use super::accounts::{Account, Accounts};
use crate::ingest::IngestBatch;
use crate::transport::inbound::{Line, Out, Rest};
use linli_devices::dc09::contact_id::Report;
use linli_devices::dc09::frame::{self, Framer, Piece};
use linli_devices::dc09::map::{self, From};
use linli_devices::dc09::message::{self, Content, Header, Id, MessageError, Window};
use linli_devices::dc09::recent::{Heard, Mark, Recent, Seal};
use linli_devices::dc09::sia_dcs::Block;
use linli_devices::device_event::Reject;

/// Reads a connection, or datagrams.
pub(crate) struct PanelLine {
    framer: Framer,
    peer: Option<IpAddr>,
    accounts: Arc<Accounts>,
    recent: Arc<Mutex<Recent>>,
}

impl PanelLine {
    /// `recent` belongs to the whole source, because a panel may connect anew for each message.
    pub fn new(accounts: Arc<Accounts>, recent: Arc<Mutex<Recent>>) -> Self {
        Self {
            framer: Framer::default(),
            peer: None,
            accounts,
            recent,
        }
    }
}

/// The time at which a message was received.
struct Now {
    ms: i64,
    utc: DateTime,
    is_synchronised: bool,
}

/// Why a message is refused, and the answer to its panel.
enum Refusal {
    /// `NAK`.
    Nak(Reject),
    /// `DUH`.
    Duh(Reject),
    /// No answer.
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

/// An opened message and its owner.
struct Opened<'a> {
    header: Header<'a>,
    account: Account,
    kind: Id,
    /// The clear text behind the first `[`.
    clear: Cow<'a, [u8]>,
    /// The seal, if the message was sealed.
    sealed: Option<Seal>,
}

/// Identifies the owner of a message and opens it.
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
        // Some panels name themselves in the data only.
        let content = Content::read(rest).map_err(|error| refused(Refusal::duh(error)))?;
        let first = content
            .data
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
        sealed: header.sealed.then(|| Seal::of(rest)),
        header,
        account,
        kind,
        clear,
    })
}

impl Opened<'_> {
    /// Reads the message and stores it; returns the time for its answer.
    fn take(
        &self,
        raw: &[u8],
        window: Window,
        recent: &Mutex<Recent>,
        now: &Now,
        batch: &mut IngestBatch,
    ) -> Result<DateTime, Refusal> {
        let content = Content::read(&self.clear).map_err(Refusal::duh)?;
        // A panel whose clock shows no time is accepted too; its seal exposes a replay.
        if self.header.sealed
            && now.is_synchronised
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
        let mark = Mark {
            device: panel.to_owned(),
            sequence: self.header.sequence.to_owned(),
            data: frame::crc(content.data.as_bytes()),
        };
        let sent_ms = content.time.and_then(map::utc_ms);
        let mut recent = recent.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = match (self.kind, self.sealed) {
            (Id::Null, _) => Heard {
                stem: String::new(),
                sent_ms,
            },
            // The sealed part identifies the message, whatever header precedes it.
            (_, Some(seal)) => recent.hear_sealed(mark, seal, sent_ms, now.ms),
            (_, None) => recent.hear(mark, sent_ms, now.ms),
        };
        drop(recent);
        let from = From {
            panel,
            account: self.header.account,
            stem: &heard.stem,
            sent_ms: heard.sent_ms,
            content: &content,
        };
        let said = match self.kind {
            Id::Null => from.heartbeat(),
            Id::AdmCid => from.report(Report::read(&content.data).map_err(Refusal::duh)?),
            Id::SiaDcs => from.block(Block::read(&content.data).map_err(Refusal::duh)?),
        };
        batch.message(raw, Ok(said));
        // While the agent's time is not synchronised, the panel gets its own time back.
        let told = content.time.filter(|_| !now.is_synchronised);
        Ok(told.unwrap_or(now.utc))
    }
}

impl PanelLine {
    fn body(
        &self,
        body: &[u8],
        raw: &[u8],
        peer: IpAddr,
        now: &Now,
        batch: &mut IngestBatch,
        out: &mut Out,
    ) {
        let taken = match open(body, &self.accounts, peer) {
            Ok(opened) => {
                out.good(&opened.account.id);
                let window = self.accounts.window;
                match opened.take(raw, window, &self.recent, now, batch) {
                    Ok(told) => {
                        let key = opened.account.key.as_ref();
                        // Without randomness all pads are alike, which costs only the secrecy of answers.
                        let pad = linli_shared::service::random::bytes().unwrap_or_default();
                        out.answers
                            .push(message::ack(&opened.header, key, told, &pad));
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
                if now.is_synchronised {
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
        batch.message(raw, Err(reject));
    }
}

impl Line for PanelLine {
    fn feed(&mut self, peer: SocketAddr, bytes: &[u8]) {
        self.peer = Some(peer.ip());
        self.framer.feed(bytes);
    }

    fn take(&mut self, batch: &mut IngestBatch, out: &mut Out, mut rest: Rest) {
        let Some(peer) = self.peer else { return };
        let ms = batch.received_ms();
        let now = Now {
            ms,
            utc: Timestamp::from_millisecond(ms)
                .unwrap_or(Timestamp::UNIX_EPOCH)
                .to_zoned(TimeZone::UTC)
                .datetime(),
            is_synchronised: batch.is_synchronised(),
        };
        let mut framer = std::mem::take(&mut self.framer);
        while !batch.is_full() {
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
                    batch.message(bytes, Err(Reject::new(why.to_string())));
                }
                Some(Piece::Body(body, raw)) => self.body(body, raw, peer, &now, batch, out),
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
    use crate::sources::dc09::accounts::tests::{account, checked};
    use linli_devices::dc09::cipher::{Key, PAD_BYTES_MAX};

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_message_is_opened_by_its_account_only() {
        let text = format!(
            "tcp = \"0.0.0.0:12128\"\n{}{}",
            account("abcd", "sealed", "key_file = \"key\""),
            account("#1234", "clear", "")
        );
        let accounts = checked(&text).expect("a config");
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
