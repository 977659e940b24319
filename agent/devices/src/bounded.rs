//! Names that are made of what messages say: of points, and ids of events. They are bounded: a file of states and the memory
//! of an agent must not be as large as what a device calls its rules, and no event is lost for the length of its id. So are values
//! of attributes.
use linli_shared::protocol::limits::{ATTRIBUTE_BYTES_MAX, NAME_BYTES_MAX};
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// Of the hash of a longer one; nobody finds two names that share it.
const HASH_BYTES: usize = 16;

/// A longer name stands as its front and a hash of it all, so that two names stay two.
pub fn bounded(name: Cow<'_, str>) -> Cow<'_, str> {
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    let front = name.floor_char_boundary(NAME_BYTES_MAX - 1 - 2 * HASH_BYTES);
    let hash = Sha256::digest(name.as_bytes());
    let hash = hex::encode(&hash[..HASH_BYTES]);
    Cow::Owned(format!("{}~{hash}", &name[..front]))
}

/// The front of an attribute's value that keeps to the limit.
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
