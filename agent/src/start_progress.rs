//! A long start: systemd extends its timeout as long as it makes progress.
//!
//! Opening a spool reads all its waiting events, seconds per hundred generations on a slow disk. Every [`LOOK_EVERY`]
//! the work done is compared with that of the last look. After progress, systemd is asked for [`EXTENDS_BY`] more and
//! gets the count, and the log gets it too. Without progress systemd's own timeout ends the start.
use linli_shared::service::systemd;
use linli_spool::Progress;
use std::time::Duration;

/// Interval of looks at the progress.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Time that a look with progress asks for, from then on.
const EXTENDS_BY: Duration = Duration::from_secs(60);

/// The result of a look at the progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    /// Time since the start.
    elapsed_s: u64,
    /// Work done.
    count: u64,
    has_moved: bool,
}

/// Waits for `opening`, and extends the start's timeout as long as `progress` rises.
pub async fn watch<T>(opening: impl Future<Output = T>, progress: &Progress) -> T {
    look_while(opening, || progress.count(), tell).await
}

async fn look_while<T>(
    opening: impl Future<Output = T>,
    count: impl Fn() -> u64,
    mut tell: impl FnMut(Look),
) -> T {
    let mut opening = std::pin::pin!(opening);
    let started = tokio::time::Instant::now();
    let mut looks = tokio::time::interval_at(started + LOOK_EVERY, LOOK_EVERY);
    let mut last = count();
    loop {
        // Both arms are cancel-safe: the future is kept, an interval loses no tick.
        tokio::select! {
            biased;
            opened = &mut opening => return opened,
            _ = looks.tick() => {
                let count = count();
                tell(Look {
                    elapsed_s: started.elapsed().as_secs(),
                    count,
                    has_moved: count > last,
                });
                last = count;
            }
        }
    }
}

fn tell(look: Look) {
    let Look {
        elapsed_s,
        count,
        has_moved,
    } = look;
    if has_moved {
        tracing::info!(elapsed_s, count, "the spool is being opened");
        systemd::starting(
            &format!("正在打开缓存 / opening the spool: {elapsed_s} s, {count} steps"),
            EXTENDS_BY,
        );
    } else {
        tracing::warn!(
            elapsed_s,
            count,
            "opening the spool has not moved for 10 s: the disk does not answer"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    #[tokio::test(start_paused = true)]
    async fn more_time_is_asked_for_only_as_long_as_the_work_moves() {
        let count = Cell::new(0);
        let opening = async {
            for _ in 0..25 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                count.set(count.get() + 3);
            }
            // The disk hangs.
            tokio::time::sleep(Duration::from_secs(30)).await;
            "open"
        };
        let looks = RefCell::new(Vec::new());
        let opened = look_while(
            opening,
            || count.get(),
            |look| looks.borrow_mut().push(look),
        );
        assert_eq!(opened.await, "open");
        let moved: Vec<(u64, bool)> = looks
            .borrow()
            .iter()
            .map(|look| (look.elapsed_s, look.has_moved))
            .collect();
        assert_eq!(
            moved,
            [(10, true), (20, true), (30, true), (40, false), (50, false)]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_is_short_says_nothing() {
        let opened = look_while(
            tokio::time::sleep(Duration::from_secs(9)),
            || 0,
            |look| panic!("{look:?}"),
        );
        opened.await;
    }
}
