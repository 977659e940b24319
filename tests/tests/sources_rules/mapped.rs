//! What mappings read: sensors behind a real MQTT broker, and platforms that push.
use anyhow::Result;
use linli_shared::protocol::event::Event;
use linli_tests::harness::{BROKER_PASSWORD, Broker, Equipped, until_within};
use serde_json::json;
use std::time::Duration;

use super::device::{Alarm, Clock, Device, GARBAGE, Place, Said};

/// A mapping of messages that begin at `root`. That of the near device says nothing of the zone.
fn mapping(place: &Place, root: &str, device: &str) -> String {
    let zone = match place.name {
        "near" => String::new(),
        _ => format!(
            "zone = \"{}\"\n",
            place.zone.iana_name().unwrap_or_default()
        ),
    };
    format!(
        "schema = 1\nid = \"{root}/id\"\ndevice = {device}\n\
         [kind]\npointer = \"{root}/type\"\ntable = {{ \"smoke\" = \"smoke.alarm\" }}\n\
         [severity]\nvalue = \"life\"\n\
         [occurred_at]\npointer = \"{root}/time\"\nformats = [\"%Y-%m-%d %H:%M:%S\"]\n{zone}\
         [attributes.text]\npointer = \"{root}/text\"\npurpose = \"where it is\"\n"
    )
}

fn message(alarm: &Alarm) -> Vec<u8> {
    let text = json!({
        "id": format!("alarm-{}", alarm.number), "type": "smoke", "text": alarm.words(),
        "time": alarm.local().strftime("%Y-%m-%d %H:%M:%S").to_string(), "device": "sensor",
    });
    alarm.encoded(&text.to_string())
}

fn is(alarm: &Alarm, event: &Event) -> bool {
    event.kind == "smoke.alarm" && event.source_id == format!("alarm-{}", alarm.number)
}

/// A sensor behind a broker of its own.
pub struct Sensor {
    broker: Broker,
    /// What the agent had acknowledged before the last alarm.
    acknowledged: usize,
    place: Place,
}

impl Sensor {
    fn client(&self) -> String {
        format!("linli-{}", self.place.name)
    }
}

impl Device for Sensor {
    const TYPE: &'static str = "mqtt";
    const CLOCK: Clock = Clock::Mapped;
    const ANSWER: Result<&'static str, &'static str> = Ok("PUBACK");
    const TEXT: Result<&'static str, &'static str> = Ok("text");
    const REPEATS: bool = false;

    async fn start(place: &Place) -> Result<Option<Self>> {
        let Some(mut broker) = Broker::new(&place.directory.join("broker"))? else {
            return Ok(None);
        };
        broker.start().await?;
        let place = place.clone();
        Ok(Some(Self {
            broker,
            acknowledged: 0,
            place,
        }))
    }

    fn keys(&self) -> String {
        format!(
            "client_id = \"{}\"\n{}[[source.topic]]\nfilter = \"sensors/+\"\nmappings = [\"{}.toml\"]\n",
            self.client(),
            self.broker.keys(),
            self.place.name
        )
    }

    fn files(&self) -> Vec<(String, String)> {
        let device = "\"/levels/1\"";
        vec![
            ("secrets/broker".to_owned(), BROKER_PASSWORD.to_owned()),
            (
                format!("{}.toml", self.place.name),
                mapping(&self.place, "/payload", device),
            ),
        ]
    }

    async fn ready(&mut self, scene: &Equipped) -> Result<()> {
        scene.connected(self.place.name).await
    }

    async fn say(&mut self, _scene: &Equipped, alarm: &Alarm, wait: Duration) -> Result<Said> {
        let raw = message(alarm);
        self.acknowledged = self.broker.acknowledged(&self.client())?;
        let topic = format!("sensors/{}", self.place.name);
        self.broker.publish(&topic, &raw, &[])?;
        let answered = self.is_answered(wait).await;
        Ok(Said { answered, raw })
    }

    async fn is_answered(&mut self, wait: Duration) -> bool {
        let answered = until_within(wait, "the agent's PUBACK", async || {
            let acknowledged = self.broker.acknowledged(&self.client())?;
            Ok((acknowledged > self.acknowledged).then_some(()))
        });
        answered.await.is_ok()
    }

    async fn garbage(&mut self, _scene: &Equipped) -> Result<&'static str> {
        let bytes = [&b"\xff\xff\xff "[..], GARBAGE.as_bytes()].concat();
        self.acknowledged = self.broker.acknowledged(&self.client())?;
        self.broker.publish("sensors/garbage", &bytes, &[])?;
        // Else the next message may take this PUBACK for its own.
        anyhow::ensure!(
            self.is_answered(Duration::from_secs(20)).await,
            "garbage has no PUBACK"
        );
        Ok(GARBAGE)
    }

    fn is(&self, alarm: &Alarm, event: &Event) -> bool {
        is(alarm, event)
    }
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A platform that pushes of one device.
pub struct Platform {
    place: Place,
}

impl Device for Platform {
    const TYPE: &'static str = "push";
    const CLOCK: Clock = Clock::Mapped;
    const ANSWER: Result<&'static str, &'static str> = Ok("HTTP 200");
    const TEXT: Result<&'static str, &'static str> = Ok("text");
    const REPEATS: bool = true;

    async fn start(place: &Place) -> Result<Option<Self>> {
        let place = place.clone();
        Ok(Some(Self { place }))
    }

    fn keys(&self) -> String {
        format!(
            "mapping = \"{}.toml\"\ntoken_file = \"secrets/token\"\n",
            self.place.name
        )
    }

    fn files(&self) -> Vec<(String, String)> {
        let device = format!("{{ value = \"{}\" }}", self.place.name);
        vec![
            ("secrets/token".to_owned(), TOKEN.to_owned()),
            (
                format!("{}.toml", self.place.name),
                mapping(&self.place, "", &device),
            ),
        ]
    }

    async fn say(&mut self, scene: &Equipped, alarm: &Alarm, wait: Duration) -> Result<Said> {
        let raw = message(alarm);
        let pushed = scene.agent.push_raw(self.place.name, TOKEN, raw.clone());
        let answered = match tokio::time::timeout(wait, pushed).await {
            Ok(answer) => answer?.status == 200,
            Err(_) => false,
        };
        Ok(Said { answered, raw })
    }

    async fn garbage(&mut self, scene: &Equipped) -> Result<&'static str> {
        let pushed = scene
            .agent
            .push_raw(self.place.name, TOKEN, GARBAGE.into())
            .await?;
        anyhow::ensure!(pushed.status == 400, "{pushed:?}");
        Ok(GARBAGE)
    }

    fn is(&self, alarm: &Alarm, event: &Event) -> bool {
        is(alarm, event)
    }
}
