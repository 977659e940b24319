//! Devices that the agent connects to: recorders of Dahua, sensors behind a broker, cameras by ONVIF.
use anyhow::{Result, ensure};
use linli_tests::harness::{
    BROKER_PASSWORD, Broker, DEVICE_PASSWORD, EventDevice, ONVIF_PASSWORD, OnvifDevice, SECOND_MS,
    until,
};
use serde_json::json;
use std::fmt::Write;
use std::path::Path;

use super::peer::{Peer, named, number, places};
use super::table::{self, Message, Row, Said, Way};

/// Recorders of Dahua, each on an address of its own.
pub struct Dahua(EventDevice);

impl Dahua {
    pub async fn start(directory: &Path, python: &Path) -> Result<Self> {
        let device = EventDevice::start(directory, python, "dahua", &[]).await?;
        Ok(Self(device))
    }
}

impl Peer for Dahua {
    const SOURCE: &'static str = "dahua";
    const KINDS: &'static [&'static str] = &["panic.alarm"];
    const ROWS: &'static [&'static str] = &[
        "right",
        "slow-16m",
        "slow-8h",
        "slow-8d",
        "ahead-3y",
        "1970",
        "drifting",
        "stepped",
        "no-time",
        "unreadable",
    ];
    const REPLAYED: Option<Way> = Some(Way::Replayed);

    fn blocks(&self) -> Result<String> {
        let mut blocks = places::<Self>();
        blocks.push_str(
            "[[source]]\nname = \"dahua\"\ntype = \"dahua\"\npassword_file = \"secrets/device\"\n",
        );
        for (place, row) in Self::ROWS.iter().enumerate() {
            writeln!(
                blocks,
                "[[source.device]]\nid = \"{}\"\naddress = \"127.0.2.{}:{}\"\nparts = true",
                named::<Self>(row),
                place + 1,
                self.0.port
            )?;
        }
        Ok(blocks)
    }

    fn files(&self) -> Vec<(String, String)> {
        vec![("secrets/device".to_owned(), DEVICE_PASSWORD.to_owned())]
    }

    async fn is_heard(&mut self) -> Result<()> {
        self.0.has_streams(Self::ROWS.len() as u64).await
    }

    fn place(&self, message: &Message) -> String {
        let recorder = named::<Self>(&message.device());
        format!("{recorder}|{recorder}/{}", message.number)
    }

    async fn say(&mut self, message: &Message) -> Result<()> {
        let mut data = json!({});
        if let Some(time) = message.text("%Y-%m-%d %H:%M:%S")? {
            data["LocaleTime"] = time.into();
        }
        if message.is_replayed() {
            data["IsOffline"] = true.into();
        }
        let body = format!(
            "Code=Duress;action=Pulse;index={};data={data}",
            message.number - 1
        );
        let part = format!(
            "--myboundary\r\nContent-Type: text/plain\r\nContent-Length:{}\r\n\r\n{body}\r\n\r\n",
            body.len()
        );
        let what = format!("say?device=127.0.2.{}", number::<Self>(message));
        self.0.control(&what, part).await?;
        Ok(())
    }
}

/// Sensors behind a broker, each with a topic of its own.
pub struct Sensors(Broker);

impl Sensors {
    /// `None` where no broker is installed; it does not run yet.
    pub fn new(directory: &Path) -> Result<Option<Self>> {
        Ok(Broker::new(&directory.join("broker"))?.map(Self))
    }

    pub async fn broker_starts(&mut self) -> Result<()> {
        self.0.start().await
    }
}

impl Peer for Sensors {
    const SOURCE: &'static str = "sensors";
    const KINDS: &'static [&'static str] = &["smoke.alarm"];
    const ROWS: &'static [&'static str] = &[
        "right",
        "slow-16m",
        "slow-8h",
        "slow-8d",
        "ahead-3y",
        "1970",
        "drifting",
        "stepped",
        "no-time",
        "unreadable",
    ];
    /// What a broker has retained is there before the agent is.
    const REPLAYED: Option<Way> = Some(Way::Unheard);

    fn blocks(&self) -> Result<String> {
        Ok(format!(
            "[[source]]\nname = \"sensors\"\ntype = \"mqtt\"\n{}\
             [[source.topic]]\nfilter = \"sensors/+\"\nmappings = [\"sensors.toml\"]\n",
            self.0.keys()
        ))
    }

    fn files(&self) -> Vec<(String, String)> {
        let mapping = "schema = 1\nid = \"/payload/id\"\ndevice = \"/levels/1\"\nbuilding = \"/payload/id\"\n\
             [kind]\npointer = \"/payload/type\"\ntable = { \"smoke\" = \"smoke.alarm\" }\n[severity]\nvalue = \"life\"\n\
             [occurred_at]\npointer = \"/payload/time\"\nformats = [\"%Y-%m-%d %H:%M:%S\"]\n";
        vec![
            ("secrets/broker".to_owned(), BROKER_PASSWORD.to_owned()),
            ("sensors.toml".to_owned(), mapping.to_owned()),
        ]
    }

    fn place(&self, message: &Message) -> String {
        let sensor = named::<Self>(&message.device());
        format!("m{}|{sensor}", message.number)
    }

    async fn say(&mut self, message: &Message) -> Result<()> {
        let mut payload = json!({ "id": format!("m{}", message.number), "type": "smoke" });
        if let Some(time) = message.text("%Y-%m-%d %H:%M:%S")? {
            payload["time"] = time.into();
        }
        let topic = format!("sensors/{}", named::<Self>(&message.device()));
        let retain: &[&str] = if message.is_replayed() { &["-r"] } else { &[] };
        self.0
            .publish(&topic, payload.to_string().as_bytes(), retain)
    }
}

/// Cameras, each a process of its own, whose clock is asked for before it is heard.
pub struct Cameras(Vec<OnvifDevice>);

impl Cameras {
    pub async fn start(directory: &Path, python: &Path) -> Result<Self> {
        let mut cameras = Vec::new();
        for device in Self::ROWS {
            let (shows, _) = table::of(device).live[0];
            let ahead_s = -shows.behind_ms().unwrap_or(0) / SECOND_MS;
            let home = directory.join(named::<Self>(device));
            std::fs::create_dir_all(&home)?;
            let camera = OnvifDevice::start(python, &home, ahead_s).await?;
            // What is found at the beginning of a session is told where it was otherwise before.
            camera
                .control("changed Device/Tampering State false")
                .await?;
            cameras.push(camera);
        }
        Ok(Self(cameras))
    }

    fn of(&self, message: &Message) -> &OnvifDevice {
        &self.0[number::<Self>(message) - 1]
    }
}

impl Peer for Cameras {
    const SOURCE: &'static str = "cameras";
    const KINDS: &'static [&'static str] =
        &["camera.line_crossed", "camera.tamper", "camera.motion"];
    const ROWS: &'static [&'static str] = &["right", "slow-16m", "ahead-3y", "1970", "unreadable"];
    /// What it finds at the beginning of a subscription, at that time.
    const REPLAYED: Option<Way> = Some(Way::Replayed);
    const AGO_MS: i64 = 0;

    fn blocks(&self) -> Result<String> {
        let mut blocks = places::<Self>();
        blocks.push_str(
            "[[source]]\nname = \"cameras\"\ntype = \"onvif\"\npassword_file = \"secrets/cameras\"\n",
        );
        for (row, camera) in Self::ROWS.iter().zip(&self.0) {
            writeln!(
                blocks,
                "[[source.device]]\nid = \"{}\"\naddress = \"127.0.0.1:{}\"",
                named::<Self>(row),
                camera.port
            )?;
        }
        Ok(blocks)
    }

    fn files(&self) -> Vec<(String, String)> {
        vec![("secrets/cameras".to_owned(), ONVIF_PASSWORD.to_owned())]
    }

    async fn is_heard(&mut self) -> Result<()> {
        for camera in &self.0 {
            until("a subscription of the agent", async || {
                let standing = camera.control("seen").await?;
                Ok((standing["subscriptions"] == 1 && standing["waiting"] == 0).then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// What it finds has the time of its clock.
    fn has(row: &Row, way: Way) -> bool {
        !(way == Way::Replayed && row.device == "unreadable")
    }

    fn kind(message: &Message) -> &'static str {
        match message.way {
            Way::Live(_) => "camera.line_crossed",
            Way::Replayed | Way::Unheard => "camera.tamper",
            Way::Offline => "camera.motion",
        }
    }

    fn near_ms(way: Way) -> i64 {
        match way {
            Way::Replayed | Way::Unheard => 5 * SECOND_MS,
            Way::Live(_) | Way::Offline => 0,
        }
    }

    fn place(&self, message: &Message) -> String {
        let camera = named::<Self>(&message.device());
        format!("{camera}|{camera}/V1")
    }

    async fn say(&mut self, message: &Message) -> Result<()> {
        let camera = self.of(message);
        if message.is_replayed() {
            // The subscription is lost, and somebody covers the lens meanwhile.
            camera.control("forget").await?;
            camera
                .control("changed Device/Tampering State true")
                .await?;
            return Ok(());
        }
        let time = match message.said {
            Said::Ms(ms) => jiff::Timestamp::from_millisecond(ms)?.to_string(),
            Said::Garbage => "half-past-nine".to_owned(),
            Said::Nothing => anyhow::bail!("its messages have times"),
        };
        let what = match message.way {
            Way::Offline => "VideoSource/MotionAlarm State true".to_owned(),
            _ => format!(
                "RuleEngine/LineDetector/Crossed ObjectId {}",
                message.number
            ),
        };
        let line = format!("told {time} - {what}");
        let said = camera.control(&line).await?;
        ensure!(said["subscriptions"] == 1, "{said}");
        Ok(())
    }
}
