//! A hub whose disk is full, whose start was cut off, whose reader has gone.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{
    Agent, Hub, SmallDisk, assert_stored_once, has_no_file, http, is_root, metric, run, until,
};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::Read;
use std::process::{Command, Stdio};
use tempfile::tempdir;

fn door(serial: &str, kind: &str) -> Value {
    json!({ "serial": serial, "device": "door-1", "building": "3号楼", "type": kind, "time": jiff::Timestamp::now().to_string() })
}

/// What `/health/readyz` answers.
async fn readyz(hub: &Hub) -> Result<(u16, String)> {
    let url = format!("http://127.0.0.1:{}/health/readyz", hub.metrics_port);
    let answer = http().build()?.get(url).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// Pushes events of which each is its own, and whose bytes do not compress away.
async fn push(agent: &Agent, name: &str, count: usize, sent: &mut HashSet<String>) -> Result<()> {
    let events: Vec<Value> = (0..count)
        .map(|number| {
            let serial = format!("{name}-{number}");
            let mut event = door(&serial, if number % 7 == 0 { "forced" } else { "open" });
            event["device"] = json!(format!("door-{:x}", number.wrapping_mul(0x9E37_79B9)));
            sent.insert(serial);
            event
        })
        .collect();
    for part in events.chunks(500) {
        let answer = agent.push(part).await?;
        ensure!(answer.status == 200, "{:?}", answer.body);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_hub_is_never_acknowledged_and_stores_all_once_it_has_room() -> Result<()>
{
    if has_no_file() {
        return Ok(());
    }
    if !is_root() {
        return Ok(());
    }
    let directory = tempdir()?;
    let disk = SmallDisk::new(48)?;
    // The data directory is on it, and nothing else.
    let (home, data) = (directory.path().join("hub"), disk.path().join("data"));
    std::fs::create_dir_all(&home)?;
    std::fs::create_dir_all(&data)?;
    std::os::unix::fs::symlink(&data, home.join("data"))?;
    let mut hub = Hub::new(&home)?;
    hub.start().await?;
    let mut agent = Agent::joined(&directory.path().join("a"), &hub, "gw-1", "yuyuan")?;
    agent.start().await?;
    let mut sent = HashSet::new();
    push(&agent, "before", 200, &mut sent).await?;
    agent.drained().await?;

    // Somebody else fills the disk to the last byte; what the hub's log has for itself is soon used up.
    let filler = disk.path().join("filler");
    let filled = run(Command::new("dd")
        .args(["if=/dev/zero", "bs=4k", "status=none"])
        .arg(format!("of={}", filler.display())));
    assert!(filled.is_err(), "dd ends only when the disk is full");
    let mut round = 0;
    until("a transaction to fail", async || {
        round += 1;
        push(&agent, &format!("full-{round}"), 2000, &mut sent).await?;
        let failed = metric(&hub.metrics().await?, "linli_hub_store_failures_total");
        Ok((failed >= Some(1.0)).then_some(()))
    })
    .await?;
    until("the hub to say that it is not ready, and why", async || {
        let (status, text) = readyz(&hub).await?;
        Ok((status == 503 && text.contains("takes no events")).then_some(()))
    })
    .await?;
    // It tries again and again, and does not pretend.
    until("more tries to fail", async || {
        let failed = metric(&hub.metrics().await?, "linli_hub_store_failures_total");
        Ok((failed >= Some(4.0)).then_some(()))
    })
    .await?;
    push(&agent, "meanwhile", 100, &mut sent).await?;
    // What the hub has committed and what waits at the agent are all that there is: no acknowledgement was
    // given for anything else.
    until("every event to be committed or to wait", async || {
        let stored = hub.stored().await?.len();
        let text = agent.metrics().await?;
        let waiting: f64 = ["urgent", "routine"]
            .iter()
            .filter_map(|lane| {
                metric(
                    &text,
                    &format!("linli_agent_spool_events{{lane=\"{lane}\"}}"),
                )
            })
            .sum();
        ensure!(
            stored + waiting as usize == sent.len(),
            "{stored} + {waiting} of {}",
            sent.len()
        );
        Ok((waiting >= 100.0).then_some(()))
    })
    .await?;

    // Started on the full disk it comes up, and says the same.
    hub.kill()?;
    hub.spawn()?;
    until(
        "the hub to start and to say that it takes nothing",
        async || Ok((readyz(&hub).await?.0 == 503).then_some(())),
    )
    .await?;

    std::fs::remove_file(&filler)?;
    until("the hub to be ready again by itself", async || {
        Ok((readyz(&hub).await?.0 == 200).then_some(()))
    })
    .await?;
    push(&agent, "after", 200, &mut sent).await?;
    agent.drained().await?;
    // What was acknowledged is on the disk, not in a transaction that nobody has ended.
    hub.kill()?;
    hub.start().await?;
    assert_stored_once(&hub, &sent).await?;
    agent.drained().await?;
    println!(
        "{} events, {round} rounds until the disk was full",
        sent.len()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_end_quietly_when_their_reader_has_gone() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut agent = Agent::joined(&directory.path().join("a"), &hub, "gw-1", "yuyuan")?;
    agent.start().await?;
    // More than a pipe holds.
    push(&agent, "e", 2000, &mut HashSet::new()).await?;
    agent.drained().await?;
    for arguments in [
        ["events", "--limit", "2000"].as_slice(),
        ["events", "--limit", "2000", "--json"].as_slice(),
        ["completions", "bash"].as_slice(),
    ] {
        let mut child = hub
            .command()?
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut line = [0; 8];
        let mut reader = child.stdout.take().context("its output")?;
        reader.read_exact(&mut line)?;
        drop(reader);
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        assert_eq!(said, "", "{arguments:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_that_was_cut_off_is_ended_by_the_next_one() -> Result<()> {
    if has_no_file() {
        return Ok(());
    }
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    let root = std::fs::read(hub.root())?;
    std::fs::remove_file(hub.database())?;
    run(hub.command()?.arg("init"))?;
    assert_eq!(std::fs::read(hub.root())?, root, "the root is another one");
    hub.start().await?;
    let again = hub.command()?.arg("init").output()?;
    assert_eq!(again.status.code(), Some(78));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_api_that_says_nothing_is_let_go() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect"])
        .arg(format!("127.0.0.1:{}", hub.api_port))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut input = client.stdin.take().context("its input")?;
    std::io::Write::write_all(&mut input, b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n")?;
    until("the hub to close the connection", async || {
        Ok(client.try_wait()?.map(|_| ()))
    })
    .await?;
    drop(input);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_say_when_certificates_end_and_what_room_there_is() -> Result<()> {
    if has_no_file() {
        return Ok(());
    }
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let text = hub.metrics().await?;
    let now_s = jiff::Timestamp::now().as_second() as f64;
    for cert in ["hub", "root"] {
        let name = format!("linli_hub_cert_not_after_timestamp_seconds{{cert=\"{cert}\"}}");
        let days = (metric(&text, &name).context(name)? - now_s) / 86_400.0;
        assert!((3600.0..3700.0).contains(&days), "{cert}: {days} days");
    }
    let started_s = metric(&text, "process_start_time_seconds").context("the start")?;
    assert!((now_s - 120.0..=now_s).contains(&started_s));
    // Not a program of the hub's: where it is missing, its check is left to who has it.
    let promtool = match Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        Ok(promtool) => Some(promtool),
        Err(_) => {
            eprintln!("skipped: promtool is not installed");
            None
        }
    };
    if let Some(mut promtool) = promtool {
        let mut input = promtool.stdin.take().context("its input")?;
        std::io::Write::write_all(&mut input, text.as_bytes())?;
        drop(input);
        let output = promtool.wait_with_output()?;
        assert!(output.status.success(), "{output:?}");
    }
    for name in [
        "linli_hub_store_bytes",
        "linli_hub_store_free_bytes",
        "process_resident_memory_bytes",
    ] {
        assert!(metric(&text, name) > Some(100_000.0), "{name}");
    }
    Ok(())
}
