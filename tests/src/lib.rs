//! Tests across real processes, the demo and the bench: everything that starts `linli-hub` and
//! `linli-agent` as a user would.
pub mod bench;
pub mod harness;
