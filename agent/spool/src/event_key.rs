//! The identity of a source's event: its id and its content.
use linli_shared::protocol::event::Draft;
use siphasher::sip128::{Hasher128, SipHasher13 as SipHasher13Wide};
use std::hash::Hasher;
use twox_hash::XxHash3_64;

/// Invalid in UTF-8, so no text can contain it.
const SEPARATOR: u8 = 0xff;
/// Content hash for an id that an earlier version stored without one: it equals every content. It must differ
/// from the zeros of a damaged file.
pub const UNKNOWN_CONTENT: u64 = 0x756e_6b6e_6f77_6e21;

/// The hashes of an event's id and of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Hash of the source and its id.
    pub id: u64,
    /// Hash of the content.
    pub content: u64,
}

/// The key of an event; `None` if the source gives no id.
///
/// Two events are the same if both their ids and their contents are equal: 128 bits of hash. Equal ids with
/// different contents are a conflict, which is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventKey(pub(crate) Option<Key>);

impl EventKey {
    /// The key of an event: the hash of its source and the source's id; and the hash of its kind, severity,
    /// device, place, the device's time and attributes. Attributes that can differ in a repeated delivery of
    /// the same event are excluded: pseudonyms, whose key rotates, `device_time` and `by`.
    pub fn of(event: &Draft<'_>) -> Self {
        if event.source_id.is_empty() {
            return Self(None);
        }
        Self(Some(Key {
            id: id(event.source, event.source_id),
            content: content(event),
        }))
    }
}

fn id(source: &str, source_id: &str) -> u64 {
    // The lower half of the 128 bits that earlier versions wrote to the file `seen`.
    let mut hasher = SipHasher13Wide::new();
    hasher.write(source.as_bytes());
    hasher.write_u8(SEPARATOR);
    hasher.write(source_id.as_bytes());
    hasher.finish128().as_u128() as u64
}

fn content(event: &Draft<'_>) -> u64 {
    let place = &event.place;
    let texts = [
        event.kind,
        event.device,
        place.building,
        place.unit,
        place.address,
    ];
    // Each text is hashed with the previous hash as seed, so moving text between fields changes the hash.
    let mut hash = chained(event.severity as u64, texts);
    if let Some(claim_ms) = event.claim_ms() {
        hash = XxHash3_64::oneshot_with_seed(hash, &claim_ms.to_le_bytes());
    }
    // A sum is independent of the order, which differs between a source and a stored event.
    let attributes = event.attributes.iter();
    let sum = attributes
        .filter(|(name, _)| is_content(name))
        .map(|(name, value)| chained(0, [*name, *value]))
        .fold(0_u64, u64::wrapping_add);
    match XxHash3_64::oneshot_with_seed(hash, &sum.to_le_bytes()) {
        0 | UNKNOWN_CONTENT => 1,
        content => content,
    }
}

fn chained<'a>(seed: u64, texts: impl IntoIterator<Item = &'a str>) -> u64 {
    texts.into_iter().fold(seed, |hash, text| {
        XxHash3_64::oneshot_with_seed(hash, text.as_bytes())
    })
}

fn is_content(attribute: &str) -> bool {
    !(attribute.ends_with("_pseudonym") || attribute == "device_time" || attribute == "by")
}

#[cfg(test)]
mod tests {
    use super::*;
    use linli_shared::protocol::chunk::Packed;
    use linli_shared::protocol::codec;
    use linli_shared::protocol::event::{ClockQuality, Event, PlaceDraft, Severity};

    fn draft<'a>() -> Draft<'a> {
        Draft {
            kind: "door.opened",
            occurred_at_ms: 1000,
            received_at_ms: 1100,
            source: "doors",
            source_id: "7",
            device: "d1",
            attributes: vec![("verify", "card"), ("direction", "in")],
            ..Draft::default()
        }
    }

    #[test]
    fn every_part_of_the_content_makes_another_key_of_the_same_id() {
        let place = PlaceDraft {
            address: "a",
            ..PlaceDraft::default()
        };
        let others = [
            Draft {
                kind: "door.closed",
                ..draft()
            },
            Draft {
                device: "d2",
                ..draft()
            },
            Draft { place, ..draft() },
            Draft {
                place: PlaceDraft {
                    building: "a",
                    ..PlaceDraft::default()
                },
                ..draft()
            },
            Draft {
                severity: Severity::Life,
                ..draft()
            },
            Draft {
                occurred_at_ms: 1001,
                ..draft()
            },
            Draft {
                device_time_ms: Some(5),
                ..draft()
            },
            Draft {
                clock: ClockQuality::Agent,
                ..draft()
            },
            Draft {
                attributes: vec![("verify", "card")],
                ..draft()
            },
            Draft {
                attributes: vec![("verify", "face"), ("direction", "in")],
                ..draft()
            },
        ];
        let key = EventKey::of(&draft()).0.expect("a key");
        for other in others {
            let of_other = EventKey::of(&other).0.expect("a key");
            assert_eq!(of_other.id, key.id);
            assert_ne!(of_other.content, key.content, "{other:?}");
        }
    }

    #[test]
    fn what_another_delivery_of_an_event_has_otherwise_makes_no_other_key() {
        let attributes = vec![
            ("direction", "in"),
            ("by", "face"),
            ("device_time", "noon"),
            ("card_pseudonym", "x"),
            ("verify", "card"),
        ];
        // Received later, when the device's clock was off by more: its claimed time is the same.
        let later = Draft {
            occurred_at_ms: 900_000,
            received_at_ms: 900_000,
            clock: ClockQuality::Receipt,
            device_time_ms: Some(1000),
            attributes,
            ..draft()
        };
        assert_eq!(EventKey::of(&later), EventKey::of(&draft()));
        let no_id = Draft {
            source_id: "",
            ..draft()
        };
        assert_eq!(EventKey::of(&no_id), EventKey(None));
    }

    #[test]
    fn a_stored_event_has_the_key_that_it_was_stored_under() {
        let mut packed = Packed::default();
        packed.push(&draft()).expect("an event");
        let events: Vec<Event> =
            codec::decode_sequence("event", &packed.into_bytes(), 1).expect("events");
        assert_eq!(EventKey::of(&events[0].draft()), EventKey::of(&draft()));
    }
}
