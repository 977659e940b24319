//! Modbus registers: the register map of an installer (`map`), and the alarms of its points (`watchers`).
pub mod map;
pub mod watchers;
