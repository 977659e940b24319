//! Registers of Modbus: which are read and what they mean (`map`), when a value is an alarm (`watchers`), and what a unit says in
//! the place of values (`exception`).
pub mod exception;
pub mod map;
pub mod watchers;
