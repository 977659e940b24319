//! MQTT topics and payloads.
pub mod message;
