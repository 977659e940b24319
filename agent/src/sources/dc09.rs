//! SIA DC-09 (being built).
pub mod cipher;
pub mod contact_id;
pub mod frame;
pub mod meaning;
pub mod message;
pub mod sia_dcs;
