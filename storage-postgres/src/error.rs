//! What an error of the driver means to the caller.
//!
//! The server's messages can quote values, so none is passed on: the SQLSTATE and our own words are.

use std::{error::Error as StdError, time::Duration};

use storage_core::{Error, ErrorKind, Result, engine};

/// The backend's name in errors and health.
pub(crate) const NAME: &str = "postgres";

/// Why a statement has no answer, and what that leaves open.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) state: State,
}

/// What is known about the statement that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The server refused it, or it never left: nothing was applied, and the same would happen again.
    Refused,
    /// The server refused what is in it: nothing was applied, and without the item at fault it would succeed.
    Unfit,
    /// The server rolled it back for another's sake: nothing was applied, and it may well succeed now.
    RolledBack,
    /// The server closed the connection instead of running it: nothing was applied.
    Closed,
    /// The connection broke while it was under way.
    Lost,
    /// The deadline passed while it was under way.
    Late,
}

impl Failure {
    pub(crate) fn late(limit: Duration) -> Self {
        let error = Error::new(ErrorKind::Timeout, format!("no answer within {limit:?}"));
        Self { error, state: State::Late }
    }

    /// The caller's error. A write that may have been applied is `OutcomeUnknown`.
    pub(crate) fn into_error(self, write: bool) -> Error {
        match self.state {
            State::Lost | State::Late if write => {
                Error::new(ErrorKind::OutcomeUnknown, self.error.message().to_owned())
                    .with_hint("read the entry before writing again")
            }
            _ => self.error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, state: State::Refused }
    }
}

/// The failure of a statement on an open connection.
impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(code) = error.code() {
            return Self { error: refused(code.code()), state: state(code.code()) };
        }
        match error.source().and_then(<dyn StdError>::downcast_ref::<std::io::Error>) {
            Some(cause) if cause.kind() == std::io::ErrorKind::InvalidInput && !error.is_closed() => {
                // The driver could not write the message: the arrays of one call are limited to 1 GiB.
                Error::invalid_input("one call is too large for Postgres")
                    .with_hint("split it into several")
                    .into()
            }
            _ => Self {
                error: Error::new(ErrorKind::Unavailable, "the connection to the server broke"),
                state: State::Lost,
            },
        }
    }
}

/// Names backend and operation in an error.
pub(crate) fn named<T>(operation: &'static str, answer: Result<T>) -> Result<T> {
    answer.map_err(|error| error.at(NAME, operation))
}

/// [`named`] for a call that concerns one key.
pub(crate) async fn on_key<T>(
    operation: &'static str,
    key: &str,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    call.await.map_err(|error| error.at(NAME, operation).with_key(key))
}

/// Nothing was sent: no connection was to be had.
pub(crate) fn exhausted(limit: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("no connection of the pool became free within {limit:?}"))
        .with_hint("see that the server answers; else raise POSTGRES_POOL_MAX, or send less at once")
}

/// The work ended without an answer. `late` is what a caller is told where it takes too long.
pub(crate) fn interrupted(late: ErrorKind) -> Error {
    let kind = if late == ErrorKind::OutcomeUnknown { late } else { ErrorKind::Unavailable };
    Error::new(kind, "the work of the call was interrupted")
}

fn state(code: &str) -> State {
    match (code, code.get(..2).unwrap_or_default()) {
        ("40001" | "40P01", _) => State::RolledBack,
        ("57P01" | "57P03", _) => State::Closed,
        // An emergency stop may come between the commit and its answer, and class 08 is how a pooler says that it has
        // lost the server.
        ("57P02", _) | (_, "08") => State::Lost,
        // Values, constraints, triggers, row security, limits, and damaged rows.
        ("42501", _) | (_, "22" | "23" | "44" | "54" | "P0" | "XX") => State::Unfit,
        _ => State::Refused,
    }
}

/// The error of an attempt to connect.
pub(crate) fn connect_error(error: &tokio_postgres::Error) -> Error {
    if let Some(code) = error.code() {
        return refused(code.code());
    }
    let causes = || std::iter::successors(error.source(), |cause| StdError::source(*cause));
    if let Some(cause) = causes().find_map(tls_cause) {
        return Error::config(format!("the TLS handshake failed: {cause}"))
            .with_hint("check sslmode, sslrootcert and the host's name");
    }
    if let Some(cause) = causes().find_map(<dyn StdError>::downcast_ref::<std::io::Error>) {
        return engine::unreachable(cause);
    }
    // All others are told apart by the driver's own words alone; they hold no value.
    match error.to_string().as_str() {
        "error performing TLS handshake" => Error::config("the server does not speak TLS")
            .with_hint("sslmode=prefer takes an unencrypted connection too"),
        "authentication error" | "invalid configuration" => {
            Error::new(ErrorKind::Unauthorized, "the login failed")
                .with_hint("check user and password, and that the server offers a login with a password")
        }
        _ => Error::new(ErrorKind::Unavailable, "the server closed the connection before the login was done"),
    }
}

/// What rustls says, which names certificates and hosts and holds no secret.
fn tls_cause(cause: &(dyn StdError + 'static)) -> Option<String> {
    let io = cause.downcast_ref::<std::io::Error>()?;
    io.get_ref()?.downcast_ref::<rustls::Error>().map(ToString::to_string)
}

fn refused(code: &str) -> Error {
    let (kind, message, hint) = meaning(code);
    let error = Error::new(kind, format!("{message} (SQLSTATE {code})"));
    if hint.is_empty() { error } else { error.with_hint(hint) }
}

/// What an SQLSTATE means to the caller: kind, words and a hint. A statement that was refused applied nothing.
fn meaning(code: &str) -> (ErrorKind, &'static str, &'static str) {
    use ErrorKind::{Config, Damaged, Full, InvalidInput, Refused, Timeout, Unauthorized, Unavailable};
    let class = code.get(..2).unwrap_or_default();
    match (code, class) {
        ("57014", _) => (Timeout, "the server ended the statement at its time limit", ""),
        ("57P01", _) => (Unavailable, "the server ended the connection: it is stopping, or was told to", ""),
        ("57P02" | "57P03", _) => (Unavailable, "the server is stopping or starting", ""),
        ("53300", _) => (
            Unavailable,
            "the server has no connection left",
            "lower POSTGRES_POOL_MAX or raise max_connections",
        ),
        ("53100", _) => (Full, "the server's disk is full", "make room on the server's disk"),
        ("25006", _) => (
            Unavailable,
            "the server takes no writes",
            "it may be a standby: name the primary, or several hosts with target_session_attrs=read-write",
        ),
        ("40001" | "40P01", _) => (Unavailable, "the server rolled back in favour of others", ""),
        ("42501", _) => (Unauthorized, "the role may not do this", "grant it the rights on the table"),
        (_, "28") => (Unauthorized, "the login was refused", "check user, password and pg_hba.conf"),
        ("3D000", _) => (Config, "the database does not exist", "create it, or correct the URL"),
        ("3F000", _) => (Config, "the schema does not exist", ""),
        ("42P01", _) => (Unavailable, "the table is gone", "connect again to create it"),
        ("08P01", _) => {
            (Config, "the server or a pooler refused the settings", "behind a pooler set `pooler`")
        }
        (_, "26") | ("42P05", _) => {
            (Config, "a prepared statement was lost", "behind a pooler in transaction mode set `pooler`")
        }
        ("54000", _) | (_, "22") => (InvalidInput, "Postgres cannot keep this value", ""),
        ("XX001" | "XX002", _) => (Damaged, "the server found its data damaged", "restore a backup"),
        ("0A000", _) => (Refused, "the server does not do this, as it is set up", ""),
        (_, "42") => (Config, "the table kv_store has another shape than expected", ""),
        _ => (Unavailable, "the server refused the statement", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_by_table() {
        use ErrorKind::*;
        for (code, kind) in [
            ("57014", Timeout),
            ("57P01", Unavailable),
            ("57P03", Unavailable),
            ("53300", Unavailable),
            ("53100", Full),
            ("0A000", Refused),
            ("25006", Unavailable),
            ("40P01", Unavailable),
            ("28P01", Unauthorized),
            ("28000", Unauthorized),
            ("42501", Unauthorized),
            ("3D000", Config),
            ("26000", Config),
            ("42804", Config),
            ("42P01", Unavailable),
            ("22P05", InvalidInput),
            ("54000", InvalidInput),
            ("XX001", Damaged),
            ("P0001", Unavailable),
            ("", Unavailable),
        ] {
            assert_eq!(meaning(code).0, kind, "{code}");
        }
    }

    #[test]
    fn what_a_refusal_leaves_open_by_table() {
        for (code, expected) in [
            ("40P01", State::RolledBack),
            ("57P01", State::Closed),
            ("57P02", State::Lost),
            ("08006", State::Lost),
            ("22P05", State::Unfit),
            ("23514", State::Unfit),
            ("42501", State::Unfit),
            ("54000", State::Unfit),
            ("P0001", State::Unfit),
            ("XX001", State::Unfit),
            ("57014", State::Refused),
            ("53100", State::Refused),
            ("42P01", State::Refused),
            ("25006", State::Refused),
            ("", State::Refused),
        ] {
            assert_eq!(state(code), expected, "{code}");
        }
    }

    #[test]
    fn only_a_write_that_was_under_way_has_an_unknown_outcome() {
        let kind = |state, write| {
            let error = Error::new(ErrorKind::Unavailable, "broke");
            Failure { error, state }.into_error(write).kind()
        };
        assert_eq!(kind(State::Lost, true), ErrorKind::OutcomeUnknown);
        assert_eq!(kind(State::Late, true), ErrorKind::OutcomeUnknown);
        assert_eq!(kind(State::Lost, false), ErrorKind::Unavailable);
        assert_eq!(kind(State::Refused, true), ErrorKind::Unavailable);
        assert_eq!(kind(State::RolledBack, true), ErrorKind::Unavailable);
    }
}
