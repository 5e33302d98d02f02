//! Asking a person.

use std::io::{Write, stderr, stdin};

use crate::failure::{Failure, Result};

/// Whether whoever sits at the terminal agrees.
pub(crate) fn agrees(question: &str) -> Result<bool> {
    let mut answer = String::new();
    let asked = write!(stderr(), "{question} [y/N] ")
        .and_then(|()| stderr().flush())
        .and_then(|()| stdin().read_line(&mut answer));
    asked.map_err(|error| Failure::input(format!("the answer cannot be read: {error}")))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
