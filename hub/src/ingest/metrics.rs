//! The metrics of the writer: what was stored, what the rules made of it, how long it took.
use linli_shared::protocol::ids::{AgentId, Lane};
use linli_shared::service::metrics::Registrar;
use prometheus::{
    Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};

use linli_domain::clock_guard::Doubt;
use linli_domain::correlate::engine::Engine;
use linli_domain::warnings::NotificationOutcome;
use linli_store::{Store, warnings};

const LATENCY_BUCKETS: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0, 86400.0,
];

/// Handles of these metrics; cheap to clone.
#[derive(Clone)]
pub struct IngestMetrics {
    events_stored: IntCounterVec,
    stored_bytes: IntCounterVec,
    events_doubled: IntCounterVec,
    events_lost: IntCounterVec,
    /// Events in quarantine.
    pub quarantined: IntCounter,
    events_withheld: IntCounterVec,
    /// From the agent's receipt to the store.
    pub delivery_seconds: Histogram,
    /// Transactions.
    pub commit_seconds: Histogram,
    /// Transactions that failed.
    pub store_failures: IntCounter,
    /// Events, requests and deadlines that made their transaction fail each time.
    pub passed_over: IntCounter,
    /// Rules that are loaded.
    pub rules: IntGauge,
    /// 1 where a start did not read as far back as the windows of the rules want.
    pub recall_cut: IntGauge,
    /// How long the last start took to read what correlation needs.
    pub recall_seconds: Gauge,
    events_evaluated: IntGaugeVec,
    rule_keys: IntGauge,
    rule_bytes: IntGauge,
    rule_overflow: IntGaugeVec,
    rule_beyond: IntGaugeVec,
    warnings_raised: IntCounterVec,
    warnings_late: IntCounterVec,
    warning_outcomes: IntCounterVec,
    unacknowledged: IntGauge,
    warnings_revised: IntCounterVec,
    warnings_escalated: IntCounterVec,
    warning_latency: HistogramVec,
    /// Cases that rules have opened.
    pub cases_opened: IntCounter,
    clock_doubtful: IntGaugeVec,
}

impl IngestMetrics {
    /// Registers them.
    pub fn register(registrar: &Registrar) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            events_stored: registrar.counters(
                "linli_hub_events_stored_total",
                "Events stored for the first time.",
                &["lane"],
            )?,
            stored_bytes: registrar.counters(
                "linli_hub_stored_bytes_total",
                "Bytes of chunks stored.",
                &["lane"],
            )?,
            events_doubled: registrar.counters(
                "linli_hub_events_doubled_total",
                "Events that came again and were dropped.",
                &["lane"],
            )?,
            events_lost: registrar.counters(
                "linli_hub_events_lost_total",
                "Events that an agent reported as lost.",
                &["agent"],
            )?,
            quarantined: registrar.counter(
                "linli_hub_events_quarantined_total",
                "Events whose number is taken by other content, or that cannot be read.",
            )?,
            events_withheld: registrar.counters(
                "linli_hub_events_withheld_total",
                "Events of kinds that only stations report, from an agent that is none: stored, seen by no rule.",
                &["agent"],
            )?,
            delivery_seconds: registrar.histogram("linli_hub_delivery_seconds", "From receipt at the agent to the store of the hub, by the two clocks.", LATENCY_BUCKETS)?,
            commit_seconds: registrar.histogram("linli_hub_commit_seconds", "One transaction of the writer.", LATENCY_BUCKETS)?,
            passed_over: registrar.counter(
                "linli_hub_passed_over_total",
                "Events, requests and deadlines that made their transaction fail each time and were passed over; the log says which.",
            )?,
            store_failures: registrar.counter(
                "linli_hub_store_failures_total",
                "Transactions that failed; nothing of them was acknowledged.",
            )?,
            rules: registrar.gauge("linli_hub_rules", "Rules that are loaded.")?,
            recall_cut: registrar.gauge(
                "linli_hub_rule_recall_cut",
                "1 where the last start did not read as far back as the windows of the rules want.",
            )?,
            recall_seconds: registrar.fraction("linli_hub_recall_seconds", "How long the last start took to read what correlation needs.")?,
            events_evaluated: registrar.gauges(
                "linli_hub_rule_events_evaluated",
                "Events that the rule has looked at since it was loaded.",
                &["rule"],
            )?,
            rule_keys: registrar.gauge("linli_hub_rule_keys", "Keys that the rules hold.")?,
            rule_bytes: registrar.gauge(
                "linli_hub_rule_bytes",
                "Memory of the timelines of all rules and their keys.",
            )?,
            rule_overflow: registrar.gauges(
                "linli_hub_rule_overflow_events",
                "Events that found no room in the rule, or lost it, for a limit, since it was loaded.",
                &["rule"],
            )?,
            rule_beyond: registrar.gauges(
                "linli_hub_rule_beyond_events",
                "Events that the rule wanted and that were further than the horizon of 7 days from now, or before \
                 what it still holds: stored, not correlated.",
                &["rule"],
            )?,
            warnings_raised: registrar.counters(
                "linli_hub_warnings_raised_total",
                "Warnings raised, by rule.",
                &["rule"],
            )?,
            warnings_late: registrar.counters(
                "linli_hub_warnings_late_total",
                "Warnings that were old when they were raised (补报), by rule.",
                &["rule"],
            )?,
            warning_outcomes: registrar.counters(
                "linli_hub_warning_outcomes_total",
                "Warnings raised, by whether people were told of them then, or why nobody was: told, late (补报), shadow, \
                 muted, inhibited, no_channel, folded (its agent raises too many).",
                &["outcome"],
            )?,
            unacknowledged: registrar.gauge(
                "linli_hub_warnings_unacknowledged",
                "Warnings that somebody is still to acknowledge.",
            )?,
            warnings_revised: registrar.counters(
                "linli_hub_warnings_revised_total",
                "Warnings that later events have amended or withdrawn, by rule.",
                &["rule", "action"],
            )?,
            warnings_escalated: registrar.counters(
                "linli_hub_warnings_escalated_total",
                "Warnings passed on because nobody acknowledged them in time, by rule.",
                &["rule"],
            )?,
            warning_latency: registrar.histograms("linli_hub_warning_latency_seconds", "From the event that completed a warning to the warning.", LATENCY_BUCKETS, &["rule"])?,
            cases_opened: registrar.counter("linli_hub_cases_opened_total", "Cases opened by rules.")?,
            clock_doubtful: registrar.gauges(
                "linli_hub_clock_doubtful",
                "1 while the hub does not believe its own clock, by why: stepped, away (off for very long), unsynchronised. \
                 Retention, expiry and escalation are held.",
                &["reason"],
            )?,
        };
        for lane in Lane::ALL {
            metrics.stored(lane, 0, 0);
            metrics.doubled(lane, 0);
        }
        for outcome in NotificationOutcome::ALL {
            metrics.outcome(outcome, 0);
        }
        Ok(metrics)
    }

    /// Reads how many warnings nobody has acknowledged. A value that cannot be read stays as it was.
    pub async fn refresh(&self, store: &Store) {
        if let Ok(due) = warnings::unacknowledged(store.readers()).await {
            self.unacknowledged.set(due);
        }
    }

    /// Counts what was stored.
    pub fn stored(&self, lane: Lane, events: u64, bytes: u64) {
        let lane = [lane.as_str()];
        self.events_stored.with_label_values(&lane).inc_by(events);
        self.stored_bytes.with_label_values(&lane).inc_by(bytes);
    }

    /// Counts what came again.
    pub fn doubled(&self, lane: Lane, events: u64) {
        self.events_doubled
            .with_label_values(&[lane.as_str()])
            .inc_by(events);
    }

    /// Counts what an agent has lost.
    pub fn lost(&self, agent: &AgentId, events: u64) {
        self.events_lost
            .with_label_values(&[agent.as_str()])
            .inc_by(events);
    }

    /// Why the hub's clock is doubtful.
    pub fn clock(&self, doubt: Option<Doubt>) {
        for word in Doubt::WORDS {
            let is_so = doubt.is_some_and(|doubt| doubt.as_str() == word);
            self.clock_doubtful
                .with_label_values(&[word])
                .set(i64::from(is_so));
        }
    }

    /// Counts events that an agent may not report.
    pub fn withheld(&self, agent: &AgentId, events: u64) {
        self.events_withheld
            .with_label_values(&[agent.as_str()])
            .inc_by(events);
    }

    /// Counts a warning and how long it took.
    pub fn warned(&self, rule: &str, latency_s: f64, late: bool) {
        self.warnings_raised.with_label_values(&[rule]).inc();
        if late {
            self.warnings_late.with_label_values(&[rule]).inc();
        }
        self.warning_latency
            .with_label_values(&[rule])
            .observe(latency_s);
    }

    /// Counts warnings by who was told of them.
    pub fn outcome(&self, outcome: NotificationOutcome, warnings: u64) {
        self.warning_outcomes
            .with_label_values(&[outcome.as_str()])
            .inc_by(warnings);
    }

    /// Counts a warning that is another than it seemed.
    pub fn revised(&self, rule: &str, action: &str) {
        self.warnings_revised
            .with_label_values(&[rule, action])
            .inc();
    }

    /// Counts a warning that was passed on.
    pub fn escalated(&self, rule: &str) {
        self.warnings_escalated.with_label_values(&[rule]).inc();
    }

    /// Copies the engine's counts.
    pub fn correlation(&self, engine: &Engine) {
        for (rule, counts) in engine.counts() {
            let rule = [rule];
            let set = |gauge: &IntGaugeVec, count: u64| {
                gauge.with_label_values(&rule).set(count as i64);
            };
            set(&self.events_evaluated, counts.evaluated);
            set(&self.rule_overflow, counts.overflow);
            set(&self.rule_beyond, counts.beyond);
        }
        self.rule_keys.set(engine.keys() as i64);
    }

    /// Notes what the timelines take; it is counted key by key, so not after each commit.
    pub fn correlation_bytes(&self, bytes: usize) {
        self.rule_bytes.set(bytes as i64);
    }
}
