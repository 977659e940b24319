//! The parts of `linli-agent`. Decoders of devices are in `linli-devices`, the spool is in `linli-spool`.
#![expect(
    rustdoc::private_intra_doc_links,
    reason = "the docs are for who works on the program, and are made with what is private"
)]

mod admin;
mod app;
mod bind;
mod cli;
mod clock_anchors;
pub mod commands;
mod config;
mod downtime;
mod files;
mod gateway_clock;
mod http;
mod identity;
mod import;
mod ingest;
mod intake;
mod join;
mod memory;
mod metrics;
mod pending;
mod pseudonym;
mod random;
mod socket;
mod source_test;
mod sources;
mod start_progress;
mod stations;
mod transport;
mod uplink;
