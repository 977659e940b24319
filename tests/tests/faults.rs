//! Kills, full disks, damage, clocks, crowds: nothing that was acknowledged is lost or doubled.
use anyhow::{Context, Result};
use linli_tests::harness::{
    Agent, AgentSetup, Hub, Random, SmallDisk, assert_stored_once, faketime, is_root, metric,
    quarantined_ids, run, until,
};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::tempdir;

fn door(serial: &str, kind: &str) -> Value {
    json!({ "serial": serial, "device": "door-1", "building": "3号楼", "type": kind, "time": jiff::Timestamp::now().to_string() })
}

/// An agent that has joined, with its data on a small disk of which this much stays free.
fn on_disk(disk: &SmallDisk, hub: &Hub, free_min: &str) -> Result<Agent> {
    let hub_address = format!("127.0.0.1:{}", hub.port);
    let agent = Agent::new(&AgentSetup {
        directory: &disk.path().join("a"),
        name: "gw-1",
        site: "yuyuan",
        hub_address: hub_address.clone(),
        listen: "127.0.0.1",
        more: &format!("[spool]\nfree_min = \"{free_min}\"\ngeneration = \"1MiB\"\n"),
    })?;
    agent.join(hub, &hub_address, "yuyuan")?;
    Ok(agent)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_kills_of_either_side_lose_and_double_nothing() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut agent = Agent::joined(&directory.path().join("a"), &hub, "gw-1", "yuyuan")?;
    agent.start().await?;
    let seed = 20_261_123;
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut acknowledged = HashSet::new();
    let mut number = 0;
    for round in 0..100 {
        // The kill comes at a random moment of a stream of pushes.
        let kill_at = tokio::time::Instant::now() + Duration::from_millis(random.below(120));
        while tokio::time::Instant::now() < kill_at {
            let batch: Vec<Value> = (0..1 + random.below(40))
                .map(|_| {
                    number += 1;
                    door(
                        &number.to_string(),
                        if number % 5 == 0 { "forced" } else { "open" },
                    )
                })
                .collect();
            if agent
                .push(&batch)
                .await
                .is_ok_and(|answer| answer.status == 200)
            {
                for event in &batch {
                    acknowledged.insert(event["serial"].as_str().context("serial")?.to_owned());
                }
            }
        }
        if round % 2 == 0 {
            agent.kill()?;
            agent.start().await?;
        } else {
            hub.kill()?;
            hub.start().await?;
        }
    }
    agent.drained().await?;
    println!("{} events acknowledged over 100 kills", acknowledged.len());
    assert!(
        acknowledged.len() > 1000,
        "too little was sent to prove anything"
    );
    assert_stored_once(&hub, &acknowledged).await?;
    let quarantined = metric(&hub.metrics().await?, "linli_hub_events_quarantined_total");
    assert_eq!(quarantined, Some(0.0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_with_a_full_routine_lane_lose_and_double_no_alarm() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let directory = tempdir()?;
    let disk = SmallDisk::new(160)?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut agent = on_disk(&disk, &hub, "48MiB")?;
    agent.start().await?;
    // Between free_min and half of it: routine events are refused, and alarms are taken.
    let ballast = disk.filled(44 << 20)?;
    let seed = 20_261_201;
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut acknowledged = HashSet::new();
    let mut refused = Vec::new();
    let mut number = 0;
    let mut next = |kind| {
        number += 1;
        door(&number.to_string(), kind)
    };
    for round in 0..60 {
        let routine = agent.push(&[next("open")]).await?;
        assert_eq!(routine.status, 503, "the routine lane is not full");
        let kill_at = tokio::time::Instant::now() + Duration::from_millis(random.below(120));
        while tokio::time::Instant::now() < kill_at {
            let alarms: Vec<Value> = (0..=random.below(8)).map(|_| next("forced")).collect();
            // Alone; and beside a routine event, for which the source is told to come again with all of them.
            let mixed = random.below(2) == 0;
            let opened = mixed.then(|| next("open"));
            let batch: Vec<Value> = alarms.iter().cloned().chain(opened).collect();
            let Ok(answer) = agent.push(&batch).await else {
                continue;
            };
            assert_eq!(answer.status, if mixed { 503 } else { 200 }, "{answer:?}");
            if mixed {
                refused.push(batch);
            } else {
                for event in &alarms {
                    acknowledged.insert(event["serial"].as_str().context("serial")?.to_owned());
                }
            }
            if random.below(4) == 0
                && let Some(again) = refused.last()
            {
                // What the urgent lane has is not stored again, whatever the other says.
                let _ = agent.push(again).await;
            }
        }
        if round % 3 < 2 {
            agent.kill()?;
            agent.start().await?;
        } else {
            hub.kill()?;
            hub.start().await?;
        }
    }
    // There is room again, and the sources come with what was refused.
    drop(ballast);
    for batch in &refused {
        until("the routine lane to take events", async || {
            Ok((agent.push(batch).await?.status == 200).then_some(()))
        })
        .await?;
        for event in batch {
            acknowledged.insert(event["serial"].as_str().context("serial")?.to_owned());
        }
    }
    agent.drained().await?;
    println!(
        "{} events, {} pushes refused in part",
        acknowledged.len(),
        refused.len()
    );
    assert!(acknowledged.len() > 500 && refused.len() > 20);
    assert_stored_once(&hub, &acknowledged).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_agents_that_reconnect_at_once_are_all_taken_in_and_lose_nothing() -> Result<()>
{
    const AGENTS: usize = 200;
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    // Two hundred identities with a spool each; the connections are the agent's own code, a process each
    // would only measure fork.
    let mut agents = Vec::new();
    for number in 0..AGENTS {
        let path = directory.path().join(format!("a{number}"));
        agents.push(Agent::joined(
            &path,
            &hub,
            &format!("gw-{number}"),
            "yuyuan",
        )?);
    }
    hub.stop()?;
    for agent in &mut agents {
        agent.spawn()?;
    }
    let mut acknowledged = HashSet::new();
    for (number, agent) in agents.iter_mut().enumerate() {
        agent.ready().await?;
        let serial = format!("e{number}");
        assert_eq!(agent.push(&[door(&serial, "forced")]).await?.status, 200);
        acknowledged.insert(serial);
    }
    hub.start().await?;
    let started = std::time::Instant::now();
    until("all agents to be connected", async || {
        let connected = metric(&hub.metrics().await?, "linli_hub_agents_connected");
        Ok((connected == Some(AGENTS as f64)).then_some(()))
    })
    .await?;
    println!(
        "{AGENTS} agents were taken in after {:?}",
        started.elapsed()
    );
    until("all events to be stored", async || {
        Ok((hub.stored().await?.len() == AGENTS).then_some(()))
    })
    .await?;
    assert_stored_once(&hub, &acknowledged).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_new_events_drains_what_it_holds_and_takes_events_again() -> Result<()>
{
    if !is_root() {
        return Ok(());
    }
    let directory = tempdir()?;
    let disk = SmallDisk::new(96)?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut agent = on_disk(&disk, &hub, "8MiB")?;
    hub.stop()?;
    agent.start().await?;
    let mut acknowledged = HashSet::new();
    for number in 0..200 {
        let serial = format!("before-{number}");
        assert_eq!(agent.push(&[door(&serial, "open")]).await?.status, 200);
        acknowledged.insert(serial);
    }
    // Somebody else fills the disk to the last byte.
    let filler = disk.path().join("filler");
    let filled = run(Command::new("dd")
        .args(["if=/dev/zero", "bs=64k", "status=none"])
        .arg(format!("of={}", filler.display())));
    assert!(filled.is_err(), "dd ends only when the disk is full");
    let mut refused = 0;
    for number in 0..20 {
        let serial = format!("full-{number}");
        let answer = agent.push(&[door(&serial, "open")]).await?;
        if answer.status == 200 {
            acknowledged.insert(serial);
            continue;
        }
        refused += 1;
        assert_eq!(answer.status, 503, "{:?}", answer.body);
        let detail = answer.body["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("must stay"), "{detail}");
    }
    assert!(refused > 0);
    let refusing = metric(
        &agent.metrics().await?,
        "linli_agent_spool_refusing{lane=\"routine\"}",
    );
    assert_eq!(refusing, Some(1.0));
    // Killed and started on the full disk, it still delivers what it holds.
    agent.kill()?;
    agent.start().await?;
    hub.start().await?;
    agent.drained().await?;
    assert_stored_once(&hub, &acknowledged).await?;
    std::fs::remove_file(&filler)?;
    until("the agent to take events again", async || {
        let answer = agent.push(&[door("after", "open")]).await?;
        Ok((answer.status == 200).then_some(()))
    })
    .await?;
    acknowledged.insert("after".to_owned());
    // The start on the full disk is told too, once it can be.
    until("the second start to be told", async || {
        Ok((hub.starts().await?.len() == 2).then_some(()))
    })
    .await?;
    agent.drained().await?;
    assert_stored_once(&hub, &acknowledged).await
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_spool_files_lose_only_what_is_damaged_and_say_so() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut agent = Agent::joined(&directory.path().join("a"), &hub, "gw-1", "yuyuan")?;
    hub.stop()?;
    let seed = 7;
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut number = 0;
    let mut pushed = HashMap::new();
    let rounds = 48;
    let mut lost_reported = 0.0;
    for round in 0..rounds {
        agent.start().await?;
        for _ in 0..40 {
            number += 1;
            let event = door(&format!("{round}-{number}"), "open");
            assert_eq!(agent.push(std::slice::from_ref(&event)).await?.status, 200);
            pushed.insert(format!("{round}-{number}"), event);
        }
        agent.kill()?;
        damage(&agent.data().join("spool/routine"), round, &mut random)?;
    }
    agent.start().await?;
    let status = agent.status()?;
    println!("{}", status["lanes"][1]);
    hub.start().await?;
    agent.drained().await?;
    lost_reported += metric(
        &hub.metrics().await?,
        "linli_hub_events_lost_total{agent=\"gw-1\"}",
    )
    .unwrap_or(0.0);
    let stored = hub.stored().await?;
    let starts = hub.starts().await?.len();
    println!(
        "{} pushed, {} stored, {} reported as lost",
        pushed.len(),
        stored.len(),
        lost_reported
    );
    let mut seen = HashSet::new();
    for event in &stored {
        let id = &event.event.source_id;
        let sent = pushed.get(id).context("an event that nobody sent")?;
        assert_eq!(
            event.event.device,
            sent["device"].as_str().unwrap_or_default()
        );
        assert_eq!(event.event.kind, "door.opened");
        assert!(seen.insert(id.clone()), "{id} is stored twice");
    }
    // What is not there is accounted for: nothing is missing in silence, of the agent's starts neither.
    assert_eq!(
        stored.len() + starts + lost_reported as usize,
        pushed.len() + rounds + 1
    );
    assert!(
        stored.len() * 10 >= pushed.len() * 8,
        "salvage should save most"
    );
    Ok(())
}

/// Flips bits, cuts the tail or removes a file of the newest generation.
fn damage(lane: &Path, round: usize, random: &mut Random) -> Result<()> {
    let mut generations: Vec<_> = std::fs::read_dir(lane)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("g-"))
        })
        .collect();
    generations.sort();
    let newest = generations.last().context("a generation")?.join("db");
    let mut bytes = std::fs::read(&newest)?;
    // Where the data is, not in the empty rest of the segment.
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    match round % 3 {
        0 => {
            for _ in 0..3 {
                let at = random.below(end as u64 + 1) as usize;
                bytes[at] ^= 1 << random.below(8);
            }
        }
        1 => {
            bytes.truncate(end.saturating_sub(random.below(2000) as usize).max(1));
        }
        _ => bytes[..64].fill(0xa5),
    }
    std::fs::write(&newest, bytes)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn events_from_before_the_clock_was_set_get_their_time_at_the_hub() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut agent = Agent::joined(&directory.path().join("a"), &hub, "gw-1", "yuyuan")?;
    // A gateway without a battery wakes up in 1970; its monotonic clock is right.
    agent.wrapper = faketime(&["FAKETIME=@1970-01-01 08:00:00".to_owned()])?;
    agent.start().await?;
    assert_eq!(agent.status()?["clock_set"], false);
    let sent_ms = jiff::Timestamp::now().as_millisecond();
    // The box gives no usable time either: its own clock is in 1970 too.
    let mut event = door("1", "open");
    event["time"] = json!("1970-01-01T00:00:05Z");
    assert_eq!(agent.push(&[event]).await?.status, 200);
    agent.drained().await?;
    let (_, events) = hub.api("/api/v1/events").await?;
    let stored = &events["items"][0];
    assert_eq!(stored["clock"], "corrected");
    let at: jiff::Timestamp = stored["occurred_at"].as_str().context("time")?.parse()?;
    let off_ms = (at.as_millisecond() - sent_ms).abs();
    assert!(off_ms < 5_000, "{off_ms} ms off: {stored}");
    assert_eq!(stored["source_id"], "1");
    let start = &events["items"][1];
    assert_eq!(
        (&start["kind"], &start["clock"]),
        (&json!("agent.started"), &json!("corrected"))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_the_clock_is_noticed_and_loses_nothing() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut agent = Agent::joined(&directory.path().join("a"), &hub, "gw-1", "yuyuan")?;
    let offset = directory.path().join("offset");
    std::fs::write(&offset, "+0s")?;
    // The file with the offset is read again at every look.
    agent.wrapper = faketime(&[
        format!("FAKETIME_TIMESTAMP_FILE={}", offset.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
    ])?;
    agent.start().await?;
    let mut acknowledged = HashSet::new();
    for (number, step) in ["+0s", "+3600s", "-7200s", "+0s"].iter().enumerate() {
        std::fs::write(&offset, step)?;
        let serial = number.to_string();
        assert_eq!(agent.push(&[door(&serial, "open")]).await?.status, 200);
        acknowledged.insert(serial);
        if number > 0 {
            until("the step to be counted", async || {
                let steps = metric(&agent.metrics().await?, "linli_agent_clock_steps_total");
                Ok((steps >= Some(number as f64)).then_some(()))
            })
            .await?;
        }
    }
    agent.drained().await?;
    assert_stored_once(&hub, &acknowledged).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_was_put_back_to_an_older_state_loses_nothing_that_it_takes_since()
-> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut agent = Agent::joined(&directory.path().join("a"), &hub, "gw-1", "yuyuan")?;
    let spool = agent.data().join("spool");
    let older = directory.path().join("older");
    let copy = |from: &Path, to: &Path| run(Command::new("cp").arg("-a").arg(from).arg(to));
    let push = async |agent: &Agent, name: &str, count: usize| -> Result<HashSet<String>> {
        let ids: Vec<String> = (0..count)
            .map(|number| format!("{name}-{number}"))
            .collect();
        for id in &ids {
            assert_eq!(agent.push(&[door(id, "forced")]).await?.status, 200);
        }
        Ok(ids.into_iter().collect())
    };
    agent.start().await?;
    let before = push(&agent, "before", 10).await?;
    agent.drained().await?;
    agent.stop()?;
    copy(&spool, &older)?;
    agent.start().await?;
    let between = push(&agent, "between", 20).await?;
    agent.drained().await?;
    agent.stop()?;

    // The numbers that the hub has for "between" are given again, and some beyond them.
    std::fs::remove_dir_all(&spool)?;
    copy(&older, &spool)?;
    hub.kill()?;
    agent.start().await?;
    let after = push(&agent, "after", 25).await?;
    hub.start().await?;
    agent.drained().await?;
    let stored: HashSet<String> = before.union(&between).cloned().collect();
    assert_stored_once(&hub, &stored).await?;
    let mut kept = quarantined_ids(hub.database_url()).await?;
    kept.extend(
        hub.stored()
            .await?
            .into_iter()
            .map(|stored| stored.event.source_id),
    );
    let lost: Vec<&String> = after.difference(&kept).collect();
    assert!(lost.is_empty(), "acknowledged and nowhere: {lost:?}");
    // Numbering goes on as if nothing had been.
    let later = push(&agent, "later", 5).await?;
    agent.drained().await?;
    assert_stored_once(&hub, &later).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_start_of_an_agent_is_told_with_the_time_since_when_it_was_down() -> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut agent = Agent::joined(&directory.path().join("a"), &hub, "gw-1", "yuyuan")?;
    let now_ms = || jiff::Timestamp::now().as_millisecond();
    agent.start().await?;
    agent.stop()?;
    let stopped_ms = now_ms();
    agent.start().await?;
    let second_ms = now_ms();
    // The sign of life is there before a power cut may come.
    until("the sign of life", async || {
        let text = std::fs::read_to_string(agent.data().join("alive"))?;
        Ok((text.trim().parse::<i64>()? > stopped_ms).then_some(()))
    })
    .await?;
    agent.kill()?;
    let killed_ms = now_ms();
    agent.start().await?;
    agent.drained().await?;
    let starts = hub.starts().await?;
    let told: Vec<Option<i64>> = starts
        .iter()
        .map(|start| start.event.attributes.get("down_since_ms")?.parse().ok())
        .collect();
    let [None, Some(after_stop_ms), Some(after_kill_ms)] = told[..] else {
        anyhow::bail!("{told:?}");
    };
    // A clean stop is told to the moment, a kill within the interval of the signs.
    let late_ms = stopped_ms - after_stop_ms;
    assert!((0..2_000).contains(&late_ms), "{late_ms} ms");
    assert!(after_kill_ms > stopped_ms && after_kill_ms <= killed_ms);
    assert!(starts[1].event.occurred_at_ms <= second_ms);
    for start in &starts {
        assert_eq!(start.lane, "routine");
        assert_eq!(
            (&*start.event.source, &*start.event.device),
            ("agent", "agent")
        );
        assert!(start.event.attributes.contains_key("version"));
    }
    // It comes before what is pushed.
    assert_eq!(starts[0].sequence, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn times_of_an_agent_whose_clock_is_ahead_are_put_right_whatever_its_devices_claim()
-> Result<()> {
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let mut agent = Agent::joined(&directory.path().join("a"), &hub, "gw-1", "yuyuan")?;
    agent.start().await?;
    agent.stop()?;
    agent.wrapper = faketime(&["FAKETIME=+600s".to_owned()])?;
    agent.start().await?;
    let sent_ms = jiff::Timestamp::now().as_millisecond();
    let device = door("device", "open");
    let mut agents = door("agent", "open");
    // A time that cannot be: the agent's own is taken.
    agents["time"] = json!("2099-01-01T00:00:00Z");
    assert_eq!(agent.push(&[device, agents]).await?.status, 200);
    agent.drained().await?;
    let listed = async |hub: &mut Hub| -> Result<Value> {
        let (status, page) = hub.api("/api/v1/events").await?;
        assert_eq!(status, 200, "{page}");
        Ok(page["items"].clone())
    };
    let events = listed(&mut hub).await?;
    let ms = |text: &Value| -> Result<i64> {
        let time: jiff::Timestamp = text.as_str().context("time")?.parse()?;
        Ok(time.as_millisecond())
    };
    for (index, source_id, clock) in [(0, "agent", "corrected"), (1, "device", "corrected")] {
        let event = &events[index];
        assert_eq!(event["source_id"], source_id, "{events}");
        assert_eq!(event["clock"], clock);
        for name in ["occurred_at", "received_at"] {
            let off_ms = (ms(&event[name])? - sent_ms).abs();
            assert!(off_ms < 5_000, "{name}: {off_ms} ms off: {event}");
        }
    }
    let start = &events[2];
    assert_eq!(start["kind"], "agent.started");
    assert!((ms(&start["occurred_at"])? - sent_ms).abs() < 5_000);

    let skewed = |skew_ms: i64| (skew_ms - 600_000).abs() < 2_000;
    until("the skew and the watermark to be shown", async || {
        let (_, page) = hub.api("/api/v1/agents").await?;
        let shown = &page["items"][0];
        let watermark_ms = shown["watermark_ms"].as_i64().unwrap_or_default();
        let off_ms = jiff::Timestamp::now().as_millisecond() - watermark_ms;
        let good = shown["skew_ms"].as_i64().is_some_and(skewed) && off_ms.abs() < 30_000;
        Ok(good.then_some(()))
    })
    .await?;
    let gauge = "linli_hub_agent_clock_skew_seconds{agent=\"gw-1\"}";
    let seconds = metric(&hub.metrics().await?, gauge).context("a gauge")?;
    assert!(skewed((seconds * 1000.0) as i64), "{seconds} s");
    let told = run(hub.command()?.arg("agents"))?;
    assert!(told.contains("clock off +"), "{told}");

    // What is read again after a start says the same.
    agent.stop()?;
    until("the gauge to go with the session", async || {
        Ok(metric(&hub.metrics().await?, gauge).is_none().then_some(()))
    })
    .await?;
    hub.stop()?;
    hub.start().await?;
    assert_eq!(listed(&mut hub).await?, events);
    Ok(())
}
