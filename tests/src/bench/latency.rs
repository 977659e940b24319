//! How long an alarm takes, from the source's first byte to the warning that a reader of the hub sees:
//! on an idle link, and while a backlog drains.
use sqlx::{ConnectOptions, Row as _, SqliteConnection};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::host::{Hosts, Result};
use super::linli::{Pair, post};

const SAMPLES: usize = 300;
const WARNING_DEADLINE: Duration = Duration::from_secs(30);
/// Between two looks for the warning: a look that never paused would take a core from what is measured.
const LOOK: Duration = Duration::from_micros(200);
/// Between alarms: they are rare events, not a load.
const PAUSE: Duration = Duration::from_millis(10);

/// Events that are the agent's own, not the bench's: its start.
pub const AGENTS_OWN: u64 = 1;

/// The hub's database, read from outside.
pub struct Database {
    own_events: u64,
    runtime: tokio::runtime::Runtime,
    connection: SqliteConnection,
}

impl Database {
    /// Opens it for reading; `own_events` are not counted.
    pub fn open(path: &Path, own_events: u64) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let connection = runtime.block_on(
            sqlx::sqlite::SqliteConnectOptions::new()
                .filename(path)
                .read_only(true)
                .connect(),
        )?;
        Ok(Self {
            own_events,
            runtime,
            connection,
        })
    }

    fn number(&mut self, query: &'static str) -> Result<u64> {
        let row = self
            .runtime
            .block_on(sqlx::query(query).fetch_one(&mut self.connection))?;
        Ok(row.get::<i64, _>(0).cast_unsigned())
    }

    /// Events that are committed.
    pub fn events(&mut self) -> Result<u64> {
        let all = self.number("SELECT COALESCE(SUM(next_seq), 0) FROM positions")?;
        Ok(all.saturating_sub(self.own_events))
    }

    /// Warnings of fires that are committed: a backlog raises others, about doors.
    pub fn fire_warnings(&mut self) -> Result<u64> {
        self.number("SELECT COUNT(*) FROM warnings WHERE rule = 'fire-alarm'")
    }

    /// Bytes of the database.
    pub fn table_bytes(&mut self) -> Result<u64> {
        self.number("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
    }
}

/// Percentiles, milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    /// Half are faster.
    pub p50_ms: f64,
    /// One in a hundred is slower.
    pub p99_ms: f64,
    /// Until the source has its answer: half are faster.
    pub answer_p50_ms: f64,
    /// Until the source has its answer: one in a hundred is slower.
    pub answer_p99_ms: f64,
    /// Samples.
    pub samples: usize,
}

fn percentile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let index = ((samples.len() as f64 * share) as usize).min(samples.len().saturating_sub(1));
    samples.get(index).copied().unwrap_or(f64::NAN)
}

/// Pushes alarms one by one while `go_on`, each at a place of its own, and waits for each warning.
fn alarms(
    port: u16,
    database: &mut Database,
    series: &str,
    mut go_on: impl FnMut(&mut Database, usize) -> Result<bool>,
) -> Result<Latency> {
    // The pushes come from this process; the caller has made the port reachable.
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.set_nodelay(true)?;
    let mut samples = Vec::new();
    let mut answers = Vec::new();
    while go_on(database, samples.len())? {
        let number = samples.len();
        let before = database.fire_warnings()?;
        let time = jiff::Timestamp::now();
        let body = format!(
            "{{\"events\":[{{\"serial\":\"{series}-{number}\",\"device\":\"f\",\"building\":\"{series}-{number}\",\"type\":\"fire\",\"time\":\"{time}\"}}]}}"
        );
        let started = Instant::now();
        post(&mut connection, "doors", body.as_bytes())?;
        answers.push(started.elapsed().as_secs_f64() * 1000.0);
        while database.fire_warnings()? == before {
            if started.elapsed() > WARNING_DEADLINE {
                return Err("an alarm raised no warning".into());
            }
            std::thread::sleep(LOOK);
        }
        samples.push(started.elapsed().as_secs_f64() * 1000.0);
        std::thread::sleep(PAUSE);
    }
    Ok(Latency {
        p50_ms: percentile(&mut samples, 0.5),
        p99_ms: percentile(&mut samples, 0.99),
        answer_p50_ms: percentile(&mut answers, 0.5),
        answer_p99_ms: percentile(&mut answers, 0.99),
        samples: samples.len(),
    })
}

/// The feeder's process for alarms: `PORT DATABASE SERIES BACKLOG`. It runs in the edge's namespace,
/// where the agent's port is, and prints what it measured.
pub fn alarm_main(args: &[String]) -> Result<()> {
    let [port, path, series, backlog] = args else {
        return Err("alarms wants PORT DATABASE SERIES BACKLOG".into());
    };
    let backlog: u64 = backlog.parse()?;
    let mut database = Database::open(Path::new(path), AGENTS_OWN)?;
    let latency = if backlog == 0 {
        alarms(port.parse()?, &mut database, series, |_, done| {
            Ok(done < SAMPLES)
        })?
    } else {
        // Only while the backlog drains: what comes after it is the idle case again.
        alarms(port.parse()?, &mut database, series, |database, _| {
            Ok(database.events()? < backlog)
        })?
    };
    println!(
        "{} {} {} {} {}",
        latency.p50_ms,
        latency.p99_ms,
        latency.answer_p50_ms,
        latency.answer_p99_ms,
        latency.samples
    );
    Ok(())
}

fn measure(pair: &Pair<'_>, series: &str, backlog: u64) -> Result<Latency> {
    let mut command: Command = pair
        .hosts
        .command(super::host::Side::Feed, std::env::current_exe()?);
    command
        .arg(super::peers::FEED)
        .arg("alarms")
        .arg(pair.agent_files.push_port.to_string())
        .arg(pair.hub_files.database())
        .arg(series)
        .arg(backlog.to_string());
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<f64> = text
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let [p50_ms, p99_ms, answer_p50_ms, answer_p99_ms, samples] = numbers[..] else {
        return Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)).into());
    };
    Ok(Latency {
        p50_ms,
        p99_ms,
        answer_p50_ms,
        answer_p99_ms,
        samples: samples as usize,
    })
}

/// What was measured of alarms and of memory.
pub struct Report {
    /// Alarms on an idle link.
    pub idle: Latency,
    /// Alarms while the backlog drains.
    pub busy: Latency,
    /// Memory of the agent that has started and done nothing, MB.
    pub agent_idle_mb: f64,
    /// Memory of the agent after the alarms on the idle link, MB.
    pub agent_quiet_mb: f64,
    /// Peak memory of the agent after the backlog, MB.
    pub agent_peak_mb: f64,
    /// From the hub's start until the backlog is stored.
    pub drain_s: f64,
}

/// Alarms on an idle link, then with a backlog of `count` events that drains.
pub fn run(hosts: &Hosts, events: &Path, count: u64) -> Result<Report> {
    let mut pair = Pair::start(hosts, "latency")?;
    let agent_idle_mb = super::host::Usage::of(pair.agent.pid())?.resident_mb;
    let idle = measure(&pair, "idle", 0)?;
    let agent_quiet_mb = super::host::Usage::of(pair.agent.pid())?.resident_mb;
    pair.kill_hub();
    pair.feeder(events, count)?.wait()?;
    let started = Instant::now();
    pair.start_hub()?;
    // From the moment that the backlog flows: how soon an agent comes back is another figure.
    let mut database = Database::open(&pair.hub_files.database(), AGENTS_OWN)?;
    while database.events()? <= idle.samples as u64 {
        std::thread::sleep(super::host::POLL);
    }
    let busy = measure(&pair, "busy", count + idle.samples as u64)?;
    let drain_s = started.elapsed().as_secs_f64();
    let agent_peak_mb = super::host::Usage::of(pair.agent.pid())?.peak_mb;
    Ok(Report {
        idle,
        busy,
        agent_idle_mb,
        agent_quiet_mb,
        agent_peak_mb,
        drain_s,
    })
}
