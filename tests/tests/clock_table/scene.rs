//! A hub, an agent and a desk, and what became of what devices said.
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use linli_shared::protocol::event::ClockQuality;
use linli_tests::harness::{
    Agent, AgentSetup, Hub, MINUTE_MS, Receiver, SECOND_MS, SettableClock, desk_hub, each_by,
    metric, now_ms, told, until,
};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

use super::table::{At, GARBAGE, Message, Row, Said, Way};

const SITE: &str = "yuyuan";
/// How far the time that an event is given may be from when it happened: a message takes its time, and devices say seconds.
const NEAR_MS: i64 = 5 * SECOND_MS;

/// The rules of the desk, one a kind: these are about life.
fn rules(about_life: &[&str]) -> String {
    let rule = |kind: &str, severity| {
        let key = ["building", "device"];
        each_by(&rule_of(kind), kind, &key, severity, ", ack = \"1h\"")
    };
    let life = about_life.iter().map(|kind| rule(kind, "life"));
    life.chain([rule("door.forced", "alarm")]).collect()
}

/// The rule of a kind.
fn rule_of(kind: &str) -> String {
    kind.replace('.', "-")
}

/// What was said, and since when it can have been received.
struct Spoken {
    key: String,
    message: Message,
    from_ms: i64,
}

/// All of it runs.
pub struct Scene {
    pub hub: Hub,
    pub agent: Agent,
    pub desk: Receiver,
    spoken: Vec<Spoken>,
    number: u32,
    /// The devices of pushes that were not heard before have another one.
    pub round: u32,
}

impl Scene {
    /// A hub with a desk that runs, and an agent with these blocks that has joined. Both hub and agent may have clocks of
    /// their own.
    pub async fn new(
        directory: &Path,
        about_life: &[&str],
        blocks: &str,
        files: &[(String, String)],
        hub_clock: Option<&SettableClock>,
    ) -> Result<Self> {
        let desk = Receiver::start().await?;
        let wrapper = hub_clock.map(|clock| clock.wrapper.clone());
        let mut hub = desk_hub(
            &directory.join("hub"),
            &rules(about_life),
            wrapper.unwrap_or_default(),
            desk.port,
        )?;
        // Else these many alarms of a minute are one warning.
        hub.configure("[warnings]\nper_agent_minute = 10000\n")?;
        hub.start().await?;
        let home = directory.join("gw-1");
        for (name, text) in files {
            let path = home.join(name);
            std::fs::create_dir_all(path.parent().context("a directory")?)?;
            std::fs::write(path, text)?;
        }
        let hub_address = format!("127.0.0.1:{}", hub.port);
        let agent = Agent::new(&AgentSetup {
            directory: &home,
            name: "gw-1",
            site: SITE,
            hub_address: hub_address.clone(),
            listen: "127.0.0.1",
            more: blocks,
        })?;
        agent.join(&hub, &hub_address, SITE)?;
        Ok(Self {
            hub,
            agent,
            desk,
            spoken: Vec::new(),
            number: 0,
            round: 0,
        })
    }

    /// Starts the agent and waits until its clock is vouched for.
    pub async fn start_agent(&mut self) -> Result<()> {
        self.agent.start().await?;
        until("the hub to vouch for the agent's clock", async || {
            let is_set = metric(&self.agent.metrics().await?, "linli_agent_clock_set");
            Ok((is_set == Some(1.0)).then_some(()))
        })
        .await
    }

    /// Waits until a source of the agent listens, or is connected.
    pub async fn connected(&self, source: &str) -> Result<()> {
        until(&format!("{source} to listen"), async || {
            let status = self.agent.status()?;
            let sources = status["sources"].as_array().context("sources")?;
            let found = sources.iter().find(|found| found["name"] == source);
            Ok(found.and_then(|found| (!found["connected"].is_null()).then_some(())))
        })
        .await
    }

    /// The next message of a device; what is replayed happened so long ago.
    pub fn next(&mut self, row: &'static Row, way: Way, replayed_ms: i64) -> Message {
        self.number += 1;
        Message::new(row, way, self.number, replayed_ms)
    }

    /// Records that a message was said since then. `key`: kind, building and device.
    pub fn was_said(&mut self, (kind, place): (&str, String), message: Message, from_ms: i64) {
        self.spoken.push(Spoken {
            key: format!("{}|{place}", rule_of(kind)),
            message,
            from_ms,
        });
    }

    /// How many events wait for the hub.
    pub fn waiting(&self) -> Result<u64> {
        let status = self.agent.status()?;
        let lanes = status["lanes"].as_array().context("lanes")?;
        Ok(lanes
            .iter()
            .filter_map(|lane| lane["events"].as_u64())
            .sum())
    }

    /// Waits until so many events wait for the hub.
    pub async fn has_waiting(&self, count: u64) -> Result<()> {
        until(&format!("{count} events to wait for the hub"), async || {
            Ok((self.waiting()? >= count).then_some(()))
        })
        .await
    }

    /// The hub comes back, and it is an hour later, for it and for the agent.
    pub async fn hub_is_back_an_hour_later(&mut self, clock: &SettableClock) -> Result<()> {
        clock.set("+1h")?;
        self.hub.trust_clock()?;
        self.hub.start().await
    }

    /// The events at the hub, oldest first.
    pub async fn events(&mut self) -> Result<Vec<Value>> {
        let mut found = Vec::new();
        let first = "/api/v1/events?limit=500";
        let mut path = first.to_owned();
        loop {
            let (status, mut page) = self.hub.api(&path).await?;
            ensure!(status == 200, "{page}");
            found.append(page["items"].as_array_mut().context("items")?);
            match page["next"].as_str() {
                Some(next) => path = format!("{first}&cursor={next}"),
                None => break,
            }
        }
        found.reverse();
        Ok(found)
    }

    /// Waits until all that was said is at the hub, and looks whether each is one event of the right time and quality, and one
    /// warning that the desk was told of once, at once or as 补报.
    pub async fn judge(&mut self) -> Result<()> {
        self.agent.drained().await?;
        let wanted = self
            .spoken
            .iter()
            .filter(|spoken| spoken.message.is_told())
            .count();
        let desk = &self.desk;
        let all_told = until("the desk to be told", async || {
            let count = told(desk)?.len();
            Ok((count >= wanted).then_some(()))
        })
        .await;
        let mut events: HashMap<String, Vec<Value>> = HashMap::new();
        let told = told(desk)?;
        for event in self.events().await? {
            events.entry(key_of(&event)).or_default().push(event);
        }
        let mut warnings: HashMap<String, Vec<Value>> = HashMap::new();
        for warning in self.hub.warnings("").await? {
            let text = |name: &str| warning[name].as_str().unwrap_or_default();
            let key = format!("{}|{}", text("rule"), text("key"));
            warnings.entry(key).or_default().push(warning);
        }
        let mut wrong = Vec::new();
        for spoken in &self.spoken {
            let of_key = |found: &HashMap<String, Vec<Value>>| {
                found.get(&spoken.key).cloned().unwrap_or_default()
            };
            let (events, warnings) = (of_key(&events), of_key(&warnings));
            let verdict = spoken
                .is_one_event(&events)
                .and_then(|()| spoken.is_told_once(&warnings, &told));
            if let Err(error) = verdict {
                let Spoken { key, message, .. } = spoken;
                wrong.push(format!("{key}: {error:#}\n  {message:?}\n  {events:?}"));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        all_told
    }

    /// Looks whether the devices of these rows that are off were told of once, in words, by this source, and no others.
    pub async fn clocks_are_told(
        &mut self,
        source: &str,
        rows: impl Iterator<Item = (&'static Row, String)>,
    ) -> Result<()> {
        let events = self.events().await?;
        let metrics = self.agent.metrics().await?;
        let fields = format!(
            "linli_agent_source_rejected_fields_total{{field=\"time\",source=\"{source}\"}}"
        );
        let rejected = metric(&metrics, &fields);
        ensure!(
            rejected > Some(0.0),
            "{source}: no rejected time is counted"
        );
        for (row, device) in rows {
            let of = |kind: &str| -> Vec<&Value> {
                let of_row = events.iter().filter(|event| {
                    event["kind"] == kind
                        && event["source"] == source
                        && event["device"] == device.as_str()
                });
                of_row.collect()
            };
            let (off, restored) = (of("device.clock"), of("device.clock_restored"));
            let words = off
                .iter()
                .map(|event| event["attributes"]["reason"].as_str());
            let words: Vec<&str> = words.flatten().collect();
            let right = match row.told {
                Some(part) => words.len() == 1 && words[0].contains(part),
                None => words.is_empty(),
            };
            ensure!(
                right && restored.len() == usize::from(row.restored),
                "{source} {device}: {words:?}, {restored:?}"
            );
        }
        Ok(())
    }
}

fn key_of(event: &Value) -> String {
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    let building = event["place"]["building"].as_str().unwrap_or_default();
    format!("{}|{building}|{}", rule_of(text("kind")), text("device"))
}

fn ms(time: &Value) -> Result<i64> {
    let time: Timestamp = time.as_str().context("a time")?.parse()?;
    Ok(time.as_millisecond())
}

impl Spoken {
    fn is_one_event(&self, events: &[Value]) -> Result<()> {
        let [event] = events else {
            anyhow::bail!("{} events", events.len());
        };
        let message = &self.message;
        let delivery = match message.is_replayed() {
            true => "replayed",
            false => "live",
        };
        ensure!(event["delivery"] == delivery, "{}", event["delivery"]);
        let Some(verdict) = message.verdict else {
            return Ok(());
        };
        let (occurred_ms, received_ms) = (ms(&event["occurred_at"])?, ms(&event["received_at"])?);
        let received = self.from_ms - NEAR_MS..=now_ms() + NEAR_MS;
        ensure!(received.contains(&received_ms), "received_at");
        let quality = verdict.clock.as_str();
        let is_any = verdict.clock == ClockQuality::Other;
        ensure!(
            is_any || event["clock"] == quality,
            "{}, not {quality}",
            event["clock"]
        );
        let (wanted_ms, off_ms) = match (verdict.at, message.said) {
            (At::Claim, Said::Ms(claim_ms)) => (claim_ms, message.near_ms),
            (At::Claim, _) => anyhow::bail!("there is no claim"),
            (At::Receipt, _) => (received_ms, 0),
            (At::Then, _) => (message.then_ms, NEAR_MS),
        };
        ensure!(
            occurred_ms.abs_diff(wanted_ms) <= off_ms.unsigned_abs(),
            "occurred_at is {} ms off",
            occurred_ms - wanted_ms
        );
        // The claim stays, whatever is decided.
        match message.said {
            Said::Ms(claim_ms) => {
                let off_ms = ms(&event["device_time"])? - claim_ms;
                ensure!(
                    (0..=message.near_ms).contains(&off_ms),
                    "device_time is {off_ms} ms off"
                );
            }
            Said::Nothing => ensure!(event["device_time"].is_null(), "device_time"),
            Said::Garbage => {
                let text = event["attributes"]["device_time"].as_str();
                ensure!(text.is_some_and(|text| !text.is_empty()), "the text");
                if text.is_some_and(|text| text.contains(' ')) {
                    ensure!(text == Some(GARBAGE), "the text is {text:?}");
                }
            }
        }
        Ok(())
    }

    fn is_told_once(&self, warnings: &[Value], told: &[Value]) -> Result<()> {
        let [warning] = warnings else {
            anyhow::bail!("{} warnings", warnings.len());
        };
        let told: Vec<&Value> = told
            .iter()
            .filter(|notice| notice["warning"] == warning["id"])
            .collect();
        let count = usize::from(self.message.is_told());
        ensure!(told.len() == count, "told {} times", told.len());
        let is_late = self.message.is_late();
        // What is 补报 is not passed on, and says its age.
        ensure!(warning["late"] == is_late, "{warning}");
        ensure!(warning["ack_due_ms"].is_null() == is_late, "{warning}");
        let Some(notice) = told.first() else {
            return Ok(());
        };
        ensure!(notice["late"] == is_late, "{notice}");
        ensure!(notice["late_ms"].is_i64() == is_late, "{notice}");
        if self.message.way == Way::Offline {
            let late_ms = notice["late_ms"].as_i64().unwrap_or_default();
            let age = 60 * MINUTE_MS..62 * MINUTE_MS;
            ensure!(age.contains(&late_ms), "{late_ms} ms old");
        }
        Ok(())
    }
}
