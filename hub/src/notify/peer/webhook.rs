//! Webhooks: CloudEvents 1.0 in structured JSON, signed.
//!
//! One notice is one event (`application/cloudevents+json`), a digest is a batch of events
//! (`application/cloudevents-batch+json`), so that each keeps its own id:
//!
//! ```text
//! POST …
//! Content-Type: application/cloudevents+json
//! Linli-Signature: t=1767225600,v1=<hex of HMAC-SHA256(secret, "1767225600." + body)>
//!
//! {"specversion":"1.0","id":"warning/123/raised/duty-hook","type":"cn.linli.warning.raised",
//!  "source":"urn:linli:hub:<root's hash>","subject":"warning/123","time":"2026-01-01T00:00:00Z",
//!  "datacontenttype":"application/json","data":{…the notice…}}
//! ```
//!
//! News of a case has the type `cn.linli.case.<what>`, the subject `case/<code>` and an id with the number of the action,
//! `case/<code>/<number>/<channel>`: what comes later has a higher number.
//!
//! A receiver checks the signature over the bytes as they came, refuses a `t` that is far from its own
//! clock, and drops what it has by `id`.
use linli_shared::service::clock;
use linli_shared::service::peer::{SIGNATURE, Signer};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url};
use serde_json::{Value, json};

use super::{Answer, Failure, Letter, ask};

/// One webhook.
pub struct Webhook {
    client: Client,
    url: Url,
    signer: Signer,
    source: String,
}

impl Webhook {
    /// Connects to nothing.
    pub fn new(client: Client, url: Url, secret: String, source: &str) -> Self {
        Self {
            client,
            url,
            signer: Signer::new(secret.as_bytes()),
            source: source.to_owned(),
        }
    }

    /// Sends letters as one message.
    pub async fn send(&self, letters: &[Letter], now_ms: i64) -> Result<Answer, Failure> {
        let (content_type, body) = match letters {
            [letter] => ("application/cloudevents+json", event(letter, &self.source)),
            _ => (
                "application/cloudevents-batch+json",
                letters
                    .iter()
                    .map(|letter| event(letter, &self.source))
                    .collect(),
            ),
        };
        let body = body.to_string();
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, content_type)
            .header(
                SIGNATURE,
                self.signer.signature(now_ms.div_euclid(1000), &body),
            )
            .body(body);
        ask(request).await
    }
}

fn event(letter: &Letter, source: &str) -> Value {
    let notice = &letter.notice;
    let about = if notice.news.is_some() {
        "case"
    } else {
        "warning"
    };
    json!({
        "specversion": "1.0",
        "id": letter.id,
        "type": format!("cn.linli.{about}.{}", notice.what.as_str()),
        "source": source,
        "subject": notice.subject(),
        "time": clock::rfc3339(notice.at_ms),
        "datacontenttype": "application/json",
        "data": notice,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::centre::notice_examples::{fire, late};

    #[test]
    fn an_event_has_what_cloudevents_wants() {
        let event = event(
            &Letter {
                id: "warning/7/raised/hook".to_owned(),
                notice: fire(7),
            },
            "urn:linli:hub:x",
        );
        for (key, value) in [
            ("specversion", "1.0"),
            ("id", "warning/7/raised/hook"),
            ("type", "cn.linli.warning.raised"),
            ("source", "urn:linli:hub:x"),
            ("subject", "warning/7"),
            ("time", "2026-01-01T00:00:00Z"),
        ] {
            assert_eq!(event[key], value, "{key}");
        }
        assert_eq!(event["data"]["grade"], "red");
    }

    #[test]
    fn news_of_a_case_is_of_the_case() {
        let letter = Letter {
            id: "case/20260101-000001/7/hook".to_owned(),
            notice: late(),
        };
        let event = event(&letter, "urn:linli:hub:x");
        assert_eq!(event["type"], "cn.linli.case.yellow_card");
        assert_eq!(event["subject"], "case/20260101-000001");
        assert_eq!(event["data"]["news"]["version"], 7);
    }
}
