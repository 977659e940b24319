//! Digest authentication of a REGISTER (RFC 2617, and RFC 3261 § 22; GB/T 28181-2016 § 9.1). Pure.
//!
//! The standard requires MD5; it is used for nothing else. A nonce needs no memory: it contains its time, and a keyed
//! hash over time, device and address, so it is valid for [`NONCE_MS`], and only from the address it was given to.
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest as _, Md5};
use sha2::Sha256;
use std::net::IpAddr;
use subtle::ConstantTimeEq;

/// Validity of a nonce.
pub const NONCE_MS: u64 = 300_000;
/// Bytes of a nonce's hash that it carries.
const MARK_BYTES: usize = 16;

/// Makes nonces, with another key at each start.
pub struct Nonces {
    key: [u8; 32],
}

/// Classification of a returned nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nonce {
    /// Given to this device and address, recently.
    Good,
    /// Given out before the last start, to another, or too long ago: the device must use a new one.
    Stale,
}

impl Nonces {
    /// A maker of nonces with a random key.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    fn mark(&self, now_ms: u64, device: &str, peer: IpAddr) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        mac.update(&now_ms.to_be_bytes());
        mac.update(device.as_bytes());
        mac.update(peer.to_string().as_bytes());
        hex::encode(&mac.finalize().into_bytes()[..MARK_BYTES])
    }

    /// Makes a nonce for a device at this address.
    pub fn give(&self, now_ms: u64, device: &str, peer: IpAddr) -> String {
        format!("{now_ms:016x}{}", self.mark(now_ms, device, peer))
    }

    /// Classifies a returned nonce.
    pub fn judge(&self, nonce: &str, now_ms: u64, device: &str, peer: IpAddr) -> Nonce {
        let given = nonce.get(..16).and_then(|time| {
            let given_ms = u64::from_str_radix(time, 16).ok()?;
            let mark = self.mark(given_ms, device, peer);
            let is_ours = bool::from(nonce.as_bytes()[16..].ct_eq(mark.as_bytes()));
            is_ours.then_some(given_ms)
        });
        match given {
            Some(given_ms) if now_ms.saturating_sub(given_ms) < NONCE_MS => Nonce::Good,
            _ => Nonce::Stale,
        }
    }
}

/// The fields of an Authorization header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials<'a> {
    username: &'a str,
    realm: &'a str,
    /// The nonce in use.
    pub nonce: &'a str,
    uri: &'a str,
    response: &'a str,
    algorithm: &'a str,
    qop: &'a str,
    nc: &'a str,
    cnonce: &'a str,
}

impl<'a> Credentials<'a> {
    /// Reads a header; `None` unless it is Digest with MD5.
    pub fn read(header: &'a str) -> Option<Self> {
        let (scheme, mut rest) = header.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let mut found = Self::default();
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                break;
            }
            let (name, tail) = rest.split_once('=')?;
            let tail = tail.trim_start();
            let value;
            if let Some(quoted) = tail.strip_prefix('"') {
                (value, rest) = quoted.split_once('"')?;
            } else {
                let end = tail.find(',').unwrap_or(tail.len());
                value = tail[..end].trim_end();
                rest = &tail[end..];
            }
            match name.trim().to_ascii_lowercase().as_str() {
                "username" => found.username = value,
                "realm" => found.realm = value,
                "nonce" => found.nonce = value,
                "uri" => found.uri = value,
                "response" => found.response = value,
                "algorithm" => found.algorithm = value,
                "qop" => found.qop = value,
                "nc" => found.nc = value,
                "cnonce" => found.cnonce = value,
                _ => {}
            }
        }
        let is_md5 = found.algorithm.is_empty() || found.algorithm.eq_ignore_ascii_case("MD5");
        (is_md5 && !found.response.is_empty() && !found.nonce.is_empty()).then_some(found)
    }

    fn expected(&self, method: &str, password: &str) -> String {
        let ha1 = md5(&[self.username, self.realm, password]);
        let ha2 = md5(&[method, self.uri]);
        match self.qop.is_empty() {
            true => md5(&[&ha1, self.nonce, &ha2]),
            false => md5(&[&ha1, self.nonce, self.nc, self.cnonce, self.qop, &ha2]),
        }
    }

    /// Whether their maker knows the password.
    pub fn prove(&self, method: &str, realm: &str, password: &str) -> bool {
        let response = self.response.to_ascii_lowercase();
        let expected = self.expected(method, password);
        // `auth-int` would cover the body; the agent never requests it.
        let is_known = self.qop.is_empty() || self.qop.eq_ignore_ascii_case("auth");
        self.realm == realm
            && is_known
            && bool::from(response.as_bytes().ct_eq(expected.as_bytes()))
    }
}

fn md5(parts: &[&str]) -> String {
    hex::encode(Md5::digest(parts.join(":").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn the_example_of_rfc_2617_is_proved_and_nothing_else_is() {
        let header = "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"/dir/index.html\", qop=auth, nc=00000001, cnonce=\"0a4f113b\", response=\"6629fae49393a05397450978507c4ef1\", opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"";
        let credentials = Credentials::read(header).expect("credentials");
        let realm = "testrealm@host.com";
        assert!(credentials.prove("GET", realm, "Circle Of Life"));
        assert!(!credentials.prove("GET", realm, "circle of life"));
        assert!(!credentials.prove("REGISTER", realm, "Circle Of Life"));
        assert!(!credentials.prove("GET", "other", "Circle Of Life"));
        let upper = header.replace(
            "6629fae49393a05397450978507c4ef1",
            "6629FAE49393A05397450978507C4EF1",
        );
        let credentials = Credentials::read(&upper).expect("credentials");
        assert!(credentials.prove("GET", realm, "Circle Of Life"));
    }

    #[test]
    fn without_qop_it_is_that_of_rfc_2069() {
        let header = format!(
            "Digest username=\"u\",realm=\"r\",nonce=\"n\",uri=\"sip:x\",algorithm=MD5,response=\"{}\"",
            md5(&[&md5(&["u", "r", "p"]), "n", &md5(&["REGISTER", "sip:x"])])
        );
        let credentials = Credentials::read(&header).expect("credentials");
        assert!(credentials.prove("REGISTER", "r", "p"));
        for bad in [
            "Basic dTpw",
            "Digest",
            "Digest username=\"u\"",
            "Digest username=\"u, nonce=",
            "Digest nonce=\"n\", response=\"x\", algorithm=SHA-256",
            "Digest x",
        ] {
            assert_eq!(Credentials::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_nonce_is_good_for_a_while_for_its_device_from_its_address() {
        let nonces = Nonces::new([7; 32]);
        let nonce = nonces.give(1000, "d", PEER);
        let judge = |nonce: &str, now_ms, device, peer| nonces.judge(nonce, now_ms, device, peer);
        assert_eq!(judge(&nonce, 1000 + NONCE_MS - 1, "d", PEER), Nonce::Good);
        assert_eq!(judge(&nonce, 1000 + NONCE_MS, "d", PEER), Nonce::Stale);
        assert_eq!(judge(&nonce, 1000, "e", PEER), Nonce::Stale);
        assert_eq!(judge(&nonce, 1000, "d", [10, 0, 0, 1].into()), Nonce::Stale);
        for other in ["", "x", "00000000000003e8", "ééééééééééééééééééé"] {
            assert_eq!(judge(other, 1000, "d", PEER), Nonce::Stale);
        }
        assert_eq!(
            Nonces::new([8; 32]).judge(&nonce, 1000, "d", PEER),
            Nonce::Stale
        );
    }
}
