//! The personal data of a case: sealed in the store, and masked unless a reader gives a reason to unmask it.
//! Pure.
use serde::{Deserialize, Serialize};

use crate::mask::mask;

/// Maximum number of parties.
pub const PARTIES_MAX: usize = 20;
/// Maximum length of a name, a phone number or an address, characters.
const SHORT_CHARS_MAX: usize = 200;
/// Maximum length of the text, characters.
pub const TEXT_CHARS_MAX: usize = 10_000;

/// A party (当事人) of a case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Party {
    /// Name.
    pub name: String,
    /// Phone number.
    pub phone: String,
}

/// What happened, to whom and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Narrative {
    /// The parties.
    pub parties: Vec<Party>,
    /// Address.
    pub address: String,
    /// What happened.
    pub text: String,
}

impl Narrative {
    /// True if all fields are empty.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the lengths. Errors: the key and the problem.
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

    /// The masked narrative, for everybody who may see the case.
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
