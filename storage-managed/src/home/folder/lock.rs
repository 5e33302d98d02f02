//! A lock that the operating system keeps on a file, for as long as the file is open.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use fs4::{FileExt, TryLockError};

use crate::system::open_private;

/// The pause between two tries: the lock is held for one small write.
const PAUSE: Duration = Duration::from_millis(2);

/// An exclusive lock; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// The lock, or `None` while somebody else has it.
    pub(super) fn try_take(path: &Path) -> io::Result<Option<Lock>> {
        loop {
            let file = open_private(path)?;
            match FileExt::try_lock(&file) {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let lock = Lock { file, path: path.to_owned() };
            // Else the folder was removed meanwhile, and the lock is on a file that nobody else can find.
            if lock.is_in_place() {
                return Ok(Some(lock));
            }
        }
    }

    /// Whether somebody has the lock of a file that is there. Opens it for reading alone.
    pub(super) fn is_taken(path: &Path) -> io::Result<bool> {
        match FileExt::try_lock(&File::open(path)?) {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The lock, or `None` where it was not to be had until `deadline`.
    pub(super) fn take(path: &Path, deadline: Instant) -> io::Result<Option<Lock>> {
        loop {
            if let Some(lock) = Self::try_take(path)? {
                return Ok(Some(lock));
            }
            if Instant::now() + PAUSE > deadline {
                return Ok(None);
            }
            sleep(PAUSE);
        }
    }

    /// Whether the locked file is still the one that others find under its name.
    pub(super) fn is_in_place(&self) -> bool {
        is_same(&self.file, &self.path)
    }

    /// The locked file, for notes to people.
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

#[cfg(unix)]
fn is_same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let (ours, found) = (file.metadata().map(identity), path.metadata().map(identity));
    matches!((ours, found), (Ok(ours), Ok(found)) if ours == found)
}

/// Where an open file cannot be replaced, it is the same for as long as it is there.
#[cfg(not(unix))]
fn is_same(_: &File, path: &Path) -> bool {
    path.is_file()
}
