//! `make demo`: a hub and three agents with real mutual TLS, fed until Ctrl-C or for so many seconds.
use anyhow::{Context, Result, bail};
use linli_tests::harness::{Agent, Hub, Random, project, run};
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const FEED_EVERY: Duration = Duration::from_millis(500);
const REPORT_EVERY: Duration = Duration::from_secs(5);
const ROWS_SHOWN: &str = "3";

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let seconds = match args.as_slice() {
        [] => None,
        [flag, seconds] if flag == "--seconds" => Some(seconds.parse().context("--seconds N")?),
        _ => bail!("usage: linli-demo [--seconds N]"),
    };
    tokio::runtime::Runtime::new()?.block_on(demo(seconds.map(Duration::from_secs)))
}

async fn demo(length: Option<Duration>) -> Result<()> {
    let directory = tempfile::Builder::new().prefix("linli-demo-").tempdir()?;
    let at = directory.path();
    println!("启动中枢 starting a hub …");
    let mut hub = Hub::new(&at.join("hub"))?;
    hub.wrapper = own_session();
    hub.start().await?;
    let mut agents = Vec::new();
    for (name, site) in [
        ("gw-yuyuan", "yuyuan"),
        ("gw-heping", "heping"),
        ("station-1", "pcs-1"),
    ] {
        println!("网关加入 agent joins: {name} @ {site}");
        let mut agent = Agent::joined(&at.join(name), &hub, name, site)?;
        agent.wrapper = own_session();
        agent.start().await?;
        agents.push(agent);
    }
    import(&agents[2])?;
    let api_token =
        run(hub
            .command()?
            .args(["api-token", "create", "--name", "demo", "--valid", "1d"]))?;
    println!("\n到哪里看 where to look");
    println!(
        "  curl --cacert {} -H 'Authorization: Bearer {}' https://localhost:{}/api/v1/warnings",
        hub.root().display(),
        api_token.trim(),
        hub.api_port
    );
    println!("  curl http://127.0.0.1:{}/metrics", hub.metrics_port);
    println!("  linli-hub --config {} events", hub.config().display());
    println!(
        "  linli-agent --config {} status",
        agents[0].config().display()
    );
    match length {
        Some(length) => println!(
            "运行 {} 秒 runs for {} s\n",
            length.as_secs(),
            length.as_secs()
        ),
        None => println!("按 Ctrl-C 结束 runs until Ctrl-C\n"),
    }
    let pushed = feed(&mut hub, &agents, length).await?;
    for agent in &agents {
        agent.drained().await?;
    }
    summary(&mut hub, agents, pushed).await
}

/// A Ctrl-C in the terminal is for the demo, which then ends the programs in their order.
fn own_session() -> Vec<String> {
    vec!["setsid".to_owned()]
}

/// The station's backlog: the real calls where they lie beside the project, else its own sample.
fn import(station: &Agent) -> Result<()> {
    let real = project("../shared/data/police-calls.csv");
    let own = project("tests/data/police-calls.csv");
    let calls: &Path = if real.exists() { &real } else { &own };
    println!("导入警情 importing calls: {}", calls.display());
    let output = station
        .command()?
        .arg("import")
        .arg(calls)
        .arg("--mapping")
        .arg(project("configs/mappings/police-calls.toml"))
        .output()?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    // The project's own sample holds two rows that must be rejected.
    let code = output.status.code();
    if code != Some(0) && code != Some(65) {
        bail!(
            "the import failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn event(serial: u64, building: u64, kind: &str) -> Value {
    json!({
        "serial": serial.to_string(), "device": format!("door-{building}"),
        "building": format!("{building}号楼"), "unit": "1单元", "type": kind,
        "time": jiff::Timestamp::now().to_string(),
    })
}

/// Doors open and close; now and then an e-bike in a lift, and at the start a fire behind a forced
/// door. Returns how many events were pushed and acknowledged.
async fn feed(hub: &mut Hub, agents: &[Agent], length: Option<Duration>) -> Result<u64> {
    let started = Instant::now();
    let mut reported = Instant::now();
    let mut random = Random::new(2026);
    let mut serial = 0;
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut tick = tokio::time::interval(FEED_EVERY);
    loop {
        // All arms are cancel-safe.
        tokio::select! {
            _ = tick.tick() => {}
            _ = &mut stop => return Ok(serial),
            _ = end.recv() => return Ok(serial),
        }
        if length.is_some_and(|length| started.elapsed() >= length) {
            return Ok(serial);
        }
        for (number, agent) in agents[..2].iter().enumerate() {
            let mut kinds = vec!["open", "close"];
            if serial < 10 && number == 0 {
                kinds.extend(["fire", "forced"]);
            }
            if random.below(4) == 0 {
                kinds.push("ebike");
            }
            let mut events = Vec::new();
            for kind in kinds {
                serial += 1;
                events.push(event(serial, 1 + random.below(2), kind));
            }
            let answer = agent.push(&events).await?;
            if answer.status != 200 {
                bail!("a push was answered {}: {}", answer.status, answer.body);
            }
        }
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            let stored = hub.stored().await?.len();
            println!(
                "{:>4} s  已推送 pushed {serial}  已入库 stored {stored}",
                started.elapsed().as_secs()
            );
        }
    }
}

async fn summary(hub: &mut Hub, agents: Vec<Agent>, pushed: u64) -> Result<()> {
    let stored = hub.stored().await?;
    let from_doors = stored
        .iter()
        .filter(|stored| stored.event.source == "doors")
        .count() as u64;
    println!("\n预警 warnings");
    print!(
        "{}",
        run(hub.command()?.args(["warnings", "--limit", ROWS_SHOWN]))?
    );
    println!("案件 cases");
    print!(
        "{}",
        run(hub.command()?.args(["cases", "--limit", ROWS_SHOWN]))?
    );
    let (_, warnings) = hub.api("/api/v1/warnings?limit=500").await?;
    let (_, cases) = hub.api("/api/v1/cases?limit=500").await?;
    let count = |list: &Value| list["items"].as_array().map_or(0, Vec::len);
    println!(
        "\n事件 events {}  预警 warnings {}  案件 cases {}",
        stored.len(),
        count(&warnings),
        count(&cases)
    );
    for mut agent in agents {
        agent.stop()?;
    }
    hub.stop()?;
    if from_doors != pushed {
        bail!("{pushed} events were acknowledged and {from_doors} are stored");
    }
    println!("已确认的事件全部入库一次 every acknowledged event is stored once");
    Ok(())
}
