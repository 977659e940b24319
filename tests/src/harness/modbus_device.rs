//! A Modbus TCP device of pymodbus (`tests/peers/modbus_device.py`) with the units 1 and 2.
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use tokio::net::TcpStream;

use super::{Process, free_tcp_port, peer, project, run, until};

/// It answers what its registers hold.
pub struct ModbusDevice {
    /// Its port.
    pub port: u16,
    /// The process.
    pub process: Process,
    python: PathBuf,
}

impl ModbusDevice {
    /// One that runs.
    pub async fn start(python: &Path, directory: &Path) -> Result<Self> {
        let port = free_tcp_port()?;
        let log = directory.join("modbus.log");
        let arguments = ["serve", &port.to_string()];
        let process = peer(python, "modbus_device.py", &arguments, &log)?;
        until("the device to listen", async || {
            Ok(TcpStream::connect(("127.0.0.1", port)).await.ok())
        })
        .await
        .with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        Ok(Self {
            port,
            process,
            python: python.to_owned(),
        })
    }

    /// Writes registers as any other client of the device does.
    pub fn set(&self, unit: u8, area: &str, address: u16, value: u16) -> Result<()> {
        run(Command::new(&self.python)
            .arg(project("tests/peers/modbus_device.py"))
            .arg("write")
            .args([self.port, unit.into()].map(|number| number.to_string()))
            .arg(area)
            .args([address, value].map(|number| number.to_string())))?;
        Ok(())
    }
}
