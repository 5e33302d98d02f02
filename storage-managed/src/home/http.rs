//! What the homes that are reached through HTTP share.

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use storage_core::{Error, ErrorKind, Result};

/// How long a piece of a transfer may take; single requests have the home's operation timeout.
pub(super) const PIECE_TIMEOUT: Duration = Duration::from_secs(60);
/// How large the pieces of a transfer are.
pub(super) const PIECE: usize = 8 * 1024 * 1024;
/// How large those of a download are: [`AT_ONCE`] of them arrive in time on a line of 140 KB a second.
#[cfg(feature = "azure")]
pub(super) const DOWNLOAD_PIECE: usize = 2 * 1024 * 1024;
/// How many pieces travel at once.
pub(super) const AT_ONCE: usize = 4;

/// A client with TLS by ring and the system's certificates. Requests to another place than the named one are not made:
/// redirects are not followed.
///
/// # Errors
/// `Config` where TLS cannot be set up.
pub(super) fn client(timeout: Duration) -> Result<reqwest::Client> {
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    tracing::debug!(added, ignored, "read the system's certificates");
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| no_tls())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        // Before the operation's own: what could not connect was surely not sent.
        .connect_timeout(timeout.mul_f64(0.8))
        .read_timeout(PIECE_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|_| no_tls())
}

fn no_tls() -> Error {
    Error::config("TLS could not be set up")
}

/// Refuses an endpoint without TLS, unless it is on this machine or `may_be_plain`. `name` is the setting's.
///
/// # Errors
/// `Config`, without the endpoint itself.
pub(super) fn check_endpoint(name: &str, endpoint: &str, may_be_plain: bool) -> Result<()> {
    let url = reqwest::Url::parse(endpoint)
        .map_err(|_| Error::config(format!("{name} is no URL")).with_hint("https://host:port"))?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_here || may_be_plain => Ok(()),
        "http" => Err(Error::config(format!("{name} is without TLS, and not on this machine"))
            .with_hint("use https, or allow plain connections where the network is trusted")),
        _ => Err(Error::config(format!("{name} is neither https nor http"))),
    }
}

/// What tells an endpoint from others: its host, a port that is not the usual one, and a path.
pub(super) fn place(endpoint: &reqwest::Url) -> String {
    let port = endpoint.port().map_or_else(String::new, |port| format!(":{port}"));
    let path = endpoint.path().trim_end_matches('/');
    format!("{}{port}{path}", endpoint.host_str().unwrap_or_default())
}

/// Whether a request could have changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Read,
    Write,
}

/// What became of a request that was no success.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// It was never sent.
    NotSent,
    /// It may have been sent, and there was no whole answer.
    NoAnswer,
    /// The server answered with this status, and a code where it gave one.
    Answered(u16, String),
    /// There is no token to ask with.
    NoToken,
}

impl Failure {
    /// As an error, without anything that the server or a library said but the server's code.
    pub(super) fn into_error(self, effect: Effect) -> Error {
        let unanswered = match effect {
            Effect::Read => ErrorKind::Unavailable,
            Effect::Write => ErrorKind::OutcomeUnknown,
        };
        match self {
            Self::NotSent => Error::new(ErrorKind::Unavailable, "no connection to the store"),
            Self::NoAnswer => Error::new(unanswered, "the connection ended before the answer"),
            Self::NoToken => Error::new(ErrorKind::Unauthorized, "no token for the store was to be had")
                .with_hint("set the cloud's own variables, such as AZURE_STORAGE_KEY, AWS_ACCESS_KEY_ID or GOOGLE_APPLICATION_CREDENTIALS, or give the machine an identity"),
            Self::Answered(status, code) => answered(status, &code, unanswered),
        }
    }
}

fn answered(status: u16, code: &str, unanswered: ErrorKind) -> Error {
    // The code is the server's word, and goes into logs: letters and digits alone.
    let code: String = code.chars().filter(char::is_ascii_alphanumeric).take(60).collect();
    let separator = if code.is_empty() { "" } else { " " };
    let kind = match status {
        401 | 403 => ErrorKind::Unauthorized,
        404 => ErrorKind::Config,
        408 | 429 => ErrorKind::Unavailable,
        409 | 412 => ErrorKind::Conflict,
        // The two words with which stores turn work away undone; any other failure may come after the work.
        503 if matches!(code.as_str(), "ServerBusy" | "SlowDown") => ErrorKind::Unavailable,
        500.. => unanswered,
        _ => ErrorKind::Unsupported,
    };
    let error = Error::new(kind, format!("the store answered {status}{separator}{code}"));
    match kind {
        ErrorKind::Config => error.with_hint("the container or bucket must exist"),
        ErrorKind::Unauthorized => {
            error.with_hint("check the credentials, their permissions and the machine's clock")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_becomes_an_error_that_says_what_to_do() {
        use ErrorKind::{Config, Conflict, OutcomeUnknown, Unauthorized, Unavailable};
        let answered = |status, code: &str| Failure::Answered(status, code.to_owned());
        let table = [
            (Failure::NotSent, Unavailable, Unavailable),
            (Failure::NoAnswer, Unavailable, OutcomeUnknown),
            (Failure::NoToken, Unauthorized, Unauthorized),
            (answered(403, "AuthenticationFailed"), Unauthorized, Unauthorized),
            (answered(404, "NoSuchBucket"), Config, Config),
            (answered(412, "LeaseIdMissing"), Conflict, Conflict),
            (answered(500, "InternalError"), Unavailable, OutcomeUnknown),
            (answered(503, ""), Unavailable, OutcomeUnknown),
            (answered(503, "SlowDown"), Unavailable, Unavailable),
        ];
        for (failure, read, write) in table {
            let shown = format!("{failure:?}");
            assert_eq!(failure.clone().into_error(Effect::Read).kind(), read, "reading: {shown}");
            assert_eq!(failure.into_error(Effect::Write).kind(), write, "writing: {shown}");
        }
    }

    #[test]
    fn what_a_server_calls_its_error_cannot_smuggle_anything() {
        let code = "Bad\u{1b}[31m sig=a/b".to_owned();
        let error = Failure::Answered(400, code).into_error(Effect::Read);
        assert_eq!(error.to_string(), "the store answered 400 Bad31msigab");
    }
}
