//! The kept state of the hub's clock, stored as numbers in `versions`: see `clock_guard.rs`.
use super::versions::{get, set};
use super::{Connection, StoreError};
use linli_domain::clock_guard::{Anchor, Doubt, KeptClock};

const BOOT: &str = "clock.boot";
const KNOWN: &str = "clock.known";
const MONOTONIC: &str = "clock.monotonic";
/// How often a person trusted the clock.
const TRUSTED: &str = "clock.trusted";
/// How often the hub applied that.
const APPLIED: &str = "clock.applied";
/// 0: no doubt; otherwise the index in [`Doubt::WORDS`] plus 1.
const DOUBT: &str = "clock.doubt";
const OFF: &str = "clock.off";
/// The last jump of hub time, a gap in which nothing was received.
const GAP_FROM: &str = "clock.gap_from";
const GAP_TO: &str = "clock.gap_to";

/// The state kept by the previous run; `None` if there is none. Errors: [`StoreError`].
pub async fn kept(connection: &mut Connection) -> Result<Option<KeptClock>, StoreError> {
    let wall_ms = get(connection, KNOWN).await?;
    if wall_ms == 0 {
        return Ok(None);
    }
    Ok(Some(KeptClock {
        boot: get(connection, BOOT).await?,
        known: Anchor {
            wall_ms,
            monotonic_ms: get(connection, MONOTONIC).await?.cast_unsigned(),
        },
    }))
}

/// Stores known time, and why the clock is doubtful. Errors: [`StoreError`].
pub async fn keep(
    connection: &mut Connection,
    kept: KeptClock,
    doubt: Option<Doubt>,
) -> Result<(), StoreError> {
    let place = doubt.and_then(|doubt| {
        let word = doubt.as_str();
        Doubt::WORDS.iter().position(|known| *known == word)
    });
    let off_ms = match doubt {
        Some(Doubt::Stepped { by_ms } | Doubt::Away { by_ms }) => by_ms,
        _ => 0,
    };
    for (name, number) in [
        (BOOT, kept.boot),
        (KNOWN, kept.known.wall_ms),
        (MONOTONIC, kept.known.monotonic_ms.cast_signed()),
        (DOUBT, place.map_or(0, |place| place as i64 + 1)),
        (OFF, off_ms),
    ] {
        set(connection, name, number).await?;
    }
    Ok(())
}

/// Why the clock was doubtful when the state was last stored. Errors: [`StoreError`].
pub async fn doubt(connection: &mut Connection) -> Result<Option<Doubt>, StoreError> {
    let by_ms = get(connection, OFF).await?;
    Ok(match get(connection, DOUBT).await? {
        1 => Some(Doubt::Stepped { by_ms }),
        2 => Some(Doubt::Away { by_ms }),
        3 => Some(Doubt::Unsynchronised),
        _ => None,
    })
}

/// Records that a person trusts the clock; the hub applies it at its next check. Errors: [`StoreError`].
pub async fn trust(connection: &mut Connection) -> Result<(), StoreError> {
    let times = get(connection, TRUSTED).await?;
    set(connection, TRUSTED, times + 1).await
}

/// The number to pass to [`trusted`], if a person trusted the clock and the hub has not applied it yet.
/// Errors: [`StoreError`].
pub async fn trust_asked(connection: &mut Connection) -> Result<Option<i64>, StoreError> {
    let asked = get(connection, TRUSTED).await?;
    let applied = get(connection, APPLIED).await?;
    Ok((asked != applied).then_some(asked))
}

/// Records that the hub applied the trust, and the times before and after the jump of hub time. Errors:
/// [`StoreError`].
pub async fn trusted(
    connection: &mut Connection,
    asked: i64,
    jump: Option<(i64, i64)>,
) -> Result<(), StoreError> {
    set(connection, APPLIED, asked).await?;
    if let Some((before_ms, after_ms)) = jump {
        set(connection, GAP_FROM, before_ms.min(after_ms)).await?;
        set(connection, GAP_TO, before_ms.max(after_ms)).await?;
    }
    Ok(())
}

/// The last jump of hub time: from, to. Nothing was received in between. Errors: [`StoreError`].
pub async fn gap(connection: &mut Connection) -> Result<Option<(i64, i64)>, StoreError> {
    let to_ms = get(connection, GAP_TO).await?;
    if to_ms == 0 {
        return Ok(None);
    }
    Ok(Some((get(connection, GAP_FROM).await?, to_ms)))
}
