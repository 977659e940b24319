//! A message of a device, from its authorisation to its answer: registrations, alarms, channels.
use jiff::Timestamp;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::borrow::Cow;
use std::hash::Hasher;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use super::server::{Server, random};
use crate::ingest::IngestBatch;
use crate::transport::inbound::Out;
use linli_devices::device_event::{DecodedMessage, Reject};
use linli_devices::gb28181::digest::{Credentials, Nonce};
use linli_devices::gb28181::manscdp::{self, Root};
use linli_devices::gb28181::map;
use linli_devices::gb28181::registry::{EXPIRES_MAX_S, EXPIRES_S};
use linli_devices::gb28181::sip::{self, Message, Request, Start};
use linli_devices::text;
use linli_devices::time;

/// Methods that are served.
const ALLOW: &str = "Allow: REGISTER, MESSAGE, NOTIFY\r\n";

/// A request in progress, and the destination of its answers.
pub struct Taking<'t> {
    pub server: &'t Server,
    pub message: &'t Message<'t>,
    pub raw: &'t [u8],
    pub peer: SocketAddr,
    pub now_ms: u64,
    pub batch: &'t mut IngestBatch,
    pub out: &'t mut Out,
}

impl Taking<'_> {
    /// Handles the request: its events go to the batch, its answers to `out`.
    pub fn take(&mut self) {
        match self.message.start {
            Start::Response { code } => self.response(code),
            Start::Request { .. } if !self.message.is_answerable() => {
                if self.stranger() {
                    let why = "has no Via, From, To, Call-ID or CSeq, so nobody can be answered";
                    self.batch
                        .message(&without_credentials(self.raw), Err(Reject::new(why)));
                }
            }
            Start::Request { method, .. } => match method {
                "REGISTER" => self.register(),
                "MESSAGE" | "NOTIFY" => self.said(method),
                "ACK" => {
                    // The ACK of a 405 to an INVITE: it gets no answer.
                    if self.stranger() {
                        self.server.ingest.count("ack", 1);
                    }
                }
                _ => {
                    if self.stranger() {
                        let (code, allow) = match sip::is_known(method) {
                            true => (405, ALLOW),
                            false => (501, ""),
                        };
                        self.answer(code, allow);
                        let said = match sip::is_known(method) {
                            true => Ok(DecodedMessage::LeftOut {
                                device: Cow::default(),
                                what: format!("method {method}").into(),
                            }),
                            false => Err(Reject::new(format!("{method:.40?} is no method of SIP"))),
                        };
                        self.batch.message(&without_credentials(self.raw), said);
                    }
                }
            },
        }
    }

    /// Takes a token for an unknown sender; false: do not answer at all.
    fn stranger(&mut self) -> bool {
        self.out.bad();
        let may = self
            .server
            .registry()
            .stranger_may(self.peer.ip(), self.now_ms);
        if !may {
            self.server.ingest.count("flood", 1);
        }
        may
    }

    fn answer(&mut self, code: u16, more: &str) {
        let tag = self.server.tag(self.message);
        let answer = self.message.answer(code, self.peer, &tag, more);
        self.out.answers.push(answer);
    }

    fn refuse(&mut self, code: u16, why: String) {
        self.answer(code, "");
        self.batch
            .message(&without_credentials(self.raw), Err(Reject::new(why)));
    }

    /// Handles an answer to the agent's own request.
    fn response(&mut self, code: u16) {
        let to = self.message.header("To").and_then(sip::user);
        let device = to.unwrap_or_default().to_owned();
        let is_registered =
            self.server
                .registry()
                .is_registered(&device, self.peer.ip(), self.now_ms);
        if !is_registered {
            if self.stranger() {
                let why = format!("an answer {code} to what nobody asked");
                self.batch
                    .message(&without_credentials(self.raw), Err(Reject::new(why)));
            }
            return;
        }
        if !self.server.registry().device_may(&device, self.now_ms) {
            self.out.bad();
            self.server.ingest.count("flood", 1);
            return;
        }
        self.out.good(&device);
        let device = device.into();
        let said = match code {
            ..300 => DecodedMessage::heartbeat(device),
            _ => DecodedMessage::LeftOut {
                device,
                what: format!("an answer {code} to a question of the agent").into(),
            },
        };
        self.batch.message(self.raw, Ok(said));
    }

    fn register(&mut self) {
        let server = self.server;
        let (peer, now_ms) = (self.peer, self.now_ms);
        let device = self.message.from_user().unwrap_or_default().to_owned();
        // Unknown senders at the same address do not lock out a registered device.
        let is_registered = {
            let mut registry = server.registry();
            registry.is_registered(&device, peer.ip(), now_ms)
                && registry.device_may(&device, now_ms)
        };
        if !is_registered && !self.stranger() {
            return;
        }
        let Some(account) = server.accounts.find(&device) else {
            return self.refuse(
                403,
                format!(
                    "device {:?}, which registers from {}, is not in the config: add [[source.device]] with this id",
                    device.chars().take(32).collect::<String>(),
                    peer.ip()
                ),
            );
        };
        if let Some(from) = account.peer
            && from != peer.ip()
        {
            return self.refuse(
                403,
                format!(
                    "device {device} registers from {}, not from the peer of its [[source.device]], {from}: correct it if the device has moved",
                    peer.ip()
                ),
            );
        }
        let credentials = self
            .message
            .header("Authorization")
            .and_then(Credentials::read);
        let judged = credentials.as_ref().map(|credentials| {
            server
                .nonces
                .judge(credentials.nonce, now_ms, &device, peer.ip())
        });
        let (Some(credentials), Some(Nonce::Good)) = (credentials, judged) else {
            let nonce = server.nonces.give(now_ms, &device, peer.ip());
            let stale = if judged.is_some() { ", stale=true" } else { "" };
            let challenge = format!(
                "WWW-Authenticate: Digest realm=\"{}\", nonce=\"{nonce}\", algorithm=MD5{stale}\r\n",
                server.accounts.realm
            );
            self.out.bad();
            server.ingest.count("challenged", 1);
            return self.answer(401, &challenge);
        };
        if !credentials.prove("REGISTER", &server.accounts.realm, &account.password) {
            let why = format!(
                "device {device} at {} gave a wrong password or realm: write the SIP password of the device into its password_file, and {:?} as the domain into the device",
                peer.ip(),
                server.accounts.realm
            );
            server.ingest.trouble(&device, &why);
            self.out.bad();
            return self.refuse(403, why);
        }
        self.out.good(&device);
        let expires_s = sip::expires(self.message)
            .unwrap_or(EXPIRES_S)
            .min(EXPIRES_MAX_S);
        let mut more = String::new();
        if expires_s > 0
            && let Some(contact) = self.message.header("Contact")
        {
            more = format!("Contact: {contact}\r\n");
        }
        more += &format!("Expires: {expires_s}\r\n");
        more += &self.date();
        self.answer(200, &more);
        if expires_s == 0 {
            server.registry().remove(&device);
            let said = DecodedMessage::LeftOut {
                device: device.as_str().into(),
                what: "REGISTER with Expires 0: it goes".into(),
            };
            self.batch.message(&without_credentials(self.raw), Ok(said));
            server
                .ingest
                .trouble(&device, "it has ended its registration");
            return;
        }
        server.registry().register(&device, peer, expires_s, now_ms);
        let said = DecodedMessage::heartbeat(device.as_str());
        self.batch.message(&without_credentials(self.raw), Ok(said));
        self.ask(&device);
    }

    /// The `Date` by which devices set their clocks (§ 9.10.1): the agent's own time if it is synchronised.
    fn date(&self) -> String {
        let ms = self.batch.received_ms();
        if !self.batch.is_synchronised() {
            return String::new();
        }
        let time = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
        let civil = time.to_zoned(self.server.ingest.zone().clone()).datetime();
        format!(
            "Date: {}.{:03}\r\n",
            civil.strftime("%Y-%m-%dT%H:%M:%S"),
            civil.millisecond()
        )
    }

    /// Whether a device may send; a refused device is answered with the reason.
    fn may_say(&mut self, device: &str) -> bool {
        let server = self.server;
        let (peer, now_ms) = (self.peer, self.now_ms);
        let is_its_place = server
            .accounts
            .find(device)
            .is_some_and(|account| account.peer == Some(peer.ip()));
        let mut registry = server.registry();
        let mut is_registered = registry.is_registered(device, peer.ip(), now_ms);
        if !is_registered && is_its_place {
            registry.register(device, peer, EXPIRES_S, now_ms);
            is_registered = true;
        }
        if is_registered {
            let may = registry.device_may(device, now_ms);
            drop(registry);
            if !may {
                self.out.bad();
                server.ingest.count("flood", 1);
            }
            return may;
        }
        drop(registry);
        if self.stranger() {
            self.refuse(
                403,
                format!(
                    "device {:?} has not registered from {}: it registers when it is told so, or give it its peer in [[source.device]]",
                    device.chars().take(32).collect::<String>(),
                    peer.ip()
                ),
            );
        }
        false
    }

    /// Handles MESSAGE and NOTIFY.
    fn said(&mut self, method: &str) {
        let device = self.message.from_user().unwrap_or_default().to_owned();
        if !self.may_say(&device) {
            return;
        }
        self.out.good(&device);
        if method == "NOTIFY" && self.message.body.is_empty() {
            // The end of a subscription.
            self.answer(200, "");
            let said = DecodedMessage::heartbeat(device.as_str());
            return self.batch.message(self.raw, Ok(said));
        }
        let text = text::lossy(self.message.body);
        let mut refused = None;
        let mut taken = Vec::new();
        for body in manscdp::decode_all(&text) {
            let said = body.and_then(|body| {
                let call = self.call(&body.time);
                let from = map::From {
                    device: &device,
                    call: &call,
                };
                self.batch.message(self.raw, Ok(from.said(&body)?));
                if let Some(reject) = from.broken(&body) {
                    self.batch.message(self.raw, Err(reject.of(&device)));
                }
                Ok((
                    body.root,
                    body.command.to_ascii_lowercase(),
                    map::number(&body.sn),
                    body.device.to_string(),
                ))
            });
            match said {
                Ok(body) => taken.push(body),
                Err(reject) => refused = Some(format!("device {device}: {reject}")),
            }
        }
        match refused {
            // An unreadable body does not affect the others of the message.
            Some(why) if !taken.is_empty() => {
                self.batch
                    .message(&without_credentials(self.raw), Err(Reject::new(why)));
            }
            Some(why) => return self.refuse(400, why),
            None if taken.is_empty() => {
                return self.refuse(400, format!("device {device}: the body is empty"));
            }
            None => {}
        }
        self.answer(200, "");
        for (root, command, sn, part) in taken {
            match (root, command.as_str()) {
                (Root::Notify, "alarm") => {
                    if let Some(sn) = sn {
                        self.send(&device, &manscdp::alarm_taken(sn, &part));
                    }
                }
                (Root::Response, "catalog") => {
                    self.server.registry().heard_channels(&device, self.now_ms);
                }
                _ => {}
            }
        }
        self.ask(&device);
    }

    /// Distinguishes an alarm beside its own fields: empty if its time is plausible, else its call.
    fn call(&self, at: &str) -> String {
        let at_ms = time::read(at, self.server.ingest.zone());
        if at_ms.is_some_and(time::can_be) {
            return String::new();
        }
        let call = self.message.header("Call-ID").unwrap_or_default();
        let cseq = self.message.header("CSeq").unwrap_or_default();
        // The same in each process: events stored before a restart are recognised after it.
        let mut hasher = SipHasher13::new_with_key(&[0; 16]);
        hasher.write(call.as_bytes());
        hasher.write(&[0]);
        hasher.write(cseq.as_bytes());
        format!("{:016x}", hasher.finish128().h1)
    }

    /// Asks a device for its channels if that is due.
    fn ask(&mut self, device: &str) {
        let Some(every) = self.server.accounts.catalog_every else {
            return;
        };
        let is_due = self
            .server
            .registry()
            .ask(device, every.as_millis() as u64, self.now_ms);
        if is_due {
            let sn = self.server.sn.fetch_add(1, Ordering::Relaxed);
            self.send(device, &manscdp::query_catalog(sn, device));
        }
    }

    /// Sends the agent's own MESSAGE, over the transport that the device used.
    fn send(&mut self, device: &str, body: &str) {
        let transport = self.message.transport();
        let request = Request {
            transport,
            peer: self.peer,
            own: self.server.own(transport, self.peer),
            device,
            id: &self.server.accounts.id,
            realm: &self.server.accounts.realm,
            token: &hex::encode(random::<8>()),
            body,
        };
        self.out.answers.push(request.message());
    }
}

/// Removes the headers by which a password could be guessed: raw messages stay on the box.
pub fn without_credentials(raw: &[u8]) -> Cow<'_, [u8]> {
    const NAME: &[u8] = b"authorization";
    let is_secret = |line: &&[u8]| {
        line.get(..NAME.len())
            .is_some_and(|name| name.eq_ignore_ascii_case(NAME))
    };
    let lines = || raw.split_inclusive(|byte| *byte == b'\n');
    if !lines().any(|line| is_secret(&line)) {
        return Cow::Borrowed(raw);
    }
    let mut kept = Vec::with_capacity(raw.len());
    let mut within = false;
    for line in lines() {
        let is_folded = line.starts_with(b" ") || line.starts_with(b"\t");
        within = is_secret(&line) || (within && is_folded);
        if !within {
            kept.extend_from_slice(line);
        }
    }
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_kept() {
        let raw = b"REGISTER sip:a SIP/2.0\r\nauthorization: Digest a\r\n b=c\r\nTo: x\r\n\r\n";
        let kept = without_credentials(raw);
        assert_eq!(kept.as_ref(), b"REGISTER sip:a SIP/2.0\r\nTo: x\r\n\r\n");
        let raw = b"MESSAGE sip:a SIP/2.0\r\nTo: x\r\n\r\n";
        assert!(matches!(without_credentials(raw), Cow::Borrowed(_)));
    }
}
