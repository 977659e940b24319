//! A stretch of bad network between agents and a hub: every datagram may be lost, delayed, overtaken or
//! doubled, and the addresses can change under way as they do behind a mobile operator's NAT.
//!
//! A relay in user space, because the kernel of a test machine does not always have netem.
use anyhow::Result;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::Random;

/// Largest UDP payload.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Datagrams on their way, both directions; what comes beyond it is lost, as in a full queue.
const UNDER_WAY_MAX: usize = 4_096;

/// How bad it is. Shares are per mille.
#[derive(Debug, Clone, Copy)]
pub struct BadNetwork {
    /// Datagrams that never arrive.
    pub lost: u64,
    /// Datagrams that arrive twice.
    pub doubled: u64,
    /// Each takes between the two.
    pub delay: (Duration, Duration),
    /// For the dice.
    pub seed: u64,
}

/// The relay; it ends when it is dropped.
pub struct Relay {
    /// Where agents send to instead of the hub.
    pub port: u16,
    generation: Arc<AtomicU64>,
    counts: Arc<Counts>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    lost: AtomicU64,
    passed: AtomicU64,
    /// Nothing gets through.
    cut: AtomicBool,
}

impl Relay {
    /// Relays between its own port and the hub's, both on loopback.
    pub async fn start(hub_port: u16, network: BadNetwork) -> Result<Self> {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
        let port = front.local_addr()?.port();
        let generation = Arc::new(AtomicU64::new(0));
        let counts = Arc::new(Counts::default());
        let hub = SocketAddr::from(([127, 0, 0, 1], hub_port));
        let task = tokio::spawn(relay(
            front,
            hub,
            network,
            generation.clone(),
            counts.clone(),
        ));
        Ok(Self {
            port,
            generation,
            counts,
            task,
        })
    }

    /// From now on the hub sees everybody under new addresses.
    pub fn rebind(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on nothing gets through, in either direction.
    pub fn cut(&self) {
        self.counts.cut.store(true, Ordering::Relaxed);
    }

    /// What is sent from now on gets through again, as the network has it.
    pub fn mend(&self) {
        self.counts.cut.store(false, Ordering::Relaxed);
    }

    /// Datagrams that were lost, and that got through.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.counts.lost.load(Ordering::Relaxed),
            self.counts.passed.load(Ordering::Relaxed),
        )
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Dice {
    network: BadNetwork,
    random: Random,
    counts: Arc<Counts>,
}

impl Dice {
    /// The delays of the copies that arrive.
    fn roll(&mut self) -> Vec<Duration> {
        let cut = self.counts.cut.load(Ordering::Relaxed);
        if self.random.draw() % 1000 < self.network.lost || cut {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
            return Vec::new();
        }
        self.counts.passed.fetch_add(1, Ordering::Relaxed);
        let copies = 1 + u64::from(self.random.draw() % 1000 < self.network.doubled);
        let (least, most) = self.network.delay;
        let span_us = (most - least).as_micros().max(1) as u64;
        (0..copies)
            .map(|_| least + Duration::from_micros(self.random.draw() % span_us))
            .collect()
    }
}

/// Sends one datagram later, for each of its copies.
fn later(
    under_way: &mut JoinSet<()>,
    delays: Vec<Duration>,
    from: &Arc<UdpSocket>,
    to: SocketAddr,
    bytes: &[u8],
) {
    while under_way.try_join_next().is_some() {}
    for delay in delays {
        if under_way.len() >= UNDER_WAY_MAX {
            return;
        }
        let (socket, bytes) = (from.clone(), bytes.to_vec());
        under_way.spawn(async move {
            tokio::time::sleep(delay).await;
            // A receiver that is gone is one more kind of loss.
            let _ = socket.send_to(&bytes, to).await;
        });
    }
}

async fn relay(
    front: Arc<UdpSocket>,
    hub: SocketAddr,
    network: BadNetwork,
    generation: Arc<AtomicU64>,
    counts: Arc<Counts>,
) {
    let mut dice = Dice {
        random: Random::new(network.seed),
        network,
        counts: counts.clone(),
    };
    let mut backs: HashMap<(SocketAddr, u64), Arc<UdpSocket>> = HashMap::new();
    let mut under_way = JoinSet::new();
    let mut readers = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok((length, agent)) = front.recv_from(&mut buffer).await else {
            continue;
        };
        let place = (agent, generation.load(Ordering::Relaxed));
        let back = match backs.get(&place) {
            Some(back) => back.clone(),
            None => {
                let Ok(back) = UdpSocket::bind("127.0.0.1:0").await else {
                    return;
                };
                let back = Arc::new(back);
                backs.insert(place, back.clone());
                let dice = Dice {
                    random: Random::new(network.seed + backs.len() as u64),
                    network,
                    counts: counts.clone(),
                };
                readers.spawn(answers(back.clone(), front.clone(), agent, dice));
                back
            }
        };
        later(&mut under_way, dice.roll(), &back, hub, &buffer[..length]);
    }
}

/// The way back to one agent.
async fn answers(back: Arc<UdpSocket>, front: Arc<UdpSocket>, agent: SocketAddr, mut dice: Dice) {
    let mut under_way = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        if let Ok((length, _)) = back.recv_from(&mut buffer).await {
            later(
                &mut under_way,
                dice.roll(),
                &front,
                agent,
                &buffer[..length],
            );
        }
    }
}
