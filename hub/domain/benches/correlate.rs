//! Benchmark of correlation alone, on few and on many keys. `cargo bench -p linli-domain --bench correlate`
//!
//! * `shipped`: the rules of `configs/rules`, with the events of a district; most of them match some rule.
//! * `twenty`: twenty rules; each event matches five of them. They hardly ever fire: the benchmark measures
//!   the cost of every event, and whether it grows with the number of keys.
//!
//! It first prints the memory per key.
use divan::Bencher;
use divan::counter::ItemsCount;
use linli_domain::correlate::Origin;
use linli_shared::protocol::event::{Event, Place};
use linli_shared::protocol::ids::Lane;
use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use linli_domain::correlate::engine::Engine;
use linli_domain::correlate::rule::{Rule, Vocabulary, load_directory, load_text};

/// Events per measurement.
const EVENTS: usize = 1_000_000;
/// Time between two events, milliseconds.
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
    for (name, rules) in [("shipped", shipped()), ("twenty", twenty())] {
        let keys = 100_000;
        let mut engine = Engine::new(rules, HashMap::new());
        bring(&mut engine, &doors(keys));
        println!(
            "{name}: {} keys of its rules take {} bytes each",
            engine.keys(),
            engine.bytes() / engine.keys().max(1)
        );
    }
    divan::main();
}

fn shipped() -> Vec<Arc<Rule>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/rules");
    let routes = ["duty-centre", "property", "office", "mediation", "police"];
    let vocabulary = Vocabulary {
        routes: routes.map(str::to_owned).into(),
        ..Vocabulary::default()
    };
    let rules = load_directory(&directory, &vocabulary).expect("good rules");
    rules.into_iter().map(Arc::new).collect()
}

/// Eight rules of each of two windowed kinds, and four that match single events.
fn twenty() -> Vec<Arc<Rule>> {
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
    let mut rules = Vec::new();
    load_text(
        Path::new("bench.toml"),
        &text,
        &Vocabulary::default(),
        &mut rules,
    )
    .expect("good rules");
    rules.into_iter().map(Arc::new).collect()
}

/// Kind and key are chosen independently, so that every key gets every kind.
fn any_kind(keys: usize) -> Vec<Event> {
    (0..EVENTS)
        .map(|number| {
            event(
                number,
                KINDS[(number * 7 + number / keys) % KINDS.len()],
                number % keys,
            )
        })
        .collect()
}

/// Doors that open and close, some refusals, and occasional other events.
fn doors(keys: usize) -> Vec<Event> {
    (0..EVENTS)
        .map(|number| {
            let kind = match number % 100 {
                0..=47 => "door.opened",
                48..=95 => "door.closed",
                96..=98 => "door.denied",
                _ => KINDS[4 + number / 100 % 4],
            };
            event(number, kind, number % 48 + number / 100 * 48 % keys.max(48))
        })
        .collect()
}

fn event(number: usize, kind: &str, key: usize) -> Event {
    Event {
        kind: kind.to_owned(),
        occurred_at_ms: START_MS + number as i64 * STEP_MS,
        device: format!("door-{key}"),
        place: Place {
            building: format!("B{key:06}"),
            unit: "1".to_owned(),
            ..Place::default()
        },
        ..Event::default()
    }
}

fn bring(engine: &mut Engine, events: &[Event]) -> usize {
    let mut touched = 0;
    for (sequence, event) in events.iter().enumerate() {
        let origin = Origin {
            site: "yuyuan",
            agent: "gw-1",
            lane: Lane::Routine,
            epoch: 1,
            sequence: sequence as u64,
        };
        engine.observe(event, &origin, event.occurred_at_ms);
        // As often as the hub commits.
        if sequence % 500 == 499 {
            engine.advance("gw-1", event.occurred_at_ms);
            let outcome = engine.outcome();
            touched += outcome.touched.len() + outcome.occurrences.len();
        }
    }
    touched
}

fn measure(bencher: Bencher<'_, '_>, rules: &[Arc<Rule>], events: &[Event]) {
    bencher
        .counter(ItemsCount::new(EVENTS))
        .with_inputs(|| Engine::new(rules.to_vec(), HashMap::new()))
        .bench_local_values(|mut engine| {
            divan::black_box(bring(&mut engine, events));
            engine
        });
}

#[divan::bench(name = "shipped", args = [100, 10_000, 100_000], sample_count = 5)]
fn shipped_rules(bencher: Bencher<'_, '_>, keys: usize) {
    measure(bencher, &shipped(), &doors(keys));
}

#[divan::bench(name = "twenty", args = [100, 10_000, 100_000], sample_count = 5)]
fn twenty_rules(bencher: Bencher<'_, '_>, keys: usize) {
    measure(bencher, &twenty(), &any_kind(keys));
}
