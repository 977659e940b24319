//! A backlog from a file, through a station's agent.
use anyhow::{Context, Result};
use linli_tests::harness::{Agent, Hub, Process, is_root, project, recorded, run, until};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

async fn station(directory: &Path) -> Result<(Hub, Agent)> {
    let mut hub = Hub::new(&directory.join("hub"))?;
    // All that a file comes to is looked at here.
    hub.configure("[warnings]\nper_agent_minute = 100000\n")?;
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
    // One of them has a time that cannot be read: it costs the time.
    assert_eq!(number(&first, "stored"), 7);
    assert_eq!(number(&first, "implausible_times"), 1);
    assert_eq!(number(&first, "filtered"), 3);
    assert_eq!(number(&first, "doubled"), 1);
    assert_eq!(number(&first, "rejected"), 1);
    let lines: Vec<u64> = first["rejects"]
        .as_array()
        .context("rejects")?
        .iter()
        .filter_map(|row| row["line"].as_u64())
        .collect();
    assert_eq!(lines, [9]);
    let rejects = std::fs::read_to_string(rejects)?;
    assert!(rejects.contains("9\t") && rejects.contains("fields"));
    agent.start().await?;
    let (_, again) = summary(&mut import(&agent, &sample, "police-calls.toml")?)?;
    assert_eq!(number(&again, "earlier"), 12);
    assert_eq!(number(&again, "stored") + number(&again, "doubled"), 0);
    let (_, anew) = summary(import(&agent, &sample, "police-calls.toml")?.arg("--again"))?;
    assert_eq!(number(&anew, "earlier") + number(&anew, "stored"), 0);
    assert_eq!(number(&anew, "doubled"), 8);
    agent.drained().await?;
    assert_eq!(hub.stored().await?.len(), 7);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_in_one_encoding_and_broken_lines_are_told_apart() -> Result<()> {
    let directory = tempdir()?;
    let (hub, mut agent) = station(directory.path()).await?;
    agent.start().await?;
    // JSON Lines, 邻里 in UTF-8.
    let lines = directory.path().join("export.jsonl");
    let mut bytes = Vec::new();
    bytes.extend_from_slice(
        "{\"jqbh\":\"A1\",\"category\":\"邻里\",\"address_key\":\"k1\",\"reported_at\":\"2026-03-01 08:00:00\",\"caller\":\"not taken\"}\n"
            .as_bytes(),
    );
    bytes.extend_from_slice(b"{broken\n\n");
    std::fs::write(&lines, bytes)?;
    let (code, first) = summary(&mut import(&agent, &lines, "police-incident.toml")?)?;
    assert_eq!(code, 65);
    assert_eq!((number(&first, "rows"), number(&first, "stored")), (2, 1));
    assert_eq!(first["rejects"][0]["line"], 2);
    // The same in GB18030, and an address whose two bytes are a letter of UTF-8 as well: 模.
    let category = b"\xc1\xda\xc0\xef";
    let address = b"\xc4\xa3";
    let lines = directory.path().join("gb.jsonl");
    let line = [
        b"{\"jqbh\":\"A2\",\"category\":\"".as_slice(),
        category,
        b"\",\"address_key\":\"",
        address,
        b"\",\"reported_at\":\"2026-03-02 08:00:00\"}\n{\"jqbh\":\"A3\",\"category\":\"x\",\"address_key\":\"",
        address,
        b"\"}\n",
    ];
    std::fs::write(&lines, line.concat())?;
    let (_, second) = summary(&mut import(&agent, &lines, "police-incident.toml")?)?;
    assert_eq!((number(&second, "rows"), number(&second, "stored")), (2, 1));
    let table = directory.path().join("gb.csv");
    let rows = [
        b"jqbh,category,address_key,reported_at\nA4,".as_slice(),
        category,
        b",",
        address,
        b",2026-03-03 08:00:00\n",
    ];
    std::fs::write(&table, rows.concat())?;
    let (_, third) = summary(&mut import(&agent, &table, "police-incident.toml")?)?;
    assert_eq!((number(&third, "rows"), number(&third, "stored")), (1, 1));
    assert_eq!(number(&third, "implausible_times"), 0);
    // A zone that is not the file's shifts times, some of them into the future: that is said.
    let ahead = directory.path().join("ahead.csv");
    std::fs::write(
        &ahead,
        "jqbh,category,address_key,reported_at\nB1,邻里,M9,2199-03-03 08:00:00\n",
    )?;
    let (_, fourth) = summary(&mut import(&agent, &ahead, "police-incident.toml")?)?;
    assert_eq!(
        (
            number(&fourth, "stored"),
            number(&fourth, "implausible_times")
        ),
        (1, 1)
    );
    agent.drained().await?;
    let stored = hub.stored().await?;
    let addresses: Vec<&str> = stored
        .iter()
        .map(|event| event.event.place.address.as_str())
        .collect();
    assert_eq!(addresses, ["k1", "模", "模", "M9"]);
    for event in &stored {
        assert_eq!(event.event.attributes["nature"], "邻里");
        assert!(
            !format!("{event:?}").contains("not taken"),
            "an undeclared field was kept"
        );
    }
    // 08:00 in a file without a zone is Beijing time.
    assert_eq!(stored[0].event.occurred_at_ms, 1_772_323_200_000);
    Ok(())
}

/// Rows of calls from `first` on, each at a place of its own.
fn calls(first: usize, count: usize) -> String {
    (first..first + count)
        .map(|call| format!("{call},2018-03-01 08:00:00,P-{call},0,0,1,NOISE NUISANCE,Advised\n"))
        .collect()
}

const CALLS_HEADER: &str = "call_id,time_local,place,lat,lon,station,nature,status\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_that_is_not_closed_is_named_and_the_mended_file_goes_on_there() -> Result<()> {
    let directory = tempdir()?;
    let (hub, agent) = station(directory.path()).await?;
    let open = "\"90001,2018-03-01 08:00:00,P-1,0,0,1,NOISE NUISANCE,Advised\n";
    let last = "90001,2018-03-01 08:00:00,P-1,0,0,1,NOISE NUISANCE,\"Advised\n";
    let file = directory.path().join("calls.csv");
    // Before few rows, before more than a row may have, and in the last field of the last row.
    for (index, (row, after)) in [(open, 5), (open, 30_000), (last, 0)].iter().enumerate() {
        let before = calls(1 + index * 1000, 700);
        let after = calls(100_000 * (index + 1), *after);
        std::fs::write(&file, format!("{CALLS_HEADER}{before}{row}{after}"))?;
        let output = import(&agent, &file, "police-calls.toml")?.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(65), "{said}");
        assert!(
            said.contains("line 702") && said.contains("quote"),
            "{said}"
        );
        let counts: Value = serde_json::from_slice(&output.stdout)?;
        assert_eq!(
            (number(&counts, "rows"), number(&counts, "stored")),
            (700, 700)
        );
        std::fs::write(&file, format!("{CALLS_HEADER}{before}{after}"))?;
        let (code, mended) = summary(&mut import(&agent, &file, "police-calls.toml")?)?;
        assert_eq!((code, number(&mended, "earlier")), (0, 700));
        assert_eq!(number(&mended, "rejected"), 0);
    }
    drop(hub);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_import_larger_than_the_memory_of_ids_stores_every_row_once() -> Result<()> {
    const ROWS: usize = 150_000;
    let directory = tempdir()?;
    let (hub, mut agent) = station(directory.path()).await?;
    agent.start().await?;
    let file = directory.path().join("calls.csv");
    std::fs::write(&file, format!("{CALLS_HEADER}{}", calls(1, ROWS)))?;
    let running = Process::start(
        "import",
        &mut import(&agent, &file, "police-calls.toml")?,
        &directory.path().join("import.log"),
    )?;
    // More than the 100,000 ids that the lane remembers, less than all.
    until("most rows to be stored", async || {
        let status = agent.status()?;
        Ok((status["lanes"][0]["next"].as_u64() > Some(110_000)).then_some(()))
    })
    .await?;
    running.kill()?;
    let (code, second) = summary(&mut import(&agent, &file, "police-calls.toml")?)?;
    println!("{second}");
    assert_eq!((code, number(&second, "rows")), (0, ROWS as u64));
    assert!(number(&second, "earlier") > 100_000);
    assert!(
        number(&second, "doubled") <= 512,
        "at most a group is sent twice"
    );
    let (_, third) = summary(&mut import(&agent, &file, "police-calls.toml")?)?;
    assert_eq!(number(&third, "earlier"), ROWS as u64);
    assert_eq!(number(&third, "stored"), 0);
    agent.drained().await?;
    let stored = hub.stored().await?;
    let ids: HashSet<&str> = stored
        .iter()
        .map(|stored| stored.event.source_id.as_str())
        .collect();
    assert_eq!((stored.len(), ids.len()), (ROWS, ROWS));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_than_the_owner_of_the_data_directory_is_refused() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let directory = tempdir()?;
    let (hub, agent) = station(directory.path()).await?;
    std::os::unix::fs::chown(agent.data(), Some(4321), None)?;
    let before: Vec<_> = std::fs::read_dir(agent.data())?.flatten().collect();
    let sample = project("tests/data/police-calls.csv");
    let mut join = agent.command()?;
    let token = directory.path().join("token");
    std::fs::write(&token, hub.join_token("pcs-1")?)?;
    join.args(["join", &format!("127.0.0.1:{}", hub.port), "--force"])
        .args(["--agent", "station-1", "--token-file"])
        .arg(&token);
    for command in [
        &mut import(&agent, &sample, "police-calls.toml")?,
        &mut join,
    ] {
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(74), "{said}");
        assert!(
            said.contains("belongs to user 4321") && said.contains("runuser"),
            "{said}"
        );
    }
    let after: Vec<_> = std::fs::read_dir(agent.data())?.flatten().collect();
    assert_eq!(after.len(), before.len(), "something was made in it");
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
        import(&agent, &calls, "police-calls.toml")?.arg("--no-history"),
        &log,
    )?;
    until("some rows to be stored", async || {
        let status = agent.status()?;
        Ok((status["lanes"][0]["next"].as_u64() > Some(0)).then_some(()))
    })
    .await?;
    running.kill()?;
    let (code, summary) =
        summary(import(&agent, &calls, "police-calls.toml")?.arg("--no-history"))?;
    println!("{summary}");
    assert_eq!(code, 0);
    assert_eq!(number(&summary, "rows"), 23_909);
    assert_eq!(number(&summary, "rejected"), 0);
    let answered = ["earlier", "stored", "doubled", "filtered"];
    assert_eq!(
        answered
            .map(|field| number(&summary, field))
            .iter()
            .sum::<u64>(),
        23_909
    );
    assert!(
        number(&summary, "earlier") + number(&summary, "doubled") > 0,
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

#[tokio::test(flavor = "multi_thread")]
async fn imported_history_raises_nothing_whatever_the_order_of_its_files() -> Result<()> {
    let directory = tempdir()?;
    let mut outcomes = Vec::new();
    for (round, order) in [[1, 0], [0, 1]].into_iter().enumerate() {
        let directory = directory.path().join(round.to_string());
        let (mut hub, mut agent) = station(&directory).await?;
        agent.start().await?;
        for half in order {
            // Quarrels at one place again and again, years ago.
            let file = directory.join(format!("{half}.csv"));
            let rows: String = (0..20)
                .map(|row| {
                    format!(
                        "{half}-{row},P-1,邻里,2,2018-05-{:02} 0{half}:00:00\n",
                        row + 1
                    )
                })
                .collect();
            std::fs::write(
                &file,
                format!("jqbh,address_key,category,level,reported_at\n{rows}"),
            )?;
            let mut shown = import(&agent, &file, "police-incident.toml")?;
            let preview: Value = serde_json::from_str(&run(shown.arg("--dry-run"))?)?;
            assert_eq!(
                (number(&preview, "history"), &preview["news"]),
                (20, &json!({}))
            );
            let (code, done) = summary(&mut import(&agent, &file, "police-incident.toml")?)?;
            assert_eq!(
                (code, number(&done, "history"), number(&done, "stored")),
                (0, 20, 20)
            );
        }
        agent.drained().await?;
        assert_eq!(
            hub.stored()
                .await?
                .iter()
                .filter(|stored| stored.event.kind == "dispute.reported")
                .count(),
            40
        );
        let (_, warnings) = hub.api("/api/v1/warnings").await?;
        let (_, cases) = hub.api("/api/v1/cases").await?;
        outcomes.push((warnings["items"].clone(), cases["items"].clone()));
    }
    assert_eq!(outcomes, [(json!([]), json!([])), (json!([]), json!([]))]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_taken_however_it_was_exported_or_named_for_what_it_is() -> Result<()> {
    let directory = tempdir()?;
    let (hub, mut agent) = station(directory.path()).await?;
    agent.start().await?;
    let header = "jqbh,address_key,station,category,level,reported_at";
    let row = |id: &str| format!("{id},A1,东山所,邻里,2,2026-11-30 01:00:00\r\n");
    let utf16 = |text: &str| -> Vec<u8> {
        let units = text.encode_utf16().flat_map(u16::to_le_bytes);
        [0xff, 0xfe].into_iter().chain(units).collect()
    };
    let semicolons = |text: String| text.replace(',', ";").into_bytes();
    let tabs = format!("{header}\r\n{}", row("T1")).replace(',', "\t");
    for (name, bytes) in [
        (
            "semicolon.csv",
            semicolons(format!("\u{feff}{header}\r\n{}", row("S1"))),
        ),
        (
            "sep.csv",
            format!("\u{feff}sep=,\r\n{header}\r\n{}", row("P1")).into_bytes(),
        ),
        (
            "title.csv",
            format!("警情导出表,,,,,\r\n{header}\r\n{}", row("H1")).into_bytes(),
        ),
        ("utf16.csv", utf16(&tabs)),
    ] {
        let file = directory.path().join(name);
        std::fs::write(&file, bytes)?;
        let (code, done) = summary(&mut import(&agent, &file, "police-incident.toml")?)?;
        assert_eq!(
            (code, number(&done, "rows"), number(&done, "stored")),
            (0, 1, 1),
            "{name}: {done}"
        );
    }
    // One id for five incidents, as Excel writes long ones.
    let same = directory.path().join("ids.csv");
    let rows: String = (1..=5)
        .map(|hour| format!("3.1E+19,A{hour},东山所,邻里,2,2026-11-30 0{hour}:00:00\r\n"))
        .collect();
    std::fs::write(&same, format!("{header}\r\n{rows}"))?;
    let (code, done) = summary(&mut import(&agent, &same, "police-incident.toml")?)?;
    assert_eq!(
        (code, number(&done, "stored"), number(&done, "conflicts")),
        (65, 5, 4),
        "{done}"
    );
    for (name, text, named) in [
        ("page.csv", "<html><table>".to_owned(), "HTML"),
        (
            "list.json",
            "[{\"jqbh\":\"J1\"}]\n".to_owned(),
            "JSON array",
        ),
        ("other.csv", "a,b\r\n1,2\r\n".to_owned(), "has no column"),
        ("empty.csv", format!("{header}\r\n"), "no rows"),
    ] {
        let file = directory.path().join(name);
        std::fs::write(&file, text)?;
        let output = import(&agent, &file, "police-incident.toml")?.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(65), "{name}: {said}");
        assert!(said.contains(named), "{name}: {said}");
    }
    agent.drained().await?;
    let disputes = hub.stored().await?;
    let disputes = disputes
        .iter()
        .filter(|stored| stored.event.kind == "dispute.reported");
    assert_eq!(disputes.count(), 9);
    Ok(())
}
