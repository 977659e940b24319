//! The clocks of a case, and the effects of time alone.
use super::super::clock::Pause;
use super::super::due::{next_wake_ms, recompute};
use super::super::kind::Kind;
use super::super::moves::SuspensionReason;
use super::*;

const SIGN: ClockKind = ClockKind::Sign;
const HANDLE: ClockKind = ClockKind::Handle;

fn suspend(until: &str) -> Move {
    Move::Suspend {
        cause: SuspensionReason::Court,
        until_ms: at(until),
    }
}

fn ask(until: &str) -> Move {
    Move::AskDelay {
        until_ms: at(until),
        reason: why(),
    }
}

fn grant(organisation: &str) -> Move {
    Move::GrantDelay {
        organisation: organisation.to_owned(),
    }
}

fn set_risk(risk: &str) -> Move {
    Move::SetRisk {
        risk: risk.to_owned(),
        reason: why(),
    }
}

#[test]
fn a_clock_that_nobody_answers_goes_from_reminder_to_red_card_in_working_time() {
    // The term to sign is 210 working minutes, so it ends at noon.
    let wanted = [
        (Mark::Reminder, "2026-03-02 10:15"),
        (Mark::Amber, "2026-03-02 11:18"),
        (Mark::Red, "2026-03-02 12:00"),
        (Mark::Ordinary, "2026-03-02 12:00"),
        (Mark::YellowCard, "2026-03-03 12:00"),
        (Mark::RedCard, "2026-03-05 12:00"),
    ];
    // A yellow card raises the case from the grid to the centre, a red card to a joint meeting, a rung at a
    // time.
    let climbed = |mark| match mark {
        Mark::YellowCard => &[Rung::Office, Rung::Centre][..],
        Mark::RedCard => &[Rung::JointMeeting],
        _ => &[],
    };
    let all: Vec<Due> = wanted
        .iter()
        .flat_map(|(mark, since)| {
            let marked = marked(SIGN, "office-1", *mark, since);
            let climbed = climbed(*mark).iter().map(|to| Due::Climbed { to: *to });
            std::iter::once(marked).chain(climbed)
        })
        .collect();
    let mut run = Run::dispatched();
    let mut told = Vec::new();
    for (mark, since) in wanted {
        let at_ms = at(since);
        // 红灯 and 普通督办 are due at the same time, and both are reported by then.
        assert!(mark == Mark::Ordinary || next_wake_ms(&run.case) == Some(at_ms));
        let before = due(&run.case, &run.world.context(at_ms - 1));
        let early = before.iter().any(|action| {
            matches!(&action.what, What::Hub(Due::Marked { mark: early, .. }) if *early == mark)
        });
        assert!(!early, "{mark:?} before its time");
        told.extend(run.until(since));
    }
    assert_eq!(told, all);
    assert_eq!(run.case.supervision, Some(Mark::RedCard));
    assert_eq!(run.case.rung, Rung::JointMeeting);
    assert_eq!(next_wake_ms(&run.case), None);
    assert_eq!(
        run.log.last().map(|action| action.actor.as_str()),
        Some("hub")
    );

    // A hub that was down reports the same marks with the same times.
    let mut late = Run::dispatched();
    assert_eq!(late.until("2026-03-09 09:00"), all);
    assert_eq!(late.case.supervision, run.case.supervision);
    assert_eq!(late.case.clocks, run.case.clocks);
}

#[test]
fn the_moves_of_the_loop_start_and_stop_clocks() {
    let mut run = Run::new();
    assert_eq!(run.due_of(ClockKind::Lead, CENTRE), "03-02 17:30");
    run.act("clerk", CENTRE, Move::Accept {});
    assert!(run.has_clock(ClockKind::Lead, CENTRE));
    run.act("clerk", CENTRE, dispatch("office-1"));
    assert!(!run.has_clock(ClockKind::Lead, CENTRE));
    assert_eq!(run.due_of(SIGN, "office-1"), "03-02 12:00");
    run.act("zhang", "office-1", transfer("office-2"));
    assert!(!run.has_clock(SIGN, "office-1"));
    run.until("2026-03-02 10:00");
    run.act("wang", "office-2", Move::Sign {});
    assert!(!run.has_clock(SIGN, "office-2"));
    // Seven working days from ten o'clock on Monday.
    assert_eq!(run.due_of(HANDLE, "office-2"), "03-11 10:00");
    run.act("wang", "office-2", answer());
    assert_eq!(
        run.clock(HANDLE, "office-2").pause,
        Some(Pause::Verification)
    );
    assert_eq!(run.due_of(ClockKind::Verify, CENTRE), "03-04 10:00");
    run.act("clerk", CENTRE, verify(true));
    assert!(!run.has_clock(HANDLE, "office-2"));
    assert_eq!(run.due_of(ClockKind::Revisit, CENTRE), "03-05 10:00");
    run.act("clerk", CENTRE, revisit(false));
    assert_eq!(run.due_of(HANDLE, "office-2"), "03-11 10:00");
    assert_eq!(run.case.clocks.len(), 1);
}

#[test]
fn an_answer_that_does_not_hold_leaves_what_was_left_of_the_time() {
    let mut run = Run::handling();
    run.until("2026-03-10 15:30");
    run.act("zhang", "office-1", answer());
    run.until("2026-03-12 08:30");
    run.act("clerk", CENTRE, verify(false));
    // Two hours were left.
    assert_eq!(run.due_of(HANDLE, "office-1"), "03-12 10:30");
    assert_eq!(run.clock(HANDLE, "office-1").told, Some(Mark::Amber));
    let red = marked(HANDLE, "office-1", Mark::Red, "2026-03-12 10:30");
    assert_eq!(run.until("2026-03-12 10:30").first(), Some(&red));
}

#[test]
fn a_case_without_an_owner_for_a_working_day_wants_a_lead() {
    let mut run = Run::new();
    let demanded = |since| Due::LeadDemanded {
        since_ms: at(since),
    };
    assert_eq!(run.until("2026-03-02 17:29"), []);
    assert_eq!(
        run.until("2026-03-03 08:00"),
        [demanded("2026-03-02 17:30")]
    );
    run.act("clerk", CENTRE, Move::Accept {});
    assert_eq!(
        run.attempt("clerk", CENTRE, dispatch("office-1")),
        Err(Refused::LeadWanted)
    );
    run.act("clerk", CENTRE, name_lead("office-1"));
    assert!(!run.has_clock(ClockKind::Lead, CENTRE));

    let mut run = Run::dispatched();
    run.until("2026-03-02 15:00");
    run.act("zhang", "office-1", Move::Return { reason: why() });
    assert!(!run.has_clock(SIGN, "office-1"));
    assert_eq!(
        run.until("2026-03-03 17:30"),
        [demanded("2026-03-03 15:00")]
    );
}

#[test]
fn a_suspension_stops_all_clocks_and_ends_at_its_time_however_late_the_hub_is() {
    let suspended = || {
        let mut run = Run::handling();
        run.act("zhang", "office-1", join("police"));
        run.until("2026-03-03 08:30");
        run.act("zhang", "office-1", suspend("2026-03-16 08:30"));
        run
    };
    let mut run = suspended();
    assert!(
        run.case
            .clocks
            .iter()
            .all(|clock| clock.pause == Some(Pause::Suspended))
    );
    assert_eq!(next_wake_ms(&run.case), Some(at("2026-03-16 08:30")));
    assert_eq!(run.until("2026-03-16 08:29"), []);
    let ended = Due::SuspensionEnded {
        since_ms: at("2026-03-16 08:30"),
    };
    assert_eq!(run.until("2026-03-16 08:30"), std::slice::from_ref(&ended));
    // One day is used, six are left.
    for organisation in ["office-1", "police"] {
        assert_eq!(run.due_of(HANDLE, organisation), "03-23 17:30");
    }
    let mut late = suspended();
    assert_eq!(late.until("2026-03-17 12:00"), [ended]);
    assert_eq!(late.case.clocks, run.case.clocks);

    let mut sooner = suspended();
    sooner.until("2026-03-05 08:30");
    sooner.act("zhang", "office-1", Move::Resume {});
    assert_eq!(sooner.due_of(HANDLE, "office-1"), "03-12 17:30");
}

#[test]
fn a_merged_case_has_no_running_clock_and_goes_on_where_it_was() {
    let mut run = Run::handling();
    run.until("2026-03-03 08:30");
    run.act("zhang", "office-1", suspend("2026-03-04 08:30"));
    let into = "other".to_owned();
    run.act(
        "clerk",
        CENTRE,
        Move::Merge {
            into,
            reason: why(),
        },
    );
    assert_eq!(next_wake_ms(&run.case), None);
    assert_eq!(run.until("2026-03-09 08:30"), []);
    run.act("clerk", CENTRE, Move::Unmerge { reason: why() });
    assert_eq!(run.case.state, State::Suspended);
    // The suspension ended while the case was merged: it ends now.
    let since_ms = at("2026-03-09 08:30");
    assert_eq!(
        run.until("2026-03-09 09:30"),
        [Due::SuspensionEnded { since_ms }]
    );
    assert_eq!(run.due_of(HANDLE, "office-1"), "03-16 17:30");

    let mut run = Run::handling();
    run.act("zhang", "office-1", answer());
    let into = "other".to_owned();
    run.act(
        "clerk",
        CENTRE,
        Move::Merge {
            into,
            reason: why(),
        },
    );
    assert_eq!(
        run.clock(ClockKind::Verify, CENTRE).pause,
        Some(Pause::Merged)
    );
    run.act("clerk", CENTRE, Move::Unmerge { reason: why() });
    assert_eq!(run.clock(ClockKind::Verify, CENTRE).pause, None);
    assert_eq!(
        run.clock(HANDLE, "office-1").pause,
        Some(Pause::Verification)
    );
}

#[test]
fn a_delay_is_asked_before_it_is_due_and_granted_by_others() {
    let mut run = Run::handling();
    let code = |result: Result<(), Refused>| result.map_err(|refused| refused.code());
    assert_eq!(run.due_of(HANDLE, "office-1"), "03-10 17:30");
    for until in ["2026-03-10 17:30", "2026-06-09 17:30"] {
        assert_eq!(
            code(run.attempt("zhang", "office-1", ask(until))),
            Err("case-out-of-range")
        );
    }
    assert_eq!(
        code(run.attempt("chen", "police", ask("2026-03-12 12:00"))),
        Err("case-not-for-you")
    );
    assert_eq!(
        code(run.attempt("clerk", CENTRE, grant("office-1"))),
        Err("case-unknown")
    );
    // 80 percent of the term are used: the clock is amber, and after the delay it is not.
    run.until("2026-03-09 15:00");
    assert_eq!(run.clock(HANDLE, "office-1").told, Some(Mark::Amber));
    run.act("zhang", "office-1", ask("2026-03-20 12:00"));
    assert_eq!(
        code(run.attempt("zhang", "office-1", ask("2026-03-12 12:00"))),
        Err("case-already")
    );
    assert_eq!(
        run.attempt("zhang", CENTRE, grant("office-1")),
        Err(Refused::SamePerson {
            of: Kind::GrantDelay
        })
    );
    assert_eq!(
        run.attempt("li", "office-1", grant("office-1")),
        Err(Refused::SameOrganisation {
            of: Kind::GrantDelay
        })
    );
    run.act("clerk", CENTRE, grant("office-1"));
    assert_eq!(run.due_of(HANDLE, "office-1"), "03-20 12:00");
    assert_eq!(run.clock(HANDLE, "office-1").told, None);
    assert!(run.case.delays.is_empty());
    // Fourteen and a half days in all; half of them have passed on the 11th.
    let reminder = marked(HANDLE, "office-1", Mark::Reminder, "2026-03-11 10:15");
    assert_eq!(run.until("2026-03-11 12:00"), [reminder]);

    run.act("zhang", "office-1", ask("2026-03-25 12:00"));
    let refuse = Move::RefuseDelay {
        organisation: "office-1".to_owned(),
        reason: why(),
    };
    run.act("clerk", CENTRE, refuse);
    assert_eq!(run.due_of(HANDLE, "office-1"), "03-20 12:00");
    run.act("zhang", "office-1", ask("2026-03-23 12:00"));
    run.until("2026-03-23 12:00");
    assert_eq!(
        code(run.attempt("clerk", CENTRE, grant("office-1"))),
        Err("case-too-late")
    );
    assert_eq!(
        code(run.attempt("zhang", "office-1", ask("2026-04-20 12:00"))),
        Err("case-already")
    );
    run.act("zhang", "office-1", transfer("office-2"));
    assert!(run.case.delays.is_empty(), "another leads");

    let mut run = Run::handling();
    run.until("2026-03-10 17:30");
    let late = Refused::TooLate {
        of: Kind::AskDelay,
        until_ms: run.now_ms,
    };
    assert_eq!(
        run.attempt("zhang", "office-1", ask("2026-03-12 12:00")),
        Err(late)
    );
}

#[test]
fn joint_handlers_have_clocks_and_delays_of_their_own() {
    let mut run = Run::handling();
    run.until("2026-03-03 08:30");
    run.act("zhang", "office-1", join("police"));
    assert_eq!(run.due_of(HANDLE, "police"), "03-11 17:30");
    assert_eq!(run.due_of(HANDLE, "office-1"), "03-10 17:30");
    run.act("chen", "police", ask("2026-03-13 17:30"));
    run.act("zhang", "office-1", ask("2026-03-16 17:30"));
    run.act("zhang", "office-1", grant("police"));
    assert_eq!(run.due_of(HANDLE, "police"), "03-13 17:30");
    assert_eq!(run.case.delays.keys().collect::<Vec<_>>(), ["office-1"]);
    run.act("chen", "police", join_done("police"));
    assert!(!run.has_clock(HANDLE, "police"));
}

#[test]
fn a_graver_risk_leaves_no_more_time_than_its_term_and_a_lesser_one_gives_none() {
    let mut run = Run::handling();
    run.until("2026-03-06 15:00");
    run.act("clerk", CENTRE, set_risk("red"));
    // A day and a night from now.
    assert_eq!(run.due_of(HANDLE, "office-1"), "03-07 15:00");
    assert!(run.clock(HANDLE, "office-1").always);
    run.act("clerk", CENTRE, set_risk("blue"));
    assert_eq!(run.due_of(HANDLE, "office-1"), "03-07 15:00");
    let refused = run.attempt("clerk", CENTRE, set_risk("blue"));
    assert_eq!(
        refused.map_err(|refused| refused.code()),
        Err("case-already")
    );
    let refused = run.attempt("clerk", CENTRE, set_risk("pink"));
    assert_eq!(
        refused.map_err(|refused| refused.code()),
        Err("case-unknown")
    );

    // A clock that is late stays as late as it is.
    let mut run = Run::handling();
    run.until("2026-03-12 08:30");
    run.act("clerk", CENTRE, set_risk("orange"));
    assert_eq!(run.due_of(HANDLE, "office-1"), "03-10 17:30");

    // A paused clock has no more time left when it resumes.
    let mut run = Run::handling();
    run.act("zhang", "office-1", suspend("2026-03-16 08:30"));
    run.act("clerk", CENTRE, set_risk("orange"));
    run.act("zhang", "office-1", Move::Resume {});
    assert_eq!(run.due_of(HANDLE, "office-1"), "03-04 17:30");
    run.act("zhang", "office-1", suspend("2026-03-16 08:30"));
    run.act("clerk", CENTRE, set_risk("blue"));
    run.act("zhang", "office-1", Move::Resume {});
    assert_eq!(run.due_of(HANDLE, "office-1"), "03-04 17:30");
}

#[test]
fn supervision_stays_at_the_gravest_level_until_a_case_is_opened_again() {
    let mut run = Run::dispatched();
    run.until("2026-03-03 14:00");
    assert_eq!(run.case.supervision, Some(Mark::YellowCard));
    run.act("clerk", CENTRE, transfer("office-2"));
    // The second clock is late too, but less so.
    run.until("2026-03-03 17:30");
    let last = marked(SIGN, "office-2", Mark::Ordinary, "2026-03-03 17:30");
    assert_eq!(
        run.log.last().map(|action| &action.what),
        Some(&What::Hub(last))
    );
    assert_eq!(run.case.supervision, Some(Mark::YellowCard));
    run.act("wang", "office-2", Move::Sign {});
    run.act("wang", "office-2", join("police"));
    run.act("chen", "police", join_done("police"));
    run.act("wang", "office-2", answer());
    run.act("clerk", CENTRE, verify(true));
    run.act("clerk", CENTRE, revisit(true));
    run.act("clerk", CENTRE, Move::Evaluate { marks: 2 });
    run.act("clerk", CENTRE, Move::Archive {});
    assert_eq!(run.case.supervision, Some(Mark::YellowCard));
    run.act("clerk", CENTRE, Move::Reopen { reason: why() });
    assert_eq!(run.case.supervision, None);
    assert!(run.case.joint.is_empty());
    assert_eq!(run.due_of(ClockKind::Lead, CENTRE), "03-04 17:30");
}

#[test]
fn a_delay_that_a_new_calendar_has_overtaken_takes_no_time_away() {
    let mut run = Run::handling();
    run.act("zhang", "office-1", ask("2026-03-11 17:30"));
    let storm = "[[holiday]]\nname = \"台风\"\ndays = [\"2026-03-05..2026-03-06\"]\n\n[[workday]]";
    run.world.calendars = calendars(&CALENDAR.replacen("[[workday]]", storm, 1));
    let action = recompute(&run.case, &run.world.context(run.now_ms)).expect("other deadlines");
    run.put(action);
    run.act("clerk", CENTRE, grant("office-1"));
    assert_eq!(run.due_of(HANDLE, "office-1"), "03-12 17:30");
}

#[test]
fn a_wall_clock_that_was_put_back_does_not_put_the_log_back() {
    let mut run = Run::dispatched();
    run.until("2026-03-02 10:00");
    run.act("zhang", "office-1", Move::Sign {});
    run.now_ms = at("2026-03-02 09:00");
    run.act("zhang", "office-1", answer());
    assert_eq!(run.case.last_ms, at("2026-03-02 10:00"));
    assert_eq!(run.clock(HANDLE, "office-1").used_ms, 0);
}

#[test]
fn what_is_red_from_the_beginning_runs_day_and_night() {
    let mut run = Run::of_risk("red", "2026-03-07 22:00");
    assert_eq!(run.due_of(ClockKind::Lead, CENTRE), "03-07 22:30");
    run.act("clerk", CENTRE, Move::Accept {});
    run.act("clerk", CENTRE, dispatch("police"));
    assert_eq!(run.due_of(SIGN, "police"), "03-07 22:30");
    run.act("chen", "police", Move::Sign {});
    run.act("chen", "police", answer());
    assert_eq!(run.due_of(ClockKind::Verify, CENTRE), "03-10 17:30");
}

#[test]
fn another_calendar_moves_deadlines_and_the_log_has_both() {
    let mut run = Run::handling();
    let context = run.world.context(run.now_ms);
    assert_eq!(recompute(&run.case, &context), None);
    run.until("2026-03-09 15:00");
    assert_eq!(run.clock(HANDLE, "office-1").told, Some(Mark::Amber));
    // A storm: the 5th and 6th become holidays.
    let storm = "[[holiday]]\nname = \"台风\"\ndays = [\"2026-03-05..2026-03-06\"]\n\n[[workday]]";
    run.world.calendars = calendars(&CALENDAR.replacen("[[workday]]", storm, 1));
    let context = run.world.context(run.now_ms);
    let action = recompute(&run.case, &context).expect("other deadlines");
    let text = serde_json::to_value(&action).expect("json");
    assert_eq!(text["clocks"][0]["old_due_ms"], at("2026-03-10 17:30"));
    assert_eq!(text["clocks"][0]["due_ms"], at("2026-03-12 17:30"));
    run.put(action);
    assert_eq!(recompute(&run.case, &run.world.context(run.now_ms)), None);
    assert_eq!(run.due_of(HANDLE, "office-1"), "03-12 17:30");
    assert_eq!(run.clock(HANDLE, "office-1").told, Some(Mark::Reminder));
    let amber = marked(HANDLE, "office-1", Mark::Amber, "2026-03-11 14:42");
    assert_eq!(run.until("2026-03-11 15:00"), [amber]);
}

#[test]
fn where_the_calendar_ends_a_clock_has_no_deadline_until_a_longer_one_is_there() {
    let mut run = Run::of_risk("blue", "2026-12-30 08:30");
    run.act("clerk", CENTRE, Move::Accept {});
    run.act("clerk", CENTRE, dispatch("office-1"));
    run.act("zhang", "office-1", Move::Sign {});
    assert_eq!(run.clock(HANDLE, "office-1").due_ms(), None);
    let refused = run.attempt("zhang", "office-1", ask("2027-02-01 12:00"));
    assert_eq!(
        refused.map_err(|refused| refused.code()),
        Err("case-calendar")
    );
    assert_eq!(run.until("2027-01-20 08:30"), []);
    let longer = CALENDAR.replacen("to = \"2026-12-31\"", "to = \"2027-12-31\"", 1);
    run.world.calendars = calendars(&longer);
    let action = recompute(&run.case, &run.world.context(run.now_ms)).expect("a deadline");
    run.put(action);
    assert_eq!(run.due_of(HANDLE, "office-1"), "01-07 17:30");
    assert_eq!(run.until("2027-01-20 08:31").len(), 6 + 3);

    // An organisation that no longer exists blocks nothing.
    run.world.calendars = Calendars::new(Vec::new(), BTreeMap::new()).expect("none");
    run.act("zhang", "office-1", answer());
    assert_eq!(run.clock(ClockKind::Verify, CENTRE).due_ms(), None);
}

#[test]
fn a_risk_takes_a_case_up_the_ladder_once_it_is_accepted_and_never_down() {
    let mut run = Run::of_risk("blue", "2026-03-02 08:30");
    run.world.terms = toml::from_str(
        "[[climb]]\nrisk = \"red\"\nto = \"centre\"\n\
         [[climb]]\nrisk = \"red\"\nsupervision = \"ordinary\"\nto = \"joint_meeting\"\n",
    )
    .expect("terms");
    run.act("clerk", CENTRE, set_risk("red"));
    assert_eq!(run.until("2026-03-02 08:31"), [], "nobody has accepted it");
    run.act("clerk", CENTRE, Move::Accept {});
    let climbed = |to| Due::Climbed { to };
    assert_eq!(
        run.until("2026-03-02 08:32"),
        [climbed(Rung::Office), climbed(Rung::Centre)]
    );
    run.act("clerk", CENTRE, set_risk("blue"));
    assert_eq!(run.until("2026-03-02 08:33"), []);
    assert_eq!(run.case.rung, Rung::Centre);
    // People escalate from the reached rung, and only they name a leader.
    run.act("clerk", CENTRE, dispatch("office-1"));
    let up = |to, leader: Option<&str>| Move::Escalate {
        to,
        reason: why(),
        leader: leader.map(str::to_owned),
    };
    run.act("clerk", CENTRE, up(Rung::JointMeeting, None));
    run.act("clerk", CENTRE, up(Rung::Leader, Some("chen")));
    run.act("clerk", CENTRE, set_risk("red"));
    run.until("2026-03-20 08:30");
    assert_eq!(run.case.rung, Rung::Leader);
}

#[test]
fn words_of_clocks_and_marks_are_those_of_the_store() {
    for kind in ClockKind::ALL {
        let text = serde_json::to_value(kind).expect("json");
        assert_eq!(text, kind.words().1);
    }
    for mark in [
        Mark::Reminder,
        Mark::Amber,
        Mark::Red,
        Mark::Ordinary,
        Mark::YellowCard,
        Mark::RedCard,
    ] {
        let text = serde_json::to_value(mark).expect("json");
        assert_eq!(text, mark.words().1);
    }
}
