//! Linli's own run: HTTP push → agent → QUIC → hub, all durable, TLS at both ends, rules on.
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use super::host::{Hosts, Meter, Result, Row, Running, Scratch, Side, wait_for_events};
use super::peers::errand;
use super::{events, latency};
use crate::harness::{Agent, AgentSetup, DOORS_TOKEN, Hub, binary};

/// Items of one push.
const PUSH_ITEMS: u64 = 500;
/// Pushes at once.
const CONNECTIONS: u64 = 4;

/// A hub and an agent that has joined it, each on its host; both stop with their handles.
pub struct Pair<'a> {
    /// The hosts.
    pub hosts: &'a Hosts,
    /// Config and files of the hub.
    pub hub_files: Hub,
    /// Config and files of the agent.
    pub agent_files: Agent,
    /// The hub.
    pub hub: Option<Running>,
    /// The agent.
    pub agent: Running,
    /// Where everything is.
    pub scratch: Scratch,
}

fn boxed(error: anyhow::Error) -> super::host::Error {
    format!("{error:#}").into()
}

impl<'a> Pair<'a> {
    /// Starts both.
    pub fn start(hosts: &'a Hosts, name: &str) -> Result<Self> {
        let scratch = Scratch::new(name)?;
        let hub_files = Hub::listening_on(&scratch.path().join("hub"), &hosts.hub_ip().to_string())
            .map_err(boxed)?;
        // Alarms follow each other quickly here, and are no flood.
        let more = "[warnings]\nper_agent_minute = 1000000\n";
        hub_files.configure(more).map_err(boxed)?;
        let hub_address = format!("{}:{}", hosts.hub_ip(), hub_files.port);
        let agent_files = Agent::new(&AgentSetup {
            directory: &scratch.path().join("agent"),
            name: "gw-1",
            site: "bench",
            hub_address: hub_address.clone(),
            listen: "127.0.0.1",
            more: "[[source]]\nname = \"bench\"\nmapping = \"mappings/bench.toml\"\ntoken_file = \"secrets/doors.token\"\n",
        })
        .map_err(boxed)?;
        let mappings = scratch.path().join("agent/mappings");
        std::fs::write(mappings.join("bench.toml"), events::MAPPING)?;
        let hub = start_hub(hosts, &hub_files, scratch.path())?;
        let token = scratch.path().join("token");
        std::fs::write(&token, hub_files.join_token("bench").map_err(boxed)?)?;
        let mut join = hosts.command(Side::Edge, binary("linli-agent").map_err(boxed)?);
        join.arg("--config")
            .arg(agent_files.config())
            .args(["join", &hub_address, "--agent", "gw-1", "--token-file"])
            .arg(&token);
        Running::start("linli-join", join, scratch.path())?.wait()?;
        let mut run = hosts.command(Side::Edge, binary("linli-agent").map_err(boxed)?);
        run.arg("--config").arg(agent_files.config()).arg("run");
        let mut agent = Running::start("linli-agent", run, scratch.path())?;
        agent.wait_for_port(agent_files.push_port)?;
        Ok(Self {
            hosts,
            hub_files,
            agent_files,
            hub: Some(hub),
            agent,
            scratch,
        })
    }

    /// Ends the hub as a power cut of its process would.
    pub fn kill_hub(&mut self) {
        self.hub = None;
    }

    /// Starts it again.
    pub fn start_hub(&mut self) -> Result<()> {
        self.hub = Some(start_hub(self.hosts, &self.hub_files, self.scratch.path())?);
        Ok(())
    }

    /// Pushes the first `count` events of a file in a process of its own.
    pub fn feeder(&self, events: &Path, count: u64) -> Result<Running> {
        let port = self.agent_files.push_port.to_string();
        let events = events.display().to_string();
        let args = ["push", &port, &events, &count.to_string()];
        errand(
            self.hosts,
            Side::Feed,
            "linli-feeder",
            &args,
            self.scratch.path(),
        )
    }
}

/// Starts a hub that was set up, and waits until it answers.
pub fn start_hub(hosts: &Hosts, files: &Hub, directory: &Path) -> Result<Running> {
    let mut serve = hosts.command(Side::Hub, binary("linli-hub").map_err(boxed)?);
    serve.arg("--config").arg(files.config()).arg("serve");
    let mut hub = Running::start("linli-hub", serve, directory)?;
    hub.wait_for_port(files.metrics_port)?;
    Ok(hub)
}

/// The row of Linli, and what its store needs for an event on disk, bytes.
pub fn run(hosts: &Hosts, events: &Path, count: u64) -> Result<(Row, f64)> {
    let mut pair = Pair::start(hosts, "linli")?;
    let mut database = latency::Database::open(&pair.hub_files.database(), latency::AGENTS_OWN)?;
    let Some(mut hub) = pair.hub.take() else {
        return Err("the hub was not started".into());
    };
    let meter = Meter::start(hosts, &pair.agent, &hub)?;
    let mut feeder = pair.feeder(events, count)?;
    let programs = &mut [&mut feeder, &mut pair.agent, &mut hub];
    wait_for_events(count, programs, || database.events())?;
    let row = meter.finish(
        "Linli",
        count,
        "mTLS, synced at both ends before each ack, correlated",
    )?;
    let bytes = database.table_bytes()?;
    Ok((row, bytes as f64 / count as f64))
}

/// The feeder's process: `PORT FILE COUNT`.
pub fn push_main(args: &[String]) -> Result<()> {
    let [port, path, count] = args else {
        return Err("push wants PORT FILE COUNT".into());
    };
    let port: u16 = port.parse()?;
    let count: u64 = count.parse()?;
    std::thread::scope(|scope| {
        let feeders: Vec<_> = (0..CONNECTIONS)
            .map(|turn| scope.spawn(move || push(port, path, count, turn)))
            .collect();
        for feeder in feeders {
            feeder.join().map_err(|_| "a feeder panicked")??;
        }
        Ok(())
    })
}

/// Each connection takes every fourth group of lines.
fn push(port: u16, path: &str, count: u64, turn: u64) -> Result<()> {
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.set_nodelay(true)?;
    let mut lines = BufReader::new(File::open(path)?).lines();
    let mut body = Vec::new();
    let groups = count.div_ceil(PUSH_ITEMS);
    for group in 0..groups {
        let size = PUSH_ITEMS.min(count - group * PUSH_ITEMS);
        body.clear();
        body.push(b'[');
        for item in 0..size {
            let line = lines.next().ok_or("the file has too few events")??;
            if group % CONNECTIONS == turn {
                if item > 0 {
                    body.push(b',');
                }
                body.extend_from_slice(line.as_bytes());
            }
        }
        body.push(b']');
        if group % CONNECTIONS == turn {
            post(&mut connection, "bench", &body)?;
        }
    }
    Ok(())
}

/// One POST on a connection that stays; an error unless the answer is 200.
pub fn post(connection: &mut TcpStream, source: &str, body: &[u8]) -> Result<()> {
    let head = format!(
        "POST /push/{source} HTTP/1.1\r\nhost: agent\r\nauthorization: Bearer {DOORS_TOKEN}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes())?;
    connection.write_all(body)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = connection.read(&mut buffer)?;
        if read == 0 {
            return Err("the agent closed the connection".into());
        }
        answer.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, rest)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length: usize = head
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            })
            .unwrap_or(0);
        if rest.len() < length {
            continue;
        }
        if !head.starts_with("HTTP/1.1 200") {
            return Err(format!("the agent answered {text}").into());
        }
        return Ok(());
    }
}
