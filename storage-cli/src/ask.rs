//! Asking a person.

use std::io::{IsTerminal, Write, stderr, stdin};

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

/// Goes on where deleting was agreed to, on the command line or by whoever sits at the terminal.
pub(crate) fn to_delete(what: &str, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !stdin().is_terminal() {
        let failure = Failure::input(format!("nothing was deleted: nobody was asked about {what}"));
        return Err(failure.hint("with --yes it is deleted"));
    }
    if agrees(&format!("Delete {what}?"))? {
        return Ok(());
    }
    Err(Failure::input("nothing was deleted".to_owned()))
}
