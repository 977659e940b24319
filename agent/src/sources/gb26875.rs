//! GB/T 26875.3-2011 (being built).
pub mod answer;
pub mod frame;
pub mod unit;
