//! Config files: strict TOML whose errors name file, line, key and fix; and values with their units.
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is wrong with a value: its key, and the fix.
pub type WrongValue = (String, String);

/// Why a config file is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path:?}: check that the file is there and that this user may read it")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file has unexpected content; the text shows line and key.
    #[error("{path:?} is not valid:\n{message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The error of the toml parser, with the line.
        message: String,
    },
    /// The values do not fit together.
    #[error("{path:?}: {key}: {message}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Dotted key.
        key: String,
        /// The fault and its remedy.
        message: String,
    },
}

/// Reads a file of strict TOML. Errors: [`ConfigError`].
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let bytes = std::fs::read(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        ConfigError::Parse {
            path: path.to_owned(),
            message: format!(
                "请另存为 UTF-8：第 {line} 行不是 UTF-8（也许是 GB18030、GBK）\n\
                 save as UTF-8: line {line} is not UTF-8, perhaps it is GB18030 or GBK"
            ),
        }
    })?;
    toml::from_str(&text).map_err(|error| ConfigError::Parse {
        path: path.to_owned(),
        message: error.to_string(),
    })
}

/// A duration with its unit: `"250ms"`, `"10s"`, `"5m"`, `"12h"`, `"7d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Milliseconds.
    pub fn as_millis(self) -> i64 {
        self.0.as_millis() as i64
    }

    /// A span of this many seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
}

impl std::str::FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!(
                "{text:?} is not a duration: write a number and its unit, like \"250ms\", \"10s\", \"5m\", \"12h\" or \"7d\""
            )
        };
        let unit_at = text
            .find(|letter: char| !letter.is_ascii_digit())
            .ok_or_else(refuse)?;
        let (number, unit) = text.split_at(unit_at);
        let number: u64 = number.parse().map_err(|_| refuse())?;
        let unit_ms = match unit.trim() {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(refuse()),
        };
        number
            .checked_mul(unit_ms)
            .filter(|ms| *ms <= 100 * 366 * 86_400_000)
            .map(|ms| Self(Duration::from_millis(ms)))
            .ok_or_else(refuse)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Span;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a duration with its unit, like \"10s\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}ms", self.0.as_millis()))
    }
}

/// An amount of bytes with its unit: `"512MiB"`, `"2GiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an amount of bytes with its unit, like \"512MiB\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bytes, E> {
                let with_unit = text.ends_with(['B', 'b']);
                match text.parse::<bytesize::ByteSize>() {
                    Ok(size) if with_unit => Ok(Bytes(size.as_u64())),
                    _ => Err(E::custom(format!(
                        "{text:?} is not an amount of bytes: write a number and its unit, like \"64MiB\" or \"2GiB\""
                    ))),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        wait: Span,
        size: Bytes,
    }

    fn error_of(text: &str) -> String {
        toml::from_str::<Sample>(text)
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn values_with_their_units_are_read() {
        let sample: Sample = toml::from_str("wait = \"5m\"\nsize = \"64MiB\"").expect("good");
        assert_eq!(sample.wait, Span::from_secs(300));
        assert_eq!(sample.size, Bytes(64 << 20));
    }

    #[test]
    fn values_without_or_with_wrong_units_name_the_fix_and_the_line() {
        assert!(error_of("wait = 5\nsize = \"1MiB\"").contains("like \"10s\""));
        let wrong = error_of("wait = \"5 parsecs\"\nsize = \"1MiB\"");
        assert!(
            wrong.contains("line 1") && wrong.contains("250ms"),
            "{wrong}"
        );
        assert!(error_of("wait = \"5s\"\nsize = 64").contains("512MiB"));
        assert!(error_of("wait = \"5s\"\nsize = \"64\"").contains("64MiB"));
        assert!(error_of("wait = \"5s\"\nsize = \"64MiB\"\nsizes = 1").contains("sizes"));
    }

    #[test]
    fn a_file_that_is_not_utf8_says_what_to_do_and_where() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("c.toml");
        // 号楼 in GBK.
        std::fs::write(&path, b"wait = \"5s\"\n# \xba\xc5\xc2\xa5\n").expect("written");
        let error = load::<toml::Table>(&path)
            .expect_err("no UTF-8")
            .to_string();
        assert!(error.contains("save as UTF-8: line 2"), "{error}");
    }
}
