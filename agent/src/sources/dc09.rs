//! Alarm panels (报警主机) by SIA DC-09 (2007 to 2026) over TCP and UDP, with Contact ID and SIA events, in clear or sealed. The
//! agent is the receiver: panels connect to it, or send it datagrams.
//!
//! ```text
//! bytes ▶ frame (CRC, resynchronised) ▶ header ▶ opened with the account's key ▶ window of the clock ▶ Contact ID or SIA
//!       ▶ map ▶ feed ▶ durable ▶ answer (ACK, NAK, DUH)
//! ```
//!
//! * A panel is identified by the account in its header (`[[source.account]]`). A panel with a key may send only
//!   sealed messages. An unknown panel is answered NAK, unless `unknown = "take"`.
//! * The time of a sealed message must be within `clock_behind` and `clock_ahead`; the NAK to another message carries
//!   the agent's time, by which the panel sets its clock. While the agent's own clock is not set, no time is checked
//!   and no NAK sent.
//! * `NULL` is the panel's sign of life. A repeated message is stored once ([`recent`](linli_devices::dc09::recent)).
//! * Limits: those of `callers`, [`frame`](linli_devices::dc09::frame),
//!   [`message`](linli_devices::dc09::message) and [`sia_dcs`](linli_devices::dc09::sia_dcs).
pub(crate) mod accounts;
mod line;

use linli_shared::service::config::ConfigError;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::{Check, Listens, Source};
use crate::ingest::SourceIngest;
use crate::transport::inbound::{self, Callers};
use accounts::{Accounts, Config};
use line::PanelLine;
use linli_devices::dc09::recent::Recent;

/// The source.
#[derive(Debug)]
pub(crate) struct Dc09 {
    callers: Callers,
    accounts: Accounts,
}

impl Source for Dc09 {
    const TYPE: &'static str = "dc09";
    type Config = Config;
    const NO_ZONE: Option<&'static str> =
        Some("times of SIA DC-09 are in UTC by the standard; leave it out");

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
        // Panels poll from once in 90 s to once a day; this is four polls of a usual one.
        Some(Duration::from_secs(3600))
    }

    fn listens(&self) -> Vec<Listens> {
        self.callers.listens()
    }

    fn devices(&self) -> Vec<String> {
        self.accounts.ids()
    }

    async fn run(self, ingest: SourceIngest, stop: CancellationToken) {
        let accounts = Arc::new(self.accounts);
        let recent = Arc::new(Mutex::new(Recent::default()));
        let line = move || PanelLine::new(accounts.clone(), recent.clone());
        inbound::run(self.callers, ingest, stop, line).await;
    }
}
