//! What a case says of people: sealed in the store, masked for whoever does not ask for more with a reason. Pure.
use serde::{Deserialize, Serialize};

use crate::mask::mask;

/// Parties at most.
pub const PARTIES_MAX: usize = 20;
/// Characters of a name, a phone or an address.
const SHORT_CHARS_MAX: usize = 200;
/// Characters of the text.
pub const TEXT_CHARS_MAX: usize = 10_000;

/// 当事人: one of those whom it is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Party {
    /// Name.
    pub name: String,
    /// Phone.
    pub phone: String,
}

/// What happened to whom, where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Narrative {
    /// Whom it is about.
    pub parties: Vec<Party>,
    /// Address.
    pub address: String,
    /// What happened.
    pub text: String,
}

impl Narrative {
    /// Nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is wrong with it: key and message.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.parties.len() > PARTIES_MAX {
            return Err(("parties", format!("at most {PARTIES_MAX}")));
        }
        let short = self
            .parties
            .iter()
            .flat_map(|party| [&party.name, &party.phone])
            .chain([&self.address]);
        for text in short {
            if text.chars().count() > SHORT_CHARS_MAX {
                let message = format!(
                    "names, phones and the address have at most {SHORT_CHARS_MAX} characters"
                );
                return Err(("narrative", message));
            }
        }
        if self.text.chars().count() > TEXT_CHARS_MAX {
            return Err(("text", format!("at most {TEXT_CHARS_MAX} characters")));
        }
        Ok(())
    }

    /// As everybody may see it who sees the case.
    #[must_use]
    pub fn masked(&self) -> Self {
        Self {
            parties: self
                .parties
                .iter()
                .map(|party| Party {
                    name: mask(&party.name),
                    phone: mask(&party.phone),
                })
                .collect(),
            address: mask(&self.address),
            text: mask(&self.text),
        }
    }
}
