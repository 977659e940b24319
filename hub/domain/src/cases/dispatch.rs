//! Dispatch rules (派单规则): choose the organisation that is to lead a case by its kind, risk and place, and by
//! the load of the candidates. Pure.
//!
//! A file contains `[[rule]]` entries, evaluated from the top: the first rule that matches the case and names
//! an existing organisation decides. If it names several, the one with the fewest open cases is chosen; the
//! first wins a tie. After the rules of the file follow the leads of the taxonomy, then the office
//! responsible for the place. The hub accepts and dispatches a case at its opening if its rule is
//! `automatic`; otherwise the result is a proposal shown to people. The hub never dispatches a case for named
//! handlers only.
use linli_shared::service::config::{ConfigError, load};
use serde::Deserialize;
use std::path::Path;

use super::case::Case;
use super::intake::Taxonomy;
use super::terms::Terms;
use crate::orgs::Directory;

/// Maximum number of rules.
const RULES_MAX: usize = 500;
/// Maximum number of organisations of a rule.
const TO_MAX: usize = 50;
/// Words that stand for the organisation responsible for the place, instead of an organisation's id.
const ANSWERING: [&str; 3] = ["office", "station", "grid"];

/// `[[rule]]`: one dispatch rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DispatchRule {
    /// Matches cases of these kinds only; empty: all.
    pub kinds: Vec<String>,
    /// Matches these risks only; empty: all.
    pub risks: Vec<String>,
    /// Matches at or within these places only; empty: everywhere.
    pub within: Vec<String>,
    /// Ids of organisations, or `office`, `station`, `grid` for the one responsible for the place.
    pub to: Vec<String>,
    /// The hub accepts and dispatches the case itself.
    pub automatic: bool,
}

/// All rules, including those from the taxonomy and the last one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dispatch {
    /// In order of evaluation.
    rule: Vec<DispatchRule>,
}

/// The organisations that may lead a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates {
    /// Ids of organisations, at least one.
    pub orgs: Vec<String>,
    /// The hub dispatches the case itself.
    pub automatic: bool,
}

/// The properties of a case that rules match.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Code of the kind.
    pub kind: &'a str,
    /// Grade of the risk.
    pub risk: &'a str,
    /// Id of the place; empty if unknown.
    pub place: &'a str,
    /// The case is for named handlers only.
    pub named_only: bool,
}

impl<'a> About<'a> {
    /// The properties of a case at a place.
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
    /// The candidate with the fewest open cases; the first wins a tie.
    pub fn least(self, open_cases: impl Fn(&str) -> i64) -> Option<String> {
        self.orgs.into_iter().min_by_key(|org| open_cases(org))
    }
}

impl Dispatch {
    /// The rules of a file, followed by those from the taxonomy and the last one.
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

    /// The candidates for a case; `None` if no rule names one, for example at an unknown place.
    pub fn candidates(&self, about: About<'_>, directory: &Directory) -> Option<Candidates> {
        self.rule.iter().find_map(|rule| {
            let orgs = rule.orgs(about, directory);
            (!orgs.is_empty()).then_some(Candidates {
                orgs,
                automatic: rule.automatic && !about.named_only,
            })
        })
    }

    /// The ids in the rules that the directory does not contain.
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
    /// The organisations that this rule names for a case; empty if the rule does not match.
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

/// Reads and checks a file. Errors: [`ConfigError`].
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
            // A case outside the place falls to the next rule; a place without a station falls to none.
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
