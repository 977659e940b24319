//! Chargers by OCPP 1.6-J: calls, their answers, and their meaning.
pub mod message;
