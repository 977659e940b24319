//! Deletes the files that no case refers to: of cases that are deleted, what was removed from a case, and what a crash has
//! left between the file and its action. A part of each run of retention.
//!
//! A file that came less than [`GRACE_MS`] ago stays: who sent it may be about to refer to it. Whether one goes is looked
//! at again with the lock held, under which no file gets its name (`files`); the proof is committed before the file goes,
//! so that there is none that went without.
use linli_shared::service::clock;
use std::collections::BTreeMap;
use std::io;

use super::{BATCH_ROWS, RetentionError, RetentionWriter, Run};
use crate::attachments::files::{self, Files};
use linli_store::attachments;
use linli_store::retention::{self, Step};

/// How old a file is at least: an hour.
pub const GRACE_MS: i64 = 3_600_000;
/// The rule of the proofs.
pub const RULE: &str = "no case refers to it";

/// Deletes what nobody refers to: how many, and the proof.
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
        // Held until they are gone; arrivals wait for some milliseconds.
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

/// Of these files those that are old and that no case refers to, with when they came.
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
