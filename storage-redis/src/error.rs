//! What went wrong, in the words of the contract. Nothing that a server says is passed on: it may quote
//! keys, values and credentials.

use std::io;

use storage_core::{Error, ErrorKind, engine};

use crate::statements::answer::ServerError;

/// The backend's name in errors, logs and health.
pub(crate) const NAME: &str = "redis";

/// Whether a call may change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// Why a request has no answer.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// It surely never left.
    NotSent(Error),
    /// The connection broke while it was under way.
    Lost,
    /// The deadline passed while it was under way.
    TimedOut,
}

impl Failure {
    pub(crate) fn into_error(self, access: Access) -> Error {
        match (self, access) {
            (Self::NotSent(error), _) => error,
            (Self::Lost, Access::Read) => {
                Error::new(ErrorKind::Unavailable, "the connection to the server broke")
            }
            (Self::Lost, Access::Write) => {
                Error::new(ErrorKind::OutcomeUnknown, "the connection to the server broke before its answer")
            }
            (Self::TimedOut, Access::Read) => Error::new(ErrorKind::Timeout, "no answer within the deadline"),
            (Self::TimedOut, Access::Write) => {
                Error::new(ErrorKind::OutcomeUnknown, "no answer within the deadline")
            }
        }
    }
}

/// An error that the server answered: it applied nothing.
pub(crate) fn refused(error: &ServerError) -> Error {
    let code = error.code();
    let kind = kind_of(code, error.details());
    let message = match kind {
        ErrorKind::Unauthorized => "the server refused the credentials or the permission",
        ErrorKind::Corrupt => "the stored entry is no text",
        ErrorKind::Config => "the server is set up differently than the URL says",
        ErrorKind::Unsupported => "the server cannot do this",
        ErrorKind::Full => "the server's memory is full",
        ErrorKind::Refused => "the server takes no writes while it cannot save its snapshots",
        _ => "the server cannot take the work",
    };
    // A code is one upper-case word; what is none is something else's text.
    match !code.is_empty() && code.len() <= 20 && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
        true => Error::new(kind, format!("{message}: {code}")),
        false => Error::new(kind, message),
    }
}

fn kind_of(code: &str, details: &str) -> ErrorKind {
    match code {
        "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED" => ErrorKind::Unauthorized,
        "WRONGTYPE" => ErrorKind::Corrupt,
        "CROSSSLOT" => ErrorKind::Unsupported,
        // The router follows these on a cluster: seen elsewhere, the URL does not say that this is one.
        "MOVED" | "ASK" => ErrorKind::Config,
        "ERR" if details.contains("cluster support disabled") => ErrorKind::Config,
        "ERR" if details.contains("DB index is out of range") => ErrorKind::Config,
        "ERR" if details.starts_with("unknown command") => ErrorKind::Unsupported,
        "ERR" if details.contains("AUTH") || details.contains("invalid password") => ErrorKind::Unauthorized,
        "OOM" => ErrorKind::Full,
        // Its snapshots fail, and it is set up to take no writes then.
        "MISCONF" => ErrorKind::Refused,
        // What a command said inside a script, which the script passed on.
        "ERR" => match details.split_once(' ') {
            Some((inner @ ("OOM" | "MISCONF" | "NOPERM" | "WRONGTYPE"), details)) => kind_of(inner, details),
            _ => ErrorKind::Unavailable,
        },
        _ => ErrorKind::Unavailable,
    }
}

pub(crate) fn closed_at_once() -> Error {
    Error::new(ErrorKind::Unavailable, "the server closed the connection at once")
}

/// What answers is something else.
pub(crate) fn not_redis() -> Error {
    Error::config("what answers there does not speak Redis' protocol").with_hint("check host and port")
}

/// Reaching the server failed.
pub(crate) fn unreachable(error: &io::Error) -> Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(_)) => {
            Error::config("the server's certificate was not accepted")
                .with_hint("name its certificate authority and the host that it was made for")
        }
        Some(_) => Error::new(ErrorKind::Unavailable, "the TLS handshake with the server failed"),
        None => engine::unreachable(error),
    }
}

/// An answer of a shape that no Redis gives.
pub(crate) fn unexpected() -> Error {
    Error::corrupt("the server's answer has another shape than Redis gives")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_the_server_by_table() {
        let table = [
            ("LOADING", "Redis is loading the dataset in memory", ErrorKind::Unavailable),
            ("BUSY", "Redis is busy running a script", ErrorKind::Unavailable),
            ("CLUSTERDOWN", "The cluster is down", ErrorKind::Unavailable),
            ("TRYAGAIN", "Multiple keys request during rehashing of slot", ErrorKind::Unavailable),
            ("READONLY", "You can't write against a read only replica.", ErrorKind::Unavailable),
            ("OOM", "command not allowed when used memory > 'maxmemory'.", ErrorKind::Full),
            ("ERR", "OOM command not allowed script: 1d20, on @user_script:1.", ErrorKind::Full),
            ("MISCONF", "Redis is configured to save RDB snapshots", ErrorKind::Refused),
            ("ERR", "max number of clients reached", ErrorKind::Unavailable),
            ("NOAUTH", "Authentication required.", ErrorKind::Unauthorized),
            ("WRONGPASS", "invalid username-password pair", ErrorKind::Unauthorized),
            ("NOPERM", "this user has no permissions", ErrorKind::Unauthorized),
            ("WRONGTYPE", "Operation against a key", ErrorKind::Corrupt),
            ("CROSSSLOT", "Keys in request don't hash to the same slot", ErrorKind::Unsupported),
            ("ERR", "unknown command 'EVALSHA'", ErrorKind::Unsupported),
            ("ERR", "This instance has cluster support disabled", ErrorKind::Config),
            ("MOVED", "1 127.0.0.1:1", ErrorKind::Config),
        ];
        for (code, details, expected) in table {
            assert_eq!(kind_of(code, details), expected, "{code} {details}");
        }
    }

    #[test]
    fn only_a_write_under_way_has_an_unknown_outcome() {
        let kind = |failure: Failure, access| failure.into_error(access).kind();
        let not_sent = || Failure::NotSent(Error::new(ErrorKind::Unavailable, "refused"));
        assert_eq!(kind(not_sent(), Access::Write), ErrorKind::Unavailable);
        assert_eq!(kind(Failure::Lost, Access::Write), ErrorKind::OutcomeUnknown);
        assert_eq!(kind(Failure::TimedOut, Access::Write), ErrorKind::OutcomeUnknown);
        assert_eq!(kind(Failure::Lost, Access::Read), ErrorKind::Unavailable);
        assert_eq!(kind(Failure::TimedOut, Access::Read), ErrorKind::Timeout);
    }
}
