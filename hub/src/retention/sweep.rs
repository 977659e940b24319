//! Deletes files that no case refers to: of deleted cases, removed from a case, or left by a crash between the file and
//! its action. A part of each run of retention.
//!
//! A file younger than [`GRACE_MS`] stays: its sender may be about to refer to it. The decision is repeated with the
//! lock held, under which no file gets its name (`files`); the proof commits before the file is deleted,
//! so that every deletion has a proof.
use linli_shared::service::clock;
use std::collections::BTreeMap;
use std::io;

use super::{BATCH_ROWS, RetentionError, RetentionWriter, Run};
use crate::attachments::files::{self, Files};
use linli_store::attachments;
use linli_store::retention::{self, Step};

/// Minimum age of a deleted file: an hour.
pub const GRACE_MS: i64 = 3_600_000;
/// The rule in proofs.
pub const RULE: &str = "no case refers to it";

/// Deletes files without references; returns how many, and the proof.
pub async fn sweep(
    run: &Run<'_>,
    hand: &mut RetentionWriter<'_>,
) -> Result<(u64, Option<i64>), RetentionError> {
    let (mut deleted, mut proof) = (0, None);
    let all = blocking(run.files, |files| files.all()).await?;
    for digests in all.chunks(BATCH_ROWS as usize) {
        if unreferred(run, digests).await?.is_empty() {
            continue;
        }
        // Held until they are deleted; arrivals wait for some milliseconds.
        let lock = blocking(run.files, |files| files.lock()).await?;
        let gone = unreferred(run, digests).await?;
        if gone.is_empty() {
            continue;
        }
        deleted += gone.len() as u64;
        if matches!(hand, RetentionWriter::Nobody) {
            continue;
        }
        let step = Step::Files(retention::Files {
            gone: gone.clone(),
            rule: RULE.to_owned(),
            actor: run.actor.to_owned(),
            proof,
        });
        proof = hand.step(step, run.now_ms).await?.proof;
        blocking(run.files, move |files| {
            gone.keys()
                .try_for_each(|digest| files.remove(digest, &lock))
        })
        .await?;
    }
    Ok((deleted, proof))
}

/// The old files among these that no case refers to, with the time of their arrival.
async fn unreferred(
    run: &Run<'_>,
    digests: &[String],
) -> Result<BTreeMap<String, i64>, RetentionError> {
    let before_ms = clock::wall_ms().min(run.now_ms) - GRACE_MS;
    let mut reader = run.store.reader().await?;
    let referred = attachments::referred(&mut reader, digests).await?;
    drop(reader);
    let mut old = BTreeMap::new();
    for digest in digests {
        if referred.contains(digest) {
            continue;
        }
        let came_ms = run
            .files
            .came_ms(digest)
            .map_err(|source| failed(run.files, source))?;
        if let Some(came_ms) = came_ms.filter(|came_ms| *came_ms < before_ms) {
            old.insert(digest.clone(), came_ms);
        }
    }
    Ok(old)
}

fn failed(files: &Files, source: io::Error) -> RetentionError {
    RetentionError::Files {
        path: files.root().to_owned(),
        source,
    }
}

async fn blocking<T: Send + 'static>(
    files: &Files,
    work: impl FnOnce(&Files) -> io::Result<T> + Send + 'static,
) -> Result<T, RetentionError> {
    let own = files.clone();
    let worked = files::blocking(move || work(&own)).await;
    worked.map_err(|source| failed(files, source))
}
