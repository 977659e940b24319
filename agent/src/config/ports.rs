//! The listening addresses: no two on one port, or one of them would be retried for ever.
use std::net::SocketAddr;

/// A part of the agent that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Key in the config, with the name of its source.
    pub key: String,
    /// `tcp` or `udp`.
    pub transport: &'static str,
    /// The address.
    pub address: SocketAddr,
}

impl Listener {
    /// Whether both cannot exist at once. Port 0 is another one each time.
    fn is_against(&self, other: &Self) -> bool {
        let (one, two) = (self.address, other.address);
        let any = one.ip().is_unspecified() || two.ip().is_unspecified();
        self.transport == other.transport
            && one.port() == two.port()
            && one.port() != 0
            && (any || one.ip() == two.ip())
    }
}

/// The first listener whose address another one has: its key, and the error.
pub fn taken_twice(listeners: &[Listener]) -> Option<(String, String)> {
    listeners.iter().enumerate().find_map(|(index, one)| {
        let other = listeners[..index]
            .iter()
            .find(|other| one.is_against(other))?;
        let message = format!(
            "listens on {} {}, and {} on {} too: write another port for one of the two",
            one.transport, one.address, other.key, other.address
        );
        Some((one.key.clone(), message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(key: &str, transport: &'static str, address: &str) -> Listener {
        Listener {
            key: key.to_owned(),
            transport,
            address: address.parse().expect("an address"),
        }
    }

    #[test]
    fn one_port_is_for_one() {
        let first = listener("a", "tcp", "10.0.0.1:5200");
        for (transport, address, is_taken) in [
            ("tcp", "10.0.0.1:5200", true),
            ("tcp", "0.0.0.0:5200", true),
            ("tcp", "[::]:5200", true),
            ("tcp", "10.0.0.2:5200", false),
            ("tcp", "10.0.0.1:5201", false),
            ("udp", "10.0.0.1:5200", false),
        ] {
            let second = listener("b", transport, address);
            let found = taken_twice(&[first.clone(), second]);
            assert_eq!(found.is_some(), is_taken, "{transport} {address}");
            if let Some((key, message)) = found {
                assert_eq!(key, "b");
                assert!(message.contains("and a on 10.0.0.1:5200"), "{message}");
            }
        }
        let any = listener("a", "tcp", "127.0.0.1:0");
        assert_eq!(taken_twice(&[any.clone(), any]), None);
    }
}
