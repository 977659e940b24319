//! Devices that the agent asks: cameras by ONVIF (`tests/peers/onvif_device.py`), registers by Modbus (pymodbus).
use anyhow::{Context, Result};
use linli_shared::protocol::event::Event;
use linli_tests::harness::{
    Equipped, ModbusDevice, ONVIF_PASSWORD, OnvifDevice, peers_python, until, until_within,
};
use std::time::Duration;

use super::device::{Alarm, Clock, Device, GARBAGE, Place, Said};

pub struct Camera {
    device: OnvifDevice,
    place: Place,
}

impl Camera {
    /// Waits until the agent is subscribed: what is told before goes nowhere.
    async fn is_heard(&self) -> Result<()> {
        until("a subscription of the agent", async || {
            let standing = self.device.control("seen").await?;
            Ok((standing["subscriptions"] == 1).then_some(()))
        })
        .await
    }
}

impl Device for Camera {
    const TYPE: &'static str = "onvif";
    const CLOCK: Clock = Clock::Utc;
    const ANSWER: Result<&'static str, &'static str> = Ok("the next PullMessages");
    const TEXT: Result<&'static str, &'static str> = Ok("rule");
    const REPEATS: bool = false;
    /// A PullMessages may wait for twenty seconds.
    const SILENT_AFTER: &'static str = "21s";

    async fn start(place: &Place) -> Result<Option<Self>> {
        let Some(python) = peers_python() else {
            return Ok(None);
        };
        let device = OnvifDevice::start(&python, &place.directory, 0).await?;
        let place = place.clone();
        Ok(Some(Self { device, place }))
    }

    fn keys(&self) -> String {
        format!(
            "password_file = \"secrets/cameras\"\n[[source.device]]\nid = \"{}\"\naddress = \"127.0.0.1:{}\"\n",
            self.place.name, self.device.port
        )
    }

    fn files(&self) -> Vec<(String, String)> {
        vec![("secrets/cameras".to_owned(), ONVIF_PASSWORD.to_owned())]
    }

    async fn ready(&mut self, _scene: &Equipped) -> Result<()> {
        self.is_heard().await
    }

    async fn say(&mut self, _scene: &Equipped, alarm: &Alarm, wait: Duration) -> Result<Said> {
        self.is_heard().await?;
        self.device
            .control(&format!("encoding {}", alarm.encoding()))
            .await?;
        let rule = match alarm.words() {
            "" => "-",
            words => words,
        };
        let line = format!(
            "told {} {rule} RuleEngine/LineDetector/Crossed ObjectId {}",
            alarm.at, alarm.number
        );
        let said = self.device.control(&line).await?;
        let said = said["said"].as_str().context("what was said")?;
        let begin = said.find("<tt:Message").context("a message")?;
        let end = said.find("</wsnt:Message>").context("its end")?;
        Ok(Said {
            answered: self.is_answered(wait).await,
            raw: said.as_bytes()[begin..end].to_vec(),
        })
    }

    async fn is_answered(&mut self, wait: Duration) -> bool {
        let answered = until_within(wait, "the next pull", async || {
            let standing = self.device.control("seen").await?;
            let handed_over = standing["waiting"] == 0;
            Ok((handed_over && standing["pulls"].as_u64() > Some(0)).then_some(()))
        });
        answered.await.is_ok()
    }

    async fn garbage(&mut self, _scene: &Equipped) -> Result<&'static str> {
        let made = self.device.control("seen").await?["made"].as_u64();
        self.device
            .control(&format!("raw !{GARBAGE} that is no XML <"))
            .await?;
        // The session ends, and its subscription with it; what is told before the next one goes nowhere.
        until("the next subscription", async || {
            let standing = self.device.control("seen").await?;
            Ok((standing["made"].as_u64() > made).then_some(()))
        })
        .await?;
        Ok(GARBAGE)
    }

    fn is(&self, alarm: &Alarm, event: &Event) -> bool {
        let end = format!(" {}", alarm.number);
        event.kind == "camera.line_crossed" && event.source_id.ends_with(&end)
    }

    fn hush(&mut self) -> Result<()> {
        self.device.process.freeze()
    }

    fn wake(&mut self) -> Result<()> {
        self.device.process.thaw()
    }
}

const MAP: &str = r#"
schema = 1
[[point]]
name = "temperature"
area = "holding"
address = 0
type = "i16"
scale = 0.1
valid = [-40.0, 200.0]
repeat = { count = 40, stride = 1 }
[[point.alarm]]
above = 70.0
clear = 60.0
kind = "pile.overheat"
restored = "pile.restored"
severity = "alarm"
"#;

/// What no sensor measures.
const BROKEN: &str = "3276.7";

pub struct Pile {
    device: ModbusDevice,
    place: Place,
}

impl Device for Pile {
    const TYPE: &'static str = "modbus";
    const CLOCK: Clock = Clock::None("registers have no time");
    const ANSWER: Result<&'static str, &'static str> = Err(
        "who is asked is not answered: what is not durable is not known, and told at the next poll",
    );
    const TEXT: Result<&'static str, &'static str> = Err("registers are numbers, there is no text");
    const REPEATS: bool = false;
    /// A poll that finds all as it was is a sign of life.
    const COUNTED: &'static str = "heartbeats";

    async fn start(place: &Place) -> Result<Option<Self>> {
        let Some(python) = peers_python() else {
            return Ok(None);
        };
        let device = ModbusDevice::start(&python, &place.directory).await?;
        let place = place.clone();
        Ok(Some(Self { device, place }))
    }

    fn keys(&self) -> String {
        format!(
            "[[source.device]]\nid = \"{}\"\naddress = \"127.0.0.1:{}\"\nevery = \"100ms\"\nmap = \"pile.toml\"\n",
            self.place.name, self.device.port
        )
    }

    fn files(&self) -> Vec<(String, String)> {
        vec![("pile.toml".to_owned(), MAP.to_owned())]
    }

    async fn ready(&mut self, scene: &Equipped) -> Result<()> {
        scene
            .source_is(self.place.name, "the pile to be read", |source| {
                source["online"] == 1
            })
            .await?;
        Ok(())
    }

    async fn say(&mut self, _scene: &Equipped, alarm: &Alarm, _wait: Duration) -> Result<Said> {
        // 80 °C and a little, at a pile of its own.
        let value = 800 + alarm.number;
        self.device.set(1, "holding", alarm.number - 1, value)?;
        Ok(Said {
            answered: false,
            raw: format!("{value:04x}").into_bytes(),
        })
    }

    async fn garbage(&mut self, scene: &Equipped) -> Result<&'static str> {
        self.device.set(1, "holding", 39, 0x7fff)?;
        // It stands until the next poll has found it.
        scene
            .source_is(self.place.name, "the value to be read", |source| {
                source["samples"].to_string().contains(BROKEN)
            })
            .await?;
        self.device.set(1, "holding", 39, 0)?;
        Ok(BROKEN)
    }

    fn is(&self, alarm: &Alarm, event: &Event) -> bool {
        let device = format!("{}/{}", self.place.name, alarm.number);
        event.kind == "pile.overheat" && event.device == device
    }

    fn hush(&mut self) -> Result<()> {
        self.device.process.freeze()
    }

    fn wake(&mut self) -> Result<()> {
        self.device.process.thaw()
    }
}
