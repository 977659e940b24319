//! The effects of a move on the clocks of a case.
//!
//! | move | clocks |
//! | --- | --- |
//! | dispatch, name_lead, transfer | the clocks of the old lead stop, 签收 starts for the new lead |
//! | sign | 签收 stops, 办理 starts |
//! | return | 签收 stops, 定主办 starts for the centre |
//! | join, join_done | 办理 of the joint handler starts, stops |
//! | answer | 办理 pauses, 核验 starts |
//! | verify | 核验 stops; 办理 stops and 回访 starts, or 办理 resumes with the time left |
//! | revisit | 回访 stops; if nobody is satisfied, 办理 starts anew |
//! | suspend, resume; merge, unmerge | running clocks pause; the clocks paused for this reason resume |
//! | grant_delay | 办理 of the requester is due at the requested time |
//! | set_risk | each clock has at most the new grade's term left |
//! | reopen | 定主办 starts for the centre |
//! | decline, archive | all clocks stop |
use super::case::Case;
use super::clock::{Change, Clock, ClockKind, Pause, Rules};
use super::moves::Move;
use super::refused::Refused;

/// A case and the time at which its clocks are set.
#[derive(Debug, Clone, Copy)]
pub struct Desk<'a> {
    /// The case before the move.
    pub case: &'a Case,
    /// Terms and calendars.
    pub rules: Rules<'a>,
    /// Time of the move, milliseconds since 1970 UTC.
    pub at_ms: i64,
}

impl Desk<'_> {
    /// The changes of clocks by a checked move. Errors: [`Refused`].
    pub fn changes(self, wanted: &Move) -> Result<Vec<Change>, Refused> {
        let case = self.case;
        let (centre, lead) = (case.centre.as_str(), case.lead.as_str());
        let mut changes = Vec::new();
        match wanted {
            Move::Dispatch { organisation } | Move::NameLead { organisation, .. } => {
                self.end_of_lead(&mut changes);
                changes.push(self.start(ClockKind::Sign, organisation));
            }
            Move::Transfer { to, .. } => {
                self.end_of_lead(&mut changes);
                changes.push(self.start(ClockKind::Sign, to));
            }
            Move::Sign {} => {
                changes.extend(self.stop(ClockKind::Sign, lead));
                changes.push(self.start(ClockKind::Handle, lead));
            }
            Move::Return { .. } => {
                self.end_of_lead(&mut changes);
                changes.push(self.start(ClockKind::Lead, centre));
            }
            Move::Join { organisation, .. } => {
                changes.push(self.start(ClockKind::Handle, organisation));
            }
            Move::JoinDone { organisation, .. } => {
                changes.extend(self.stop(ClockKind::Handle, organisation));
            }
            Move::Answer { .. } => {
                let own = self.find(ClockKind::Handle, lead);
                changes.extend(
                    own.map(|clock| self.rules.pause(clock, Pause::Verification, self.at_ms)),
                );
                changes.push(self.start(ClockKind::Verify, centre));
            }
            Move::Verify { passed, .. } => {
                changes.extend(self.stop(ClockKind::Verify, centre));
                if *passed {
                    changes.extend(self.stop(ClockKind::Handle, lead));
                    changes.push(self.start(ClockKind::Revisit, centre));
                } else {
                    changes.push(match self.find(ClockKind::Handle, lead) {
                        Some(clock) => self.rules.resume(clock, self.at_ms),
                        None => self.start(ClockKind::Handle, lead),
                    });
                }
            }
            Move::Revisit { satisfied, .. } => {
                changes.extend(self.stop(ClockKind::Revisit, centre));
                if !satisfied {
                    changes.push(self.start(ClockKind::Handle, lead));
                }
            }
            Move::Suspend { .. } => changes = self.pause_all(Pause::Suspended),
            Move::Resume {} => changes = self.resume_all(Pause::Suspended, self.at_ms),
            Move::Merge { .. } => changes = self.pause_all(Pause::Merged),
            Move::Unmerge { .. } => changes = self.resume_all(Pause::Merged, self.at_ms),
            Move::GrantDelay { organisation } => changes.extend(self.delay(organisation)?),
            Move::SetRisk { risk, .. } => {
                let about = (case.kind.as_str(), risk.as_str());
                let regrade = |clock| self.rules.regrade(clock, about, self.at_ms);
                changes.extend(case.clocks.iter().filter_map(regrade));
            }
            Move::Reopen { .. } => changes.push(self.start(ClockKind::Lead, centre)),
            Move::Decline { .. } | Move::Archive {} => {
                let stop = |clock: &Clock| self.stop(clock.kind, &clock.organisation);
                changes.extend(case.clocks.iter().filter_map(stop));
            }
            Move::Accept {}
            | Move::Evaluate { .. }
            | Move::AskDelay { .. }
            | Move::RefuseDelay { .. }
            | Move::Escalate { .. }
            | Move::Note { .. }
            | Move::LinkWarning { .. }
            | Move::UnlinkWarning { .. }
            | Move::NameHandler { .. }
            | Move::UnnameHandler { .. } => {}
        }
        Ok(changes)
    }

    /// Stops the clocks of the old lead.
    fn end_of_lead(self, changes: &mut Vec<Change>) {
        changes.extend(self.stop(ClockKind::Lead, &self.case.centre));
        changes.extend(self.stop(ClockKind::Sign, &self.case.lead));
        changes.extend(self.stop(ClockKind::Handle, &self.case.lead));
    }

    /// 延期: the clock is due at the requested time, never earlier than before.
    fn delay(self, organisation: &str) -> Result<Option<Change>, Refused> {
        let unknown = || Refused::Unknown {
            field: "organisation",
            name: organisation.to_owned(),
        };
        let delay = self.case.delays.get(organisation).ok_or_else(unknown)?;
        let clock = self
            .find(ClockKind::Handle, organisation)
            .ok_or_else(unknown)?;
        let calendar = self.rules.calendar(clock).ok_or_else(unknown)?;
        let used_ms = self.rules.used_ms(clock, self.at_ms);
        let more_ms = calendar.open_ms_between(self.at_ms, delay.until_ms)?;
        let new = Clock {
            term_ms: clock.term_ms.max(used_ms.saturating_add(more_ms)),
            ..clock.clone()
        };
        Ok(self.rules.retime(clock, new, self.at_ms))
    }

    /// Resumes the clocks that are paused for this reason, from `since_ms`.
    pub fn resume_all(self, pause: Pause, since_ms: i64) -> Vec<Change> {
        let waiting = |clock: &&Clock| clock.pause == Some(pause);
        let clocks = self.case.clocks.iter().filter(waiting);
        clocks
            .map(|clock| self.rules.resume(clock, since_ms))
            .collect()
    }

    fn pause_all(self, pause: Pause) -> Vec<Change> {
        let running = |clock: &&Clock| clock.pause.is_none();
        let clocks = self.case.clocks.iter().filter(running);
        clocks
            .map(|clock| self.rules.pause(clock, pause, self.at_ms))
            .collect()
    }

    fn start(self, kind: ClockKind, organisation: &str) -> Change {
        let about = (self.case.kind.as_str(), self.case.risk.as_str());
        let clock = self.rules.start(kind, organisation, about, self.at_ms);
        Change::Started { clock }
    }

    fn stop(self, kind: ClockKind, organisation: &str) -> Option<Change> {
        self.find(kind, organisation).map(|clock| Change::Stopped {
            kind,
            organisation: clock.organisation.clone(),
        })
    }
}

impl<'a> Desk<'a> {
    fn find(self, kind: ClockKind, organisation: &str) -> Option<&'a Clock> {
        let of = |clock: &&Clock| clock.is(kind, organisation);
        self.case.clocks.iter().find(of)
    }
}
