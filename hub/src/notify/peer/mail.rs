//! Mail by SMTP, one message to all recipients of the channel. A digest is one mail.
//!
//! The `Message-ID` is the same for every try of the same letters, so that a mail program can drop a
//! repetition.
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lettre::address::Envelope;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use linli_shared::service::telemetry;
use sha2::{Digest, Sha256};

use super::{Answer, Failure, Letter, SEND_DEADLINE, notices};
use crate::centre::channels::{MailTarget, MailTls, Mailbox};
use crate::notify::words;

/// TLS from the first byte (RFC 8314).
const PORT_TLS: u16 = 465;
/// Bytes of a text that one encoded word takes, so that a line with the header's name is below 76
/// characters (RFC 2047, 2).
const WORD_BYTES: usize = 39;
/// Characters of a line of base64 (RFC 2045, 6.8).
const LINE_CHARS: usize = 76;

/// One mail server.
pub struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Mail {
    /// Connects to nothing. `roots` is a PEM file of more roots to trust.
    pub fn new(
        target: &MailTarget,
        password: Option<String>,
        roots: Option<&[u8]>,
    ) -> Result<Self, lettre::transport::smtp::Error> {
        let parameters = || {
            let mut builder = TlsParameters::builder(target.host.clone());
            if let Some(roots) = roots {
                builder = builder.add_root_certificate(Certificate::from_pem(roots)?);
            }
            builder.build()
        };
        let tls = match target.tls {
            MailTls::Required if target.port == PORT_TLS => Tls::Wrapper(parameters()?),
            MailTls::Required => Tls::Required(parameters()?),
            MailTls::Opportunistic => Tls::Opportunistic(parameters()?),
            MailTls::None => Tls::None,
        };
        let mut transport =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(target.host.as_str())
                .port(target.port)
                .tls(tls)
                .timeout(Some(SEND_DEADLINE));
        if let (Some(login), Some(password)) = (&target.login, password) {
            transport = transport.credentials(Credentials::new(login.user.clone(), password));
        }
        Ok(Self {
            transport: transport.build(),
            from: target.from.clone(),
            to: target.to.clone(),
        })
    }

    /// Sends letters as one mail.
    pub async fn send(&self, letters: &[Letter], now_ms: i64) -> Result<Answer, Failure> {
        let to = self.to.iter().map(|to| to.address.clone()).collect();
        let envelope = Envelope::new(Some(self.from.address.clone()), to)
            .map_err(|error| Failure::permanent(error.to_string()))?;
        let message = self.message(letters, now_ms);
        match self.transport.send_raw(&envelope, message.as_bytes()).await {
            Ok(response) => Ok(Answer {
                status: response.code().to_string(),
                text: response.message().collect::<Vec<_>>().join(" "),
            }),
            Err(error) if error.is_permanent() => Err(Failure::permanent(telemetry::chain(&error))),
            Err(error) => Err(Failure::temporary(telemetry::chain(&error))),
        }
    }

    /// The mail, all of it ASCII: encoded words in the head (RFC 2047), base64 in the body (RFC 2045).
    fn message(&self, letters: &[Letter], now_ms: i64) -> String {
        let notices = notices(letters);
        let to: Vec<String> = self.to.iter().map(mailbox).collect();
        let head = [
            ("From", mailbox(&self.from)),
            ("To", to.join(",\r\n ")),
            ("Subject", encoded(&words::subject(&notices))),
            ("Date", date(now_ms)),
            ("Message-ID", message_id(letters)),
            ("Auto-Submitted", "auto-generated".to_owned()),
            ("MIME-Version", "1.0".to_owned()),
            ("Content-Type", "text/plain; charset=utf-8".to_owned()),
            ("Content-Transfer-Encoding", "base64".to_owned()),
        ];
        let mut message: String = head
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let text = words::text(&notices).replace('\n', "\r\n");
        let body = BASE64_STANDARD.encode(text);
        for start in (0..body.len()).step_by(LINE_CHARS) {
            let end = body.len().min(start + LINE_CHARS);
            message.push_str("\r\n");
            message.push_str(&body[start..end]);
        }
        message.push_str("\r\n");
        message
    }
}

fn mailbox(mailbox: &Mailbox) -> String {
    match &mailbox.name {
        Some(name) => format!("{} <{}>", encoded(name), mailbox.address),
        None => mailbox.address.to_string(),
    }
}

/// Encoded words, each of whole characters.
fn encoded(text: &str) -> String {
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.floor_char_boundary(WORD_BYTES);
        words.push(format!(
            "=?UTF-8?B?{}?=",
            BASE64_STANDARD.encode(&rest[..end])
        ));
        rest = &rest[end..];
    }
    words.join("\r\n ")
}

fn date(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    jiff::fmt::rfc2822::DateTimePrinter::new()
        .timestamp_to_string(&time)
        .unwrap_or_default()
}

fn message_id(letters: &[Letter]) -> String {
    let mut hash = Sha256::new();
    for letter in letters {
        hash.update(letter.id.as_bytes());
        hash.update([0]);
    }
    format!(
        "<{}@linli-hub.invalid>",
        hex::encode(&hash.finalize()[..16])
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::centre::notice_examples::fire;

    fn mail() -> Mail {
        let target = MailTarget {
            host: "localhost".to_owned(),
            port: 25,
            tls: MailTls::None,
            from: "hub@centre.example".parse().expect("an address"),
            to: vec!["值班 <duty@centre.example>".parse().expect("an address")],
            login: None,
        };
        Mail::new(&target, None, None).expect("a mailer")
    }

    fn letter(id: &str) -> Letter {
        Letter {
            id: id.to_owned(),
            notice: fire(7),
        }
    }

    #[test]
    fn a_mail_has_the_same_id_at_every_try() {
        let id = |letters: &[Letter]| {
            let message = mail().message(letters, 0);
            let line = message.lines().find(|line| line.starts_with("Message-ID:"));
            line.expect("an id").to_owned()
        };
        assert_eq!(id(&[letter("a")]), id(&[letter("a")]));
        assert_ne!(id(&[letter("a")]), id(&[letter("b")]));
        assert_ne!(id(&[letter("a")]), id(&[letter("a"), letter("b")]));
    }

    #[test]
    fn a_mail_is_of_short_lines_of_ascii_and_nothing_gets_into_its_head() {
        let mut evil = letter("a");
        evil.notice.rule_name =
            "x\r\nBcc: all@centre.example\r\n\r\n".to_owned() + &"名".repeat(90);
        let message = mail().message(&[evil], 1_767_225_600_000);
        assert!(message.is_ascii());
        assert!(
            message.split("\r\n").all(|line| line.len() <= 78),
            "{message}"
        );
        assert!(
            !message.contains("Bcc") && !message.replace("\r\n", "").contains('\n'),
            "{message}"
        );
        assert!(
            message.contains("Date: Thu, 1 Jan 2026 00:00:00 -0000\r\n"),
            "{message}"
        );
        assert!(
            message.contains("To: =?UTF-8?B?5YC854+t?= <duty@centre.example>\r\n"),
            "{message}"
        );
    }
}
