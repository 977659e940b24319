//! The way of changes: the hub's writer, or a transaction of the command line.
use linli_shared::service::clock;

use super::ServiceError;
use crate::ingest::Ingest;
use crate::ingest::attend::{self, Acknowledged};
use crate::ingest::people::{People, perform};
use linli_domain::warnings::Mute;
use linli_store::outbox::{Outcome, Settlement};
use linli_store::{Store, mutes, outbox};

/// Commits changes. An answer means that the change is synced.
#[derive(Clone)]
pub enum Writes {
    /// By the writer of the running hub, between its transactions.
    Writer(Ingest),
    /// In a transaction of this process, beside a hub that may run.
    Own(Store),
}

impl Writes {
    /// The writer, for changes that only a running hub makes.
    pub fn writer(&self) -> Result<&Ingest, ServiceError> {
        match self {
            Self::Writer(ingest) => Ok(ingest),
            Self::Own(_) => Err(ServiceError::NotRunning),
        }
    }

    /// Changes something about people or organisations, with its audit entry; false if that changes nothing.
    pub async fn people(&self, change: People, actor: &str) -> Result<bool, ServiceError> {
        match self {
            Self::Writer(ingest) => Ok(ingest.people(change, actor).await?),
            Self::Own(store) => {
                let now_ms = clock::wall_ms();
                let done = store.in_transaction(async |connection| {
                    perform(connection, &change, actor, now_ms).await
                });
                Ok(done.await?)
            }
        }
    }

    /// Acknowledges a warning.
    pub async fn acknowledge(
        &self,
        id: i64,
        by: String,
        note: String,
    ) -> Result<Acknowledged, ServiceError> {
        match self {
            Self::Writer(ingest) => Ok(ingest.acknowledge(id, by, note).await?),
            Self::Own(store) => {
                let now_ms = clock::wall_ms();
                let done = store.in_transaction(async |connection| {
                    attend::acknowledge(connection, id, &by, &note, now_ms).await
                });
                Ok(done.await?)
            }
        }
    }

    /// Adds a mute that has been checked; its number.
    pub async fn mute(&self, mute: Mute) -> Result<i64, ServiceError> {
        match self {
            Self::Writer(ingest) => Ok(ingest.mute(mute).await?),
            Self::Own(store) => {
                let now_ms = clock::wall_ms();
                let done = store.in_transaction(async |connection| {
                    attend::mute(connection, &mute, now_ms).await
                });
                Ok(done.await?)
            }
        }
    }

    /// Ends a mute; false if it does not hold.
    pub async fn end_mute(&self, id: i64) -> Result<bool, ServiceError> {
        match self {
            Self::Writer(ingest) => Ok(ingest.end_mute(id).await?),
            Self::Own(store) => {
                let now_ms = clock::wall_ms();
                let done = store
                    .in_transaction(async |connection| mutes::end(connection, id, now_ms).await);
                Ok(done.await?)
            }
        }
    }

    /// Sends a dead notification again; false if it is not dead.
    pub async fn resend(&self, id: i64) -> Result<bool, ServiceError> {
        match self {
            Self::Writer(ingest) => {
                let outcome = Outcome::Again;
                let settled = ingest.settle(vec![Settlement { id, outcome }]).await?;
                Ok(settled > 0)
            }
            Self::Own(store) => {
                Ok(outbox::again(store.readers(), Some(id), clock::wall_ms()).await? > 0)
            }
        }
    }
}
