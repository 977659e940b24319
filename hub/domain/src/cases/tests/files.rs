//! Files: adding one needs no current version, a removal names the file, and both have limits.
use super::super::action::Attachment;
use super::super::check::ATTACHMENTS_MAX;
use super::super::decide::{attach, detach};
use super::*;

const CASE_BYTES_MAX: u64 = 1000;

fn file(bytes: u64) -> Attachment {
    Attachment {
        name: "王小明.jpg".to_owned(),
        media: "jpeg".to_owned(),
        bytes,
        digest: "ab".repeat(32),
        by: String::new(),
        at_ms: 0,
    }
}

impl Run {
    fn attach(&mut self, bytes: u64) -> Result<i64, Refused> {
        let by = by("zhang", "office-1");
        let action = attach(&self.case, &by, file(bytes), CASE_BYTES_MAX, self.now_ms)?;
        let number = action.number;
        self.put(action);
        Ok(number)
    }

    fn detach(&mut self, number: i64, reason: &str) -> Result<(), Refused> {
        let by = by("li", CENTRE);
        let action = detach(&self.case, &by, number, reason, self.now_ms)?;
        self.put(action);
        Ok(())
    }
}

#[test]
fn a_file_is_known_by_the_action_that_added_it_and_no_number_is_given_twice() {
    let mut run = Run::handling();
    let first = run.attach(400).expect("added");
    let second = run.attach(400).expect("added");
    assert_eq!(run.case.attachments[&first].by, "zhang");
    assert_eq!(
        run.attach(400),
        Err(Refused::TooLarge {
            bytes: 800,
            bytes_max: CASE_BYTES_MAX
        })
    );
    assert_eq!(
        run.detach(first, " "),
        Err(Refused::NeedsText { field: "reason" })
    );
    assert!(matches!(
        run.detach(first, &"长".repeat(501)),
        Err(Refused::TooLong { .. })
    ));
    run.detach(first, "发错了").expect("removed");
    assert!(matches!(
        run.detach(first, "发错了"),
        Err(Refused::Unknown { .. })
    ));
    let third = run.attach(600).expect("there is room again");
    assert_eq!(
        run.case.attachments.keys().copied().collect::<Vec<_>>(),
        [second, third]
    );
    // The log shows no name of a file.
    for action in &run.log {
        assert!(!action.note().contains("王小明"), "{}", action.note());
    }
    let words: Vec<&str> = run.log[4..].iter().map(Action::word).collect();
    assert_eq!(words, ["attached", "attached", "detached", "attached"]);
}

#[test]
fn a_closed_case_takes_and_gives_no_files_and_there_is_an_end_of_them() {
    let mut run = Run::new();
    let number = run.attach(1).expect("added");
    run.act("clerk", CENTRE, Move::Decline { reason: why() });
    assert!(matches!(run.attach(1), Err(Refused::Forbidden { .. })));
    assert!(matches!(
        run.detach(number, "x"),
        Err(Refused::Forbidden { .. })
    ));
    let mut run = Run::new();
    for _ in 0..ATTACHMENTS_MAX {
        run.attach(1).expect("added");
    }
    assert_eq!(
        run.attach(1),
        Err(Refused::TooMany {
            field: "attachments",
            max: ATTACHMENTS_MAX
        })
    );
}
