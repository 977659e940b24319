//! `[[case_notice]]`: the notices of cases, and their routes. Pure.
//!
//! An action on a case makes one notice on each channel, identified by its number. The notice has the case's place, lead and
//! deadline; no title, no key, no text of people. A case for named handlers only makes none, unless an entry says
//! `named_only`: then the notice has the code and the deadlines, without kind and place.
use linli_shared::protocol::event::Severity;
use serde::Deserialize;
use std::collections::BTreeSet;

use linli_domain::cases::action::{Action, Due, What as Done};
use linli_domain::cases::case::Case;
use linli_domain::cases::clock::Mark;
use linli_domain::notice::What;

/// Maximum number of entries.
pub const CASE_NOTICES_MAX: usize = 64;

/// `[[case_notice]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseNotice {
    /// The route.
    pub route: String,
    /// The kinds of notices; default: all that time causes, not the opening and the moves.
    #[serde(default = "of_time")]
    pub what: Vec<What>,
    /// Only cases with these organisations; empty: all.
    #[serde(default)]
    pub orgs: Vec<String>,
    /// Only these kinds of cases; empty: all.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// Cases for named handlers only, instead of the others.
    #[serde(default)]
    pub named_only: bool,
}

/// The kinds of notices of a case.
pub const OF_CASES: [What; 10] = [
    What::Opened,
    What::Moved,
    What::Reminder,
    What::Amber,
    What::Red,
    What::Ordinary,
    What::YellowCard,
    What::RedCard,
    What::LeadDemanded,
    What::Climbed,
];

fn of_time() -> Vec<What> {
    OF_CASES[2..].to_vec()
}

/// Checks the entries. Error: the key, and the fix.
pub fn check(entries: &[CaseNotice], routes: &[String]) -> Result<(), (String, String)> {
    if entries.len() > CASE_NOTICES_MAX {
        let message = format!("more than {CASE_NOTICES_MAX} entries");
        return Err(("case_notice".to_owned(), message));
    }
    for (at, entry) in entries.iter().enumerate() {
        let wrong = |key: &str, message: String| Err((format!("case_notice[{at}].{key}"), message));
        if !routes.contains(&entry.route) {
            let message = format!(
                "there is no route {:?}: write one of {}, or add it as [[route]]",
                entry.route,
                routes.join(", ")
            );
            return wrong("route", message);
        }
        if entry.what.is_empty() || entry.what.iter().any(|what| !OF_CASES.contains(what)) {
            let words = OF_CASES.map(What::as_str).join(", ");
            return wrong("what", format!("needs some of {words}"));
        }
    }
    Ok(())
}

impl CaseNotice {
    /// True if the entry applies.
    pub fn takes(&self, what: What, case: &Case, orgs: &BTreeSet<String>) -> bool {
        let with = |org: &String| orgs.contains(org) || *org == case.lead || *org == case.centre;
        self.named_only == case.named_only
            && self.what.contains(&what)
            && (self.orgs.is_empty() || self.orgs.iter().any(with))
            && (self.kinds.is_empty() || self.kinds.contains(&case.kind))
    }
}

/// The kind, the severity and the responsible organisation of the notice of an action; `None`: it makes no notice.
pub fn of_action(before: &Case, after: &Case, action: &Action) -> Option<(What, Severity, String)> {
    let moved = || {
        let has_moved = before.state != after.state || before.lead != after.lead;
        has_moved.then(|| (What::Moved, Severity::Notice, after.lead.clone()))
    };
    match &action.what {
        Done::Opening(_) => Some((What::Opened, Severity::Notice, after.centre.clone())),
        Done::Person(_) | Done::Hub(Due::SuspensionEnded { .. }) => moved(),
        Done::Hub(Due::Marked {
            mark, organisation, ..
        }) => {
            let (what, severity) = match mark {
                Mark::Reminder => (What::Reminder, Severity::Notice),
                Mark::Amber => (What::Amber, Severity::Warning),
                Mark::Red => (What::Red, Severity::Warning),
                Mark::Ordinary => (What::Ordinary, Severity::Warning),
                Mark::YellowCard => (What::YellowCard, Severity::Alarm),
                Mark::RedCard => (What::RedCard, Severity::Alarm),
            };
            Some((what, severity, organisation.clone()))
        }
        Done::Hub(Due::LeadDemanded { .. }) => {
            Some((What::LeadDemanded, Severity::Warning, after.centre.clone()))
        }
        Done::Hub(Due::Climbed { .. }) => {
            Some((What::Climbed, Severity::Alarm, after.lead.clone()))
        }
        Done::Hub(Due::Recomputed {}) | Done::Other(_) | Done::File(_) | Done::Subject(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> CaseNotice {
        toml::from_str(text).expect("an entry")
    }

    #[test]
    fn what_is_wrong_with_an_entry_is_named() {
        let routes = ["office".to_owned()];
        assert_eq!(check(&[parsed("route = \"office\"")], &routes), Ok(()));
        for (text, key) in [
            ("route = \"nowhere\"", "case_notice[0].route"),
            ("route = \"office\"\nwhat = []", "case_notice[0].what"),
            (
                "route = \"office\"\nwhat = [\"raised\"]",
                "case_notice[0].what",
            ),
        ] {
            let (found, _) = check(&[parsed(text)], &routes).expect_err(text);
            assert_eq!(found, key);
        }
        assert!(toml::from_str::<CaseNotice>("route = \"office\"\nwhat = [\"gone\"]").is_err());
        assert!(toml::from_str::<CaseNotice>("route = \"office\"\nroom = 3").is_err());
    }
}
