//! What tasks answer.

/// A result of a task. Errors are read by people, never matched on.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
