//! What rules find does not depend on when and how events come: late, doubled, shuffled, over kills of the hub.
use anyhow::{Context, Result};
use linli_tests::harness::{
    Agent, DAY_MS, Hub, MINUTE_MS, Random, ago, door_event, joined, now_ms, running,
};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tempfile::tempdir;

/// All that a warning is, but for its number and for what the time of its arrival says.
fn substance(warning: &Value) -> Result<Value> {
    let reasons = warning["reasons"].as_array().context("reasons")?;
    let reasons: Vec<Value> = reasons
        .iter()
        .map(|reason| json!([reason["kind"], reason["at_ms"]]))
        .collect();
    let part = |name: &str| warning[name].clone();
    Ok(json!([
        part("rule"),
        part("key"),
        part("at_ms"),
        part("until_ms"),
        part("hits"),
        part("reading"),
        reasons
    ]))
}

async fn standing(hub: &mut Hub) -> Result<Vec<String>> {
    let warnings = hub.warnings("").await?;
    let mut found: Vec<String> = warnings
        .iter()
        .map(|warning| Ok(substance(warning)?.to_string()))
        .collect::<Result<_>>()?;
    found.sort();
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fire_and_a_forced_door_are_one_warning_in_either_order_and_of_a_slow_device_too()
-> Result<()> {
    let directory = tempdir()?;
    let (mut hub, agent) = running(directory.path(), None).await?;
    let (fire_ms, forced_ms) = (6 * MINUTE_MS, MINUTE_MS);
    for (building, first, second) in [
        ("B1", ("fire", fire_ms), ("forced", forced_ms)),
        ("B2", ("forced", forced_ms), ("fire", fire_ms)),
        // The clock of the device is two days slow, and it speaks live: both are of now.
        (
            "B3",
            ("fire", 2 * DAY_MS + fire_ms),
            ("forced", 2 * DAY_MS + forced_ms),
        ),
        // There was no forced door.
        ("B4", ("fire", fire_ms), ("fire", forced_ms)),
    ] {
        for (kind, ms) in [first, second] {
            let mut event = ago(kind, building, ms);
            event["replayed"] = json!(ms > MINUTE_MS && building != "B3");
            agent.deliver(&[event]).await?;
        }
    }
    let found: Vec<Value> = hub
        .warnings("rule=fire-then-forced")
        .await?
        .iter()
        .map(|warning| {
            let reasons = warning["reasons"].as_array().map(Vec::len);
            json!([warning["key"], warning["late"], warning["hits"], reasons])
        })
        .collect();
    let wanted = [
        json!(["yuyuan|B1", false, 1, 2]),
        json!(["yuyuan|B2", false, 1, 2]),
        json!(["yuyuan|B3", false, 1, 2]),
    ];
    assert_eq!(found, wanted);
    // The fire of B4 is there, so its events were looked at.
    assert!(
        hub.keys("fire-alarm")
            .await?
            .contains(&"yuyuan|B4".to_owned())
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_is_of_events_in_their_own_time_and_not_of_deliveries() -> Result<()> {
    let directory = tempdir()?;
    let rules = "[[rule]]\nid = \"three\"\nname = \"三次\"\nkind = \"count\"\ntimes = 3\nwithin = \"1h\"\n\
        key = [\"site\", \"building\"]\non = [{ type = \"lift.ebike\" }]\nseverity = \"warning\"\n";
    let (mut hub, agent) = running(directory.path(), Some(rules)).await?;
    for days in [3, 2, 1] {
        agent
            .deliver(&[ago("ebike", "in-order", days * DAY_MS)])
            .await?;
    }
    for days in [1, 2, 3] {
        agent
            .deliver(&[ago("ebike", "reversed", days * DAY_MS)])
            .await?;
    }
    let one = ago("ebike", "thrice", MINUTE_MS);
    for _ in 0..3 {
        agent.deliver(std::slice::from_ref(&one)).await?;
    }
    let third_ms = now_ms() - 100 * MINUTE_MS;
    for at_ms in [
        third_ms - 20 * MINUTE_MS,
        third_ms - 10 * MINUTE_MS,
        now_ms(),
        third_ms,
    ] {
        agent
            .deliver(&[door_event("ebike", "overtaken", "door-1", at_ms)])
            .await?;
    }
    let warnings = hub.warnings("").await?;
    let found: Vec<Value> = warnings
        .iter()
        .map(|warning| json!([warning["key"], warning["at_ms"], warning["hits"]]))
        .collect();
    assert_eq!(found, [json!(["yuyuan|overtaken", third_ms, 1])]);
    assert_eq!(hub.stored().await?.len(), 3 + 3 + 1 + 4);
    Ok(())
}

/// Three days of a compound, in the order in which they happened: all rules of places find something.
fn history(seed: u64, buildings: u64, events: usize) -> Vec<Value> {
    let mut random = Random::new(seed);
    let start_ms = now_ms() - 3 * DAY_MS;
    let step_ms = 3 * DAY_MS as u64 / events as u64;
    let mut at_ms = start_ms;
    let mut told: Vec<Value> = Vec::new();
    let kinds = [
        "fire", "forced", "ebike", "overheat", "smoke", "fallen", "denied", "open",
    ];
    while told.len() < events {
        at_ms += random.below(2 * step_ms) as i64;
        let kind = kinds[random.below(kinds.len() as u64) as usize];
        let building = format!("{}号楼", 1 + random.below(buildings));
        let device = format!("door-{}", random.below(3));
        told.push(door_event(kind, &building, &device, at_ms));
        // What belongs together often comes soon after.
        let next = match kind {
            "fire" => "forced",
            "overheat" => "smoke",
            _ => continue,
        };
        let soon_ms = at_ms + (random.below(20 * MINUTE_MS as u64)) as i64;
        told.push(door_event(next, &building, &device, soon_ms));
    }
    told.sort_by_key(|event| event["time"].as_i64());
    told
}

/// A hub that runs, whose agent may raise all warnings of days within a minute.
async fn unbounded(directory: &Path) -> Result<(Hub, Agent)> {
    let mut hub = Hub::new(&directory.join("hub"))?;
    hub.configure("[warnings]\nper_agent_minute = 100000\n")?;
    hub.start().await?;
    let agent = joined(directory, &hub, "gw-1", "yuyuan").await?;
    Ok((hub, agent))
}

fn shuffle(events: &mut [Value], random: &mut Random) {
    for at in (1..events.len()).rev() {
        events.swap(at, random.below(at as u64 + 1) as usize);
    }
}

fn rules_in(standing: &[String]) -> Vec<String> {
    let mut rules: Vec<String> = standing
        .iter()
        .filter_map(|text| Some(text.split('"').nth(1)?.to_owned()))
        .collect();
    rules.sort();
    rules.dedup();
    rules
}

#[tokio::test(flavor = "multi_thread")]
async fn three_days_that_come_at_once_raise_what_they_would_have_raised_one_by_one() -> Result<()> {
    let directory = tempdir()?;
    let (mut live, at_live) = unbounded(&directory.path().join("live")).await?;
    let (mut away, at_away) = unbounded(&directory.path().join("away")).await?;
    away.stop()?;
    let mut events = history(20_260_301, 3, 60);
    for event in &events {
        at_live.deliver(std::slice::from_ref(event)).await?;
    }
    // The agent gathers while the hub is away, and not in order: boxes tell when they can.
    shuffle(&mut events, &mut Random::new(7));
    for batch in events.chunks(7) {
        assert_eq!(at_away.push(batch).await?.status, 200);
    }
    away.start().await?;
    at_away.drained().await?;
    let (wanted, found) = (standing(&mut live).await?, standing(&mut away).await?);
    let rules = rules_in(&wanted);
    assert!(rules.len() >= 5, "{rules:?}");
    assert_eq!(found, wanted);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_killed_again_and_again_stands_by_what_one_that_never_was_finds() -> Result<()> {
    const KILLS: u32 = 25;
    let directory = tempdir()?;
    let (mut steady, at_steady) = unbounded(&directory.path().join("steady")).await?;
    let (mut killed, at_killed) = unbounded(&directory.path().join("killed")).await?;
    let seed = 20_261_124;
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut events = history(seed, 5, 1000);
    shuffle(&mut events, &mut random);
    let batch = events.len() / (2 * KILLS as usize);
    let mut kills = 0;
    for (number, fresh) in events.chunks(batch).enumerate() {
        // Some of what was told before is told again.
        let again = events[random.below((number * batch) as u64 + 1) as usize].clone();
        let told: Vec<Value> = fresh.iter().cloned().chain([again]).collect();
        for agent in [&at_steady, &at_killed] {
            assert_eq!(agent.push(&told).await?.status, 200);
        }
        if number % 2 == 0 {
            // The kill comes at a random moment of what the hub does with them.
            tokio::time::sleep(Duration::from_millis(random.below(40))).await;
            killed.kill()?;
            killed.start().await?;
            kills += 1;
        }
    }
    assert!(kills >= KILLS, "{kills} kills");
    at_steady.drained().await?;
    at_killed.drained().await?;
    let (wanted, found) = (standing(&mut steady).await?, standing(&mut killed).await?);
    let rules = rules_in(&wanted);
    assert!(rules.len() >= 6, "{rules:?}");
    assert_eq!(found, wanted);
    // Each warning has the case that it had to have, and no warning is twice in the cases.
    for hub in [&mut steady, &mut killed] {
        for warning in hub.warnings("rule=fire-then-forced").await? {
            assert_eq!(
                warning["cases"].as_array().map(Vec::len),
                Some(1),
                "{warning}"
            );
        }
    }
    Ok(())
}
