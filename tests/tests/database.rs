//! The database as a whole: copied to the other engine and back, backed up, restored, and made smaller by time.
//!
//! Where the run is on PostgreSQL, hubs begin on the server, are copied into a file and back; else all are files.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{
    DAY_MS, Hub, ago, assert_stored_once, connect, door_event, faketime, has_no_file, metric,
    now_ms, outcome, project, run, running, server_database, sqlite_url, until,
};
use serde_json::Value;
use sqlx::{Connection as _, Row as _};
use std::collections::HashSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::tempdir;

const FORCED: &str = "[[rule]]\nid = \"forced\"\nname = \"强行开门\"\nkind = \"match\"\nlevel = \"place\"\n\
    key = [\"site\", \"building\"]\non = [{ type = \"door.forced\" }]\nseverity = \"alarm\"\nfold = \"0s\"\n";

/// A rule that opens cases, and one that does not.
fn rules() -> String {
    let opens = format!("{FORCED}then = {{ case = \"doors\" }}\n");
    format!(
        "{opens}{}",
        opens
            .replace("forced", "fire")
            .replace("door.fire", "fire.alarm")
            .replace("then = { case = \"doors\" }\n", "")
    )
}

/// `linli-hub` with the database of a file, and nothing else.
fn with_file(directory: &Path, file: &Path) -> Result<(PathBuf, Command)> {
    let data = file.parent().context("a directory")?;
    let config = directory.join(format!(
        "{}.toml",
        data.file_name().unwrap_or_default().display()
    ));
    std::fs::write(&config, format!("data_dir = {data:?}\n"))?;
    let mut command = Command::new(linli_tests::harness::binary("linli-hub")?);
    command.arg("--config").arg(&config);
    Ok((config, command))
}

fn add_user(hub: &Hub, login: &str) -> Result<()> {
    let mut child = hub
        .command()?
        .args(["user", "add", login, "--role", "operator"])
        .stdin(Stdio::piped())
        .spawn()?;
    writeln!(
        child.stdin.take().context("its input")?,
        "correct horse battery"
    )?;
    ensure!(child.wait()?.success());
    Ok(())
}

fn serials(events: &[Value]) -> Vec<String> {
    events
        .iter()
        .filter_map(|event| Some(event["serial"].as_str()?.to_owned()))
        .collect()
}

async fn execute(url: &str, statement: &'static str) -> Result<()> {
    let mut connection = connect(url).await?;
    sqlx::query(statement).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

async fn count(url: &str, statement: &'static str) -> Result<i64> {
    let mut connection = connect(url).await?;
    let row = sqlx::query(statement).fetch_one(&mut connection).await?;
    Ok(row.get(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_moves_to_the_other_engine_and_back_and_goes_on_where_it_was() -> Result<()> {
    let directory = tempdir()?;
    let (mut hub, agent) = running(directory.path(), Some(&rules())).await?;
    run(hub
        .command()?
        .args(["org", "load"])
        .arg(project("configs/district.toml")))?;
    add_user(&hub, "wang")?;
    let mut sent = HashSet::new();
    let first: Vec<Value> = (0..40)
        .map(|number| {
            door_event(
                if number % 4 == 0 { "forced" } else { "open" },
                &format!("B{number}"),
                "d",
                now_ms(),
            )
        })
        .collect();
    sent.extend(serials(&first));
    agent.deliver(&first).await?;
    hub.raised("forced", "yuyuan|B0").await?;
    let last = hub.warnings("rule=forced").await?.len();
    hub.stop()?;

    let one = directory.path().join("one");
    std::fs::create_dir(&one)?;
    let one = one.join("hub.db");
    let copied = run(hub.command()?.args(["db", "copy", "--to"]).arg(&one))?;
    println!("{copied}");
    let same = run(hub.command()?.args(["db", "compare", "--to"]).arg(&one))?;
    ensure!(same.contains("they are the same"), "{same}");
    let (code, refused) = outcome(hub.command()?.args(["db", "copy", "--to"]).arg(&one))?;
    ensure!(
        code == 65 && refused.contains("not empty"),
        "{code} {refused}"
    );
    let (code, refused) = outcome(
        hub.command()?
            .args(["db", "copy", "--resume", "--to"])
            .arg(&one),
    )?;
    ensure!(
        code == 65 && refused.contains("nothing to resume"),
        "{code} {refused}"
    );

    let server = server_database()?;
    let two = directory.path().join("two.db");
    let to = server.clone().unwrap_or_else(|| two.display().to_string());
    let (_, mut of_one) = with_file(directory.path(), &one)?;
    println!("{}", run(of_one.args(["db", "copy", "--to", &to]))?);
    // The two copies noted themselves; nothing else is other than it was.
    let (code, differs) = outcome(hub.command()?.args(["db", "compare", "--to", &to]))?;
    ensure!(
        code == 65 && differs.contains("differ: audit ("),
        "{code} {differs}"
    );
    ensure!(
        !differs.contains(", chunks") && !differs.contains("warnings"),
        "{differs}"
    );

    // The hub on the copy: the agent goes on with it, numbers and warnings go on, the chain is whole.
    if server.is_none() {
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", hub.database().display()));
        }
        std::fs::rename(&two, hub.database())?;
    }
    hub.use_database(server.as_deref())?;
    hub.start().await?;
    let more: Vec<Value> = (0..40)
        .map(|number| ago("forced", &format!("C{number}"), 0))
        .collect();
    sent.extend(serials(&more));
    agent.deliver(&more).await?;
    hub.raised("forced", "yuyuan|C39").await?;
    assert_stored_once(&hub, &sent).await?;
    let all = hub.warnings("rule=forced").await?;
    assert_eq!(all.len(), last + 40);
    let ids: HashSet<i64> = all
        .iter()
        .filter_map(|warning| warning["id"].as_i64())
        .collect();
    assert_eq!(ids.len(), all.len());
    let (status, cases) = hub.api("/api/v1/cases?limit=500").await?;
    assert_eq!(
        (status, cases["items"].as_array().map(Vec::len)),
        (200, Some(all.len()))
    );
    let verified = run(hub.command()?.args(["audit", "verify"]))?;
    ensure!(verified.contains("whole"), "{verified}");
    let users = run(hub.command()?.args(["user", "list"]))?;
    ensure!(users.contains("wang"), "{users}");
    hub.stop()?;
    // A changed row is found.
    let three = directory.path().join("three.db");
    run(hub.command()?.args(["db", "copy", "--to"]).arg(&three))?;
    let place = sqlite_url(&three);
    execute(&place, "UPDATE warnings SET name = '别的' WHERE id = 3").await?;
    let (code, differs) = outcome(hub.command()?.args(["db", "compare", "--to"]).arg(&three))?;
    ensure!(
        code == 65 && differs.contains("warnings (") && differs.contains("other content"),
        "{code} {differs}"
    );
    execute(&place, "DELETE FROM case_actions WHERE case_id = 1").await?;
    let (code, differs) = outcome(hub.command()?.args(["db", "compare", "--to"]).arg(&three))?;
    ensure!(
        code == 65 && differs.contains("case_actions (") && differs.contains("rows)"),
        "{code} {differs}"
    );
    Ok(())
}

/// Rows enough that a copy takes some seconds.
const MANY: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) \
    INSERT INTO occurrences (rule, rule_key, at_ms, agent, lane, epoch, sequence, site, steps) \
    SELECT 'r', '楼' || (i % 1000), i, 'gw-1', 1, 7, i, 'yuyuan', 1 FROM n";

/// Kills a copy in the middle, changes the source, and goes on.
async fn killed_and_resumed(
    command: impl Fn() -> Result<Command>,
    source: &str,
    to: &str,
    target: &str,
) -> Result<()> {
    let mut copy = command()?
        .args(["db", "copy", "--to", to])
        .stdout(Stdio::null())
        .spawn()?;
    let middle = until("the copy to be in the middle", async || {
        let copied = "SELECT copied FROM copying WHERE name = 'occurrences' AND copied > 20000";
        let mut connection = connect(target).await?;
        let row = sqlx::query(copied).fetch_optional(&mut connection).await?;
        Ok(row.map(|row| row.get::<i64, _>(0)))
    })
    .await?;
    copy.kill()?;
    copy.wait()?;
    let there = count(target, "SELECT COUNT(*) FROM occurrences").await?;
    ensure!(there >= middle && there < 300_000, "{middle} {there}");
    let (code, refused) = outcome(command()?.args(["db", "copy", "--to", to]))?;
    ensure!(
        code == 65 && refused.contains("--resume"),
        "{code} {refused}"
    );
    // What was copied is another by now; a table that is in the middle goes on from there.
    execute(source, "UPDATE agents SET seen_ms = seen_ms + 1").await?;
    println!(
        "{}",
        run(command()?.args(["db", "copy", "--resume", "--to", to]))?
    );
    let same = run(command()?.args(["db", "compare", "--to", to]))?;
    ensure!(same.contains("they are the same"), "{same}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_killed_is_no_hubs_and_goes_on_to_the_same_end() -> Result<()> {
    let directory = tempdir()?;
    let (mut hub, agent) = running(directory.path(), Some(&rules())).await?;
    agent.deliver(&[ago("forced", "B1", 0)]).await?;
    hub.stop()?;
    execute(hub.database_url(), MANY).await?;
    let one = directory.path().join("one");
    std::fs::create_dir(&one)?;
    let file = one.join("hub.db");
    let to = file.display().to_string();
    let target = sqlite_url(&file);
    // A hub of the half copy would not start.
    let half = with_file(directory.path(), &file)?.0;
    let is_refused = async || {
        let mut serve = Command::new(linli_tests::harness::binary("linli-hub")?);
        let (code, said) = outcome(serve.arg("--config").arg(&half).args(["agents"]))?;
        ensure!(code == 74 && said.contains("was cut off"), "{code} {said}");
        anyhow::Ok(())
    };
    let mut copy = hub
        .command()?
        .args(["db", "copy", "--to", &to])
        .stdout(Stdio::null())
        .spawn()?;
    until("the copy to have begun", async || {
        Ok((count(&target, "SELECT COUNT(*) FROM copying").await? > 3).then_some(()))
    })
    .await?;
    copy.kill()?;
    copy.wait()?;
    is_refused().await?;
    std::fs::remove_dir_all(&one)?;
    std::fs::create_dir(&one)?;
    killed_and_resumed(|| hub.command(), hub.database_url(), &to, &target).await?;
    let Some(server) = server_database()? else {
        println!("skipped: the way back to a server, for the run has none");
        return Ok(());
    };
    let of_file = || Ok(with_file(directory.path(), &file)?.1);
    killed_and_resumed(of_file, &target, &server, &server).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_made_while_events_come_and_holds_all_that_was_acknowledged() -> Result<()> {
    if has_no_file() {
        return Ok(());
    }
    let directory = tempdir()?;
    let (mut hub, agent) = running(directory.path(), Some(&rules())).await?;
    let mut before = HashSet::new();
    let file = directory.path().join("backup.db");
    for round in 0..6 {
        let events: Vec<Value> = (0..500)
            .map(|number| ago("open", &format!("{round}-{number}"), 0))
            .collect();
        before.extend(serials(&events));
        agent.deliver(&events).await?;
    }
    let path = file.display().to_string();
    let mut backup = hub.command()?.args(["db", "backup", &path]).spawn()?;
    let mut rounds = 0;
    while backup.try_wait()?.is_none() || rounds < 5 {
        let events: Vec<Value> = (0..100)
            .map(|number| ago("open", &format!("later-{rounds}-{number}"), 0))
            .collect();
        agent.deliver(&events).await?;
        rounds += 1;
    }
    ensure!(backup.wait()?.success());
    let (code, refused) = outcome(hub.command()?.args(["db", "backup", &path]))?;
    ensure!(
        code == 74 && refused.contains("overwrites nothing"),
        "{code} {refused}"
    );
    let checked = run(hub.command()?.args(["db", "check", &path]))?;
    ensure!(
        checked.contains("good") && checked.contains("chunks: "),
        "{checked}"
    );
    let (code, refused) = outcome(hub.command()?.args(["db", "restore", &path]))?;
    ensure!(
        code == 74 && refused.contains("a hub runs"),
        "{code} {refused}"
    );
    hub.stop()?;
    let (code, refused) = outcome(hub.command()?.args(["db", "restore", &path]))?;
    ensure!(
        code == 74 && refused.contains("nothing is overwritten"),
        "{code} {refused}"
    );
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", hub.database().display()));
    }
    let restored = run(hub.command()?.args(["db", "restore", &path]))?;
    ensure!(restored.contains("fields.key"), "{restored}");
    hub.start().await?;
    let new = vec![ago("forced", "new", 0)];
    before.extend(serials(&new));
    agent.deliver(&new).await?;
    assert_stored_once(&hub, &before).await?;
    // What was acknowledged after the backup is gone with the old database, and that is said.
    let lost = count(
        hub.database_url(),
        "SELECT COALESCE(CAST(SUM(end_seq - first_seq) AS BIGINT), 0) FROM lost_ranges",
    )
    .await?;
    let stored = hub.stored().await?.len();
    println!("{stored} stored, {lost} reported as lost, {rounds} rounds after the backup began");
    assert_eq!(
        stored as i64 + lost,
        before.len() as i64 + i64::from(rounds) * 100
    );
    hub.stop()?;

    // What was changed in a backup is found.
    for (statement, found) in [
        ("UPDATE audit SET actor = 'x' WHERE number = 1", "audit log"),
        (
            "UPDATE chunks SET first_seq = first_seq + 100000 WHERE id = 2",
            "chunk 2",
        ),
    ] {
        let bad = directory.path().join("bad.db");
        std::fs::copy(&file, &bad)?;
        execute(&sqlite_url(&bad), statement).await?;
        let (code, said) = outcome(hub.command()?.args(["db", "check"]).arg(&bad))?;
        ensure!(code == 65 && said.contains(found), "{code} {said}");
    }
    let bad = directory.path().join("bad.db");
    let bytes = std::fs::read(&file)?;
    std::fs::write(&bad, &bytes[..bytes.len() / 2])?;
    let (code, said) = outcome(hub.command()?.args(["db", "check"]).arg(&bad))?;
    ensure!(code != 0, "{said}");
    Ok(())
}

/// Rows that would go, or went, by class.
fn by_class(lines: &str) -> Result<Vec<(String, i64)>> {
    let mut classes = Vec::new();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line)?;
        let rows = line["rows"].as_i64().context("rows")?;
        if rows > 0 {
            classes.push((line["class"].as_str().context("a class")?.to_owned(), rows));
        }
    }
    Ok(classes)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_enough_goes_with_a_proof_and_nothing_else_does() -> Result<()> {
    let directory = tempdir()?;
    let (mut hub, agent) = running(directory.path(), Some(&rules())).await?;
    let at = |days: i64| vec![format!("FAKETIME=+{}s", days * DAY_MS / 1000)];
    agent.deliver(&[ago("open", "free", 0)]).await?;
    agent.deliver(&[ago("fire", "B1", 0)]).await?;
    agent.deliver(&[ago("forced", "held", 0)]).await?;
    hub.raised("forced", "yuyuan|held").await?;
    hub.raised("fire", "yuyuan|B1").await?;
    hub.stop()?;
    // A copy of the events as they are, to know what is which.
    let kinds = |kind: &str, stored: &[linli_tests::harness::StoredEvent]| {
        stored
            .iter()
            .filter(|stored| stored.event.kind == kind)
            .count()
    };
    let stored = hub.stored().await?;
    assert_eq!(
        (kinds("door.opened", &stored), kinds("door.forced", &stored)),
        (1, 1)
    );

    // Nothing is due yet.
    let none = run(hub.command()?.args(["retention", "run", "--json"]))?;
    assert_eq!(by_class(&none)?, []);
    hub.wrapper = faketime(&at(61))?;
    let would = run(hub
        .command()?
        .args(["retention", "run", "--dry-run", "--json"]))?;
    let stored = hub.stored().await?;
    assert_eq!(kinds("door.opened", &stored), 1);
    let gone = run(hub.command()?.args(["retention", "run", "--json"]))?;
    assert_eq!(by_class(&would)?, by_class(&gone)?);
    println!("{gone}");
    // The use of a door goes after 60 days, also that of the alarm without a case; what an open case refers to stays.
    let stored = hub.stored().await?;
    assert_eq!(
        (kinds("door.opened", &stored), kinds("door.forced", &stored)),
        (0, 1)
    );
    assert_eq!(
        count(hub.database_url(), "SELECT COUNT(*) FROM warnings").await?,
        2
    );
    let again = run(hub.command()?.args(["retention", "run", "--json"]))?;
    assert_eq!(by_class(&again)?, []);
    let proofs = run(hub.command()?.args(["retention", "list", "--json"]))?;
    let proof: Value = serde_json::from_str(proofs.lines().last().context("a proof")?)?;
    ensure!(
        proof["class"] == "events_access" && proof["rule"] == "[retention] events_access = 60 days",
        "{proofs}"
    );
    let log = run(hub
        .command()?
        .args(["audit", "list", "--json", "--object", "deletions/1"]))?;
    let entry: Value = serde_json::from_str(log.trim())?;
    ensure!(
        entry["action"] == "retention.deleted"
            && entry["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains(proof["ids_sha256"].as_str().unwrap_or("?"))),
        "{entry} {proof}"
    );

    // The job by itself, after the hub was off for years.
    hub.wrapper = faketime(&at(1000))?;
    hub.start().await?;
    // Nothing is deleted for a clock that has jumped, until somebody says that it is right.
    let text = hub.metrics().await?;
    let doubtful = "linli_hub_clock_doubtful{reason=\"stepped\"}";
    ensure!(metric(&text, doubtful) == Some(1.0), "{text}");
    hub.trust_clock()?;
    let name = "linli_hub_retention_deleted_rows_total{class=\"warnings\"}";
    until("the job to have run", async || {
        let ran = metric(&hub.metrics().await?, name);
        Ok((ran >= Some(1.0)).then_some(()))
    })
    .await?;
    until("the figures of the run", async || {
        let text = hub.metrics().await?;
        let ran = metric(&text, "linli_hub_retention_last_run_timestamp_seconds");
        Ok((ran > Some((now_ms() + 900 * DAY_MS) as f64 / 1000.0)).then_some(()))
    })
    .await?;
    let kept = "SELECT COUNT(*) FROM warnings JOIN case_warnings ON case_warnings.warning_id = warnings.id JOIN warning_changes c \
        ON c.warning_id = warnings.id WHERE warnings.rule = 'forced'";
    ensure!(count(hub.database_url(), kept).await? > 0);
    assert_eq!(
        count(hub.database_url(), "SELECT COUNT(*) FROM warnings").await?,
        1
    );
    assert_eq!(kinds("door.forced", &hub.stored().await?), 1);
    let verified = run(hub.command()?.args(["audit", "verify"]))?;
    ensure!(verified.contains("whole"), "{verified}");
    hub.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_keeps_less_than_the_rules_need_does_not_start() -> Result<()> {
    let directory = tempdir()?;
    let hub = Hub::new(&directory.path().join("hub"))?;
    hub.configure("[retention]\nevents_access = 3")?;
    for words in [vec!["validate"], vec!["serve"], vec!["retention", "run"]] {
        let (code, said) = outcome(hub.command()?.args(&words))?;
        ensure!(
            code == 78 && said.contains("events_access = 3") && said.contains("at least"),
            "{words:?} {code} {said}"
        );
    }
    let config = std::fs::read_to_string(hub.config())?;
    std::fs::write(
        hub.config(),
        config.replace("events_access = 3", "events_access = 0"),
    )?;
    let (code, said) = outcome(hub.command()?.arg("validate"))?;
    ensure!(
        code == 78 && said.contains("retention.events_access"),
        "{code} {said}"
    );
    Ok(())
}
