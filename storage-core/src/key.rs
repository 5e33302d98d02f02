//! What a key may be, checked before any I/O.

use crate::{Error, Result};

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;

/// Checks a key: 1 to [`MAX_KEY_BYTES`] bytes, no NUL.
///
/// # Errors
/// `InvalidInput` naming what is wrong.
///
/// ```
/// assert!(storage_core::check_key("deal:d-1").is_ok());
/// assert!(storage_core::check_key("").is_err());
/// ```
pub fn check_key(key: &str) -> Result<()> {
    let wrong = if key.is_empty() {
        Error::invalid_input("a key may not be empty")
    } else if key.len() > MAX_KEY_BYTES {
        Error::invalid_input(format!("a key may have {MAX_KEY_BYTES} bytes; this one has {}", key.len()))
    } else if key.as_bytes().contains(&0) {
        Error::invalid_input("a key may not hold a NUL character")
    } else {
        return Ok(());
    };
    Err(wrong.with_key(key))
}

/// Builds `{prefix}{id}` and checks it; an empty id is `InvalidInput`.
///
/// # Errors
/// `InvalidInput` where the id is empty or the key is not a key.
pub fn join_key(prefix: &str, id: &str) -> Result<String> {
    if id.is_empty() {
        return Err(Error::invalid_input("an id may not be empty").with_key(prefix));
    }
    let key = format!("{prefix}{id}");
    check_key(&key)?;
    Ok(key)
}

/// The part of a key that routes it: up to and including the first `:`, or the whole key without one.
///
/// ```
/// assert_eq!(storage_core::key_prefix("deal:a:b"), "deal:");
/// assert_eq!(storage_core::key_prefix("counter"), "counter");
/// ```
#[must_use]
pub fn key_prefix(key: &str) -> &str {
    key.split_inclusive(':').next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn keys_at_the_limits() {
        assert!(check_key("k").is_ok());
        assert!(check_key(&"k".repeat(1024)).is_ok());
        for bad in ["".to_owned(), "k".repeat(1025), "é".repeat(513), "a\0b".to_owned()] {
            assert_eq!(check_key(&bad).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn an_empty_id_is_refused() {
        assert_eq!(join_key("deal:", "").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(join_key("deal:", "a:b").unwrap(), "deal:a:b");
    }
}
