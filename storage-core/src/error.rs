//! The one error type of the house.
//!
//! An [`Error`] tells its caller *what to do* through its [`ErrorKind`], and says where it happened: the operation,
//! the backend and the key. Passwords, tokens and values never appear in it.

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc};

/// A `Result` whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;
/// Shared, because callers who shared a round trip share its failure.
type SharedSource = Arc<dyn StdError + Send + Sync + 'static>;

/// What went wrong, named by what the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument breaks the contract. Nothing was sent. Correct the call.
    InvalidInput,
    /// The backend is not connected: before the first `connect` or after `disconnect`.
    NotConnected,
    /// The store could not be reached or could not take the work. Nothing was applied: a retry is safe.
    Unavailable,
    /// The deadline passed before anything was applied: a retry is safe.
    Timeout,
    /// A write was sent and its answer was lost: it happened whole or not at all. Read before you write again.
    OutcomeUnknown,
    /// Somebody else changed the entry, or it exists already. Read again and decide.
    Conflict,
    /// This backend, or this combination of keys, cannot do it.
    Unsupported,
    /// What one entry holds is not what was written: not JSON, or not of the expected shape. Others are not affected.
    Corrupt,
    /// The store refused the credentials or the permission. Nothing was applied.
    Unauthorized,
    /// A setting is missing, malformed or contradicts another.
    Config,
    /// The store has no room left: its disk, quota or memory is full. Nothing was applied. A person must make room.
    Full,
    /// The store itself is damaged: its file or its pages. A person must repair or restore it.
    Damaged,
    /// The server refuses such requests for good, as it is set up. Nothing was applied. A person must change it.
    Refused,
    /// A local copy and the store that it is of have no common continuation any more: each has what the other does not, or the
    /// store was made anew or brought back to an earlier state. Nothing was applied. A person must say which of them goes on.
    Diverged,
}

impl ErrorKind {
    /// A stable name in `snake_case`, for logs, metrics, alerts and machine-readable output.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::NotConnected => "not_connected",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Conflict => "conflict",
            Self::Unsupported => "unsupported",
            Self::Corrupt => "corrupt",
            Self::Unauthorized => "unauthorized",
            Self::Config => "config",
            Self::Full => "full",
            Self::Damaged => "damaged",
            Self::Refused => "refused",
            Self::Diverged => "diverged",
        }
    }

    /// What a caller may do about an error of this kind.
    #[must_use]
    pub fn retry(self) -> Retry {
        match self {
            Self::Unavailable | Self::Timeout => Retry::Safe,
            Self::OutcomeUnknown => Retry::IfIdempotent,
            Self::Conflict => Retry::AfterReading,
            Self::Full
            | Self::Damaged
            | Self::Refused
            | Self::Diverged
            | Self::Unauthorized
            | Self::Config => Retry::AfterRepair,
            Self::InvalidInput | Self::NotConnected | Self::Unsupported | Self::Corrupt => Retry::Never,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Retry advice, see [`ErrorKind::retry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Retry {
    /// The same call would fail again.
    Never,
    /// Nothing was applied: the same call may be made again, after a pause.
    Safe,
    /// The call may have been applied: make it again only if doing it twice is harmless.
    IfIdempotent,
    /// The state has moved: read it, then decide.
    AfterReading,
    /// Trying again helps only after a person has acted: made room, repaired the store, decided what goes
    /// on, or changed rights or settings.
    AfterRepair,
}

/// An error of a storage operation.
///
/// ```
/// use storage_core::{Error, ErrorKind};
///
/// let error = Error::invalid_input("a key may not be empty").at("memory", "get").with_hint("name the entry");
/// assert_eq!(error.kind(), ErrorKind::InvalidInput);
/// assert_eq!(error.to_string(), "memory get: a key may not be empty (name the entry)");
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    backend: Option<&'static str>,
    operation: Option<&'static str>,
    key: Option<String>,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    source: Option<SharedSource>,
}

impl Error {
    /// An error of `kind`. The message must not hold a value, a password or a token.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            backend: None,
            operation: None,
            key: None,
            message: message.into(),
            hint: None,
            source: None,
        }))
    }

    /// An [`ErrorKind::InvalidInput`].
    pub fn invalid_input(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// An [`ErrorKind::Corrupt`].
    pub fn corrupt(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// An [`ErrorKind::Config`].
    pub fn config(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// An [`ErrorKind::Unsupported`]: this backend has no such operation.
    #[must_use]
    pub fn unsupported(backend: &'static str, operation: &'static str) -> Self {
        Self::new(ErrorKind::Unsupported, "this backend does not support the operation")
            .at(backend, operation)
    }

    /// Says where it happened. What an inner layer has said already stays.
    #[must_use]
    pub fn at(mut self, backend: &'static str, operation: &'static str) -> Self {
        self.0.backend.get_or_insert(backend);
        self.0.operation.get_or_insert(operation);
        self
    }

    /// Names the entry. What an inner layer has said already stays.
    #[must_use]
    pub fn with_key(mut self, key: &str) -> Self {
        self.0.key.get_or_insert_with(|| key.to_owned());
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Says the same to do about it as another error does, where that says anything.
    #[must_use]
    pub fn with_hint_of(mut self, other: &Self) -> Self {
        if other.0.hint.is_some() {
            self.0.hint.clone_from(&other.0.hint);
        }
        self
    }

    /// The error alone, for whoever shows the hint elsewhere.
    #[must_use]
    pub fn without_hint(mut self) -> Self {
        self.0.hint = None;
        self
    }

    /// Keeps what caused it. The source must not hold a value, a password or a token.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// What went wrong, named by what the caller can do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The [kind's](ErrorKind::code) stable name, for machines.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.kind.code()
    }

    /// What the caller may do about it.
    #[must_use]
    pub fn retry(&self) -> Retry {
        self.0.kind.retry()
    }

    /// The backend's name, where known.
    #[must_use]
    pub fn backend(&self) -> Option<&'static str> {
        self.0.backend
    }

    /// The operation's name, where known.
    #[must_use]
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// The entry's key, where one entry is meant.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// The message without the place, the hint and the source.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do about it, where there is more to say than the kind does.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

/// At most this many characters of a key are shown: a key may have 1,024 bytes.
const SHOWN_KEY_CHARS: usize = 80;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        let place = [inner.backend, inner.operation];
        let mut separator = "";
        for part in place.into_iter().flatten() {
            write!(f, "{separator}{part}")?;
            separator = " ";
        }
        if let Some(key) = &inner.key {
            let shown: String = key.chars().take(SHOWN_KEY_CHARS).collect();
            let ellipsis = if shown.len() < key.len() { "…" } else { "" };
            write!(f, "{separator}`{}{ellipsis}`", shown.escape_debug())?;
            separator = " ";
        }
        let colon = if separator.is_empty() { "" } else { ": " };
        write!(f, "{colon}{}", inner.message)?;
        match &inner.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        f.debug_struct("Error")
            .field("kind", &inner.kind)
            .field("backend", &inner.backend)
            .field("operation", &inner.operation)
            .field("key", &inner.key)
            .field("message", &inner.message)
            .field("hint", &inner.hint)
            .field("source", &inner.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_place_key_message_and_hint_but_not_the_source() {
        let error = Error::new(ErrorKind::Unavailable, "the server is gone")
            .at("redis", "set")
            .at("hybrid", "ignored")
            .with_key("deal:\n1")
            .with_hint("start it")
            .with_source("secret detail");
        assert_eq!(error.to_string(), "redis set `deal:\\n1`: the server is gone (start it)");
        assert_eq!(error.source().unwrap().to_string(), "secret detail");
    }

    #[test]
    fn display_shortens_a_long_key() {
        let error = Error::invalid_input("too long").with_key(&"k".repeat(1024));
        assert!(error.to_string().len() < 200);
    }

    #[test]
    fn only_errors_that_applied_nothing_are_safe_to_retry() {
        assert_eq!(ErrorKind::Unavailable.retry(), Retry::Safe);
        assert_eq!(ErrorKind::OutcomeUnknown.retry(), Retry::IfIdempotent);
        assert_eq!(ErrorKind::Conflict.retry(), Retry::AfterReading);
        assert_eq!(ErrorKind::Corrupt.retry(), Retry::Never);
        assert_eq!(ErrorKind::Full.retry(), Retry::AfterRepair);
        assert_eq!(ErrorKind::Diverged.retry(), Retry::AfterRepair);
        assert_eq!(ErrorKind::Unauthorized.retry(), Retry::AfterRepair);
    }
}
