//! What went wrong, in the words of the contract. Nothing that a server says is passed on: it may quote
//! keys, values and credentials.

use std::{borrow::Cow, io};

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
    let cause = error.cause();
    let code = cause.code();
    let (kind, message, hint) = meaning(code, cause.details());
    let message = match permission(cause.details()).filter(|_| kind == ErrorKind::Unauthorized) {
        Some(command) => format!("the server's user may not run {command}"),
        None => message.to_owned(),
    };
    // A code is one upper-case word; what is none is something else's text.
    let shown = !code.is_empty() && code.len() <= 20 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    let refused = Error::new(kind, if shown { format!("{message}: {code}") } else { message });
    if hint.is_empty() { refused } else { refused.with_hint(hint) }
}

type Meaning = (ErrorKind, &'static str, &'static str);

/// What an answer means, and what to do about it.
fn meaning(code: &str, details: &str) -> Meaning {
    let unavailable = |message, hint| (ErrorKind::Unavailable, message, hint);
    match code {
        "NOAUTH" | "WRONGPASS" => (ErrorKind::Unauthorized, CREDENTIALS, "check user and password"),
        "NOPERM" => NOT_ALLOWED,
        "DENIED" => (
            ErrorKind::Unauthorized,
            "the server is protected: it takes no connection from other machines without a password",
            "set a password on the server, or protected-mode no",
        ),
        "WRONGTYPE" => (ErrorKind::Corrupt, "the stored entry is no text", ""),
        "CROSSSLOT" => (ErrorKind::Unsupported, "the keys are in different slots of the cluster", ""),
        // The router follows these on a cluster: seen elsewhere, the URL does not say that this is one.
        "MOVED" | "ASK" => (
            ErrorKind::Config,
            "the server is a node of a Redis Cluster",
            "write redis-cluster:// instead of redis://",
        ),
        "NOPROTO" => (ErrorKind::Unsupported, "the server does not speak this version of the protocol", ""),
        "OOM" => (
            ErrorKind::Full,
            "the server's memory is full",
            "raise maxmemory, or let keys be evicted or expire",
        ),
        "MISCONF" => (
            ErrorKind::Refused,
            "the server takes no writes while it cannot save its snapshots or its log",
            "look into its log; its disk may be full",
        ),
        "NOREPLICAS" => unavailable(
            "the server has fewer replicas than it needs for a write",
            "see why they are gone, or lower min-replicas-to-write",
        ),
        "READONLY" => unavailable(
            "the server is a replica, and takes no writes",
            "name what leads to the master: redis+sentinel://, or a name that follows it",
        ),
        "MASTERDOWN" => unavailable(
            "the server is a replica that has lost its master",
            "see why its master is gone, or name what leads to the one there is now",
        ),
        "LOADING" => unavailable("the server is still reading its data", "wait until it has"),
        "BUSY" => unavailable("the server is busy with a script", "wait for it, or end it with SCRIPT KILL"),
        "UNKILLABLE" => unavailable(
            "the server is busy with a script that has written, and cannot be stopped",
            "wait for it",
        ),
        "CLUSTERDOWN" => unavailable(
            "the cluster does not serve all of its slots",
            "`redis-cli --cluster check` says which",
        ),
        "TRYAGAIN" => unavailable("the keys are on their way to another node", "try again"),
        "EXECABORT" => unavailable("the server gave the transaction up", ""),
        "ERR" | "The" => in_words(details, code),
        _ => unavailable("the server cannot take the work", ""),
    }
}

const CREDENTIALS: &str = "the server refused the credentials";
const NOT_ALLOWED: Meaning = (
    ErrorKind::Unauthorized,
    "the server's user may not do this",
    "the documentation of storage-redis lists the least rights",
);

/// Errors without a code of their own, told apart by their words.
fn in_words(details: &str, code: &str) -> Meaning {
    let starts = |words: &str| details.starts_with(words);
    match () {
        // Redis 6 gives them no code at all inside a script.
        () if code == "The"
            || starts("The user executing the script can't")
            || starts("ACL failure in script") =>
        {
            NOT_ALLOWED
        }
        () if details.contains("cluster support disabled") => (
            ErrorKind::Config,
            "the server is no Redis Cluster",
            "write redis:// instead of redis-cluster://",
        ),
        () if details.contains("DB index is out of range") => {
            (ErrorKind::Config, "the server has no database of this number", "")
        }
        () if starts("unknown command") => (
            ErrorKind::Unsupported,
            "the server does not know the command",
            "it needs to be Redis 6.2 or newer, Valkey, or what speaks like them",
        ),
        () if details.contains("max number of clients") => {
            (ErrorKind::Unavailable, "the server has as many connections as it takes", "raise its maxclients")
        }
        () if details.contains("AUTH") || details.contains("invalid password") => {
            (ErrorKind::Unauthorized, CREDENTIALS, "check user and password")
        }
        () => (ErrorKind::Unavailable, "the server cannot take the work", ""),
    }
}

/// The command that the server's user may not run, where the server names it: `... to run the 'client|setname' command`.
fn permission(details: &str) -> Option<String> {
    let (_, after) = details.split_once("run the '")?;
    let (command, _) = after.split_once('\'')?;
    // It is the server's own word, as far as it looks like one.
    let is_command = |text: &str| {
        text.len() <= 40 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"|-_.".contains(&byte))
    };
    is_command(command).then(|| command.to_ascii_uppercase())
}

const CLOSED: &str = "the server closed the connection at once";
const NO_TLS: &str = "the TLS handshake with the server failed";

pub(crate) fn closed_at_once() -> Error {
    Error::new(ErrorKind::Unavailable, CLOSED)
}

/// Whether a connection ended before the server had said anything that makes sense.
pub(crate) fn was_closed(error: &Error) -> bool {
    [CLOSED, NO_TLS].contains(&error.message()) || error.message() == NOT_REDIS
}

const NOT_REDIS: &str = "what answers there does not speak Redis' protocol";

/// What answers is something else.
pub(crate) fn not_redis() -> Error {
    Error::config(NOT_REDIS).with_hint("check host and port")
}

/// Reaching the server failed.
pub(crate) fn unreachable(error: &io::Error) -> Error {
    use rustls::{CertificateError, Error as TlsError};
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    let certificate = |message, hint| Error::config(message).with_hint(hint);
    match tls {
        Some(TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => certificate(
            "the server's certificate was made for other hosts",
            "use one of the hosts that it names as its subject's alternative names",
        ),
        Some(TlsError::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => certificate("the server's certificate has expired", "renew it"),
        Some(TlsError::InvalidCertificate(_)) => certificate(
            "the server's certificate was not accepted",
            "name its certificate authority and the host that it was made for",
        ),
        Some(_) => Error::new(ErrorKind::Unavailable, NO_TLS)
            .with_hint("see that the server asks for no client's certificate, and speaks TLS 1.2 or 1.3"),
        None if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) => {
            closed_at_once()
        }
        None => engine::unreachable(error),
    }
}

/// Slots of a cluster have no owner.
pub(crate) fn unserved(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Unavailable, message).with_hint(
        "`redis-cli --cluster check` says which slots have none, and `--cluster fix` gives them one",
    )
}

/// An answer of a shape that no Redis gives.
pub(crate) fn unexpected() -> Error {
    Error::corrupt("the server's answer has another shape than Redis gives")
}

#[cfg(test)]
mod tests;
