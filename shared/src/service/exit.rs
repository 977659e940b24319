//! Exit codes of the programs, based on sysexits.h, so that a unit can distinguish "do not restart" from
//! "retry"; and the one-line error message.
use std::error::Error;

use super::config::ConfigError;
use super::telemetry::{self, LogConfig};

/// Success.
pub const OK: u8 = 0;
/// Failure without a more specific code.
pub const FAILURE: u8 = 1;
/// The command line is wrong (clap's own code).
pub const USAGE: u8 = 2;
/// Input data is wrong: rows of an import were rejected.
pub const DATA: u8 = 65;
/// A required service is unavailable: the hub, the running agent.
pub const UNAVAILABLE: u8 = 69;
/// A failure of the disk or of a file.
pub const IO: u8 = 74;
/// The hub refused: token, certificate.
pub const REFUSED: u8 = 77;
/// The config is wrong; a restart will not help.
pub const CONFIG: u8 = 78;

/// An error message for people, and its exit code.
pub struct Failure {
    /// The chain of causes in one line.
    pub text: String,
    /// One of the codes above.
    pub code: u8,
}

/// Converts errors into failures with this code.
pub fn failure(code: u8) -> impl Fn(&(dyn Error + 'static)) -> Failure {
    move |error| Failure {
        text: telemetry::chain(error),
        code,
    }
}

/// The exit code of a config error. A failing disk may work at the next start; a missing, unreadable or wrong
/// file will not.
pub fn config_code(error: &ConfigError) -> u8 {
    match error {
        ConfigError::Read { source, .. }
            if !matches!(
                source.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied
            ) =>
        {
            IO
        }
        ConfigError::Read { .. } => CONFIG,
        ConfigError::Parse { .. } | ConfigError::Value { .. } => CONFIG,
    }
}

/// Starts logging. Errors: the problem in its config.
pub fn start_logs(config: &LogConfig) -> Result<(), Failure> {
    telemetry::start(config).map_err(|text| Failure { text, code: CONFIG })
}
