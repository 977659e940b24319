//! A camera of the tests that speaks ONVIF (`tests/peers/onvif_device.py`).
use anyhow::Result;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use tokio::net::TcpStream;

use super::{Process, free_tcp_port, http, peer, project, run, until};

/// The password of its user `admin`.
pub const ONVIF_PASSWORD: &str = "a password of the camera";

/// It says what it is told to.
pub struct OnvifDevice {
    /// Its port.
    pub port: u16,
    /// The process.
    pub process: Process,
    python: PathBuf,
}

impl OnvifDevice {
    /// One that runs; its clock is off by so much.
    pub async fn start(python: &Path, directory: &Path, clock_offset_s: i64) -> Result<Self> {
        let port = free_tcp_port()?;
        let log = directory.join("onvif.log");
        let arguments = ["serve", &port.to_string(), &clock_offset_s.to_string()];
        let process = peer(python, "onvif_device.py", &arguments, &log)?;
        until("the device to listen", async || {
            Ok(TcpStream::connect(("127.0.0.1", port)).await.ok())
        })
        .await?;
        Ok(Self {
            port,
            process,
            python: python.to_owned(),
        })
    }

    /// Tells it something; how it stands then.
    pub async fn control(&self, line: &str) -> Result<Value> {
        let url = format!("http://127.0.0.1:{}/control", self.port);
        let answer = http().build()?.post(url).body(line.to_owned()).send();
        let answer = answer.await?.error_for_status()?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    /// What an independent client makes of the device.
    pub fn pulled_by_others(&self) -> Result<String> {
        run(Command::new(&self.python)
            .arg(project("tests/peers/onvif_device.py"))
            .args(["pull", &self.port.to_string()]))
    }
}
