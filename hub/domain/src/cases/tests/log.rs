//! Invariants of a case and its log under any moves in any order.
use super::super::clock::Pause;
use super::super::due::next_wake_ms;
use super::super::kind::Kind;
use super::super::moves::SuspensionReason;
use super::*;
use proptest::prelude::*;

const ORGANISATIONS: [&str; 4] = [CENTRE, "office-1", "office-2", "police"];
const PEOPLE: [&str; 4] = ["clerk", "zhang", "li", "wang"];
const RISKS: [&str; 5] = ["red", "orange", "yellow", "blue", "pink"];
const CAUSES: [SuspensionReason; 5] = [
    SuspensionReason::Party,
    SuspensionReason::Appraisal,
    SuspensionReason::Court,
    SuspensionReason::Superior,
    SuspensionReason::ForceMajeure,
];
const RUNGS: [Rung; 5] = [
    Rung::Grid,
    Rung::Office,
    Rung::Centre,
    Rung::JointMeeting,
    Rung::Leader,
];

#[derive(Debug, Clone)]
struct Try {
    person: usize,
    organisation: usize,
    wanted: Move,
    /// If set, a move that advances the case replaces the random one.
    leads_on: Option<usize>,
    /// Time that passes before the move, minutes.
    after_minutes: i64,
}

/// The actor and the move that advance a case: random moves alone rarely reach the later states.
fn leading_on(case: &Case, pick: usize, now_ms: i64) -> (By, Move) {
    let (lead, centre) = (case.lead.as_str(), case.centre.as_str());
    let worker = PEOPLE[1 + pick % 3];
    let other = ORGANISATIONS[1 + pick % 3];
    let open = case.joint.iter().find(|(_, joint)| !joint.done);
    let mine = |wanted| (by(worker, lead), wanted);
    let theirs = |wanted| (by("clerk", centre), wanted);
    match case.state {
        State::Registered => theirs(Move::Accept {}),
        State::Accepted | State::Returned if case.lead_wanted => theirs(name_lead(other)),
        State::Accepted | State::Returned => theirs(dispatch(other)),
        State::Dispatched if pick.is_multiple_of(5) => mine(Move::Return { reason: why() }),
        State::Dispatched => mine(Move::Sign {}),
        State::Handling => match (pick % 8, open, case.delays.keys().next()) {
            (0, None, _) => mine(join(other)),
            (1, _, None) => {
                let until_ms = now_ms + 15 * 86_400_000;
                let reason = why();
                mine(Move::AskDelay { until_ms, reason })
            }
            (2 | 3, _, Some(asked)) => {
                let organisation = asked.clone();
                theirs(Move::GrantDelay { organisation })
            }
            (4, _, _) => mine(transfer(other)),
            (_, Some((organisation, _)), _) => (by(worker, organisation), join_done(organisation)),
            _ => mine(answer()),
        },
        State::Answered => theirs(verify(!pick.is_multiple_of(4))),
        State::Verified => theirs(revisit(!pick.is_multiple_of(4))),
        State::Revisited => theirs(Move::Evaluate { marks: 4 }),
        State::Evaluated => theirs(Move::Archive {}),
        State::Archived | State::Declined => theirs(Move::Reopen { reason: why() }),
        State::Suspended if !pick.is_multiple_of(4) => theirs(Move::Note { text: why() }),
        State::Suspended => mine(Move::Resume {}),
        State::Merged => theirs(Move::Unmerge { reason: why() }),
    }
}

fn organisation() -> impl Strategy<Value = String> {
    (0..ORGANISATIONS.len()).prop_map(|at| ORGANISATIONS[at].to_owned())
}

fn any_move() -> impl Strategy<Value = Move> {
    let ahead = (0..90_i64).prop_map(|days| at("2026-03-02 12:00") + days * 86_400_000);
    prop_oneof![
        3 => Just(Move::Accept {}),
        1 => Just(Move::Decline { reason: why() }),
        4 => organisation().prop_map(|name| dispatch(&name)),
        2 => organisation().prop_map(|name| name_lead(&name)),
        8 => Just(Move::Sign {}),
        3 => Just(Move::Return { reason: why() }),
        2 => organisation().prop_map(|name| transfer(&name)),
        4 => organisation().prop_map(|name| join(&name)),
        4 => organisation().prop_map(|name| join_done(&name)),
        6 => Just(answer()),
        5 => any::<bool>().prop_map(verify),
        5 => any::<bool>().prop_map(revisit),
        3 => (0..7_u8).prop_map(|marks| Move::Evaluate { marks }),
        3 => Just(Move::Archive {}),
        2 => (0..5_usize, ahead.clone()).prop_map(|(at, until_ms)| Move::Suspend { cause: CAUSES[at], until_ms }),
        2 => Just(Move::Resume {}),
        4 => ahead.prop_map(|until_ms| Move::AskDelay { until_ms, reason: why() }),
        4 => organisation().prop_map(|organisation| Move::GrantDelay { organisation }),
        1 => organisation().prop_map(|organisation| Move::RefuseDelay { organisation, reason: why() }),
        2 => (0..5_usize, any::<bool>()).prop_map(|(at, led)| Move::Escalate {
            to: RUNGS[at], reason: why(), leader: led.then(|| "he".to_owned()),
        }),
        2 => Just(Move::Reopen { reason: why() }),
        2 => (0..5_usize).prop_map(|at| Move::SetRisk { risk: RISKS[at].to_owned(), reason: why() }),
        1 => Just(Move::Note { text: why() }),
        1 => Just(Move::Merge { into: "other".to_owned(), reason: why() }),
        3 => Just(Move::Unmerge { reason: why() }),
        1 => (0..9_i64).prop_map(|warning| Move::LinkWarning { warning }),
        1 => (0..9_i64).prop_map(|warning| Move::UnlinkWarning { warning, reason: why() }),
        1 => (0..4_usize).prop_map(|at| Move::NameHandler { person: PEOPLE[at].to_owned() }),
        1 => (0..4_usize).prop_map(|at| Move::UnnameHandler { person: PEOPLE[at].to_owned(), reason: why() }),
    ]
}

fn tries() -> impl Strategy<Value = Vec<Try>> {
    let passed = prop_oneof![8 => 0..30_i64, 3 => 0..600_i64, 1 => 0..9_000_i64];
    let leads_on = proptest::option::of(0..120_usize);
    let one = (
        0..PEOPLE.len(),
        0..ORGANISATIONS.len(),
        any_move(),
        leads_on,
        passed,
    );
    let one = one.prop_map(
        |(person, organisation, wanted, leads_on, after_minutes)| Try {
            person,
            organisation,
            wanted,
            leads_on,
            after_minutes,
        },
    );
    proptest::collection::vec(one, 1..120)
}

/// The invariants of a case.
fn hold(case: &Case) -> Result<(), TestCaseError> {
    prop_assert!(
        ORGANISATIONS.contains(&case.lead.as_str()),
        "one lead: {:?}",
        case.lead
    );
    let centre_leads = matches!(
        case.state,
        State::Registered | State::Accepted | State::Declined | State::Returned
    );
    prop_assert!(!centre_leads || case.lead == case.centre);
    for (place, clock) in case.clocks.iter().enumerate() {
        let twice = case.clocks[..place]
            .iter()
            .any(|other| other.is(clock.kind, &clock.organisation));
        prop_assert!(!twice, "one clock of each kind and organisation");
        let stands_still = case.state.is_closed() || case.state == State::Suspended;
        prop_assert!(
            !stands_still || clock.pause.is_some(),
            "{:?} {clock:?}",
            case.state
        );
        prop_assert!(clock.used_ms >= 0 && clock.term_ms > 0);
        prop_assert!(clock.moments.is_sorted_by_key(|moment| moment.mark));
        prop_assert!(clock.moments.is_sorted_by_key(|moment| moment.at_ms));
        prop_assert!(clock.pause.is_none() || clock.moments.is_empty());
        prop_assert!(clock.pause != Some(Pause::Verification) || clock.organisation == case.lead);
    }
    for clock in &case.clocks {
        let owner = clock.organisation.as_str();
        let joint = case.joint.get(owner).is_some_and(|joint| !joint.done);
        let owned = match clock.kind {
            ClockKind::Lead | ClockKind::Verify | ClockKind::Revisit => owner == case.centre,
            ClockKind::Sign => owner == case.lead,
            ClockKind::Handle => owner == case.lead || joint,
        };
        prop_assert!(owned, "nobody's clock: {clock:?}");
    }
    let runs =
        |kind, organisation: &str| case.clocks.iter().any(|clock| clock.is(kind, organisation));
    let wanted = match case.state {
        State::Registered | State::Accepted | State::Returned => Some(ClockKind::Lead),
        State::Dispatched => Some(ClockKind::Sign),
        State::Handling => Some(ClockKind::Handle),
        _ => None,
    };
    if let Some(kind) = wanted {
        prop_assert!(runs(kind, &case.lead), "{:?} has its clock", case.state);
    }
    for (organisation, joint) in &case.joint {
        let open = !joint.done && !case.state.is_closed();
        prop_assert!(!open || runs(ClockKind::Handle, organisation));
        prop_assert!(!open || *organisation != case.lead);
    }
    prop_assert_eq!(
        case.suspension.is_some(),
        case.state == State::Suspended
            || case
                .merging
                .as_ref()
                .is_some_and(|merging| merging.from == State::Suspended)
    );
    prop_assert_eq!(case.merging.is_some(), case.state == State::Merged);
    Ok(())
}

/// The effects of time do not depend on when they are computed.
fn same_whenever_asked(
    world: &World,
    case: &Case,
    between_ms: i64,
    end_ms: i64,
) -> Result<(), TestCaseError> {
    let pass = |mut case: Case, times: &[i64]| {
        let mut became = Vec::new();
        for now_ms in times {
            for action in due(&case, &world.context(*now_ms)) {
                case = case.apply(&action);
                became.push(action.what);
            }
        }
        (became, case.clocks, case.supervision, case.lead_wanted)
    };
    let seldom = pass(case.clone(), &[end_ms]);
    let often = pass(case.clone(), &[between_ms, end_ms]);
    prop_assert_eq!(seldom, often);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Random moves by random people of random organisations, with time between them.
    #[test]
    fn a_case_is_the_fold_of_its_log_and_has_one_lead(
        tries in tries(), risk in 0..4_usize, between in 0..40_000_i64,
    ) {
        let world = World::new();
        let mut now_ms = at("2026-03-02 08:30");
        let first = register(registration(RISKS[risk]), &by("rule:x", CENTRE), &world.context(now_ms));
        let mut log = vec![first.expect("a registration")];
        let mut case = Case::replay(&log).expect("a log");
        for attempt in tries {
            now_ms += attempt.after_minutes * MINUTE_MS;
            let context = world.context(now_ms);
            let wake_ms = next_wake_ms(&case);
            let became = due(&case, &context);
            prop_assert_eq!(became.is_empty(), wake_ms.is_none_or(|wake_ms| wake_ms > now_ms));
            for action in became {
                let closed = case.state.is_closed();
                prop_assert!(!closed, "time brings nothing about in {:?}", case.state);
                case = case.apply(&action);
                hold(&case)?;
                log.push(action);
            }
            prop_assert_eq!(due(&case, &context), vec![], "nothing twice");

            // In half of the attempts the lead acts, so that cases reach the later states.
            let organisation = match attempt.person % 2 {
                0 => case.lead.clone(),
                _ => ORGANISATIONS[attempt.organisation].to_owned(),
            };
            let who = by(PEOPLE[(attempt.person + attempt.organisation) % 4], &organisation);
            let (who, wanted) = match attempt.leads_on {
                Some(pick) => leading_on(&case, pick, now_ms),
                None => (who, attempt.wanted),
            };
            let before = case.clone();
            match decide(&case, &who, &wanted, &context) {
                Ok(action) => {
                    prop_assert_eq!(action.number, before.version + 1);
                    prop_assert!(action.at_ms >= before.last_ms);
                    case = case.apply(&action);
                    if before.state.is_closed() {
                        let way_out = [Kind::Reopen, Kind::Unmerge];
                        let naming = [Kind::NameHandler, Kind::UnnameHandler];
                        let leads_out = way_out.contains(&wanted.kind());
                        prop_assert!(leads_out || naming.contains(&wanted.kind()));
                        prop_assert_eq!(leads_out, !case.state.is_closed());
                    }
                    if wanted.kind() == Kind::Revisit {
                        prop_assert!(!before.hands.contains(&who.person));
                    }
                    log.push(action);
                    // A move can have immediate effects: a graver risk raises the case on the ladder.
                    for action in due(&case, &context) {
                        case = case.apply(&action);
                        hold(&case)?;
                        log.push(action);
                    }
                }
                Err(refused) => {
                    let known = refused.to_string().contains(" / ");
                    prop_assert!(known, "{}", refused);
                }
            }
            hold(&case)?;
        }
        prop_assert_eq!(case.version, log.len() as i64);
        same_whenever_asked(&world, &case, now_ms + between * MINUTE_MS, now_ms + 40_000 * MINUTE_MS)?;
        prop_assert_eq!(Case::replay(&log), Ok(case.clone()));
        let text = serde_json::to_string(&log).expect("json");
        let read: Vec<Action> = serde_json::from_str(&text).expect("read");
        prop_assert_eq!(Case::replay(&read), Ok(case));
    }
}
