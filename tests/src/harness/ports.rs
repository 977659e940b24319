//! Ports for the programs that a test starts. No two tests are given the same port while both run.
use anyhow::{Result, bail};
use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// A UDP port that is free, and that no other test is given.
pub fn free_udp_port() -> Result<u16> {
    free_port(|port| UdpSocket::bind(("127.0.0.1", port)).is_ok())
}

/// A TCP port that is free, and that no other test is given.
pub fn free_tcp_port() -> Result<u16> {
    free_port(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
}

/// Ports below the kernel's own choice, so that no outgoing connection takes one meanwhile. A process takes
/// them in blocks, and holds the lock of each block's file until it ends: a test of another process may be
/// given a port long before a program listens on it.
fn free_port(is_free: impl Fn(u16) -> bool) -> Result<u16> {
    static BLOCKS: Mutex<PortBlocks> = Mutex::new(PortBlocks::NONE);
    let mut blocks = BLOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let port = blocks.next()?;
        if is_free(port) {
            return Ok(port);
        }
    }
}

/// The blocks of ports that this process has locked.
struct PortBlocks {
    locks: Vec<File>,
    /// The ports of the newest block that nobody was given.
    left: Range<u16>,
    /// The first block that was not tried.
    untried: u16,
}

impl PortBlocks {
    const NONE: Self = Self {
        locks: Vec::new(),
        left: 0..0,
        untried: 0,
    };
    const FIRST_PORT: u16 = 10_000;
    const BLOCK_PORTS: u16 = 50;
    const BLOCKS: u16 = 440;

    fn next(&mut self) -> Result<u16> {
        loop {
            if let Some(port) = self.left.next() {
                return Ok(port);
            }
            self.lock_a_block()?;
        }
    }

    fn lock_a_block(&mut self) -> Result<()> {
        let user = rustix::process::geteuid().as_raw();
        let directory = std::env::temp_dir().join(format!("linli-ports-{user}"));
        fs::create_dir_all(&directory)?;
        // Processes begin in different places, so that few try a block that another has locked.
        let start = std::process::id().wrapping_mul(701) % u32::from(Self::BLOCKS);
        while self.untried < Self::BLOCKS {
            let block = (start as u16 + self.untried) % Self::BLOCKS;
            self.untried += 1;
            let file = File::create(directory.join(block.to_string()))?;
            if file.try_lock().is_ok() {
                self.locks.push(file);
                let first = Self::FIRST_PORT + block * Self::BLOCK_PORTS;
                self.left = first..first + Self::BLOCK_PORTS;
                return Ok(());
            }
        }
        bail!(
            "no port is free: all blocks of {} are locked",
            directory.display()
        )
    }
}
