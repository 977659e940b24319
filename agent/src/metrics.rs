//! Metrics for Prometheus. Label sets are closed: lanes, reasons, configured sources.
//!
//! Counts of a spool thread itself (syncs, damage, losses) are copied from its status at each scrape and stay gauges
//! "since the start": alert rules compare them with 0.
use linli_shared::protocol::ids::Lane;
use linli_shared::service::metrics::Registrar;
use linli_shared::service::process::ProcessFigures;
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

/// The metrics of one source.
pub struct SourceFigures {
    name: String,
    /// New events.
    pub stored: IntCounter,
    /// Events that were already stored.
    pub doubled: IntCounter,
    /// States that were already known.
    pub repeated: IntCounter,
    /// Signs of life.
    pub heartbeat: IntCounter,
    /// Messages of no interest.
    pub filtered: IntCounter,
    /// Unreadable messages.
    pub rejected: IntCounter,
    /// Events that the spool refused.
    pub refused: IntCounter,
    /// Events of the past with an implausible device time.
    pub implausible_times: IntCounter,
    /// Unreadable times: the field is rejected, the event is stored.
    pub unreadable_times: IntCounter,
    /// Events with the id of another event of the source.
    pub conflicts: IntCounter,
    /// Devices whose clock is off.
    pub clocks_off: IntGauge,
    /// Largest offset of a device's clock, seconds: positive if it is behind, negative if ahead.
    pub clock_offset: Gauge,
    /// 1 while it is connected.
    pub connected: IntGauge,
    /// Online devices.
    pub online: IntGauge,
    /// Unknown devices.
    pub unknown: IntGauge,
    /// Receipt of the last message, seconds since 1970 UTC.
    pub last_message: IntGauge,
    /// Delay of the last event, seconds.
    pub lag: Gauge,
    messages: IntCounterVec,
}

impl SourceFigures {
    /// Counts an outcome of the source's own.
    pub fn count(&self, outcome: &'static str, count: u64) {
        let labels = [self.name.as_str(), outcome];
        self.messages.with_label_values(&labels).inc_by(count);
    }
}

/// Handles of all metrics; cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registrar: Registrar,
    events_stored: IntCounterVec,
    events_doubled: IntCounterVec,
    events_refused: IntCounterVec,
    /// Discarded events of a lane, by reason.
    pub events_discarded: IntCounterVec,
    /// Requests and rows of a source, by outcome.
    pub source_messages: IntCounterVec,
    source_implausible_times: IntCounterVec,
    source_rejected_fields: IntCounterVec,
    source_conflicts: IntCounterVec,
    source_clocks_off: IntGaugeVec,
    source_clock_offset: GaugeVec,
    source_connected: IntGaugeVec,
    source_devices: IntGaugeVec,
    source_last_message: IntGaugeVec,
    source_lag: GaugeVec,
    /// 1 while the key of pseudonyms is unusable or could not be replaced.
    pub pseudonyms_broken: IntGauge,
    /// Groups of raw messages that were not kept on this box.
    pub raw_dropped: IntCounter,
    /// Events that the hub has acknowledged.
    pub events_sent: IntCounterVec,
    /// Bytes of batches passed to the link.
    pub sent_bytes: IntCounterVec,
    /// 1 while a hub has accepted the agent.
    pub uplink_connected: IntGauge,
    /// Tries to connect, by outcome.
    pub uplink_connects: IntCounterVec,
    /// When the hub last acknowledged, seconds since 1970 UTC.
    pub uplink_last_ack: IntGauge,
    /// Frames from the hub that this version does not know.
    pub unknown_frames: IntCounter,
    /// End of the certificate, seconds since 1970 UTC.
    pub cert_not_after: IntGauge,
    /// How far this clock is ahead of the hub's, seconds.
    pub clock_skew: Gauge,
    /// 1 when the wall clock is synchronised.
    pub clock_set: IntGauge,
    /// Steps of the wall clock of more than two seconds.
    pub clock_steps: IntCounter,
    /// Failed tries of the station's webhook.
    pub station_failures: IntCounter,
    station_delivered: IntCounterVec,
    station_waiting: IntGauge,
    station_bytes: IntGauge,
    station_oldest_age: IntGauge,
    station_refusing: IntGauge,
    process: ProcessFigures,
    spool_events: IntGaugeVec,
    spool_bytes: IntGaugeVec,
    spool_oldest_age: IntGaugeVec,
    spool_refusing: IntGaugeVec,
    spool_syncs: IntGaugeVec,
    spool_damaged: IntGaugeVec,
    spool_lost: IntGaugeVec,
    spool_blob_files: IntGaugeVec,
}

impl Metrics {
    /// New metrics in a registry of their own.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registrar = Registrar::default();
        let counters =
            |name: &str, help: &str, labels: &[&str]| registrar.counters(name, help, labels);
        let gauges = |name: &str, help: &str, labels: &[&str]| registrar.gauges(name, help, labels);
        let counter = |name: &str, help: &str| registrar.counter(name, help);
        let gauge = |name: &str, help: &str| registrar.gauge(name, help);
        let build = gauges(
            "linli_agent_build_info",
            "Always 1; the label is the version.",
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            events_stored: counters(
                "linli_agent_events_stored_total",
                "Events made durable in the spool.",
                &["lane"],
            )?,
            events_doubled: counters(
                "linli_agent_events_doubled_total",
                "Events that came again with a known id and were not stored again.",
                &["lane"],
            )?,
            events_refused: counters(
                "linli_agent_events_refused_total",
                "Events that the spool did not take; their source keeps them.",
                &["lane"],
            )?,
            events_discarded: counters(
                "linli_agent_events_discarded_total",
                "Stored events that will never reach the hub, by reason.",
                &["lane", "reason"],
            )?,
            source_messages: counters(
                "linli_agent_source_messages_total",
                "Items of a source by outcome, and messages that gave no items.",
                &["source", "outcome"],
            )?,
            source_implausible_times: counters(
                "linli_agent_source_implausible_times_total",
                "Events of the past whose device time cannot be: in the future, or before 2000.",
                &["source"],
            )?,
            source_rejected_fields: counters(
                "linli_agent_source_rejected_fields_total",
                "Fields that could not be read; their events are stored without them.",
                &["source", "field"],
            )?,
            source_conflicts: counters(
                "linli_agent_source_conflicts_total",
                "Events that came under the id of another event of the source, with other content. They are stored.",
                &["source"],
            )?,
            source_clocks_off: gauges(
                "linli_agent_source_clocks_off",
                "Devices of a source whose clock is off by more than clock_bound.",
                &["source"],
            )?,
            source_clock_offset: registrar.fractions("linli_agent_source_clock_offset_seconds", "By how much the clock of the source's device that is off most is behind; negative: ahead.", &["source"])?,
            source_connected: gauges(
                "linli_agent_source_connected",
                "1 while the source is connected or listens, or a device of it is heard.",
                &["source"],
            )?,
            source_devices: gauges(
                "linli_agent_source_devices",
                "Devices of a source that are heard (online) and those of which nothing is known (unknown).",
                &["source", "state"],
            )?,
            source_last_message: gauges(
                "linli_agent_source_last_message_timestamp_seconds",
                "Receipt of the source's last message, seconds since 1970 UTC; 0 before the first.",
                &["source"],
            )?,
            source_lag: registrar.fractions("linli_agent_source_lag_seconds", "By how much the source's last event came after its device's time.", &["source"])?,
            pseudonyms_broken: gauge(
                "linli_agent_pseudonyms_broken",
                "1 while persons are dropped because the key of pseudonyms is damaged, or its replacement fails.",
            )?,
            raw_dropped: counter(
                "linli_agent_raw_dropped_total",
                "Groups of raw messages that were not kept on this box: a full day, disk or queue.",
            )?,
            events_sent: counters(
                "linli_agent_events_sent_total",
                "Events acknowledged by the hub.",
                &["lane"],
            )?,
            sent_bytes: counters(
                "linli_agent_sent_bytes_total",
                "Bytes of batches handed to the link.",
                &["lane"],
            )?,
            uplink_connected: gauge(
                "linli_agent_uplink_connected",
                "1 while a hub has taken this agent in.",
            )?,
            uplink_connects: counters(
                "linli_agent_uplink_connects_total",
                "Tries to connect and what became of them: unreachable, no_welcome, refused, or taken_in and later lost.",
                &["outcome"],
            )?,
            uplink_last_ack: gauge(
                "linli_agent_uplink_last_ack_timestamp_seconds",
                "When the hub last acknowledged events.",
            )?,
            unknown_frames: counter(
                "linli_agent_unknown_frames_total",
                "Frames of a later version that were skipped.",
            )?,
            cert_not_after: gauge(
                "linli_agent_cert_not_after_timestamp_seconds",
                "End of validity of this agent's certificate.",
            )?,
            clock_set: gauge(
                "linli_agent_clock_set",
                "1 when the wall clock is synchronised: the kernel says so, or a hub did in this boot.",
            )?,
            clock_skew: registrar.fraction("linli_agent_clock_skew_seconds", "By how much this clock was ahead of the hub's at its last welcome.")?,
            clock_steps: counter(
                "linli_agent_clock_steps_total",
                "Steps of the wall clock of more than two seconds.",
            )?,
            station_failures: counter(
                "linli_agent_station_failures_total",
                "Messages that the station's system did not take, each of them tried again.",
            )?,
            station_delivered: counters(
                "linli_agent_station_delivered_total",
                "Messages that the station's system has taken: webhook, fetch.",
                &["way"],
            )?,
            station_waiting: gauge(
                "linli_agent_station_waiting",
                "Messages that wait for the station's system.",
            )?,
            station_bytes: gauge(
                "linli_agent_station_bytes",
                "Bytes of the messages that wait for the station's system.",
            )?,
            station_oldest_age: gauge(
                "linli_agent_station_oldest_age_seconds",
                "Age of the oldest message that waits for the station's system, by its receipt.",
            )?,
            station_refusing: gauge(
                "linli_agent_station_refusing",
                "1 while messages to the station are not stored: the inbox is full, or its disk fails.",
            )?,
            process: ProcessFigures::register(registrar.registry())?,
            spool_events: gauges(
                "linli_agent_spool_events",
                "Events that wait for the hub.",
                &["lane"],
            )?,
            spool_bytes: gauges(
                "linli_agent_spool_bytes",
                "Bytes of the spool on disk.",
                &["lane"],
            )?,
            spool_oldest_age: gauges(
                "linli_agent_spool_oldest_age_seconds",
                "Age of the oldest event that waits, by its receipt.",
                &["lane"],
            )?,
            spool_refusing: gauges(
                "linli_agent_spool_refusing",
                "1 while the spool refuses events.",
                &["lane"],
            )?,
            spool_syncs: gauges(
                "linli_agent_spool_syncs",
                "Commits synced to disk since the start.",
                &["lane"],
            )?,
            spool_damaged: gauges(
                "linli_agent_spool_damaged_generations",
                "Damaged generations found since the start.",
                &["lane"],
            )?,
            spool_lost: gauges(
                "linli_agent_spool_lost_events",
                "Events lost by damage or quota since the start.",
                &["lane"],
            )?,
            spool_blob_files: gauges(
                "linli_agent_spool_blob_files",
                "Files outside the synced log of the database; must be 0.",
                &["lane"],
            )?,
            registrar: registrar.clone(),
        };
        for lane in Lane::ALL {
            metrics.stored(lane, 0, 0);
            metrics.refused(lane, 0);
        }
        for way in ["webhook", "fetch"] {
            metrics.station_delivered(way, 0);
        }
        Ok(metrics)
    }

    /// The metrics of a source.
    pub fn source(&self, name: &str) -> SourceFigures {
        let messages = |outcome| self.source_messages.with_label_values(&[name, outcome]);
        // From zero, so that the first one counts as an increase.
        messages("session_panicked");
        SourceFigures {
            name: name.to_owned(),
            stored: messages("stored"),
            doubled: messages("doubled"),
            repeated: messages("repeated"),
            heartbeat: messages("heartbeat"),
            filtered: messages("filtered"),
            rejected: messages("rejected"),
            refused: messages("refused"),
            implausible_times: self.source_implausible_times.with_label_values(&[name]),
            unreadable_times: self
                .source_rejected_fields
                .with_label_values(&[name, "time"]),
            conflicts: self.source_conflicts.with_label_values(&[name]),
            clocks_off: self.source_clocks_off.with_label_values(&[name]),
            clock_offset: self.source_clock_offset.with_label_values(&[name]),
            connected: self.source_connected.with_label_values(&[name]),
            online: self.source_devices.with_label_values(&[name, "online"]),
            unknown: self.source_devices.with_label_values(&[name, "unknown"]),
            last_message: self.source_last_message.with_label_values(&[name]),
            lag: self.source_lag.with_label_values(&[name]),
            messages: self.source_messages.clone(),
        }
    }

    /// Counts what a lane stored.
    pub fn stored(&self, lane: Lane, stored: u64, doubled: u64) {
        let lane = [lane.as_str()];
        self.events_stored.with_label_values(&lane).inc_by(stored);
        self.events_doubled.with_label_values(&lane).inc_by(doubled);
    }

    /// Counts what a lane refused.
    pub fn refused(&self, lane: Lane, count: u64) {
        self.events_refused
            .with_label_values(&[lane.as_str()])
            .inc_by(count);
    }

    /// Copies a lane's status into its gauges.
    pub fn spool(&self, lane: Lane, status: &linli_spool::LaneStatus, wall_ms: i64) {
        let lane = [lane.as_str()];
        let oldest_age_s = status
            .oldest_ms
            .map_or(0, |oldest_ms| ((wall_ms - oldest_ms) / 1000).max(0));
        for (gauge, value) in [
            (&self.spool_events, status.events() as i64),
            (&self.spool_bytes, status.bytes as i64),
            (&self.spool_oldest_age, oldest_age_s),
            (&self.spool_refusing, i64::from(status.refusing.is_some())),
            (&self.spool_syncs, status.syncs as i64),
            (&self.spool_damaged, status.damaged as i64),
            (&self.spool_lost, status.lost_events as i64),
            (&self.spool_blob_files, status.blob_files as i64),
        ] {
            gauge.with_label_values(&lane).set(value);
        }
    }

    /// Counts messages that the station's system has accepted.
    pub fn station_delivered(&self, way: &str, messages: usize) {
        self.station_delivered
            .with_label_values(&[way])
            .inc_by(messages as u64);
    }

    /// Sets the gauges of the station's inbox: messages, their bytes, the age of the oldest, and whether it refuses.
    pub fn station(&self, waiting: usize, bytes: u64, oldest_age_s: i64, is_refusing: bool) {
        self.station_waiting.set(waiting as i64);
        self.station_bytes.set(bytes as i64);
        self.station_oldest_age.set(oldest_age_s);
        self.station_refusing.set(i64::from(is_refusing));
    }

    /// The text exposition format, version 0.0.4.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        self.process.look();
        self.registrar.text()
    }
}
