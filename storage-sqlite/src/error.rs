//! What the driver's errors mean to a caller.

use std::{io, path::Path};

use rusqlite::{
    self,
    ffi::{self, ErrorCode},
};
use storage_core::{Error, ErrorKind};

/// Why work on a connection failed, until it is known what that means to the caller.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is known already.
    Store(Error),
    /// The driver says so.
    Driver(rusqlite::Error),
    /// The connection cannot be used any more.
    Lost(Error),
}

/// What work on a connection answers.
pub(crate) type Answer<T> = Result<T, Fault>;

impl Fault {
    /// Whether the connection has to be opened again: the next call may find the file well.
    pub(crate) fn loses_connection(&self) -> bool {
        match self {
            Self::Store(_) => false,
            Self::Lost(_) => true,
            Self::Driver(error) => cause(error).is_some_and(|cause| {
                cause.extended_code == ffi::SQLITE_READONLY_DBMOVED
                    || matches!(
                        cause.code,
                        ErrorCode::SystemIoFailure
                            | ErrorCode::DatabaseCorrupt
                            | ErrorCode::NotADatabase
                            | ErrorCode::CannotOpen
                    )
            }),
        }
    }

    /// Whether it may be that the file can be read and not written to.
    pub(crate) fn may_refuse_writes_alone(&self) -> bool {
        match self {
            Self::Store(error) | Self::Lost(error) => error.kind() == ErrorKind::Unauthorized,
            Self::Driver(error) => cause(error).is_some_and(|cause| {
                matches!(
                    cause.code,
                    ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied
                ) && cause.extended_code != ffi::SQLITE_READONLY_DBMOVED
            }),
        }
    }

    /// Whether the file or what belongs to it cannot be opened.
    pub(crate) fn cannot_open(&self) -> bool {
        let Self::Driver(error) = self else { return false };
        cause(error).is_some_and(|cause| matches!(cause.code, ErrorCode::CannotOpen | ErrorCode::ReadOnly))
    }

    /// Whether somebody else holds the lock.
    pub(crate) fn is_busy(&self) -> bool {
        let Self::Driver(error) = self else { return false };
        cause(error).is_some_and(|c| matches!(c.code, ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
    }
}

/// The file is not the one any more that the connections are to. `log`: where its log was put.
pub(crate) fn moved(path: &Path, log: Option<&Path>) -> Error {
    let path = path.display();
    let message =
        format!("`{path}` is not the file any more that was connected to: it was moved, replaced or deleted");
    let hint = match log {
        None => "bring it back, or disconnect and connect again to go on with what is there now".to_owned(),
        Some(log) => format!(
            "disconnect and connect again to go on with what is there now; the log of the old file is `{}`",
            log.display()
        ),
    };
    Error::new(ErrorKind::Unavailable, message).with_hint(hint)
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Store(error) | Fault::Lost(error) => error,
            Fault::Driver(error) => from_driver(&error),
        }
    }
}

/// What work on a connection answers that has ended.
pub(crate) fn lost() -> Fault {
    Fault::Lost(Error::new(ErrorKind::Unavailable, "the connection to the file ended unexpectedly"))
}

/// A failed commit: unless SQLite surely undid it, nobody knows whether it will be there after a restart.
pub(crate) fn commit_fault(error: rusqlite::Error) -> Fault {
    match cause(&error) {
        Some(cause) if matches!(cause.code, ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt) => {
            Fault::Lost(
                Error::new(ErrorKind::OutcomeUnknown, message("the disk failed during the commit", cause))
                    .with_hint("read before you write again"),
            )
        }
        _ => Fault::Driver(error),
    }
}

/// A commit into a file that was found out of its place right after: where it comes back, the commit comes with it.
pub(crate) fn not_in_place(error: &Error) -> Fault {
    let message = format!("committed, but {}", error.message());
    let unknown = Error::new(ErrorKind::OutcomeUnknown, message);
    Fault::Store(match error.hint() {
        Some(hint) => unknown.with_hint(format!("{hint}; read before you write again")),
        None => unknown,
    })
}

/// SQLite's own code; the driver's other errors are about its use.
fn cause(error: &rusqlite::Error) -> Option<ffi::Error> {
    match error {
        rusqlite::Error::SqliteFailure(cause, _) | rusqlite::Error::SqlInputError { error: cause, .. } => {
            Some(*cause)
        }
        _ => None,
    }
}

/// The one place that turns the driver's errors into kinds. Its words are not kept: they may quote SQL or values.
fn from_driver(error: &rusqlite::Error) -> Error {
    let Some(cause) = cause(error) else {
        return Error::new(ErrorKind::Unavailable, "the driver refused the call");
    };
    let (kind, what, hint) = classify(cause);
    let error = Error::new(kind, message(what, cause));
    if hint.is_empty() { error } else { error.with_hint(hint) }
}

fn message(what: &str, cause: ffi::Error) -> String {
    format!("{what} (SQLite code {})", cause.extended_code)
}

fn classify(cause: ffi::Error) -> (ErrorKind, &'static str, &'static str) {
    use ErrorKind as Kind;
    if cause.extended_code == ffi::SQLITE_READONLY_DBMOVED {
        return (
            Kind::Unavailable,
            "the database file was moved or deleted",
            "disconnect and connect again to go on with what is there now",
        );
    }
    match cause.code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => (
            Kind::Timeout,
            "somebody else held the lock of the database file for too long",
            "look for a long transaction of another process",
        ),
        ErrorCode::OperationInterrupted => (Kind::Timeout, "the operation was interrupted", ""),
        // The index of the log is a file of its own, and mapped: a full disk shows when it has to grow.
        _ if cause.extended_code == ffi::SQLITE_IOERR_SHMSIZE => (
            Kind::Full,
            "the disk failed, as it does when it is full; nothing was written",
            "make room on the disk of the file",
        ),
        ErrorCode::DiskFull => {
            (Kind::Full, "the disk is full; nothing was written", "make room on the disk of the file")
        }
        ErrorCode::SystemIoFailure => (Kind::Unavailable, "the disk failed", "check the disk of the file"),
        ErrorCode::CannotOpen => (
            Kind::Unavailable,
            "the database file cannot be opened",
            "check that its folder is there and may be written to",
        ),
        ErrorCode::ReadOnly => (
            Kind::Unauthorized,
            "the database file may not be written to",
            "check the rights on the file, its folder, and a `-wal` and `-shm` beside it, which belong to whoever opened \
             the file first; and that the file system is not read-only",
        ),
        ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => {
            (Kind::Unauthorized, "access to the database file was denied", "check the rights on the file")
        }
        ErrorCode::NotADatabase => (
            Kind::Config,
            "the file is not a SQLite database",
            "name another file, or move this one out of the way; a `-wal` or `-journal` of another database beside it \
             has this effect too: move that away",
        ),
        // Not `Corrupt`, which means one entry, after which a listing goes on.
        ErrorCode::DatabaseCorrupt => (
            Kind::Damaged,
            "the database file is damaged",
            "stop its users; where the file was copied or restored, a `-wal` or `-journal` of another database may lie \
             beside it: move that away; else run `PRAGMA integrity_check` and restore a backup",
        ),
        ErrorCode::TooBig => (Kind::InvalidInput, "the value is longer than SQLite takes", ""),
        ErrorCode::Unknown | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch => (
            Kind::Config,
            "a table of the file is not as it should be",
            "kv_store needs the columns key TEXT PRIMARY KEY, value TEXT NOT NULL, expires_at REAL, and nothing else; \
             the tables storage_* are made by `storage init`, and where a program connects that may create them",
        ),
        ErrorCode::OutOfMemory => (Kind::Unavailable, "there is not enough memory", ""),
        _ => (Kind::Unavailable, "SQLite could not do it", ""),
    }
}

/// What it means that the file or its folder could not be opened or made.
pub(crate) fn from_io(error: &io::Error, verb: &str, path: &Path) -> Error {
    let (kind, hint) = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorKind::Unauthorized, "choose a folder that this user may write to")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (ErrorKind::Full, "make room on the disk")
        }
        io::ErrorKind::NotADirectory
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::NotFound
        | io::ErrorKind::InvalidFilename => {
            (ErrorKind::Config, "name a file in a folder that is there or can be made")
        }
        _ => (ErrorKind::Unavailable, "check the disk of the file"),
    };
    Error::new(kind, format!("cannot {verb} `{}`: {}", path.display(), error.kind())).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some("s3cret".to_owned()))
    }

    #[test]
    fn every_class_of_driver_error_has_its_kind() {
        let table = [
            (ffi::SQLITE_BUSY, ErrorKind::Timeout, false),
            (ffi::SQLITE_BUSY_SNAPSHOT, ErrorKind::Timeout, false),
            (ffi::SQLITE_LOCKED, ErrorKind::Timeout, false),
            (ffi::SQLITE_INTERRUPT, ErrorKind::Timeout, false),
            (ffi::SQLITE_FULL, ErrorKind::Full, false),
            (ffi::SQLITE_NOMEM, ErrorKind::Unavailable, false),
            (ffi::SQLITE_IOERR_FSYNC, ErrorKind::Unavailable, true),
            (ffi::SQLITE_IOERR_SHMSIZE, ErrorKind::Full, true),
            (ffi::SQLITE_CANTOPEN, ErrorKind::Unavailable, true),
            (ffi::SQLITE_CORRUPT, ErrorKind::Damaged, true),
            (ffi::SQLITE_NOTADB, ErrorKind::Config, true),
            (ffi::SQLITE_READONLY, ErrorKind::Unauthorized, false),
            (ffi::SQLITE_READONLY_DBMOVED, ErrorKind::Unavailable, true),
            (ffi::SQLITE_PERM, ErrorKind::Unauthorized, false),
            (ffi::SQLITE_AUTH, ErrorKind::Unauthorized, false),
            (ffi::SQLITE_TOOBIG, ErrorKind::InvalidInput, false),
            (ffi::SQLITE_ERROR, ErrorKind::Config, false),
            (ffi::SQLITE_CONSTRAINT_NOTNULL, ErrorKind::Config, false),
            (ffi::SQLITE_MISUSE, ErrorKind::Unavailable, false),
        ];
        for (code, kind, lost) in table {
            let fault = Fault::from(failure(code));
            assert_eq!(fault.loses_connection(), lost, "{code}");
            let error = Error::from(fault);
            assert_eq!(error.kind(), kind, "{code}");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{code}");
        }
    }

    #[test]
    fn a_damaged_file_may_lie_beside_the_log_of_another() {
        for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_CORRUPT_INDEX, ffi::SQLITE_NOTADB] {
            let error = Error::from(Fault::from(failure(code)));
            let hint = error.hint().unwrap();
            assert!(
                hint.contains("`-wal` or `-journal` of another database") && hint.contains("move that away")
            );
        }
    }

    #[test]
    fn a_commit_that_the_disk_failed_may_have_happened() {
        for (code, kind) in [
            (ffi::SQLITE_IOERR_FSYNC, ErrorKind::OutcomeUnknown),
            (ffi::SQLITE_FULL, ErrorKind::Full),
            (ffi::SQLITE_BUSY, ErrorKind::Timeout),
        ] {
            let fault = commit_fault(failure(code));
            assert_eq!(Error::from(fault).kind(), kind, "{code}");
        }
    }

    #[test]
    fn errors_of_the_file_system_have_their_kinds() {
        for (cause, kind) in [
            (io::ErrorKind::PermissionDenied, ErrorKind::Unauthorized),
            (io::ErrorKind::ReadOnlyFilesystem, ErrorKind::Unauthorized),
            (io::ErrorKind::StorageFull, ErrorKind::Full),
            (io::ErrorKind::NotADirectory, ErrorKind::Config),
            (io::ErrorKind::Other, ErrorKind::Unavailable),
        ] {
            assert_eq!(from_io(&cause.into(), "create", Path::new("a.db")).kind(), kind, "{cause}");
        }
    }
}
