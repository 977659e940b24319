//! The directory as it is now, read again when somebody has changed it.
use std::sync::Arc;
use tokio::sync::Mutex;

use linli_domain::orgs::Directory;
use linli_store::{Connection, Store, StoreError, orgs, versions};

/// Holds the directory of a store.
pub struct CurrentDirectory {
    store: Store,
    /// With the version that it is.
    known: Mutex<(i64, Arc<Directory>)>,
}

impl CurrentDirectory {
    /// Nothing is read yet.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            known: Mutex::new((0, Arc::default())),
        }
    }

    /// The directory; a look at its version, and no more while that is the same.
    pub async fn get(&self) -> Result<Arc<Directory>, StoreError> {
        let mut snapshot = self.store.snapshot().await?;
        self.of(&mut snapshot).await
    }

    /// The directory of a snapshot, beside what else is read from it.
    pub async fn of(&self, snapshot: &mut Connection) -> Result<Arc<Directory>, StoreError> {
        let version = versions::get(snapshot, versions::DIRECTORY).await?;
        let mut known = self.known.lock().await;
        if version != known.0 {
            *known = (version, Arc::new(orgs::read(snapshot).await?));
        }
        Ok(Arc::clone(&known.1))
    }
}
