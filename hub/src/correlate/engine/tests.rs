use super::*;
use crate::correlate::rule::Step;
use linli_shared::protocol::event::{Place, Severity};
use proptest::prelude::*;

const MINUTE_MS: i64 = 60_000;
/// When the tests are: all histories are within the horizon before it.
const NOW_MS: i64 = 6 * 1440 * MINUTE_MS;

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

fn origin(sequence: u64) -> Origin<'static> {
    Origin {
        site: "s",
        agent: "a",
        lane: Lane::Urgent,
        epoch: 1,
        sequence,
    }
}

/// What fires when these events come in this order, all of them now.
fn fired(rule: &Rule, events: &[Event]) -> Vec<Firing> {
    fired_at(rule, events.iter().map(|event| (event, NOW_MS)))
}

/// What fires when each of these events comes at its time.
fn fired_at<'a>(rule: &Rule, events: impl Iterator<Item = (&'a Event, i64)>) -> Vec<Firing> {
    let mut engine = Engine::new(vec![rule.clone()]);
    let mut firings = Vec::new();
    for (sequence, (event, now_ms)) in events.enumerate() {
        engine.observe(event, &origin(sequence as u64), now_ms, &mut firings);
    }
    firings
}

/// The keys that fire, each once.
fn keys(firings: Vec<Firing>) -> Vec<String> {
    let mut keys: Vec<String> = firings.into_iter().map(|firing| firing.key).collect();
    keys.sort();
    keys.dedup();
    keys
}

fn counting(times: usize, minutes: i64) -> Rule {
    let within_ms = minutes * MINUTE_MS;
    rule(Kind::Count { times, within_ms }, &["lift.ebike"])
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
    for now in [15, 16] {
        let fire = event("fire.alarm", "B1", 0);
        engine.observe(&fire, &origin(0), now * MINUTE_MS, &mut firings);
    }
    let late: Vec<bool> = firings.iter().map(|firing| firing.late).collect();
    assert_eq!(late, [false, true]);
}

#[test]
fn a_flood_of_keys_is_bounded_and_shows_once() {
    let mut engine = Engine::new(vec![counting(2, 1)]);
    let mut firings = Vec::new();
    for number in 0..KEYS_MAX + 100 {
        let flood = event("lift.ebike", &number.to_string(), 1);
        engine.observe(&flood, &origin(number as u64), NOW_MS, &mut firings);
    }
    assert_eq!(engine.keys(), KEYS_MAX);
    assert_eq!(engine.counts().overflow, 100);
    let rules: Vec<&str> = firings.iter().map(|firing| firing.rule.as_str()).collect();
    assert_eq!(rules, ["rule.overflow"]);
}

#[test]
fn clocks_that_are_ahead_do_not_silence_a_rule() {
    let now = NOW_MS / MINUTE_MS;
    let pair = [now - 1, now].map(|minute| event("lift.ebike", "B1", minute));
    for ahead in [6, 60, 3 * 1440, 30 * 1440, 100 * 525_600] {
        // As many as a key holds, the new ones before and after what they would push out.
        let flood: Vec<Event> = (0..=KEY_EVENTS_MAX as i64)
            .map(|number| event("lift.ebike", "B1", now + ahead + 2 * number))
            .collect();
        let before = flood.iter().chain(&pair).map(|event| (event, NOW_MS));
        let between = std::iter::once(&pair[0])
            .chain(&flood)
            .chain(&pair[1..])
            .map(|event| (event, NOW_MS));
        let rule = counting(2, 1);
        for firings in [fired_at(&rule, before), fired_at(&rule, between)] {
            let at: Vec<i64> = firings.iter().map(|firing| firing.at_ms).collect();
            assert_eq!(at, [NOW_MS], "{ahead} minutes ahead");
        }
    }
}

#[test]
fn times_at_the_ends_of_the_number_range_break_nothing() {
    let mut extremes = Vec::new();
    for at_ms in [
        i64::MIN,
        i64::MIN + 1,
        -1,
        0,
        1,
        NOW_MS,
        i64::MAX - 1,
        i64::MAX,
    ] {
        for kind in ["fire.alarm", "door.forced"] {
            let mut event = event(kind, "B1", 0);
            event.occurred_at_ms = at_ms;
            extremes.push(event);
        }
    }
    let within_ms = HORIZON_MS;
    for kind in [
        Kind::Match,
        Kind::Count {
            times: 2,
            within_ms,
        },
        Kind::AllOf { within_ms },
    ] {
        let rule = rule(kind, &["fire.alarm", "door.forced"]);
        for now_ms in [i64::MIN, 0, NOW_MS, i64::MAX] {
            fired_at(&rule, extremes.iter().map(|event| (event, now_ms)));
        }
        assert!(!fired(&rule, &extremes).is_empty());
    }
}

#[test]
fn what_is_beyond_the_horizon_or_pushed_out_is_counted() {
    let mut engine = Engine::new(vec![counting(2, 1)]);
    let mut firings = Vec::new();
    // (pushed out or refused for a limit, beyond the horizon)
    let mut counted_after = |minute: i64| {
        let event = event("lift.ebike", "B1", minute);
        engine.observe(&event, &origin(0), NOW_MS, &mut firings);
        let counts = engine.counts();
        (counts.overflow, counts.beyond)
    };
    let now = NOW_MS / MINUTE_MS;
    assert_eq!(counted_after(now), (0, 0));
    assert_eq!(counted_after(now - 7 * 1440 - 1), (0, 1));
    assert_eq!(counted_after(now + 7 * 1440 + 1), (0, 2));
    for number in 1..KEY_EVENTS_MAX as i64 {
        assert_eq!(counted_after(now - 2 * number), (0, 2));
    }
    assert_eq!(counted_after(now), (1, 2));
}

#[test]
fn a_step_can_want_a_site() {
    let mut wanted = rule(Kind::Match, &["fire.alarm"]);
    for (site, times) in [("s", 1), ("other", 0)] {
        wanted.steps[0].fields = vec![("site".to_owned(), site.to_owned())];
        let firings = fired(&wanted, &[event("fire.alarm", "B1", 0)]);
        assert_eq!(firings.len(), times, "{site}");
    }
}

proptest! {
    /// A gateway that was cut off for days tells the same as one that was not.
    #[test]
    fn what_comes_late_within_the_horizon_fires_as_if_it_had_come_at_once(
        history in proptest::collection::vec((0_usize..2, 0_u8..3, 0_i64..6 * 1440), 1..60),
    ) {
        let kinds = ["fire.alarm", "door.forced"];
        let mut events: Vec<Event> = history
            .iter()
            .map(|(kind, building, minute)| event(kinds[*kind], &format!("B{building}"), *minute))
            .collect();
        events.sort_by_key(|event| event.occurred_at_ms);
        // Something live comes first, so that the horizon is where it is now.
        let live = event("fire.alarm", "elsewhere", NOW_MS / MINUTE_MS);
        let within_ms = 12 * 60 * MINUTE_MS;
        for rule in [
            rule(Kind::AllOf { within_ms }, &kinds),
            rule(Kind::Count { times: 3, within_ms }, &kinds),
        ] {
            let at_once = events.iter().map(|event| (event, event.occurred_at_ms));
            let late = std::iter::once(&live).chain(events.iter().rev());
            prop_assert_eq!(
                keys(fired_at(&rule, at_once)),
                keys(fired_at(&rule, late.map(|event| (event, NOW_MS))))
            );
        }
    }

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
            prop_assert_eq!(keys(fired(&rule, &events)), keys(fired(&rule, &shuffled)));
        }
    }
}
