//! Devices whose clocks are wrong, on the wire, with a real agent and a real hub: when each alarm is said to have happened, by
//! which rule, and whether the duty desk is paged. [`table`] says what has to hold.
mod callers;
mod doors;
mod gateway;
mod heard;
mod kills;
mod peer;
mod protocols;
mod pushes;
mod scene;
mod table;
mod talkers;

use anyhow::Result;
use linli_tests::harness::{SettableClock, peers_python};
use tempfile::tempdir;

use doors::Doors;
use scene::Scene;
use table::{TABLE, Way};

/// Live messages of a row at most.
const STEPS_MAX: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn alarms_of_wrong_clocks_page_live_and_are_told_as_late_where_replayed_or_held_up()
-> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempdir()?;
    let clock = SettableClock::new(directory.path())?;
    let doors = Doors::start(directory.path(), &python).await?;
    let blocks = doors.blocks("catch_up = \"0s\"")?;
    let mut scene = Scene::new(
        directory.path(),
        &["fire.alarm"],
        &blocks,
        &[Doors::files()],
        Some(&clock),
    )
    .await?;
    scene.agent.wrapper = clock.wrapper.clone();
    scene.start_agent().await?;
    doors.are_heard().await?;
    let live = (0..STEPS_MAX).map(Way::Live);
    for way in live.chain([Way::Replayed, Way::Unheard]) {
        pushes::say(&mut scene, way).await?;
        doors.say(&mut scene, way).await?;
    }
    scene.judge().await?;
    for source in [pushes::SOURCE, doors::SOURCE] {
        let devices = TABLE.iter().map(|row| (row, row.device.to_owned()));
        scene.clocks_are_told(source, devices).await?;
    }

    // The hub is away for an hour.
    scene.hub.stop()?;
    pushes::say(&mut scene, Way::Offline).await?;
    doors.say_offline(&mut scene).await?;
    scene.hub_is_back_an_hour_later(&clock).await?;
    scene.judge().await
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_that_a_door_remembers_are_told_as_late_with_the_time_of_its_corrected_clock()
-> Result<()> {
    let Some(python) = peers_python() else {
        return Ok(());
    };
    let directory = tempdir()?;
    let doors = Doors::start(directory.path(), &python).await?;
    let blocks = doors.blocks("")?;
    let files = [Doors::files()];
    let mut scene = Scene::new(directory.path(), &["fire.alarm"], &blocks, &files, None).await?;
    scene.start_agent().await?;
    doors.are_heard().await?;
    for step in 0..STEPS_MAX {
        doors.say(&mut scene, Way::Live(step)).await?;
    }
    scene.judge().await?;
    scene.agent.stop()?;
    doors.remember(&mut scene).await?;
    scene.start_agent().await?;
    scene.judge().await?;
    // A clock that is off is told once, not at each start.
    doors.say_last(&mut scene).await?;
    scene.judge().await?;
    let devices = TABLE.iter().map(|row| (row, row.device.to_owned()));
    scene.clocks_are_told(doors::SOURCE, devices).await
}
