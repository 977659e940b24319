//! ONVIF.
pub mod map;
pub mod soap;
