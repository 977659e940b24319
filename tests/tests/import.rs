//! A backlog from a file, through a station's agent.
use anyhow::{Context, Result};
use linli_tests::harness::{Agent, Hub, Process, project, recorded, run, until};
use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

async fn station(directory: &Path) -> Result<(Hub, Agent)> {
    let mut hub = Hub::new(&directory.join("hub"))?;
    hub.start().await?;
    let agent = Agent::joined(&directory.join("a"), &hub, "station-1", "pcs-1")?;
    Ok((hub, agent))
}

fn import(agent: &Agent, file: &Path, mapping: &str) -> Result<Command> {
    let mut command = agent.command()?;
    command
        .arg("import")
        .arg(file)
        .arg("--mapping")
        .arg(project("configs/mappings").join(mapping))
        .arg("--json");
    Ok(command)
}

fn summary(command: &mut Command) -> Result<(i32, Value)> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let summary = serde_json::from_str(&text)
        .with_context(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((output.status.code().context("a code")?, summary))
}

fn number(summary: &Value, field: &str) -> u64 {
    summary[field].as_u64().unwrap_or(u64::MAX)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_a_file_is_stored_left_out_or_rejected_with_its_line() -> Result<()> {
    let directory = tempdir()?;
    let (hub, mut agent) = station(directory.path()).await?;
    // Straight into the spool, no agent running; then once more through the running agent.
    let sample = project("tests/data/police-calls.csv");
    let rejects = directory.path().join("rejects");
    let (code, first) = summary(
        import(&agent, &sample, "police-calls.toml")?
            .arg("--rejects")
            .arg(&rejects),
    )?;
    assert_eq!(code, 65, "rejected rows show in the exit code");
    assert_eq!(number(&first, "rows"), 12);
    assert_eq!(number(&first, "stored"), 6);
    assert_eq!(number(&first, "filtered"), 3);
    assert_eq!(number(&first, "doubled"), 1);
    assert_eq!(number(&first, "rejected"), 2);
    let lines: Vec<u64> = first["rejects"]
        .as_array()
        .context("rejects")?
        .iter()
        .filter_map(|row| row["line"].as_u64())
        .collect();
    assert_eq!(lines, [6, 9]);
    let rejects = std::fs::read_to_string(rejects)?;
    assert!(rejects.contains("6\t") && rejects.contains("has none of the mapping's formats"));
    assert!(rejects.contains("9\t") && rejects.contains("fields"));
    agent.start().await?;
    let (_, again) = summary(&mut import(&agent, &sample, "police-calls.toml")?)?;
    assert_eq!(number(&again, "stored"), 0);
    assert_eq!(number(&again, "doubled"), 7);
    agent.drained().await?;
    assert_eq!(hub.stored().await?.len(), 6);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_in_gb18030_and_broken_lines_are_told_apart() -> Result<()> {
    let directory = tempdir()?;
    let (hub, mut agent) = station(directory.path()).await?;
    agent.start().await?;
    let file = directory.path().join("export.jsonl");
    let mut bytes = Vec::new();
    bytes.extend_from_slice(
        "{\"jqbh\":\"A1\",\"category\":\"邻里\",\"address_key\":\"k1\",\"reported_at\":\"2026-03-01 08:00:00\",\"caller\":\"not taken\"}\n"
            .as_bytes(),
    );
    bytes.extend_from_slice(b"{broken\n\n");
    // The same field names, the category in GB18030.
    bytes.extend_from_slice(b"{\"jqbh\":\"A2\",\"category\":\"\xc1\xda\xc0\xef\",\"address_key\":\"k1\",\"reported_at\":\"2026-03-02 08:00:00\"}\n");
    std::fs::write(&file, bytes)?;
    let (code, summary) = summary(&mut import(&agent, &file, "police-incident.toml")?)?;
    assert_eq!(code, 65);
    assert_eq!(
        (number(&summary, "rows"), number(&summary, "stored")),
        (3, 2)
    );
    assert_eq!(summary["rejects"][0]["line"], 2);
    agent.drained().await?;
    let stored = hub.stored().await?;
    assert_eq!(stored.len(), 2);
    for event in &stored {
        assert_eq!(event.event.attributes["category"], "邻里");
        assert!(
            !format!("{event:?}").contains("not taken"),
            "an undeclared field was kept"
        );
    }
    // 08:00 in a file without a zone is Beijing time.
    assert_eq!(stored[0].event.occurred_at_ms, 1_772_323_200_000);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_calls_are_all_accounted_for_and_come_once_after_an_interrupted_import()
-> Result<()> {
    let Some(calls) = recorded("data/police-calls.csv") else {
        return Ok(());
    };
    let directory = tempdir()?;
    let (mut hub, mut agent) = station(directory.path()).await?;
    agent.start().await?;
    // Interrupted: killed once some rows are stored.
    let log = directory.path().join("import.log");
    let running = Process::start(
        "import",
        &mut import(&agent, &calls, "police-calls.toml")?,
        &log,
    )?;
    until("some rows to be stored", async || {
        let status = agent.status()?;
        Ok((status["lanes"][0]["next"].as_u64() > Some(0)).then_some(()))
    })
    .await?;
    running.kill()?;
    let (code, summary) = summary(&mut import(&agent, &calls, "police-calls.toml")?)?;
    println!("{summary}");
    assert_eq!(code, 0);
    assert_eq!(number(&summary, "rows"), 23_909);
    assert_eq!(number(&summary, "filtered"), 23_909 - 3_427);
    assert_eq!(number(&summary, "rejected"), 0);
    assert_eq!(
        number(&summary, "stored") + number(&summary, "doubled"),
        3_427
    );
    assert!(
        number(&summary, "doubled") > 0,
        "the first import stored nothing"
    );
    agent.drained().await?;
    let stored = hub.stored().await?;
    let ids: HashSet<&str> = stored
        .iter()
        .map(|stored| stored.event.source_id.as_str())
        .collect();
    assert_eq!((stored.len(), ids.len()), (3_427, 3_427));

    let (_, warnings) = hub
        .api("/api/v1/warnings?rule=dispute-repeat-place&limit=500")
        .await?;
    let warnings = warnings["items"].as_array().context("items")?.clone();
    let busiest = warnings
        .iter()
        .find(|warning| warning["key"] == "Aba4f410163")
        .context("a warning for the place with most disputes")?;
    assert_eq!(busiest["late"], true, "calls of 2018 are no news");
    let code = busiest["cases"][0].as_str().context("its case")?;
    let (status, case) = hub.api(&format!("/api/v1/cases/{code}")).await?;
    assert_eq!((status, case["key"].as_str()), (200, Some("Aba4f410163")));
    assert!(
        case["warnings"]
            .as_array()
            .is_some_and(|ids| ids.contains(&busiest["id"]))
    );
    println!("{} warnings for repeated places", warnings.len());
    let text = run(hub.command()?.args(["cases", "--limit", "3"]))?;
    assert!(text.contains("同一地址重复纠纷警情"));
    Ok(())
}
