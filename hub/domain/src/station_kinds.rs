//! Kinds of events that only stations may report. From any other agent they are stored and withheld: no rule
//! evaluates them, no case is opened, and readers see the reason.

/// Prefixes of these kinds.
const PREFIXES: [&str; 3] = ["dispute.", "incident.", "danger."];

/// Why an event is withheld, for people.
pub const REASON: &str =
    "仅派出所网关可上报此类事件 only the agent of a station may report this kind";

/// True if only the agent of a station may report this kind.
pub fn is_reserved(kind: &str) -> bool {
    PREFIXES.iter().any(|prefix| kind.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::is_reserved;

    #[test]
    fn kinds_of_the_police_are_reserved_and_those_of_devices_are_not() {
        for kind in ["dispute.reported", "incident.closed", "danger.notice"] {
            assert!(is_reserved(kind), "{kind}");
        }
        for kind in ["door.opened", "disputed", "danger", "fire.alarm"] {
            assert!(!is_reserved(kind), "{kind}");
        }
    }
}
