//! The loop and its moves.
use super::super::action::Twin;
use super::super::case::BadLog;
use super::super::check::{JOINT_MAX, NAMED_MAX, WARNINGS_MAX};
use super::super::decide::{ACTIONS_MAX, absorb, release};
use super::super::kind::Kind;
use super::super::moves::{ANSWER_CHARS_MAX, REASON_CHARS_MAX, SUSPENDED_MS_MAX, SuspensionReason};
use super::*;

#[test]
fn a_case_goes_around_the_loop() {
    let mut run = Run::new();
    let steps: [(&str, &str, Move, State, &str); 9] = [
        ("clerk", CENTRE, Move::Accept {}, State::Accepted, CENTRE),
        (
            "clerk",
            CENTRE,
            dispatch("office-1"),
            State::Dispatched,
            "office-1",
        ),
        (
            "zhang",
            "office-1",
            Move::Sign {},
            State::Handling,
            "office-1",
        ),
        ("zhang", "office-1", answer(), State::Answered, "office-1"),
        ("clerk", CENTRE, verify(true), State::Verified, "office-1"),
        ("clerk", CENTRE, revisit(true), State::Revisited, "office-1"),
        (
            "clerk",
            CENTRE,
            Move::Evaluate { marks: 5 },
            State::Evaluated,
            "office-1",
        ),
        (
            "clerk",
            CENTRE,
            Move::Archive {},
            State::Archived,
            "office-1",
        ),
        (
            "clerk",
            CENTRE,
            Move::Reopen { reason: why() },
            State::Accepted,
            CENTRE,
        ),
    ];
    assert_eq!(
        (run.case.state, run.case.lead.as_str()),
        (State::Registered, CENTRE)
    );
    for (at, (person, organisation, wanted, state, lead)) in steps.into_iter().enumerate() {
        run.act(person, organisation, wanted);
        assert_eq!((run.case.state, run.case.lead.as_str()), (state, lead));
        assert_eq!(run.case.version, at as i64 + 2);
        if state == State::Handling {
            assert_eq!(run.case.handler.as_deref(), Some("zhang"));
        }
        if state == State::Archived {
            assert_eq!((run.case.marks, run.case.clocks.len()), (Some(5), 0));
        }
    }
    assert_eq!((run.case.reopened, run.case.marks), (1, None));
    assert_eq!(run.case.handler, None);
}

#[test]
fn what_is_not_for_the_centre_is_declined_and_can_be_taken_up_again() {
    let mut run = Run::new();
    run.act("clerk", CENTRE, Move::Decline { reason: why() });
    assert_eq!(
        (run.case.state, run.case.clocks.len()),
        (State::Declined, 0)
    );
    run.act("clerk", CENTRE, Move::Reopen { reason: why() });
    assert_eq!(run.case.state, State::Accepted);
}

/// A move of each kind.
fn one_of_each(until_ms: i64) -> Vec<Move> {
    let reason = why();
    vec![
        Move::Accept {},
        Move::Decline { reason: why() },
        dispatch("office-2"),
        name_lead("office-2"),
        Move::Sign {},
        Move::Return { reason: why() },
        transfer("office-2"),
        join("police"),
        join_done("police"),
        answer(),
        verify(true),
        revisit(true),
        Move::Evaluate { marks: 3 },
        Move::Archive {},
        Move::Suspend {
            cause: SuspensionReason::Court,
            until_ms,
        },
        Move::Resume {},
        Move::AskDelay {
            until_ms,
            reason: why(),
        },
        Move::GrantDelay {
            organisation: "office-1".to_owned(),
        },
        Move::RefuseDelay {
            organisation: "office-1".to_owned(),
            reason: why(),
        },
        Move::Escalate {
            to: Rung::Office,
            reason: why(),
            leader: None,
        },
        Move::Reopen { reason: why() },
        Move::SetRisk {
            risk: "red".to_owned(),
            reason: why(),
        },
        Move::Note { text: why() },
        Move::Merge {
            into: "20260301-000009".to_owned(),
            reason: why(),
        },
        Move::Unmerge { reason: why() },
        Move::LinkWarning { warning: 8 },
        Move::UnlinkWarning {
            warning: 7,
            reason: why(),
        },
        Move::NameHandler {
            person: "li".to_owned(),
        },
        Move::UnnameHandler {
            person: "li".to_owned(),
            reason,
        },
    ]
}

#[test]
fn each_state_takes_the_moves_of_its_table_and_says_so_of_others() {
    let run = Run::handling();
    for state in State::ALL {
        assert_eq!(State::from_name(state.as_str()), Some(state));
        let case = Case {
            state,
            ..run.case.clone()
        };
        for wanted in one_of_each(run.now_ms + MINUTE_MS) {
            let context = run.world.context(run.now_ms);
            let decided = decide(&case, &by("zhang", "office-1"), &wanted, &context);
            let refused = matches!(&decided, Err(Refused::Forbidden { .. }));
            assert_eq!(
                refused,
                !state.allows().contains(&wanted.kind()),
                "{state:?} {wanted:?}"
            );
        }
        let leads_out = |kind: &&Kind| !matches!(kind, Kind::NameHandler | Kind::UnnameHandler);
        let ways = state.allows().iter().filter(leads_out).count();
        assert_eq!(state.is_closed(), ways == 1, "{state:?}");
    }
    let kinds: BTreeSet<Kind> = one_of_each(0).iter().map(Move::kind).collect();
    assert_eq!(kinds.len(), 29, "one of each");
    let refused = Run::new()
        .attempt("clerk", CENTRE, Move::Archive {})
        .expect_err("not yet");
    assert_eq!(refused.code(), "case-state");
    let text = refused.to_string();
    assert!(
        text.starts_with("案件处于登记（registered），可以：受理、不予受理、"),
        "{text}"
    );
    assert!(
        text.contains("the case is registered: it takes accept, decline, "),
        "{text}"
    );
}

#[test]
fn a_move_is_the_body_of_its_request_and_takes_no_other_keys() {
    for wanted in one_of_each(5) {
        let text = serde_json::to_string(&wanted).expect("json");
        let word = wanted.kind().words().1;
        assert!(
            text.starts_with(&format!("{{\"move\":\"{word}\"")),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Move>(&text).expect("read"), wanted);
        let more = text.replacen('{', "{\"resaon\":\"x\",", 1);
        let error = serde_json::from_str::<Move>(&more).expect_err("unknown key");
        assert!(error.to_string().contains("resaon"), "{error}");
    }
    let short: Move = serde_json::from_str(r#"{"move":"verify","passed":true}"#).expect("short");
    assert_eq!(short.text(), Some(("reason", "", REASON_CHARS_MAX, false)));
    for wrong in [
        r#"{"move":"fly"}"#,
        r#"{"move":"suspend","cause":"holiday","until_ms":1}"#,
        r#"{"move":"return"}"#,
        r#"{"move":"escalate","to":"top","reason":"x"}"#,
    ] {
        assert!(serde_json::from_str::<Move>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn who_has_seen_an_older_version_is_told_so() {
    let run = Run::dispatched();
    let context = run.world.context(run.now_ms);
    let seen = |version| By {
        seen_version: Some(version),
        ..by("zhang", "office-1")
    };
    let refused = decide(&run.case, &seen(2), &Move::Sign {}, &context).expect_err("stale");
    assert_eq!(refused, Refused::Stale { version: 3 });
    assert!(decide(&run.case, &seen(3), &Move::Sign {}, &context).is_ok());
}

#[test]
fn texts_say_something_and_are_not_longer_than_they_may_be() {
    let mut run = Run::dispatched();
    for (chars, expected) in [
        (0, Err(Refused::NeedsText { field: "reason" })),
        (
            REASON_CHARS_MAX + 1,
            Err(Refused::TooLong {
                field: "reason",
                chars_max: REASON_CHARS_MAX,
            }),
        ),
        (REASON_CHARS_MAX, Ok(())),
    ] {
        let reason = "字".repeat(chars);
        assert_eq!(
            run.attempt("zhang", "office-1", Move::Return { reason }),
            expected
        );
    }
    let mut run = Run::handling();
    let text = "字".repeat(ANSWER_CHARS_MAX + 1);
    let refused = run.attempt("zhang", "office-1", Move::Answer { text });
    assert_eq!(refused.expect_err("too long").code(), "case-too-long");
    let text = "字".repeat(ANSWER_CHARS_MAX);
    run.act("zhang", "office-1", Move::Answer { text });
    let blank = |passed| Move::Verify {
        passed,
        reason: " ".to_owned(),
    };
    let refused = run.attempt("clerk", CENTRE, blank(false));
    assert_eq!(refused, Err(Refused::NeedsText { field: "reason" }));
    run.act("clerk", CENTRE, blank(true));
}

#[test]
fn after_two_returns_the_centre_names_a_lead_which_cannot_return_it() {
    let mut run = Run::dispatched();
    run.act("zhang", "office-1", Move::Return { reason: why() });
    assert_eq!(
        (run.case.state, run.case.lead.as_str()),
        (State::Returned, CENTRE)
    );
    run.act("clerk", CENTRE, dispatch("office-2"));
    run.act("wang", "office-2", Move::Return { reason: why() });
    assert!(run.case.lead_wanted);
    let refused = run.attempt("clerk", CENTRE, dispatch("office-1"));
    assert_eq!(refused, Err(Refused::LeadWanted));
    let refused = run.attempt("wang", "office-2", name_lead("office-1"));
    let only = Refused::NotForYou {
        of: Kind::NameLead,
        organisation: CENTRE.to_owned(),
    };
    assert_eq!(refused, Err(only));
    run.act("clerk", CENTRE, name_lead("office-1"));
    assert_eq!((run.case.lead_wanted, run.case.returns), (false, 0));
    for wanted in [Move::Return { reason: why() }, transfer("office-2")] {
        let refused = run.attempt("zhang", "office-1", wanted);
        assert_eq!(refused, Err(Refused::LeadNamed));
    }
    run.act("clerk", CENTRE, transfer("office-2"));
    assert!(!run.case.lead_named);
}

#[test]
fn only_the_lead_signs_returns_and_answers() {
    let mut run = Run::dispatched();
    for wanted in [
        Move::Sign {},
        Move::Return { reason: why() },
        transfer("police"),
    ] {
        let refused = run
            .attempt("wang", "office-2", wanted)
            .expect_err("not theirs");
        assert_eq!(refused.code(), "case-not-for-you");
        assert!(refused.to_string().contains("office-1"), "{refused}");
    }
    run.act("zhang", "office-1", Move::Sign {});
    assert!(run.attempt("wang", "office-2", answer()).is_err());
    run.act("zhang", "office-1", transfer("office-2"));
    assert_eq!(
        (run.case.lead.as_str(), run.case.handler.as_deref()),
        ("office-2", None)
    );
    run.act("wang", "office-2", Move::Sign {});
    let refused = run.attempt("wang", "office-2", transfer("office-2"));
    assert_eq!(refused.expect_err("the same").code(), "case-already");
    let refused = run.attempt("wang", "office-2", transfer("office-9"));
    assert_eq!(refused.expect_err("not known").code(), "case-unknown");
}

#[test]
fn who_worked_on_it_neither_verifies_nor_revisits() {
    let mut run = Run::handling();
    run.act("li", "office-1", answer());
    for person in ["zhang", "li"] {
        let refused = run.attempt(person, CENTRE, verify(true));
        assert_eq!(refused, Err(Refused::SamePerson { of: Kind::Verify }));
    }
    run.act("clerk", CENTRE, verify(false));
    assert_eq!(run.case.state, State::Handling);
    run.act("li", "office-1", answer());
    run.act("clerk", CENTRE, verify(true));
    let refused = run.attempt("zhang", CENTRE, revisit(true));
    assert_eq!(refused, Err(Refused::SamePerson { of: Kind::Revisit }));
    run.act("clerk", CENTRE, revisit(false));
    assert_eq!((run.case.state, run.case.reopened), (State::Handling, 1));
    assert_eq!(run.case.handler.as_deref(), Some("zhang"));
}

#[test]
fn joint_handlers_have_parts_that_are_done_before_the_answer() {
    let mut run = Run::handling();
    run.act("zhang", "office-1", join("police"));
    assert_eq!(
        run.attempt("zhang", "office-1", join("police"))
            .map_err(|e| e.code()),
        Err("case-already")
    );
    assert_eq!(
        run.attempt("zhang", "office-1", join("office-1"))
            .map_err(|e| e.code()),
        Err("case-already")
    );
    assert_eq!(
        run.attempt("zhang", "office-1", join(CENTRE)),
        Err(Refused::NotHere {
            field: "organisation"
        })
    );
    let open = Refused::JointOpen {
        organisations: vec!["police".to_owned()],
    };
    assert_eq!(
        run.attempt("zhang", "office-1", answer()),
        Err(open.clone())
    );
    assert_eq!(
        run.attempt("zhang", "office-1", transfer("police")),
        Err(open)
    );
    assert!(
        run.attempt("wang", "office-2", join_done("police"))
            .is_err()
    );
    run.act("chen", "police", join_done("police"));
    assert_eq!(
        run.attempt("chen", "police", join_done("police"))
            .map_err(|e| e.code()),
        Err("case-already")
    );
    assert_eq!(
        run.attempt("chen", "police", join_done("office-2"))
            .map_err(|e| e.code()),
        Err("case-unknown")
    );
    run.act("zhang", "office-1", join("police"));
    run.act("zhang", "office-1", join_done("police"));
    for number in 1..JOINT_MAX {
        run.act("zhang", "office-1", join(&format!("joint-{number}")));
    }
    let refused = run.attempt("zhang", "office-1", join("office-2"));
    let full = Refused::TooMany {
        field: "organisation",
        max: JOINT_MAX,
    };
    assert_eq!(refused, Err(full));
    run.act("zhang", "office-1", join("police"));
}

#[test]
fn a_hard_case_climbs_the_ladder_rung_by_rung() {
    let mut run = Run::handling();
    let to = |to, leader: Option<&str>| Move::Escalate {
        to,
        reason: why(),
        leader: leader.map(str::to_owned),
    };
    let refused = run.attempt("clerk", CENTRE, to(Rung::Centre, None));
    let next = Refused::NotNext {
        at: Rung::Grid,
        next: Some(Rung::Office),
    };
    assert!(
        next.to_string().contains("现为网格，下一级是镇街"),
        "{next}"
    );
    assert_eq!(refused, Err(next));
    assert_eq!(
        run.attempt("clerk", CENTRE, to(Rung::Office, Some("he"))),
        Err(Refused::NotHere { field: "leader" })
    );
    for rung in [Rung::Office, Rung::Centre, Rung::JointMeeting] {
        run.act("clerk", CENTRE, to(rung, None));
        assert_eq!((run.case.rung, run.case.lead.as_str()), (rung, "office-1"));
    }
    assert_eq!(
        run.attempt("clerk", CENTRE, to(Rung::Leader, None)),
        Err(Refused::NeedsText { field: "leader" })
    );
    run.act("clerk", CENTRE, to(Rung::Leader, Some("he")));
    assert_eq!(run.case.leader.as_deref(), Some("he"));
    let refused = run.attempt("clerk", CENTRE, to(Rung::Leader, Some("he")));
    assert!(
        refused
            .expect_err("the top")
            .to_string()
            .contains("there is none above")
    );
}

#[test]
fn a_merged_case_changes_by_its_undoing_alone_and_no_two_stand_for_each_other() {
    let mut one = Run::handling();
    let merge = |into: &str| Move::Merge {
        into: into.to_owned(),
        reason: why(),
    };
    let own = one.case.code.clone();
    assert_eq!(
        one.attempt("clerk", CENTRE, merge(&own))
            .map_err(|e| e.code()),
        Err("case-already")
    );
    one.act("clerk", CENTRE, merge("other"));
    assert_eq!(one.case.state, State::Merged);
    for wanted in one_of_each(one.now_ms + MINUTE_MS) {
        let undoes = wanted.kind() == Kind::Unmerge;
        let decided = decide(
            &one.case,
            &by("zhang", "office-1"),
            &wanted,
            &one.world.context(one.now_ms),
        );
        assert_eq!(decided.is_ok(), undoes, "{wanted:?}");
    }
    assert!(absorb(&one.case, &by("clerk", CENTRE), "other", one.now_ms).is_err());
    one.act("clerk", CENTRE, Move::Unmerge { reason: why() });
    assert_eq!(
        (one.case.state, one.case.lead.as_str()),
        (State::Handling, "office-1")
    );

    let mut other = Run::handling();
    other.case.code = "other".to_owned();
    let clerk = by("clerk", CENTRE);
    let action = absorb(&other.case, &clerk, &own, other.now_ms).expect("taken");
    assert_eq!(
        action.what,
        What::Other(Twin::Absorbed { code: own.clone() })
    );
    let with = other.case.clone().apply(&action);
    assert!(with.absorbed.contains(&own));
    assert_eq!(
        absorb(&with, &clerk, &own, 0).map_err(|e| e.code()),
        Err("case-already")
    );
    assert_eq!(
        absorb(&with, &clerk, "other", 0).map_err(|e| e.code()),
        Err("case-already")
    );
    let action = release(&with, &clerk, &own, 0).expect("released");
    assert_eq!(action.at_ms, with.last_ms, "times never go back");
    let without = with.apply(&action);
    assert!(without.absorbed.is_empty());
    assert_eq!(
        release(&without, &clerk, &own, 0).map_err(|e| e.code()),
        Err("case-unknown")
    );
}

#[test]
fn a_suspension_has_a_listed_cause_and_an_end() {
    let mut run = Run::handling();
    let suspend = |until_ms| Move::Suspend {
        cause: SuspensionReason::Appraisal,
        until_ms,
    };
    for until_ms in [run.now_ms, run.now_ms + SUSPENDED_MS_MAX + 1] {
        let refused = run.attempt("zhang", "office-1", suspend(until_ms));
        assert_eq!(
            refused.expect_err("out of range").code(),
            "case-out-of-range"
        );
    }
    run.act("zhang", "office-1", suspend(run.now_ms + SUSPENDED_MS_MAX));
    assert_eq!(run.case.state, State::Suspended);
    assert!(run.attempt("zhang", "office-1", answer()).is_err());
    run.act("zhang", "office-1", Move::Resume {});
    assert_eq!(
        (run.case.state, run.case.suspension),
        (State::Handling, None)
    );
}

#[test]
fn warnings_and_named_handlers_come_and_go() {
    let mut run = Run::new();
    let code = |result: Result<(), Refused>| result.map_err(|refused| refused.code());
    let unlink = |warning| Move::UnlinkWarning {
        warning,
        reason: why(),
    };
    assert_eq!(
        code(run.attempt("c", CENTRE, Move::LinkWarning { warning: 7 })),
        Err("case-already")
    );
    run.act("c", CENTRE, Move::LinkWarning { warning: 8 });
    run.act("c", CENTRE, unlink(7));
    assert_eq!(run.case.warnings, BTreeSet::from([8]));
    assert_eq!(
        code(run.attempt("c", CENTRE, unlink(7))),
        Err("case-unknown")
    );
    run.case.warnings = (0..WARNINGS_MAX as i64).collect();
    let action = decide(
        &run.case,
        &by("c", CENTRE),
        &Move::LinkWarning { warning: -1 },
        &run.world.context(run.now_ms),
    );
    assert_eq!(action.expect_err("full").code(), "case-too-many");

    let mut run = Run::new();
    let name = |person: String| Move::NameHandler { person };
    for number in 0..NAMED_MAX {
        run.act("c", CENTRE, name(format!("p{number}")));
    }
    assert_eq!(
        code(run.attempt("c", CENTRE, name("p1".to_owned()))),
        Err("case-already")
    );
    assert_eq!(
        code(run.attempt("c", CENTRE, name("p99".to_owned()))),
        Err("case-too-many")
    );
    assert_eq!(
        code(run.attempt("c", CENTRE, name(String::new()))),
        Err("case-needs-text")
    );
    assert_eq!(
        code(run.attempt("c", CENTRE, name("p".repeat(65)))),
        Err("case-too-long")
    );
    let unname = |person: &str| Move::UnnameHandler {
        person: person.to_owned(),
        reason: why(),
    };
    run.act("c", CENTRE, unname("p1"));
    assert_eq!(
        code(run.attempt("c", CENTRE, unname("p1"))),
        Err("case-unknown")
    );
    assert_eq!(run.case.named.len(), NAMED_MAX - 1);
}

#[test]
fn marks_are_one_to_five() {
    let mut run = Run::handling();
    run.act("zhang", "office-1", answer());
    run.act("clerk", CENTRE, verify(true))
        .act("clerk", CENTRE, revisit(true));
    for marks in [0, 6] {
        let refused = run.attempt("clerk", CENTRE, Move::Evaluate { marks });
        let range = Refused::OutOfRange {
            field: "marks",
            from: 1,
            to: 5,
        };
        assert_eq!(refused, Err(range));
    }
}

#[test]
fn a_long_log_takes_no_more_notes_but_comes_to_its_end() {
    let mut run = Run::handling();
    let code = |run: &Run, wanted: &Move| {
        let context = run.world.context(run.now_ms);
        let decided = decide(&run.case, &by("zhang", "office-1"), wanted, &context);
        decided.map(|_| ()).map_err(|refused| refused.code())
    };
    let note = Move::Note { text: why() };
    run.case.version = ACTIONS_MAX - 201;
    assert_eq!(code(&run, &note), Ok(()));
    run.case.version = ACTIONS_MAX - 200;
    assert_eq!(code(&run, &note), Err("case-too-many"));
    assert_eq!(code(&run, &answer()), Ok(()));
    run.case.version = ACTIONS_MAX;
    assert_eq!(code(&run, &answer()), Err("case-too-many"));
    assert_eq!(
        due(&run.case, &run.world.context(at("2026-06-01 10:00"))),
        []
    );
}

#[test]
fn a_registration_names_what_is_there() {
    let world = World::new();
    let context = world.context(at("2026-03-02 08:30"));
    let code = |registration| {
        let decided = register(registration, &by("rule:x", CENTRE), &context);
        decided.map(|_| ()).map_err(|refused| refused.code())
    };
    assert_eq!(code(registration("blue")), Ok(()));
    assert_eq!(code(registration("pink")), Err("case-unknown"));
    let centre = "nowhere".to_owned();
    assert_eq!(
        code(Registration {
            centre,
            ..registration("blue")
        }),
        Err("case-unknown")
    );
    let empty = String::new();
    assert_eq!(
        code(Registration {
            code: empty,
            ..registration("blue")
        }),
        Err("case-needs-text")
    );
    let warnings = (0..=WARNINGS_MAX as i64).collect();
    assert_eq!(
        code(Registration {
            warnings,
            ..registration("blue")
        }),
        Err("case-too-many")
    );
}

#[test]
fn a_log_with_a_gap_or_without_a_beginning_is_none() {
    let run = Run::handling();
    let log = &run.log;
    let number = |number, expected| Err(BadLog::Number { number, expected });
    assert_eq!(Case::replay(&[]), Err(BadLog::Registration { number: 0 }));
    assert_eq!(
        Case::replay(&log[1..]),
        Err(BadLog::Registration { number: 2 })
    );
    let gap = [log[0].clone(), log[2].clone()];
    assert_eq!(Case::replay(&gap), number(3, 2));
    let twice = [log[0].clone(), log[1].clone(), log[1].clone()];
    assert_eq!(Case::replay(&twice), number(2, 3));
    let again = [log[0].clone(), log[0].clone()];
    assert_eq!(
        Case::replay(&again),
        Err(BadLog::Registration { number: 1 })
    );
    let late = Action {
        number: 2,
        ..log[0].clone()
    };
    assert_eq!(Case::replay(&[late]), number(2, 1));
}
