use super::*;

/// Records a sign of life without a time.
fn hear(devices: &mut Devices, device: &str, now_ms: u64) -> bool {
    let received = Received {
        is_alive: true,
        is_offline: false,
        claim: &Claim::None,
        delivery: Delivery::Live,
        is_sample: false,
        receipt: &RECEIPT,
    };
    devices.receive(device, &received, now_ms).is_back
}

const RECEIPT: Receipt = Receipt {
    received_ms: 1_790_000_000_000,
    is_synchronised: true,
    bound_ms: 120_000,
};

/// Records a message with a time.
fn claim(devices: &mut Devices, claim_ms: i64, delivery: Delivery) -> Changes {
    let received = Received {
        is_alive: false,
        is_offline: false,
        claim: &Claim::Ms(claim_ms),
        delivery,
        is_sample: delivery.is_live(),
        receipt: &RECEIPT,
    };
    devices.receive("d", &received, 0)
}

fn devices() -> Devices {
    Devices::new(Some(Duration::from_secs(30)))
}

fn staged(active: bool) -> Staged {
    Staged {
        device: "d".to_owned(),
        point: "p".to_owned(),
        active,
        at_ms: None,
        arrived_ms: 0,
    }
}

fn news(devices: &Devices, device: &str, point: &str, active: bool, initial: bool) -> News {
    let staged = Staged {
        device: device.to_owned(),
        point: point.to_owned(),
        active,
        at_ms: None,
        arrived_ms: 0,
    };
    devices.news(&staged, initial, false)
}

fn states(devices: &Devices) -> Vec<(&str, Vec<(String, bool)>)> {
    let kept = devices.kept();
    let mut states: Vec<_> = kept
        .into_iter()
        .map(|(device, kept)| (device, kept.states))
        .collect();
    states.sort();
    states
}

fn kept(states: impl IntoIterator<Item = (String, bool)>) -> Kept {
    Kept {
        states: states.into_iter().collect(),
        ..Kept::default()
    }
}

#[test]
fn a_device_that_falls_silent_is_told_once_and_its_points_are_unknown_then() {
    let mut devices = devices();
    assert!(hear(&mut devices, "d", 0));
    assert!(!hear(&mut devices, "d", 10_000));
    devices.apply(staged(false), 10_000);
    assert_eq!(news(&devices, "d", "p", false, false), News::Repeated(None));
    assert!(devices.fallen_silent(39_999).is_empty());
    assert_eq!(devices.fallen_silent(40_000), ["d"]);
    // The spool refused: it is tried again.
    assert_eq!(devices.fallen_silent(41_000), ["d"]);
    devices.told_silent("d");
    assert!(devices.fallen_silent(100_000).is_empty());
    assert_eq!(
        devices.count(),
        Count {
            online: 0,
            unknown: 1
        }
    );
    assert_eq!(news(&devices, "d", "p", false, false), News::Changed);
    assert!(hear(&mut devices, "d", 100_000));
    assert_eq!(
        devices.count(),
        Count {
            online: 1,
            unknown: 0
        }
    );
}

#[test]
fn a_device_of_the_config_that_is_never_heard_is_told_too() {
    let mut devices = devices();
    devices.expect("d", 5);
    devices.trouble("d", "no route to host", 6);
    assert_eq!(
        devices.unknown(9),
        [("d".to_owned(), Some("no route to host".to_owned()))]
    );
    assert_eq!(devices.fallen_silent(30_005), ["d"]);
}

#[test]
fn without_a_sign_of_life_nothing_is_told_of_silence() {
    let mut devices = Devices::new(None);
    devices.apply(staged(true), 0);
    let heard = Count {
        online: 1,
        unknown: 0,
    };
    assert_eq!(devices.count(), heard);
    assert!(!hear(&mut devices, "d", 0));
    assert!(devices.fallen_silent(u64::MAX).is_empty());
}

#[test]
fn a_state_is_news_when_it_changes_and_at_the_beginning_only_if_it_was_known_otherwise() {
    let mut devices = devices();
    assert_eq!(news(&devices, "d", "p", true, true), News::Noted);
    assert_eq!(news(&devices, "d", "p", true, false), News::Changed);
    devices.apply(staged(true), 0);
    assert_eq!(news(&devices, "d", "p", true, false), News::Repeated(None));
    assert_eq!(news(&devices, "d", "p", false, true), News::Changed);
    // It was on when the device fell silent: that it still is on and that it is over are both news, from a
    // snapshot too.
    hear(&mut devices, "d", 0);
    devices.told_silent("d");
    assert_eq!(news(&devices, "d", "p", true, true), News::Changed);
    assert_eq!(news(&devices, "d", "p", false, true), News::Changed);
    // It was off: that it came on while nobody listened is news; that it is still off is only confirmed.
    devices.apply(staged(false), 0);
    devices.told_silent("d");
    assert_eq!(news(&devices, "d", "p", true, true), News::Changed);
    assert_eq!(news(&devices, "d", "p", false, true), News::Noted);
    assert_eq!(news(&devices, "d", "p", false, false), News::Changed);
    devices.apply(staged(false), 0);
    assert_eq!(news(&devices, "d", "p", false, true), News::Repeated(None));
}

/// Restores, as after a start, devices with one point `p` each.
fn started(before: &[(&str, bool)]) -> Devices {
    let mut devices = devices();
    devices.expect("expected", 0);
    for (device, active) in before {
        devices.recall((*device).to_owned(), kept([("p".to_owned(), *active)]));
    }
    devices
}

#[test]
fn after_a_start_what_is_said_is_seen_from_what_was_before() {
    let mut devices = started(&[("d", true), ("expected", true), ("off", false)]);
    // This also holds before anything was heard of a device.
    for round in 0..2 {
        for device in ["d", "expected"] {
            assert_eq!(news(&devices, device, "p", false, true), News::Changed);
            assert_eq!(news(&devices, device, "p", true, true), News::Changed);
            assert_eq!(news(&devices, device, "p", true, false), News::Changed);
            assert_eq!(news(&devices, device, "other", true, true), News::Noted);
        }
        assert_eq!(news(&devices, "off", "p", true, true), News::Changed);
        assert_eq!(news(&devices, "off", "p", false, true), News::Noted);
        assert_eq!(news(&devices, "off", "p", false, false), News::Changed);
        if round == 0 {
            // Recalled devices that are not heard do not count: nobody waits for them.
            assert_eq!(devices.count().unknown, 1);
            assert_eq!(devices.fallen_silent(30_000), ["expected"]);
        }
        for device in ["d", "expected", "off"] {
            hear(&mut devices, device, 30_000);
        }
    }
    devices.apply(staged(true), 0);
    assert_eq!(news(&devices, "d", "p", true, false), News::Repeated(None));
}

#[test]
fn what_is_to_be_kept_has_changed_only_where_a_state_has() {
    let mut devices = started(&[("d", true), ("other", false)]);
    hear(&mut devices, "d", 0);
    devices.apply(staged(true), 0);
    assert!(!devices.is_changed());
    devices.told_silent("d");
    assert!(!devices.is_changed());
    devices.apply(staged(false), 0);
    assert!(devices.is_changed());
    let off = || vec![("p".to_owned(), false)];
    assert_eq!(states(&devices), [("d", off()), ("other", off())]);
    devices.set_changed(false);
    devices.apply(
        Staged {
            point: "new".to_owned(),
            ..staged(false)
        },
        0,
    );
    assert!(devices.is_changed());
}

#[test]
fn what_was_known_before_gives_way_to_what_is_said_now() {
    let mut devices = devices();
    let many = |from: usize, to: usize| kept((from..to).map(|point| (point.to_string(), true)));
    devices.recall("gone".to_owned(), many(0, POINTS_MAX - 1));
    devices.recall("d".to_owned(), many(0, 5));
    assert_eq!(devices.points, POINTS_MAX);
    hear(&mut devices, "d", 0);
    devices.apply(staged(true), 0);
    // The one point of "d" that there was room for, and the new one.
    assert_eq!(devices.points, 2);
    assert_eq!(news(&devices, "d", "p", true, false), News::Repeated(None));
    assert_eq!(states(&devices).len(), 1);
}

#[test]
fn what_is_known_stays_bounded() {
    let mut devices = devices();
    for number in 0..DEVICES_MAX + 10 {
        hear(&mut devices, &number.to_string(), 0);
    }
    assert_eq!(devices.devices.len(), DEVICES_MAX);
    assert_eq!(devices.overflow(), 10);
    for point in 0..POINTS_MAX + 10 {
        let staged = Staged {
            device: "0".to_owned(),
            point: point.to_string(),
            active: true,
            at_ms: None,
            arrived_ms: 0,
        };
        devices.apply(staged, 0);
    }
    assert_eq!(devices.points, POINTS_MAX);
    // Beyond the limit a state is news each time: too many events rather than a missing one.
    assert_eq!(
        news(&devices, "0", &(POINTS_MAX + 5).to_string(), true, false),
        News::Changed
    );
}

#[test]
fn a_state_in_flight_is_compared_with_and_is_known_only_when_it_lands() {
    let mut devices = devices();
    let flight = |batch| Flight { batch, way: None };
    devices.fly(flight(7), staged(true));
    let repeated = News::Repeated(Some(flight(7)));
    assert_eq!(news(&devices, "d", "p", true, false), repeated);
    assert_eq!(news(&devices, "d", "p", false, false), News::Changed);
    // The spool refused the event.
    devices.land(7, 0, |_| false);
    assert_eq!(news(&devices, "d", "p", true, false), News::Changed);
    devices.fly(flight(8), staged(true));
    devices.fly(flight(9), staged(false));
    devices.land(8, 0, |_| true);
    let repeated = News::Repeated(Some(flight(9)));
    assert_eq!(news(&devices, "d", "p", false, false), repeated);
    devices.land(9, 0, |_| true);
    assert_eq!(news(&devices, "d", "p", false, false), News::Repeated(None));
}

#[test]
fn what_arrives_out_of_order_is_compared_by_its_time() {
    let mut devices = devices();
    let at = |active, at_ms| Staged {
        at_ms: Some(at_ms),
        ..staged(active)
    };
    devices.apply(at(true, 100), 0);
    // It closed before that: an event, and the door stays open.
    assert_eq!(devices.news(&at(false, 50), false, false), News::Late);
    assert_eq!(
        devices.news(&at(true, 100), false, false),
        News::Repeated(None)
    );
    assert_eq!(
        devices.news(&at(true, 150), false, false),
        News::Repeated(None)
    );
    assert_eq!(devices.news(&at(false, 150), false, false), News::Changed);
}

#[test]
fn a_clock_and_a_cursor_are_kept_over_a_start() {
    let mut before = devices();
    let slow_ms = RECEIPT.received_ms - 960_000;
    assert_eq!(
        claim(&mut before, slow_ms, Delivery::Live).clock,
        Some(ClockNews::Off(960_000))
    );
    before.clock_not_told("d");
    let cursor = Cursor {
        second: 7,
        serial: 9,
    };
    before.set_cursor("d", cursor, 0);
    let mut after = devices();
    for (device, kept) in before.kept() {
        after.recall(device.to_owned(), kept);
    }
    assert_eq!(after.cursor("d"), Some(cursor));
    // Whether or not the device was heard, its replayed event is corrected.
    let past_ms = RECEIPT.received_ms - 3_600_000;
    let moment = claim(&mut after, past_ms, Delivery::Replayed).moment;
    assert_eq!(moment.occurred_at_ms, RECEIPT.received_ms - 2_640_000);
    hear(&mut after, "d", 0);
    let replayed = claim(&mut after, past_ms, Delivery::Replayed);
    assert_eq!(replayed.moment, moment);
    // Only live messages show a clock: it is reported as off once, and as right once.
    assert_eq!(replayed.clock, None);
    for (claim_ms, news) in [(slow_ms, Some(ClockNews::Off(960_000))), (slow_ms, None)] {
        assert_eq!(claim(&mut after, claim_ms, Delivery::Live).clock, news);
    }
    // Nor is it reported as off after another start, once that is durable, and that it is right is.
    after.clock_told("d");
    let mut later = devices();
    for (device, kept) in after.kept() {
        later.recall(device.to_owned(), kept);
    }
    let live = |devices: &mut Devices, ms| claim(devices, ms, Delivery::Live).clock;
    assert_eq!(live(&mut later, slow_ms), None);
    let right = Some(ClockNews::Restored);
    assert_eq!(live(&mut later, RECEIPT.received_ms), right);
    for news in [right, None] {
        assert_eq!(live(&mut after, RECEIPT.received_ms), news);
    }
    assert!(after.clocks_off(120_000).is_empty());
}
