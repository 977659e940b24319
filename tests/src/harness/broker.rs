//! A real mosquitto (Debian's), spoken to by its own clients.
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Process, free_tcp_port, installed, run, until};

const USER: &str = "gateway";
/// The password of the broker's one user.
pub const BROKER_PASSWORD: &str = "a password of the broker";

/// A broker with one user, on a port that stays the same; what it keeps of sessions is in its directory.
pub struct Broker {
    directory: PathBuf,
    program: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Broker {
    /// `None` where mosquitto is not installed.
    pub fn new(directory: &Path) -> Result<Option<Self>> {
        let (Some(program), Some(passwd)) = (installed("mosquitto"), installed("mosquitto_passwd"))
        else {
            return Ok(None);
        };
        std::fs::create_dir_all(directory)?;
        let port = free_tcp_port()?;
        let users = directory.join("users");
        run(Command::new(passwd)
            .args(["-b", "-c"])
            .arg(&users)
            .args([USER, BROKER_PASSWORD]))?;
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {}\nuser root\n\
             persistence true\npersistence_location {}/\nautosave_interval 1\nautosave_on_changes true\nlog_type all\n",
            users.display(),
            directory.display(),
        );
        std::fs::write(directory.join("mosquitto.conf"), config)?;
        Ok(Some(Self {
            directory: directory.to_owned(),
            program,
            port,
            process: None,
        }))
    }

    /// Starts it and waits until it listens.
    pub async fn start(&mut self) -> Result<()> {
        let config = self.directory.join("mosquitto.conf");
        self.process = Some(Process::start(
            "mosquitto",
            Command::new(&self.program).arg("-c").arg(config),
            &self.log(),
        )?);
        until("the broker to listen", async || {
            Ok(tokio::net::TcpStream::connect(("127.0.0.1", self.port))
                .await
                .ok())
        })
        .await?;
        Ok(())
    }

    /// Ends it.
    pub fn stop(&mut self) -> Result<()> {
        self.process.take().context("the broker runs")?.stop()
    }

    /// Publishes a payload by mosquitto's own client, with QoS 1.
    pub fn publish(&self, topic: &str, payload: &[u8], more: &[&str]) -> Result<()> {
        let file = self.directory.join("payload");
        std::fs::write(&file, payload)?;
        let port = self.port.to_string();
        run(Command::new("mosquitto_pub")
            .args([
                "-p",
                &port,
                "-u",
                USER,
                "-P",
                BROKER_PASSWORD,
                "-q",
                "1",
                "-t",
                topic,
                "-f",
            ])
            .arg(&file)
            .args(more))?;
        Ok(())
    }

    /// How often a client has acknowledged a message.
    pub fn acknowledged(&self, client: &str) -> Result<usize> {
        let log = std::fs::read_to_string(self.log())?;
        Ok(log
            .matches(&format!("Received PUBACK from {client} "))
            .count())
    }

    fn log(&self) -> PathBuf {
        self.directory.join("mosquitto.log")
    }

    /// The keys of an agent's `[[source]]` that say where it is; its password is in `secrets/broker`.
    pub fn keys(&self) -> String {
        let port = self.port;
        format!(
            "broker = \"mqtt://127.0.0.1:{port}\"\nuser = \"{USER}\"\npassword_file = \"secrets/broker\"\n"
        )
    }
}
