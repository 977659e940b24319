//! Bounded names, built from the content of messages: names of points, and ids of events. A device's long rule names
//! must not inflate the file of states and the agent's memory, and no event is lost because its id is long. Values of
//! attributes are bounded too.
use linli_shared::protocol::limits::{ATTRIBUTE_BYTES_MAX, NAME_BYTES_MAX};
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// Length of the hash in a shortened name; collisions are infeasible.
const HASH_BYTES: usize = 16;

/// Shortens a long name to its front and a hash of all of it, so that two names stay distinct.
#[inline]
pub fn bounded(name: Cow<'_, str>) -> Cow<'_, str> {
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    let front = name.floor_char_boundary(NAME_BYTES_MAX - 1 - 2 * HASH_BYTES);
    let hash = Sha256::digest(name.as_bytes());
    let hash = hex::encode(&hash[..HASH_BYTES]);
    Cow::Owned(format!("{}~{hash}", &name[..front]))
}

/// The front of an attribute's value, within the limit.
pub fn attribute(value: &str) -> &str {
    &value[..value.floor_char_boundary(ATTRIBUTE_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_too_long_is_cut_and_stays_a_name_of_its_own() {
        let most = "x".repeat(NAME_BYTES_MAX);
        assert_eq!(bounded(Cow::Borrowed(&most)), most);
        let long = |end: char| bounded(Cow::Owned(format!("{}{end}", "门".repeat(300_000))));
        assert!(long('a').len() <= NAME_BYTES_MAX && long('a').starts_with("门门"));
        assert_eq!(long('a'), long('a'));
        assert_ne!(long('a'), long('b'));
    }
}
