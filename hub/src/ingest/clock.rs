//! The writer's clock: it looks at it every second, and keeps what the next start is to know.
use std::time::{Duration, Instant};

use super::metrics::IngestMetrics;
use crate::clock_watch::{self, ClockPublisher, boot_number};
use linli_domain::clock_guard::{ClockConfig, ClockGuard, Doubt, HubTime, KeptClock};
use linli_store::{self as store, Connection, StoreError, failed, hub_clock, outbox, warnings};

/// Known time is kept this often: a restart forgets no more.
const KEEP_EVERY: Duration = Duration::from_secs(15);

pub struct WriterClock {
    guard: ClockGuard,
    publisher: ClockPublisher,
    kept: Option<Instant>,
    /// Why the clock was doubtful when it was last looked at.
    doubt: Option<Doubt>,
    /// The doubt has begun or ended, and no transaction has written so yet.
    is_news: bool,
}

impl WriterClock {
    /// With what the hub before has kept.
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
        // Nothing is written here: on a full disk a hub starts too. The running writer does it first thing.
        clock.look(metrics);
        clock.kept = None;
        Ok(clock)
    }

    /// Whether the doubt has begun or ended since this was last asked.
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

    /// Trusts the clock where a person has said so. Gives the jump of hub time that it made.
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
            // Nobody has more or less time to acknowledge, and what is to be told now is not told in years.
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

    /// Looks at the clock, and says what is to be kept now.
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
