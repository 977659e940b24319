//! Modbus registers: their layout and meaning (`map`), a unit's answers (`answer`), thresholds for alarms (`watchers`), and a unit's error answers
//! (`exception`).
pub mod answer;
pub mod exception;
pub mod map;
pub mod watchers;
