//! The way of changes: the hub's writer, or a transaction of the command line.
use linli_shared::service::clock;

use super::ServiceError;
use crate::ingest::Ingest;
use crate::ingest::acknowledge::{self, Acknowledged};
use crate::ingest::people_changes::{PeopleChange, perform};
use linli_domain::changes::{ChangeKind, ChangeSet};
use linli_domain::warnings::Mute;
use linli_store::outbox::{Delivery, Settlement};
use linli_store::{Connection, Store, StoreError, changes, outbox};

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
    pub async fn people(&self, change: PeopleChange, actor: &str) -> Result<bool, ServiceError> {
        match self {
            Self::Writer(ingest) => Ok(ingest.people(change, actor).await?),
            Self::Own(store) => {
                own(store, async |connection, changes, now_ms| {
                    perform(connection, changes, &change, actor, now_ms).await
                })
                .await
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
                own(store, async |connection, changes, now_ms| {
                    acknowledge::acknowledge(connection, changes, id, &by, &note, now_ms).await
                })
                .await
            }
        }
    }

    /// Adds a mute that has been checked; its number.
    pub async fn mute(&self, mute: Mute) -> Result<i64, ServiceError> {
        match self {
            Self::Writer(ingest) => Ok(ingest.mute(mute).await?),
            Self::Own(store) => {
                own(store, async |connection, changes, now_ms| {
                    acknowledge::mute(connection, changes, &mute, now_ms).await
                })
                .await
            }
        }
    }

    /// Ends a mute; false if it does not hold.
    pub async fn end_mute(&self, id: i64) -> Result<bool, ServiceError> {
        match self {
            Self::Writer(ingest) => Ok(ingest.end_mute(id).await?),
            Self::Own(store) => {
                own(store, async |connection, changes, now_ms| {
                    acknowledge::end_mute(connection, changes, id, now_ms).await
                })
                .await
            }
        }
    }

    /// Sends a dead notification again; false if it is not dead.
    pub async fn resend(&self, id: i64) -> Result<bool, ServiceError> {
        match self {
            Self::Writer(ingest) => {
                let outcome = Delivery::Again;
                let settled = ingest.settle(vec![Settlement { id, outcome }]).await?;
                Ok(settled > 0)
            }
            Self::Own(store) => Ok(resend_dead(store, Some(id)).await? > 0),
        }
    }
}

/// Sends dead notifications again from the command line, one or all; how many.
pub async fn resend_dead(store: &Store, id: Option<i64>) -> Result<usize, ServiceError> {
    own(store, async |connection, changes, now_ms| {
        let channels = outbox::again(connection, id, now_ms).await?;
        for channel in &channels {
            changes.touch(ChangeKind::Notifications, channel.as_str());
        }
        Ok(channels.len())
    })
    .await
}

/// A transaction of this process, which writes its numbered changes last.
async fn own<T>(
    store: &Store,
    act: impl AsyncFnOnce(&mut Connection, &mut ChangeSet, i64) -> Result<T, StoreError>,
) -> Result<T, ServiceError> {
    let now_ms = clock::wall_ms();
    let done = store.in_transaction(async |connection| {
        let mut set = ChangeSet::default();
        let done = act(connection, &mut set, now_ms).await?;
        changes::write(connection, &set, now_ms).await?;
        Ok(done)
    });
    Ok(done.await?)
}
