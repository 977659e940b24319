//! Pushes that are refused, and items that a mapping rejects: who sets a platform up sees them at the agent.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{DOORS_TOKEN, Equipped, Process, hmac, http, until};
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WRONG_TOKEN: &str = "another-token-of-32-letters-long";

/// Pushes of every bad kind, and one that is good in part.
async fn bad_pushes(scene: &Equipped) -> Result<()> {
    let good =
        json!({"serial": "1", "device": "d1", "type": "open", "time": "2026-07-01 12:00:00"});
    let bad = json!({"serial": "2", "device": "d1", "type": "sung", "time": "2026-07-01 12:00:00"});
    let events = |events: &[&serde_json::Value]| json!({ "events": events }).to_string();
    for (token, body, status) in [
        (WRONG_TOKEN, events(&[&good]), 401),
        (WRONG_TOKEN, events(&[&good]), 401),
        (DOORS_TOKEN, "x".repeat(2 << 20), 413),
        (DOORS_TOKEN, "open the door".to_owned(), 400),
        (DOORS_TOKEN, events(&[&bad]), 422),
        (DOORS_TOKEN, events(&[&bad, &bad]), 422),
        (DOORS_TOKEN, events(&[&good, &bad]), 200),
    ] {
        let answer = scene
            .agent
            .push_raw("doors", token, body.into_bytes())
            .await?;
        ensure!(answer.status == status, "{answer:?}");
    }
    let nobody = scene
        .agent
        .push_raw("nobody", DOORS_TOKEN, Vec::new())
        .await?;
    ensure!(nobody.status == 404, "{nobody:?}");
    Ok(())
}

/// What stands in a text for each of them, once.
fn all_are_told(text: &str) -> Result<()> {
    for reason in [
        "the token of source \\\"doors\\\" is wrong or missing",
        "is larger than",
        "the body is not JSON",
        "item 0: kind \\\"sung\\\" is not in the mapping's table",
        "item 1: kind \\\"sung\\\" is not in the mapping's table",
    ] {
        ensure!(text.contains(reason), "no {reason} in {text}");
    }
    ensure!(
        !text.contains(WRONG_TOKEN) && !text.contains(DOORS_TOKEN),
        "{text}"
    );
    Ok(())
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_that_are_refused_and_items_that_are_rejected_are_shown_with_the_reason()
-> Result<()> {
    let directory = tempfile::tempdir()?;
    let scene = Equipped::start(directory.path(), "", &[]).await?;
    let log = directory.path().join("test.log");
    let mut command = scene.agent.command()?;
    command.args([
        "source",
        "test",
        "doors",
        "--json",
        "--count",
        "7",
        "--seconds",
        "60",
    ]);
    let mut process = Process::start("source test", &mut command, &log)?;
    until("the standing to be shown", async || {
        Ok(text(&log).contains("standing").then_some(()))
    })
    .await?;
    bad_pushes(&scene).await?;
    ensure!(process.wait(Duration::from_secs(60))?.success());
    let shown = text(&log);
    all_are_told(&shown)?;
    ensure!(
        shown.matches("\"outcome\":\"refused\"").count() == 6,
        "{shown}"
    );
    ensure!(shown.contains("open the door"), "{shown}");

    let source = scene.source("doors")?;
    all_are_told(&source.to_string())?;
    // The second event says that the clock of the door is months off.
    // Whoever comes again and again with a wrong token, or with the same bad item, pushes out no other sample.
    let samples = source["samples"].as_array().map_or(0, Vec::len);
    ensure!(samples == 5, "{source:#}");
    ensure!(
        source["rejected"] == 5 && source["stored"] == 2,
        "{source:#}"
    );
    // The last push was taken.
    ensure!(source["last_error"].is_null(), "{source:#}");
    scene
        .agent
        .push_raw("doors", WRONG_TOKEN, Vec::new())
        .await?;
    let source = scene.source("doors")?;
    let error = source["last_error"].as_str().unwrap_or_default();
    ensure!(error.contains("wrong or missing"), "{source:#}");

    for bytes in 5..=12 {
        cut_off(&scene, bytes).await?;
    }
    scene
        .source_is("doors", "bodies that were cut off to be shown", |source| {
            let samples = source["samples"].as_array().cloned().unwrap_or_default();
            let cut = |sample: &&serde_json::Value| sample.to_string().contains("cut off");
            samples.len() == 6 && samples.iter().filter(cut).count() == 1
        })
        .await?;
    all_are_told(&scene.source("doors")?.to_string())
}

/// A push that ends after so many bytes of its body.
async fn cut_off(scene: &Equipped, bytes: usize) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", scene.agent.push_port)).await?;
    let head = format!(
        "POST /push/doors HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {DOORS_TOKEN}\r\ncontent-length: 100\r\n\r\n{}",
        "x".repeat(bytes)
    );
    stream.write_all(head.as_bytes()).await?;
    stream.shutdown().await?;
    // However it is answered, it is over then.
    let _ = stream.read_to_end(&mut Vec::new()).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_sources_runs_until_it_is_stopped() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut scene = Equipped::start(directory.path(), "", &[]).await?;
    scene.agent.stop()?;
    let config = std::fs::read_to_string(scene.agent.config())?;
    let (without, _) = config
        .split_once("[[source]]")
        .context("the source of the harness")?;
    std::fs::write(scene.agent.config(), without)?;
    scene.agent.start().await?;
    // Its start is at the hub: by then it had every chance to end.
    scene.agent.drained().await?;
    ensure!(scene.agent.status()?["sources"] == json!([]));
    // Gives an error if it ended by itself, or with another code than 0.
    scene.agent.stop()
}

/// A secret of signed pushes.
const SIGNING: &str = "0123456789abcdef0123456789abcdef";
/// Equal pushes at once.
const EQUAL_PUSHES: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn equal_signed_bodies_without_ids_that_come_at_once_are_stored_once() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let blocks = "[[source]]\nname = \"boxes\"\nmapping = \"box.toml\"\nhmac_secret_file = \"secrets/signing\"\n";
    let mapping = "schema = 1\ndevice = \"/box\"\nkind = { value = \"fire.alarm\" }\nseverity = { value = \"life\" }\n";
    let files = [("secrets/signing", SIGNING), ("box.toml", mapping)];
    let scene = Equipped::start(directory.path(), blocks, &files).await?;
    let url = format!("http://127.0.0.1:{}/push/boxes", scene.agent.push_port);
    let client = http().build()?;
    for name in ["a", "b"] {
        let body = json!({ "box": name }).to_string();
        let signature = hex::encode(hmac(SIGNING, &body)?);
        let push = || {
            let request = client.post(&url).header("x-signature-256", &signature);
            request.body(body.clone()).send()
        };
        let answers = futures_util::future::try_join_all((0..EQUAL_PUSHES).map(|_| push())).await?;
        let (mut stored, mut doubled) = (0, 0);
        for answer in answers {
            ensure!(answer.status() == 200, "{}", answer.status());
            let answer: serde_json::Value = serde_json::from_slice(&answer.bytes().await?)?;
            stored += answer["stored"].as_u64().context("stored")?;
            doubled += answer["doubled"].as_u64().context("doubled")?;
        }
        ensure!(
            (stored, doubled) == (1, EQUAL_PUSHES as u64 - 1),
            "{stored}, {doubled}"
        );
    }
    let alarms = scene.stored_at_least("boxes", 2).await?;
    let devices: Vec<&str> = alarms
        .iter()
        .map(|stored| stored.event.device.as_str())
        .collect();
    ensure!(alarms.len() == 2, "{devices:?}");
    Ok(())
}
