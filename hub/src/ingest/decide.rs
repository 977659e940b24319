//! The decision for a chunk, from its range and the expected position. Pure.
use linli_shared::protocol::ids::Sequence;

/// What to do with a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Store it: it is next.
    Store,
    /// Compare it: all of it is stored.
    Compare,
    /// Compare so many events at its front, store the rest.
    Split(usize),
    /// Refuse it: something before it is missing.
    Gap,
}

/// Decides for a chunk of the range `first..end`.
pub fn decide(wanted: Sequence, first: Sequence, end: Sequence) -> Decision {
    if first > wanted {
        Decision::Gap
    } else if first == wanted {
        Decision::Store
    } else if end <= wanted {
        Decision::Compare
    } else {
        Decision::Split((wanted.0 - first.0) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_of_a_chunk_against_the_one_wanted() {
        let chunk = (Sequence(10), Sequence(20));
        for (wanted, decision) in [
            (9, Decision::Gap),
            (10, Decision::Store),
            (11, Decision::Split(1)),
            (19, Decision::Split(9)),
            (20, Decision::Compare),
            (21, Decision::Compare),
        ] {
            assert_eq!(decide(Sequence(wanted), chunk.0, chunk.1), decision);
        }
    }
}
