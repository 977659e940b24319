//! Clients that send slowly, by halves or nothing at all: they cost the agent neither memory nor a stop,
//! and hold up nobody.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{Agent, AgentSetup, DOORS_TOKEN, Hub, metric, until};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What the whole agent may take while strangers fill it (a debug build idles at some 30 MiB).
const MEMORY_BYTES_MAX: u64 = 80 << 20;

async fn pair(directory: &Path) -> Result<(Hub, Agent)> {
    let mut hub = Hub::new(&directory.join("hub"))?;
    hub.start().await?;
    std::fs::create_dir_all(directory.join("a/secrets"))?;
    std::fs::write(
        directory.join("a/secrets/signed.hmac"),
        "0123456789abcdef0123",
    )?;
    let address = format!("127.0.0.1:{}", hub.port);
    let mut agent = Agent::new(&AgentSetup {
        directory: &directory.join("a"),
        name: "gw-1",
        site: "yuyuan",
        hub_address: address.clone(),
        listen: "127.0.0.1",
        more: "[[source]]\nname = \"signed\"\nmapping = \"mappings/doors.toml\"\n\
               hmac_secret_file = \"secrets/signed.hmac\"\n",
    })?;
    agent.join(&hub, &address, "yuyuan")?;
    agent.start().await?;
    Ok((hub, agent))
}

async fn connect(agent: &Agent) -> Result<TcpStream> {
    Ok(TcpStream::connect(("127.0.0.1", agent.push_port)).await?)
}

fn head(source: &str, proof: &str, bytes: usize) -> String {
    format!(
        "POST /push/{source} HTTP/1.1\r\nhost: agent\r\n{proof}\r\ncontent-length: {bytes}\r\n\r\n"
    )
}

fn door(serial: &str) -> serde_json::Value {
    let time = jiff::Timestamp::now().to_string();
    json!({ "serial": serial, "type": "open", "building": "1", "time": time })
}

/// The first line of what the agent answers; empty if it ends the connection without a word.
async fn status_line(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection that is reset has been ended as well.
    let _ = stream.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_or_a_body_that_does_not_end_is_ended_by_the_agent() -> Result<()> {
    let directory = tempdir()?;
    let (_hub, agent) = pair(directory.path()).await?;
    // A header that grows by a letter now and then, for ever.
    let mut drip = connect(&agent).await?;
    drip.write_all(b"POST /push/doors HTTP/1.1\r\nx-slow: ")
        .await?;
    let dripping = until("the slow head to be ended", async || {
        let mut byte = [0];
        let gone = match drip.try_read(&mut byte) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        };
        Ok((gone || drip.try_write(b"a").is_err()).then_some(()))
    });
    let proof = format!("authorization: Bearer {DOORS_TOKEN}");
    let mut half = connect(&agent).await?;
    half.write_all(head("doors", &proof, 1000).as_bytes())
        .await?;
    half.write_all(&[b' '; 500]).await?;
    let halved = async {
        let line = status_line(&mut half).await;
        ensure!(line.contains("408"), "{line}");
        Ok(())
    };
    let (dripping, halved) = tokio::join!(dripping, halved);
    dripping?;
    halved?;
    // A body that its sender cuts off is counted as that, not as one that is too large.
    let mut cut = connect(&agent).await?;
    cut.write_all(head("doors", &proof, 1000).as_bytes())
        .await?;
    cut.write_all(&[b' '; 500]).await?;
    drop(cut);
    let count = |text: &str, outcome: &str| {
        metric(
            text,
            &format!("linli_agent_source_messages_total{{outcome=\"{outcome}\",source=\"doors\"}}"),
        )
    };
    until("the cut body to be counted", async || {
        let text = agent.metrics().await?;
        Ok((count(&text, "cut_off") == Some(1.0)).then_some(()))
    })
    .await?;
    let text = agent.metrics().await?;
    assert_eq!(count(&text, "too_slow"), Some(1.0));
    assert_eq!(count(&text, "too_large"), None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_by_the_hundred_do_not_keep_a_push_away() -> Result<()> {
    let directory = tempdir()?;
    let (_hub, agent) = pair(directory.path()).await?;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(connect(&agent).await?);
    }
    assert_eq!(agent.push(&[door("1")]).await?.status, 200);
    // More than the agent holds at once: those wait for a place, and the agent makes places.
    for _ in 0..600 {
        idle.push(connect(&agent).await?);
    }
    assert_eq!(agent.push(&[door("2")]).await?.status, 200);
    assert!(
        agent.process()?.memory_peak()? < MEMORY_BYTES_MAX,
        "{}",
        agent.process()?.memory_peak()?
    );
    Ok(())
}

/// Sends all of a body but its last byte; gives the status line of the answer.
async fn nearly(mut stream: TcpStream, head: String, bytes: usize) -> String {
    // The answer may come before the body is through; then the rest cannot be sent.
    let _ = stream.write_all(head.as_bytes()).await;
    let (mut receive, mut send) = stream.split();
    let body = vec![b' '; bytes - 1];
    let mut answer = [0; 64];
    tokio::select! {
        read = receive.read(&mut answer) => {
            let read = read.unwrap_or(0);
            return String::from_utf8_lossy(&answer[..read]).into_owned();
        }
        // An error here shows when the answer is read.
        _ = send.write_all(&body) => {}
    }
    let read = receive.read(&mut answer).await.unwrap_or(0);
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn half_sent_bodies_of_strangers_take_no_memory() -> Result<()> {
    const BODY_BYTES: usize = 1 << 20;
    const STRANGERS: usize = 120;
    let directory = tempdir()?;
    let (_hub, agent) = pair(directory.path()).await?;
    let mut bodies = JoinSet::new();
    for (source, proof) in [
        ("doors", "authorization: Bearer wrong"),
        ("signed", "x-signature-256: 00"),
    ] {
        for _ in 0..STRANGERS {
            let stream = connect(&agent).await?;
            bodies.spawn(nearly(stream, head(source, proof, BODY_BYTES), BODY_BYTES));
        }
    }
    // A good push has its own room.
    assert_eq!(agent.push(&[door("1")]).await?.status, 200);
    // All but the few signed bodies that are in memory have been sent away.
    let (mut denied, mut busy) = (0, 0);
    while busy < STRANGERS - 4 || denied < STRANGERS {
        let line = bodies.join_next().await.context("answers")??;
        match line {
            line if line.contains(" 503 ") => busy += 1,
            // A reset may overtake the answer.
            line if line.contains(" 401 ") || line.is_empty() => denied += 1,
            line => anyhow::bail!("{line}"),
        }
    }
    let text = agent.metrics().await?;
    let unauthorized = metric(
        &text,
        "linli_agent_source_messages_total{outcome=\"unauthorized\",source=\"doors\"}",
    );
    assert_eq!(unauthorized, Some(STRANGERS as f64));
    let peak = agent.process()?.memory_peak()?;
    println!("peak {} MiB", peak >> 20);
    assert!(peak < MEMORY_BYTES_MAX, "{peak}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_requests_that_do_not_end() -> Result<()> {
    let directory = tempdir()?;
    let (_hub, mut agent) = pair(directory.path()).await?;
    let proof = format!("authorization: Bearer {DOORS_TOKEN}");
    let mut body = connect(&agent).await?;
    body.write_all(head("doors", &proof, 1000).as_bytes())
        .await?;
    body.write_all(b"{").await?;
    let mut socket = tokio::net::UnixStream::connect(agent.data().join("admin.sock")).await?;
    socket
        .write_all(
            head("submit", "x-none: 0", 1000)
                .replace("/push", "/v1")
                .as_bytes(),
        )
        .await?;
    let mut open = connect(&agent).await?;
    open.write_all(b"POST /push").await?;
    // The agent has taken up what came before this one.
    assert_eq!(agent.push(&[door("1")]).await?.status, 200);
    let begun = Instant::now();
    tokio::task::block_in_place(|| agent.stop())?;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_all_of_a_refused_body_reads_why_it_was_refused() -> Result<()> {
    const BYTES: usize = 3 << 20;
    let directory = tempdir()?;
    let (_hub, agent) = pair(directory.path()).await?;
    let good = format!("authorization: Bearer {DOORS_TOKEN}");
    for (proof, status) in [(good.as_str(), "413"), ("authorization: Bearer no", "401")] {
        let mut stream = connect(&agent).await?;
        stream
            .write_all(head("doors", proof, BYTES).as_bytes())
            .await?;
        // The answer is there before the first byte of the body is sent.
        stream.readable().await?;
        stream.write_all(&vec![b' '; BYTES]).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
        ensure!(answer.contains("connection: close\r\n"), "{answer}");
    }
    Ok(())
}
