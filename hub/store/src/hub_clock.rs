//! What is kept of the hub's own clock, as numbers beside the others: see `clock_guard.rs`.
use super::versions::{get, set};
use super::{Connection, StoreError};
use linli_domain::clock_guard::{Anchor, Doubt, KeptClock};

const BOOT: &str = "clock.boot";
const KNOWN: &str = "clock.known";
const MONOTONIC: &str = "clock.monotonic";
/// How often a person has trusted the clock.
const TRUSTED: &str = "clock.trusted";
/// How often the hub has done so.
const APPLIED: &str = "clock.applied";
/// 0: no doubt; else its place in [`Doubt::WORDS`], from 1 on.
const DOUBT: &str = "clock.doubt";
const OFF: &str = "clock.off";
/// The last jump of hub time, in which nothing was heard.
const GAP_FROM: &str = "clock.gap_from";
const GAP_TO: &str = "clock.gap_to";

/// What the hub before has kept; `None`: there was none.
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

/// Keeps known time, and why the clock is doubtful.
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

/// Why the clock was doubtful when that was last kept.
pub async fn doubt(connection: &mut Connection) -> Result<Option<Doubt>, StoreError> {
    let by_ms = get(connection, OFF).await?;
    Ok(match get(connection, DOUBT).await? {
        1 => Some(Doubt::Stepped { by_ms }),
        2 => Some(Doubt::Away { by_ms }),
        3 => Some(Doubt::Unsynchronised),
        _ => None,
    })
}

/// A person trusts the clock: the hub does so when it looks next.
pub async fn trust(connection: &mut Connection) -> Result<(), StoreError> {
    let times = get(connection, TRUSTED).await?;
    set(connection, TRUSTED, times + 1).await
}

/// A person has trusted the clock, and the hub has not done so yet: the number to note when it has.
pub async fn trust_asked(connection: &mut Connection) -> Result<Option<i64>, StoreError> {
    let asked = get(connection, TRUSTED).await?;
    let applied = get(connection, APPLIED).await?;
    Ok((asked != applied).then_some(asked))
}

/// The hub trusts the clock, as it was asked; hub time jumped between these times.
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

/// The last jump of hub time: from, to. Nothing was heard between.
pub async fn gap(connection: &mut Connection) -> Result<Option<(i64, i64)>, StoreError> {
    let to_ms = get(connection, GAP_TO).await?;
    if to_ms == 0 {
        return Ok(None);
    }
    Ok(Some((get(connection, GAP_FROM).await?, to_ms)))
}
