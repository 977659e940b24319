//! The results of both for events that arrive late or out of order. SEC runs in real time, with a second per
//! minute; the engine gets the time of each event and of its arrival.
use anyhow::{Context, Result, ensure};
use linli_shared::protocol::event::{DOWN_SINCE, Event};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::log::{self, Subject};
use super::peer::{Form, Sec, Windows};
use super::rules;
use linli_domain::correlate::Origin;
use linli_domain::correlate::replay::Replay;
use linli_shared::protocol::ids::Lane;

const BASE_MS: i64 = 1_800_000_000_000;
const MINUTE_MS: i64 = 60_000;
const AGENT: &str = "gw-1";
/// A second of SEC stands for a minute of the rules.
const MINUTE: Duration = Duration::from_secs(1);
const WINDOWS: Windows = Windows {
    long_s: 10,
    short_s: 5,
};
const START_MAX: Duration = Duration::from_secs(10);

/// A step of a delivery.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// An event: its kind, and the minute in which it occurred.
    Event(&'static str, i64),
    /// A duplicate of an event.
    Again(&'static str, i64),
    /// The gateway's watermark reaches this minute. SEC has no equivalent.
    Heard(i64),
    /// The gateway reports a gap between these minutes. SEC has no equivalent.
    Down(i64, i64),
    /// The program is restarted.
    Restart,
}
use Step::{Again, Down, Event as Happened, Heard, Restart};

struct Delivery {
    name: &'static str,
    /// The number of true findings.
    truth: usize,
    /// The steps, with the minutes of their arrival.
    steps: &'static [(i64, Step)],
}

const DELIVERIES: [Delivery; 9] = [
    Delivery {
        name: "at once and in order: refused three times, fire and forced, left open",
        truth: 3,
        steps: &[
            (0, Happened("door.denied", 0)),
            (0, Happened("fire.alarm", 0)),
            (1, Happened("door.denied", 1)),
            (1, Happened("door.opened", 1)),
            (2, Happened("door.denied", 2)),
            (3, Happened("door.forced", 3)),
            (9, Heard(9)),
        ],
    },
    Delivery {
        name: "refused twice, each told three times",
        truth: 0,
        steps: &[
            (0, Happened("door.denied", 0)),
            (0, Again("door.denied", 0)),
            (0, Again("door.denied", 0)),
            (2, Happened("door.denied", 2)),
            (2, Again("door.denied", 2)),
            (2, Again("door.denied", 2)),
        ],
    },
    Delivery {
        name: "fire, then forced; the forced door is told first",
        truth: 1,
        steps: &[
            (3, Happened("door.forced", 3)),
            (5, Happened("fire.alarm", 1)),
        ],
    },
    Delivery {
        name: "opened, closed after 2 min, told after 9: the link was down",
        truth: 0,
        steps: &[
            (0, Happened("door.opened", 0)),
            (9, Happened("door.closed", 2)),
            (9, Heard(9)),
        ],
    },
    Delivery {
        name: "refused three times in 40 min, told at once after an outage",
        truth: 0,
        steps: &[
            (41, Happened("door.denied", 0)),
            (41, Happened("door.denied", 20)),
            (41, Happened("door.denied", 40)),
        ],
    },
    Delivery {
        name: "left open for 20 min, told at once after an outage",
        truth: 1,
        steps: &[
            (41, Happened("door.opened", 0)),
            (41, Happened("door.closed", 20)),
            (41, Heard(41)),
        ],
    },
    Delivery {
        name: "fire, a restart of the program, forced",
        truth: 1,
        steps: &[
            (0, Happened("fire.alarm", 0)),
            (2, Restart),
            (4, Happened("door.forced", 4)),
        ],
    },
    Delivery {
        name: "opened; then the gateway was off, so nobody knows",
        truth: 0,
        steps: &[
            (0, Happened("door.opened", 0)),
            (9, Down(1, 9)),
            (9, Heard(9)),
        ],
    },
    Delivery {
        name: "fire, fire after 8 min, forced 4 min after that",
        truth: 1,
        steps: &[
            (0, Happened("fire.alarm", 0)),
            (8, Happened("fire.alarm", 8)),
            (12, Happened("door.forced", 12)),
        ],
    },
];

/// The table of results.
pub fn table() -> Result<String> {
    let found = std::thread::scope(|scope| -> Result<Vec<[usize; 2]>> {
        let running: Vec<_> = DELIVERIES
            .iter()
            .map(|delivery| Form::ALL.map(|form| scope.spawn(move || sec(delivery, form))))
            .collect();
        running
            .into_iter()
            .map(|[pairs, contexts]| {
                let join = |thread: std::thread::ScopedJoinHandle<'_, Result<usize>>| {
                    thread.join().expect("no panic in a delivery")
                };
                Ok([join(pairs)?, join(contexts)?])
            })
            .collect()
    })?;
    let mut table = "| what comes | Linli | sec | sec, contexts |\n|---|---|---|---|\n".to_owned();
    for (delivery, [pairs, contexts]) in DELIVERIES.iter().zip(found) {
        let verdict = |found: usize| match found.cmp(&delivery.truth) {
            std::cmp::Ordering::Equal => format!("{found}, right"),
            std::cmp::Ordering::Less => format!("{found} of {}: missed", delivery.truth),
            std::cmp::Ordering::Greater => format!("{found} instead of {}: false", delivery.truth),
        };
        writeln!(
            table,
            "| {} | {} | {} | {} |",
            delivery.name,
            verdict(engine(delivery)?),
            verdict(pairs),
            verdict(contexts)
        )?;
    }
    Ok(table)
}

/// Number of warnings that the engine has raised at the end.
fn engine(delivery: &Delivery) -> Result<usize> {
    let mut replay = Replay::new(rules(Subject::All)?, HashMap::new());
    let mut stored: Vec<(Event, u64)> = Vec::new();
    let mut heard_ms = BASE_MS;
    let origin = |sequence| Origin {
        site: "yuyuan",
        agent: AGENT,
        lane: Lane::Urgent,
        epoch: 1,
        sequence,
    };
    for (came, step) in delivery.steps {
        let now_ms = BASE_MS + came * MINUTE_MS;
        match step {
            Happened(kind, minute) => {
                let text = log::line(BASE_MS / 1000 + minute * 60, kind, 1);
                let (_, event) = log::read(&text).context("a line")?;
                let sequence = stored.len() as u64;
                replay.bring(&event, &origin(sequence), now_ms);
                stored.push((event, sequence));
            }
            Again(..) => {
                let (event, sequence) = stored.last().context("told before")?;
                replay.bring(event, &origin(*sequence), now_ms);
            }
            Heard(minute) => {
                heard_ms = BASE_MS + minute * MINUTE_MS;
                replay.heard(AGENT, heard_ms, now_ms);
            }
            Down(since, minute) => {
                let since_ms = BASE_MS + since * MINUTE_MS;
                let event = Event {
                    kind: "agent.started".to_owned(),
                    occurred_at_ms: BASE_MS + minute * MINUTE_MS,
                    attributes: [(DOWN_SINCE.to_owned(), since_ms.to_string())].into(),
                    ..Event::default()
                };
                replay.bring(&event, &origin(stored.len() as u64), now_ms);
            }
            Restart => {
                // The windows are filled from the stored events; their results exist already.
                let mut fresh = Replay::new(rules(Subject::All)?, HashMap::new());
                fresh.engine().advance(AGENT, heard_ms);
                for (event, sequence) in &stored {
                    fresh.engine().observe(event, &origin(*sequence), now_ms);
                }
                fresh.engine().outcome();
                let empty =
                    linli_domain::correlate::engine::Engine::in_memory(Vec::new(), HashMap::new());
                replay.restart(std::mem::replace(fresh.engine(), empty));
            }
        }
    }
    Ok(replay.standing().len())
}

/// A running SEC, killed on drop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has exited already, which is the goal.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(sec: &Sec, starts: usize) -> Result<Running> {
    let running = Running(sec.command(Path::new("-")).stdin(Stdio::piped()).spawn()?);
    let deadline = Instant::now() + START_MAX;
    while sec.starts()? < starts {
        ensure!(Instant::now() < deadline, "SEC does not start");
        std::thread::sleep(super::POLL);
    }
    Ok(running)
}

/// Number of warnings that SEC has raised at the end.
fn sec(delivery: &Delivery, form: Form) -> Result<usize> {
    let directory = tempfile::tempdir()?;
    let sec = Sec::new(directory.path(), form, Subject::All, WINDOWS)?;
    let mut running = start(&sec, 1)?;
    // The first step happens immediately.
    let first = delivery.steps.first().map_or(0, |(came, _)| *came);
    let started = Instant::now();
    for (came, step) in delivery.steps {
        let due = MINUTE * u32::try_from(came - first)?;
        std::thread::sleep(due.saturating_sub(started.elapsed()));
        match step {
            Happened(kind, minute) | Again(kind, minute) => {
                let text = log::line(BASE_MS / 1000 + minute * 60, kind, 1);
                let stdin = running.0.stdin.as_mut().context("its input")?;
                stdin.write_all(text.as_bytes())?;
            }
            Heard(_) | Down(..) => {}
            Restart => {
                drop(running);
                running = start(&sec, 2)?;
            }
        }
    }
    // Long enough for the open windows.
    std::thread::sleep(MINUTE * (WINDOWS.short_s + 3));
    let raised = sec.raised()?;
    ensure!(running.0.try_wait()?.is_none(), "SEC has ended by itself");
    Ok(raised)
}
