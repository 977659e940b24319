//! Correlation by itself: twenty rules, every event wanted by several of them, on few and on many keys.
//!
//! `cargo bench -p linli-hub`. The rules hardly ever fire: what is measured is the work that every event
//! costs, and whether it grows with the keys that are open.
#[path = "../src"]
mod hub {
    #[allow(dead_code, reason = "the bench uses a part of the module")]
    pub mod correlate;
}

use divan::Bencher;
use divan::counter::ItemsCount;
use hub::correlate::{self, Origin};
use linli_shared::protocol::event::{Event, Place};
use linli_shared::protocol::ids::Lane;
use std::fmt::Write;

use correlate::engine::Engine;
use correlate::rule::{Rule, load_directory};

/// Events of one measurement.
const EVENTS: usize = 1_000_000;
/// From one event to the next, milliseconds.
const STEP_MS: i64 = 50;
const START_MS: i64 = 1_800_000_000_000;
const KINDS: [&str; 8] = [
    "door.opened",
    "door.closed",
    "door.denied",
    "door.held",
    "lift.ebike",
    "pile.overheat",
    "smoke.alarm",
    "object.fallen",
];

fn main() {
    divan::main();
}

/// Eight of each windowed kind and four that match single events.
fn rules() -> Vec<Rule> {
    let mut text = "schema = 1\n".to_owned();
    for (number, kind) in KINDS.iter().enumerate() {
        let other = KINDS[(number + 3) % KINDS.len()];
        let _ = write!(
            text,
            "[[rule]]\nid = \"count-{number}\"\nname = \"c\"\nkind = \"count\"\nkey = [\"site\", \"building\"]\n\
             times = 500\nwithin = \"10m\"\non = [{{ type = \"{kind}\" }}]\nseverity = \"warning\"\n\
             [[rule]]\nid = \"all-{number}\"\nname = \"a\"\nkind = \"all_of\"\nkey = [\"site\", \"building\"]\n\
             within = \"1s\"\non = [{{ type = \"{kind}\" }}, {{ type = \"{other}\", device = \"none\" }}]\n\
             severity = \"alarm\"\n"
        );
    }
    for (number, kind) in KINDS.iter().take(4).enumerate() {
        let _ = write!(
            text,
            "[[rule]]\nid = \"match-{number}\"\nname = \"m\"\nkind = \"match\"\nkey = [\"site\"]\n\
             on = [{{ type = \"{kind}\", device = \"none\" }}]\nseverity = \"alarm\"\n"
        );
    }
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("bench.toml"), text).expect("a file");
    load_directory(directory.path()).expect("good rules")
}

#[divan::bench(args = [100, 10_000, 100_000], sample_count = 5)]
fn observe(bencher: Bencher<'_, '_>, keys: usize) {
    let rules = rules();
    assert_eq!(rules.len(), 20);
    // Kind and key are drawn apart, so that every key sees every kind.
    let events: Vec<Event> = (0..EVENTS)
        .map(|number| Event {
            kind: KINDS[(number * 7 + number / keys) % KINDS.len()].to_owned(),
            occurred_at_ms: START_MS + number as i64 * STEP_MS,
            device: "door-1".to_owned(),
            place: Place {
                building: format!("B{:06}", number % keys),
                ..Place::default()
            },
            ..Event::default()
        })
        .collect();
    bencher
        .counter(ItemsCount::new(EVENTS))
        .with_inputs(|| Engine::new(rules.clone()))
        .bench_local_values(|mut engine| {
            let mut firings = Vec::new();
            for (sequence, event) in events.iter().enumerate() {
                let origin = Origin {
                    site: "yuyuan",
                    agent: "gw-1",
                    lane: Lane::Routine,
                    epoch: 1,
                    sequence: sequence as u64,
                };
                engine.observe(event, &origin, event.occurred_at_ms, &mut firings);
            }
            assert!(firings.is_empty(), "{} firings", firings.len());
            engine
        });
}
