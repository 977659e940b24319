//! The clock of the gateway is wrong, that of the hub is stepped, and the agent is killed.
use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use linli_tests::harness::{SettableClock, faketime, metric, now_ms, until};
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::tempdir;

use super::STEPS_MAX;
use super::pushes::{self, item, key};
use super::scene::Scene;
use super::table::{CLAIMED, CORRECTED, IMPOSSIBLE, Message, Said, Verdict, Way};

/// What becomes of an alarm whose gateway nobody vouches for: it can judge no claim.
fn without_a_clock(message: &Message) -> Verdict {
    match (message.is_replayed(), message.row.device) {
        (true, "ahead-3y") => IMPOSSIBLE,
        (true, "1970" | "no-time" | "unreadable") => CORRECTED,
        (true, _) => CLAIMED,
        (false, _) => CORRECTED,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_of_a_gateway_three_hours_behind_page_and_have_the_right_times() -> Result<()> {
    let directory = tempdir()?;
    let mut scene = Scene::new(directory.path(), &["fire.alarm"], "", &[], None).await?;
    scene.agent.wrapper = faketime(&["FAKETIME=-3h".to_owned()])?;
    // Nobody vouches for its clock: the hub is away. Then the hub says how wrong it is.
    scene.hub.stop()?;
    scene.agent.start().await?;
    let before = [Way::Live(0), Way::Live(1), Way::Live(2), Way::Unheard];
    for is_away in [true, false] {
        for way in before {
            let mut messages = pushes::alarms(&mut scene, way);
            for message in &mut messages {
                message.verdict = Some(without_a_clock(message));
            }
            pushes::push(&mut scene, messages).await?;
        }
        if is_away {
            scene.hub.start().await?;
        }
        scene.judge().await?;
    }
    // No device is said to be off by a clock that is.
    let events = scene.events().await?;
    ensure!(events.iter().all(|event| event["kind"] != "device.clock"));
    ensure!(scene.agent.status()?["clock_set"] == false);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_whose_clock_is_stepped_pages_as_before() -> Result<()> {
    let directory = tempdir()?;
    let clock = SettableClock::new(directory.path())?;
    let mut scene = Scene::new(directory.path(), &["fire.alarm"], "", &[], Some(&clock)).await?;
    scene.start_agent().await?;
    for (offset, is_doubtful) in [("+0", 0.0), ("+1095d", 1.0), ("+0", 0.0), ("-3h", 1.0)] {
        clock.set(offset)?;
        until("the step to be seen", async || {
            let name = "linli_hub_clock_doubtful{reason=\"stepped\"}";
            let doubtful = metric(&scene.hub.metrics().await?, name);
            Ok((doubtful == Some(is_doubtful)).then_some(()))
        })
        .await?;
        scene.round += 1;
        for step in 0..STEPS_MAX {
            pushes::say(&mut scene, Way::Live(step)).await?;
        }
        pushes::say(&mut scene, Way::Replayed).await?;
        scene.judge().await.with_context(|| offset.to_owned())?;
    }
    Ok(())
}

/// Pushes alarms at once, each in a body of its own, and kills the agent in the middle of it. What is not answered is pushed
/// again when the agent runs again, as a platform does.
async fn push_through_a_kill(scene: &mut Scene, messages: Vec<Message>) -> Result<()> {
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
            scene.start_agent().await?;
        }
    }
    for message in messages {
        scene.was_said(key(&message), message, from_ms);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn through_kills_of_the_agent_every_alarm_is_one_event_and_pages_as_before() -> Result<()> {
    let directory = tempdir()?;
    let mut scene = Scene::new(directory.path(), &["fire.alarm"], "", &[], None).await?;
    scene.start_agent().await?;
    let live = (0..STEPS_MAX).map(Way::Live);
    let ways: Vec<Way> = live.chain([Way::Replayed, Way::Unheard]).collect();
    for round in 1..=2 {
        scene.round = round;
        for way in &ways {
            let mut messages = pushes::alarms(&mut scene, *way);
            for message in &mut messages {
                // What was learnt of a clock in the seconds before a kill is learnt again from the next live message.
                if message.is_replayed() && matches!(message.said, Said::Ms(_)) {
                    message.verdict = None;
                }
            }
            push_through_a_kill(&mut scene, messages)
                .await
                .with_context(|| format!("round {round}, {way:?}"))?;
        }
    }
    scene.judge().await
}
