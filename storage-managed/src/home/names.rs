//! What an object may be called: the same everywhere, so that a home can be copied from one kind to another.

use storage_core::{Error, Result};

/// The longest name of an object, in bytes.
const MAX_NAME_BYTES: usize = 200;

/// Refuses a name that some home could misread: it becomes a path here and a part of a URL there.
pub(super) fn check_name(name: &str) -> Result<()> {
    if name.split('/').all(is_plain) { check_length(name) } else { Err(refused(name)) }
}

/// As [`check_name`], for the beginning of names: it may be empty and end anywhere.
pub(super) fn check_prefix(prefix: &str) -> Result<()> {
    let (folders, last) =
        prefix.rsplit_once('/').map_or((None, prefix), |(folders, last)| (Some(folders), last));
    let is_plain_path = folders.is_none_or(|folders| folders.split('/').all(is_plain));
    if is_plain_path && (last.is_empty() || is_plain(last)) {
        check_length(prefix)
    } else {
        Err(refused(prefix))
    }
}

/// A leading dot is the home's own: lock files, and the `.` and `..` of file systems.
fn is_plain(segment: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(plain)
}

fn check_length(name: &str) -> Result<()> {
    if name.len() <= MAX_NAME_BYTES {
        return Ok(());
    }
    Err(Error::invalid_input(format!("the name of an object may have {MAX_NAME_BYTES} bytes")).with_key(name))
}

fn refused(name: &str) -> Error {
    Error::invalid_input("this cannot be the name of an object")
        .with_key(name)
        .with_hint("letters, digits, `.`, `_` and `-` between single slashes, and no leading dot")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_home_are_refused() {
        for name in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../head",
            "seg/../../x",
            "seg//1",
            "seg/",
            ".lock",
            "a\\b",
            "a:b",
            "ä",
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name(&"n".repeat(201)).is_err());
        for name in ["head", "seg/0001-ab.zst", "base/a_b/c"] {
            check_name(name).unwrap();
        }
    }

    #[test]
    fn prefixes_may_end_anywhere_but_not_leave_the_home() {
        for prefix in ["", "seg/", "seg/00", "head"] {
            check_prefix(prefix).unwrap();
        }
        for prefix in ["/", "../", "seg//", "seg/..", ".tmp/"] {
            assert!(check_prefix(prefix).is_err(), "{prefix}");
        }
    }
}
