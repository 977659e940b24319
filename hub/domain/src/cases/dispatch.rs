//! 派单规则, dispatch rules: which organisation is to lead a case, by its kind, its risk, its place and by who has least
//! to do. Pure.
//!
//! A file of `[[rule]]`, looked at from the top: the first that is about the case and names an organisation which is
//! there decides. Of several that it names, the one that has the fewest open cases gets it, of equals the first. After
//! all rules of the file come the leads that the taxonomy names, then the office that answers for the place. What
//! is `automatic` is accepted and dispatched by the hub as the case is opened; the rest is a proposal that people see.
//! A case for named handlers only is never dispatched by the hub.
use linli_shared::service::config::{ConfigError, load};
use serde::Deserialize;
use std::path::Path;

use super::case::Case;
use super::intake::Taxonomy;
use super::terms::Terms;
use crate::orgs::Directory;

/// Rules at most.
const RULES_MAX: usize = 500;
/// Organisations of a rule at most.
const TO_MAX: usize = 50;
/// Who answers for the place of the case, in place of an organisation's id.
const ANSWERING: [&str; 3] = ["office", "station", "grid"];

/// `[[rule]]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DispatchRule {
    /// Only cases of these kinds; empty: of all.
    pub kinds: Vec<String>,
    /// Only of these risks; empty: of all.
    pub risks: Vec<String>,
    /// Only at these places, or within them; empty: anywhere.
    pub within: Vec<String>,
    /// Ids of organisations, or `office`, `station`, `grid` for who answers for the place.
    pub to: Vec<String>,
    /// The hub accepts and dispatches.
    pub automatic: bool,
}

/// All rules, those of the taxonomy and the last one among them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dispatch {
    /// From the top.
    rule: Vec<DispatchRule>,
}

/// Who may get a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates {
    /// Organisations, at least one.
    pub orgs: Vec<String>,
    /// The hub dispatches.
    pub automatic: bool,
}

/// What of a case rules are about.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    pub kind: &'a str,
    pub risk: &'a str,
    pub place: &'a str,
    pub named_only: bool,
}

impl<'a> About<'a> {
    /// A case at a place.
    pub fn of(case: &'a Case, place: &'a str) -> Self {
        Self {
            kind: &case.kind,
            risk: &case.risk,
            place,
            named_only: case.named_only,
        }
    }
}

impl Candidates {
    /// The one that has least to do, of equals the first.
    pub fn least(self, open_cases: impl Fn(&str) -> i64) -> Option<String> {
        self.orgs.into_iter().min_by_key(|org| open_cases(org))
    }
}

impl Dispatch {
    /// With what the taxonomy says behind it.
    pub fn new(mut rule: Vec<DispatchRule>, taxonomy: &Taxonomy) -> Self {
        let leads = taxonomy.kind.iter().filter(|kind| !kind.lead.is_empty());
        rule.extend(leads.map(|kind| DispatchRule {
            kinds: vec![kind.code.clone()],
            to: vec![kind.lead.clone()],
            ..DispatchRule::default()
        }));
        rule.push(DispatchRule {
            to: vec!["office".to_owned()],
            ..DispatchRule::default()
        });
        Self { rule }
    }

    /// Who may get a case; `None`: no rule says, as where the place is not known.
    pub fn candidates(&self, about: About<'_>, directory: &Directory) -> Option<Candidates> {
        self.rule.iter().find_map(|rule| {
            let orgs = rule.orgs(about, directory);
            (!orgs.is_empty()).then_some(Candidates {
                orgs,
                automatic: rule.automatic && !about.named_only,
            })
        })
    }

    /// What rules name and the directory does not have.
    pub fn unknown(&self, directory: &Directory) -> Vec<String> {
        let org = |id: &&String| {
            !ANSWERING.contains(&id.as_str()) && !directory.orgs.contains_key(id.as_str())
        };
        let place = |id: &&String| !directory.places.contains_key(id.as_str());
        self.rule
            .iter()
            .flat_map(|rule| {
                let orgs = rule.to.iter().filter(org);
                orgs.chain(rule.within.iter().filter(place))
            })
            .cloned()
            .collect()
    }
}

impl DispatchRule {
    /// The organisations that it names for a case; none if it is not about it.
    fn orgs(&self, about: About<'_>, directory: &Directory) -> Vec<String> {
        let of = |all: &[String], one: &str| all.is_empty() || all.iter().any(|each| each == one);
        let within = self.within.is_empty()
            || directory
                .chain(about.place)
                .any(|place| self.within.contains(&place.id));
        if !of(&self.kinds, about.kind) || !of(&self.risks, about.risk) || !within {
            return Vec::new();
        }
        let answering = directory.answering(about.place);
        let mut orgs: Vec<String> = Vec::new();
        for name in &self.to {
            let id = match name.as_str() {
                "office" => answering.office,
                "station" => answering.station,
                "grid" => answering.grid,
                id => id,
            };
            if directory.orgs.contains_key(id) && orgs.iter().all(|known| known != id) {
                orgs.push(id.to_owned());
            }
        }
        orgs
    }
}

/// Reads and checks a file.
pub fn read(path: &Path, taxonomy: &Taxonomy, terms: &Terms) -> Result<Dispatch, ConfigError> {
    let Dispatch { rule } = load(path)?;
    check(&rule, taxonomy, terms).map_err(|(key, message)| ConfigError::Value {
        path: path.to_owned(),
        key,
        message,
    })?;
    Ok(Dispatch::new(rule, taxonomy))
}

fn check(
    rules: &[DispatchRule],
    taxonomy: &Taxonomy,
    terms: &Terms,
) -> Result<(), (String, String)> {
    if rules.len() > RULES_MAX {
        let message = format!("has {} rules, at most {RULES_MAX}", rules.len());
        return Err(("rule".to_owned(), message));
    }
    for (at, rule) in rules.iter().enumerate() {
        let wrong = |key: &str, message: String| Err((format!("rule[{at}].{key}"), message));
        if rule.to.is_empty() || rule.to.len() > TO_MAX {
            return wrong(
                "to",
                format!(
                    "needs 1 to {TO_MAX} ids of organisations, or {}",
                    ANSWERING.join(", ")
                ),
            );
        }
        let kind = |kind: &&String| taxonomy.registered(kind).is_none();
        if let Some(kind) = rule.kinds.iter().find(kind) {
            return wrong("kinds", format!("{kind:?} is no code of the taxonomy"));
        }
        let risk = |risk: &&String| !terms.has_risk(risk);
        if let Some(risk) = rule.risks.iter().find(risk) {
            return wrong("risks", format!("{risk:?} is none of the grades"));
        }
        let repeats = |other: &DispatchRule| {
            let same = (&other.kinds, &other.risks, &other.within);
            same == (&rule.kinds, &rule.risks, &rule.within)
        };
        if rules[..at].iter().any(repeats) {
            let message = "an earlier rule is about the same: put both into one".to_owned();
            return wrong("kinds", message);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn district() -> Directory {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/district.toml");
        crate::orgs::file::read(&path).expect("the example of the project")
    }

    fn parsed(text: &str) -> Result<Dispatch, String> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("dispatch.toml");
        std::fs::write(&path, text).expect("written");
        read(&path, &Taxonomy::default(), &Terms::default()).map_err(|error| error.to_string())
    }

    fn about<'a>(kind: &'a str, risk: &'a str, place: &'a str) -> About<'a> {
        About {
            kind,
            risk,
            place,
            named_only: false,
        }
    }

    #[test]
    fn the_first_rule_that_is_about_a_case_decides_and_the_office_is_the_last() {
        let dispatch = parsed(
            "[[rule]]\nkinds = [\"13\"]\nwithin = [\"yuyuan\"]\nto = [\"room-4\", \"room-3\", \"gone\"]\nautomatic = true\n\
             [[rule]]\nkinds = [\"13\"]\nto = [\"station\"]\n\
             [[rule]]\nrisks = [\"red\"]\nto = [\"gone\"]\n",
        )
        .expect("rules");
        let district = district();
        let answering = district.answering("yuyuan");
        for (about, wanted, automatic) in [
            (
                about("13", "blue", "yuyuan-b3"),
                vec!["room-4", "room-3"],
                true,
            ),
            (
                About {
                    named_only: true,
                    ..about("13", "blue", "yuyuan")
                },
                vec!["room-4", "room-3"],
                false,
            ),
            // What is not within falls to the next rule; a place without a station to none.
            (about("13", "blue", ""), vec![], false),
            (about("02", "red", "yuyuan"), vec![answering.office], false),
            (about("02", "blue", "nowhere"), vec![], false),
        ] {
            let found = dispatch.candidates(about, &district);
            let orgs = found.as_ref().map(|found| found.orgs.clone());
            assert_eq!(orgs.unwrap_or_default(), wanted, "{about:?}");
            assert_eq!(found.is_some_and(|found| found.automatic), automatic);
        }
        assert_eq!(dispatch.unknown(&district), ["gone", "gone"]);
        let example =
            parsed(include_str!("../../../../configs/dispatch.toml")).expect("the example");
        assert_eq!(example.unknown(&district), [""; 0]);
    }

    #[test]
    fn who_has_least_to_do_gets_it_and_of_equals_the_first() {
        let candidates = |loads: [i64; 3]| {
            let orgs = ["a", "b", "c"].map(str::to_owned).to_vec();
            let of = |org: &str| loads[usize::from(org.as_bytes()[0] - b'a')];
            Candidates {
                orgs,
                automatic: false,
            }
            .least(of)
        };
        assert_eq!(candidates([3, 1, 2]).as_deref(), Some("b"));
        assert_eq!(candidates([2, 1, 1]).as_deref(), Some("b"));
        assert_eq!(candidates([0, 0, 0]).as_deref(), Some("a"));
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_named() {
        for (text, key) in [
            ("[[rule]]\nkinds = [\"13\"]\n", "rule[0].to"),
            (
                "[[rule]]\nkinds = [\"99\"]\nto = [\"office\"]\n",
                "rule[0].kinds",
            ),
            (
                "[[rule]]\nrisks = [\"pink\"]\nto = [\"office\"]\n",
                "rule[0].risks",
            ),
            (
                "[[rule]]\nto = [\"office\"]\n[[rule]]\nto = [\"room-3\"]\n",
                "rule[1].kinds",
            ),
            ("[[rule]]\nload = 3\nto = [\"office\"]\n", "load"),
        ] {
            let error = parsed(text).expect_err(text);
            assert!(error.contains(key), "{text}: {error}");
        }
    }
}
