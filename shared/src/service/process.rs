//! Metrics of the process itself, under the names that every Prometheus dashboard uses.
//!
//! The prometheus crate's own collector is not used, because it reads the time of the boot from `/proc/stat`,
//! which the units hide (`ProcSubset=pid`).
use super::clock;
use prometheus::{IntGauge, Registry};

/// The start moves with the wall clock; smaller moves are rounding.
const START_MOVED_S_MIN: i64 = 2;

/// The metrics, updated at each scrape.
#[derive(Clone)]
pub struct ProcessFigures {
    /// Time of the start, by the clock that never steps.
    started_monotonic_ms: u64,
    start: IntGauge,
    resident: IntGauge,
    descriptors: IntGauge,
}

impl ProcessFigures {
    /// Registers the metrics; the process counts as started now. Errors: from the registry.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        Ok(Self {
            started_monotonic_ms: clock::monotonic_ms(),
            start: gauge(
                "process_start_time_seconds",
                "When the process started, seconds since 1970 UTC.",
            )?,
            resident: gauge(
                "process_resident_memory_bytes",
                "Memory of the process that is not swapped out.",
            )?,
            descriptors: gauge("process_open_fds", "Open file descriptors.")?,
        })
    }

    /// Updates the metrics. Values missing in `/proc` stay unchanged.
    pub fn look(&self) {
        let age_ms = clock::monotonic_ms().saturating_sub(self.started_monotonic_ms);
        let start_s = (clock::wall_ms() - age_ms as i64) / 1000;
        if (start_s - self.start.get()).abs() >= START_MOVED_S_MIN {
            self.start.set(start_s);
        }
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(bytes) = resident_bytes(&status) {
            self.resident.set(bytes);
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            // Without the descriptor used for reading the directory.
            self.descriptors.set(open.count() as i64 - 1);
        }
    }
}

fn resident_bytes(status: &str) -> Option<i64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_seen_as_it_is() {
        assert_eq!(
            resident_bytes("VmHWM:\t  9 kB\nVmRSS:\t    8123 kB\n"),
            Some(8123 * 1024)
        );
        assert_eq!(resident_bytes("VmRSS: many\n"), None);
        let figures = ProcessFigures::register(&Registry::new()).expect("registered once");
        figures.look();
        let now_s = clock::wall_ms() / 1000;
        assert!((now_s - figures.start.get()).abs() < 60);
        assert!(figures.resident.get() > 1 << 20);
        assert!(figures.descriptors.get() >= 3);
    }
}
