//! The agent is killed in the middle of alarms of devices whose clocks are wrong.
use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use linli_tests::harness::{now_ms, peers_python, until};
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::tempdir;

use super::STEPS_MAX;
use super::callers::{Hosts, Panels};
use super::heard::Sensors;
use super::peer::{Peer, rows};
use super::pushes::{self, item, key};
use super::scene::Scene;
use super::table::{Message, Said, Way};
use super::talkers::{Chargers, Recorders};

/// Pushes alarms at once, each in a body of its own, and kills the agent in the middle of it. What is not answered is pushed
/// again when the agent runs again, as a platform does. The hub may be killed with it.
async fn push_through_a_kill(
    scene: &mut Scene,
    messages: Vec<Message>,
    is_hub_killed: bool,
) -> Result<()> {
    let from_ms = now_ms();
    let enough = messages.len() / 2;
    let mut waiting: Vec<&Message> = messages.iter().collect();
    let mut is_killed = false;
    while !waiting.is_empty() {
        let answered = AtomicUsize::new(0);
        let agent = &scene.agent;
        let answered_ones = join_all(waiting.iter().map(|message| async {
            let answer = agent.push(&[item(message)?]).await;
            answered.fetch_add(1, Ordering::SeqCst);
            match answer {
                Ok(answer) if answer.status == 200 => {
                    ensure!(answer.body["rejected"] == 0, "{answer:?}");
                    anyhow::Ok(true)
                }
                _ => Ok(false),
            }
        }));
        let id = agent.process()?.pid();
        let kill = async {
            if !is_killed {
                until("half of the answers", async || {
                    Ok((answered.load(Ordering::SeqCst) >= enough).then_some(()))
                })
                .await?;
                let id = id.to_string();
                std::process::Command::new("kill")
                    .args(["-9", &id])
                    .status()?;
            }
            anyhow::Ok(())
        };
        let (taken, killed) = tokio::join!(answered_ones, kill);
        killed?;
        let taken: Vec<bool> = taken.into_iter().collect::<Result<_>>()?;
        let mut taken = taken.into_iter();
        waiting.retain(|_| !taken.next().unwrap_or(false));
        if !is_killed {
            is_killed = true;
            scene.agent.kill().ok();
            if is_hub_killed {
                scene.hub.kill()?;
                scene.hub.start().await?;
            }
            scene.start_agent().await?;
        }
    }
    for message in messages {
        scene.was_said(key(&message), message, from_ms);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn through_kills_of_agent_and_hub_every_alarm_is_one_event_and_pages_as_before() -> Result<()>
{
    let directory = tempdir()?;
    let mut scene = Scene::new(directory.path(), &["fire.alarm"], "", &[], None).await?;
    start_for_kills(&mut scene).await?;
    let live = (0..STEPS_MAX).map(Way::Live);
    let ways: Vec<Way> = live.chain([Way::Replayed, Way::Unheard]).collect();
    for round in 1..=2 {
        scene.round = round;
        for way in &ways {
            let mut messages = pushes::alarms(&mut scene, *way);
            for message in &mut messages {
                // What was learnt of a clock in the seconds before a kill is learnt again from the next live message.
                if *way == Way::Replayed && matches!(message.said, Said::Ms(_)) {
                    message.verdict = None;
                }
            }
            push_through_a_kill(&mut scene, messages, round == 2)
                .await
                .with_context(|| format!("round {round}, {way:?}"))?;
        }
    }
    // What an agent has written of the clocks is known after a kill.
    scene.round += 1;
    for step in 0..STEPS_MAX {
        pushes::say(&mut scene, Way::Live(step)).await?;
    }
    scene.agent.stop()?;
    scene.start_agent().await?;
    let messages = pushes::alarms(&mut scene, Way::Replayed);
    push_through_a_kill(&mut scene, messages, false).await?;
    scene.judge().await
}

/// Every row of a source says one alarm of this way, and the agent is killed while every other one of them waits for its answer.
/// Who is not answered says it again.
async fn say_through_kills<P: Peer>(peer: &mut P, scene: &mut Scene, way: Way) -> Result<()> {
    for (place, row) in rows::<P>(way).enumerate() {
        let message = scene.next(row, way, P::AGO_MS);
        let from_ms = now_ms();
        let mut is_taken = false;
        if place % 2 == 1 {
            let restart = async {
                scene.agent.kill()?;
                scene.start_agent().await?;
                scene.connected(P::SOURCE).await
            };
            let (said, restarted) = tokio::join!(peer.say(&message), restart);
            restarted?;
            is_taken = said.is_ok();
        }
        if !is_taken {
            peer.say(&message).await?;
        }
        scene.was_said((P::kind(&message), peer.place(&message)), message, from_ms);
    }
    Ok(())
}

/// Starts the agent, and waits until it has noted that its clock is vouched for: what is killed then knows it again.
async fn start_for_kills(scene: &mut Scene) -> Result<()> {
    scene.start_agent().await?;
    let anchors = scene.agent.data().join("anchors");
    until("the anchor of the clock", async || {
        Ok(anchors.exists().then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn through_kills_every_alarm_of_a_protocol_that_answers_is_one_event_and_pages() -> Result<()>
{
    if peers_python().is_none() {
        return Ok(());
    }
    let directory = tempdir()?;
    let path = directory.path();
    let Some(mut sensors) = Sensors::new(path)? else {
        return Ok(());
    };
    sensors.broker_starts().await?;
    let (mut panels, mut hosts) = (Panels::new()?, Hosts::new()?);
    let (mut recorders, mut chargers) = (Recorders::new().await?, Chargers::new()?);
    let blocks = [
        sensors.blocks()?,
        panels.blocks()?,
        hosts.blocks()?,
        recorders.blocks()?,
        chargers.blocks()?,
    ];
    let files = [sensors.files(), recorders.files(), chargers.files()].concat();
    let kinds = [
        "smoke.alarm",
        "fire.alarm",
        "camera.intrusion",
        "charger.fault",
    ];
    let mut scene = Scene::new(path, &kinds, &blocks.concat(), &files, None).await?;
    start_for_kills(&mut scene).await?;
    let way = Way::Live(0);
    scene.connected(Sensors::SOURCE).await?;
    say_through_kills(&mut sensors, &mut scene, way).await?;
    say_through_kills(&mut panels, &mut scene, way).await?;
    say_through_kills(&mut hosts, &mut scene, way).await?;
    say_through_kills(&mut recorders, &mut scene, way).await?;
    say_through_kills(&mut chargers, &mut scene, way).await?;
    scene.judge().await
}
