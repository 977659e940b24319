//! Dahua devices: the parts of their event stream (`message`) and their meaning (`map`).
pub mod map;
pub mod message;
