//! The data directory: created for the program's user only, and used by that user only.
//!
//! It contains keys and events. Files created in it by another user, above all root, would prevent the
//! service from starting, so every program that writes there checks the owner first.
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Mode that denies access to all other users.
pub const MODE: u32 = 0o700;

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The directory cannot be created or examined.
    #[error("the data directory {path:?} cannot be used: may this user make it and enter it?")]
    File {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The directory belongs to another user.
    #[error(
        "the data directory {path:?} belongs to user {owner}, and this is user {user}: run the command as its \
         owner, like `runuser -u linli-agent -- linli-agent …` or `runuser -u linli-hub -- linli-hub …`; nothing was changed"
    )]
    Owner {
        /// The directory.
        path: PathBuf,
        /// The owner of the directory.
        owner: u32,
        /// The user of this process.
        user: u32,
    },
}

/// Creates the directory if it is missing, checks its owner, and denies access to others. Errors:
/// [`DataDirError`].
pub fn prepare(path: &Path) -> Result<(), DataDirError> {
    let failed = |source| DataDirError::File {
        path: path.to_owned(),
        source,
    };
    make(path).map_err(failed)?;
    let metadata = std::fs::metadata(path).map_err(failed)?;
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(DataDirError::Owner {
            path: path.to_owned(),
            owner: metadata.uid(),
            user,
        });
    }
    if metadata.mode() & 0o077 != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(failed)?;
    }
    Ok(())
}

/// Creates a directory and its parents for this user only; an existing one is unchanged.
pub fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(MODE).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_for_its_user_alone_and_an_open_one_is_closed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a/data");
        let mode = || std::fs::metadata(&path).expect("there").mode() & 0o777;
        prepare(&path).expect("made");
        assert_eq!(mode(), 0o700);
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("opened");
        prepare(&path).expect("ours");
        assert_eq!(mode(), 0o700);
    }
}
