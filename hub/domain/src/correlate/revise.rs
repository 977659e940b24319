//! Compares the findings around a time with the warnings there and decides the changes of the warnings. Pure.
//!
//! A warning and a finding belong together if they overlap in time. The oldest overlapping warning stands for
//! the finding; the others are merged into it. The result is exactly one open warning per finding, with the
//! same content: the open warnings, too, are a function of the set of events.
//!
//! Events before `known_from_ms` were evicted, so nothing can be decided there: a warning that begins earlier
//! keeps its beginning and is never withdrawn. The same holds for a warning of an older version of the rule.
use super::{Finding, Reason};

/// An open warning, reduced to what the comparison needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingWarning {
    /// Id of the warning.
    pub id: i64,
    /// Time of the first hit, milliseconds since 1970 UTC.
    pub from_ms: i64,
    /// Time of the last hit, milliseconds since 1970 UTC.
    pub to_ms: i64,
    /// Number of hits.
    pub hits: i64,
    /// The events that the first hit rests on.
    pub reasons: Vec<Reason>,
    /// The counted values at the first hit, in words.
    pub values: String,
    /// When the missing event occurred after all, milliseconds since 1970 UTC.
    pub ended_ms: Option<i64>,
    /// It is 补报: nobody was notified.
    pub late: bool,
    /// An older version of the rule raised it: its findings stay, and may be extended.
    pub of_other_rule: bool,
}

impl StandingWarning {
    /// These findings must not change its beginning.
    fn keeps_beginning(&self, terms: Terms) -> bool {
        self.of_other_rule || self.from_ms < terms.known_from_ms
    }
}

/// A change of a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Raise a new warning.
    Raise {
        /// What the rule found.
        finding: Finding,
        /// It is 补报: too old to notify people.
        late: bool,
    },
    /// Extend a warning: more hits, a later end, other values.
    Extend {
        /// Id of the warning.
        id: i64,
        /// The finding from now on.
        finding: Finding,
        /// The warning was 补报 and now is fresh: people must be notified.
        now_fresh: bool,
        /// The missing event occurred.
        now_ended: bool,
    },
    /// End a warning: the missing event occurred.
    End {
        /// Id of the warning.
        id: i64,
        /// The finding with its end.
        finding: Finding,
    },
    /// Amend a warning: its beginning, its reasons or its end were wrong.
    Amend {
        /// Id of the warning.
        id: i64,
        /// The finding from now on.
        finding: Finding,
        /// The warning was 补报 and now is fresh: people must be notified.
        now_fresh: bool,
        /// The missing event occurred.
        now_ended: bool,
    },
    /// Withdraw a warning: with all events it would not have been raised, or another warning covers it.
    Withdraw {
        /// Id of the warning.
        id: i64,
        /// The warning that covers it; `None`: the condition does not hold.
        merged_into: Option<i64>,
    },
}

/// The inputs of the comparison, beside findings and warnings.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Now, milliseconds since 1970 UTC.
    pub now_ms: i64,
    /// Maximum age of a fresh finding, milliseconds; an older one is 补报.
    pub fresh_ms: i64,
    /// All events since this time are known, milliseconds since 1970 UTC.
    pub known_from_ms: i64,
    /// Hits of the new events, for warnings that began before `known_from_ms`.
    pub fresh_hits: i64,
}

impl Terms {
    /// True if the finding is 补报: the hub could have known of it earlier, or all its events were replayed.
    pub fn is_late(&self, finding: &Finding) -> bool {
        finding
            .arrived_ms
            .is_none_or(|arrived_ms| self.now_ms.saturating_sub(arrived_ms) > self.fresh_ms)
    }
}

/// Compares findings with open warnings. Both lists are ordered by time and free of overlaps.
pub fn revise(findings: Vec<Finding>, standing: &[StandingWarning], terms: Terms) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut taken = vec![false; standing.len()];
    for mut finding in findings {
        let mut own = None;
        let mut merged = Vec::new();
        for (at, warning) in standing.iter().enumerate() {
            let overlaps = warning.from_ms <= finding.to_ms && warning.to_ms >= finding.from_ms;
            if taken[at] || !overlaps {
                continue;
            }
            taken[at] = true;
            if own.is_none() {
                own = Some(warning);
            } else {
                merged.push(warning);
            }
        }
        let late = terms.is_late(&finding);
        // Raise nothing if the beginning is unknown, or if a warning that keeps its beginning overlaps.
        let beside = standing.iter().any(|warning| {
            warning.keeps_beginning(terms)
                && warning.from_ms <= finding.to_ms
                && warning.to_ms >= finding.from_ms
        });
        if own.is_none() && (beside || finding.to_ms < terms.known_from_ms) {
            continue;
        }
        let Some(warning) = own else {
            changes.push(Change::Raise { finding, late });
            continue;
        };
        if warning.keeps_beginning(terms) {
            keep_beginning(&mut finding, warning, terms.fresh_hits);
        }
        let id = warning.id;
        let now_fresh = warning.late && !late;
        let now_ended = warning.ended_ms.is_none() && finding.ended_ms.is_some();
        let other = warning.from_ms != finding.from_ms
            || warning.reasons != finding.reasons
            || warning.to_ms > finding.to_ms
            || warning.hits > finding.hits
            || !merged.is_empty()
            || (warning.ended_ms.is_some() && warning.ended_ms != finding.ended_ms);
        if other {
            changes.push(Change::Amend {
                id,
                finding,
                now_fresh,
                now_ended,
            });
        } else if warning.hits != finding.hits
            || warning.to_ms != finding.to_ms
            || warning.values != finding.values
        {
            changes.push(Change::Extend {
                id,
                finding,
                now_fresh,
                now_ended,
            });
        } else if warning.ended_ms != finding.ended_ms {
            changes.push(Change::End { id, finding });
        }
        changes.extend(merged.into_iter().map(|warning| Change::Withdraw {
            id: warning.id,
            merged_into: Some(id),
        }));
    }
    for (warning, taken) in standing.iter().zip(taken) {
        if !taken && !warning.keeps_beginning(terms) {
            changes.push(Change::Withdraw {
                id: warning.id,
                merged_into: None,
            });
        }
    }
    changes
}

fn keep_beginning(finding: &mut Finding, warning: &StandingWarning, fresh_hits: i64) {
    finding.from_ms = warning.from_ms;
    finding.to_ms = finding.to_ms.max(warning.to_ms);
    finding.hits = warning.hits + fresh_hits;
    finding.reasons.clone_from(&warning.reasons);
    finding.values.clone_from(&warning.values);
    finding.ended_ms = finding.ended_ms.or(warning.ended_ms);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(from_ms: i64, to_ms: i64, hits: i64) -> Finding {
        Finding {
            site: "s".to_owned(),
            agent: "a".to_owned(),
            from_ms,
            to_ms,
            hits,
            reasons: vec![Reason {
                event: format!("a/{from_ms}"),
                kind: "k".to_owned(),
                at_ms: from_ms,
            }],
            values: String::new(),
            ended_ms: None,
            arrived_ms: Some(to_ms),
        }
    }

    fn standing(id: i64, of: &Finding, late: bool) -> StandingWarning {
        StandingWarning {
            id,
            from_ms: of.from_ms,
            to_ms: of.to_ms,
            hits: of.hits,
            reasons: of.reasons.clone(),
            values: of.values.clone(),
            ended_ms: of.ended_ms,
            late,
            of_other_rule: false,
        }
    }

    fn terms(now_ms: i64) -> Terms {
        Terms {
            now_ms,
            fresh_ms: 100,
            known_from_ms: 0,
            fresh_hits: 1,
        }
    }

    #[test]
    fn the_same_changes_nothing_and_more_of_it_extends() {
        let (one, more) = (finding(10, 20, 2), finding(10, 30, 3));
        let warnings = [standing(1, &one, false)];
        assert_eq!(revise(vec![one.clone()], &warnings, terms(30)), []);
        let wanted = Change::Extend {
            id: 1,
            finding: more.clone(),
            now_fresh: false,
            now_ended: false,
        };
        assert_eq!(revise(vec![more.clone()], &warnings, terms(30)), [wanted]);
        let late = [standing(1, &one, true)];
        let wanted = Change::Extend {
            id: 1,
            finding: more.clone(),
            now_fresh: true,
            now_ended: false,
        };
        assert_eq!(revise(vec![more.clone()], &late, terms(30)), [wanted]);
        let over = Finding {
            ended_ms: Some(35),
            ..more
        };
        assert!(matches!(
            revise(vec![over], &warnings, terms(40))[..],
            [Change::Extend {
                now_ended: true,
                ..
            }]
        ));
    }

    #[test]
    fn two_that_are_one_now_leave_the_older_and_one_that_is_none_is_withdrawn() {
        let (one, two, both) = (finding(10, 10, 1), finding(50, 50, 1), finding(10, 50, 3));
        let warnings = [standing(1, &one, false), standing(2, &two, false)];
        assert_eq!(
            revise(vec![both.clone()], &warnings, terms(60)),
            [
                Change::Amend {
                    id: 1,
                    finding: both,
                    now_fresh: false,
                    now_ended: false,
                },
                Change::Withdraw {
                    id: 2,
                    merged_into: Some(1)
                }
            ]
        );
        assert_eq!(
            revise(vec![two], &warnings, terms(60)),
            [Change::Withdraw {
                id: 1,
                merged_into: None
            }]
        );
    }

    #[test]
    fn an_earlier_beginning_amends_and_what_is_old_is_late() {
        let (found, earlier) = (finding(20, 30, 2), finding(10, 30, 3));
        let warnings = [standing(1, &found, false)];
        assert!(matches!(
            &revise(vec![earlier.clone()], &warnings, terms(30))[..],
            [Change::Amend { id: 1, .. }]
        ));
        for (now_ms, late) in [(130, false), (131, true)] {
            let wanted = Change::Raise {
                finding: earlier.clone(),
                late,
            };
            assert_eq!(revise(vec![earlier.clone()], &[], terms(now_ms)), [wanted]);
        }
    }

    #[test]
    fn a_finding_is_fresh_by_its_receipt_whatever_its_own_time_says() {
        // The event of a device whose clock is far behind, or ahead.
        for at_ms in [10, 10_000] {
            for (arrived_ms, late) in [(Some(1_000), false), (Some(899), true), (None, true)] {
                let found = Finding {
                    arrived_ms,
                    ..finding(at_ms, at_ms, 1)
                };
                let wanted = Change::Raise {
                    finding: found.clone(),
                    late,
                };
                assert_eq!(revise(vec![found], &[], terms(1_000)), [wanted]);
            }
        }
    }

    #[test]
    fn what_began_before_all_is_known_keeps_its_beginning() {
        let (old, seen) = (finding(10, 60, 7), finding(55, 70, 2));
        let warnings = [standing(1, &old, false)];
        let terms = Terms {
            known_from_ms: 50,
            ..terms(70)
        };
        let found = revise(vec![seen], &warnings, terms);
        let wanted = Finding {
            to_ms: 70,
            hits: 8,
            arrived_ms: Some(70),
            ..old
        };
        assert_eq!(
            found,
            [Change::Extend {
                id: 1,
                finding: wanted,
                now_fresh: false,
                now_ended: false,
            }]
        );
        assert_eq!(revise(Vec::new(), &warnings, terms), []);
    }

    #[test]
    fn what_the_rule_before_has_raised_stays_and_goes_on() {
        let (old, seen) = (finding(10, 60, 7), finding(55, 70, 2));
        let warnings = [StandingWarning {
            of_other_rule: true,
            ..standing(1, &old, false)
        }];
        assert_eq!(revise(Vec::new(), &warnings, terms(70)), []);
        let wanted = Finding {
            to_ms: 70,
            hits: 8,
            arrived_ms: Some(70),
            ..old
        };
        assert_eq!(
            revise(vec![seen], &warnings, terms(70)),
            [Change::Extend {
                id: 1,
                finding: wanted,
                now_fresh: false,
                now_ended: false,
            }]
        );
    }
}
