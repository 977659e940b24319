//! The rules, each once for all types.
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use linli_shared::protocol::event::{ClockQuality, Event};
use linli_tests::harness::{Equipped, SmallDisk, is_root, metric, now_ms, until};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

use super::device::{Alarm, Clock, Device, Place, ROOM, Said, Text};

/// For an answer that has to come.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// For one that must not: longer than it takes while the disk is good.
const NO_ANSWER_WITHIN: Duration = Duration::from_millis(1500);
/// How long ago alarms happen: no receipt is taken for it.
const AGO_S: i64 = 90;
/// Of the agent's disk: in all, what has to stay free of it, and what is left when it is full.
const DISK_MEGABYTES: u64 = 320;
const FREE_MIN: &str = "64MiB";
const LEFT_BYTES: u64 = 16 << 20;

/// A type of source with a device in each of two zones, and an agent that hears both.
struct Scene<D> {
    near: D,
    near_place: Place,
    far: D,
    far_place: Place,
    equipped: Equipped,
    /// That of the agent; `None` without root.
    disk: Option<SmallDisk>,
    /// Of the last alarm.
    number: u16,
}

/// All rules, one after the other.
pub async fn all<D: Device>() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let Some(mut scene) = Scene::<D>::start(directory.path()).await? else {
        return Ok(());
    };
    let kind = D::TYPE;
    let rule = |number: u32, what: &str| format!("{kind}, rule {number}: {what}");
    scene
        .raw_messages_are_kept()
        .await
        .with_context(|| rule(1, "the raw message is kept on the box"))?;
    scene.times_are_of_their_zone().await.with_context(|| {
        rule(
            2,
            "times without a zone are of the source's, beside the receipt",
        )
    })?;
    scene
        .what_is_said_again_is_stored_once()
        .await
        .with_context(|| rule(3, "what is said again is stored once"))?;
    // It takes as long as it takes: what came of it is looked at last.
    scene.far.hush()?;
    scene
        .garbage_costs_itself()
        .await
        .with_context(|| rule(5, "garbage costs itself"))?;
    scene
        .answers_wait_for_the_disk()
        .await
        .with_context(|| rule(6, "answered only when durable"))?;
    scene
        .text_is_utf8_or_gb18030()
        .await
        .with_context(|| rule(7, "text is UTF-8, else GB18030"))?;
    scene
        .who_is_silent_is_unknown()
        .await
        .with_context(|| rule(4, "who is silent is unknown"))?;
    Ok(())
}

impl<D: Device> Scene<D> {
    /// `None` where what plays the device is not installed.
    async fn start(directory: &Path) -> Result<Option<Self>> {
        let place = |name: &'static str, zone: &str| -> Result<Place> {
            let directory = directory.join(name);
            std::fs::create_dir_all(&directory)?;
            Ok(Place {
                name,
                zone: TimeZone::get(zone)?,
                directory,
            })
        };
        let near_place = place("near", "Asia/Shanghai")?;
        let far_place = place("far", "Asia/Tokyo")?;
        let (Some(near), Some(far)) = (D::start(&near_place).await?, D::start(&far_place).await?)
        else {
            return Ok(None);
        };
        let block = |device: &D, name: &str, more: &str| {
            format!(
                "[[source]]\nname = \"{name}\"\ntype = \"{}\"\nkeep_raw_for = \"1d\"\n{more}{}",
                D::TYPE,
                device.keys()
            )
        };
        let mut blocks = block(&near, "near", "silent_after = \"5m\"\n");
        let zone = match D::CLOCK {
            Clock::Local => "zone = \"Asia/Tokyo\"\n",
            // A zone would say nothing to them.
            Clock::Mapped | Clock::Utc | Clock::None(_) => "",
        };
        let more = format!("silent_after = \"{}\"\n{zone}", D::SILENT_AFTER);
        blocks += &block(&far, "far", &more);
        let disk = match is_root() {
            true => Some(SmallDisk::new(DISK_MEGABYTES)?),
            false => None,
        };
        let agent_directory = match &disk {
            Some(disk) => {
                blocks = format!("[spool]\nfree_min = \"{FREE_MIN}\"\n{blocks}");
                disk.path()
            }
            None => directory,
        };
        let files = [near.files(), far.files()].concat();
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        let equipped = Equipped::start_apart(directory, agent_directory, &blocks, &files).await?;
        let mut scene = Self {
            near,
            near_place,
            far,
            far_place,
            equipped,
            disk,
            number: 0,
        };
        scene.near.ready(&scene.equipped).await?;
        scene.far.ready(&scene.equipped).await?;
        Ok(Some(scene))
    }

    fn alarm(&mut self, zone: TimeZone, text: Text) -> Result<Alarm> {
        self.number += 1;
        Ok(Alarm {
            number: self.number,
            at: Timestamp::from_second(now_ms() / 1000 - AGO_S)?,
            zone,
            text,
        })
    }

    /// Another alarm of the near device.
    fn near_alarm(&mut self, text: Text) -> Result<Alarm> {
        self.alarm(self.near_place.zone.clone(), text)
    }

    /// The near device tells it, and is told that it is taken.
    async fn tell(&mut self, alarm: &Alarm) -> Result<Said> {
        let said = self.near.say(&self.equipped, alarm, ANSWER_DEADLINE);
        let said = said.await?;
        check_answer::<D>(&said, alarm)?;
        Ok(said)
    }

    /// The events at the hub that are of an alarm of the near device.
    async fn events(&self, alarm: &Alarm) -> Result<Vec<Event>> {
        let stored = self.equipped.stored("near").await?.into_iter();
        let events = stored.map(|stored| stored.event);
        Ok(events.filter(|event| self.near.is(alarm, event)).collect())
    }

    /// Waits for the event of an alarm of the near device.
    async fn event(&self, alarm: &Alarm) -> Result<Event> {
        let found = until("the alarm to be at the hub", async || {
            Ok(self.events(alarm).await?.pop())
        });
        found.await.with_context(|| self.shown("near"))
    }

    /// Waits until all that is stored is at the hub: an alarm is one event there.
    async fn is_stored_once(&self, alarm: &Alarm) -> Result<()> {
        self.equipped.agent.drained().await?;
        let events = self.events(alarm).await?;
        ensure!(events.len() == 1, "{events:#?}");
        Ok(())
    }

    fn shown(&self, source: &str) -> String {
        let standing = self.equipped.source(source).unwrap_or_default();
        let log = std::fs::read_to_string(self.equipped.agent.log()).unwrap_or_default();
        format!("{standing:#}\n{log}")
    }

    async fn raw_messages_are_kept(&mut self) -> Result<()> {
        let alarm = self.near_alarm(Text::None)?;
        let said = self.tell(&alarm).await?;
        self.event(&alarm).await?;
        let kept = self.equipped.agent.data().join("raw/near");
        let found = until("the message in the raw log", async || {
            Ok(kept_messages(&kept)?
                .iter()
                .any(|kept| contains(kept, &said.raw))
                .then_some(()))
        });
        found.await.with_context(|| {
            let shown = said.raw.escape_ascii();
            let kept: Vec<String> = kept_messages(&kept)
                .unwrap_or_default()
                .iter()
                .map(|kept| kept.escape_ascii().to_string())
                .collect();
            format!("{shown} is none of {kept:#?}")
        })
    }

    async fn times_are_of_their_zone(&mut self) -> Result<()> {
        let before_ms = now_ms();
        let alarm = self.near_alarm(Text::None)?;
        self.tell(&alarm).await?;
        let event = self.event(&alarm).await?;
        check_times::<D>(&alarm, &event, before_ms)?;
        // The same in another zone.
        let alarm = self.alarm(self.far_place.zone.clone(), Text::None)?;
        let said = self.far.say(&self.equipped, &alarm, ANSWER_DEADLINE);
        check_answer::<D>(&said.await?, &alarm)?;
        let event = until("the far alarm to be at the hub", async || {
            let stored = self.equipped.stored("far").await?.into_iter();
            let mut events = stored.map(|stored| stored.event);
            Ok(events.find(|event| self.far.is(&alarm, event)))
        });
        let event = event.await.with_context(|| self.shown("far"))?;
        check_times::<D>(&alarm, &event, before_ms)
    }

    async fn what_is_said_again_is_stored_once(&mut self) -> Result<()> {
        let alarm = self.near_alarm(Text::None)?;
        self.tell(&alarm).await?;
        self.event(&alarm).await?;
        let counted = |source: &Value| source[D::COUNTED].as_u64().unwrap_or_default();
        let before = counted(&self.equipped.source("near")?);
        self.tell(&alarm).await?;
        self.equipped
            .source_is("near", "the repetition to be counted", |source| {
                counted(source) > before
            })
            .await?;
        self.is_stored_once(&alarm).await
    }

    async fn who_is_silent_is_unknown(&mut self) -> Result<()> {
        // It was heard by its alarm, and not since.
        self.comes("device.offline", "device.online").await?;
        let source = self.equipped.source("far")?;
        ensure!(source["unknown"] == 1, "{source:#}");
        self.far.wake()?;
        let alarm = self.alarm(self.far_place.zone.clone(), Text::None)?;
        let said = self.far.say(&self.equipped, &alarm, ANSWER_DEADLINE);
        check_answer::<D>(&said.await?, &alarm)?;
        self.comes("device.online", "device.offline").await
    }

    /// Waits for an event of the far device's presence after the last one of another kind.
    async fn comes(&self, kind: &str, after: &str) -> Result<()> {
        let what = format!("{kind} after {after}");
        let found = until(&what, async || {
            let mut stored = self.equipped.stored("far").await?;
            stored.retain(|stored| [kind, after].contains(&stored.event.kind.as_str()));
            stored.sort_by_key(|stored| stored.sequence);
            let [.., before, last] = &stored[..] else {
                return Ok(None);
            };
            let is_told = last.event.kind == kind && before.event.kind == after;
            let is_unknown = last
                .event
                .attributes
                .get("state")
                .is_some_and(|state| state == "unknown");
            Ok((is_told && is_unknown == (kind == "device.offline")).then_some(()))
        });
        found.await.with_context(|| self.shown("far"))
    }

    async fn garbage_costs_itself(&mut self) -> Result<()> {
        let rejected = |source: &Value| source["rejected"].as_u64().unwrap_or_default();
        let before = rejected(&self.equipped.source("near")?);
        let (first, second) = (self.near_alarm(Text::None)?, self.near_alarm(Text::None)?);
        self.tell(&first).await?;
        let sample = self.near.garbage(&self.equipped).await?;
        self.tell(&second).await?;
        self.event(&first).await?;
        self.event(&second).await?;
        self.equipped
            .source_is(
                "near",
                "the garbage to be counted, with a sample",
                |source| {
                    rejected(source) > before && source["samples"].to_string().contains(sample)
                },
            )
            .await?;
        Ok(())
    }

    async fn answers_wait_for_the_disk(&mut self) -> Result<()> {
        if let Err(reason) = D::ANSWER {
            println!("{}, rule 6: no answer: {reason}", D::TYPE);
        }
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        let refused = async |scene: &Equipped| -> Result<f64> {
            let text = scene.agent.metrics().await?;
            let name = "linli_agent_source_messages_total{outcome=\"refused\",source=\"near\"}";
            Ok(metric(&text, name).unwrap_or_default())
        };
        let before = refused(&self.equipped).await?;
        let ballast = disk.filled(LEFT_BYTES)?;
        let alarm = self.near_alarm(Text::None)?;
        let said = self.near.say(&self.equipped, &alarm, NO_ANSWER_WITHIN);
        let said = said.await?;
        ensure!(!said.answered, "it was answered by a full disk");
        until("the spool to refuse", async || {
            Ok((refused(&self.equipped).await? > before).then_some(()))
        })
        .await
        .with_context(|| self.shown("near"))?;
        // There is room again: the device says the same again, or the agent has it still.
        drop(ballast);
        if D::REPEATS {
            let again = self.tell(&alarm).await?;
            ensure!(again.raw == said.raw, "another message");
        } else if let Ok(answer) = D::ANSWER {
            let answered = self.near.is_answered(ANSWER_DEADLINE).await;
            ensure!(answered, "no {answer} after there was room again");
        }
        self.event(&alarm).await?;
        self.is_stored_once(&alarm).await
    }

    async fn text_is_utf8_or_gb18030(&mut self) -> Result<()> {
        let attribute = match D::TEXT {
            Ok(attribute) => attribute,
            Err(reason) => {
                println!("{}, rule 7: {reason}", D::TYPE);
                return Ok(());
            }
        };
        for text in [Text::Utf8, Text::Gb18030] {
            let alarm = self.near_alarm(text)?;
            self.tell(&alarm).await?;
            let event = self.event(&alarm).await?;
            let told = event.attributes.get(attribute);
            ensure!(told.is_some_and(|told| told == ROOM), "{text:?}: {event:?}");
        }
        Ok(())
    }
}

fn check_answer<D: Device>(said: &Said, alarm: &Alarm) -> Result<()> {
    if let Ok(answer) = D::ANSWER {
        ensure!(said.answered, "no {answer} for {alarm:?}");
    }
    Ok(())
}

/// Both times of an event that was said after `before_ms`.
fn check_times<D: Device>(alarm: &Alarm, event: &Event, before_ms: i64) -> Result<()> {
    let received = before_ms..=now_ms();
    ensure!(received.contains(&event.received_at_ms), "{event:?}");
    match D::CLOCK {
        Clock::Local | Clock::Mapped | Clock::Utc => {
            ensure!(event.clock == ClockQuality::Device, "{event:?}");
            let at_ms = alarm.at.as_millisecond();
            ensure!(event.occurred_at_ms == at_ms, "{alarm:?}: {event:?}");
        }
        Clock::None(reason) => {
            println!("{}, rule 2: the time is the receipt's: {reason}", D::TYPE);
            ensure!(event.clock == ClockQuality::Agent, "{event:?}");
            ensure!(event.occurred_at_ms == event.received_at_ms, "{event:?}");
        }
    }
    Ok(())
}

/// The messages in the raw log of a source.
fn kept_messages(directory: &Path) -> Result<Vec<Vec<u8>>> {
    let mut messages = Vec::new();
    for file in std::fs::read_dir(directory)? {
        for line in std::fs::read_to_string(file?.path())?.lines() {
            let line: Value = serde_json::from_str(line)?;
            messages.push(match (line["raw"].as_str(), line["raw_base64"].as_str()) {
                (Some(text), _) => text.as_bytes().to_vec(),
                (None, Some(text)) => BASE64.decode(text)?,
                (None, None) => continue,
            });
        }
    }
    Ok(messages)
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
