//! The folder itself. Where its disk or share is not mounted, another folder, or none, is in its place.

use std::{
    fs::Metadata,
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use storage_core::Result;

use super::error::{away, failed};
use crate::home::HEAD;

/// The folder of a home, and which one it was when something of the home was found or put there. Clones share that.
#[derive(Debug, Clone)]
pub(super) struct Root {
    path: PathBuf,
    seen: Arc<OnceLock<Identity>>,
}

impl Root {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, seen: Arc::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Remembers which folder it is: something of the home is there.
    pub(super) fn see(&self) {
        if self.seen.get().is_none()
            && let Ok(found) = self.path.metadata()
        {
            let _ = self.seen.set(identity(&found));
        }
    }

    /// Refuses a folder that is not the one that was seen: what is not found there is not gone, and nothing may be written there.
    /// One that was not seen yet may be missing.
    pub(super) fn check(&self) -> Result<()> {
        let Some(seen) = self.seen.get() else { return Ok(()) };
        match self.path.metadata() {
            Ok(found) if identity(&found) == *seen => Ok(()),
            // A share that is mounted again may have another number.
            Ok(_) if self.path.join(HEAD).is_file() => Ok(()),
            Ok(_) => Err(away("another folder is in the place of the home's")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(away("the folder of the home is gone"))
            }
            Err(error) => Err(failed(&error)),
        }
    }
}

#[cfg(unix)]
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(found: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (found.dev(), found.ino())
}

#[cfg(not(unix))]
type Identity = bool;

/// That there is one is all that is known.
#[cfg(not(unix))]
fn identity(found: &Metadata) -> Identity {
    found.is_dir()
}
