use super::file::parse;
use super::{Beyond, Calendar, Calendars};
use crate::local_time;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

const MINUTE_MS: i64 = 60_000;
const EXAMPLE: &str = include_str!("../../../../configs/calendars/china-2026.toml");

fn example() -> Calendar {
    parse(Path::new("china-2026.toml"), EXAMPLE).expect("the example is valid")
}

/// A time like "2026-02-13 17:00", local time of the centre.
fn at(text: &str) -> i64 {
    let (day, time) = text.split_once(' ').expect("day and time");
    let (hours, minutes) = time.split_once(':').expect("a time");
    let minutes = hours.parse::<i64>().expect("hours") * 60 + minutes.parse::<i64>().expect("min");
    let midnight_ms = local_time::midnight_ms(day.parse().expect("a day")).expect("a time");
    midnight_ms + minutes * MINUTE_MS
}

fn error_of(text: &str) -> String {
    parse(Path::new("c.toml"), text)
        .expect_err("must be refused")
        .to_string()
}

#[test]
fn the_example_knows_holidays_and_the_working_days_that_make_up_for_them() {
    let calendar = example();
    assert_eq!(calendar.name(), "china-2026");
    for (time, open) in [
        ("2026-01-01 10:00", false),
        ("2026-01-04 10:00", true),
        ("2026-01-05 08:29", false),
        ("2026-01-05 08:30", true),
        ("2026-01-05 12:00", false),
        ("2026-01-05 13:59", false),
        ("2026-01-05 17:29", true),
        ("2026-01-05 17:30", false),
        ("2026-01-10 10:00", false),
        ("2026-02-14 10:00", true),
        ("2026-02-16 10:00", false),
        ("2026-02-23 10:00", false),
        ("2026-02-24 10:00", true),
        ("2026-02-28 10:00", true),
        ("2026-05-09 10:00", true),
        ("2026-09-20 10:00", true),
        ("2026-10-10 10:00", true),
        ("2025-12-31 10:00", false),
        ("2027-01-04 10:00", false),
    ] {
        assert_eq!(calendar.is_open(at(time)), open, "{time}");
    }
}

#[test]
fn the_example_has_as_many_working_days_as_the_year() {
    let calendar = example();
    let working = (0..365)
        .filter(|day| calendar.is_open(at("2026-01-01 10:00") + day * 86_400_000))
        .count();
    // 261 weekdays, minus the 19 that are holidays, plus the 6 make-up days.
    let minutes = calendar
        .minutes_between(at("2026-01-01 00:00"), at("2026-12-31 24:00"))
        .expect("within");
    assert_eq!(minutes, working as i64 * 7 * 60);
    assert_eq!(working, 248);
}

#[test]
fn working_minutes_pass_over_lunch_night_weekend_and_holidays() {
    let calendar = example();
    for (from, minutes, due) in [
        ("2026-01-05 08:30", 0, "2026-01-05 08:30"),
        ("2026-01-05 08:30", 210, "2026-01-05 12:00"),
        ("2026-01-05 08:30", 211, "2026-01-05 14:01"),
        ("2026-01-05 12:30", 60, "2026-01-05 15:00"),
        ("2026-01-05 17:00", 60, "2026-01-06 09:00"),
        ("2026-01-09 17:00", 60, "2026-01-12 09:00"),
        // Saturday the 14th is a working day; 春节 follows until the 23rd.
        ("2026-02-13 17:00", 60, "2026-02-14 09:00"),
        ("2026-02-14 17:00", 60, "2026-02-24 09:00"),
        ("2026-09-30 17:00", 60, "2026-10-08 09:00"),
    ] {
        assert_eq!(
            calendar.add_minutes(at(from), minutes),
            Ok(at(due)),
            "{from} + {minutes}"
        );
        assert_eq!(
            calendar.minutes_between(at(from), at(due)),
            Ok(i64::from(minutes)),
            "{from} to {due}"
        );
    }
    let half = at("2026-01-05 08:30") + 30_500;
    assert_eq!(calendar.add_minutes(half, 1), Ok(half + MINUTE_MS));
}

#[test]
fn a_term_beyond_the_calendar_is_an_error_that_names_its_days() {
    let calendar = example();
    let last = at("2026-12-31 17:00");
    assert_eq!(calendar.add_minutes(last, 30), Ok(at("2026-12-31 17:30")));
    let beyond = Beyond {
        calendar: "china-2026".to_owned(),
        from: "2026-01-01".parse().expect("a day"),
        to: "2026-12-31".parse().expect("a day"),
    };
    assert_eq!(calendar.add_minutes(last, 31), Err(beyond.clone()));
    assert_eq!(calendar.add_minutes(last, u32::MAX), Err(beyond.clone()));
    assert_eq!(
        calendar.add_minutes(at("2025-12-31 10:00"), 1),
        Err(beyond.clone())
    );
    assert_eq!(
        calendar.minutes_between(last, at("2027-01-01 00:01")),
        Err(beyond.clone())
    );
    assert_eq!(
        calendar.known_open_ms_between(last, at("2027-05-01 00:00")),
        30 * MINUTE_MS
    );
    assert!(
        beyond.to_string().contains("2026-12-31"),
        "{beyond} says how far"
    );
}

#[test]
fn what_is_always_open_counts_every_minute() {
    let always = Calendar::always();
    assert!(always.is_open(0));
    assert_eq!(always.add_minutes(7, 10), Ok(7 + 10 * MINUTE_MS));
    assert_eq!(always.minutes_between(7, 7 + 10 * MINUTE_MS), Ok(10));
    assert_eq!(always.known_open_ms_between(7, 9), 2);
}

#[test]
fn a_wrong_file_names_key_and_fix() {
    let with = |from: &str, to: &str| {
        assert!(EXAMPLE.contains(from), "{from} is in the example");
        EXAMPLE.replacen(from, to, 1)
    };
    let mon = "mon = [\"08:30-12:00\", \"14:00-17:30\"]";
    let day = "day = \"2026-01-04\"\nas = \"fri\"";
    for (from, to, expected) in [
        (
            "to = \"2026-12-31\"",
            "to = \"2025-12-31\"",
            "to: 2025-12-31 is before",
        ),
        ("to = \"2026-12-31\"", "to = \"2036-12-31\"", "at most 3660"),
        (
            "to = \"2026-12-31\"",
            "to = \"2026-13-31\"",
            "to: \"2026-13-31\" is no day",
        ),
        (
            "to = \"2026-12-31\"",
            "to = \"2026-06-30\"",
            "2026-09-25 is not within",
        ),
        ("name = \"china-2026\"", "name = \"always\"", "name: needs"),
        (
            mon,
            "mon = [\"08:30-12:00\", \"11:00-17:30\"]",
            "week.mon[1]: \"11:00-17:30\" overlaps \"08:30-12:00\"",
        ),
        (
            mon,
            "mon = [\"22:00-06:00\"]",
            "week.mon[0]: \"22:00-06:00\" is no span",
        ),
        (mon, "mon = [\"8:30-12:00\"]", "week.mon[0]"),
        (mon, "mon = [\"08:60-12:00\"]", "week.mon[0]"),
        (mon, "mon = [\"08:30-24:01\"]", "week.mon[0]"),
        (mon, "", "missing field `mon`"),
        (mon, "mon = []\nmoon = []", "moon"),
        (
            "2026-01-01..2026-01-03",
            "2026-01-03..2026-01-01",
            "holiday[0].days[0]: \"2026-01-03..2026-01-01\" ends before",
        ),
        (
            "2026-01-01..2026-01-03",
            "2026-01-01..2026-01-04",
            "workday[0].day: 2026-01-04 is listed already as holiday 元旦 (holiday[0].days[0])",
        ),
        (
            "2026-01-01..2026-01-03",
            "2026-02-15",
            "holiday[1].days[0]: 2026-02-15 is listed already as holiday 元旦",
        ),
        (
            "2026-01-01..2026-01-03",
            "2026-01-01T00",
            "is no day of the calendar",
        ),
        (
            "days = [\"2026-01-01..2026-01-03\"]",
            "days = []",
            "holiday[0].days: lists no day",
        ),
        ("name = \"元旦\"", "name = \" \"", "holiday[0].name"),
        (
            day,
            "day = \"2026-02-14\"\nas = \"fri\"",
            "workday[1].day: 2026-02-14 is listed already as a working day",
        ),
        (day, "day = \"2026-01-04\"", "workday[0]: needs as"),
        (
            day,
            "day = \"2026-01-04\"\nas = \"fri\"\nhours = [\"09:00-12:00\"]",
            "one of both",
        ),
        (
            day,
            "day = \"2026-01-04\"\nas = \"sun\"",
            "workday[0]: has no hours",
        ),
        (
            day,
            "day = \"2026-01-04\"\nas = \"friday\"",
            "unknown variant `friday`",
        ),
        (
            day,
            "day = \"2027-01-04\"\nas = \"fri\"",
            "workday[0].day: 2027-01-04 is not within",
        ),
    ] {
        let error = error_of(&with(from, to));
        assert!(error.contains(expected), "{to}: {error}");
        assert!(error.contains("c.toml"), "{error}");
    }
    let mut closed = EXAMPLE.replace("[\"08:30-12:00\", \"14:00-17:30\"]", "[]");
    closed.truncate(closed.find("[[workday]]").expect("working days"));
    assert!(error_of(&closed).contains("no day has hours"));
    let many = (0..9)
        .map(|at| format!("\"{at:02}:00-{at:02}:30\""))
        .collect::<Vec<_>>();
    let error = error_of(&with(mon, &format!("mon = [{}]", many.join(", "))));
    assert!(
        error.contains("week.mon: has 9 spans, at most 8"),
        "{error}"
    );
}

#[test]
fn a_working_day_may_have_hours_of_its_own_and_spans_may_touch() {
    let text = EXAMPLE.replacen(
        "as = \"fri\"",
        "hours = [\"12:00-24:00\", \"09:00-12:00\"]",
        1,
    );
    let calendar = parse(Path::new("c.toml"), &text).expect("valid");
    assert!(calendar.is_open(at("2026-01-04 12:00")));
    assert_eq!(
        calendar.minutes_between(at("2026-01-04 00:00"), at("2026-01-05 00:00")),
        Ok(15 * 60)
    );
}

#[test]
fn organisations_have_calendars_that_are_there() {
    let of = |name: &str| BTreeMap::from([("office-1".to_owned(), name.to_owned())]);
    let calendars = Calendars::new(vec![example()], of("china-2026")).expect("good");
    assert_eq!(calendars.of("office-1"), Some(&example()));
    assert_eq!(calendars.of("office-2"), None);
    assert!(calendars.named("always").is_some());
    let missing = Calendars::new(vec![example()], of("china-2027")).expect_err("missing");
    assert!(missing.contains("china-2026"), "{missing}");
    assert!(Calendars::new(vec![example(), example()], of("always")).is_err());
}

/// A small calendar with random hours, and the same hours minute by minute.
fn random_calendar() -> impl Strategy<Value = (Calendar, Vec<bool>)> {
    let day = proptest::collection::vec(any::<bool>(), 12);
    proptest::collection::vec(day, 7).prop_filter_map("it opens", |week| {
        let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let hours = |day: &[bool]| -> Vec<String> {
            let hours = day
                .iter()
                .enumerate()
                .filter(|(at, open)| **open && at % 2 == 0);
            hours
                .map(|(at, _)| format!("\"{:02}:15-{:02}:{:02}\"", at * 2, at * 2 + 1, at * 5))
                .collect()
        };
        let mut text =
            "name = \"random\"\nfrom = \"2026-03-02\"\nto = \"2026-03-22\"\n[week]\n".to_owned();
        for (name, day) in names.iter().zip(&week) {
            text.push_str(&format!("{name} = [{}]\n", hours(day).join(", ")));
        }
        text.push_str(
            "[[holiday]]\nname = \"h\"\ndays = [\"2026-03-11\", \"2026-03-14..2026-03-15\"]\n",
        );
        let calendar = parse(Path::new("random.toml"), &text).ok()?;
        let mut open = Vec::new();
        for day in 0..21_usize {
            let holiday = [9, 12, 13].contains(&day);
            for minute in 0..1440_usize {
                open.push(
                    !holiday
                        && (0..12)
                            .filter(|at| at % 2 == 0 && week[day % 7][*at])
                            .any(|at| {
                                (at * 120 + 15..(at * 2 + 1) * 60 + at * 5).contains(&minute)
                            }),
                );
            }
        }
        Some((calendar, open))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Counting and adding are inverses, to the millisecond, and counting agrees with a sum over all minutes.
    #[test]
    fn adding_and_counting_are_inverse(
        (calendar, open) in random_calendar(),
        one in 0..21_i64 * 86_400_000, two in 0..21_i64 * 86_400_000, minutes in 0..4_000_u32,
    ) {
        let first = at("2026-03-02 00:00");
        let (from, to) = (first + one.min(two), first + one.max(two));
        let between = calendar.open_ms_between(from, to).expect("within");
        prop_assert_eq!(calendar.open_ms_between(to, from), Ok(-between));
        let counted: i64 = (one.min(two) / MINUTE_MS..=one.max(two) / MINUTE_MS)
            .filter(|minute| open.get(*minute as usize) == Some(&true))
            .map(|minute| {
                let begins = first + minute * MINUTE_MS;
                (to.min(begins + MINUTE_MS) - from.max(begins)).max(0)
            })
            .sum();
        prop_assert_eq!(between, counted);
        prop_assert_eq!(calendar.is_open(from), open[(one.min(two) / MINUTE_MS) as usize]);

        // Adding the counted time gives the first moment at which it has passed.
        let back = calendar.add_open_ms(from, between).expect("within");
        prop_assert!(back <= to);
        prop_assert_eq!(calendar.open_ms_between(back, to), Ok(0));
        prop_assert!(between == 0 || !calendar.is_open(to) || back == to);

        let left = calendar.open_ms_between(from, first + 21 * 86_400_000).expect("within");
        match calendar.add_minutes(from, minutes) {
            Ok(due) => {
                prop_assert!(due >= from);
                prop_assert_eq!(calendar.minutes_between(from, due), Ok(i64::from(minutes)));
                prop_assert_eq!(calendar.open_ms_between(from, due), Ok(i64::from(minutes) * MINUTE_MS));
                if minutes > 0 {
                    prop_assert!(calendar.is_open(due - 1));
                }
            }
            Err(_) => prop_assert!(i64::from(minutes) * MINUTE_MS > left),
        }
    }
}
