//! The parameters of a Redis URL: those that mean something here under any of the names that drivers and providers use,
//! those that change nothing here, and those that have to be said elsewhere.

use std::{path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;
use storage_core::{Error, Result};

/// Whether the server has to prove by a certificate who it is. Only with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TlsVerify {
    /// Its certificate is signed by a trusted authority, or is itself one of those of `tls_ca`, and made for the host.
    #[default]
    Full,
    /// Nothing is verified: whoever is in between can read and change everything. Each `connect` logs a warning.
    None,
}

/// Which version of Redis' protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Protocol {
    /// RESP3 where the server has it (Redis 6 and later), else RESP2.
    #[default]
    Newest,
    /// RESP2, for what stands between and knows nothing else.
    Resp2,
}

/// What a URL may say besides the server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Options {
    pub(crate) tls_verify: Option<TlsVerify>,
    pub(crate) tls_ca: Option<PathBuf>,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) operation_timeout: Option<Duration>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) idle_check: Option<Duration>,
    pub(crate) client_name: Option<String>,
}

/// All parameters of a URL.
#[derive(Default)]
pub(crate) struct Parameters {
    pub(crate) database: Option<u32>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) sentinel_user: Option<String>,
    pub(crate) sentinel_password: Option<String>,
    pub(crate) options: Options,
}

const KNOWN: &str = "use db, user, password, protocol, ssl_cert_reqs, ssl_ca_certs, socket_timeout, \
                     socket_connect_timeout, health_check_interval, client_name, and with Sentinel sentinel_user and \
                     sentinel_password";

/// Those of other drivers that change nothing here.
const IGNORED: [&str; 12] = [
    "decode_responses",
    "encoding",
    "encoding_errors",
    "family",
    "lib_name",
    "lib_version",
    "libraryname",
    "libraryversion",
    "retry_on_error",
    "retry_on_timeout",
    "single_connection_client",
    "socket_keepalive",
];

impl Parameters {
    pub(crate) fn parse(query: Option<&str>) -> Result<Self> {
        let mut parameters = Self::default();
        for parameter in query.unwrap_or_default().split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            parameters.take(&name.to_ascii_lowercase(), decode(value)?)?;
        }
        Ok(parameters)
    }

    fn take(&mut self, name: &str, value: String) -> Result<()> {
        let options = &mut self.options;
        match name {
            "db" | "database" => self.database = Some(database(&value)?),
            "user" | "username" => self.username = Some(value),
            "pass" | "password" => self.password = Some(value),
            "sentinel_user" | "sentinel_username" => self.sentinel_user = Some(value),
            "sentinel_password" => self.sentinel_password = Some(value),
            "protocol" => options.protocol = Some(protocol(&value)?),
            "ssl_cert_reqs" | "verifypeer" => options.tls_verify = Some(verify(&value)?),
            "ssl_ca_certs" => options.tls_ca = Some(PathBuf::from(value)),
            "socket_timeout" | "timeout" => options.operation_timeout = Some(duration(&value)?),
            "socket_connect_timeout" | "connect_timeout" => options.connect_timeout = Some(duration(&value)?),
            // 0 is these drivers' word for never, which is worse than the default.
            "health_check_interval" => {
                options.idle_check = Some(duration(&value)?).filter(|interval| !interval.is_zero());
            }
            "client_name" | "clientname" => options.client_name = Some(value),
            "ssl_check_hostname" if is_true(&value) => {}
            name if IGNORED.contains(&name) => {}
            name => return Err(refused(name)),
        }
        Ok(())
    }
}

/// A parameter that has to be said elsewhere, or that nobody knows. Its value is not quoted, nor a name that is not known: it
/// may be the rest of a password.
fn refused(name: &str) -> Error {
    let (what, hint) = match name {
        "max_connections" | "pool_size" | "maxtotal" => (
            "the Redis URL bounds a pool, and calls share a few connections here",
            "set connections (REDIS_CONNECTIONS)",
        ),
        "ssl" | "tls" => ("the Redis URL asks for TLS by a parameter", "write rediss:// instead"),
        "ssl_check_hostname" => (
            "the Redis URL asks to verify the certificate and not its host",
            "use a host that the certificate names, or ssl_cert_reqs=none, which verifies nothing",
        ),
        "ssl_certfile" | "ssl_keyfile" | "ssl_password" => {
            ("the Redis URL names a client's certificate, which is not supported", "use user and password")
        }
        "sentinelmasterid" | "sentinel_master_id" | "service_name" | "master_name" => (
            "the Redis URL names the service of a Sentinel by a parameter",
            "write redis+sentinel://host:port,host:port/service/db",
        ),
        "namespace" | "prefix" | "key_prefix" => {
            ("the Redis URL names the namespace", "set namespace (REDIS_NAMESPACE)")
        }
        "readonly" | "read_from_replicas" | "readfrom" => {
            ("the Redis URL asks to read from replicas", "leave it out: reads go to the primary")
        }
        name if name.contains('@') => {
            ("the Redis URL has a ? in its password", "percent-encode what is special in the password")
        }
        _ => ("the Redis URL has an unknown parameter", KNOWN),
    };
    Error::config(what).with_hint(hint)
}

pub(crate) fn database(text: &str) -> Result<u32> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| Error::config("the database of the Redis URL is no number"))
}

pub(crate) fn decode(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| Error::config("the Redis URL holds bytes that are not UTF-8"))
}

fn protocol(text: &str) -> Result<Protocol> {
    match text {
        "2" => Ok(Protocol::Resp2),
        "3" => Ok(Protocol::Newest),
        _ => Err(Error::config("the protocol of the Redis URL is not 2 or 3")),
    }
}

fn verify(text: &str) -> Result<TlsVerify> {
    match text.to_ascii_lowercase().as_str() {
        "none" | "cert_none" => Ok(TlsVerify::None),
        // A server has no other way than to show one.
        "required" | "cert_required" | "optional" | "cert_optional" | "full" => Ok(TlsVerify::Full),
        _ => Err(Error::config("the Redis URL does not say how certificates are verified")
            .with_hint("ssl_cert_reqs is required or none")),
    }
}

fn is_true(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "true" | "1" | "yes")
}

/// Seconds, or with a unit.
fn duration(text: &str) -> Result<Duration> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(number.len()..) {
        Some("ms") => Some(0.001),
        Some("" | "s") => Some(1.0),
        Some("m") => Some(60.0),
        _ => None,
    };
    let seconds = unit.and_then(|unit| Some(number.parse::<f64>().ok()? * unit));
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).ok_or_else(|| {
        Error::config("a time in the Redis URL is none")
            .with_hint("write seconds, such as 5 or 0.5, or 500ms")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(query: &str) -> Result<Options> {
        Parameters::parse(Some(query)).map(|parameters| parameters.options)
    }

    #[test]
    fn parameters_by_table() {
        let seconds = |seconds| Some(Duration::from_secs_f64(seconds));
        let none = Options::default;
        let table = [
            ("protocol=2", Options { protocol: Some(Protocol::Resp2), ..none() }),
            ("protocol=3", Options { protocol: Some(Protocol::Newest), ..none() }),
            ("ssl_cert_reqs=none", Options { tls_verify: Some(TlsVerify::None), ..none() }),
            ("ssl_cert_reqs=CERT_NONE", Options { tls_verify: Some(TlsVerify::None), ..none() }),
            ("ssl_cert_reqs=required", Options { tls_verify: Some(TlsVerify::Full), ..none() }),
            ("verifyPeer=NONE", Options { tls_verify: Some(TlsVerify::None), ..none() }),
            ("ssl_ca_certs=%2Fca.pem", Options { tls_ca: Some("/ca.pem".into()), ..none() }),
            ("socket_timeout=0.5", Options { operation_timeout: seconds(0.5), ..none() }),
            ("timeout=500ms", Options { operation_timeout: seconds(0.5), ..none() }),
            ("socket_connect_timeout=2s", Options { connect_timeout: seconds(2.0), ..none() }),
            ("health_check_interval=30", Options { idle_check: seconds(30.0), ..none() }),
            ("health_check_interval=0", none()),
            ("client_name=buyer%2D1", Options { client_name: Some("buyer-1".to_owned()), ..none() }),
            ("decode_responses=True&encoding=utf-8&retry_on_timeout=true", none()),
            ("socket_keepalive=True&ssl_check_hostname=true&", none()),
        ];
        for (query, expected) in table {
            assert_eq!(options(query).unwrap(), expected, "{query}");
        }
    }

    #[test]
    fn what_is_said_elsewhere_is_named_and_no_value_is_quoted() {
        let table = [
            ("max_connections=secret", "REDIS_CONNECTIONS"),
            ("ssl=true", "rediss://"),
            ("ssl_check_hostname=false", "ssl_cert_reqs=none"),
            ("ssl_certfile=secret", "user and password"),
            ("sentinelMasterId=secret", "redis+sentinel://"),
            ("namespace=secret", "REDIS_NAMESPACE"),
            ("readFrom=replica", "primary"),
            ("secret@host", "percent-encode"),
            ("secret=1", "use db"),
            ("protocol=secret", "2 or 3"),
            ("ssl_cert_reqs=secret", "required or none"),
            ("socket_timeout=secret", "0.5"),
            ("socket_timeout=-1", "0.5"),
            ("db=secret", "no number"),
            ("client_name=%ff", "UTF-8"),
        ];
        for (query, words) in table {
            let error = options(query).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains(words) && !text.contains("secret"), "{query}: {text}");
        }
    }
}
