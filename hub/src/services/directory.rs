//! The directory of organisations and places.
use std::sync::Arc;

use super::{ServiceError, Services};
use crate::ingest::people_changes::PeopleChange;
use linli_domain::orgs::{Directory, changes};
use linli_domain::rights::{Act, Actor};

impl Services {
    /// The directory. Every user may read it: the pages of all name organisations.
    pub async fn directory(&self) -> Result<Arc<Directory>, ServiceError> {
        Ok(self.directory.get().await?)
    }

    /// Changes the directory; each entry that differs has its line in the audit log. Returns what was done to each:
    /// `added`, `changed` or `retired`.
    pub async fn change_directory(
        &self,
        actor: &Actor,
        object: &str,
        with: impl FnOnce(&mut Directory),
    ) -> Result<Vec<&'static str>, ServiceError> {
        self.permit(actor, Act::Manage, "PUT", object).await?;
        let _turn = self.directory_turn.lock().await;
        let before = self.directory.get().await?;
        let mut after = (*before).clone();
        with(&mut after);
        after
            .check()
            .map_err(|(entry, message)| ServiceError::invalid(entry, message))?;
        let changes = changes(&before, &after);
        let actions = changes
            .iter()
            .map(linli_domain::orgs::Change::action)
            .collect();
        if !changes.is_empty() {
            self.writes
                .people(PeopleChange::Directory(changes), &actor.login)
                .await?;
        }
        Ok(actions)
    }
}
