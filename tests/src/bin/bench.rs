//! `make bench`: the tables of docs/src/measurements.md.
use anyhow::{Result, bail};
use linli_tests::bench::{doors, equipment, events, fleet, host, latency, linli, peers};
use linli_tests::harness::is_root;
use std::path::PathBuf;

const EVENTS_DEFAULT: u64 = 1_000_000;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().map(String::as_str) == Some(peers::FEED) {
        let rest = args.get(2..).unwrap_or_default();
        if args.get(1).map(String::as_str) == Some("fleet") {
            return fleet::main(rest);
        }
        let done = match args.get(1).map(String::as_str) {
            Some("push") => linli::push_main(rest),
            Some("alarms") => latency::alarm_main(rest),
            _ => peers::feed_main(&args[1..]),
        };
        return done.map_err(anyhow::Error::from_boxed);
    }
    if !is_root() {
        bail!("the bench makes network namespaces: run it as root");
    }
    let mut count = EVENTS_DEFAULT;
    let mut only = None;
    let mut words = args.iter();
    while let Some(word) = words.next() {
        match (word.as_str(), words.next()) {
            ("--events", Some(number)) => count = number.parse()?,
            ("--only", Some(name)) => only = Some(name.clone()),
            _ => bail!(
                "usage: linli-bench [--events N] [--only linli|latency|fleet|peers|equipment|doors]"
            ),
        }
    }
    run(count, only.as_deref()).map_err(anyhow::Error::from_boxed)
}

fn run(count: u64, only: Option<&str>) -> host::Result<()> {
    let wanted = |name| only.is_none_or(|only| only == name);
    if wanted("equipment") {
        equipment_row()?;
        if only.is_some() {
            return Ok(());
        }
    }
    if wanted("doors") {
        doors_row()?;
        if only.is_some() {
            return Ok(());
        }
    }
    let scratch = host::Scratch::new("events")?;
    let file: PathBuf = scratch.path().join("events.jsonl");
    eprintln!("writing {count} events");
    events::write(&file, count)?;
    let bytes = std::fs::metadata(&file)?.len() / count;
    println!("{count} events of {bytes} B\n");
    let hosts = host::Hosts::new()?;
    let mut rows = Vec::new();
    if wanted("linli") {
        eprintln!("Linli");
        let (row, disk_bytes) = linli::run(&hosts, &file, count)?;
        rows.push(row);
        println!("hub store: {disk_bytes:.0} B on disk per event\n");
    }
    if wanted("peers") {
        eprintln!("rsyslog");
        rows.push(peers::rsyslog(&hosts, &file, count)?);
        eprintln!("NATS");
        rows.push(peers::nats(&hosts, &file, count)?);
    }
    if !rows.is_empty() {
        println!("{}", host::table(&rows));
    }
    if wanted("latency") {
        eprintln!("alarms");
        let report = latency::run(&hosts, &file, count)?;
        println!(
            "| alarm to committed warning | p50 ms | p99 ms | answered p50 | p99 | samples |\n| --- | --: | --: | --: | --: | --: |"
        );
        for (name, latency) in [
            ("idle link".to_owned(), report.idle),
            (
                format!(
                    "while a backlog of {count} drains ({:.1} s)",
                    report.drain_s
                ),
                report.busy,
            ),
        ] {
            println!(
                "| {name} | {:.1} | {:.1} | {:.1} | {:.1} | {} |",
                latency.p50_ms,
                latency.p99_ms,
                latency.answer_p50_ms,
                latency.answer_p99_ms,
                latency.samples
            );
        }
        println!(
            "\nagent memory: {:.0} MB idle, {:.0} MB after alarms now and then, {:.0} MB at its peak",
            report.agent_idle_mb, report.agent_quiet_mb, report.agent_peak_mb
        );
    }
    if wanted("fleet") {
        eprintln!("a fleet");
        let report = fleet::run(&hosts)?;
        println!(
            "\n{} agents at once: all taken in and acknowledged after {:.2} s, {:.2} s of the hub's CPU\n\
             {} held connections: {:.1} KiB of the hub's memory each",
            fleet::STORM,
            report.storm_s,
            report.storm_cpu_s,
            fleet::HELD,
            report.held_kib
        );
    }
    Ok(())
}

fn equipment_row() -> host::Result<()> {
    eprintln!("equipment");
    let scratch = host::Scratch::new("equipment")?;
    if let Some(report) = equipment::run(scratch.path())? {
        println!(
            "{} doors and 300 registers on one agent: {:.2} % of a core, {:.0} MB\n\
             {} door events at once: all at the hub after {:.2} s, {:.2} s of the agent's CPU, {:.0} MB at its peak\n",
            equipment::DOORS,
            report.quiet_percent,
            report.quiet_mb,
            report.storm_events,
            report.storm_s,
            report.storm_cpu_s,
            report.peak_mb
        );
    }
    Ok(())
}

fn doors_row() -> host::Result<()> {
    eprintln!("doors");
    let scratch = host::Scratch::new("doors")?;
    if let Some(report) = doors::run(scratch.path())? {
        println!(
            "{} doors when the agent starts, each with an alarm and {} events of before: the first alarm is at the hub after {:.2} s, \
             all alarms after {:.2} s, all events after {:.2} s; {:.0} MB at its peak\n",
            doors::DOORS,
            doors::HISTORY,
            report.first_s,
            report.all_s,
            report.history_s,
            report.peak_mb
        );
    }
    Ok(())
}
