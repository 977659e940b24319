//! AES of SIA DC-09 (clause 5.4): CBC with 128, 192 or 256 bits, from a vector of zeros. Pure.
//!
//! The sealed part begins behind the account's `[` and ends before the CR, as hexadecimal digits. In clear it is `pad
//! | data ] [xdata] _time`: the pad completes the blocks, and makes every message different, because the vector is
//! always the same. The standard has no checksum over it; a right key shows in the time, which must be present and
//! near (`clock`).
use aes::{Aes128, Aes192, Aes256};
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use std::fmt;

const BLOCK_BYTES: usize = 16;
const VECTOR: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
/// Fewest bytes of a pad.
const PAD_BYTES_MIN: usize = 16;
/// Most bytes of a pad.
pub const PAD_BYTES_MAX: usize = PAD_BYTES_MIN + BLOCK_BYTES - 1;

/// A key of an account.
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    /// 128 bits.
    Short([u8; 16]),
    /// 192 bits.
    Middle([u8; 24]),
    /// 256 bits.
    Long([u8; 32]),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// The key in the text of a key file: 32, 48 or 64 hexadecimal digits.
    pub fn from_digits(text: &str) -> Option<Self> {
        let bytes = hex::decode(text.trim()).ok()?;
        match bytes.len() {
            16 => bytes.try_into().ok().map(Self::Short),
            24 => bytes.try_into().ok().map(Self::Middle),
            32 => bytes.try_into().ok().map(Self::Long),
            _ => None,
        }
    }

    /// Opens a sealed part; `None` unless it is hexadecimal digits of whole blocks.
    pub fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = hex::decode(sealed).ok()?;
        if bytes.is_empty() || !bytes.len().is_multiple_of(BLOCK_BYTES) {
            return None;
        }
        let vector = &VECTOR.into();
        let opened = match self {
            Self::Short(key) => cbc::Decryptor::<Aes128>::new(key.into(), vector)
                .decrypt_padded::<NoPadding>(&mut bytes)
                .is_ok(),
            Self::Middle(key) => cbc::Decryptor::<Aes192>::new(key.into(), vector)
                .decrypt_padded::<NoPadding>(&mut bytes)
                .is_ok(),
            Self::Long(key) => cbc::Decryptor::<Aes256>::new(key.into(), vector)
                .decrypt_padded::<NoPadding>(&mut bytes)
                .is_ok(),
        };
        opened.then_some(bytes)
    }

    /// Seals the clear text behind a pad, which is made of these random bytes.
    pub fn seal(&self, clear: &[u8], random: &[u8; PAD_BYTES_MAX]) -> String {
        let more = (BLOCK_BYTES - clear.len() % BLOCK_BYTES) % BLOCK_BYTES;
        let mut bytes: Vec<u8> = random[..PAD_BYTES_MIN + more]
            .iter()
            .map(pad_byte)
            .collect();
        bytes.extend_from_slice(clear);
        let whole = bytes.len();
        let vector = &VECTOR.into();
        let sealed = match self {
            Self::Short(key) => cbc::Encryptor::<Aes128>::new(key.into(), vector)
                .encrypt_padded::<NoPadding>(&mut bytes, whole)
                .is_ok(),
            Self::Middle(key) => cbc::Encryptor::<Aes192>::new(key.into(), vector)
                .encrypt_padded::<NoPadding>(&mut bytes, whole)
                .is_ok(),
            Self::Long(key) => cbc::Encryptor::<Aes256>::new(key.into(), vector)
                .encrypt_padded::<NoPadding>(&mut bytes, whole)
                .is_ok(),
        };
        debug_assert!(sealed, "whole blocks need no padding");
        hex::encode_upper(bytes)
    }
}

/// A letter or digit: a pad has no `|`, `[` or `]`, and some panels require ASCII.
fn pad_byte(random: &u8) -> u8 {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    LETTERS[usize::from(random % 32)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_public_message_opens() {
        // From another implementation: a link test.
        let key = Key::from_digits("850cba22f7dd4f033405da83e4c5bae9").expect("a key");
        let clear = key
            .open(
                b"242ff5e1d26993d8ca4a622f7d779a93096ef7ed9b5499dc13de23e1405a5764b58737251286f0d81da5134d1eebc238",
            )
            .expect("whole blocks");
        let end = clear.iter().position(|byte| *byte == b']').expect("an end");
        let text = String::from_utf8_lossy(&clear[end..]);
        assert!(text.starts_with("]_"), "{text}");
        assert_eq!(text.len(), 21, "{text}");
    }

    #[test]
    fn keys_have_one_of_three_lengths() {
        for (digits, good) in [
            (32, true),
            (48, true),
            (64, true),
            (0, false),
            (30, false),
            (33, false),
        ] {
            assert_eq!(
                Key::from_digits(&"a".repeat(digits)).is_some(),
                good,
                "{digits}"
            );
        }
        assert!(Key::from_digits(&"g".repeat(32)).is_none());
        let key = Key::from_digits(&"a".repeat(32)).expect("a key");
        assert_eq!(format!("{key:?}"), "Key");
        for sealed in ["", "00", "zz", &"0".repeat(31)] {
            assert_eq!(key.open(sealed.as_bytes()), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(digits in prop::sample::select(vec![32_usize, 48, 64]), clear in "[\\]_a-z]{0,100}",
            random: [u8; PAD_BYTES_MAX])
        {
            let key = Key::from_digits(&"5a".repeat(digits / 2)).expect("a key");
            let opened = key.open(key.seal(clear.as_bytes(), &random).as_bytes()).expect("whole blocks");
            prop_assert!(opened.ends_with(clear.as_bytes()));
            let pad = opened.len() - clear.len();
            prop_assert!((PAD_BYTES_MIN..=PAD_BYTES_MAX).contains(&pad));
            prop_assert!(opened[..pad].iter().all(u8::is_ascii_alphanumeric));
        }
    }
}
