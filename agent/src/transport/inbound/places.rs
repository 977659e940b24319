//! Limits on the number of connections: in all, and for each address.
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections from one address: a gateway before several panels has one for each.
pub const PEER_CONNECTIONS_MAX: usize = 64;

/// Connections of each address.
pub type Peers = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// An open connection's share of the limits.
pub struct Place {
    peers: Peers,
    peer: IpAddr,
}

impl Place {
    /// `None` if the limit of all, or that of the address, is reached.
    pub fn take(peers: &Peers, peer: IpAddr, connections_max: usize) -> Option<Self> {
        let mut known = peers.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = known.values().sum();
        let of_peer = known.entry(peer).or_default();
        if all >= connections_max || *of_peer >= PEER_CONNECTIONS_MAX {
            if *of_peer == 0 {
                known.remove(&peer);
            }
            return None;
        }
        *of_peer += 1;
        Some(Self {
            peers: peers.clone(),
            peer,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut known = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = known.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                known.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_for_each_peer_and_come_back() {
        let peers = Peers::default();
        let one: IpAddr = [10, 0, 0, 1].into();
        let other: IpAddr = [10, 0, 0, 2].into();
        let held: Vec<Place> = (0..PEER_CONNECTIONS_MAX)
            .map(|_| Place::take(&peers, one, 100).expect("a place"))
            .collect();
        assert!(Place::take(&peers, one, 100).is_none());
        let more: Vec<Option<Place>> = (PEER_CONNECTIONS_MAX..100)
            .map(|_| Place::take(&peers, other, 100))
            .collect();
        assert!(more.iter().all(Option::is_some));
        assert!(Place::take(&peers, other, 100).is_none());
        drop(held);
        assert!(Place::take(&peers, one, 100).is_some());
        drop(more);
        assert!(peers.lock().expect("not poisoned").is_empty());
    }
}
