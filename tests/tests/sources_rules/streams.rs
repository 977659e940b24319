//! Devices with an event stream, played by `tests/peers/isapi_device.py`, which gives no heartbeats here.
use anyhow::Result;
use linli_shared::protocol::event::Event;
use linli_tests::harness::{DEVICE_PASSWORD, Equipped, EventDevice, peers_python};
use std::time::Duration;

use super::device::{Alarm, Clock, Device, GARBAGE, Place, Said};

const NO_ANSWER: &str =
    "a stream has no answers: what is not durable is not known, and the device waits in TCP";

/// A device of either make, and its stream.
struct Stream {
    device: EventDevice,
    place: Place,
}

impl Stream {
    async fn start(place: &Place, make: &str) -> Result<Option<Self>> {
        let Some(python) = peers_python() else {
            return Ok(None);
        };
        let device = EventDevice::start(&place.directory, &python, make, &[]).await?;
        let place = place.clone();
        Ok(Some(Self { device, place }))
    }

    fn keys(&self, more: &str) -> String {
        format!(
            "password_file = \"secrets/device\"\n{more}[[source.device]]\nid = \"{}\"\naddress = \"127.0.0.1:{}\"\n",
            self.place.name, self.device.port
        )
    }

    /// A part with this text, in the encoding of the alarm.
    async fn say(&self, alarm: &Alarm, boundary: &str, kind: &str, text: &str) -> Result<Said> {
        let raw = alarm.encoded(text);
        self.device.say(part(boundary, kind, &raw)).await?;
        Ok(Said {
            answered: false,
            raw,
        })
    }

    async fn garbage(&self) -> Result<&'static str> {
        self.device.say(format!("{GARBAGE}\r\n\r\n")).await?;
        Ok(GARBAGE)
    }

    fn is(&self, alarm: &Alarm, event: &Event, kind: &str) -> bool {
        let id = format!("{}/{}/", self.place.name, alarm.number);
        event.kind == kind && event.source_id.starts_with(&id)
    }
}

fn password() -> Vec<(String, String)> {
    vec![("secrets/device".to_owned(), DEVICE_PASSWORD.to_owned())]
}

/// A part of a stream, as both makes take it.
fn part(boundary: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "--{boundary}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body, b"\r\n\r\n"].concat()
}

pub struct Hikvision(Stream);

impl Device for Hikvision {
    const TYPE: &'static str = "hikvision";
    const CLOCK: Clock = Clock::Local;
    const ANSWER: Result<&'static str, &'static str> = Err(NO_ANSWER);
    const TEXT: Result<&'static str, &'static str> = Ok("door");
    const REPEATS: bool = false;

    async fn start(place: &Place) -> Result<Option<Self>> {
        Ok(Stream::start(place, "hikvision").await?.map(Self))
    }

    fn keys(&self) -> String {
        self.0.keys("catch_up = \"0s\"\n")
    }

    fn files(&self) -> Vec<(String, String)> {
        password()
    }

    async fn ready(&mut self, _scene: &Equipped) -> Result<()> {
        self.0.device.has_streams(1).await
    }

    async fn say(&mut self, _scene: &Equipped, alarm: &Alarm, _wait: Duration) -> Result<Said> {
        let text = format!(
            "{{\"dateTime\":\"{}\",\"eventType\":\"AccessControllerEvent\",\"eventState\":\"active\",\"AccessControllerEvent\":{{\
             \"majorEventType\":5,\"subEventType\":9,\"doorNo\":\"{}\",\"serialNo\":{}}}}}",
            alarm.local(),
            alarm.words(),
            alarm.number
        );
        self.0
            .say(alarm, "boundary", "application/json", &text)
            .await
    }

    async fn garbage(&mut self, _scene: &Equipped) -> Result<&'static str> {
        self.0.garbage().await
    }

    fn is(&self, alarm: &Alarm, event: &Event) -> bool {
        self.0.is(alarm, event, "door.denied")
    }
}

pub struct Dahua(Stream);

impl Device for Dahua {
    const TYPE: &'static str = "dahua";
    const CLOCK: Clock = Clock::Local;
    const ANSWER: Result<&'static str, &'static str> = Err(NO_ANSWER);
    const TEXT: Result<&'static str, &'static str> = Ok("target");
    const REPEATS: bool = false;
    /// A heartbeat is asked for every five seconds.
    const SILENT_AFTER: &'static str = "6s";

    async fn start(place: &Place) -> Result<Option<Self>> {
        Ok(Stream::start(place, "dahua").await?.map(Self))
    }

    fn keys(&self) -> String {
        self.0.keys("")
    }

    fn files(&self) -> Vec<(String, String)> {
        password()
    }

    async fn ready(&mut self, _scene: &Equipped) -> Result<()> {
        self.0.device.has_streams(1).await
    }

    async fn say(&mut self, _scene: &Equipped, alarm: &Alarm, _wait: Duration) -> Result<Said> {
        let text = format!(
            "Code=AccessControl;action=Pulse;index=0;data={{\"Door\":0,\"RecNo\":{},\"LocaleTime\":\"{}\",\"Status\":1,\
             \"Object\":{{\"ObjectType\":\"{}\"}}}}",
            alarm.number,
            alarm.local().strftime("%Y-%m-%d %H:%M:%S"),
            alarm.words()
        );
        self.0.say(alarm, "myboundary", "text/plain", &text).await
    }

    async fn garbage(&mut self, _scene: &Equipped) -> Result<&'static str> {
        self.0.garbage().await
    }

    fn is(&self, alarm: &Alarm, event: &Event) -> bool {
        self.0.is(alarm, event, "door.granted")
    }
}
