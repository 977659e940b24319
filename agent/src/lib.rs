//! What `linli-agent` is made of. A library so that fuzz targets and benches reach the decoders; nobody else
//! depends on it.
#![expect(
    rustdoc::private_intra_doc_links,
    reason = "the docs are for who works on the program, and are made with what is private"
)]

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
mod listen;
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
