use super::*;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 1440 * MINUTE_MS;
const NOON_MS: i64 = 1_790_000_000_000;
const BOOT: i64 = 7;

/// A reading `after_ms` after noon, with the wall clock off by `off_ms`.
fn reading(after_ms: i64, off_ms: i64, synchronised: bool) -> Reading {
    Reading {
        wall_ms: NOON_MS + after_ms + off_ms,
        monotonic_ms: 1_000 + after_ms as u64,
        synchronised,
    }
}

fn guard(kept: Option<KeptClock>, first: Reading) -> ClockGuard {
    ClockGuard::new(&ClockConfig::default(), first, BOOT, kept)
}

fn doubt(guard: &mut ClockGuard, reading: Reading) -> Option<&'static str> {
    guard.look(reading).doubt(reading).map(Doubt::as_str)
}

#[test]
fn a_step_beyond_the_bound_is_doubted_and_hub_time_goes_on_evenly_over_it() {
    for off_ms in [
        -3_600_000,
        -5 * MINUTE_MS - 1,
        5 * MINUTE_MS + 1,
        1095 * DAY_MS,
    ] {
        let mut guard = guard(None, reading(0, 0, true));
        assert_eq!(doubt(&mut guard, reading(1_000, 0, true)), None);
        for after_ms in [2_000, 600_000] {
            let stepped = reading(after_ms, off_ms, true);
            // Readers of the state see the step before the guard evaluates it.
            assert_eq!(guard.state().hub_ms(stepped), NOON_MS + after_ms);
            assert_eq!(doubt(&mut guard, stepped), Some("stepped"), "{off_ms}");
            assert_eq!(guard.state().hub_ms(stepped), NOON_MS + after_ms);
            assert_eq!(guard.state().expiry_ms(stepped), NOON_MS + after_ms);
        }
        // The clock returned to the right time by itself.
        assert_eq!(doubt(&mut guard, reading(700_000, 0, true)), None);
    }
}

#[test]
fn small_steps_and_a_clock_that_drifts_are_followed() {
    let mut guard = guard(None, reading(0, 0, true));
    for second in 1..3_000 {
        // The clock runs a tenth too fast; the sum exceeds the bound of one step by far.
        let drifted = reading(second * 1_000, second * 100, true);
        assert_eq!(doubt(&mut guard, drifted), None);
        assert_eq!(guard.state().hub_ms(drifted), drifted.wall_ms);
    }
    let slept = reading(3_000_000 + 5 * MINUTE_MS, 300_000, true);
    assert_eq!(doubt(&mut guard, slept), None);
}

#[test]
fn a_person_who_trusts_it_ends_a_doubt_and_the_jump_is_told() {
    let mut guard = guard(None, reading(0, 0, false));
    assert_eq!(
        doubt(&mut guard, reading(1_000, 0, false)),
        Some("unsynchronised")
    );
    assert_eq!(guard.trust(reading(2_000, 0, false)), None);
    assert_eq!(doubt(&mut guard, reading(3_000, 0, false)), None);
    let stepped = reading(4_000, DAY_MS, false);
    assert_eq!(doubt(&mut guard, stepped), Some("stepped"));
    let jump = (NOON_MS + 4_000, NOON_MS + 4_000 + DAY_MS);
    assert_eq!(guard.trust(stepped), Some(jump));
    assert_eq!(guard.state().trusts, 2);
    assert_eq!(doubt(&mut guard, reading(5_000, DAY_MS, false)), None);
    assert_eq!(guard.state().expiry_ms(stepped), stepped.wall_ms);
    // Once the kernel has synchronised the clock, a loss is a new doubt.
    assert_eq!(doubt(&mut guard, reading(6_000, DAY_MS, true)), None);
    assert_eq!(
        doubt(&mut guard, reading(7_000, DAY_MS, false)),
        Some("unsynchronised")
    );
}

#[test]
fn an_unsynchronised_kernel_is_doubted_unless_the_config_says_who_keeps_the_time() {
    let mut doubting = guard(None, reading(0, 0, false));
    let later = reading(10_000, 0, false);
    assert_eq!(doubt(&mut doubting, later), Some("unsynchronised"));
    assert_eq!(doubting.state().hub_ms(later), later.wall_ms);
    assert_eq!(doubt(&mut doubting, reading(20_000, 0, true)), None);
    let config = ClockConfig {
        unsynchronised: Unsynchronised::Trust,
        ..ClockConfig::default()
    };
    let mut trusting = ClockGuard::new(&config, reading(0, 0, false), BOOT, None);
    assert_eq!(doubt(&mut trusting, later), None);
    let stepped = reading(11_000, DAY_MS, false);
    assert_eq!(doubt(&mut trusting, stepped), Some("stepped"));
}

#[test]
fn a_start_compares_with_what_was_kept_of_this_boot_or_another() {
    let kept = |boot| KeptClock {
        boot,
        known: Anchor {
            wall_ms: NOON_MS,
            monotonic_ms: 1_000,
        },
    };
    let hour_ms = 60 * MINUTE_MS;
    for (name, boot, off_ms, synchronised, wanted) in [
        ("the same boot, right", BOOT, 0, true, None),
        ("the same boot, ahead", BOOT, DAY_MS, true, Some("stepped")),
        (
            "the same boot, behind",
            BOOT,
            -DAY_MS,
            true,
            Some("stepped"),
        ),
        ("another boot, off for a day", 8, DAY_MS, true, None),
        (
            "another boot, behind the last commit",
            8,
            -2 * hour_ms,
            true,
            Some("stepped"),
        ),
        ("another boot, off for months", 8, 90 * DAY_MS, true, None),
        (
            "another boot, months ahead and nobody knows",
            8,
            90 * DAY_MS,
            false,
            Some("away"),
        ),
    ] {
        let first = reading(hour_ms, off_ms, synchronised);
        let mut guard = guard(Some(kept(boot)), first);
        let found = doubt(&mut guard, first);
        assert_eq!(found, wanted, "{name}");
        if wanted == Some("stepped") {
            assert!(guard.state().hub_ms(first) >= NOON_MS, "{name}");
        }
        if wanted.is_some() {
            // At most an hour has certainly passed; nothing expires by the time that the clock claims.
            let expiry_ms = guard.state().expiry_ms(first);
            assert!((NOON_MS..=NOON_MS + hour_ms).contains(&expiry_ms), "{name}");
            assert!(guard.kept(first).known.wall_ms <= NOON_MS + hour_ms);
        }
    }
}
