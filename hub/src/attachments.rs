//! 附件, files of cases: photos, recordings, documents that people add.
//!
//! ```text
//! POST ─▶ name, declared type (`name`, `media`) ─▶ blocks, sealed, under a temporary name (`files`)
//!      ─▶ its bytes say the same (`media`) ─▶ synced, renamed, directory synced ─▶ action of the case, committed
//! ```
//!
//! * A file is named by a keyed digest of its content and sealed (`sealed::file`): the same content is one file, however
//!   many cases have it. Its name is in the case's log, sealed.
//! * The file is on the disk before the action that names it commits. So a crash leaves at most a file that no case
//!   refers to; the sweep of retention deletes it, like removed files and those of deleted cases, with a proof.
//! * The bytes decide the type of a file; the declared type and the name must agree. The hub opens a file for nothing
//!   else, and a download is for saving only.
//!
//! Limits: `[attachments]`, and 100 files a case (`cases/check`).
pub mod files;
pub mod media;
pub mod metrics;
pub mod name;

use linli_shared::service::config::Bytes;
use serde::Deserialize;

use media::Media;

/// The largest file that can be configured.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// The largest sum of a case's files that can be configured.
const CASE_BYTES_MAX: u64 = 100 << 30;

/// Why a file was refused, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    Name,
    Type,
    Size,
    Room,
    /// The body was cut off, or too slow.
    Cut,
    /// Too many files arrive at a time.
    Busy,
    Disk,
}

impl NotTaken {
    /// All.
    pub const ALL: [Self; 7] = [
        Self::Name,
        Self::Type,
        Self::Size,
        Self::Room,
        Self::Cut,
        Self::Busy,
        Self::Disk,
    ];

    /// The label in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Type => "type",
            Self::Size => "size",
            Self::Room => "room",
            Self::Cut => "cut",
            Self::Busy => "busy",
            Self::Disk => "disk",
        }
    }
}

/// `[attachments]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttachmentsConfig {
    /// Maximum size of a file.
    pub file_max: Bytes,
    /// Maximum size of all files of a case.
    pub case_max: Bytes,
    /// Accepted types.
    pub types: Vec<Media>,
}

impl Default for AttachmentsConfig {
    fn default() -> Self {
        Self {
            file_max: Bytes(20 << 20),
            case_max: Bytes(200 << 20),
            types: Media::ALL.to_vec(),
        }
    }
}

impl AttachmentsConfig {
    /// Checks the limits. Error: the key, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if !(1024..=FILE_BYTES_MAX).contains(&self.file_max.0) {
            let message = "must be between \"1KiB\" and \"1GiB\"".to_owned();
            return Err(("attachments.file_max", message));
        }
        if !(self.file_max.0..=CASE_BYTES_MAX).contains(&self.case_max.0) {
            let message = "must be between file_max and \"100GiB\"".to_owned();
            return Err(("attachments.case_max", message));
        }
        if self.types.is_empty() {
            let message = format!("name some of {}", Media::words(&Media::ALL));
            return Err(("attachments.types", message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_types_are_taken_or_named() {
        for (text, wanted) in [
            ("", None),
            ("file_max = \"5MiB\"\ntypes = [\"jpeg\", \"pdf\"]", None),
            ("file_max = \"1B\"", Some("attachments.file_max")),
            ("file_max = \"2GiB\"", Some("attachments.file_max")),
            ("case_max = \"1MiB\"", Some("attachments.case_max")),
            ("types = []", Some("attachments.types")),
        ] {
            let config: AttachmentsConfig = toml::from_str(text).expect("TOML");
            assert_eq!(config.check().err().map(|(key, _)| key), wanted, "{text}");
        }
        for text in ["types = [\"svg\"]", "file_max = 5", "size = \"1MiB\""] {
            assert!(toml::from_str::<AttachmentsConfig>(text).is_err(), "{text}");
        }
    }
}
