//! The clock of the gateway is wrong or stepped, and that of the hub is stepped.
use anyhow::{Context, Result, ensure};
use linli_tests::harness::{SettableClock, faketime, is_root, metric, until};
use tempfile::tempdir;

use super::STEPS_MAX;
use super::pushes;
use super::scene::Scene;
use super::table::{CLAIMED, CORRECTED, IMPOSSIBLE, LOSING, Message, RIGHT, Verdict, Way};

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

#[tokio::test(flavor = "multi_thread")]
async fn alarms_at_the_moment_of_a_step_of_the_gateways_clock_page_and_have_the_right_times()
-> Result<()> {
    let directory = tempdir()?;
    let clock = SettableClock::new(directory.path())?;
    let mut scene = Scene::new(directory.path(), &["fire.alarm"], "", &[], None).await?;
    scene.agent.wrapper = clock.wrapper.clone();
    scene.start_agent().await?;
    for offset in ["-3h", "+3h", "+0"] {
        clock.set(offset)?;
        scene.round += 1;
        let mut messages = pushes::alarms(&mut scene, Way::Live(0));
        for message in &mut messages {
            message.verdict = Some(RIGHT);
        }
        pushes::push(&mut scene, messages).await?;
        scene.judge().await.with_context(|| offset.to_owned())?;
    }
    // It was not the clocks of the devices.
    let events = scene.events().await?;
    let told = events
        .iter()
        .filter(|event| event["kind"] == "device.clock");
    let right = told.filter(|event| event["device"].to_string().contains("right"));
    ensure!(right.count() == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_that_wait_for_an_hour_in_a_gateway_without_a_clock_are_told_as_late() -> Result<()>
{
    if !is_root() {
        return Ok(());
    }
    let directory = tempdir()?;
    let path = directory.path();
    let hub_clock = SettableClock::new(path)?;
    let mut scene = Scene::new(path, &["fire.alarm"], "", &[], Some(&hub_clock)).await?;
    scene.agent.wrapper = faketime(&["FAKETIME=-3h".to_owned()])?;
    scene.agent.start().await?;
    for way in [Way::Live(0), Way::Offline] {
        let is_offline = way == Way::Offline;
        if is_offline {
            scene.hub.stop()?;
        }
        let mut messages = pushes::alarms(&mut scene, way);
        for message in &mut messages {
            message.verdict = Some(CORRECTED);
        }
        pushes::push(&mut scene, messages).await?;
        if is_offline {
            // An hour passes for its clock since boot, which a namespace of its own has; so it has to start again.
            scene.agent.kill()?;
            let an_hour_later = ["unshare", "-T", "--boottime", "3600", "--monotonic", "3600"];
            scene.agent.wrapper = an_hour_later.map(str::to_owned).to_vec();
            scene
                .agent
                .wrapper
                .extend(faketime(&["FAKETIME=-2h".to_owned()])?);
            scene.agent.start().await?;
            scene.hub_is_back_an_hour_later(&hub_clock).await?;
        }
        scene.judge().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_loses_time_is_known_to_be_off_when_two_messages_apart_show_it() -> Result<()>
{
    let directory = tempdir()?;
    let mut scene = Scene::new(directory.path(), &["fire.alarm"], "", &[], None).await?;
    scene.start_agent().await?;
    for step in 0..LOSING.live.len() - 1 {
        let message = scene.next(&LOSING, Way::Live(step), 0);
        pushes::push(&mut scene, vec![message]).await?;
    }
    // Until then it may be that its messages were held up.
    until("the clock to be known to be off", async || {
        let message = scene.next(&LOSING, Way::Offline, 0);
        let mut item = pushes::item(&message)?;
        item["type"] = "open".into();
        scene.agent.push(&[item]).await?;
        let status = scene.agent.status()?;
        let text = status["sources"].to_string();
        Ok(text.contains("慢 2 分").then_some(()))
    })
    .await?;
    let message = scene.next(&LOSING, Way::Live(LOSING.live.len() - 1), 0);
    pushes::push(&mut scene, vec![message]).await?;
    scene.judge().await
}
