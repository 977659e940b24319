//! Alarm panels by SIA DC-09: frames, encryption, the two data formats, and the meaning of their codes.
pub mod cipher;
pub mod contact_id;
pub mod frame;
pub mod map;
pub mod meaning;
pub mod message;
pub mod recent;
pub mod sia_dcs;
