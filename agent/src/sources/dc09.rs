//! SIA DC-09 (being built).
pub mod cipher;
pub mod frame;
