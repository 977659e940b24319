//! Figures for Prometheus. Label sets are closed: lanes, rules, channels, outcomes; agents only where there is
//! trouble with one.
use linli_shared::protocol::ids::{AgentId, Lane};
use linli_shared::service::process::ProcessFigures;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::attachments::NotTaken;
use linli_domain::clock_guard::Doubt;
use linli_domain::correlate::engine::Engine;
use linli_domain::warnings::Outcome;
use linli_store::retention::class::Class;

/// Handles of all figures; cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Sessions that are open.
    pub agents_connected: IntGauge,
    /// Handshakes and joins, by outcome.
    pub sessions: IntCounterVec,
    events_stored: IntCounterVec,
    stored_bytes: IntCounterVec,
    events_doubled: IntCounterVec,
    events_lost: IntCounterVec,
    /// Events in quarantine.
    pub quarantined: IntCounter,
    events_withheld: IntCounterVec,
    claims_clamped: IntCounterVec,
    /// From the agent's receipt to the store.
    pub delivery_seconds: Histogram,
    /// Transactions.
    pub commit_seconds: Histogram,
    /// Transactions that failed.
    pub store_failures: IntCounter,
    /// Rules that are loaded.
    pub rules: IntGauge,
    /// 1 where a start did not read as far back as the windows of the rules want.
    pub recall_cut: IntGauge,
    /// How long the last start took to read what correlation needs.
    pub recall_seconds: Gauge,
    /// Rule files that were not taken at a reload.
    pub reload_failures: IntCounter,
    events_evaluated: IntGaugeVec,
    rule_keys: IntGauge,
    rule_bytes: IntGauge,
    rule_overflow: IntGaugeVec,
    rule_beyond: IntGaugeVec,
    warnings_raised: IntCounterVec,
    warnings_late: IntCounterVec,
    warning_outcomes: IntCounterVec,
    /// Warnings that somebody is still to acknowledge.
    pub unacknowledged: IntGauge,
    warnings_revised: IntCounterVec,
    warnings_escalated: IntCounterVec,
    warning_latency: HistogramVec,
    /// Cases that rules have opened.
    pub cases_opened: IntCounter,
    attachments: IntGauge,
    attachment_bytes: IntGauge,
    attachments_refused: IntCounterVec,
    /// Files of cases that could not be shown: missing, damaged, or without their key.
    pub attachments_unreadable: IntCounter,
    attachment_files_deleted: IntCounter,
    outbox_waiting: IntGaugeVec,
    outbox_oldest: IntGaugeVec,
    outbox_dead: IntGaugeVec,
    station_waiting: IntGauge,
    station_oldest: IntGauge,
    notifications: IntCounterVec,
    notify_failures: IntCounterVec,
    /// Requests to the API, by status.
    pub api_requests: IntCounterVec,
    /// Sign-ins by OpenID Connect, by outcome.
    oidc: IntCounterVec,
    not_after: IntGaugeVec,
    clock_doubtful: IntGaugeVec,
    clock_skew: GaugeVec,
    retention_deleted: IntCounterVec,
    retention_oldest: IntGaugeVec,
    retention_ran: IntGauge,
    /// Runs of retention that did not come to their end.
    pub retention_failures: IntCounter,
    store_bytes: IntGauge,
    free_bytes: IntGauge,
    process: ProcessFigures,
}

const LATENCY_BUCKETS: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0, 86400.0,
];

impl Metrics {
    /// A fresh set in a registry of its own.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        fn add<C: prometheus::core::Collector + Clone + 'static>(
            registry: &Registry,
            collector: Result<C, prometheus::Error>,
        ) -> Result<C, prometheus::Error> {
            let collector = collector?;
            registry.register(Box::new(collector.clone()))?;
            Ok(collector)
        }
        let histogram = |name: &str, help: &str| {
            HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS.to_vec())
        };
        let build = add(
            &registry,
            IntGaugeVec::new(
                Opts::new(
                    "linli_hub_build_info",
                    "Always 1; the label is the version.",
                ),
                &["version"],
            ),
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let counters = |name: &str, help: &str, labels: &[&str]| {
            add(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let counter = |name: &str, help: &str| add(&registry, IntCounter::new(name, help));
        let gauge = |name: &str, help: &str| add(&registry, IntGauge::new(name, help));
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            add(&registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let metrics = Self {
            agents_connected: gauge("linli_hub_agents_connected", "Sessions that are open.")?,
            sessions: counters(
                "linli_hub_sessions_total",
                "Handshakes and joins, by outcome.",
                &["outcome"],
            )?,
            events_stored: counters(
                "linli_hub_events_stored_total",
                "Events stored for the first time.",
                &["lane"],
            )?,
            stored_bytes: counters(
                "linli_hub_stored_bytes_total",
                "Bytes of chunks stored.",
                &["lane"],
            )?,
            events_doubled: counters(
                "linli_hub_events_doubled_total",
                "Events that came again and were dropped.",
                &["lane"],
            )?,
            events_lost: counters(
                "linli_hub_events_lost_total",
                "Events that an agent reported as lost.",
                &["agent"],
            )?,
            quarantined: counter(
                "linli_hub_events_quarantined_total",
                "Events whose number is taken by other content, or that cannot be read.",
            )?,
            events_withheld: counters(
                "linli_hub_events_withheld_total",
                "Events of kinds that only stations report, from an agent that is none: stored, seen by no rule.",
                &["agent"],
            )?,
            claims_clamped: counters(
                "linli_hub_agent_claims_clamped_total",
                "What agents said of themselves and cannot be: watermarks of the future, lost events that they never had.",
                &["claim"],
            )?,
            delivery_seconds: add(
                &registry,
                Histogram::with_opts(histogram(
                    "linli_hub_delivery_seconds",
                    "From receipt at the agent to the store of the hub, by the two clocks.",
                )),
            )?,
            commit_seconds: add(
                &registry,
                Histogram::with_opts(histogram(
                    "linli_hub_commit_seconds",
                    "One transaction of the writer.",
                )),
            )?,
            store_failures: counter(
                "linli_hub_store_failures_total",
                "Transactions that failed; nothing of them was acknowledged.",
            )?,
            rules: gauge("linli_hub_rules", "Rules that are loaded.")?,
            recall_seconds: add(
                &registry,
                Gauge::new(
                    "linli_hub_recall_seconds",
                    "How long the last start took to read what correlation needs.",
                ),
            )?,
            reload_failures: counter(
                "linli_hub_rule_reload_failures_total",
                "Reloads that were not taken: the rules from before go on.",
            )?,
            events_evaluated: gauges(
                "linli_hub_rule_events_evaluated",
                "Events that the rule has looked at since it was loaded.",
                &["rule"],
            )?,
            rule_keys: gauge("linli_hub_rule_keys", "Keys that the rules hold.")?,
            rule_bytes: gauge(
                "linli_hub_rule_bytes",
                "Memory of the timelines of all rules and their keys.",
            )?,
            rule_overflow: gauges(
                "linli_hub_rule_overflow_events",
                "Events that found no room in the rule, or lost it, for a limit, since it was loaded.",
                &["rule"],
            )?,
            rule_beyond: gauges(
                "linli_hub_rule_beyond_events",
                "Events that the rule wanted and that were further than the horizon of 7 days from now, or before \
                 what it still holds: stored, not correlated.",
                &["rule"],
            )?,
            recall_cut: gauge(
                "linli_hub_rule_recall_cut",
                "1 where the last start did not read as far back as the windows of the rules want.",
            )?,
            warnings_raised: counters(
                "linli_hub_warnings_raised_total",
                "Warnings raised, by rule.",
                &["rule"],
            )?,
            warnings_late: counters(
                "linli_hub_warnings_late_total",
                "Warnings that were old when they were raised (补报), by rule.",
                &["rule"],
            )?,
            warning_outcomes: counters(
                "linli_hub_warning_outcomes_total",
                "Warnings raised, by whether people were told of them then, or why nobody was: told, late (补报), shadow, \
                 muted, inhibited, no_channel, folded (its agent raises too many).",
                &["outcome"],
            )?,
            unacknowledged: gauge(
                "linli_hub_warnings_unacknowledged",
                "Warnings that somebody is still to acknowledge.",
            )?,
            warnings_revised: counters(
                "linli_hub_warnings_revised_total",
                "Warnings that later events have amended or withdrawn, by rule.",
                &["rule", "action"],
            )?,
            warnings_escalated: counters(
                "linli_hub_warnings_escalated_total",
                "Warnings passed on because nobody acknowledged them in time, by rule.",
                &["rule"],
            )?,
            warning_latency: add(
                &registry,
                HistogramVec::new(
                    histogram(
                        "linli_hub_warning_latency_seconds",
                        "From the event that completed a warning to the warning.",
                    ),
                    &["rule"],
                ),
            )?,
            cases_opened: counter("linli_hub_cases_opened_total", "Cases opened by rules.")?,
            attachments: gauge("linli_hub_attachments", "Files of cases.")?,
            attachment_bytes: gauge(
                "linli_hub_attachment_bytes",
                "Bytes of the files of cases, those of a file that two cases have twice.",
            )?,
            attachments_refused: counters(
                "linli_hub_attachments_refused_total",
                "Files that were not taken, by why: name, type, size, room, cut, busy, disk.",
                &["reason"],
            )?,
            attachments_unreadable: counter(
                "linli_hub_attachments_unreadable_total",
                "Requests for a file of a case that is missing, damaged or without its key.",
            )?,
            attachment_files_deleted: counter(
                "linli_hub_attachment_files_deleted_total",
                "Files that retention has deleted because no case refers to them any more.",
            )?,
            outbox_waiting: gauges(
                "linli_hub_outbox_waiting",
                "Notices that are still to be sent.",
                &["channel"],
            )?,
            outbox_oldest: gauges(
                "linli_hub_outbox_oldest_age_seconds",
                "Age of the oldest notice that is still to be sent.",
                &["channel"],
            )?,
            outbox_dead: gauges(
                "linli_hub_outbox_dead",
                "Notices that were given up and wait for somebody to send them again.",
                &["channel"],
            )?,
            station_waiting: gauge(
                "linli_hub_station_messages_waiting",
                "Messages to stations that their agents have not acknowledged.",
            )?,
            station_oldest: gauge(
                "linli_hub_station_messages_oldest_age_seconds",
                "Age of the oldest message to a station that its agent has not acknowledged.",
            )?,
            notifications: counters(
                "linli_hub_notifications_total",
                "Notices by what became of them: sent, dead.",
                &["channel", "outcome"],
            )?,
            notify_failures: counters(
                "linli_hub_notify_failures_total",
                "Messages that a peer did not take; most are tried again.",
                &["channel"],
            )?,
            api_requests: counters(
                "linli_hub_api_requests_total",
                "Requests to the API, by status.",
                &["status"],
            )?,
            oidc: counters(
                "linli_hub_oidc_sign_ins_total",
                "Sign-ins by OpenID Connect by what became of them: signed_in, state (not begun here, or too long ago), \
                 refused (by the provider), token (its ID token is not good), user (of nobody here), provider (it cannot \
                 be used), busy.",
                &["outcome"],
            )?,
            clock_doubtful: gauges(
                "linli_hub_clock_doubtful",
                "1 while the hub does not believe its own clock, by why: stepped, away (off for very long), unsynchronised. \
                 Retention, expiry and escalation are held.",
                &["reason"],
            )?,
            not_after: add(
                &registry,
                IntGaugeVec::new(
                    Opts::new(
                        "linli_hub_cert_not_after_timestamp_seconds",
                        "When a certificate ends.",
                    ),
                    &["cert"],
                ),
            )?,
            clock_skew: add(
                &registry,
                GaugeVec::new(
                    Opts::new(
                        "linli_hub_agent_clock_skew_seconds",
                        "By how much the clock of a connected agent is ahead of the hub's, where it is 2 s or more.",
                    ),
                    &["agent"],
                ),
            )?,
            retention_deleted: counters(
                "linli_hub_retention_deleted_rows_total",
                "Rows that the hub has deleted because their time was over, by class.",
                &["class"],
            )?,
            retention_oldest: gauges(
                "linli_hub_retention_oldest_age_seconds",
                "Age of the oldest row of a class, as of the last run or start.",
                &["class"],
            )?,
            retention_ran: gauge(
                "linli_hub_retention_last_run_timestamp_seconds",
                "When what was due was last deleted; 0: never yet.",
            )?,
            retention_failures: counter(
                "linli_hub_retention_failures_total",
                "Runs of retention that did not come to their end.",
            )?,
            store_bytes: gauge("linli_hub_store_bytes", "Database and its log, on disk.")?,
            free_bytes: gauge(
                "linli_hub_store_free_bytes",
                "What the disk of the database has left for the hub.",
            )?,
            process: ProcessFigures::register(&registry)?,
            registry: registry.clone(),
        };
        for lane in Lane::ALL {
            metrics.stored(lane, 0, 0);
            metrics.doubled(lane, 0);
        }
        for claim in ["watermark", "lost"] {
            metrics.claims_clamped.with_label_values(&[claim]).inc_by(0);
        }
        for class in Class::ALL {
            metrics.retention_deleted(class, 0);
        }
        for outcome in Outcome::ALL {
            metrics.outcome(outcome, 0);
        }
        for reason in NotTaken::ALL {
            metrics
                .attachments_refused
                .with_label_values(&[reason.as_str()])
                .inc_by(0);
        }
        Ok(metrics)
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

    /// Counts something that an agent said of itself and cannot be: `watermark` or `lost`.
    pub fn clamped(&self, claim: &str) {
        self.claims_clamped.with_label_values(&[claim]).inc();
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
    pub fn outcome(&self, outcome: Outcome, warnings: u64) {
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

    /// Says by how much an agent's clock is ahead; `None`: it is fine, or nobody knows.
    pub fn skew(&self, agent: &AgentId, skew_ms: Option<i64>) {
        let agent = [agent.as_str()];
        match skew_ms {
            Some(skew_ms) => self
                .clock_skew
                .with_label_values(&agent)
                .set(skew_ms as f64 / 1000.0),
            // An error means that it was not there.
            None => drop(self.clock_skew.remove_label_values(&agent)),
        }
    }

    /// Makes the figures of a channel, so that they are there before anything happens.
    pub fn channel(&self, channel: &str) {
        for outcome in ["sent", "dead"] {
            self.notified(channel, outcome, 0);
        }
        self.notify_failures.with_label_values(&[channel]).inc_by(0);
        self.outbox(channel, 0, 0, 0);
    }

    /// How the outbox of a channel stands.
    pub fn outbox(&self, channel: &str, waiting: i64, oldest_ms: i64, dead: i64) {
        let channel = [channel];
        self.outbox_waiting.with_label_values(&channel).set(waiting);
        self.outbox_oldest
            .with_label_values(&channel)
            .set(oldest_ms.max(0) / 1000);
        self.outbox_dead.with_label_values(&channel).set(dead);
    }

    /// How many files cases have, and their bytes.
    pub fn attachments(&self, files: i64, bytes: i64) {
        self.attachments.set(files);
        self.attachment_bytes.set(bytes);
    }

    /// Counts a file that was not taken.
    pub fn attachment_refused(&self, reason: NotTaken) {
        self.attachments_refused
            .with_label_values(&[reason.as_str()])
            .inc();
    }

    /// Counts files that no case referred to.
    pub fn attachment_files_deleted(&self, files: u64) {
        self.attachment_files_deleted.inc_by(files);
    }

    /// How the messages to stations stand.
    pub fn stations(&self, waiting: i64, oldest_ms: i64) {
        self.station_waiting.set(waiting);
        self.station_oldest.set(oldest_ms.max(0) / 1000);
    }

    /// Counts notices by what became of them.
    pub fn notified(&self, channel: &str, outcome: &str, notices: usize) {
        self.notifications
            .with_label_values(&[channel, outcome])
            .inc_by(notices as u64);
    }

    /// Counts a message that a peer did not take.
    pub fn notify_failed(&self, channel: &str) {
        self.notify_failures.with_label_values(&[channel]).inc();
    }

    /// Counts rows that were deleted because their time was over.
    pub fn retention_deleted(&self, class: Class, rows: u64) {
        self.retention_deleted
            .with_label_values(&[class.as_str()])
            .inc_by(rows);
    }

    /// How old the oldest row of a class is.
    pub fn retention_oldest(&self, class: Class, age_ms: i64) {
        self.retention_oldest
            .with_label_values(&[class.as_str()])
            .set(age_ms.max(0) / 1000);
    }

    /// When a run of retention came to its end.
    pub fn retention_ran(&self, at_ms: i64) {
        self.retention_ran.set(at_ms / 1000);
    }

    /// Counts a sign-in by OpenID Connect by what became of it.
    pub fn oidc(&self, outcome: &str) {
        self.oidc.with_label_values(&[outcome]).inc();
    }

    /// Makes the figures of signing in by OpenID Connect, so that they are there before anything happens.
    pub fn oidc_outcomes(&self, outcomes: &[&str]) {
        for outcome in outcomes {
            self.oidc.with_label_values(&[outcome]).inc_by(0);
        }
    }

    /// Says when a certificate ends.
    pub fn certificate(&self, name: &str, not_after_s: i64) {
        self.not_after.with_label_values(&[name]).set(not_after_s);
    }

    /// Looks at what nobody tells: the sizes of the database, its disk and the process. What cannot be
    /// read keeps its last value.
    pub fn look(&self, store_bytes: Option<i64>, free_bytes: Option<i64>) {
        if let Some(bytes) = store_bytes {
            self.store_bytes.set(bytes);
        }
        if let Some(bytes) = free_bytes {
            self.free_bytes.set(bytes);
        }
        self.process.look();
    }

    /// The text exposition format, version 0.0.4.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }
}
