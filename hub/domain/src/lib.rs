//! The hub's decisions: correlation and its rules, warnings, cases, calendar, organisations, rights. Pure: no
//! I/O, no async, no database, no HTTP; time is an argument.
//!
//! ```text
//! events ─ correlate (rules) ▶ warnings ─ cases (kinds, moves, clocks, dispatch) ─ orgs, rights (access)
//!                    calendar, local_time (working days, zone)
//! ```

pub mod audit;
pub mod calendar;
pub mod cases;
pub mod changes;
pub mod clock_guard;
pub mod correlate;
pub mod local_time;
pub mod mask;
pub mod notice;
pub mod orgs;
pub mod partition;
pub mod rights;
pub mod station_kinds;
pub mod warnings;
