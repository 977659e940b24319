//! Tools to check a source's config: errors that name the source and the key, and the files that keys name.
use jiff::tz::TimeZone;
use linli_shared::service::config::ConfigError;
use linli_shared::service::telemetry::chain;
use linli_shared::service::tls;
use rustls::RootCertStore;
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};

use crate::files::secret_in;
use linli_devices::text::unmarked;

/// A source whose config is being checked.
pub(crate) struct Check<'a> {
    /// Name of the source.
    pub name: &'a str,
    /// The config file.
    pub path: &'a Path,
    /// `source "fire"`
    pub key: &'a str,
    /// Zone of times that carry none.
    pub zone: TimeZone,
}

impl Check<'_> {
    /// An error about a wrong value: the key within the source, and how to correct it.
    pub fn wrong(&self, key: &str, message: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            path: self.path.to_owned(),
            key: format!("{}.{key}", self.key),
            message: message.into(),
        }
    }

    /// The path of a file that the config names, relative to the config.
    pub fn file(&self, file: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new(".")).join(file)
    }

    /// Reads the bytes of a file with a secret, which `key` names.
    fn read(&self, key: &str, file: &Path) -> Result<Vec<u8>, ConfigError> {
        let path = self.file(file);
        std::fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => self.wrong(
                key,
                format!("{path:?} is not there: make it, (umask 077; printf '%s\\n' 'SECRET' > {path:?})"),
            ),
            io::ErrorKind::PermissionDenied => self.wrong(
                key,
                format!(
                    "this user may not read {path:?}: for the service, chgrp linli-agent {path:?} && chmod 640 {path:?}"
                ),
            ),
            _ => ConfigError::Read { path, source },
        })
    }

    /// Reads a file with a secret that machines share.
    pub fn secret(&self, key: &str, file: &Path) -> Result<Vec<u8>, ConfigError> {
        let bytes = self.read(key, file)?;
        secret_in(&bytes).map_err(|what| self.wrong(key, format!("{file:?} {what}")))
    }

    /// Reads the one line of a file with a password.
    pub fn password(&self, key: &str, file: &Path) -> Result<String, ConfigError> {
        let bytes = self.read(key, file)?;
        let text = std::str::from_utf8(unmarked(&bytes)).unwrap_or_default();
        let text = text.trim();
        if text.is_empty() {
            return Err(self.wrong(
                key,
                format!("{file:?} is empty or no text: write the password into it"),
            ));
        }
        Ok(text.to_owned())
    }

    /// Reads a file of roots to be trusted beside the system's.
    pub fn roots(&self, file: Option<&Path>) -> Result<RootCertStore, ConfigError> {
        let Some(file) = file else {
            return Ok(RootCertStore::empty());
        };
        tls::roots(&self.file(file)).map_err(|error| self.wrong("ca_file", chain(&error)))
    }

    /// Parses the keys of a type.
    pub fn parse<T: DeserializeOwned>(&self, table: toml::Table) -> Result<T, ConfigError> {
        table
            .try_into()
            .map_err(|error: toml::de::Error| ConfigError::Value {
                path: self.path.to_owned(),
                key: self.key.to_owned(),
                // The text of the error, with the key in it, on one line.
                message: error.to_string().trim().replace('\n', " "),
            })
    }
}
