//! State shared by all lines of a source: the devices that may send, and the registrations.
use linli_shared::service::clock;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::AtomicU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::accounts::Accounts;
use crate::ingest::SourceIngest;
use crate::transport::inbound::Callers;
use linli_devices::gb28181::digest::Nonces;
use linli_devices::gb28181::registry::Registry;
use linli_devices::gb28181::sip::Message;

/// State shared by all lines of a source.
pub(crate) struct Server {
    callers: Callers,
    pub accounts: Accounts,
    pub ingest: SourceIngest,
    registry: Mutex<Registry>,
    pub nonces: Nonces,
    tags: [u8; 16],
    pub sn: AtomicU32,
}

impl Server {
    /// A server without registrations.
    pub fn new(callers: Callers, accounts: Accounts, ingest: SourceIngest) -> Self {
        Self {
            callers,
            accounts,
            ingest,
            registry: Mutex::new(Registry::new(clock::monotonic_ms())),
            nonces: Nonces::new(random()),
            tags: random(),
            sn: AtomicU32::new(1),
        }
    }

    /// The registrations.
    pub fn registry(&self) -> MutexGuard<'_, Registry> {
        // Each change of the registry is complete after one statement, so a poisoned lock is consistent.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tag of answers to a request: the same if the request is repeated.
    pub fn tag(&self, message: &Message<'_>) -> String {
        let mut hasher = SipHasher13::new_with_key(&self.tags);
        hasher.write(message.transaction().as_bytes());
        format!("{:016x}", hasher.finish128().h1)
    }

    /// The address of the agent as seen from a device.
    pub fn own(&self, transport: &str, peer: SocketAddr) -> SocketAddr {
        let listens = match transport {
            "TCP" => self.callers.tcp.or(self.callers.udp),
            _ => self.callers.udp.or(self.callers.tcp),
        };
        let listens = listens.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 5060)));
        if !listens.ip().is_unspecified() {
            return listens;
        }
        // Sends nothing: it asks the system for the route.
        let unspecified: IpAddr = match peer {
            SocketAddr::V4(_) => [0, 0, 0, 0].into(),
            SocketAddr::V6(_) => [0_u16; 8].into(),
        };
        let local = UdpSocket::bind((unspecified, 0)).and_then(|socket| {
            socket.connect(peer)?;
            socket.local_addr()
        });
        SocketAddr::new(
            local.map_or(listens.ip(), |local| local.ip()),
            listens.port(),
        )
    }
}

/// Random bytes.
pub fn random<const N: usize>() -> [u8; N] {
    linli_shared::service::random::bytes()
        .expect("the kernel gives randomness, as it did for the keys of TLS")
}
