//! The file of organisations and places: strict TOML, `[[org]]` and `[[place]]`.
use linli_shared::service::config::{ConfigError, load};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

use super::{Directory, Org, Place};

/// The only version of the file.
const SCHEMA: u32 = 1;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DistrictFile {
    schema: u32,
    #[serde(default)]
    org: Vec<Org>,
    #[serde(default)]
    place: Vec<Place>,
}

/// Reads and checks a file. Errors: [`ConfigError`].
pub fn read(path: &Path) -> Result<Directory, ConfigError> {
    let file: DistrictFile = load(path)?;
    let wrong = |key: String, message: String| ConfigError::Value {
        path: path.to_owned(),
        key,
        message,
    };
    if file.schema != SCHEMA {
        let message = format!(
            "{} is not known, this program reads schema {SCHEMA}",
            file.schema
        );
        return Err(wrong("schema".to_owned(), message));
    }
    let mut directory = Directory::default();
    for org in file.org {
        insert(&mut directory.orgs, org.id.clone(), org)
            .map_err(|id| wrong(format!("org {id:?}"), "stands there twice".to_owned()))?;
    }
    for place in file.place {
        insert(&mut directory.places, place.id.clone(), place)
            .map_err(|id| wrong(format!("place {id:?}"), "stands there twice".to_owned()))?;
    }
    directory
        .check()
        .map_err(|(key, message)| wrong(key, message))?;
    Ok(directory)
}

fn insert<T>(entries: &mut BTreeMap<String, T>, id: String, entry: T) -> Result<(), String> {
    match entries.insert(id.clone(), entry) {
        None => Ok(()),
        Some(_) => Err(id),
    }
}
