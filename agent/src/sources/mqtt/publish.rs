//! A PUBLISH of either version of MQTT.
use linli_devices::mqtt::message::json;

/// A PUBLISH, with the fields needed to acknowledge it.
pub enum Publish {
    /// A PUBLISH of MQTT 3.1.1.
    V4(rumqttc::Publish),
    /// A PUBLISH of MQTT 5.
    V5(rumqttc::v5::mqttbytes::v5::Publish),
}

impl Publish {
    /// The topic; empty if it is no text.
    pub fn topic(&self) -> &str {
        match self {
            Self::V4(publish) => &publish.topic,
            Self::V5(publish) => std::str::from_utf8(&publish.topic).unwrap_or_default(),
        }
    }

    /// The payload as received.
    pub fn payload(&self) -> &[u8] {
        match self {
            Self::V4(publish) => &publish.payload,
            Self::V5(publish) => &publish.payload,
        }
    }

    /// Whether the broker had retained it for new subscribers.
    pub fn is_retained(&self) -> bool {
        match self {
            Self::V4(publish) => publish.retain,
            Self::V5(publish) => publish.retain,
        }
    }

    /// The message as mappings see it.
    pub fn json(&self) -> String {
        json(self.topic(), self.is_retained(), self.payload())
    }
}
