//! Hikvision devices by ISAPI: alerts of cameras (`alert`), events of doors (`door`), and their meaning (`map`).
pub mod alert;
pub mod door;
mod known;
pub mod map;
