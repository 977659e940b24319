//! Random numbers of the kernel.
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;

/// Random bytes.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    if getrandom(&mut bytes, GetRandomFlags::empty())? != N {
        return Err(io::Error::other("the kernel gave too few random bytes"));
    }
    Ok(bytes)
}

/// Random bytes of a secret.
///
/// # Panics
///
/// If the kernel gives none: without them no secret can be made.
pub fn secret<const N: usize>() -> [u8; N] {
    bytes().expect("the kernel gives random bytes, or no secret can be made")
}

/// A number for jitter and for ids of requests. Without randomness it is 0, which costs only the jitter.
pub fn jitter() -> u64 {
    bytes().map(u64::from_ne_bytes).unwrap_or_default()
}
