//! A real hub.
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{
    Process, StoredEvent, binary, engine, free_tcp_port, free_udp_port, http, project, run, until,
};

/// A hub in a directory; it runs between [`Hub::start`] and [`Hub::kill`] or [`Hub::stop`].
pub struct Hub {
    directory: PathBuf,
    /// UDP port for agents.
    pub port: u16,
    /// TCP port of the API.
    pub api_port: u16,
    /// TCP port of metrics and health.
    pub metrics_port: u16,
    /// Runs before the program: namespaces, faketime.
    pub wrapper: Vec<String>,
    /// Where its database is.
    database: String,
    process: Option<Process>,
    token: Option<String>,
}

impl Hub {
    /// Makes config and certificates with the project's own rules; starts nothing.
    pub fn new(directory: &Path) -> Result<Self> {
        Self::listening_on(directory, "127.0.0.1")
    }

    /// The same, listening for agents on another address.
    pub fn listening_on(directory: &Path, address: &str) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let data_dir = directory.join("data");
        let (server, database) = engine::database(&data_dir)?;
        let hub = Self {
            directory: directory.to_owned(),
            port: free_udp_port()?,
            api_port: free_tcp_port()?,
            metrics_port: free_tcp_port()?,
            wrapper: Vec::new(),
            database,
            process: None,
            token: None,
        };
        let rules = directory.join("rules");
        std::fs::create_dir_all(&rules)?;
        for file in std::fs::read_dir(project("configs/rules"))?.flatten() {
            std::fs::copy(file.path(), rules.join(file.file_name()))?;
        }
        let config = format!(
            "data_dir = {data_dir:?}\nlisten = \"{address}:{}\"\nheartbeat = \"500ms\"\n\
             [api]\nlisten = \"127.0.0.1:{}\"\n[metrics]\nlisten = \"127.0.0.1:{}\"\n\
             [clock]\nunsynchronised = \"trust\"\n",
            hub.port, hub.api_port, hub.metrics_port
        );
        let server = server.map(|url| format!("[database]\nurl = {url:?}\n"));
        std::fs::write(hub.config(), config + &server.unwrap_or_default())?;
        run(hub.command()?.arg("init"))?;
        Ok(hub)
    }

    /// A hub with these rules and no others; nothing is started.
    pub fn with_rules(directory: &Path, rules: &str) -> Result<Self> {
        let hub = Self::new(directory)?;
        for file in std::fs::read_dir(hub.rules_dir())?.flatten() {
            std::fs::remove_file(file.path())?;
        }
        hub.write_rules("own", rules)?;
        Ok(hub)
    }

    /// Where its rules stand.
    pub fn rules_dir(&self) -> PathBuf {
        self.directory.join("rules")
    }

    /// Writes a file of rules, with its head; for the next start or reload.
    pub fn write_rules(&self, name: &str, rules: &str) -> Result<()> {
        let path = self.rules_dir().join(format!("{name}.toml"));
        Ok(std::fs::write(path, format!("schema = 1\n{rules}\n"))?)
    }

    /// Has it read its rules again; the status and the JSON.
    pub async fn reload(&mut self) -> Result<(u16, Value)> {
        self.api_post("/api/v1/rules/reload").await
    }

    /// The warnings that stand, oldest first; `filter` is more of the query, like `rule=x`.
    pub async fn warnings(&mut self, filter: &str) -> Result<Vec<Value>> {
        let mut found = Vec::new();
        let first = format!("/api/v1/warnings?limit=500&state=active&{filter}");
        let mut path = first.clone();
        loop {
            let (status, page) = self.api(&path).await?;
            ensure!(status == 200, "{page}");
            found.extend(page["items"].as_array().context("items")?.iter().cloned());
            match page["next"].as_str() {
                Some(next) => path = format!("{first}&cursor={next}"),
                None => break,
            }
        }
        found.reverse();
        Ok(found)
    }

    /// One warning, with all that became of it.
    pub async fn warning(&mut self, id: i64) -> Result<Value> {
        let (status, warning) = self.api(&format!("/api/v1/warnings/{id}")).await?;
        ensure!(status == 200, "{warning}");
        Ok(warning)
    }

    /// Adds blocks to its config; for the next start.
    pub fn configure(&self, more: &str) -> Result<()> {
        let config = std::fs::read_to_string(self.config())?;
        Ok(std::fs::write(
            self.config(),
            format!("{config}\n{more}\n"),
        )?)
    }

    /// Puts another text in the place of one of its config; for the next start.
    pub fn replace_config(&self, text: &str, by: &str) -> Result<()> {
        let config = std::fs::read_to_string(self.config())?;
        ensure!(config.contains(text), "{text:?} is not in {config}");
        Ok(std::fs::write(self.config(), config.replacen(text, by, 1))?)
    }

    /// The config file.
    pub fn config(&self) -> PathBuf {
        self.directory.join("hub.toml")
    }

    /// Has it use another database from its next start on: of a server, or the file in its data directory.
    pub fn use_database(&mut self, url: Option<&str>) -> Result<()> {
        let config = std::fs::read_to_string(self.config())?;
        let without = match config.split_once("[database]\n") {
            Some((head, rest)) => {
                let (_, tail) = rest.split_once('\n').unwrap_or_default();
                format!("{head}{tail}")
            }
            None => config,
        };
        let server = url.map(|url| format!("[database]\nurl = {url:?}\n"));
        std::fs::write(self.config(), without + &server.unwrap_or_default())?;
        self.database = match url {
            Some(url) => url.to_owned(),
            None => engine::sqlite_url(&self.database()),
        };
        Ok(())
    }

    /// Where its database is, for sqlx.
    pub fn database_url(&self) -> &str {
        &self.database
    }

    /// The database file, where it is one.
    pub fn database(&self) -> PathBuf {
        self.directory.join("data/hub.db")
    }

    /// The root certificate.
    pub fn root(&self) -> PathBuf {
        self.directory.join("data/ca/root.pem")
    }

    /// The log of all its runs.
    pub fn log(&self) -> PathBuf {
        self.directory.join("hub.log")
    }

    /// `linli-hub --config …`, for any subcommand.
    pub fn command(&self) -> Result<Command> {
        let mut words = self.wrapper.clone();
        words.push(binary("linli-hub")?.display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("--config").arg(self.config());
        Ok(command)
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&mut self) -> Result<()> {
        self.spawn()?;
        self.ready().await
    }

    /// Starts it.
    pub fn spawn(&mut self) -> Result<()> {
        let process = Process::start("linli-hub", self.command()?.arg("serve"), &self.log())?;
        self.process = Some(process);
        Ok(())
    }

    /// Waits until it is ready.
    pub async fn ready(&mut self) -> Result<()> {
        let url = format!("http://127.0.0.1:{}/health/readyz", self.metrics_port);
        let client = http().build()?;
        let process = self.process.as_mut().context("the hub was not started")?;
        let outcome = until("the hub to be ready", async || {
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
        self.process.as_ref().context("the hub does not run")
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("the hub does not run")?.kill()
    }

    /// SIGTERM and a clean end.
    pub fn stop(&mut self) -> Result<()> {
        self.process.take().context("the hub does not run")?.stop()
    }

    /// Has somebody say that the clock of the machine is right; for the next start, or at once where it runs.
    pub fn trust_clock(&self) -> Result<()> {
        run(self.command()?.args(["clock", "trust"])).map(|_| ())
    }

    /// A token with which an agent of `site` joins; of a station where the site is called `pcs-…`.
    pub fn join_token(&self, site: &str) -> Result<String> {
        let mut command = self.command()?;
        command.args(["token", "create", "--site", site]);
        if site.starts_with("pcs-") {
            command.arg("--station");
        }
        run(&mut command)
    }

    /// GET on the API with a good token; the status and the JSON.
    pub async fn api(&mut self, path: &str) -> Result<(u16, Value)> {
        let token = self.token()?;
        self.api_with(path, Some(&token)).await
    }

    /// POST on the API with a good token and no body; the status and the JSON.
    pub async fn api_post(&mut self, path: &str) -> Result<(u16, Value)> {
        let token = self.token()?;
        self.ask(reqwest::Method::POST, path, Some(&token), None)
            .await
    }

    /// POST of a JSON body on the API with a good token; the status and the JSON.
    pub async fn post(&mut self, path: &str, body: &Value) -> Result<(u16, Value)> {
        let token = self.token()?;
        self.ask(reqwest::Method::POST, path, Some(&token), Some(body))
            .await
    }

    fn token(&mut self) -> Result<String> {
        Ok(match &self.token {
            Some(token) => token.clone(),
            None => {
                let made = run(self
                    .command()?
                    .args(["api-token", "create", "--name", "test"]))?;
                let made = made.trim().to_owned();
                self.token = Some(made.clone());
                made
            }
        })
    }

    /// GET on the API with this token.
    pub async fn api_with(&self, path: &str, token: Option<&str>) -> Result<(u16, Value)> {
        self.ask(reqwest::Method::GET, path, token, None).await
    }

    /// POST on the API with this token and no body.
    pub async fn post_with(&self, path: &str, token: &str) -> Result<(u16, Value)> {
        self.ask(reqwest::Method::POST, path, Some(token), None)
            .await
    }

    /// Where a path of the API is.
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.api_port)
    }

    /// A client that trusts this hub and nobody else.
    pub fn client(&self) -> Result<reqwest::Client> {
        let root = reqwest::Certificate::from_pem(&std::fs::read(self.root())?)?;
        Ok(http().tls_certs_only([root]).build()?)
    }

    /// The audit log of an object, newest first.
    pub fn audit(&self, object: &str) -> Result<Vec<Value>> {
        let words = ["audit", "list", "--json", "--limit", "1000"];
        let said = run(self.command()?.args(words).args(["--object", object]))?;
        said.lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }

    /// Any request on the API; the status and the JSON.
    pub async fn ask(
        &self,
        method: reqwest::Method,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<(u16, Value)> {
        let mut request = self.client()?.request(method, self.url(path));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(serde_json::to_vec(body)?);
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        if text.is_empty() {
            return Ok((status, Value::Null));
        }
        let json = serde_json::from_str(&text).with_context(|| format!("{status}: {text}"))?;
        Ok((status, json))
    }

    /// The metrics as text.
    pub async fn metrics(&self) -> Result<String> {
        let url = format!("http://127.0.0.1:{}/metrics", self.metrics_port);
        let answer = http().build()?.get(url).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// Every stored event of a source, straight from the database.
    pub async fn stored(&self) -> Result<Vec<StoredEvent>> {
        super::stored_events(&self.database).await
    }

    /// What agents have told of their starts, straight from the database.
    pub async fn starts(&self) -> Result<Vec<StoredEvent>> {
        super::stored_starts(&self.database).await
    }
}
