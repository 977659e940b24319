//! Recorders and cameras by GB/T 28181: SIP, Digest, registrations, MANSCDP bodies, and their meaning.
pub mod digest;
pub mod manscdp;
pub mod map;
pub mod registry;
pub mod sip;
