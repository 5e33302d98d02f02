//! What a folder's errors say.

use std::io;

use storage_core::{Error, ErrorKind};

/// What to do where the folder is not there.
const MOUNTED: &str = "see that the folder of the home is there, and its disk or share mounted and sound";

/// An error of the system where nothing was done.
pub(super) fn failed(error: &io::Error) -> Error {
    let (kind, hint) = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            (ErrorKind::Unauthorized, "let this user read and write the folder of the home and all below it")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (ErrorKind::Unavailable, "make room where the home is; what was acknowledged is there")
        }
        _ => (ErrorKind::Unavailable, MOUNTED),
    };
    Error::new(kind, format!("the folder refused it: {error}")).with_hint(hint)
}

/// Where the folder is not the one that it was, and nothing was done.
pub(super) fn away(what: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, what).with_hint(MOUNTED)
}
