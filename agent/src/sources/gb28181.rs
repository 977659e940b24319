//! Video by GB/T 28181 (2016 and 2022) over UDP and TCP: recorders, cameras and platforms. The agent is their SIP server; it
//! takes no video.
//!
//! ```text
//! bytes ▶ sip (RFC 3261) ▶ REGISTER: digest ▶ registry
//!                        ▶ MESSAGE, NOTIFY of registered devices ▶ manscdp (annex A) ▶ map ▶ feed ▶ durable ▶ 200, Response
//! ```
//!
//! * A device is identified by its id (`[[source.device]]`) and its password (§ 9.1, MD5 as the standard requires):
//!   401, then 200 with `Date` for its clock (§ 9.10). A device with a wrong password, or not in the config, is
//!   answered 403.
//! * Its other messages are accepted from the address that it registered from. If the config has its `peer`, they are
//!   accepted from there even before it registers: after a restart of the agent nobody has registered. All others are
//!   answered 403, after which devices register.
//! * A Keepalive (§ 9.6) is a sign of life. After three missing ones the device is silent. Expires 0 deregisters it:
//!   its messages are no longer accepted, and it is reported as silent.
//! * After a registration, and every `catalog_every`, it is asked for its channels (§ 9.5) until it answers.
//! * A MESSAGE is answered 200 when its content is durable, and an alarm (§ 9.4) with a Response then. Other methods:
//!   405, 501.
//! * The server keeps no transactions (RFC 3261 § 8.2.7): a repeated request is read again and answered the same, and
//!   the spool stores an alarm once by its id, even across a restart. So a flood finds no table to fill.
//! * Limits: those of `callers`, [`sip`](linli_devices::gb28181::sip), [`manscdp`](linli_devices::gb28181::manscdp) and [`registry`](linli_devices::gb28181::registry).
//!
//! SIP is implemented here and not by a crate: `rsip` names no licence in its package; `rsipstack` is a whole stack
//! with unbounded sockets, timers and queues, which answers from transactions that it keeps. This source needs only
//! messages, and answers only after it has stored.
pub(crate) mod accounts;
mod line;
mod server;
mod talk;

use linli_shared::service::config::ConfigError;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::{Check, Listens, Source};
use crate::ingest::SourceIngest;
use crate::transport::inbound::{self, Callers};
use accounts::{Accounts, Config};
use line::SipLine;
use server::Server;

/// The source.
#[derive(Debug)]
pub(crate) struct Gb28181 {
    callers: Callers,
    accounts: Accounts,
}

impl Source for Gb28181 {
    const TYPE: &'static str = "gb28181";
    type Config = Config;

    fn new(config: Config, check: &Check<'_>) -> Result<Self, ConfigError> {
        let callers = Callers {
            tcp: config.tcp,
            udp: config.udp,
            connections_max: config.connections_max,
            idle: config.idle,
        }
        .check(check)?;
        Ok(Self {
            callers,
            accounts: Accounts::new(config, check)?,
        })
    }

    fn silent_after(&self) -> Option<Duration> {
        // Three signs of life, which arrive every 60 s.
        Some(Duration::from_secs(180))
    }

    fn listens(&self) -> Vec<Listens> {
        self.callers.listens()
    }

    fn devices(&self) -> Vec<String> {
        self.accounts.ids()
    }

    async fn run(self, ingest: SourceIngest, stop: CancellationToken) {
        let server = Arc::new(Server::new(self.callers, self.accounts, ingest.clone()));
        let line = move || SipLine::new(server.clone());
        inbound::run(self.callers, ingest, stop, line).await;
    }
}
