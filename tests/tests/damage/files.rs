//! Rows of files that are imported.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{Equipped, project};
use serde_json::Value;

use super::cases::{Case, Cases, Made};

/// The cases that are one row.
fn rows(cases: Vec<Case>) -> Vec<Case> {
    let rows = cases.into_iter();
    rows.filter(|case| !case.bytes.contains(&b'\n')).collect()
}

/// Imports the damaged rows with a whole one behind each; the summary.
fn import(
    scene: &Equipped,
    name: &str,
    head: &str,
    cases: &[Case],
    row: impl Fn(u32) -> String,
) -> Result<Value> {
    let mut bytes = head.as_bytes().to_vec();
    for (good, case) in (50_000..).zip(cases) {
        bytes.extend(&case.bytes);
        bytes.extend(format!("\n{}\n", row(good)).as_bytes());
    }
    let file = scene.agent.data().join(name);
    std::fs::write(&file, bytes)?;
    let output = scene
        .agent
        .command()?
        .arg("import")
        .arg(&file)
        .arg("--mapping")
        .arg(project("configs/mappings/police-incident.toml"))
        .arg("--json")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .with_context(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Every row is accounted for, the whole ones and those with a whole head are events.
fn check(summary: &Value, cases: &[Case]) -> Result<()> {
    let of = |name: &str| summary[name].as_u64().unwrap_or(0);
    let outcomes = of("stored") + of("doubled") + of("filtered") + of("rejected");
    ensure!(of("rows") == outcomes, "{summary:#}");
    ensure!(of("rows") >= 2 * cases.len() as u64, "{summary:#}");
    let whole = cases.iter().filter(|case| case.is_whole).count();
    ensure!(
        of("stored") >= (whole + cases.len()) as u64,
        "{whole} whole: {summary:#}"
    );
    ensure!(of("filtered") == 0 && of("rejected") > 0, "{summary:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_json_lines_and_of_csv() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let scene = Equipped::start(directory.path(), "", &[]).await?;
    let time = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S");
    let line = |number: u32| {
        format!(
            "{{\"jqbh\":\"{number}\",\"category\":\"家庭暴力\",\"level\":\"1\",\"reported_at\":\"{time}\"}}"
        )
    };
    let cases = Cases {
        step: 1,
        first: 20_000,
    }
    .of(|number| {
        let id = format!("\"jqbh\":\"{number}\"");
        Made::new(line(number), &["{", &id, "\"category\":\"家庭暴力\""])
    });
    let cases = rows(cases);
    check(&import(&scene, "rows.jsonl", "", &cases, line)?, &cases)?;
    // A damaged comma is a row with another number of fields, so only the row as a whole says what it is.
    let row = |number: u32| format!("{number},劳资,2,{time}");
    let cases = Cases {
        step: 1,
        first: 40_000,
    }
    .of(|number| {
        let row = row(number);
        Made::new(row.clone(), &[&row])
    });
    let cases = rows(cases);
    let head = "jqbh,category,level,reported_at\n";
    check(
        &import(&scene, "rows.csv", head, &cases, |number| {
            row(number + 10_000)
        })?,
        &cases,
    )
}
