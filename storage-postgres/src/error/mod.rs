//! What an error of the driver means to the caller.
//!
//! The server's messages can quote values, so none is passed on: the SQLSTATE and our own words are.

mod sqlstate;
mod state;

use std::{error::Error as StdError, time::Duration};

use storage_core::{Error, ErrorKind, Result, engine};

pub(crate) use self::state::State;

/// The backend's name in errors and health.
pub(crate) const NAME: &str = "postgres";

/// Why a statement has no answer, and what that leaves open.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) state: State,
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
            return Self { error: sqlstate::refused(code.code()), state: sqlstate::state(code.code()) };
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

/// The error of an attempt to connect.
pub(crate) fn connect_error(error: &tokio_postgres::Error) -> Error {
    if let Some(refused) = error.as_db_error() {
        return sqlstate::refused_at_login(refused.code().code(), refused.message());
    }
    let causes = || std::iter::successors(error.source(), |cause| StdError::source(*cause));
    if let Some(cause) = causes().find_map(tls_cause) {
        return Error::config(format!("the TLS handshake failed: {cause}"))
            .with_hint("name the authority's certificate, or a self-signed one itself, in POSTGRES_TLS_CA or sslrootcert, and check the host's name; where nothing can be verified, POSTGRES_TLS_VERIFY=none");
    }
    if let Some(error) = causes().find_map(|cause| login_cause(&cause.to_string())) {
        return error;
    }
    if let Some(cause) = causes().find_map(<dyn StdError>::downcast_ref::<std::io::Error>) {
        return engine::unreachable(cause);
    }
    // All others are told apart by the driver's own words alone; they hold no value.
    match error.to_string().as_str() {
        "error performing TLS handshake" => Error::config("the server does not speak TLS").with_hint(
            "turn `ssl` on at the server; in a network that is trusted sslmode=prefer takes an unencrypted connection too",
        ),
        "authentication error" | "invalid configuration" => {
            Error::new(ErrorKind::Unauthorized, "the login failed")
                .with_hint("check user and password, and that the server offers a login with a password")
        }
        _ => Error::new(ErrorKind::Unavailable, "the server closed the connection before the login was done"),
    }
}

/// What rustls says, which names certificates and hosts and holds no secret.
fn tls_cause(cause: &(dyn StdError + 'static)) -> Option<String> {
    use rustls::{CertificateError, Error as Tls};
    let io = cause.downcast_ref::<std::io::Error>()?;
    Some(match io.get_ref()?.downcast_ref::<Tls>()? {
        // WebPKI's own words come as an opaque error.
        Tls::InvalidCertificate(CertificateError::Other(why)) => match format!("{:?}", why.0).as_str() {
            "CaUsedAsEndEntity" => {
                "the server's certificate is self-signed, and not among the roots".to_owned()
            }
            why => format!("the server's certificate is invalid: {why}"),
        },
        error => error.to_string(),
    })
}

/// What the driver says about a login that did not begin, which holds no value.
fn login_cause(cause: &str) -> Option<Error> {
    match cause {
        "password missing" => Some(
            Error::new(ErrorKind::Unauthorized, "the server asks for a password, and none is set")
                .with_hint("set it in the URL, in PGPASSWORD, or in the file of PGPASSFILE, which only its owner may read"),
        ),
        _ if cause.contains("channel binding") => Some(
            Error::config("channel binding is required, and the connection has no TLS or the server offers none")
                .with_hint("set sslmode=require or more, or leave channel_binding=require out"),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(kind(State::ReadOnly, true), ErrorKind::Unavailable);
        assert_eq!(kind(State::Closed, true), ErrorKind::Unavailable);
    }
}
