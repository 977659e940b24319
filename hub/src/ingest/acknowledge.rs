//! What people do about warnings, within a transaction: acknowledge, mute. The hub's writer runs it for the API, the
//! command line in its own transaction.
use linli_shared::protocol::event::Severity;

use linli_domain::changes::{ChangeDetail, ChangeKind, ChangeSet};
use linli_domain::warnings::Mute;
use linli_store::{Connection, StoreError, mutes, outbox, warnings};

/// The result of an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// It is acknowledged now.
    Now,
    /// It was acknowledged before.
    Before,
    /// There is no such warning.
    Unknown,
}

/// Acknowledges a warning, which ends its escalation.
pub async fn acknowledge(
    connection: &mut Connection,
    changes: &mut ChangeSet,
    id: i64,
    by: &str,
    note: &str,
    now_ms: i64,
) -> Result<Acknowledged, StoreError> {
    if warnings::acknowledge(connection, id, by, now_ms).await? {
        changes.warning(id);
        warnings::note(connection, id, now_ms, by, "acknowledged", note).await?;
        return Ok(Acknowledged::Now);
    }
    Ok(match warnings::find(connection, id).await? {
        Some(_) => Acknowledged::Before,
        None => Acknowledged::Unknown,
    })
}

/// Adds a mute, which begins at once if it is in force; returns its number.
pub async fn mute(
    connection: &mut Connection,
    changes: &mut ChangeSet,
    mute: &Mute,
    now_ms: i64,
) -> Result<i64, StoreError> {
    let id = mutes::last_id(connection).await? + 1;
    let mute = Mute { id, ..mute.clone() };
    mutes::insert(connection, &mute, now_ms).await?;
    touch(changes, &mute.site);
    if mute.from_ms <= now_ms {
        begin(connection, changes, &mute, now_ms).await?;
    }
    Ok(id)
}

/// Begins a mute: drops the waiting notices of the warnings that it matches.
pub async fn begin(
    connection: &mut Connection,
    changes: &mut ChangeSet,
    mute: &Mute,
    now_ms: i64,
) -> Result<(), StoreError> {
    let id = mute.id;
    if !mutes::begin(connection, id).await? {
        return Ok(());
    }
    touch(changes, &mute.site);
    let reason = format!("静默 {id} / mute {id}：{}", mute.reason);
    for told in warnings::waiting(connection).await? {
        let severity = Severity::from_name(&told.severity).unwrap_or(Severity::Life);
        if mute.matches(&told.rule, &told.site, &told.key, severity) {
            for channel in outbox::drop_waiting(connection, told.id, &reason, now_ms).await? {
                changes.touch(ChangeKind::Notifications, channel);
            }
            warnings::mute(connection, told.id, id).await?;
            changes.warning(told.id);
            warnings::note(connection, told.id, now_ms, &mute.owner, "muted", &reason).await?;
        }
    }
    Ok(())
}

/// Ends a mute; false if it is not in force.
pub async fn end_mute(
    connection: &mut Connection,
    changes: &mut ChangeSet,
    id: i64,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let Some(site) = mutes::end(connection, id, now_ms).await? else {
        return Ok(false);
    };
    touch(changes, &site);
    Ok(true)
}

fn touch(changes: &mut ChangeSet, site: &str) {
    let detail = ChangeDetail {
        site: site.to_owned(),
        ..ChangeDetail::default()
    };
    changes.add(ChangeKind::Mutes, site, detail);
}
