//! What people do about warnings, within a transaction: acknowledge, mute.
use linli_shared::protocol::event::Severity;

use super::Acknowledged;
use super::work::Work;
use crate::store::{StoreError, mutes, outbox, warnings};
use crate::warnings::Mute;

impl Work<'_> {
    /// Somebody acknowledges a warning: it is passed on no further.
    pub async fn acknowledge(
        &mut self,
        id: i64,
        by: &str,
        note: &str,
    ) -> Result<Acknowledged, StoreError> {
        if warnings::acknowledge(self.connection, id, by, self.now_ms).await? {
            warnings::note(self.connection, id, self.now_ms, by, "acknowledged", note).await?;
            return Ok(Acknowledged::Now);
        }
        Ok(match warnings::find(self.connection, id).await? {
            Some(_) => Acknowledged::Before,
            None => Acknowledged::Unknown,
        })
    }

    /// Adds a mute, and keeps back what has not been sent yet of the warnings that it matches.
    pub async fn mute(&mut self, mute: Mute) -> Result<i64, StoreError> {
        self.memory.last_mute += 1;
        let mute = Mute {
            id: self.memory.last_mute,
            ..mute
        };
        mutes::insert(self.connection, &mute, self.now_ms).await?;
        if mute.from_ms > self.now_ms {
            return Ok(mute.id);
        }
        let reason = format!("静默 {} / mute {}：{}", mute.id, mute.id, mute.reason);
        for told in warnings::waiting(self.connection).await? {
            let severity = Severity::from_name(&told.severity).unwrap_or(Severity::Life);
            if mute.matches(&told.rule, &told.site, &told.key, severity) {
                outbox::drop_waiting(self.connection, told.id, &reason, self.now_ms).await?;
                warnings::mute(self.connection, told.id, mute.id).await?;
                let actor = mute.owner.as_str();
                warnings::note(self.connection, told.id, self.now_ms, actor, "muted", &reason).await?;
            }
        }
        Ok(mute.id)
    }
}
