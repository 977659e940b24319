//! The parts that both programs need as services on an unattended machine.
pub mod backoff;
pub mod clock;
pub mod config;
pub mod data_dir;
pub mod exit;
pub mod file;
pub mod link;
pub mod output;
pub mod peer;
pub mod problem;
pub mod process;
pub mod random;
pub mod shutdown;
pub mod systemd;
pub mod telemetry;
pub mod tls;
