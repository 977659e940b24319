// The modules of the hub, at the root of a bench as they are at the root of the program. Included, not a module of
// its own: modules name each other by `crate::`.
#[path = "../../src"]
mod hub {
    #![allow(
        dead_code,
        unused_imports,
        reason = "a bench uses a part of the modules"
    )]
    pub mod attachments;
    pub mod audit;
    pub mod ca;
    pub mod calendar;
    pub mod cases;
    pub mod casework;
    pub mod centre;
    pub mod cli;
    pub mod clock_guard;
    pub mod config;
    pub mod correlate;
    pub mod ingest;
    pub mod local_time;
    pub mod metrics;
    pub mod notify;
    pub mod orgs;
    pub mod retention;
    pub mod rights;
    pub mod sealed;
    pub mod station_kinds;
    pub mod store;
    pub mod users;
    pub mod warnings;
}
use hub::{attachments, audit, ca, calendar, cases, casework, centre, cli, clock_guard, config, correlate, ingest, local_time, metrics, notify, orgs, retention, rights, sealed, station_kinds, store, users, warnings};
