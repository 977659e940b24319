//! Dahua devices: the parts of their event stream (`message`) and what these mean (`map`).
pub mod map;
pub mod message;
