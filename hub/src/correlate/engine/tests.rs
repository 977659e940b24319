use super::*;
use crate::correlate::rule::Step;
use linli_shared::protocol::event::{Place, Severity};
use proptest::prelude::*;

const MINUTE_MS: i64 = 60_000;

fn rule(kind: Kind, kinds: &[&str]) -> Rule {
    Rule {
        id: "r".to_owned(),
        name: "r".to_owned(),
        hash: "h".to_owned(),
        kind,
        key: vec!["site".to_owned(), "building".to_owned()],
        steps: kinds
            .iter()
            .map(|kind| Step {
                kind: (*kind).to_owned(),
                fields: Vec::new(),
            })
            .collect(),
        severity: Severity::Alarm,
        fresh_ms: 15 * MINUTE_MS,
        fold_ms: 0,
        case: None,
        route: String::new(),
    }
}

fn event(kind: &str, building: &str, minute: i64) -> Event {
    Event {
        kind: kind.to_owned(),
        occurred_at_ms: minute * MINUTE_MS,
        place: Place {
            building: building.to_owned(),
            ..Place::default()
        },
        ..Event::default()
    }
}

/// What fires when these events come in this order.
fn fired(rule: &Rule, events: &[Event]) -> Vec<Firing> {
    let mut engine = Engine::new(vec![rule.clone()]);
    let mut firings = Vec::new();
    for (sequence, event) in events.iter().enumerate() {
        let origin = Origin {
            site: "s",
            agent: "a",
            lane: Lane::Urgent,
            epoch: 1,
            sequence: sequence as u64,
        };
        engine.observe(event, &origin, 0, &mut firings);
    }
    firings
}

fn fire_then_forced() -> Rule {
    let within_ms = 10 * MINUTE_MS;
    rule(Kind::AllOf { within_ms }, &["fire.alarm", "door.forced"])
}

#[test]
fn fire_and_forced_door_within_the_window_fire_in_either_order_of_arrival() {
    let (fire, forced) = (event("fire.alarm", "B1", 0), event("door.forced", "B1", 5));
    for order in [[fire.clone(), forced.clone()], [forced, fire]] {
        let firings = fired(&fire_then_forced(), &order);
        assert_eq!(firings.len(), 1);
        assert_eq!(firings[0].at_ms, 5 * MINUTE_MS);
        assert_eq!(firings[0].key, "s|B1");
        assert_eq!(firings[0].reasons.len(), 2);
    }
}

#[test]
fn other_buildings_and_other_days_do_not_go_together() {
    let rule = fire_then_forced();
    let fire = event("fire.alarm", "B1", 0);
    assert_eq!(
        fired(&rule, &[fire.clone(), event("door.forced", "B2", 5)]),
        []
    );
    let late = [
        event("fire.alarm", "B1", 2 * 1440),
        event("door.forced", "B1", 0),
    ];
    assert_eq!(fired(&rule, &late), []);
    assert_eq!(
        fired(&rule, &[fire.clone(), event("door.forced", "B1", 11)]),
        []
    );
    assert_eq!(
        fired(&rule, &[fire, event("door.forced", "B1", 10)]).len(),
        1
    );
}

#[test]
fn a_count_fires_for_as_many_within_the_window_however_they_arrive() {
    let within_ms = 60 * MINUTE_MS;
    let rule = rule(
        Kind::Count {
            times: 3,
            within_ms,
        },
        &["lift.ebike"],
    );
    let days: Vec<Event> = (0..3)
        .map(|day| event("lift.ebike", "B1", day * 1440))
        .collect();
    assert_eq!(fired(&rule, &days), []);
    let mut reversed = days;
    reversed.reverse();
    assert_eq!(fired(&rule, &reversed), []);
    // Three within twenty minutes, a newer live one arriving before the third.
    let shuffled = [0, 10, 300, 20].map(|minute| event("lift.ebike", "B1", minute));
    let firings = fired(&rule, &shuffled);
    assert_eq!(firings.len(), 1);
    assert_eq!(firings[0].at_ms, 20 * MINUTE_MS);
}

#[test]
fn an_event_without_the_key_fires_nothing() {
    let rule = rule(Kind::Match, &["fire.alarm"]);
    assert_eq!(fired(&rule, &[event("fire.alarm", "", 0)]), []);
    assert_eq!(fired(&rule, &[event("fire.alarm", "B1", 0)]).len(), 1);
}

#[test]
fn what_is_older_than_fresh_is_marked_late() {
    let mut engine = Engine::new(vec![rule(Kind::Match, &["fire.alarm"])]);
    let mut firings = Vec::new();
    let origin = Origin {
        site: "s",
        agent: "a",
        lane: Lane::Urgent,
        epoch: 1,
        sequence: 0,
    };
    for now in [15, 16] {
        let fire = event("fire.alarm", "B1", 0);
        engine.observe(&fire, &origin, now * MINUTE_MS, &mut firings);
    }
    let late: Vec<bool> = firings.iter().map(|firing| firing.late).collect();
    assert_eq!(late, [false, true]);
}

#[test]
fn a_flood_of_keys_is_bounded_and_shows_once() {
    let within_ms = MINUTE_MS;
    let rule = rule(
        Kind::Count {
            times: 2,
            within_ms,
        },
        &["lift.ebike"],
    );
    let mut engine = Engine::new(vec![rule]);
    let mut firings = Vec::new();
    for number in 0..KEYS_MAX + 100 {
        let origin = Origin {
            site: "s",
            agent: "a",
            lane: Lane::Urgent,
            epoch: 1,
            sequence: number as u64,
        };
        let flood = event("lift.ebike", &number.to_string(), 1);
        engine.observe(&flood, &origin, 0, &mut firings);
    }
    assert_eq!(engine.keys(), KEYS_MAX);
    let rules: Vec<&str> = firings.iter().map(|firing| firing.rule.as_str()).collect();
    assert_eq!(rules, ["rule.overflow"]);
}

proptest! {
    /// The keys that fire are a function of the set of events, not of their order.
    #[test]
    fn the_order_of_arrival_does_not_decide_what_fires(
        history in proptest::collection::vec((0_usize..2, 0_u8..3, 0_i64..120), 1..40),
        seed in any::<u64>(),
    ) {
        let kinds = ["fire.alarm", "door.forced"];
        let events: Vec<Event> = history
            .iter()
            .map(|(kind, building, minute)| event(kinds[*kind], &format!("B{building}"), *minute))
            .collect();
        let mut shuffled = events.clone();
        let mut random = seed | 1;
        for index in (1..shuffled.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(index, (random >> 33) as usize % (index + 1));
        }
        let within_ms = 20 * MINUTE_MS;
        for rule in [
            fire_then_forced(),
            rule(Kind::Count { times: 3, within_ms }, &["door.forced"]),
        ] {
            let keys = |events: &[Event]| {
                let mut keys: Vec<String> =
                    fired(&rule, events).into_iter().map(|firing| firing.key).collect();
                keys.sort();
                keys.dedup();
                keys
            };
            prop_assert_eq!(keys(&events), keys(&shuffled));
        }
    }
}
