//! Fire alarm hosts by GB/T 26875.3-2011: frames, data units, answers, and their meaning.
pub mod answer;
pub mod frame;
pub mod map;
mod names;
pub mod unit;
