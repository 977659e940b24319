//! Fire alarm hosts by GB/T 26875.3-2011: frames, data units, answers, and what these mean.
pub mod answer;
pub mod frame;
pub mod map;
mod names;
pub mod unit;
