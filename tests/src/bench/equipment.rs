//! A compound's equipment on one agent: 200 doors with a heartbeat every 10 s, and 300 registers read every 5 s. What the
//! agent takes of a core and of memory while nothing happens, and when every door opens and closes at once.
use std::path::Path;
use std::time::{Duration, Instant};

use super::doors;
use super::host::{Result, Usage};
use crate::harness::{
    DEVICE_PASSWORD, Equipped, EventDevice, free_tcp_port, peer, peers_python, until,
};

/// Doors.
pub const DOORS: u64 = 200;
/// Registers of one device, and such devices.
const POINTS: (u64, u64) = (30, 10);
/// Openings and closings of each door in the storm.
const STORM: u64 = 20;
const QUIET: Duration = Duration::from_secs(30);

/// What was measured.
pub struct Report {
    /// Part of a core while nothing happens, percent.
    pub quiet_percent: f64,
    /// Resident memory then, MB.
    pub quiet_mb: f64,
    /// Events of the storm.
    pub storm_events: u64,
    /// From the first byte until the hub has all, seconds.
    pub storm_s: f64,
    /// CPU of the agent for it, seconds.
    pub storm_cpu_s: f64,
    /// Resident memory at most, MB.
    pub peak_mb: f64,
}

/// `None` without the peers.
pub fn run(directory: &Path) -> Result<Option<Report>> {
    let runtime = tokio::runtime::Runtime::new()?;
    Ok(runtime.block_on(measure(directory))?)
}

async fn measure(directory: &Path) -> anyhow::Result<Option<Report>> {
    let Some(python) = peers_python() else {
        return Ok(None);
    };
    let devices = EventDevice::start(directory, &python, "hikvision", &["--beat", "10"]).await?;
    let port = free_tcp_port()?;
    let log = directory.join("modbus.log");
    let _piles = peer(
        &python,
        "modbus_device.py",
        &["serve", &port.to_string()],
        &log,
    )?;
    until("the piles to listen", async || {
        Ok(tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .ok())
    })
    .await?;
    let mut blocks = doors::blocks("doors-hik", DOORS, devices.port);
    blocks.push_str("[[source]]\nname = \"piles\"\ntype = \"modbus\"\n");
    for number in 1..=POINTS.1 {
        blocks.push_str(&format!(
            "[[source.device]]\nid = \"shed-{number}\"\naddress = \"127.0.0.1:{port}\"\nmap = \"piles.toml\"\n"
        ));
    }
    let map = format!(
        "schema = 1\n[[point]]\nname = \"temperature\"\narea = \"holding\"\naddress = 0\nrepeat = {{ count = {}, stride = 1 }}\n\
         [[point.alarm]]\nabove = 70.0\nclear = 60.0\nkind = \"pile.overheat\"\nrestored = \"pile.restored\"\nseverity = \"alarm\"\n",
        POINTS.0
    );
    let files = [
        ("secrets/device", DEVICE_PASSWORD),
        ("piles.toml", map.as_str()),
    ];
    let scene = Equipped::start(directory, &blocks, &files).await?;
    for (source, devices) in [("doors-hik", DOORS), ("piles", POINTS.1)] {
        scene
            .source_is(source, "all devices to be heard", |source| {
                source["online"] == devices
            })
            .await?;
        scene.stored_at_least(source, devices as usize).await?;
    }
    let usage = || Usage::of(scene.agent.process()?.pid()).map_err(anyhow::Error::from_boxed);
    let before = usage()?;
    tokio::time::sleep(QUIET).await;
    let quiet = usage()?;
    // Everybody opens and closes a door.
    let at = jiff::Timestamp::now();
    let mut said = String::new();
    for serial in 1..=STORM {
        let body = serde_json::json!({
            "dateTime": at.to_string(), "eventType": "AccessControllerEvent", "eventState": "active",
            "AccessControllerEvent": {
                "majorEventType": 5, "subEventType": if serial % 2 == 1 { 0x19 } else { 0x1a }, "doorNo": 1,
                "serialNo": serial, "currentEvent": true,
            },
        })
        .to_string();
        said.push_str(&format!(
            "--boundary\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}\r\n",
            body.len()
        ));
    }
    let started = Instant::now();
    devices.say(said).await?;
    let storm_events = DOORS * STORM;
    scene
        .stored_at_least("doors-hik", (DOORS + storm_events) as usize)
        .await?;
    let storm_s = started.elapsed().as_secs_f64();
    let after = usage()?;
    Ok(Some(Report {
        quiet_percent: (quiet.cpu_s - before.cpu_s) / QUIET.as_secs_f64() * 100.0,
        quiet_mb: quiet.resident_mb,
        storm_events,
        storm_s,
        storm_cpu_s: after.cpu_s - quiet.cpu_s,
        peak_mb: after.peak_mb,
    }))
}
