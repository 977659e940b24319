//! Requests of residents: a deletion deletes every text and keeps the skeleton of the log.
use super::super::action::{Attachment, Filed};
use super::super::decide::{attach, detach};
use super::super::subject::{HANDLE_MINUTES, REDACTED, Wish, asks, correct, delete, redacted};
use super::*;

fn request(wish: Wish) -> Case {
    let world = World::new();
    let registration = Registration {
        kind: wish.kind().0.to_owned(),
        code: "20260302-000009".to_owned(),
        ..registration("blue")
    };
    let context = world.context(at("2026-03-02 08:30"));
    let first = register(registration, &by("clerk", CENTRE), &context).expect("a registration");
    Case::replay(&[first]).expect("a log")
}

/// A closed case with every kind of text in its log.
fn closed() -> Run {
    let mut run = Run::new();
    let file = Attachment {
        name: why(),
        media: "jpeg".to_owned(),
        bytes: 1,
        digest: "ab".repeat(32),
        by: String::new(),
        at_ms: 0,
    };
    for _ in 0..2 {
        let action = attach(
            &run.case,
            &by("clerk", CENTRE),
            file.clone(),
            100,
            run.now_ms,
        );
        run.put(action.expect("added"));
    }
    let action = detach(&run.case, &by("clerk", CENTRE), 2, &why(), run.now_ms);
    run.put(action.expect("removed"));
    run.act("clerk", CENTRE, Move::Accept {})
        .act("clerk", CENTRE, name_lead("office-1"))
        .act("zhang", "office-1", Move::Sign {})
        .act("zhang", "office-1", Move::Note { text: why() })
        .act("zhang", "office-1", join("office-2"))
        .act("li", "office-2", join_done("office-2"))
        .act("zhang", "office-1", answer())
        .act("wang", CENTRE, verify(true))
        .act("wang", CENTRE, revisit(true))
        .act("wang", CENTRE, Move::Evaluate { marks: 5 })
        .act("wang", CENTRE, Move::Archive {});
    run
}

#[test]
fn a_deletion_leaves_the_skeleton_of_the_log_and_no_text() {
    let run = closed();
    let request = request(Wish::Delete);
    let action = delete(&run.case, &by("wang", CENTRE), &request, run.now_ms).expect("deleted");
    let mut log: Vec<Action> = run.log.iter().cloned().map(redacted).collect();
    let before = Case::replay(&log).expect("the skeleton is a log");
    log.push(action.clone());
    let after = Case::replay(&log).expect("and so it is with its end");
    assert_eq!(after, before.apply(&action));
    for text in [
        serde_json::to_string(&log).expect("JSON"),
        serde_json::to_string(&after).expect("JSON"),
    ] {
        assert!(!text.contains(&why()), "{text}");
    }
    assert!(
        serde_json::to_string(&log)
            .expect("JSON")
            .contains(REDACTED)
    );
    let skeleton = |log: &[Action]| -> Vec<(i64, &'static str, String)> {
        let line = |action: &Action| (action.at_ms, action.word(), action.actor.clone());
        log.iter().map(line).collect()
    };
    assert_eq!(skeleton(&log[..run.log.len()]), skeleton(&run.log));
    assert_eq!(
        log.last().map(|last| (last.word(), last.note())),
        Some(("redacted", "20260302-000009".to_owned()))
    );
    assert!(after.attachments.is_empty());
    assert_eq!(
        (after.state, after.lead.as_str()),
        (State::Archived, "office-1")
    );
    // Digests are no texts: they name a deleted file.
    assert!(matches!(log[1].what, What::File(Filed::Attached { .. })));
}

#[test]
fn what_is_open_is_kept_and_each_request_is_for_what_it_asks() {
    let open = Run::handling();
    let wang = by("wang", CENTRE);
    assert_eq!(
        delete(&open.case, &wang, &request(Wish::Delete), open.now_ms),
        Err(Refused::StillNeeded {
            state: State::Handling
        })
    );
    let closed = closed();
    let kinds = vec!["subject-delete"];
    assert_eq!(
        delete(&closed.case, &wang, &request(Wish::See), closed.now_ms),
        Err(Refused::NoRequest { kinds })
    );
    assert!(correct(&open.case, &wang, &request(Wish::Correct), open.now_ms).is_ok());
    let stale = By {
        seen_version: Some(1),
        ..wang.clone()
    };
    assert!(matches!(
        correct(&open.case, &stale, &request(Wish::Correct), open.now_ms),
        Err(Refused::Stale { .. })
    ));
    let mut over = request(Wish::See);
    assert_eq!(asks(&over, &[Wish::See]), Ok(()));
    over.state = State::Archived;
    assert!(matches!(
        asks(&over, &[Wish::See]),
        Err(Refused::Forbidden { .. })
    ));
}

#[test]
fn a_request_has_fifteen_working_days_unless_the_terms_say_otherwise() {
    let mut terms = Terms::default();
    for wish in Wish::ALL {
        let minutes = |clock| terms.minutes(wish.kind().0, "blue", clock);
        let sum = minutes(ClockKind::Lead) + minutes(ClockKind::Sign) + minutes(ClockKind::Handle);
        assert_eq!(sum, 15 * 420);
        assert_eq!(Wish::of_kind(wish.kind().0), Some(wish));
    }
    terms.term.push(super::super::terms::Term {
        kind: Some("subject-see".to_owned()),
        handle_minutes: Some(420),
        ..Default::default()
    });
    let minutes = |kind| terms.minutes(kind, "blue", ClockKind::Handle);
    assert_eq!(
        (minutes("subject-see"), minutes("subject-delete")),
        (420, HANDLE_MINUTES)
    );
    assert_eq!(minutes("dispute"), terms.any.handle_minutes);
}
