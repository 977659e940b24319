//! Handshakes under way: their total number, and the number of one address.
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Maximum number of handshakes.
const HANDSHAKES_MAX: usize = 256;
/// From this number on, addresses must prove themselves.
const PROVE_FROM: usize = 128;
/// Maximum number of handshakes of one address, so that one cannot take all places. Generous: the gateways of a
/// district can share one address.
const ADDRESS_MAX: usize = 64;

/// The holders of places. Locked for moments only.
#[derive(Clone, Default)]
pub struct Handshakes(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A place, freed on drop.
pub struct Place {
    handshakes: Handshakes,
    address: IpAddr,
    taken: usize,
}

impl Handshakes {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a handshake from this address, if there is one.
    pub fn enter(&self, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut places = self.lock();
        let taken = places.values().sum::<usize>() + 1;
        let of_address = places.get(&address).copied().unwrap_or(0) + 1;
        if taken > HANDSHAKES_MAX || of_address > ADDRESS_MAX {
            return None;
        }
        places.insert(address, of_address);
        Some(Place {
            handshakes: self.clone(),
            address,
            taken,
        })
    }
}

impl Place {
    /// True if addresses must prove themselves now.
    pub fn is_crowded(&self) -> bool {
        self.taken > PROVE_FROM
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.handshakes.lock();
        if let Some(count) = places.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                places.remove(&self.address);
            }
        }
    }
}

/// The network of a holder: an IPv4 address, or an IPv6 network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_places_and_gives_back_what_it_took() {
        let handshakes = Handshakes::default();
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let neighbours = ["2001:db8::1", "2001:db8::2:1"];
        let held: Vec<Place> = (0..ADDRESS_MAX)
            .map_while(|number| handshakes.enter(address(neighbours[number % 2])))
            .collect();
        assert_eq!(held.len(), ADDRESS_MAX);
        assert!(handshakes.enter(address(neighbours[0])).is_none());
        assert!(handshakes.enter(address("192.0.2.1")).is_some());
        drop(held);
        assert!(handshakes.enter(address(neighbours[0])).is_some());
    }

    #[test]
    fn all_addresses_together_have_a_limit_and_are_asked_for_proof_before_it() {
        let handshakes = Handshakes::default();
        let held: Vec<Place> = (0..=HANDSHAKES_MAX as u32)
            .map_while(|number| handshakes.enter(IpAddr::V4(number.into())))
            .collect();
        assert_eq!(held.len(), HANDSHAKES_MAX);
        let crowded = held.iter().filter(|place| place.is_crowded()).count();
        assert_eq!(crowded, HANDSHAKES_MAX - PROVE_FROM);
    }
}
