//! What a batch promises about devices before it is durable, and the batches that it waits for.
use linli_shared::service::clock;
use tokio::sync::watch;

use super::SourceIngest;
use super::states::Staged;
use crate::intake::Way;

/// Changes to devices that a batch makes before it is durable. However the batch ends, they are settled.
pub(super) struct Pledges {
    pub(super) ingest: SourceIngest,
    pub(super) number: u64,
    /// Devices that the batch reports as online.
    pub(super) back: Vec<String>,
    /// Devices whose clocks the batch reports.
    pub(super) clocks: Vec<String>,
    /// States in flight that have an event, each with the way of its event; a state without an event is known at
    /// once.
    pub(super) flying: Vec<(Staged, Option<Way>)>,
    /// The ways that refused their events; `None` until the spool has answered.
    pub(super) settled: Option<watch::Sender<Option<Vec<Way>>>>,
}

impl Pledges {
    /// Records the spool's answer: these ways refused.
    pub(super) fn settle(&mut self, refused: Vec<Way>) {
        let now_ms = clock::monotonic_ms();
        let flying = std::mem::take(&mut self.flying);
        let is_durable = |staged: &Staged| {
            flying.iter().any(|(known, way)| {
                known == staged && way.is_none_or(|way| !refused.contains(&way))
            })
        };
        let mut status = self.ingest.status();
        status.devices.land(self.number, now_ms, is_durable);
        status.end_flight(self.number);
        drop(status);
        if let Some(settled) = self.settled.take() {
            settled.send_replace(Some(refused));
        }
    }

    /// Records that the agent's own events are durable.
    pub(super) fn told(&mut self) {
        self.back.clear();
        if self.clocks.is_empty() {
            return;
        }
        let mut status = self.ingest.status();
        for device in self.clocks.drain(..) {
            status.devices.clock_told(&device);
        }
    }

    /// Records that the agent's own events were not stored: the agent reports them again.
    pub(super) fn not_told(&mut self) {
        if self.back.is_empty() && self.clocks.is_empty() {
            return;
        }
        let mut status = self.ingest.status();
        for device in self.back.drain(..) {
            status.devices.not_told(&device);
        }
        for device in self.clocks.drain(..) {
            status.devices.clock_not_told(&device);
        }
    }
}

impl Drop for Pledges {
    fn drop(&mut self) {
        if !self.flying.is_empty() {
            let now_ms = clock::monotonic_ms();
            let mut status = self.ingest.status();
            status.devices.land(self.number, now_ms, |_| false);
            status.end_flight(self.number);
        }
        self.not_told();
    }
}

/// An earlier batch that this one waits for because it is not durable yet.
pub(super) struct Earlier {
    pub(super) way: Way,
    pub(super) settled: watch::Receiver<Option<Vec<Way>>>,
}
