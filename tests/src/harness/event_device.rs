//! A device with an event stream (`tests/peers/isapi_device.py`), which says what it is told to.
use anyhow::{Result, ensure};
use serde_json::Value;
use std::path::Path;

use super::{Process, free_tcp_port, http, peer, until};

/// The password of every test device.
pub const DEVICE_PASSWORD: &str = "a password: of devices";

/// It listens on every loopback address: each is a device of its own.
pub struct EventDevice {
    /// Its port.
    pub port: u16,
    /// The process.
    pub process: Process,
    client: reqwest::Client,
}

impl EventDevice {
    /// One that runs. `make`: `hikvision` or `dahua`.
    pub async fn start(directory: &Path, python: &Path, make: &str, more: &[&str]) -> Result<Self> {
        let port = free_tcp_port()?;
        let port_text = port.to_string();
        let mut arguments = vec![
            "--port",
            &port_text,
            "--make",
            make,
            "--password",
            DEVICE_PASSWORD,
        ];
        arguments.extend_from_slice(more);
        let log = directory.join("device.log");
        let process = peer(python, "isapi_device.py", &arguments, &log)?;
        let device = Self {
            port,
            process,
            client: http().build()?,
        };
        until("the device to listen", async || {
            Ok(device.seen().await.ok())
        })
        .await?;
        Ok(device)
    }

    /// Tells it something.
    pub async fn control(&self, what: &str, body: impl Into<reqwest::Body>) -> Result<Value> {
        let url = format!("http://127.0.0.1:{}/control/{what}", self.port);
        let answer = self.client.post(url).body(body).send().await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    /// Puts bytes on all streams.
    pub async fn say(&self, bytes: impl Into<reqwest::Body>) -> Result<()> {
        self.control("say", bytes).await?;
        Ok(())
    }

    /// What it has seen.
    pub async fn seen(&self) -> Result<Value> {
        self.control("seen", "").await
    }

    /// Waits until so many streams are open.
    pub async fn has_streams(&self, count: u64) -> Result<()> {
        until(&format!("{count} streams"), async || {
            Ok((self.seen().await?["streams"] == count).then_some(()))
        })
        .await
    }
}
