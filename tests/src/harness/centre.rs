//! A district centre at work: a hub with the project's example of a district, its people, and its cases.
use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use super::{Agent, AgentSetup, Hub, load_district, user};

/// A hub with the example district, whose users have tokens.
pub struct Centre {
    /// Where it is.
    pub directory: TempDir,
    /// The hub.
    pub hub: Hub,
}

impl Centre {
    /// Running, with more in its config.
    pub async fn new(more: &str) -> Result<Self> {
        Self::with_files(more, &[]).await
    }

    /// Running, with these files beside its config.
    pub async fn with_files(more: &str, files: &[(&str, &str)]) -> Result<Self> {
        let directory = tempdir()?;
        let mut hub = Hub::new(&directory.path().join("hub"))?;
        for (name, text) in files {
            std::fs::write(directory.path().join("hub").join(name), text)?;
        }
        hub.configure(more)?;
        load_district(&hub)?;
        hub.start().await?;
        Ok(Self { directory, hub })
    }

    /// The agent of a station, which takes its incidents; it does not run yet. `more` is of its config.
    pub fn station(&self, name: &str, site: &str, more: &str) -> Result<Agent> {
        let more = format!(
            "{more}[[source]]\nname = \"police\"\nmapping = \"mappings/police-incident.toml\"\n\
             token_file = \"secrets/doors.token\"\n"
        );
        let directory = self.directory.path().join(name);
        let address = format!("127.0.0.1:{}", self.hub.port);
        let agent = Agent::new(&AgentSetup {
            directory: &directory,
            name,
            site,
            hub_address: address.clone(),
            listen: "127.0.0.1",
            more: &more,
        })?;
        agent.join(&self.hub, &address, site)?;
        Ok(agent)
    }

    /// A user who is signed in: the token.
    pub async fn user(&self, login: &str, role: &str, org: &str) -> Result<String> {
        user(&self.hub, login, role, org).await
    }

    /// Asks with a body; the status and the JSON.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: &Value,
    ) -> Result<(u16, Value)> {
        let token = (!token.is_empty()).then_some(token);
        self.hub.ask(method, path, token, Some(body)).await
    }

    /// Sends a body; the status and the JSON.
    pub async fn post(&self, path: &str, token: &str, body: &Value) -> Result<(u16, Value)> {
        self.ask(Method::POST, path, token, body).await
    }

    /// Looks; the status and the JSON.
    pub async fn get(&self, path: &str, token: &str) -> Result<(u16, Value)> {
        self.hub.api_with(path, Some(token)).await
    }

    /// Registers a case.
    pub async fn register(&self, token: &str, body: Value) -> Result<Value> {
        let (status, case) = self
            .ask(Method::POST, "/api/v1/cases", token, &body)
            .await?;
        ensure!(status == 201, "{status} {case}");
        Ok(case)
    }

    /// Makes a move by the version that stands.
    pub async fn make(&self, token: &str, code: &str, wanted: Value) -> Result<(u16, Value)> {
        let (status, case) = self.get(&format!("/api/v1/cases/{code}"), token).await?;
        if status != 200 {
            return Ok((status, case));
        }
        let body = json!({ "version": case["version"], "move": wanted });
        self.ask(
            Method::POST,
            &format!("/api/v1/cases/{code}/moves"),
            token,
            &body,
        )
        .await
    }

    /// Makes a move that is taken.
    pub async fn made(&self, token: &str, code: &str, wanted: Value) -> Result<()> {
        let (status, answer) = self.make(token, code, wanted.clone()).await?;
        ensure!(status == 200, "{wanted}: {status} {answer}");
        Ok(())
    }

    /// From an answer that holds to the archive.
    pub async fn close(&self, supervisor: &str, caller: &str, code: &str) -> Result<()> {
        for (token, wanted) in [
            (supervisor, json!({ "move": "verify", "passed": true })),
            (caller, json!({ "move": "revisit", "satisfied": true })),
            (caller, json!({ "move": "evaluate", "marks": 5 })),
            (supervisor, json!({ "move": "archive" })),
        ] {
            self.made(token, code, wanted).await?;
        }
        Ok(())
    }
}

/// What somebody registers.
pub fn quarrel() -> Value {
    json!({
        "kind": "02", "title": "楼上漏水", "place": "yuyuan-b3", "key": "yuyuan/3/301",
        "narrative": {
            "parties": [{ "name": "王小明", "phone": "13800138000" }],
            "address": "豫园小区3号楼301", "text": "楼上漏水，多次交涉未果",
        },
    })
}

/// The words of what was done with a case.
pub fn words(case: &Value) -> Vec<String> {
    case["actions"]
        .as_array()
        .map(|actions| {
            actions
                .iter()
                .filter_map(|action| action["action"].as_str())
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_default()
}

/// The word of a problem.
pub fn kind(problem: &Value) -> &str {
    let word = problem["type"].as_str().unwrap_or_default();
    word.strip_prefix("urn:linli:problem:").unwrap_or(word)
}
