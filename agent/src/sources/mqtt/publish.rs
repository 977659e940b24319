//! A PUBLISH of either version of MQTT.
use linli_devices::mqtt::message::json;

/// A PUBLISH, with what it takes to acknowledge it.
pub enum Publish {
    /// Of MQTT 3.1.1.
    V4(rumqttc::Publish),
    /// Of MQTT 5.
    V5(rumqttc::v5::mqttbytes::v5::Publish),
}

impl Publish {
    /// The topic; empty where it is no text.
    pub fn topic(&self) -> &str {
        match self {
            Self::V4(publish) => &publish.topic,
            Self::V5(publish) => std::str::from_utf8(&publish.topic).unwrap_or_default(),
        }
    }

    /// The payload as it came.
    pub fn payload(&self) -> &[u8] {
        match self {
            Self::V4(publish) => &publish.payload,
            Self::V5(publish) => &publish.payload,
        }
    }

    /// The broker kept it for who subscribes.
    pub fn is_retained(&self) -> bool {
        match self {
            Self::V4(publish) => publish.retain,
            Self::V5(publish) => publish.retain,
        }
    }

    /// As mappings see it.
    pub fn json(&self) -> String {
        json(self.topic(), self.is_retained(), self.payload())
    }
}
