//! The writer's clock: reads the clock every second, and keeps the known time for the next start.
use std::time::{Duration, Instant};

use super::metrics::IngestMetrics;
use crate::clock_watch::{self, ClockPublisher, boot_number};
use linli_domain::clock_guard::{ClockConfig, ClockGuard, Doubt, HubTime, KeptClock};
use linli_store::{self as store, Connection, StoreError, failed, hub_clock, outbox, warnings};

/// Interval of writing the known time: a restart forgets no more.
const KEEP_EVERY: Duration = Duration::from_secs(15);

pub struct WriterClock {
    guard: ClockGuard,
    publisher: ClockPublisher,
    kept: Option<Instant>,
    /// The doubt at the last look.
    doubt: Option<Doubt>,
    /// The doubt has begun or ended, and no transaction has written so yet.
    is_news: bool,
}

impl WriterClock {
    /// With the known time of the hub before.
    pub async fn open(
        connection: &mut Connection,
        (config, publisher): (&ClockConfig, ClockPublisher),
        metrics: &IngestMetrics,
    ) -> Result<Self, StoreError> {
        let kept = hub_clock::kept(connection).await?;
        let guard = ClockGuard::new(config, clock_watch::reading(), boot_number(), kept);
        let mut clock = Self {
            guard,
            publisher,
            kept: None,
            doubt: None,
            is_news: false,
        };
        // Nothing is written here, so that a hub starts on a full disk. The running writer writes it first.
        clock.look(metrics);
        clock.kept = None;
        Ok(clock)
    }

    /// True if the doubt has begun or ended since the last call.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.is_news)
    }

    /// The time of a transaction that begins now.
    pub fn time(&self) -> HubTime {
        let (state, reading) = (self.guard.state(), clock_watch::reading());
        HubTime {
            now_ms: state.hub_ms(reading),
            expiry_ms: state.expiry_ms(reading),
            is_doubtful: state.doubt(reading).is_some(),
        }
    }

    /// Trusts the clock if a person has said so. Returns the jump of hub time.
    pub async fn apply_trust(
        &mut self,
        connection: &mut Connection,
    ) -> Result<Option<(i64, i64)>, StoreError> {
        let Some(asked) = hub_clock::trust_asked(connection).await? else {
            return Ok(None);
        };
        let jump = self.guard.trust(clock_watch::reading());
        let mut transaction = store::begin(connection).await?;
        hub_clock::trusted(&mut transaction, asked, jump).await?;
        if let Some((before_ms, after_ms)) = jump {
            // Deadlines of acknowledgements and notices move with hub time.
            warnings::move_deadlines(&mut transaction, after_ms.saturating_sub(before_ms)).await?;
            outbox::move_due(&mut transaction, after_ms.saturating_sub(before_ms)).await?;
        }
        transaction
            .commit()
            .await
            .map_err(failed("noting that the clock is trusted"))?;
        let jumped_ms = jump.map_or(0, |(before_ms, after_ms)| after_ms - before_ms);
        tracing::warn!(jumped_ms, "the clock is trusted, as a person has said");
        Ok(jump)
    }

    /// Reads the clock; returns the state to keep, if it is due.
    pub fn look(&mut self, metrics: &IngestMetrics) -> Option<(KeptClock, Option<Doubt>)> {
        let reading = clock_watch::reading();
        let state = self.guard.look(reading);
        self.publisher.publish(state);
        let doubt = state.doubt(reading);
        metrics.clock(doubt);
        let word = |doubt: Option<Doubt>| doubt.map(Doubt::as_str);
        let is_news = word(doubt) != word(self.doubt);
        match doubt {
            Some(doubt) if is_news => tracing::error!(
                reason = doubt.words(),
                "the hub's clock is doubtful: retention, expiry and escalation are held until it is right, or until \
                 `linli-hub clock trust`"
            ),
            None if is_news => tracing::warn!("the hub's clock is believed again"),
            _ => {}
        }
        self.doubt = doubt;
        self.is_news |= is_news;
        let is_due = self.kept.is_none_or(|kept| kept.elapsed() >= KEEP_EVERY);
        if !(is_due || is_news) {
            return None;
        }
        self.kept = Some(Instant::now());
        Some((self.guard.kept(reading), doubt))
    }
}
