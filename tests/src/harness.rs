//! Starts, stops, kills and looks at real hubs and agents, each in a directory of its own.
//!
//! Nothing here sleeps for a fixed time: [`until`] polls a condition up to a deadline and says what it
//! last saw.
mod agent;
mod bad_network;
mod broker;
mod centre;
mod change_stream;
mod desk;
mod disk;
mod engine;
mod equipment;
mod event_device;
mod fixtures;
mod hand_made;
mod hub;
mod modbus_device;
mod oidc;
mod onvif_device;
mod peers;
mod people;
mod ports;
mod process;
mod settable_clock;
mod stations;
mod stored;

pub use agent::{Agent, AgentSetup, Answer, DOORS_TOKEN, metric, now_ms};
pub use bad_network::{BadNetwork, Relay};
pub use broker::{BROKER_PASSWORD, Broker};
pub use centre::{Centre, kind, quarrel, words};
pub use change_stream::{ChangeStream, StreamEvent};
pub use desk::{NOBODY, desk_hub, each, each_by, notices, told};
pub use disk::{Ballast, SmallDisk};
pub use engine::{connect, has_no_file, server_database, sqlite_url};
pub use equipment::{Equipped, installed, peer, peers_python, recording};
pub use event_device::{DEVICE_PASSWORD, EventDevice};
pub use fixtures::{DAY_MS, MINUTE_MS, SECOND_MS, actions, ago, door_event, id, joined, running};
pub use hand_made::HandMade;
pub use hub::Hub;
pub use modbus_device::ModbusDevice;
pub use oidc::{Browser, OidcProvider, Seen, oidc_modules};
pub use onvif_device::{ONVIF_PASSWORD, OnvifDevice};
pub use peers::{
    Alertmanager, MailServer, Received, Receiver, Reply, hmac, signed_events, signed_events_at,
};
pub use people::{PASSWORD, add_user, load_district, sign_in, user, with_line};
pub use ports::{free_tcp_port, free_udp_port};
pub use process::{Process, binary};
pub use settable_clock::SettableClock;
pub use stations::{station_figures, tell_station};
pub use stored::{StoredEvent, assert_stored_once, quarantined_ids, stored_events, stored_starts};

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a condition that must come true may take on a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Polls until `look` gives a value; `what` names it in the error.
pub async fn until<T, F>(what: &str, look: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<Option<T>>,
{
    until_within(DEADLINE, what, look).await
}

/// Polls until `look` gives a value or the deadline passes.
pub async fn until_within<T, F>(deadline: Duration, what: &str, mut look: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<Option<T>>,
{
    let end = Instant::now() + deadline;
    let mut last = None;
    loop {
        match look().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => {}
            Err(error) => last = Some(error),
        }
        if Instant::now() >= end {
            match last {
                Some(error) => return Err(error.context(format!("waited in vain for {what}"))),
                None => bail!("waited in vain for {what}"),
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A builder of HTTP clients; reqwest wants to be told which cryptography to use.
pub fn http() -> reqwest::ClientBuilder {
    // Another test of the process may have installed it; that is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}

/// A file or folder of the project.
pub fn project(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(path)
}

/// The folder with recorded data beside the project; `None`, said aloud, where it is not there.
pub fn recorded(path: &str) -> Option<PathBuf> {
    let found = project("../shared").join(path);
    if found.exists() {
        return Some(found);
    }
    eprintln!("skipped: {path} is not beside this clone");
    None
}

/// Whether this process may do what needs root; said aloud where not.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// Runs a command to its end; its output, or what it said when it failed.
pub fn run(command: &mut std::process::Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {stdout}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(stdout)
}

/// Runs a command to its end: its exit code, and all that it said.
pub fn outcome(command: &mut std::process::Command) -> Result<(i32, String)> {
    let output = command.stdin(std::process::Stdio::null()).output()?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok((output.status.code().context("a code")?, text))
}

/// What runs a program with another wall clock and the right monotonic one. By its library, for the command
/// `faketime` stays beside the program that it starts, which then outlives a kill of its parent.
pub fn faketime(settings: &[String]) -> Result<Vec<String>> {
    let library =
        run(std::process::Command::new("sh")
            .args(["-c", "ls /usr/lib/*/faketime/libfaketimeMT.so.1"]))?;
    let mut wrapper = vec![
        "env".to_owned(),
        format!("LD_PRELOAD={}", library.trim()),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
    ];
    wrapper.extend_from_slice(settings);
    Ok(wrapper)
}

/// A simple generator of random numbers, from a seed that tests print.
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next number (xorshift64*).
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Less than `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end.max(1)
    }
}
