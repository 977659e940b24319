//! The hub: takes events in once, correlates, raises warnings, drives cases, answers stations. What it decides is in
//! `linli-domain` (pure); here are its parts that do I/O, and the command line.
#![expect(
    rustdoc::private_intra_doc_links,
    reason = "the docs are for who works on the program, and are made with what is private"
)]

mod api;
mod app;
mod attachments;
mod ca;
pub mod case_policy;
pub mod centre;
pub mod clock_watch;
pub mod commands;
pub mod config;
pub mod health;
pub mod ingest;
mod listener;
pub mod notify;
mod oidc;
mod retention;
mod rules;
mod services;
mod sign_in_audit;
mod token;
mod users;
