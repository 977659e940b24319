//! Equipment: agents with sources, and the independent implementations that play the devices (`tests/peers`).
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Agent, AgentSetup, Hub, Process, StoredEvent, project, stored_events, until};

/// The Python with the packages of `tests/peers/requirements.txt`, where `make test` puts it; a run without it says
/// so.
pub fn peers_python() -> Option<PathBuf> {
    let home = std::env::var_os("HOME")?;
    let python = PathBuf::from(home).join(".cache/linli/peers/bin/python");
    if python.exists() {
        return Some(python);
    }
    println!("skipped: the peers of sources are not there; `make test` installs them from PyPI");
    None
}

/// A program of Debian, or `None` and a word that the test is skipped.
pub fn installed(program: &str) -> Option<PathBuf> {
    let directories = ["/usr/bin", "/usr/sbin", "/usr/local/bin"];
    let found = directories
        .iter()
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.exists());
    if found.is_none() {
        println!("skipped: {program} is not there; `make test` installs it from Debian");
    }
    found
}

/// Recordings of real devices, where they lie beside the project; a run without them says so.
pub fn recording(name: &str) -> Option<Vec<u8>> {
    let path = project("../shared/captures").join(name);
    let read = std::fs::read(&path).ok();
    if read.is_none() {
        println!("skipped: the recording {name} is not there");
    }
    read
}

/// Starts a script of `tests/peers` with these arguments; its output goes to `log`.
pub fn peer(python: &Path, script: &str, arguments: &[&str], log: &Path) -> Result<Process> {
    let script_path = project("tests/peers").join(script);
    let mut command = Command::new(python);
    command.arg("-u").arg(script_path).args(arguments);
    Process::start(script, &mut command, log)
}

/// A hub and an agent `gw-1` of the site `yuyuan` that has sources.
pub struct Equipped {
    /// The hub.
    pub hub: Hub,
    /// The agent.
    pub agent: Agent,
}

impl Equipped {
    /// Both run. `blocks` are TOML of the agent's config; `files` are written beside it first, each with a name relative
    /// to it.
    pub async fn start(directory: &Path, blocks: &str, files: &[(&str, &str)]) -> Result<Self> {
        Self::start_apart(directory, directory, blocks, files).await
    }

    /// The same, with the agent in a directory of its own: on another disk.
    pub async fn start_apart(
        hub_directory: &Path,
        agent_directory: &Path,
        blocks: &str,
        files: &[(&str, &str)],
    ) -> Result<Self> {
        let mut hub = Hub::new(&hub_directory.join("hub"))?;
        hub.start().await?;
        let home = agent_directory.join("gw-1");
        for (name, text) in files {
            let path = home.join(name);
            std::fs::create_dir_all(path.parent().context("a directory")?)?;
            std::fs::write(path, text)?;
        }
        let hub_address = format!("127.0.0.1:{}", hub.port);
        let mut agent = Agent::new(&AgentSetup {
            directory: &home,
            name: "gw-1",
            site: "yuyuan",
            hub_address: hub_address.clone(),
            listen: "127.0.0.1",
            more: blocks,
        })?;
        agent.join(&hub, &hub_address, "yuyuan")?;
        agent.start().await?;
        Ok(Self { hub, agent })
    }

    /// The same, once the source of this name listens.
    pub async fn listening(
        directory: &Path,
        source: &str,
        blocks: &str,
        files: &[(&str, &str)],
    ) -> Result<Self> {
        let scene = Self::start(directory, blocks, files).await?;
        scene.connected(source).await?;
        Ok(scene)
    }

    /// Waits until a source listens, or is connected.
    pub async fn connected(&self, source: &str) -> Result<()> {
        let there = |source: &Value| !source["connected"].is_null();
        self.source_is(source, "the source to be connected", there)
            .await?;
        Ok(())
    }

    /// Kills the agent so many times while a peer tells of `alarms` fires, each of a device of its own, and waits for answers:
    /// its `log` has "confirmed" for each and "done" at the end. Each must be at the hub, once.
    pub async fn kills_in_a_storm(
        &mut self,
        source: &str,
        log: &Path,
        alarms: usize,
        kills: usize,
    ) -> Result<()> {
        for round in 1..=kills {
            let reached = round * alarms / (kills + 2);
            until("the storm to go on", async || {
                let text = std::fs::read_to_string(log).unwrap_or_default();
                Ok((text.matches("confirmed").count() >= reached).then_some(()))
            })
            .await?;
            self.agent.kill()?;
            self.agent.start().await?;
        }
        until("the storm to end", async || {
            let text = std::fs::read_to_string(log)?;
            Ok(text.contains("done").then_some(()))
        })
        .await?;
        self.agent.drained().await?;
        let mut stored = self.stored(source).await?;
        stored.retain(|stored| stored.event.kind == "fire.alarm");
        let devices: HashSet<&str> = stored
            .iter()
            .map(|stored| stored.event.device.as_str())
            .collect();
        ensure!(
            devices.len() == alarms,
            "{} of {alarms} alarms",
            devices.len()
        );
        ensure!(
            stored.len() == alarms,
            "{} events of {alarms} alarms",
            stored.len()
        );
        Ok(())
    }

    /// Waits until the hub has been told that so many devices of a source are silent, their state unknown.
    pub async fn silence_is_told(&self, source: &str, devices: usize) -> Result<()> {
        until("the silence to be at the hub", async || {
            let mut stored = self.stored(source).await?;
            stored.retain(|stored| {
                stored.event.kind == "device.offline"
                    && stored.event.attributes["state"] == "unknown"
            });
            Ok((stored.len() >= devices).then_some(()))
        })
        .await
    }

    /// How a source stands, by `linli-agent status`.
    pub fn source(&self, name: &str) -> Result<Value> {
        let status = self.agent.status()?;
        let sources = status["sources"].as_array().context("sources")?;
        let found = sources.iter().find(|source| source["name"] == name);
        found.cloned().with_context(|| format!("no source {name}"))
    }

    /// Waits until a source stands as `good` wants it.
    pub async fn source_is(
        &self,
        name: &str,
        what: &str,
        good: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut last = Value::Null;
        let outcome = until(what, async || {
            last = self.source(name)?;
            Ok(good(&last).then(|| last.clone()))
        })
        .await;
        outcome.with_context(|| format!("{last:#}"))
    }

    /// The events of a source that the hub has.
    pub async fn stored(&self, source: &str) -> Result<Vec<StoredEvent>> {
        let mut stored = stored_events(self.hub.database_url()).await?;
        stored.retain(|stored| stored.event.source == source);
        Ok(stored)
    }

    /// Waits until the hub has at least so many events of a source, and gives all.
    pub async fn stored_at_least(&self, source: &str, count: usize) -> Result<Vec<StoredEvent>> {
        let mut last = Vec::new();
        let what = format!("{count} events of {source} at the hub");
        let outcome = until(&what, async || {
            last = self.stored(source).await?;
            Ok((last.len() >= count).then(|| last.clone()))
        })
        .await;
        outcome.with_context(|| {
            let kinds: Vec<&str> = last
                .iter()
                .map(|stored| stored.event.kind.as_str())
                .collect();
            let log = std::fs::read_to_string(self.agent.log()).unwrap_or_default();
            format!(
                "there are {kinds:?}; {:#}\n{log}",
                self.source(source).unwrap_or_default()
            )
        })
    }
}
