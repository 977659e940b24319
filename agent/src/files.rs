//! Files that the config names: mappings and secrets.
use linli_devices::mapping::{Mapping, MappingFile};
use linli_devices::text;
use linli_shared::service::config::{ConfigError, load};
use std::path::Path;

/// Least length of a secret that machines share.
const SECRET_BYTES_MIN: usize = 16;

/// Reads and checks a mapping file.
pub fn load_mapping(name: &str, path: &Path) -> Result<Mapping, ConfigError> {
    let file: MappingFile = load(path)?;
    Mapping::new(name, file).map_err(|error| ConfigError::Value {
        path: path.to_owned(),
        key: error.key,
        message: error.message,
    })
}

/// Reads the secret in a file.
pub fn secret(file: &Path, key: &str) -> Result<Vec<u8>, ConfigError> {
    let bytes = std::fs::read(file).map_err(|source| ConfigError::Read {
        path: file.to_owned(),
        source,
    })?;
    secret_in(&bytes).map_err(|message| ConfigError::Value {
        path: file.to_owned(),
        key: key.to_owned(),
        message,
    })
}

/// The secret in the bytes of a file, or the error in it.
pub fn secret_in(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let secret = text::unmarked(bytes).trim_ascii().to_vec();
    if secret.len() < SECRET_BYTES_MIN {
        return Err(format!(
            "holds fewer than {SECRET_BYTES_MIN} bytes: make one with `openssl rand -hex 32`"
        ));
    }
    Ok(secret)
}
