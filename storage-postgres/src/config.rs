//! How a Postgres backend is set up, and what its URL may say.

use std::{borrow::Cow, error::Error as _, fmt, path::PathBuf, str::FromStr, time::Duration};

use percent_encoding::percent_decode_str;
use storage_core::{
    DEFAULT_MAX_VALUE_BYTES, DEFAULT_OPERATION_TIMEOUT, Error, Result, SweepConfig, check_timeout,
};
use tokio_postgres::config::{Config as Driver, Host, SslMode as DriverSslMode};

/// The schemes of a URL. `+asyncpg` and `+psycopg` are how Python programs name their driver.
const SCHEMES: [&str; 4] = ["postgresql://", "postgres://", "postgresql+asyncpg://", "postgresql+psycopg://"];

/// How the connection is encrypted and the server verified, as libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// No encryption.
    Disable,
    /// Encryption where the server offers it, without verification. `allow` is taken as this.
    Prefer,
    /// Encryption, without verification; with root certificates given it means [`VerifyCa`](Self::VerifyCa).
    Require,
    /// Encryption, and the certificate must lead to a root; the name is not checked.
    VerifyCa,
    /// Encryption, and the certificate must lead to a root and be for the host that is connected to.
    VerifyFull,
}

impl FromStr for SslMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => {
                return Err(Error::config("the sslmode of the Postgres URL is not known")
                    .with_hint("one of disable, allow, prefer, require, verify-ca, verify-full"));
            }
        })
    }
}

/// Where the root certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SslRoots {
    /// The roots that the operating system trusts; `sslrootcert=system`, and the default of the `verify-` modes.
    System,
    /// A file of PEM blocks; `sslrootcert=/path`.
    File(PathBuf),
}

/// How a [`PostgresBackend`](crate::PostgresBackend) is set up. Its Debug text holds no password.
///
/// ```
/// use storage_postgres::{PostgresConfig, SslMode};
///
/// let config = PostgresConfig::from_url("postgresql+asyncpg://agent:s%40cret@db.example/ads?sslmode=verify-full")?;
/// assert_eq!(config.ssl_mode, SslMode::VerifyFull);
/// assert!(!format!("{config:?}").contains("s@cret"));
///
/// // A password from a vault is given as it is.
/// let mut config = PostgresConfig::new("db.example").user("agent").password("s@cret").database("ads");
/// config.ssl_mode = SslMode::VerifyFull;
/// assert!(!format!("{config:?}").contains("s@cret"));
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Clone)]
pub struct PostgresConfig {
    /// How many idle connections the pool keeps at least, on the runtime that connected.
    pub pool_min: u32,
    /// How many connections the pool opens at most, for callers on the runtime that connected. Callers on other runtimes
    /// or none, and sweeps, share as many again, opened as needed.
    pub pool_max: u32,
    /// The schema of the table, created on connect where it is missing; `None` takes the connection's search path.
    pub schema: Option<String>,
    /// How the connection is encrypted and the server verified.
    pub ssl_mode: SslMode,
    /// What the server's certificate must lead to, in the modes that verify it.
    pub ssl_roots: Option<SslRoots>,
    /// How long a call may take, waiting for a connection included. The server ends a statement after it too.
    pub operation_timeout: Duration,
    /// How long opening one connection may take, encryption and login included.
    pub connect_timeout: Duration,
    /// The longest value, in bytes of JSON text. Postgres itself takes less than 256 MiB.
    pub max_value_bytes: usize,
    /// How expired rows are removed in the background; `None` leaves it to `cleanup`.
    pub sweep: Option<SweepConfig>,
    /// Set it behind a pooler in transaction mode such as PgBouncer: no prepared statements, no session settings.
    pub pooler: bool,
    /// The name that the server shows for the connections.
    pub application_name: String,
    driver: Driver,
}

impl PostgresConfig {
    /// The settings for a URL: `postgresql://user:password@host:5432/database?sslmode=require`.
    ///
    /// `postgres://`, `postgresql+asyncpg://` and `postgresql+psycopg://` mean the same. User and password are
    /// percent-decoded; a host that begins with `%2F` is the folder of a Unix socket; several `host:port` are separated
    /// by commas and tried in turn; without a host it is `localhost`. The parameters are those of tokio-postgres, and
    /// `sslmode` (or `ssl`) and `sslrootcert`.
    ///
    /// # Errors
    /// `Config` saying what is wrong, never with the password.
    pub fn from_url(url: &str) -> Result<Self> {
        let rest = SCHEMES.iter().find_map(|scheme| url.strip_prefix(scheme)).ok_or_else(|| {
            Error::config("this is no Postgres URL").with_hint("it begins with postgresql:// or postgres://")
        })?;
        let (location, query) = split_query(rest)?;
        let mut ssl_mode = SslMode::Prefer;
        let mut ssl_roots = None;
        let mut others = String::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("sslmode" | "ssl", mode)) => ssl_mode = mode.parse()?,
                Some(("sslrootcert", "system")) => ssl_roots = Some(SslRoots::System),
                Some(("sslrootcert", path)) => ssl_roots = Some(SslRoots::File(decode(path)?)),
                _ => others.extend([if others.is_empty() { "?" } else { "&" }, parameter]),
            }
        }
        let mut driver = Driver::from_str(&format!("postgresql://{location}{others}")).map_err(wrong_url)?;
        if driver.get_hosts().is_empty() && driver.get_hostaddrs().is_empty() {
            driver.host("localhost");
        }
        Ok(Self::from_driver(driver, ssl_mode, ssl_roots))
    }

    /// A server by its host: a name, an address, or the folder of a Unix socket. Encrypted where the server offers it, as
    /// [`SslMode::Prefer`]; set [`ssl_mode`](Self::ssl_mode) to verify it.
    #[must_use]
    pub fn new(host: &str) -> Self {
        let mut driver = Driver::new();
        driver.host(host);
        Self::from_driver(driver, SslMode::Prefer, None)
    }

    /// Another host, tried where those before it cannot be reached.
    #[must_use]
    pub fn or_host(mut self, host: &str) -> Self {
        self.driver.host(host);
        self
    }

    /// The port, 5432 unless it is said; one for all hosts, or one for each in turn.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.driver.port(port);
        self
    }

    /// As this role.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.driver.user(user);
        self
    }

    /// With this password, as it is: nothing in it is decoded.
    #[must_use]
    pub fn password(mut self, password: impl AsRef<[u8]>) -> Self {
        self.driver.password(password);
        self
    }

    /// In this database; else in that of the user's name.
    #[must_use]
    pub fn database(mut self, database: &str) -> Self {
        self.driver.dbname(database);
        self
    }

    fn from_driver(driver: Driver, ssl_mode: SslMode, ssl_roots: Option<SslRoots>) -> Self {
        Self {
            pool_min: 2,
            pool_max: 10,
            schema: None,
            ssl_mode,
            ssl_roots,
            operation_timeout: DEFAULT_OPERATION_TIMEOUT,
            connect_timeout: driver.get_connect_timeout().copied().unwrap_or(DEFAULT_OPERATION_TIMEOUT),
            max_value_bytes: DEFAULT_MAX_VALUE_BYTES,
            sweep: Some(SweepConfig::default()),
            pooler: false,
            application_name: driver.get_application_name().unwrap_or("agent-storage").to_owned(),
            driver,
        }
    }

    /// Checks what the fields say together.
    pub(crate) fn check(&self) -> Result<()> {
        if self.pool_max == 0 {
            return Err(Error::config("the Postgres pool needs a maximum of 1 connection or more"));
        }
        if self.pool_min > self.pool_max {
            let message = format!(
                "the Postgres pool's minimum ({}) is above its maximum ({})",
                self.pool_min, self.pool_max
            );
            return Err(Error::config(message));
        }
        if self.operation_timeout.is_zero() || self.connect_timeout.is_zero() {
            return Err(Error::config("a timeout of zero leaves no time for an answer"));
        }
        check_timeout("operation_timeout", self.operation_timeout)?;
        check_timeout("connect_timeout", self.connect_timeout)?;
        check_timeout("sweep.interval", self.sweep.unwrap_or_default().interval)?;
        if self.sweep.is_some_and(|sweep| sweep.batch == 0 || sweep.interval.is_zero()) {
            return Err(Error::config("a sweep needs a pause and a batch of 1 row or more"));
        }
        let named = |schema: &String| !schema.is_empty() && schema.len() <= 63 && !schema.contains('\0');
        if !self.schema.as_ref().is_none_or(named) {
            return Err(Error::config("the name of a Postgres schema has 1 to 63 bytes and no NUL"));
        }
        Ok(())
    }

    /// The table's name as it stands in SQL.
    pub(crate) fn table(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.kv_store", quote_identifier(schema)),
            None => "kv_store".to_owned(),
        }
    }

    /// The driver's settings for one connection.
    pub(crate) fn driver(&self) -> Driver {
        let mut driver = self.driver.clone();
        driver.application_name(&self.application_name).connect_timeout(self.connect_timeout);
        if driver.get_tcp_user_timeout().is_none() {
            // A peer that vanished without a word is noticed as soon as a call would be.
            driver.tcp_user_timeout(self.operation_timeout);
        }
        let sockets_alone = driver.get_hostaddrs().is_empty() && driver.get_hosts().iter().all(is_socket);
        driver.ssl_mode(match self.ssl_mode {
            // As libpq: what does not leave the machine is not encrypted.
            _ if sockets_alone => DriverSslMode::Disable,
            SslMode::Disable => DriverSslMode::Disable,
            SslMode::Prefer => DriverSslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => DriverSslMode::Require,
        });
        if !self.pooler {
            let theirs = self.driver.get_options().unwrap_or_default();
            driver.options(format!("{} {theirs}", session_settings(self.operation_timeout)));
        }
        driver
    }
}

/// What each session is told as it starts, without a round trip. What the URL says comes after and wins.
///
/// Every statement here is found through an index, and its best plan does not depend on the parameters: a generic plan
/// saves planning each time, and no sequential scan is chosen while the table is young and the statistics know nothing.
fn session_settings(limit: Duration) -> String {
    let limit = limit.as_millis().clamp(1, i32::MAX as u128);
    format!(
        "-c statement_timeout={limit} -c idle_in_transaction_session_timeout={limit} \
         -c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c jit=off"
    )
}

/// A name as it stands in SQL, whatever is in it.
pub(crate) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn is_socket(host: &Host) -> bool {
    !matches!(host, Host::Tcp(_))
}

/// Splits at the `?` that begins the parameters; user and password come before and may hold one.
fn split_query(rest: &str) -> Result<(&str, &str)> {
    let after_login = rest.find('@').map_or(0, |at| at + 1);
    let (login, place) = rest.split_at_checked(after_login).unwrap_or(("", rest));
    let place_end = place.find('?').unwrap_or(place.len());
    let (location, query) = rest.split_at_checked(login.len() + place_end).unwrap_or((rest, ""));
    if place.split('?').next().is_some_and(|place| place.contains('@')) {
        return Err(Error::config("the Postgres URL has more than one `@`")
            .with_hint("write an `@` in user or password as %40"));
    }
    Ok((location, query.strip_prefix('?').unwrap_or_default()))
}

fn decode(text: &str) -> Result<PathBuf> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(PathBuf::from(&*text)),
        Err(_) => Err(Error::config("the sslrootcert of the Postgres URL is not UTF-8")),
    }
}

/// What the driver's parser says names an option or a part, never a value.
#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn wrong_url(error: tokio_postgres::Error) -> Error {
    let what = error.source().map_or(Cow::Borrowed("it cannot be read"), |what| what.to_string().into());
    Error::config(format!("the Postgres URL is not usable: {what}"))
}

/// Without user name, password and the free-form options.
impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("hosts", &self.driver.get_hosts())
            .field("ports", &self.driver.get_ports())
            .field("database", &self.driver.get_dbname())
            .field("pool_min", &self.pool_min)
            .field("pool_max", &self.pool_max)
            .field("schema", &self.schema)
            .field("ssl_mode", &self.ssl_mode)
            .field("ssl_roots", &self.ssl_roots)
            .field("operation_timeout", &self.operation_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("max_value_bytes", &self.max_value_bytes)
            .field("sweep", &self.sweep)
            .field("pooler", &self.pooler)
            .field("application_name", &self.application_name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
