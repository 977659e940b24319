//! Clocks that are wrong: of devices, of gateways that do not behave, and of the hub itself.
use anyhow::{Context, Result, ensure};
use linli_shared::protocol::event::{ClockQuality, Delivery, Draft, PlaceDraft};
use linli_tests::harness::{
    Agent, DAY_MS, HandMade, Hub, MINUTE_MS, NOBODY, Receiver, SECOND_MS, SettableClock, desk_hub,
    each, http, metric, notices, now_ms, run, until,
};
use serde_json::{Value, json};
use std::path::Path;
use tempfile::tempdir;

const SITE: &str = "yuyuan";

const LEFT_OPEN: &str = "[[rule]]\nid = \"left-open\"\nname = \"left-open\"\nkind = \"absent\"\n\
     key = [\"site\", \"building\"]\nwithin = \"10m\"\non = [{ type = \"door.opened\" }]\n\
     until = [{ type = \"door.closed\" }]\nseverity = \"notice\"\n";

/// A hub with these rules and a desk, that runs, and the identity of an agent.
async fn hub_and_agent(
    directory: &Path,
    rules: &str,
    wrapper: Vec<String>,
    desk: u16,
) -> Result<(Hub, Agent)> {
    let mut hub = desk_hub(&directory.join("hub"), rules, wrapper, desk)?;
    hub.start().await?;
    let agent = Agent::joined(&directory.join("a"), &hub, "gw-1", SITE)?;
    Ok((hub, agent))
}

fn event<'a>(kind: &'a str, building: &'a str, at_ms: i64) -> Draft<'a> {
    Draft {
        kind,
        occurred_at_ms: at_ms,
        received_at_ms: now_ms(),
        place: PlaceDraft {
            building,
            ..PlaceDraft::default()
        },
        ..Draft::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fire_of_a_device_with_a_wrong_clock_pages_and_a_replayed_one_tells_the_desk_its_age()
-> Result<()> {
    let directory = tempdir()?;
    let rules = each("fire", "fire.alarm", "life", ", ack = \"1h\"")
        + &each("forced", "door.forced", "alarm", ", ack = \"1h\"");
    let (mut hub, agent) = hub_and_agent(directory.path(), &rules, Vec::new(), NOBODY).await?;
    let mut session = HandMade::connect(&hub, &agent, SITE, 0, |_| {}).await?;
    let now = now_ms();
    let hour_ms = 60 * MINUTE_MS;
    let claims = [
        ("right", now),
        ("slow-16m", now - 16 * MINUTE_MS),
        ("slow-8h", now - 8 * hour_ms),
        ("slow-8d", now - 8 * DAY_MS),
        ("ahead-3y", now + 1095 * DAY_MS),
        ("1970", 12_000),
    ];
    for kind in ["fire.alarm", "door.forced"] {
        for (building, claim_ms) in claims {
            let live = event(kind, building, claim_ms);
            let replayed_building = format!("{building}-replayed");
            let replayed = Draft {
                delivery: Delivery::Replayed,
                ..event(kind, &replayed_building, claim_ms)
            };
            let offline_building = format!("{building}-offline");
            let offline = Draft {
                received_at_ms: now - hour_ms,
                ..event(kind, &offline_building, claim_ms - hour_ms)
            };
            let history_building = format!("{building}-history");
            let history = Draft {
                delivery: Delivery::History,
                ..event(kind, &history_building, claim_ms)
            };
            session.deliver(&[live, replayed, offline, history]).await?;
        }
    }
    // As an agent of today says it.
    let receipt = Draft {
        clock: ClockQuality::Receipt,
        device_time_ms: Some(now - 16 * MINUTE_MS),
        ..event("fire.alarm", "receipt", now_ms())
    };
    session.deliver(&[receipt]).await?;
    let told = notices(&mut hub).await?;
    for rule in ["fire", "forced"] {
        let warnings = hub.warnings(&format!("rule={rule}")).await?;
        let of = |building: &str| {
            let key = format!("{SITE}|{building}");
            let found = warnings
                .iter()
                .find(|warning| warning["key"] == key.as_str());
            found.map(|warning| {
                let told: Vec<&Value> = told
                    .iter()
                    .filter(|notice| notice["warning"] == warning["id"])
                    .collect();
                (
                    warning["late"] == true,
                    !warning["ack_due_ms"].is_null(),
                    told,
                )
            })
        };
        for (building, _) in claims {
            let (late, to_acknowledge, told) = of(building).context(building)?;
            assert_eq!(
                (late, to_acknowledge, told.len()),
                (false, true, 1),
                "{rule} {building}"
            );
            for way in ["replayed", "offline"] {
                let name = format!("{building}-{way}");
                let (late, to_acknowledge, told) = of(&name).with_context(|| name.clone())?;
                assert_eq!((late, to_acknowledge), (true, false), "{rule} {name}");
                // Of what is about life the desk is told all the same.
                assert_eq!(told.len(), usize::from(rule == "fire"), "{rule} {name}");
                for notice in told {
                    ensure!(
                        notice["late"] == true && notice["late_ms"].is_i64(),
                        "{notice}"
                    );
                }
            }
            assert!(
                of(&format!("{building}-history")).is_none(),
                "{rule} {building}"
            );
        }
    }
    // Receipt, claim, rule and delivery are shown.
    let (_, page) = hub.api("/api/v1/events?kind=fire.alarm&limit=1").await?;
    let shown = &page["items"][0];
    assert_eq!(
        (&shown["clock"], &shown["delivery"]),
        (&json!("receipt"), &json!("live"))
    );
    let claim: jiff::Timestamp = shown["device_time"].as_str().context("a claim")?.parse()?;
    assert_eq!(claim.as_millisecond(), now - 16 * MINUTE_MS);
    let text = run(hub
        .command()?
        .args(["events", "--kind", "fire.alarm", "--limit", "5"]))?;
    assert!(
        text.contains("设备称 device says") && text.contains("历史 history"),
        "{text}"
    );
    let text = run(hub.command()?.args(["warnings", "--limit", "50"]))?;
    assert!(text.contains("补报 late"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_claims_of_the_future_and_of_numbers_that_cannot_be_is_not_taken()
-> Result<()> {
    let directory = tempdir()?;
    let (mut hub, agent) = hub_and_agent(directory.path(), LEFT_OPEN, Vec::new(), NOBODY).await?;
    let mut session = HandMade::connect(&hub, &agent, SITE, 0, |_| {}).await?;
    session
        .deliver(&[event("door.opened", "B1", now_ms())])
        .await?;
    // The year 9999, and what is beyond all years.
    for watermark_ms in [253_402_300_799_000, i64::MAX] {
        session.beat(now_ms(), watermark_ms).await?;
    }
    let clamped =
        |claim: &str| format!("linli_hub_agent_claims_clamped_total{{claim=\"{claim}\"}}");
    until("the watermarks to be counted", async || {
        let counted = metric(&hub.metrics().await?, &clamped("watermark"));
        Ok((counted == Some(2.0)).then_some(()))
    })
    .await?;
    let (_, agents) = hub.api("/api/v1/agents").await?;
    let watermark_ms = agents["items"][0]["watermark_ms"]
        .as_i64()
        .context("a watermark")?;
    assert!(watermark_ms <= now_ms() + 5 * SECOND_MS, "{agents}");
    assert!(
        hub.warnings("").await?.is_empty(),
        "the door was opened a moment ago"
    );
    // As many as there are numbers, of an agent that had one event.
    let next = session.lose(1, u64::MAX).await?;
    assert!(next < 100_000_000, "{next} events are lost");
    assert_eq!(metric(&hub.metrics().await?, &clamped("lost")), Some(1.0));
    session
        .deliver(&[event("door.closed", "B1", now_ms())])
        .await?;

    // A range that ends before it begins is none.
    let mut session = HandMade::connect(&hub, &agent, SITE, next + 1, |_| {}).await?;
    assert!(session.lose(next + 9, next + 2).await.is_err());
    let closed = session.closed().await;
    assert!(closed.contains("ends before it begins"), "{closed}");
    // A hello that says that it had as many.
    let mut session = HandMade::connect(&hub, &agent, SITE, u64::MAX, |_| {}).await?;
    assert!(session.lose(next + 1, u64::MAX).await? <= 1 << 40);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_floods_and_plays_the_police_is_one_warning_and_opens_no_case() -> Result<()>
{
    let directory = tempdir()?;
    let rules =
        each("fire", "fire.alarm", "life", "") + &each("dispute", "dispute.reported", "life", "");
    let (mut hub, agent) = hub_and_agent(directory.path(), &rules, Vec::new(), NOBODY).await?;
    let mut session = HandMade::connect(&hub, &agent, SITE, 0, |_| {}).await?;
    let disputes = ["A", "B"].map(|building| event("dispute.reported", building, now_ms()));
    session.deliver(&disputes).await?;
    assert!(hub.warnings("rule=dispute").await?.is_empty());
    let withheld = metric(
        &hub.metrics().await?,
        "linli_hub_events_withheld_total{agent=\"gw-1\"}",
    );
    assert_eq!(withheld, Some(2.0));
    let text = run(hub
        .command()?
        .args(["events", "--kind", "dispute.reported"]))?;
    assert_eq!(text.matches("隔离 withheld").count(), 2, "{text}");

    let buildings: Vec<String> = (0..7_200).map(|number| format!("B{number}")).collect();
    for part in buildings.chunks(200) {
        let fires: Vec<Draft<'_>> = part
            .iter()
            .map(|building| event("fire.alarm", building, now_ms()))
            .collect();
        session.deliver(&fires).await?;
    }
    let held = hub.warnings("rule=agent.flood").await?;
    assert_eq!(held.len(), 1);
    assert_eq!(held[0]["severity"], "life");
    let raised = hub.warnings("rule=fire").await?.len() as i64;
    // A minute or two may have passed on a slow machine.
    assert!((60..=60 * 5).contains(&raised), "{raised}");
    assert_eq!(held[0]["hits"].as_i64(), Some(7_200 - raised));
    let reading = held[0]["reading"].as_str().context("what it holds")?;
    assert!(
        reading.starts_with(&format!("fire ×{}: ", 7_200 - raised)),
        "{reading}"
    );
    let told = notices(&mut hub).await?;
    let of_held = told
        .iter()
        .filter(|notice| notice["warning"] == held[0]["id"]);
    assert_eq!(of_held.count(), 1, "it is told once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_whose_clock_steps_goes_on_paging_and_holds_what_cannot_be_undone_until_it_is_trusted()
-> Result<()> {
    let directory = tempdir()?;
    let clock = SettableClock::new(directory.path())?;
    let rules = each("fire", "fire.alarm", "life", ", ack = \"1s\"") + LEFT_OPEN;
    let (mut hub, agent) =
        hub_and_agent(directory.path(), &rules, clock.wrapper.clone(), NOBODY).await?;
    let mut session = HandMade::connect(&hub, &agent, SITE, 0, |_| {}).await?;
    assert!(!session.welcome.clock_doubtful);
    session
        .deliver(&[event("door.opened", "B1", now_ms())])
        .await?;
    let (_, before) = hub.api("/api/v1/clock").await?;
    assert_eq!(before["doubtful"], false, "{before}");

    // Three years ahead at once.
    clock.set("+1095d")?;
    let stepped = "linli_hub_clock_doubtful{reason=\"stepped\"}";
    until("the step to be seen", async || {
        let doubtful = metric(&hub.metrics().await?, stepped);
        Ok((doubtful == Some(1.0)).then_some(()))
    })
    .await?;
    // Its tokens, and the certificates of agents, are good as before.
    let (status, clock) = hub.api("/api/v1/clock").await?;
    assert_eq!(
        (status, &clock["reason"]),
        (200, &json!("stepped")),
        "{clock}"
    );
    let mut session = HandMade::connect(&hub, &agent, SITE, 1, |_| {}).await?;
    assert!(session.welcome.clock_doubtful);
    assert!(
        (session.welcome.hub_ms - now_ms()).abs() < MINUTE_MS,
        "hub time goes on"
    );
    session
        .deliver(&[event("fire.alarm", "B1", now_ms())])
        .await?;
    let fire = hub.warnings("rule=fire").await?.pop().context("the fire")?;
    assert_eq!(fire["late"], false);
    assert_eq!(notices(&mut hub).await?.len(), 1);
    let url = format!("http://127.0.0.1:{}/health/readyz", hub.metrics_port);
    let ready = http().build()?.get(url).send().await?;
    assert_eq!(ready.status().as_u16(), 200);
    let said = ready.text().await?;
    assert!(said.contains("clock doubtful (stepped)"), "{said}");

    // Nobody acknowledges, and it is not passed on, though that is due.
    let due_ms = fire["ack_due_ms"].as_i64().context("a deadline")?;
    until("the deadline to pass by hub time", async || {
        let (_, clock) = hub.api("/api/v1/clock").await?;
        let now: jiff::Timestamp = clock["hub_time"].as_str().context("a time")?.parse()?;
        Ok((now.as_millisecond() > due_ms + 3 * SECOND_MS).then_some(()))
    })
    .await?;
    let id = fire["id"].as_i64().context("an id")?;
    assert_eq!(hub.warning(id).await?["escalations"], 0);

    let said = run(hub.command()?.arg("clock"))?;
    assert!(said.contains("linli-hub clock trust"), "{said}");
    let refused = hub.command()?.args(["retention", "run"]).output()?;
    assert_eq!(refused.status.code(), Some(77), "{refused:?}");
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(why.contains("linli-hub clock trust"), "{why}");
    run(hub.command()?.args(["retention", "run", "--dry-run"]))?;
    run(hub.command()?.args(["clock", "trust"]))?;
    until("the clock to be believed", async || {
        let doubtful = metric(&hub.metrics().await?, stepped);
        Ok((doubtful == Some(0.0)).then_some(()))
    })
    .await?;
    let audited = hub.audit("clock")?;
    assert_eq!(audited[0]["action"], "clock.trusted", "{audited:?}");
    // Now it is passed on.
    until("the fire to be passed on", async || {
        let listed = run(hub
            .command()?
            .args(["warnings", "--json", "--rule", "fire"]))?;
        let fire: Value = serde_json::from_str(listed.trim())?;
        Ok((fire["escalations"].as_i64() > Some(0)).then_some(()))
    })
    .await?;
    // The tokens of then are three years old now.
    let (status, _) = hub.api("/api/v1/clock").await?;
    assert_eq!(status, 401);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absence_is_not_decided_over_a_jump_of_the_hubs_clock() -> Result<()> {
    let directory = tempdir()?;
    let clock = SettableClock::new(directory.path())?;
    let (mut hub, agent) =
        hub_and_agent(directory.path(), LEFT_OPEN, clock.wrapper.clone(), NOBODY).await?;
    let mut session = HandMade::connect(&hub, &agent, SITE, 0, |_| {}).await?;
    session
        .deliver(&[event("door.opened", "B1", now_ms())])
        .await?;
    session.beat(now_ms(), now_ms()).await?;
    // An hour ahead, which somebody says is right.
    clock.set("+1h")?;
    until("the step to be seen", async || {
        let (_, clock) = hub.api("/api/v1/clock").await?;
        Ok((clock["doubtful"] == true).then_some(()))
    })
    .await?;
    run(hub.command()?.args(["clock", "trust"]))?;
    until("the clock to be believed", async || {
        let (_, clock) = hub.api("/api/v1/clock").await?;
        Ok((clock["doubtful"] == false).then_some(()))
    })
    .await?;
    let trusted_ms = now_ms() + 60 * MINUTE_MS;
    until(
        "the agent to have told everything by the new time",
        async || {
            session.beat(now_ms(), now_ms()).await?;
            let (_, agents) = hub.api("/api/v1/agents").await?;
            let watermark_ms = agents["items"][0]["watermark_ms"].as_i64();
            Ok((watermark_ms >= Some(trusted_ms)).then_some(()))
        },
    )
    .await?;
    assert!(
        hub.warnings("").await?.is_empty(),
        "the door was opened a moment ago"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_by_a_hub_whose_clock_was_put_back() -> Result<()> {
    let directory = tempdir()?;
    let receiver = Receiver::start().await?;
    let clock = SettableClock::new(directory.path())?;
    let rules = each("fire", "fire.alarm", "life", "");
    let (mut hub, agent) = hub_and_agent(
        directory.path(),
        &rules,
        clock.wrapper.clone(),
        receiver.port,
    )
    .await?;
    clock.set("-3h")?;
    until("the step to be seen", async || {
        let (_, clock) = hub.api("/api/v1/clock").await?;
        Ok((clock["reason"] == "stepped").then_some(()))
    })
    .await?;
    let mut session = HandMade::connect(&hub, &agent, SITE, 0, |_| {}).await?;
    session
        .deliver(&[event("fire.alarm", "B1", now_ms())])
        .await?;
    until("the desk to be told", async || {
        Ok((receiver.received("/desk").len() == 1).then_some(()))
    })
    .await?;
    let fire = hub.warnings("rule=fire").await?.pop().context("the fire")?;
    assert_eq!(fire["late"], false);
    let raised_ms = fire["raised_ms"].as_i64().context("a time")?;
    assert!((raised_ms - now_ms()).abs() < MINUTE_MS, "hub time goes on");
    Ok(())
}
