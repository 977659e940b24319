//! Terms, and the words of refusals.
use super::*;
use crate::cases::kind::Kind;

#[test]
fn what_is_wrong_with_a_climb_is_named() {
    for (climb, key) in [
        ("to = \"leader\"", "climb[0].to"),
        ("to = \"office\"", "climb[0].to"),
        (
            "supervision = \"amber\"\nto = \"centre\"",
            "climb[0].supervision",
        ),
        ("risk = \"pink\"\nto = \"centre\"", "climb[0].risk"),
    ] {
        let terms: Terms = toml::from_str(&format!("[[climb]]\n{climb}\n")).expect("toml");
        let (found, _) = terms.check().expect_err(climb);
        assert_eq!(found, key);
    }
}

#[test]
fn the_terms_that_are_there_by_default_are_good_and_the_narrowest_holds() {
    let terms = Terms::default();
    assert_eq!(terms.check(), Ok(()));
    assert_eq!(toml::from_str::<Terms>(""), Ok(terms.clone()));
    let example = include_str!("../../../../../configs/terms.toml");
    assert_eq!(toml::from_str::<Terms>(example), Ok(terms));
    let terms: Terms = toml::from_str(
        "[any]\nsign_minutes = 100\n\
         [[term]]\nrisk = \"red\"\nsign_minutes = 1\nhandle_minutes = 2\nalways = [\"sign\"]\n\
         [[term]]\nkind = \"k\"\nsign_minutes = 3\n\
         [[term]]\nkind = \"k\"\nrisk = \"red\"\nverify_minutes = 4\nalways = []\n",
    )
    .expect("toml");
    assert_eq!(terms.check(), Ok(()));
    for (kind, risk, clock, minutes, always) in [
        ("k", "red", ClockKind::Sign, 3, false),
        ("k", "red", ClockKind::Handle, 2, false),
        ("k", "red", ClockKind::Verify, 4, false),
        ("k", "blue", ClockKind::Sign, 3, false),
        ("l", "red", ClockKind::Sign, 1, true),
        ("l", "blue", ClockKind::Sign, 100, false),
        ("l", "blue", ClockKind::Revisit, 1_260, false),
    ] {
        assert_eq!(
            terms.minutes(kind, risk, clock),
            minutes,
            "{kind} {risk} {clock:?}"
        );
        assert_eq!(
            terms.is_always(kind, risk, clock),
            always,
            "{kind} {risk} {clock:?}"
        );
    }
}

#[test]
fn wrong_terms_name_the_key() {
    for (text, key) in [
        ("remind_percent = 0", "remind_percent"),
        ("remind_percent = 90", "remind_percent"),
        ("amber_percent = 100", "amber_percent"),
        ("ordinary_after_minutes = 421", "yellow_after_minutes"),
        ("yellow_after_minutes = 1261", "red_after_minutes"),
        ("red_after_minutes = 525601", "red_after_minutes"),
        ("[any]\nlead_minutes = 0", "any.lead_minutes"),
        ("[[term]]\nsign_minutes = 1", "term[0]"),
        ("[[term]]\nrisk = \"pink\"", "term[0].risk"),
        (
            "[[term]]\nkind = \"k\"\nverify_minutes = 525601",
            "term[0].verify_minutes",
        ),
        ("[[term]]\nkind = \"k\"\n[[term]]\nkind = \"k\"", "term[1]"),
        ("grade = []", "grade"),
    ] {
        let terms: Terms = toml::from_str(text).expect("toml");
        let wrong = terms.check().map_err(|(wrong, _)| wrong);
        assert_eq!(wrong, Err(key.to_owned()), "{text}");
    }
    let graded = |names: [(&str, &str); 3]| {
        let mut terms = Terms {
            term: Vec::new(),
            ..Terms::default()
        };
        terms.grade.truncate(3);
        for (grade, (name, colour)) in terms.grade.iter_mut().zip(names) {
            grade.name = name.to_owned();
            grade.colour = colour.to_owned();
        }
        terms.check().map_err(|(key, _)| key)
    };
    let (one, two) = (("one", "#00ff00"), ("two", "#00Ff09"));
    assert_eq!(graded([one, two, ("three", "#123456")]), Ok(()));
    for (third, key) in [
        (one, "grade[2].name"),
        ((" ", "#123456"), "grade[2].name"),
        (("three", "red"), "grade[2].colour"),
        (("three", "#12345g"), "grade[2].colour"),
    ] {
        assert_eq!(graded([one, two, third]), Err(key.to_owned()));
    }
    let many = Terms {
        term: vec![Default::default(); 201],
        ..Terms::default()
    };
    assert_eq!(many.check().map_err(|(key, _)| key), Err("term".to_owned()));
    assert!(toml::from_str::<Terms>("sign_minutes = 3").is_err());
}

#[test]
fn each_refusal_has_a_code_of_its_own_and_is_said_in_both_languages() {
    let beyond = calendars(CALENDAR)
        .of(CENTRE)
        .expect("a calendar")
        .add_minutes(0, 1)
        .expect_err("long ago");
    let (of, field, name) = (Kind::Verify, "reason", "x".to_owned());
    let all = [
        Refused::Forbidden {
            state: State::Merged,
            allowed: State::Merged.allows(),
        },
        Refused::Stale { version: 3 },
        Refused::NeedsText { field },
        Refused::TooLong {
            field,
            chars_max: 5,
        },
        Refused::NotHere { field },
        Refused::Unknown {
            field,
            name: name.clone(),
        },
        Refused::Already { field, name },
        Refused::SamePerson { of },
        Refused::SameOrganisation { of },
        Refused::NotForYou {
            of,
            organisation: "office-1".to_owned(),
        },
        Refused::TooLate { of, until_ms: 0 },
        Refused::OutOfRange {
            field,
            from: 1,
            to: 5,
        },
        Refused::NotNext {
            at: Rung::Leader,
            next: None,
        },
        Refused::LeadWanted,
        Refused::LeadNamed,
        Refused::JointOpen {
            organisations: vec!["police".to_owned()],
        },
        Refused::TooMany { field, max: 20 },
        Refused::from(beyond),
    ];
    let codes: BTreeSet<&str> = all.iter().map(Refused::code).collect();
    assert_eq!(codes.len(), all.len());
    for refused in &all {
        let text = refused.to_string();
        let (chinese, english) = text.split_once(" / ").expect("both languages");
        assert!(!chinese.is_ascii() && english.is_ascii(), "{text}");
        assert!(refused.code().starts_with("case-"));
    }
}
