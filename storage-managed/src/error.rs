//! What can go wrong with a managed database.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use rusqlite::ErrorCode;
use storage_core::ErrorKind;

/// A `Result` whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a managed database. `Clone`, since batches that shared a publication share its failure.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The home could not do it; nothing was published.
    #[error("the home could not do it: {0}")]
    Home(storage_core::Error),
    /// A batch is committed here and whether the home has it is not known yet. It is published again, under the same id,
    /// before anything else is written.
    #[error("commit {commit} is not published yet; the next write or open publishes it first: {source}")]
    Unpublished {
        /// The commit's id.
        commit: String,
        /// Why it could not be published.
        #[source]
        source: storage_core::Error,
    },
    /// An earlier batch is still not published; this one was not begun.
    #[error("nothing was written: commit {commit} has to be published first: {source}")]
    Pending {
        /// The earlier commit's id.
        commit: String,
        /// Why it could not be published.
        #[source]
        source: storage_core::Error,
    },
    /// Somebody else has published in the place of this batch, as after a pause longer than the lease's term. It was kept
    /// under `rescue/` and rolled back; the store goes on from the home.
    #[error("somebody else has published first: the batch {}was rolled back, and is kept in `{}`", if *.is_lost { "" } else { "may be in the home; here it " }, path.display())]
    Overtaken {
        /// The folder that holds database and write-ahead log.
        path: PathBuf,
        /// It is not in the home. False where the home has gone on so far that it does not tell.
        is_lost: bool,
    },
    /// Something else wrote to the cache, or the home was changed by other means: what is here is not in the home.
    /// It is kept; what comes next is for people to decide.
    #[error("what is here and what the home holds have diverged; the local database is kept in `{}`", path.display())]
    Diverged {
        /// The folder that holds database and write-ahead log.
        path: PathBuf,
    },
    /// An object of the home, or of the cache, is not what was written.
    #[error("`{object}` is corrupt: {problem}")]
    Corrupt {
        /// Its name.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The home was deleted, or deleted and made anew: it is not the one that this cache is of.
    #[error("the home holds another database than this cache (incarnation {known} is {})", found.as_deref().map_or_else(|| "gone".to_owned(), |found| format!("now {found}")))]
    Recreated {
        /// The incarnation that the cache is of.
        known: String,
        /// The one that was found, if any.
        found: Option<String>,
    },
    /// The home is at an earlier generation than one that was seen before, as after restoring it from a backup.
    #[error("the home went back from generation {known} to {found}")]
    WentBack {
        /// The generation that was seen.
        known: u64,
        /// The generation that was found.
        found: u64,
    },
    /// Another process, or another store of this one, uses the cache folder.
    #[error("the cache folder `{}` is in use by somebody else", path.display())]
    CacheInUse {
        /// The folder.
        path: PathBuf,
    },
    /// Somebody else holds the lease. Nothing was written.
    #[error("{} held the lease for {waited:?}", holder.as_deref().unwrap_or("somebody else"))]
    LeaseTaken {
        /// How long it was waited for.
        waited: Duration,
        /// Who has it, as far as the home tells.
        holder: Option<String>,
    },
    /// The batch failed by itself and was rolled back.
    #[error("the batch failed and was rolled back{}", code(.0))]
    Batch(Arc<rusqlite::Error>),
    /// The batch panicked and was rolled back.
    #[error("the batch panicked and was rolled back")]
    Panicked,
    /// SQLite could not do it on the cache.
    #[error("SQLite could not {doing}{}", reason(source))]
    Sqlite {
        /// What was tried.
        doing: &'static str,
        /// Its answer.
        source: Arc<rusqlite::Error>,
    },
    /// The disk of the cache could not do it.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: Arc<io::Error>,
    },
    /// A setting cannot be used.
    #[error("{0}")]
    Settings(storage_core::Error),
    /// This release cannot do it.
    #[error("{0}")]
    Unsupported(String),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

fn code(error: &rusqlite::Error) -> String {
    match error.sqlite_error() {
        Some(_) if is_full(error) => ": the disk of the cache is full".to_owned(),
        Some(cause) => format!(" (SQLite code {})", cause.extended_code),
        None => String::new(),
    }
}

/// On the cache, a lock is another program's: this process has one connection that writes.
fn reason(error: &rusqlite::Error) -> String {
    if is_locked(error) {
        return ": another program has the database of the cache locked".to_owned();
    }
    code(error)
}

fn is_locked(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

/// Whether SQLite found no room: for a page, or for the index of the log.
fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|cause| {
        cause.code == ErrorCode::DiskFull || cause.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
    })
}

impl Error {
    pub(crate) fn sqlite(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Sqlite { doing, source: Arc::new(source) }
    }

    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source: Arc::new(source) }
    }

    pub(crate) fn corrupt(object: &str, problem: impl Into<String>) -> Self {
        Self::Corrupt { object: object.to_owned(), problem: problem.into() }
    }

    /// The head named something else each time that what it named was fetched.
    pub(crate) fn moving() -> Self {
        let error = storage_core::Error::new(
            ErrorKind::Unavailable,
            "what the head named was superseded and removed each time before it was fetched",
        );
        Self::Home(error.with_hint("try again; a longer retention keeps superseded objects for slow readers"))
    }

    /// Whether publishing what is here already may be put off: the home, or whoever has the lease, is in the way.
    pub(crate) fn can_wait(&self) -> bool {
        matches!(
            self,
            Self::LeaseTaken { .. } | Self::Home(_) | Self::Pending { .. } | Self::Unpublished { .. }
        )
    }

    /// Whether the disk of the cache is full.
    fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            Self::Sqlite { source, .. } | Self::Batch(source) => is_full(source),
            _ => false,
        }
    }

    /// What a caller can do about it. [`Diverged`](Self::Diverged), [`Recreated`](Self::Recreated) and
    /// [`WentBack`](Self::WentBack) are [`ErrorKind::Diverged`], which nobody retries: a person has to decide.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            full if full.is_full() => ErrorKind::Full,
            Self::Home(error) => match error.kind() {
                // Said of an object that nobody refers to yet, or of a read.
                ErrorKind::OutcomeUnknown => ErrorKind::Unavailable,
                kind => kind,
            },
            Self::Unpublished { .. } | Self::Overtaken { is_lost: false, .. } => ErrorKind::OutcomeUnknown,
            Self::Overtaken { .. } => ErrorKind::Conflict,
            Self::Pending { .. } => ErrorKind::Unavailable,
            // Not `Conflict`, which callers answer by reading and trying again.
            Self::Diverged { .. } | Self::Recreated { .. } | Self::WentBack { .. } => ErrorKind::Diverged,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::CacheInUse { .. } | Self::LeaseTaken { .. } => ErrorKind::Timeout,
            Self::Batch(error) => of_batch(error),
            Self::Panicked => ErrorKind::InvalidInput,
            Self::Sqlite { source, .. } => match of_batch(source) {
                kind @ (ErrorKind::Timeout | ErrorKind::Damaged) => kind,
                _ => ErrorKind::Unavailable,
            },
            Self::Io { .. } => ErrorKind::Unavailable,
            Self::Settings(error) => error.kind(),
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::Closed => ErrorKind::NotConnected,
        }
    }
}

fn of_batch(error: &rusqlite::Error) -> ErrorKind {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => ErrorKind::Conflict,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OperationInterrupted) => {
            ErrorKind::Timeout
        }
        Some(ErrorCode::DatabaseCorrupt) => ErrorKind::Damaged,
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::OutOfMemory) => {
            ErrorKind::Unavailable
        }
        _ => ErrorKind::InvalidInput,
    }
}

impl From<storage_core::Error> for Error {
    fn from(error: storage_core::Error) -> Self {
        match error.key() {
            // An encrypted home has found it before whoever decodes it.
            Some(object) if error.kind() == ErrorKind::Corrupt => Self::corrupt(object, error.message()),
            _ => Self::Home(error),
        }
    }
}

impl From<Error> for storage_core::Error {
    fn from(error: Error) -> Self {
        let hint = match &error {
            // The home says by itself what to do.
            Error::Home(inner) => {
                let alone = Error::Home(inner.clone().without_hint());
                return Self::new(error.kind(), alone.to_string()).with_hint_of(inner);
            }
            Error::Unpublished { .. } | Error::Overtaken { .. } => "read before you write again",
            Error::Diverged { .. } => {
                "look at what is kept there; `storage managed rescue resume`, or opening with `discard_after_rescue`, \
                 goes on from the home"
            }
            Error::Corrupt { .. } => {
                "bring the object back from a copy; `storage managed repair` shows what else is sound, and goes on from it"
            }
            Error::Recreated { found: None, .. } => {
                "bring the home back, or its `head`; `storage managed repair` shows what is sound, here too"
            }
            Error::Recreated { .. } => "name another cache folder, or bring the home back",
            Error::WentBack { .. } => "name another cache folder if the home was restored on purpose",
            Error::CacheInUse { .. } => "give each process a cache folder of its own",
            Error::LeaseTaken { .. } => {
                "try again later; the lease of a process that is gone ends by itself, or with `storage managed unlock`"
            }
            Error::Sqlite { source, .. } if is_locked(source) => {
                "end the transaction that another program, such as a shell, has open on `database.db` in the cache folder"
            }
            error if error.is_full() => "make room on the disk of the cache",
            Error::Io { .. } => {
                "see that the folder of the local copy is there and may be written to; STORAGE_CACHE_DIR, or --cache, names another"
            }
            _ => "",
        };
        let made = Self::new(error.kind(), error.to_string());
        if hint.is_empty() { made } else { made.with_hint(hint) }
    }
}

#[cfg(test)]
mod tests {
    use storage_core::Retry;

    use super::*;

    #[test]
    fn a_person_decides_where_cache_and_home_have_parted() {
        let errors = [
            Error::Diverged { path: "rescue/1".into() },
            Error::Recreated { known: "1".to_owned(), found: None },
            Error::WentBack { known: 2, found: 1 },
        ];
        for error in errors.map(storage_core::Error::from) {
            assert_eq!((error.code(), error.retry()), ("diverged", Retry::AfterRepair), "{error}");
            assert!(error.hint().is_some(), "{error}");
        }
    }

    #[test]
    fn what_a_home_says_is_to_be_done_is_said_once() {
        let home = storage_core::Error::new(ErrorKind::Unauthorized, "no token").with_hint("give it a key");
        let error = storage_core::Error::from(Error::Home(home));
        assert_eq!(error.hint(), Some("give it a key"));
        assert_eq!(error.to_string(), "the home could not do it: no token (give it a key)");
    }
}
