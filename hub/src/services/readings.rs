//! Who has read what of a case: it is in the audit log before it is shown. Of what people wrote, the first look of somebody
//! at a case is an entry, and the next for an hour are not noted again.
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{ServiceError, Services};
use crate::ingest::people_changes::PeopleChange;
use linli_domain::rights::Actor;

/// So long one entry stands for all looks.
const NOTED_FOR: Duration = Duration::from_secs(3_600);
/// Looks that are remembered; when there are more, all are forgotten, and noted again.
const READINGS_MAX: usize = 20_000;

/// Looks of the last hour.
#[derive(Debug, Default)]
pub struct Readings(HashMap<(String, String), Instant>);

impl Readings {
    fn is_noted(&self, key: &(String, String), now: Instant) -> bool {
        self.0
            .get(key)
            .is_some_and(|noted| now.duration_since(*noted) < NOTED_FOR)
    }

    fn noted(&mut self, key: (String, String), now: Instant) {
        if self.0.len() >= READINGS_MAX {
            self.0.clear();
        }
        self.0.insert(key, now);
    }
}

impl Services {
    /// Notes in the audit log that an actor reads what people wrote of a case, once an hour.
    pub(super) async fn note_reading(&self, actor: &Actor, code: &str) -> Result<(), ServiceError> {
        let (key, now) = ((actor.login.clone(), code.to_owned()), Instant::now());
        if self.readings.lock().await.is_noted(&key, now) {
            return Ok(());
        }
        self.note_of_case(actor, "case.read", code, String::new(), String::new())
            .await?;
        self.readings.lock().await.noted(key, now);
        Ok(())
    }

    /// Notes in the audit log that an actor is about to be shown something of a case.
    pub(super) async fn note_of_case(
        &self,
        actor: &Actor,
        action: &str,
        code: &str,
        reason: String,
        detail: String,
    ) -> Result<(), ServiceError> {
        let note = PeopleChange::Note {
            action: action.to_owned(),
            object: format!("case/{code}"),
            reason,
            detail,
        };
        self.writes.people(note, &actor.login).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_noted_once_an_hour_and_what_is_remembered_is_bounded() {
        let mut readings = Readings::default();
        let start = Instant::now();
        let key = |code: usize| ("wang".to_owned(), code.to_string());
        assert!(!readings.is_noted(&key(0), start));
        readings.noted(key(0), start);
        assert!(readings.is_noted(&key(0), start + Duration::from_secs(3_599)));
        assert!(!readings.is_noted(&key(0), start + NOTED_FOR));
        assert!(!readings.is_noted(&key(1), start));
        for code in 1..=READINGS_MAX {
            readings.noted(key(code), start);
        }
        assert!(readings.0.len() <= READINGS_MAX);
        assert!(readings.is_noted(&key(READINGS_MAX), start));
    }
}
