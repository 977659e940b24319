//! Door controllers of Hikvision: each row is one, on an address of its own. Their events come on a stream, and from their
//! memory when they are asked for what was missed.
use anyhow::Result;
use linli_tests::harness::{DEVICE_PASSWORD, EventDevice, SECOND_MS, now_ms};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

use super::scene::Scene;
use super::table::{AGO_MS, Message, Row, TABLE, Way};

/// The source.
pub const SOURCE: &str = "controllers";

/// All of them.
pub struct Doors(pub EventDevice);

/// The devices of all rows, those that are not heard live after those that are.
fn devices() -> Vec<String> {
    let heard = TABLE.iter().map(|row| row.device.to_owned());
    let unheard = TABLE.iter().map(|row| format!("{}-unheard", row.device));
    heard.chain(unheard).collect()
}

/// The address of a device.
fn address(device: &str) -> String {
    let place = devices().iter().position(|known| known == device);
    format!("127.0.1.{}", place.map_or(0, |place| place + 1))
}

/// The number of the door is that of the message, so that each is a part of its own.
fn key(message: &Message) -> (&'static str, String) {
    let device = message.device();
    (
        "fire.alarm",
        format!("{device}|{device}/{}", message.number),
    )
}

impl Doors {
    pub async fn start(directory: &Path, python: &Path) -> Result<Self> {
        let device = EventDevice::start(directory, python, "hikvision", &[]).await?;
        Ok(Self(device))
    }

    /// The blocks of the agent's config.
    pub fn blocks(&self, more: &str) -> Result<String> {
        let mut blocks = String::new();
        for device in devices() {
            writeln!(
                blocks,
                "[[device]]\nid = \"{device}\"\nbuilding = \"{device}\""
            )?;
        }
        write!(
            blocks,
            "[[source]]\nname = \"{SOURCE}\"\ntype = \"hikvision\"\npassword_file = \"secrets/device\"\n{more}\n"
        )?;
        for device in devices() {
            writeln!(
                blocks,
                "[[source.device]]\nid = \"{device}\"\naddress = \"{}:{}\"\nparts = true",
                address(&device),
                self.0.port
            )?;
        }
        Ok(blocks)
    }

    pub fn files() -> (String, String) {
        ("secrets/device".to_owned(), DEVICE_PASSWORD.to_owned())
    }

    /// Waits until all of them are heard.
    pub async fn are_heard(&self) -> Result<()> {
        self.0.has_streams(devices().len() as u64).await
    }

    /// Says an alarm of every row that has a message of this way, each on its own stream.
    pub async fn say(&self, scene: &mut Scene, way: Way) -> Result<()> {
        for row in TABLE {
            if !matches!(way, Way::Live(step) if step >= row.live.len()) {
                self.say_one(scene, row, way).await?;
            }
        }
        Ok(())
    }

    /// Every row says the last of its live messages again.
    pub async fn say_last(&self, scene: &mut Scene) -> Result<()> {
        for row in TABLE {
            let last = Way::Live(row.live.len() - 1);
            self.say_one(scene, row, last).await?;
        }
        Ok(())
    }

    /// Says an alarm of every row while the hub is away; each waits for it in the agent.
    pub async fn say_offline(&self, scene: &mut Scene) -> Result<()> {
        let count = scene.waiting()? + TABLE.len() as u64;
        self.say(scene, Way::Offline).await?;
        scene.has_waiting(count).await
    }

    /// Each has an alarm in its memory that it has told nobody.
    pub async fn remember(&self, scene: &mut Scene) -> Result<()> {
        let mut memory = serde_json::Map::new();
        for row in TABLE {
            for way in [Way::Replayed, Way::Unheard] {
                // Who knows nothing of a clock asks for what it calls the last minutes.
                if way == Way::Unheard && ["slow-8h", "slow-8d", "1970"].contains(&row.device) {
                    continue;
                }
                let message = scene.next(row, way, SECOND_MS);
                let found = json!([remembered(&message)?]);
                memory.insert(address(&message.device()), found);
                scene.was_said(key(&message), message, now_ms());
            }
        }
        let memory = Value::Object(memory).to_string();
        self.0.control("events", memory).await?;
        Ok(())
    }

    async fn say_one(&self, scene: &mut Scene, row: &'static Row, way: Way) -> Result<()> {
        let message = scene.next(row, way, AGO_MS);
        let body = alarm(&message)?.to_string();
        let part = format!(
            "--boundary\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}\r\n",
            body.len()
        );
        let from_ms = now_ms();
        let what = format!("say?device={}", address(&message.device()));
        self.0.control(&what, part).await?;
        scene.was_said(key(&message), message, from_ms);
        Ok(())
    }
}

/// Somebody has pushed the button of a fire door.
fn alarm(message: &Message) -> Result<Value> {
    let mut alarm = json!({
        "eventType": "AccessControllerEvent", "eventState": "active",
        "AccessControllerEvent": {
            "majorEventType": 1, "subEventType": 0x418, "doorNo": message.number, "serialNo": message.number,
            "currentEvent": !message.is_replayed(),
        },
    });
    if let Some(time) = message.text("%Y-%m-%dT%H:%M:%S%:z")? {
        alarm["dateTime"] = time.into();
    }
    Ok(alarm)
}

/// The same as it is found in the memory of the controller.
fn remembered(message: &Message) -> Result<Value> {
    let mut row = json!({
        "major": 1, "minor": 0x418, "doorNo": message.number, "serialNo": message.number,
        "currentVerifyMode": "invalid",
    });
    if let Some(time) = message.text("%Y-%m-%dT%H:%M:%S%:z")? {
        row["time"] = time.into();
    }
    Ok(row)
}
