//! Exit codes, after sysexits.h, so that a unit can tell "do not restart" from "try again".

/// Everything went as asked.
pub const OK: u8 = 0;
/// It failed, and none of the below says why.
pub const FAILURE: u8 = 1;
/// The command line is wrong (clap's own code).
pub const USAGE: u8 = 2;
/// Input data is wrong: rows of an import were rejected.
pub const DATA: u8 = 65;
/// A service that is needed is not there: the hub, the running agent.
pub const UNAVAILABLE: u8 = 69;
/// Disk or file trouble.
pub const IO: u8 = 74;
/// The hub refused: token, certificate.
pub const REFUSED: u8 = 77;
/// The config is wrong; a restart will not help.
pub const CONFIG: u8 = 78;
