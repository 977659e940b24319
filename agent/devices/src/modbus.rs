//! Modbus registers: their layout and meaning (`map`), thresholds for alarms (`watchers`), and a unit's error answers
//! (`exception`).
pub mod exception;
pub mod map;
pub mod watchers;
