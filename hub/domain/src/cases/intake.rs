//! Intake (受理前): the kind of a reported dispute, and whether only named handlers may see it. Pure.
//!
//! The taxonomy lists each kind of dispute with its code, its main class of GB/T 31000, and the words that
//! stations and old systems use for it. This mapping table has a version, so that the table that gave a case
//! its kind can be identified later. A word that the table does not contain maps to the kind of last resort.
use linli_shared::service::config::{ConfigError, load};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;

use super::subject::Wish;

/// The kind of case that is for named handlers only, regardless of the table.
const DOMESTIC_VIOLENCE: &str = "domestic-violence";
/// Maximum number of kinds.
const KINDS_MAX: usize = 500;

/// A kind of dispute.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisputeKind {
    /// Permanent code.
    pub code: String,
    /// Name for people.
    pub name: String,
    /// Main class of GB/T 31000.
    pub class: String,
    /// Words that sources use for this kind.
    #[serde(default)]
    pub words: Vec<String>,
    /// Cases of this kind are for named handlers only.
    #[serde(default)]
    pub named_only: bool,
    /// Id of the organisation to dispatch to; empty: the office responsible for the place.
    #[serde(default)]
    pub lead: String,
    /// Grade of the risk; empty: by the severity of the report.
    #[serde(default)]
    pub risk: String,
}

/// The table of all kinds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taxonomy {
    /// Version; increases with each change of the table.
    pub version: u32,
    /// Code of the kind for words that no kind lists.
    pub otherwise: String,
    /// The kinds.
    pub kind: Vec<DisputeKind>,
}

impl Default for Taxonomy {
    /// The fifteen types of the mediation return, and domestic violence with its own code.
    fn default() -> Self {
        let kind = |code: &str, name: &str, class: &str, words: &[&str]| DisputeKind {
            code: code.to_owned(),
            name: name.to_owned(),
            class: class.to_owned(),
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            named_only: false,
            lead: String::new(),
            risk: String::new(),
        };
        let family = "婚姻家庭纠纷";
        Self {
            version: 1,
            otherwise: "15".to_owned(),
            kind: vec![
                kind(
                    "01",
                    "婚姻家庭纠纷",
                    family,
                    &["婚姻家庭", "FAMILY TROUBLE", "CHILD CUSTODY"],
                ),
                DisputeKind {
                    named_only: true,
                    risk: "red".to_owned(),
                    ..kind(
                        "01-dv",
                        "家庭暴力",
                        family,
                        &[
                            "家庭暴力",
                            "BATTERY DV",
                            "TRBL W/SUBJ-DV",
                            "FAMILY TROUBL-DV",
                            "PROPERTY DAM-DV",
                        ],
                    )
                },
                kind(
                    "02",
                    "邻里纠纷",
                    "邻里纠纷",
                    &["邻里", "噪音", "NOISE NUISANCE"],
                ),
                kind(
                    "03",
                    "房屋宅基地纠纷",
                    "土地房屋纠纷",
                    &["房屋", "宅基地", "LANDLORD/TEN TRB"],
                ),
                kind("04", "合同纠纷", "经济纠纷", &["合同"]),
                kind("05", "生产经营纠纷", "经济纠纷", &["生产经营"]),
                kind(
                    "06",
                    "损害赔偿纠纷",
                    "人身财产损害纠纷",
                    &["损害赔偿", "FIGHT"],
                ),
                kind("07", "劳动争议纠纷", "劳动纠纷", &["劳资", "劳动争议"]),
                kind("08", "村务管理纠纷", "基层治理纠纷", &["村务"]),
                kind("09", "山林土地纠纷", "土地房屋纠纷", &["山林土地"]),
                kind("10", "征地拆迁纠纷", "征地拆迁纠纷", &["征地拆迁"]),
                kind("11", "环境污染纠纷", "环境纠纷", &["环境污染"]),
                kind("12", "道路交通事故纠纷", "交通事故纠纷", &["道路交通"]),
                kind("13", "物业纠纷", "物业纠纷", &["物业"]),
                kind("14", "消费纠纷", "消费纠纷", &["消费"]),
                kind("15", "其他纠纷", "其他", &["其他纠纷"]),
            ],
        }
    }
}

impl Taxonomy {
    /// The kind for a source's word.
    pub fn of_word(&self, word: &str) -> &DisputeKind {
        let named = self
            .kind
            .iter()
            .find(|kind| kind.name == word || kind.words.iter().any(|known| known == word));
        let otherwise = || self.of_code(&self.otherwise);
        named.or_else(otherwise).unwrap_or_else(|| &self.kind[0])
    }

    /// The kind with this code.
    pub fn of_code(&self, code: &str) -> Option<&DisputeKind> {
        self.kind.iter().find(|kind| kind.code == code)
    }

    /// True if cases of this kind are for named handlers only; domestic violence always is.
    pub fn is_named_only(&self, code: &str) -> bool {
        code == DOMESTIC_VIOLENCE || self.of_code(code).is_some_and(|kind| kind.named_only)
    }

    /// The kind for a registration: one of the table, or a resident's request, which always exists.
    pub fn registered(&self, code: &str) -> Option<DisputeKind> {
        if let Some(kind) = self.of_code(code) {
            return Some(kind.clone());
        }
        let (code, name) = Wish::of_kind(code)?.kind();
        Some(DisputeKind {
            code: code.to_owned(),
            name: name.to_owned(),
            class: "个人信息请求".to_owned(),
            words: Vec::new(),
            named_only: false,
            lead: String::new(),
            risk: String::new(),
        })
    }

    /// Errors: the key and the problem.
    fn check(&self) -> Result<(), (String, String)> {
        let wrong = |key: String, message: &str| Err((key, message.to_owned()));
        if self.kind.is_empty() || self.kind.len() > KINDS_MAX {
            return wrong("kind".to_owned(), "needs 1 to 500 kinds");
        }
        let (mut codes, mut words) = (BTreeSet::new(), BTreeSet::new());
        for kind in &self.kind {
            let key = format!("kind {:?}", kind.code);
            if kind.code.trim().is_empty() || kind.code.len() > 40 || kind.name.trim().is_empty() {
                return wrong(key, "needs a code of at most 40 bytes and a name");
            }
            if !codes.insert(&kind.code) {
                return wrong(key, "stands there twice");
            }
            for word in &kind.words {
                if !words.insert(word) {
                    let message = format!("the word {word:?} names another kind already");
                    return Err((key, message));
                }
            }
        }
        if !codes.contains(&self.otherwise) {
            return wrong("otherwise".to_owned(), "must be the code of a kind");
        }
        Ok(())
    }
}

/// Reads and checks a file. Errors: [`ConfigError`].
pub fn read(path: &Path) -> Result<Taxonomy, ConfigError> {
    let taxonomy: Taxonomy = load(path)?;
    taxonomy
        .check()
        .map_err(|(key, message)| ConfigError::Value {
            path: path.to_owned(),
            key,
            message,
        })?;
    Ok(taxonomy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_sources_name_kinds_and_the_others_are_of_the_last() {
        let taxonomy = Taxonomy::default();
        assert_eq!(taxonomy.check(), Ok(()));
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/taxonomy.toml");
        assert_eq!(read(&example).expect("the example"), taxonomy);
        for (word, code) in [
            ("邻里", "02"),
            ("噪音", "02"),
            ("劳动争议纠纷", "07"),
            ("BATTERY DV", "01-dv"),
            ("家庭暴力", "01-dv"),
            ("something", "15"),
            ("", "15"),
        ] {
            assert_eq!(taxonomy.of_word(word).code, code, "{word}");
        }
        let named: Vec<&str> = taxonomy
            .kind
            .iter()
            .filter(|kind| kind.named_only)
            .map(|kind| kind.code.as_str())
            .collect();
        assert_eq!(named, ["01-dv"]);
    }

    #[test]
    fn a_code_or_a_word_twice_and_a_last_kind_that_is_not_there_are_named() {
        let wrong = |change: fn(&mut Taxonomy)| {
            let mut taxonomy = Taxonomy::default();
            change(&mut taxonomy);
            taxonomy.check().map_err(|(key, _)| key)
        };
        assert_eq!(
            wrong(|all| all.otherwise = "99".to_owned()),
            Err("otherwise".to_owned())
        );
        let twice = |all: &mut Taxonomy| all.kind[2].code = "01".to_owned();
        assert_eq!(wrong(twice), Err("kind \"01\"".to_owned()));
        let word = |all: &mut Taxonomy| all.kind[0].words.push("物业".to_owned());
        assert_eq!(wrong(word), Err("kind \"13\"".to_owned()));
        assert_eq!(wrong(|all| all.kind.clear()), Err("kind".to_owned()));
    }
}
