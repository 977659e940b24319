//! Clock anchors: for each boot, the difference of wall and monotonic time, learnt while the wall clock is
//! synchronised ([`GatewayClock`]). With it the hub corrects the times of earlier events. Kept in `<data>/anchors`
//! (JSON), for the last [`ANCHORS_MAX`] boots.
use linli_shared::protocol::frame::ClockAnchor;
use linli_shared::protocol::ids::BootId;
use linli_shared::protocol::limits::ANCHORS_MAX;
use linli_shared::service::{clock, file};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::gateway_clock::{GatewayClock, STEP_MS_MIN};
use crate::metrics::Metrics;

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The task that watches the wall clock.
pub struct ClockAnchors {
    path: PathBuf,
    boot: BootId,
    gateway: GatewayClock,
    known: watch::Sender<Vec<ClockAnchor>>,
    metrics: Metrics,
}

impl ClockAnchors {
    /// Reads the anchors of earlier boots. An unreadable file is replaced: it only helps waiting events from those
    /// boots.
    pub fn load(
        data_dir: &Path,
        boot: BootId,
        gateway: GatewayClock,
        metrics: Metrics,
    ) -> (Self, watch::Receiver<Vec<ClockAnchor>>) {
        let path = data_dir.join("anchors");
        let earlier = read(data_dir);
        recall(&gateway, &earlier, boot, offset_ms());
        let (known, seen) = watch::channel(earlier);
        let anchors = Self {
            path,
            boot,
            gateway,
            known,
            metrics,
        };
        anchors.look();
        (anchors, seen)
    }

    /// Checks every two seconds until `stop`.
    pub async fn run(self, stop: CancellationToken) -> Result<(), std::io::Error> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            // Both arms are cancel-safe.
            tokio::select! {
                _ = look.tick() => self.look(),
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    fn look(&self) {
        let offset_ms = offset_ms();
        let stepped_ms = self.gateway.look(clock::kernel_synchronised(), offset_ms);
        if let Some(step_ms) = stepped_ms {
            self.metrics.clock_steps.inc();
            tracing::warn!(step_ms, "the wall clock was stepped");
        }
        let is_synchronised = self.gateway.is_synchronised();
        self.metrics.clock_set.set(i64::from(is_synchronised));
        if !is_synchronised {
            return;
        }
        let before = self.known.borrow().clone();
        let Some(after) = advance(&before, self.boot, offset_ms) else {
            return;
        };
        match serde_json::to_vec(&after) {
            Ok(bytes) => {
                if let Err(error) = file::replace(&self.path, &bytes, 0o600) {
                    tracing::warn!(path = ?self.path, %error, "clock anchors cannot be written");
                }
            }
            Err(error) => tracing::warn!(%error, "clock anchors cannot be encoded"),
        }
        self.known.send_replace(after);
    }
}

/// The clock of this gateway, by the kernel and by the anchor of an earlier agent in this boot.
pub fn gateway(data_dir: &Path, boot: BootId) -> GatewayClock {
    let gateway = GatewayClock::default();
    gateway.look(clock::kernel_synchronised(), offset_ms());
    recall(&gateway, &read(data_dir), boot, offset_ms());
    gateway
}

fn read(data_dir: &Path) -> Vec<ClockAnchor> {
    std::fs::read(data_dir.join("anchors"))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// Current wall time minus monotonic time.
pub fn offset_ms() -> i64 {
    clock::wall_ms() - clock::monotonic_ms() as i64
}

/// If an earlier process of this boot knew the clock to be synchronised, and it was not stepped since, it still is.
fn recall(gateway: &GatewayClock, earlier: &[ClockAnchor], boot: BootId, offset_ms: i64) {
    let anchor = earlier.iter().find(|anchor| anchor.boot == boot);
    if let Some(anchor) = anchor
        && (anchor.offset_ms - offset_ms).abs() < STEP_MS_MIN
    {
        gateway.hub_says(0, offset_ms);
    }
}

/// The anchors after a check of a synchronised clock; `None` if nothing has changed.
fn advance(known: &[ClockAnchor], boot: BootId, offset_ms: i64) -> Option<Vec<ClockAnchor>> {
    let before = known.iter().find(|anchor| anchor.boot == boot);
    let step_ms = before.map(|anchor| offset_ms - anchor.offset_ms);
    if step_ms.is_some_and(|step_ms| step_ms.abs() < STEP_MS_MIN) {
        return None;
    }
    let mut after: Vec<ClockAnchor> = known
        .iter()
        .filter(|anchor| anchor.boot != boot)
        .cloned()
        .collect();
    after.push(ClockAnchor { boot, offset_ms });
    let surplus = after.len().saturating_sub(ANCHORS_MAX);
    after.drain(..surplus);
    Some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON_MS: i64 = 1_790_000_000_000;

    #[test]
    fn a_boot_has_one_anchor_and_drift_changes_it_not() {
        let anchors = advance(&[], BootId(1), NOON_MS).expect("a first anchor");
        assert_eq!(anchors[0].offset_ms, NOON_MS);
        assert_eq!(advance(&anchors, BootId(1), NOON_MS + 1_500), None);
    }

    #[test]
    fn a_restart_within_the_boot_knows_the_clock_again_unless_it_was_stepped() {
        let anchors = vec![ClockAnchor {
            boot: BootId(1),
            offset_ms: NOON_MS,
        }];
        let known = |boot, offset_ms| {
            let gateway = GatewayClock::default();
            recall(&gateway, &anchors, boot, offset_ms);
            gateway.is_synchronised()
        };
        assert!(known(BootId(1), NOON_MS + 500));
        assert!(!known(BootId(1), NOON_MS - 3_600_000));
        assert!(!known(BootId(2), NOON_MS));
    }

    #[test]
    fn a_step_replaces_the_anchor_of_this_boot_only() {
        let anchors = vec![
            ClockAnchor {
                boot: BootId(1),
                offset_ms: 1,
            },
            ClockAnchor {
                boot: BootId(2),
                offset_ms: NOON_MS,
            },
        ];
        let after = advance(&anchors, BootId(2), NOON_MS + 60_000).expect("a step");
        assert_eq!(after[0], anchors[0]);
        assert_eq!(after[1].offset_ms, NOON_MS + 60_000);
    }

    #[test]
    fn only_so_many_boots_are_kept() {
        let mut anchors = Vec::new();
        for boot in 0..40 {
            anchors = advance(&anchors, BootId(boot), NOON_MS).expect("a new boot");
        }
        assert_eq!(anchors.len(), ANCHORS_MAX);
        assert_eq!(anchors.last().map(|anchor| anchor.boot), Some(BootId(39)));
    }
}
