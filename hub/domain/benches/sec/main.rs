//! Compares correlation with SEC, the Simple Event Correlator (Debian's `sec`), with the same rules on the
//! same log. `cargo bench -p linli-domain --bench sec`; without `sec` it shows the engine alone.
//!
//! The first part measures the cost: each program is a separate process that reads the log, decides and
//! exits; its CPU time and memory are measured in the same way. The second part compares the results for
//! events that arrive late or out of order. SEC takes the time at which it reads a line as the time of the
//! event. So in the first part, which reads a day in seconds, only its cost is meaningful; in the second part
//! it runs in real time.
mod deliveries;
mod log;
mod peer;

use anyhow::{Context, Result, ensure};
use linli_domain::correlate::Origin;
use linli_domain::correlate::replay::Replay;
use linli_domain::correlate::rule::{Rule, Vocabulary, load_text};
use linli_shared::protocol::ids::Lane;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use log::Subject;
use peer::Form;

/// Events in the log.
const EVENTS: usize = 1_000_000;
/// Number of events that SEC's `Pair` and `PairWithWindow` process in half a minute.
const EVENTS_OF_PAIRS: usize = 100_000;
/// Runs of the engine; the median is shown. One takes less than a second, while SEC takes many.
const RUNS: usize = 5;
/// Events between two evaluations of the outcome, as often as the hub commits.
const COMMIT_EVENTS: usize = 500;
/// Time between two measurements of a program's memory.
const POLL: Duration = Duration::from_millis(5);
/// The argument that makes this program run the engine.
const ENGINE: &str = "engine";

/// The rules of the engine; `peer` has the same for SEC.
const RULES: [(Subject, &str); 3] = [
    (
        Subject::Threshold,
        "[[rule]]\nid = \"threshold\"\nname = \"refused three times\"\nkind = \"count\"\nkey = [\"site\", \"building\"]\n\
         times = 3\nwithin = \"10m\"\non = [{ type = \"door.denied\" }]\nseverity = \"warning\"\nfresh = \"15m\"\nfold = \"0s\"\n",
    ),
    (
        Subject::Pair,
        "[[rule]]\nid = \"pair\"\nname = \"fire, then forced\"\nkind = \"sequence\"\nkey = [\"site\", \"building\"]\n\
         within = \"10m\"\non = [{ type = \"fire.alarm\" }, { type = \"door.forced\" }]\nseverity = \"life\"\nfresh = \"15m\"\nfold = \"0s\"\n",
    ),
    (
        Subject::Absence,
        "[[rule]]\nid = \"absence\"\nname = \"left open\"\nkind = \"absent\"\nkey = [\"site\", \"building\"]\n\
         within = \"5m\"\non = [{ type = \"door.opened\" }]\nuntil = [{ type = \"door.closed\" }]\nseverity = \"notice\"\nfresh = \"15m\"\nfold = \"0s\"\n",
    ),
];

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [word, log, events, subject] = &args[..]
        && word == ENGINE
    {
        let subject = Subject::from_name(subject).context("no such rule")?;
        println!("{}", decide(Path::new(log), events.parse()?, subject)?);
        return Ok(());
    }
    let has_sec = peer::is_installed();
    if !has_sec {
        println!("sec is not installed: it is left out. Debian's package is `sec`.\n");
    }
    costs(has_sec)?;
    if has_sec {
        println!("\n{}", deliveries::table()?);
    }
    Ok(())
}

/// The rules of a subject.
fn rules(subject: Subject) -> Result<Vec<Arc<Rule>>> {
    let mut text = "schema = 1\n".to_owned();
    for (of, rule) in RULES {
        if subject.includes(of) {
            text.push_str(rule);
        }
    }
    let mut rules = Vec::new();
    load_text(
        Path::new("bench.toml"),
        &text,
        &Vocabulary::default(),
        &mut rules,
    )?;
    Ok(rules.into_iter().map(Arc::new).collect())
}

/// The engine's process: reads the log, decides, and returns the number of warnings.
fn decide(path: &Path, events: usize, subject: Subject) -> Result<usize> {
    let mut replay = Replay::new(rules(subject)?, HashMap::new());
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = String::new();
    let mut last_ms = 0;
    for sequence in 0..events {
        line.clear();
        reader.read_line(&mut line)?;
        let (site, event) = log::read(&line).context("not a line of the log")?;
        last_ms = event.occurred_at_ms;
        let origin = Origin {
            site,
            agent: "gw-1",
            lane: Lane::Routine,
            epoch: 1,
            sequence: sequence as u64,
        };
        replay.engine().observe(&event, &origin, last_ms);
        if sequence % COMMIT_EVENTS == COMMIT_EVENTS - 1 {
            replay.heard("gw-1", last_ms, last_ms);
        }
    }
    replay.heard("gw-1", last_ms, last_ms);
    Ok(replay.standing().len())
}

/// The cost of a process.
struct Cost {
    cpu_s: f64,
    peak_mb: f64,
    printed: String,
}

/// Runs a program to its end. Both programs are single-threaded; the kernel counts their CPU time in
/// nanoseconds.
fn measure(command: &mut Command) -> Result<Cost> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let process = Pid::from_child(&child);
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    let mut peak_kib = 0.0f64;
    loop {
        peak_kib = peak_kib.max(child_peak_kib(child.id()));
        // Not reaped yet, so that its CPU time can still be read.
        if waitid(WaitId::Pid(process), look)?.is_some() {
            break;
        }
        std::thread::sleep(POLL);
    }
    let schedule = fs::read_to_string(format!("/proc/{}/schedstat", child.id()))?;
    let cpu_ns = schedule.split_whitespace().next().context("no CPU time")?;
    let status = child.wait()?;
    ensure!(status.success(), "{command:?} ended with {status}");
    let mut printed = String::new();
    if let Some(mut stdout) = child.stdout {
        stdout.read_to_string(&mut printed)?;
    }
    Ok(Cost {
        cpu_s: cpu_ns.parse::<f64>()? / 1e9,
        peak_mb: peak_kib * 1024.0 / 1e6,
        printed,
    })
}

/// Peak memory of a process, KiB; 0 after it has released it.
fn child_peak_kib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0)
}

fn costs(has_sec: bool) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("events.log");
    log::write(&path, EVENTS, EVENTS)?;
    let short = directory.path().join("first.log");
    log::write(&short, EVENTS, EVENTS_OF_PAIRS)?;
    println!(
        "{EVENTS} events of {} B of {} keys, one line each\n",
        fs::metadata(&path)?.len() / EVENTS as u64,
        log::KEYS
    );
    println!(
        "| rules | program | events | events per CPU second | × | peak MB | raised | should be | note |\n\
         |---|---|--:|--:|--:|--:|--:|--:|---|"
    );
    for subject in Subject::ALL {
        let name = subject.name();
        let mut costs = Vec::new();
        for _ in 0..RUNS {
            costs.push(measure(
                Command::new(std::env::current_exe()?)
                    .arg(ENGINE)
                    .arg(&path)
                    .args([&EVENTS.to_string(), name]),
            )?);
        }
        costs.sort_by(|one, other| one.cpu_s.total_cmp(&other.cpu_s));
        let cost = costs.swap_remove(RUNS / 2);
        let raised: usize = cost.printed.trim().parse()?;
        let own_rate = EVENTS as f64 / cost.cpu_s;
        row(
            &[name, "Linli"],
            EVENTS,
            &cost,
            own_rate,
            raised,
            subject,
            "by the events' times; holds 7 days for late ones",
        );
        if !has_sec {
            continue;
        }
        for form in Form::ALL {
            if form == Form::Contexts && subject == Subject::Threshold {
                continue;
            }
            let pairs = form == Form::Pairs && subject != Subject::Threshold;
            let (events, log) = if pairs {
                (EVENTS_OF_PAIRS, &short)
            } else {
                (EVENTS, &path)
            };
            let sec = peer::Sec::new(directory.path(), form, subject, peer::Windows::REAL)?;
            let cost = measure(&mut sec.command(log))?;
            row(
                &[name, form.program(subject)],
                events,
                &cost,
                own_rate,
                sec.raised()?,
                subject,
                "by its own clock: the log is of one moment",
            );
        }
    }
    Ok(())
}

fn row(
    names: &[&str; 2],
    events: usize,
    cost: &Cost,
    own_rate: f64,
    raised: usize,
    subject: Subject,
    note: &str,
) {
    let rate = events as f64 / cost.cpu_s;
    println!(
        "| {} | {} | {events} | {rate:.0} | {:.4} | {:.1} | {raised} | {} | {note} |",
        names[0],
        names[1],
        rate / own_rate,
        cost.peak_mb,
        log::truth(events, subject),
    );
}
