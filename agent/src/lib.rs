//! What `linli-agent` is made of. A library so that fuzz targets and benches reach the decoders; nobody else
//! depends on it.
mod admin;
mod alive;
mod anchors;
mod app;
mod cli;
pub mod commands;
mod config;
mod http;
mod identity;
mod import;
mod intake;
mod join;
mod memory;
mod metrics;
mod pending;
mod pseudonym;
mod records;
mod socket;
mod source_test;
pub mod sources;
mod spool;
mod stations;
mod uplink;
