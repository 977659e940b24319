//! Mail by SMTP, one message to all recipients of the channel. A digest is one mail.
//!
//! The `Message-ID` is the same for every try of the same letters, so that a mail program can drop a
//! repetition.
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use linli_shared::service::telemetry;
use sha2::{Digest, Sha256};

use super::{Failure, Letter, SEND_DEADLINE, notices};
use crate::config::channels::{MailTarget, MailTls};
use crate::notify::words;

/// TLS from the first byte (RFC 8314).
const PORT_TLS: u16 = 465;

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
    pub async fn send(&self, letters: &[Letter]) -> Result<String, Failure> {
        let message = self
            .message(letters)
            .map_err(|error| Failure::permanent(telemetry::chain(&error)))?;
        match self.transport.send(message).await {
            Ok(response) => Ok(response.message().collect::<Vec<_>>().join(" ")),
            Err(error) if error.is_permanent() => Err(Failure::permanent(telemetry::chain(&error))),
            Err(error) => Err(Failure::temporary(telemetry::chain(&error))),
        }
    }

    fn message(&self, letters: &[Letter]) -> Result<Message, lettre::error::Error> {
        let notices = notices(letters);
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(words::subject(&notices))
            .message_id(Some(message_id(letters)))
            .header(ContentType::TEXT_PLAIN);
        for mailbox in &self.to {
            message = message.to(mailbox.clone());
        }
        message.body(words::text(&notices))
    }
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
    use crate::notify::notice::tests::fire;

    #[test]
    fn a_mail_is_the_same_at_every_try() {
        let mail = Mail::new(
            &MailTarget {
                host: "localhost".to_owned(),
                port: 25,
                tls: MailTls::None,
                from: "hub@centre.example".parse().expect("an address"),
                to: vec!["值班 <duty@centre.example>".parse().expect("an address")],
                login: None,
            },
            None,
            None,
        )
        .expect("a mailer");
        let letter = |id: &str| Letter {
            id: id.to_owned(),
            notice: fire(7),
        };
        let mut ids: Vec<String> = [
            vec![letter("a")],
            vec![letter("a")],
            vec![letter("b")],
            vec![letter("a"), letter("b")],
        ]
        .iter()
        .map(|letters| {
            let message = mail.message(letters).expect("a mail").formatted();
            let message = String::from_utf8(message).expect("text");
            assert!(message.contains("duty@centre.example"), "{message}");
            let line = message.lines().find(|line| line.starts_with("Message-ID:"));
            line.expect("an id").to_owned()
        })
        .collect();
        assert_eq!(ids[0], ids[1]);
        ids.dedup();
        assert_eq!(ids.len(), 3);
    }
}
