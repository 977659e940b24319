//! A real agent.
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Hub, Process, binary, free_tcp_port, http, project, run, until};

/// The token of the source `doors` of every test agent.
pub const DOORS_TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// How an agent is set up.
pub struct AgentSetup<'a> {
    /// Its directory.
    pub directory: &'a Path,
    /// Its name.
    pub name: &'a str,
    /// Its site.
    pub site: &'a str,
    /// Where the hub is reached, `host:port`.
    pub hub_address: String,
    /// Where it listens for pushes and scrapes.
    pub listen: &'a str,
    /// More blocks for its config.
    pub more: &'a str,
}

/// An agent in a directory; it runs between [`Agent::start`] and [`Agent::kill`] or [`Agent::stop`].
pub struct Agent {
    directory: PathBuf,
    listen: String,
    /// Its name.
    pub name: String,
    /// TCP port of pushes.
    pub push_port: u16,
    /// TCP port of metrics and health.
    pub metrics_port: u16,
    /// Runs before the program: namespaces, faketime.
    pub wrapper: Vec<String>,
    process: Option<Process>,
    client: reqwest::Client,
}

/// What a push was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// JSON body.
    pub body: Value,
}

impl Agent {
    /// An agent that has joined `hub`, with the source `doors`; it does not run yet.
    pub fn joined(directory: &Path, hub: &Hub, name: &str, site: &str) -> Result<Self> {
        let agent = Self::new(&AgentSetup {
            directory,
            name,
            site,
            hub_address: format!("127.0.0.1:{}", hub.port),
            listen: "127.0.0.1",
            more: "",
        })?;
        agent.join(hub, &format!("127.0.0.1:{}", hub.port), site)?;
        Ok(agent)
    }

    /// Writes the config; joins nothing.
    pub fn new(setup: &AgentSetup<'_>) -> Result<Self> {
        std::fs::create_dir_all(setup.directory.join("secrets"))?;
        std::fs::write(setup.directory.join("secrets/doors.token"), DOORS_TOKEN)?;
        let mappings = setup.directory.join("mappings");
        std::fs::create_dir_all(&mappings)?;
        for file in std::fs::read_dir(project("configs/mappings"))?.flatten() {
            std::fs::copy(file.path(), mappings.join(file.file_name()))?;
        }
        // Tests tell of the past by the doors of an agent, which say so: see `door_event`.
        let doors = mappings.join("doors.toml");
        let past = "\n[replayed]\npointer = \"/replayed\"\nvalues = [\"true\"]\n";
        std::fs::write(&doors, std::fs::read_to_string(&doors)? + past)?;
        let agent = Self {
            directory: setup.directory.to_owned(),
            listen: setup.listen.to_owned(),
            name: setup.name.to_owned(),
            push_port: free_tcp_port()?,
            metrics_port: free_tcp_port()?,
            wrapper: Vec::new(),
            process: None,
            client: http().build()?,
        };
        let config = format!(
            "data_dir = {:?}\n[hub]\naddresses = [{:?}]\n[push]\nlisten = \"{}:{}\"\n\
             [metrics]\nlisten = \"{}:{}\"\n{}\n\
             [[source]]\nname = \"doors\"\nmapping = \"mappings/doors.toml\"\ntoken_file = \"secrets/doors.token\"\n",
            agent.data(),
            setup.hub_address,
            setup.listen,
            agent.push_port,
            setup.listen,
            agent.metrics_port,
            setup.more,
        );
        std::fs::write(agent.config(), config)?;
        Ok(agent)
    }

    /// Joins a hub.
    pub fn join(&self, hub: &Hub, address: &str, site: &str) -> Result<()> {
        let token_file = self.directory.join("token");
        std::fs::write(&token_file, hub.join_token(site)?)?;
        run(self
            .command()?
            .args(["join", address, "--agent", &self.name, "--token-file"])
            .arg(&token_file))?;
        Ok(())
    }

    /// The config file.
    pub fn config(&self) -> PathBuf {
        self.directory.join("agent.toml")
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The log of all its runs.
    pub fn log(&self) -> PathBuf {
        self.directory.join("agent.log")
    }

    /// `linli-agent --config …`, for any subcommand.
    pub fn command(&self) -> Result<Command> {
        let mut words = self.wrapper.clone();
        words.push(binary("linli-agent")?.display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("--config").arg(self.config());
        Ok(command)
    }

    /// Starts it and waits until it takes events.
    pub async fn start(&mut self) -> Result<()> {
        self.spawn()?;
        self.ready().await
    }

    /// Starts it.
    pub fn spawn(&mut self) -> Result<()> {
        let process = Process::start(&self.name, self.command()?.arg("run"), &self.log())?;
        self.process = Some(process);
        Ok(())
    }

    /// Waits until it takes events.
    pub async fn ready(&mut self) -> Result<()> {
        let url = format!("http://{}:{}/health/livez", self.listen, self.metrics_port);
        let process = self.process.as_mut().context("the agent was not started")?;
        let client = &self.client;
        let outcome = until("the agent to run", async || {
            process.check_alive()?;
            Ok(client
                .get(&url)
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success())
                .then_some(()))
        })
        .await;
        outcome.with_context(|| std::fs::read_to_string(self.log()).unwrap_or_default())
    }

    /// The running process.
    pub fn process(&self) -> Result<&Process> {
        self.process.as_ref().context("the agent does not run")
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.process
            .take()
            .context("the agent does not run")?
            .kill()
    }

    /// SIGTERM and a clean end.
    pub fn stop(&mut self) -> Result<()> {
        self.process
            .take()
            .context("the agent does not run")?
            .stop()
    }

    /// Pushes a body to a source with a token.
    pub async fn push_raw(&self, source: &str, token: &str, body: Vec<u8>) -> Result<Answer> {
        let answer = self
            .client
            .post(format!(
                "http://{}:{}/push/{source}",
                self.listen, self.push_port
            ))
            .bearer_auth(token)
            .body(body)
            .send()
            .await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { status, body })
    }

    /// Pushes door events to the source `doors`.
    pub async fn push(&self, events: &[Value]) -> Result<Answer> {
        let body = serde_json::to_vec(&serde_json::json!({ "events": events }))?;
        self.push_raw("doors", DOORS_TOKEN, body).await
    }

    /// Pushes door events, each of which must be taken, and waits until the hub has them.
    pub async fn deliver(&self, events: &[Value]) -> Result<()> {
        let answer = self.push(events).await?;
        ensure!(
            answer.status == 200 && answer.body["rejected"] == 0,
            "{answer:?}"
        );
        self.drained().await
    }

    /// The metrics as text.
    pub async fn metrics(&self) -> Result<String> {
        let url = format!("http://{}:{}/metrics", self.listen, self.metrics_port);
        Ok(self
            .client
            .get(url)
            .send()
            .await?
            .error_for_status()?
            .text()
            .await?)
    }

    /// `linli-agent status --json`
    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&run(self
            .command()?
            .args(["status", "--json"]))?)?)
    }

    /// Waits until nothing waits for the hub.
    pub async fn drained(&self) -> Result<()> {
        let mut last = Value::Null;
        let outcome = until("the agent's spool to be empty", async || {
            let status = self.status()?;
            last.clone_from(&status);
            let empty = status["lanes"]
                .as_array()
                .is_some_and(|lanes| lanes.iter().all(|lane| lane["events"] == 0));
            Ok((empty && !status["connected"].is_null()).then_some(()))
        })
        .await;
        outcome.with_context(|| {
            let log = std::fs::read_to_string(self.log()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(30).collect();
            format!("{last}\n{}", lines.join("\n"))
        })
    }
}

/// Milliseconds since 1970 UTC.
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// The value of a metric line that starts with `name`, e.g. `linli_agent_spool_events{lane="urgent"}`.
pub fn metric(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}
