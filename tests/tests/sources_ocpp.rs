//! Chargers over OCPP 1.6-J, played by the package ocpp.
use anyhow::{Result, ensure};
use linli_tests::harness::{
    Equipped, Process, StoredEvent, free_tcp_port, peer, peers_python, until,
};
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PASSWORD: &str = "a password of the chargers";

fn block(port: u16) -> String {
    format!(
        "[[device]]\nid = \"cp-1\"\nbuilding = \"车棚1\"\n[[source]]\nname = \"chargers\"\ntype = \"ocpp\"\n\
         listen = \"127.0.0.1:{port}\"\npassword_file = \"secrets/chargers\"\nchargers = [\"cp-1\"]\nheartbeat = \"1s\"\n\
         silent_after = \"3s\"\n"
    )
}

/// A hub and an agent that waits for charge points.
async fn listening(directory: &Path, port: u16) -> Result<Equipped> {
    let files = [("secrets/chargers", PASSWORD)];
    Equipped::listening(directory, "chargers", &block(port), &files).await
}

fn charger(
    python: &Path,
    port: u16,
    password: &str,
    statuses: &[String],
    log: &Path,
) -> Result<Process> {
    let url = format!("ws://127.0.0.1:{port}/ocpp");
    let mut arguments = vec![url.as_str(), "cp-1", password];
    arguments.extend(statuses.iter().map(String::as_str));
    peer(python, "ocpp_charger.py", &arguments, log)
}

fn kinds(stored: &[StoredEvent]) -> Vec<String> {
    stored
        .iter()
        .filter(|stored| !stored.event.kind.starts_with("device."))
        .map(|stored| format!("{} {}", stored.event.device, stored.event.kind))
        .collect()
}

async fn told(log: &Path, what: &str) -> Result<String> {
    until(what, async || {
        let text = std::fs::read_to_string(log)?;
        Ok(text.contains(what).then_some(text))
    })
    .await
}

fn status(connector: u32, error: &str, status: &str, second: u32) -> String {
    format!(
        "{connector},{error},{status},2026-07-01T04:{:02}:{:02}Z",
        second / 60,
        second % 60
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charger_that_overheats_is_told_and_is_unknown_when_it_goes() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let port = free_tcp_port()?;
    let scene = listening(directory.path(), port).await?;
    let statuses = [
        status(1, "NoError", "Available", 1),
        status(1, "HighTemperature", "Faulted", 2),
        status(1, "HighTemperature", "Faulted", 2),
        status(1, "NoError", "Available", 3),
        status(2, "GroundFailure", "Faulted", 4),
    ];
    let log = directory.path().join("charger.log");
    let process = charger(&python, port, PASSWORD, &statuses, &log)?;
    told(&log, "answered 2,GroundFailure").await?;
    let text = told(&log, "triggered StatusNotification").await?;
    ensure!(text.contains("booted Accepted 1"), "{text}");
    let stored = scene.stored_at_least("chargers", 8).await?;
    let mut found = kinds(&stored);
    found.retain(|kind| !kind.ends_with("charger.status"));
    // Lanes do not wait for each other.
    found.sort();
    ensure!(
        found
            == [
                "cp-1/1 pile.overheat",
                "cp-1/1 pile.restored",
                "cp-1/2 charger.fault"
            ],
        "{found:?}"
    );
    // The status that came twice is stored once, and all of it is in the place of the charge point.
    let statuses = stored
        .iter()
        .filter(|stored| stored.event.kind == "charger.status")
        .count();
    ensure!(statuses == 4, "{:?}", kinds(&stored));
    ensure!(
        stored
            .iter()
            .all(|stored| stored.event.place.building == "车棚1")
    );
    // Nobody's card is anywhere: pseudonyms are off.
    ensure!(!format!("{stored:?}").contains("0012345678"));
    process.kill()?;
    let source = scene
        .source_is("chargers", "the charge point to be unknown", |source| {
            source["unknown"] == 1
        })
        .await?;
    ensure!(source["unknown_devices"][0]["device"] == "cp-1", "{source}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_charger_was_answered_is_stored_though_the_agent_is_killed() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let port = free_tcp_port()?;
    let mut scene = listening(directory.path(), port).await?;
    let statuses: Vec<String> = (0..600)
        .map(|second| status(1, "NoError", "Available", second))
        .collect();
    let log = directory.path().join("charger.log");
    let process = charger(&python, port, PASSWORD, &statuses, &log)?;
    told(&log, "answered 1,NoError,Available,2026-07-01T04:01:40Z").await?;
    scene.agent.kill()?;
    process.kill()?;
    let text = std::fs::read_to_string(&log)?;
    let answered = text
        .lines()
        .filter(|line| line.starts_with("answered"))
        .count();
    ensure!((100..600).contains(&answered), "{answered} were answered");
    scene.agent.start().await?;
    // All that the spool has is at the hub then.
    scene.agent.drained().await?;
    let stored = scene.stored("chargers").await?;
    let mut ids: Vec<&str> = stored
        .iter()
        .map(|stored| stored.event.source_id.as_str())
        .filter(|id| !id.is_empty())
        .collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == count, "an event is stored twice");
    for second in 0..answered as u32 {
        let time = status(1, "NoError", "Available", second);
        let time = time.rsplit(',').next().unwrap_or_default().to_owned();
        ensure!(
            ids.iter().any(|id| id.contains(&time)),
            "{time} was answered and is not stored"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_hostile_peers_are_sent_away_and_a_good_one_is_served() -> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let port = free_tcp_port()?;
    let scene = listening(directory.path(), port).await?;
    let log = directory.path().join("stranger.log");
    let _stranger = charger(&python, port, "wrong", &[], &log)?;
    told(&log, "401").await?;
    scene
        .source_is("chargers", "the refusal to be shown", |source| {
            let error = source["last_error"].as_str().unwrap_or_default();
            error.starts_with("127.0.0.1: the password of charge point")
                && source["samples"][0]["reason"] == source["last_error"]
                && source["samples"][0]["raw"] == ""
        })
        .await?;
    // A head without end, bytes that are no HTTP, and peers that say nothing.
    let mut endless = TcpStream::connect(("127.0.0.1", port)).await?;
    endless.write_all(b"GET /ocpp/cp-1 HTTP/1.1\r\n").await?;
    let header = format!("X-Long: {}\r\n", "x".repeat(1000));
    let ended = async {
        loop {
            if endless.write_all(header.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), ended).await?;
    let mut garbage = TcpStream::connect(("127.0.0.1", port)).await?;
    garbage.write_all(&[0xff; 4096]).await?;
    let mut rest = Vec::new();
    let _ = garbage.read_to_end(&mut rest).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await?);
    }
    let log = directory.path().join("charger.log");
    let _process = charger(
        &python,
        port,
        PASSWORD,
        &[status(1, "NoError", "Available", 1)],
        &log,
    )?;
    told(&log, "answered 1,NoError").await?;
    Ok(())
}
