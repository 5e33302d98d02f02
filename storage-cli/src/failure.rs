//! Why a command ends without success: what people and programs are told, and the exit code.

use std::io;

use serde::Serialize;
use storage_core::{Error, ErrorKind};

/// Done.
pub(crate) const DONE: u8 = 0;
/// Not there, not written, or not healthy.
pub(crate) const NO: u8 = 1;
/// Wrong usage, input or settings.
pub(crate) const USAGE: u8 = 2;
/// The store, or the output, failed.
pub(crate) const STORE: u8 = 3;
/// As shells count the death by Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// A `Result` whose error is [`Failure`].
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Why a command ended.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    #[serde(skip)]
    pub(crate) code: u8,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: u8, kind: &'static str, message: impl Into<String>) -> Self {
        Self { code, kind, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Wrong input, as the store itself would call it.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(USAGE, ErrorKind::InvalidInput.code(), message)
    }

    pub(crate) fn not_found(key: &str) -> Self {
        Self::new(NO, "not_found", format!("not found: `{}`", key.escape_debug()))
    }

    pub(crate) fn interrupted(message: impl Into<String>) -> Self {
        Self::new(INTERRUPTED, "interrupted", message)
    }

    /// What stdout answered. A reader that has gone, such as `head`, has all that it wanted.
    pub(crate) fn output(error: &io::Error) -> Self {
        let code = if error.kind() == io::ErrorKind::BrokenPipe { DONE } else { STORE };
        Self::new(code, "output", format!("the output cannot be written: {error}"))
    }

    /// Whether a store has not answered in time.
    pub(crate) fn is_silence(&self) -> bool {
        [ErrorKind::Timeout, ErrorKind::OutcomeUnknown].iter().any(|kind| kind.code() == self.kind)
    }

    /// The same failure, and how far the command had come.
    pub(crate) fn after(mut self, progress: &str) -> Self {
        self.message = format!("{}; {progress}", self.message);
        self
    }

    /// One line, without what may be a password.
    pub(crate) fn clean(mut self) -> Self {
        self.message = one_line(&self.message);
        self.hint = self.hint.as_deref().map(one_line);
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            ErrorKind::Config | ErrorKind::InvalidInput => USAGE,
            _ => STORE,
        };
        let hint = error.hint().or_else(|| usual_hint(error.kind())).map(str::to_owned);
        let kind = error.code();
        Self { hint, ..Self::new(code, kind, error.without_hint().to_string()) }
    }
}

impl From<storage_managed::Error> for Failure {
    fn from(error: storage_managed::Error) -> Self {
        let hint = match &error {
            storage_managed::Error::Diverged { .. } => Some(
                "`storage managed rescue export` writes what is kept to a file, `storage managed rescue resume` goes on \
                 from the home",
            ),
            storage_managed::Error::CacheInUse { .. } => {
                Some("end the program that uses it, or name another folder with --cache")
            }
            _ => None,
        };
        let failure = Self::from(Error::from(error));
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// What to do about an error that does not say it itself.
fn usual_hint(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::Unavailable => {
            Some("nothing was changed; see that the server runs, at the address that is set")
        }
        ErrorKind::Full => Some("nothing was changed; make room, then try again"),
        ErrorKind::Damaged => Some("stop its users and restore a backup"),
        ErrorKind::Diverged => Some("nothing was changed; say which of the two goes on"),
        ErrorKind::Refused => Some("nothing was changed; the server has to be set up otherwise"),
        ErrorKind::Timeout => Some("nothing was changed; try again, or give it longer with --timeout"),
        ErrorKind::OutcomeUnknown => Some("it happened whole or not at all; look before you write again"),
        ErrorKind::Conflict => Some("somebody else wrote at the same time; try again"),
        ErrorKind::Unauthorized => Some("check user and password in the URL, and what the user may do"),
        ErrorKind::Corrupt => {
            Some("another program may have written it; write it anew with set, or delete it")
        }
        _ => None,
    }
}

/// On one line, without what may be a password.
pub(crate) fn one_line(text: &str) -> String {
    let words = redact(text);
    words.split(char::is_control).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Hides the user, the password and the parameters of each URL: a URL may have been typed where none belongs, and parameters
/// may be passwords.
pub(crate) fn redact(text: &str) -> String {
    let mut parts = text.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| c.is_whitespace() || "'\"`".contains(c)).unwrap_or(part.len());
        let (address, rest) = part.split_at(end);
        let (login, place) = match address.rsplit_once('@') {
            // As our own hints write it.
            Some((EXAMPLE, place)) => ("user:password@", place),
            // The end of a parameter that is a password with an `@` in it, or of a login with a `?`.
            Some((login, _)) if login.contains('?') => ("…", ""),
            Some((_, place)) => ("…@", place),
            None => ("", address),
        };
        let (place, parameters) = match place.split_once('?') {
            Some((place, _)) => (place, "?…"),
            None => (place, ""),
        };
        shown.extend(["://", login, place, parameters, rest]);
    }
    shown
}

/// What stands for a login in hints.
const EXAMPLE: &str = "user:password";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_without_passwords() {
        let failure =
            Failure::input("no 'postgresql://me:p@ss@host/db' here\n  nor `redis://:pw@h` \u{1b}[1m").clean();
        assert_eq!(failure.message, "no 'postgresql://…@host/db' here nor `redis://…@h` [1m");
        assert_eq!(redact("plain a://b c@d"), "plain a://b c@d");
        assert_eq!(redact("redis://h:1?password=pw, x"), "redis://h:1?… x");
        assert_eq!(redact("redis://h/0?db=1&pass=p@ss x"), "redis://… x");
        assert_eq!(redact("redis://u:p?w@h x"), "redis://… x");
        assert_eq!(
            redact("write postgresql://user:password@host/d"),
            "write postgresql://user:password@host/d"
        );
    }

    #[test]
    fn the_hint_stands_apart_from_the_message() {
        let error = Error::config("Redis URL required").with_hint("set REDIS_URL");
        let failure = Failure::from(error);
        assert_eq!((failure.code, failure.message.as_str()), (USAGE, "Redis URL required"));
        assert_eq!(failure.hint.as_deref(), Some("set REDIS_URL"));
    }

    #[test]
    fn every_kind_has_its_exit_code() {
        for (kind, code) in [
            (ErrorKind::InvalidInput, USAGE),
            (ErrorKind::Config, USAGE),
            (ErrorKind::Unavailable, STORE),
            (ErrorKind::Timeout, STORE),
            (ErrorKind::OutcomeUnknown, STORE),
            (ErrorKind::Conflict, STORE),
            (ErrorKind::Unsupported, STORE),
            (ErrorKind::Corrupt, STORE),
            (ErrorKind::Unauthorized, STORE),
            (ErrorKind::NotConnected, STORE),
        ] {
            assert_eq!(Failure::from(Error::new(kind, "x")).code, code, "{kind}");
        }
    }
}
