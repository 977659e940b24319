//! Chargers by OCPP 1.6-J: calls, their answers, and what these mean.
pub mod message;
