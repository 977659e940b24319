//! Power cuts: what was acknowledged is on the disk, whatever was in memory.
use anyhow::{Context, Result};
use linli_tests::harness::{
    Agent, AgentSetup, Hub, Random, SmallDisk, assert_stored_once, has_no_file, is_root, metric,
    run,
};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::tempdir;

const CUTS: u64 = 50;

fn setup<'a>(directory: &'a Path, hub_address: &str) -> AgentSetup<'a> {
    AgentSetup {
        directory,
        name: "gw-1",
        site: "yuyuan",
        hub_address: hub_address.to_owned(),
        listen: "127.0.0.1",
        more: "[spool]\nfree_min = \"8MiB\"\ngeneration = \"1MiB\"\n",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_power_cuts_lose_nothing_that_a_push_was_told_is_stored() -> Result<()> {
    // The hub's file is put back after each cut.
    if !is_root() || has_no_file() {
        return Ok(());
    }
    let directory = tempdir()?;
    let mut hub = Hub::new(&directory.path().join("hub"))?;
    hub.start().await?;
    let disk = SmallDisk::new(64)?;
    let hub_address = format!("127.0.0.1:{}", hub.port);
    // The agent whose power is cut never reaches the hub; what its disk would hold does.
    let mut agent = Agent::new(&setup(disk.path(), &hub_address))?;
    agent.join(&hub, &hub_address, "yuyuan")?;
    // After each cut the agent comes back to a hub that knows it and has heard nothing yet. With what
    // another cut's agent had told, its own start, numbers would be taken that this one's events have.
    hub.stop()?;
    let data = directory.path().join("hub/data");
    let fresh = directory.path().join("fresh");
    let copy = |from: &Path, to: &Path| run(Command::new("cp").arg("-a").arg(from).arg(to));
    copy(&data, &fresh)?;
    let away = std::fs::read_to_string(agent.config())?.replace(
        &hub_address,
        &format!("127.0.0.1:{}", linli_tests::harness::free_udp_port()?),
    );
    std::fs::write(agent.config(), away)?;
    agent.start().await?;
    let seed = 4;
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut acknowledged = HashSet::new();
    let mut number = 0_u64;
    for _ in 0..CUTS {
        let until = tokio::time::Instant::now() + Duration::from_millis(20 + random.below(120));
        while tokio::time::Instant::now() < until {
            let events: Vec<Value> = (0..1 + random.below(60))
                .map(|_| {
                    number += 1;
                    json!({
                        "serial": number.to_string(), "type": if number.is_multiple_of(7) { "forced" } else { "open" },
                        "device": format!("d-{:x}", random.draw()), "building": format!("{:x}", random.draw()),
                        "time": jiff::Timestamp::now().to_string(),
                    })
                })
                .collect();
            let answer = agent.push(&events).await?;
            assert_eq!(answer.status, 200, "{:?}", answer.body);
            for event in &events {
                acknowledged.insert(event["serial"].as_str().context("serial")?.to_owned());
            }
        }
        // One more push is on its way when the power goes.
        let last = [
            json!({ "serial": format!("x{number}"), "type": "open", "time": jiff::Timestamp::now().to_string() }),
        ];
        let pushing = agent.push(&last);
        let cut = async {
            tokio::time::sleep(Duration::from_micros(random.below(3000))).await;
            agent.process()?.freeze()?;
            disk.power_cut()
        };
        let (_, after) = tokio::join!(
            tokio::time::timeout(Duration::from_millis(500), pushing),
            cut
        );
        let after = after?;
        agent.process()?.thaw()?;
        std::fs::remove_dir_all(&data)?;
        copy(&fresh, &data)?;
        hub.start().await?;
        let mut revived = Agent::new(&setup(after.path(), &hub_address))?;
        revived.start().await?;
        revived.drained().await?;
        let lost = metric(
            &revived.metrics().await?,
            "linli_agent_spool_lost_events{lane=\"routine\"}",
        );
        assert_eq!(lost, Some(0.0));
        revived.stop()?;
        assert_stored_once(&hub, &acknowledged).await?;
        assert!(!hub.starts().await?.is_empty());
        hub.stop()?;
    }
    println!(
        "{} events acknowledged over {CUTS} power cuts",
        acknowledged.len()
    );
    Ok(())
}
