//! Random numbers from the kernel.
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;

/// Random bytes. Errors: the kernel supplies none.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    if getrandom(&mut bytes, GetRandomFlags::empty())? != N {
        return Err(io::Error::other("the kernel gave too few random bytes"));
    }
    Ok(bytes)
}

/// Random bytes for a secret.
///
/// # Panics
///
/// Panics if the kernel supplies none: without them no secret can be created.
pub fn secret<const N: usize>() -> [u8; N] {
    bytes().expect("the kernel gives random bytes, or no secret can be made")
}

/// A number for jitter and for ids of requests. Without randomness it is 0, which costs only the jitter.
pub fn jitter() -> u64 {
    bytes().map(u64::from_ne_bytes).unwrap_or_default()
}
