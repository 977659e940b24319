//! Alertmanager, API v2: `POST /api/v2/alerts`, an alert for each notice of a message.
//!
//! An alert is known by its labels, so one that comes again is the same one. It lasts until the warning
//! ends or is withdrawn, [`LASTS_MS`] at most: Alertmanager forgets by itself what nobody repeats, after
//! five minutes, unless it is told an end. A warning whose labels change, as when its grade rises, ends
//! as it was and begins as it is; so what it was before is looked up in the outbox (`told`).
use linli_shared::service::clock;
use reqwest::{Client, Url};
use serde_json::{Value, json};

use super::{Answer, Failure, Letter, ask};
use crate::notify::words;
use linli_domain::notice::Notice;

/// An alert that nobody ends is over after a day.
const LASTS_MS: i64 = 86_400_000;
/// That of a test is over soon.
const TEST_LASTS_MS: i64 = 5 * 60_000;

/// One Alertmanager.
pub struct Alertmanager {
    client: Client,
    url: Url,
    login: Option<(String, String)>,
}

impl Alertmanager {
    /// Connects to nothing.
    pub fn new(client: Client, url: &Url, login: Option<(String, String)>) -> Self {
        let mut url = url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v2", "alerts"]);
        }
        Self { client, url, login }
    }

    /// Sends letters as one message; `told` is what it was told of their warnings before.
    pub async fn send(
        &self,
        told: &[Notice],
        letters: &[Letter],
        now_ms: i64,
    ) -> Result<Answer, Failure> {
        let mut request = self.client.post(self.url.clone());
        if let Some((user, password)) = &self.login {
            request = request.basic_auth(user, Some(password));
        }
        let notices: Vec<&Notice> = letters.iter().map(|letter| &letter.notice).collect();
        ask(request.json(&alerts(told, &notices, now_ms))).await
    }
}

/// The alerts of a message, each set of labels once: as the last notice has it.
fn alerts(told: &[Notice], notices: &[&Notice], now_ms: i64) -> Vec<Value> {
    let mut alerts: Vec<Value> = Vec::new();
    let mut put = |alert: Value| {
        alerts.retain(|other| other["labels"] != alert["labels"]);
        alerts.push(alert);
    };
    for notice in notices {
        let labels = labels(notice);
        for earlier in told
            .iter()
            .filter(|earlier| earlier.warning == notice.warning)
        {
            if self::labels(earlier) != labels {
                put(alert(earlier, now_ms));
            }
        }
        let lasts_ms = match notice {
            _ if notice.what.is_over() => 0,
            _ if notice.is_test() => TEST_LASTS_MS,
            _ => LASTS_MS,
        };
        put(alert(notice, now_ms + lasts_ms));
    }
    alerts
}

fn alert(notice: &Notice, ends_ms: i64) -> Value {
    json!({
        "labels": labels(notice),
        "annotations": {
            "summary": words::subject(&[notice]),
            "description": words::text(&[notice]),
        },
        "startsAt": clock::rfc3339(notice.at_ms.min(ends_ms)),
        "endsAt": clock::rfc3339(ends_ms),
    })
}

fn labels(notice: &Notice) -> Value {
    json!({
        "alertname": notice.rule,
        "severity": notice.severity.as_str(),
        "grade": notice.grade,
        "site": notice.site,
        "warning": notice.warning.to_string(),
        "source": "linli-hub",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::centre::notice_examples::fire;
    use linli_domain::notice::What;

    fn of(notice: &Notice, what: What, grade: &str) -> Notice {
        Notice {
            what,
            grade: grade.to_owned(),
            ..notice.clone()
        }
    }

    #[test]
    fn an_alert_lasts_a_day_unless_it_is_ended() {
        let raised = fire(7);
        let now_ms = raised.at_ms + 5_000;
        let alerts_of = |notice: &Notice| alerts(&[], &[notice], now_ms);
        let alert = &alerts_of(&raised)[0];
        assert_eq!(alert["labels"]["alertname"], "fire-alarm");
        assert_eq!(alert["labels"]["warning"], "7");
        assert_eq!(alert["endsAt"], "2026-01-02T00:00:05Z");
        assert_eq!(alert["startsAt"], "2026-01-01T00:00:00Z");
        let ended = &alerts_of(&of(&raised, What::Ended, "red"))[0];
        assert_eq!(ended["labels"], alert["labels"]);
        assert_eq!(ended["endsAt"], "2026-01-01T00:00:05Z");
    }

    #[test]
    fn a_warning_whose_grade_rises_ends_as_it_was_and_begins_as_it_is() {
        let orange = of(&fire(7), What::Raised, "orange");
        let red = of(&fire(7), What::Escalated, "red");
        let other = of(&fire(8), What::Raised, "orange");
        let now_ms = red.at_ms + 5_000;
        let ends = |alerts: &[Value]| -> Vec<(String, bool)> {
            let now = json!(clock::rfc3339(now_ms));
            let grade = |alert: &Value| alert["labels"]["grade"].to_string();
            alerts
                .iter()
                .map(|alert| (grade(alert), alert["endsAt"] == now))
                .collect()
        };
        let told = [orange.clone(), other];
        assert_eq!(
            ends(&alerts(&told, &[&red], now_ms)),
            [
                ("\"orange\"".to_owned(), true),
                ("\"red\"".to_owned(), false)
            ]
        );
        // Raised and withdrawn in one message: it is over.
        let withdrawn = of(&fire(7), What::Withdrawn, "orange");
        assert_eq!(
            ends(&alerts(&[], &[&orange, &withdrawn], now_ms)),
            [("\"orange\"".to_owned(), true)]
        );
    }
}
