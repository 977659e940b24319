//! Video by GB/T 28181 (2016 and 2022) over UDP and TCP: recorders, cameras and platforms. The agent is the SIP server that they
//! register to; it takes no video.
//!
//! ```text
//! bytes ▶ sip (RFC 3261) ▶ REGISTER: digest ▶ registry
//!                        ▶ MESSAGE, NOTIFY of who has registered ▶ manscdp (annex A) ▶ map ▶ feed ▶ durable ▶ 200, Response
//! ```
//!
//! * A device is known by its id (`[[source.device]]`) and its password (§ 9.1, MD5 as the standard has it): 401, then 200 with
//!   `Date` for its clock (§ 9.10). One that is not in the config, or gives a wrong password, is told 403.
//! * What else it says is taken from the address that it registered from; where the config has its `peer`, from there, also before it
//!   registers: after a start of the agent nobody has registered. All others are told 403, after which devices register.
//! * A Keepalive (§ 9.6) is a sign of life. After three that did not come it is silent. Expires 0 is a going: its messages are
//!   not taken any more, and silence tells of it.
//! * After a registration, and every `catalog_every`, it is asked for its channels (§ 9.5) until it answers.
//! * A MESSAGE is answered 200 when what it says is durable, and an alarm (§ 9.4) with a Response then. Other methods: 405, 501.
//! * The server keeps no transactions (RFC 3261 § 8.2.7): what is sent again is read again and answered the same, and the
//!   spool stores an alarm once by its id, also across a start. So a flood finds no table to fill.
//! * Limits: those of `callers`, [`sip`], [`manscdp`] and [`registry`].
//!
//! SIP is read here and not by a crate: `rsip` names no licence in its package; `rsipstack` is a whole stack with sockets, timers
//! and queues without a bound, which answers by transactions that it keeps; of all of it this source needs messages, and to
//! answer only when it has stored.
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
        // Three signs of life, which come every 60 s.
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
