use super::*;
use crate::correlate::replay::{Raised, Replay};
use crate::correlate::rule::{Vocabulary, load_text};
use linli_shared::protocol::event::{DOWN_SINCE, Place};
use linli_shared::protocol::ids::Lane;
use proptest::prelude::*;
use std::path::Path;

const MINUTE_MS: i64 = 60_000;
/// Histories lie within the horizon before this time.
const BASE_MS: i64 = 1_772_380_800_000;
const LAST_MINUTE: i64 = 300;

fn rules(text: &str) -> Vec<Arc<Rule>> {
    let mut rules = Vec::new();
    let text = format!("schema = 1\n{text}");
    load_text(
        Path::new("test.toml"),
        &text,
        &Vocabulary::default(),
        &mut rules,
    )
    .expect("good rules");
    rules.into_iter().map(Arc::new).collect()
}

/// One rule of each kind, with windows that fit into histories of some hours.
fn one_of_each() -> Vec<Arc<Rule>> {
    let rule = |id: &str, more: &str| {
        format!(
            "[[rule]]\nid = \"{id}\"\nname = \"{id}\"\nkind = \"{id}\"\nseverity = \"alarm\"\n\
             key = [\"building\"]\nfold = \"6m\"\n{more}\n"
        )
    };
    let (fire, door, closed) = (
        "{ type = \"fire.alarm\" }",
        "{ type = \"door.forced\" }",
        "{ type = \"door.closed\" }",
    );
    let texts = [
        rule("match", &format!("on = [{fire}]")),
        rule(
            "count",
            &format!("times = 3\nwithin = \"20m\"\non = [{fire}, {door}]"),
        ),
        rule(
            "distinct",
            &format!("times = 3\nwithin = \"20m\"\ndistinct = \"device\"\non = [{fire}, {door}]"),
        ),
        rule(
            "all_of",
            &format!("within = \"10m\"\non = [{fire}, {door}, {closed}]"),
        ),
        rule(
            "sequence",
            &format!("within = \"15m\"\non = [{fire}, {door}]\nunless = [{closed}]"),
        ),
        rule(
            "absent",
            &format!("within = \"10m\"\non = [{door}]\nuntil = [{closed}]"),
        ),
        rule(
            "repeat",
            &format!("times = 4\nwithin = \"60m\"\non = [{fire}]"),
        ),
        rule(
            "surge",
            &format!("times = 3\nwithin = \"20m\"\nratio = 1.5\np = 0.2\non = [{fire}]"),
        ),
        rule(
            "silent",
            &format!(
                "within = \"30m\"\non = [{fire}, {door}]\n\
                 roster = [{{ agent = \"gw-0\", building = \"B0\" }}, {{ agent = \"gw-1\", building = \"B1\" }}]"
            ),
        ),
    ];
    rules(&texts.concat())
}

#[derive(Debug, Clone)]
struct Happened {
    event: Event,
    agent: usize,
    sequence: u64,
}

const AGENTS: [&str; 2] = ["gw-0", "gw-1"];

impl Happened {
    fn origin(&self) -> Origin<'static> {
        Origin {
            site: "s",
            agent: AGENTS[self.agent],
            lane: Lane::Urgent,
            epoch: 1,
            sequence: self.sequence,
        }
    }
}

/// The events of some hours: kind, minute, building with its agent, device.
fn histories() -> impl Strategy<Value = Vec<Happened>> {
    let one = (0..12_usize, 0..LAST_MINUTE, 0..2_usize, 0..4_u8);
    prop::collection::vec(one, 1..60).prop_map(|drawn| {
        drawn
            .into_iter()
            .enumerate()
            .map(|(number, (kind, minute, place, device))| {
                let kind = match kind {
                    0..=3 => "fire.alarm",
                    4..=7 => "door.forced",
                    8..=10 => "door.closed",
                    _ => AGENT_STARTED,
                };
                let occurred_at_ms = BASE_MS + minute * MINUTE_MS;
                let mut event = Event {
                    kind: kind.to_owned(),
                    occurred_at_ms,
                    received_at_ms: occurred_at_ms,
                    device: format!("d{device}"),
                    place: Place {
                        building: format!("B{place}"),
                        ..Place::default()
                    },
                    ..Event::default()
                };
                if kind == AGENT_STARTED {
                    let since_ms = occurred_at_ms - i64::from(device + 1) * 4 * MINUTE_MS;
                    event
                        .attributes
                        .insert(DOWN_SINCE.to_owned(), since_ms.to_string());
                }
                Happened {
                    event,
                    // More than one agent can report from the same building.
                    agent: (place + usize::from(device == 3)) % 2,
                    sequence: number as u64,
                }
            })
            .collect()
    })
}

/// How a history is delivered.
#[derive(Debug, Clone)]
struct Delivery {
    /// Indices into the history; some occur twice.
    order: Vec<usize>,
    /// The hub restarts after these deliveries.
    restarts: Vec<usize>,
    /// Everything arrives later by this many milliseconds.
    delay_ms: i64,
    /// Agents report their watermarks along the way; only if the order is that of the times.
    told: bool,
}

fn bring(rules: &[Arc<Rule>], history: &[Happened], delivery: &Delivery) -> Vec<Raised> {
    let new = || {
        let mut replay = Replay::new(rules.to_vec(), HashMap::new());
        replay.expect_all(BASE_MS);
        replay
    };
    let mut replay = new();
    let end_ms = BASE_MS + (LAST_MINUTE + 60) * MINUTE_MS;
    let mut told_ms = 0;
    for (count, place) in delivery.order.iter().enumerate() {
        let happened = &history[*place];
        let at_ms = happened.event.occurred_at_ms;
        if delivery.told {
            told_ms = at_ms - 1;
            for agent in AGENTS {
                replay.heard(agent, told_ms, told_ms + delivery.delay_ms);
            }
        }
        let now_ms = if delivery.told { at_ms } else { end_ms } + delivery.delay_ms;
        replay.bring(&happened.event, &happened.origin(), now_ms);
        if delivery.restarts.contains(&count) {
            let mut fresh = new();
            for agent in AGENTS {
                fresh.engine().advance(agent, told_ms);
            }
            for place in &delivery.order[..=count] {
                let happened = &history[*place];
                fresh
                    .engine()
                    .observe(&happened.event, &happened.origin(), now_ms);
            }
            fresh.engine().outcome();
            let none = Engine::in_memory(Vec::new(), HashMap::new());
            replay.restart(std::mem::replace(fresh.engine(), none));
        }
    }
    for agent in AGENTS {
        replay.heard(agent, end_ms, end_ms + delivery.delay_ms);
    }
    replay
        .standing()
        .into_iter()
        .map(|raised| Raised {
            // Lateness depends on the delivery, not on the events.
            late: false,
            ..raised.clone()
        })
        .collect()
}

/// An order of indices; each occurs at least once.
fn orders(count: usize) -> impl Strategy<Value = Vec<usize>> {
    let doubled = prop::collection::vec(0..count, 0..10);
    doubled.prop_flat_map(move |doubled| {
        let all: Vec<usize> = (0..count).chain(doubled).collect();
        Just(all).prop_shuffle()
    })
}

fn histories_and_orders() -> impl Strategy<Value = (Vec<Happened>, Vec<usize>, Vec<usize>)> {
    histories().prop_flat_map(|history| {
        let count = history.len();
        (
            Just(history),
            orders(count),
            prop::collection::vec(0..count, 0..3),
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// The final warnings are a function of the set of events, regardless of their order, of duplicates, of
    /// delays and of restarts.
    #[test]
    fn the_standing_warnings_do_not_depend_on_the_delivery(
        (history, order, restarts) in histories_and_orders()
    ) {
        let rules = one_of_each();
        let mut in_order: Vec<usize> = (0..history.len()).collect();
        in_order.sort_by_key(|place| history[*place].event.occurred_at_ms);
        let live = Delivery { order: in_order.clone(), restarts: Vec::new(), delay_ms: 0, told: true };
        let wanted = bring(&rules, &history, &live);
        for other in [
            Delivery { restarts: restarts.clone(), ..live.clone() },
            Delivery { delay_ms: 3 * 86_400_000, ..live.clone() },
            Delivery { order: in_order, told: false, ..live.clone() },
            Delivery { order: order.clone(), told: false, ..live.clone() },
            Delivery { order, restarts, told: false, ..live },
        ] {
            let found = bring(&rules, &history, &other);
            let extra: Vec<&Raised> = found.iter().filter(|raised| !wanted.contains(raised)).collect();
            let missing: Vec<&Raised> = wanted.iter().filter(|raised| !found.contains(raised)).collect();
            prop_assert!(
                extra.is_empty() && missing.is_empty() && found.len() == wanted.len(),
                "{:?}\nextra {:#?}\nmissing {:#?}", other, extra, missing
            );
        }
    }

    /// Counts hits by the definition of each kind, independent of the engine's algorithms.
    #[test]
    fn the_hits_are_those_of_the_definitions(history in histories()) {
        let rules = one_of_each();
        let order: Vec<usize> = (0..history.len()).collect();
        let delivery = Delivery { order, restarts: Vec::new(), delay_ms: 0, told: false };
        let found = bring(&rules, &history, &delivery);
        for rule in rules.iter().filter(|rule| !matches!(rule.kind, Kind::Surge { .. } | Kind::Silent { .. })) {
            for building in ["B0", "B1"] {
                let hits: i64 = found
                    .iter()
                    .filter(|raised| raised.rule == rule.id && raised.key == building)
                    .map(|raised| raised.finding.hits)
                    .sum();
                prop_assert_eq!(hits, defined(rule, &history, building), "{} {}", rule.id, building);
            }
        }
    }
}

/// The number of hits of a rule, straight from its definition.
fn defined(rule: &Rule, history: &[Happened], building: &str) -> i64 {
    let mut own: Vec<&Happened> = history
        .iter()
        .filter(|happened| {
            happened.event.place.building == building && happened.event.kind != AGENT_STARTED
        })
        .collect();
    own.sort_by_key(|happened| {
        (
            happened.event.occurred_at_ms,
            happened.agent,
            happened.sequence,
        )
    });
    let at = |place: usize| own[place].event.occurred_at_ms;
    let is = |place: usize, step: usize| rule.steps[step].kind == own[place].event.kind;
    let on = |place: usize| (0..rule.on).any(|step| is(place, step));
    let within_ms = rule.kind.within_ms();
    let window = |last: usize| (0..=last).filter(move |place| at(*place) >= at(last) - within_ms);
    let holds = |last: usize| match rule.kind {
        Kind::Match => on(last),
        Kind::Count { times, .. } | Kind::Repeat { times, .. } => {
            on(last) && window(last).filter(|place| on(*place)).count() >= times
        }
        Kind::Distinct { times, .. } => {
            let values: BTreeSet<&str> = window(last)
                .filter(|place| on(*place))
                .map(|place| own[place].event.device.as_str())
                .collect();
            on(last) && values.len() >= times
        }
        Kind::AllOf { .. } => {
            on(last) && (0..rule.on).all(|step| window(last).any(|place| is(place, step)))
        }
        Kind::Sequence { .. } => {
            is(last, 1)
                && window(last).any(|first| {
                    first < last && is(first, 0) && !(first..last).any(|place| is(place, 2))
                })
        }
        Kind::Absent { .. } => {
            let due_ms = at(last) + within_ms;
            let closed = (0..own.len())
                .any(|place| is(place, 1) && at(place) >= at(last) && at(place) <= due_ms);
            let gap = history.iter().any(|started| {
                let since = started.event.attributes.get(DOWN_SINCE);
                let since_ms = since.and_then(|since| since.parse::<i64>().ok());
                started.agent == own[last].agent
                    && since_ms.is_some_and(|since_ms| {
                        since_ms < due_ms && started.event.occurred_at_ms > at(last)
                    })
            });
            is(last, 0) && !closed && !gap
        }
        Kind::Silent { .. } | Kind::Surge { .. } => false,
    };
    (0..own.len()).filter(|place| holds(*place)).count() as i64
}

fn count_rule(more: &str) -> Vec<Arc<Rule>> {
    rules(&format!(
        "[[rule]]\nid = \"r\"\nname = \"r\"\nkind = \"count\"\ntimes = 3\nwithin = \"10m\"\nkey = [\"building\"]\n\
         on = [{{ type = \"fire.alarm\" }}]\nseverity = \"alarm\"\n{more}\n"
    ))
}

fn fire(building: usize, at_ms: i64, sequence: u64) -> (Event, Origin<'static>) {
    let event = Event {
        kind: "fire.alarm".to_owned(),
        occurred_at_ms: at_ms,
        received_at_ms: at_ms,
        place: Place {
            building: format!("B{building}"),
            ..Place::default()
        },
        ..Event::default()
    };
    let origin = Origin {
        site: "s",
        agent: "gw-0",
        lane: Lane::Urgent,
        epoch: 1,
        sequence,
    };
    (event, origin)
}

#[test]
fn a_flood_of_keys_is_said_once_and_the_keys_that_are_there_go_on() {
    let mut replay = Replay::new(count_rule("max_keys = 10"), HashMap::new());
    for number in 0..1000 {
        let (event, origin) = fire(number, BASE_MS, number as u64);
        replay.bring(&event, &origin, BASE_MS);
    }
    assert_eq!(replay.overflows().len(), 1);
    assert_eq!(replay.overflows()[0].limit, "max_keys");
    assert_eq!(replay.engine().keys(), 10);
    let counts: Vec<Counts> = replay.engine().counts().map(|(_, counts)| counts).collect();
    assert_eq!((counts[0].evaluated, counts[0].overflow), (1000, 990));
    for number in 0..2 {
        let (event, origin) = fire(3, BASE_MS + 1 + number, 5000 + number as u64);
        replay.bring(&event, &origin, BASE_MS + 10);
    }
    assert_eq!(replay.standing().len(), 1);
}

#[test]
fn a_key_with_too_many_events_in_its_window_says_so_and_one_with_a_long_past_does_not() {
    for (step_ms, overflows) in [(1000, 1), (120_000, 0)] {
        let mut replay = Replay::new(count_rule("max_events = 50\nfold = \"0s\""), HashMap::new());
        for number in 0..500 {
            let at_ms = BASE_MS + number * step_ms;
            let (event, origin) = fire(1, at_ms, number as u64);
            replay.bring(&event, &origin, at_ms);
        }
        assert_eq!(replay.overflows().len(), overflows, "{step_ms}");
        assert!(
            replay
                .engine()
                .timeline(0, "B1")
                .is_some_and(|timeline| timeline.entries().len() <= 50)
        );
    }
}

#[test]
fn an_event_of_the_future_neither_fires_nor_silences() {
    let mut replay = Replay::new(count_rule(""), HashMap::new());
    for (number, at_ms) in [i64::MAX, i64::MIN, BASE_MS + 30 * 86_400_000]
        .into_iter()
        .enumerate()
    {
        let (event, origin) = fire(1, at_ms, number as u64);
        replay.bring(&event, &origin, BASE_MS);
    }
    let counts: Vec<Counts> = replay.engine().counts().map(|(_, counts)| counts).collect();
    assert_eq!(counts[0].beyond, 3);
    for number in 0..3 {
        let (event, origin) = fire(1, BASE_MS + number, 10 + number as u64);
        replay.bring(&event, &origin, BASE_MS + 10);
    }
    assert_eq!(replay.standing().len(), 1);
}

#[test]
fn what_is_older_than_the_horizon_is_counted_and_not_looked_at() {
    let mut replay = Replay::new(count_rule(""), HashMap::new());
    let now_ms = BASE_MS + 30 * 86_400_000;
    let (event, origin) = fire(1, now_ms, 0);
    replay.bring(&event, &origin, now_ms);
    // A fire on day 22, then events of day 20: they complete nothing, and the earlier ones of day 20 are too
    // old.
    for number in 1..4 {
        let (event, origin) = fire(1, now_ms - 8 * 86_400_000, number);
        replay.bring(&event, &origin, now_ms);
    }
    assert!(replay.standing().is_empty());
    let counts: Vec<Counts> = replay.engine().counts().map(|(_, counts)| counts).collect();
    assert_eq!(counts[0].beyond, 3);
}

#[test]
fn other_rules_take_over_what_is_the_same_and_begin_anew_what_is_not() {
    let mut replay = Replay::new(count_rule(""), HashMap::new());
    for number in 0..2 {
        let (event, origin) = fire(1, BASE_MS + number, number as u64);
        replay.bring(&event, &origin, BASE_MS);
    }
    let none = Engine::in_memory(Vec::new(), HashMap::new());
    let old = std::mem::replace(replay.engine(), none);
    let mut same = Engine::in_memory(count_rule(""), HashMap::new());
    assert_eq!(same.take_over(old), Vec::<String>::new());
    assert_eq!(same.keys(), 1);
    let mut other = Engine::in_memory(count_rule("fresh = \"3m\""), HashMap::new());
    assert_eq!(other.take_over(same), ["r"]);
    assert_eq!(other.keys(), 0);
}

#[test]
fn a_start_keeps_what_the_windows_of_late_events_look_back_at() {
    const DAY_MS: i64 = 86_400_000;
    let rules = rules(
        "[[rule]]\nid = \"r\"\nname = \"r\"\nkind = \"count\"\ntimes = 3\nwithin = \"7d\"\nkey = [\"building\"]\n\
         on = [{ type = \"fire.alarm\" }]\nseverity = \"alarm\"\nfold = \"7d\"\n",
    );
    let now_ms = BASE_MS + 15 * DAY_MS / 2;
    let mut engine = Engine::new(rules, HashMap::new());
    engine.only(Some(&["r".to_owned()]));
    // The newest first, as a start reads them.
    for (sequence, hours) in [(3, 156), (2, 96), (1, 0)] {
        let (event, origin) = fire(1, BASE_MS + hours * DAY_MS / 24, sequence);
        engine.observe(&event, &origin, now_ms);
    }
    engine.only(None);
    engine.outcome();
    let (event, origin) = fire(1, now_ms, 4);
    engine.observe(&event, &origin, now_ms);
    let touched = engine.outcome().touched;
    let (findings, _) = engine.findings(0, "B1", touched[0].from_ms, touched[0].to_ms);
    // The third of the first three, and the new one with the two before it.
    assert_eq!((findings.len(), findings[0].hits), (1, 2));
    assert_eq!(findings[0].from_ms, BASE_MS + 156 * DAY_MS / 24);
}
