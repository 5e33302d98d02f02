//! Names that do not fit a key: a hash stands there for them, and they stand whole beside it.

use std::borrow::Cow;

use storage_core::{Error, MAX_KEY_BYTES, Result, sort_key};

use super::chunks::hash;

/// What a hash begins with. A short name that does is hashed, too, so that it meets no long one.
const HASHED: &str = "\u{1}#";
/// The longest thread id, namespace, task id or channel, in bytes: whole they stand in attributes.
pub(super) const MAX_NAME_BYTES: usize = 8 * 1024;
/// The longest namespace that stands in keys as it is. Ids of LangGraph's checkpoints and hashes fit beside it.
const MOST_IN_KEYS: usize = 936;

/// The name, or the hash of one that is longer than `most` bytes where it stands in a key.
fn shortened(name: &str, most: usize) -> Cow<'_, str> {
    let is_long = sort_key(&[name]).len() > most;
    if is_long || name.starts_with(HASHED) { hashed(name).into() } else { name.into() }
}

/// A namespace as it stands in keys.
pub(super) fn namespace_in_keys(ns: &str) -> Cow<'_, str> {
    shortened(ns, MOST_IN_KEYS)
}

/// A thread's id as it stands in the name of its partition, of a kind of so many bytes.
pub(super) fn thread_in_keys<'a>(thread_id: &'a str, kind: &str) -> Cow<'a, str> {
    shortened(thread_id, MAX_KEY_BYTES - kind.len() - 1)
}

/// What stands in a key for names that do not fit.
pub(super) fn hashed(names: &str) -> String {
    format!("{HASHED}{:032x}", hash(names.as_bytes()))
}

/// Whether it is the hash of a name, as the functions above make it.
pub(super) fn is_hashed(in_keys: &str) -> bool {
    in_keys.starts_with(HASHED)
}

/// The key as it is where it fits, else what stands for it.
pub(super) fn fitting(key: String, or: impl FnOnce() -> String) -> String {
    if key.len() <= MAX_KEY_BYTES { key } else { or() }
}

/// Checks a name that may be long.
pub(super) fn check_name(what: &'static str, name: &str) -> Result<()> {
    if name.len() > MAX_NAME_BYTES {
        let message = format!("a {what} may have {MAX_NAME_BYTES} bytes; this one has {}", name.len());
        return Err(Error::invalid_input(message).with_hint("name it by a hash of its text"));
    }
    if name.contains('\0') {
        return Err(Error::invalid_input(format!("a {what} may not hold a NUL character")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_fits_stays_and_no_name_meets_another() {
        let long = "n".repeat(MOST_IN_KEYS + 1);
        let hash = namespace_in_keys(&long).into_owned();
        let fits = [String::new(), "a|b:c%".to_owned(), "n".repeat(MOST_IN_KEYS), "\u{1}".to_owned()];
        for name in &fits {
            assert_eq!(namespace_in_keys(name), *name);
        }
        let colons = ":".repeat(MOST_IN_KEYS / 3 + 1);
        for (name, other) in [(&long, &colons), (&colons, &hash), (&hash, &long)] {
            let in_keys = namespace_in_keys(name);
            assert!(is_hashed(&in_keys) && in_keys.len() == hash.len());
            assert_ne!(in_keys, namespace_in_keys(other));
        }
    }
}
