//! The settings, and what the driver is told of them.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use storage_core::{
    DEFAULT_MAX_VALUE_BYTES, DEFAULT_OPERATION_TIMEOUT, Error, Result, SweepConfig, check_timeout,
};
use tokio_postgres::config::{Config as Driver, Host, SslMode as DriverSslMode, SslNegotiation};

use super::{
    pass_file,
    server::{self, Place, Server},
    ssl::{SslMode, SslRoots, TlsVerify},
    target::TargetSessionAttrs,
};

/// How far what is read from a standby may be behind.
const DEFAULT_READ_STALENESS: Duration = Duration::from_secs(5);

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
    /// What a server must be to be connected to; `None` takes any where there is one host, and one that takes writes where
    /// there are several.
    pub target_session_attrs: Option<TargetSessionAttrs>,
    /// Whether several hosts, and the addresses of one, are tried in random order; libpq's `load_balance_hosts=random`.
    pub load_balance_hosts: bool,
    /// Whether the server's certificate is looked at.
    pub tls_verify: TlsVerify,
    /// A file of passwords, as libpq's `.pgpass`, read on connect where no password is set. Ignored with a warning where
    /// others than its owner may read it.
    pub pass_file: Option<PathBuf>,
    /// A server to read from, usually a standby; off by default. Single reads, `get_many`, `exists`, `ttl`, scans and queries
    /// of collections go there while it is at most [`read_staleness`](Self::read_staleness) behind, and to the primary where
    /// it is not, or is down. `compare_and_set`, `update`, increments and what happens within a commit never do. What this
    /// process has written, by key or partition, it reads from the primary until a standby has it for sure; beyond that
    /// nobody is promised to read what was just written. Of these settings the servers, the login, TLS, `options`, `pooler` and
    /// the application's name count; all else is as for the primary, and database and table have to be the same. Several standbys may be named.
    pub read_url: Option<Box<PostgresConfig>>,
    /// How far what is read may be behind; 5 s by default. Judged by the primary's positions in its log, asked for about once
    /// a second, and those of the standby on each connection.
    pub read_staleness: Duration,
    /// Whether `connect` makes what is missing of schema, tables and indexes; else a missing table is `Config`.
    pub create: bool,
    pub(super) server: Server,
}

impl PostgresConfig {
    /// A server by its host: a name, an address, or the folder of a Unix socket. Encrypted where the server offers it, as
    /// [`SslMode::Prefer`]; set [`ssl_mode`](Self::ssl_mode) to verify it.
    #[must_use]
    pub fn new(host: &str) -> Self {
        Self::default().or_host(host)
    }

    /// Another host. The first that is what [`target_session_attrs`](Self::target_session_attrs) wants is used.
    #[must_use]
    pub fn or_host(mut self, host: &str) -> Self {
        self.server.hosts.push(server::host(host));
        self
    }

    /// The port, 5432 unless it is said; one for all hosts, or one for each in turn.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.server.ports.push(port);
        self
    }

    /// As this role.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.server.driver.user(user);
        self
    }

    /// With this password, as it is: nothing in it is decoded.
    #[must_use]
    pub fn password(mut self, password: impl AsRef<[u8]>) -> Self {
        self.server.driver.password(password);
        self
    }

    /// In this database; else in that of the user's name.
    #[must_use]
    pub fn database(mut self, database: &str) -> Self {
        self.server.driver.dbname(database);
        self
    }

    /// Checks what the fields say together.
    pub(crate) fn check(&self) -> Result<()> {
        self.server.check()?;
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
        if let Some(reads) = self.for_reads() {
            reads.check()?;
            check_timeout("read_staleness", self.read_staleness)?;
            if self.read_staleness < Duration::from_millis(100) {
                return Err(Error::config("reads from a standby need a read_staleness of 100 ms or more"));
            }
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

    /// The settings of the server for reads. Half of the time is left for the primary, where it has to answer after all.
    pub(crate) fn for_reads(&self) -> Option<Self> {
        let theirs = self.read_url.as_deref()?.clone();
        let operation_timeout = self.operation_timeout / 2;
        Some(Self {
            pool_min: 0,
            pool_max: self.pool_max,
            schema: self.schema.clone(),
            operation_timeout,
            connect_timeout: theirs.connect_timeout.min(operation_timeout),
            max_value_bytes: self.max_value_bytes,
            sweep: None,
            create: false,
            read_url: None,
            ..theirs
        })
    }

    /// What a server must be.
    pub(crate) fn target(&self) -> TargetSessionAttrs {
        let usual =
            if self.server.len() > 1 { TargetSessionAttrs::ReadWrite } else { TargetSessionAttrs::Any };
        self.target_session_attrs.unwrap_or(usual)
    }

    /// All hosts, in the order in which they were said.
    pub(crate) fn places(&self) -> Vec<Place> {
        self.server.places()
    }

    /// How the server is verified: roots are there to be used.
    pub(crate) fn verification(&self) -> SslMode {
        match (self.ssl_mode, &self.ssl_roots) {
            (SslMode::Prefer | SslMode::Require, Some(_)) => SslMode::VerifyCa,
            (mode, _) => mode,
        }
    }

    /// Whether TLS begins without a question first.
    pub(crate) fn speaks_tls_at_once(&self) -> bool {
        self.server.driver.get_ssl_negotiation() == SslNegotiation::Direct
    }

    /// The driver's settings for one connection to a place; `address` is where it was found, and `passwords` is the content
    /// of the file of passwords.
    pub(crate) fn driver(&self, place: &Place, address: Option<IpAddr>, passwords: Option<&str>) -> Driver {
        let mut driver = self.server.driver.clone();
        match &place.host {
            Some(Host::Tcp(host)) => {
                driver.host(host);
            }
            #[cfg(unix)]
            Some(Host::Unix(path)) => {
                driver.host_path(path);
            }
            None => {}
        }
        if let Some(address) = address {
            driver.hostaddr(address);
        }
        driver.port(place.port);
        driver.application_name(&self.application_name).connect_timeout(self.connect_timeout);
        if let (None, Some(passwords)) = (driver.get_password(), passwords) {
            let user = driver.get_user().unwrap_or_default().to_owned();
            let database = driver.get_dbname().unwrap_or(&user).to_owned();
            if let Some(password) =
                pass_file::password(passwords, &place.name(), place.port, &database, &user)
            {
                driver.password(password);
            }
        }
        if driver.get_tcp_user_timeout().is_none() {
            // A peer that vanished without a word is noticed as soon as a call would be.
            driver.tcp_user_timeout(self.operation_timeout);
        }
        driver.ssl_mode(match self.verification() {
            // As libpq: what does not leave the machine is not encrypted.
            _ if place.is_socket() => DriverSslMode::Disable,
            SslMode::Disable => DriverSslMode::Disable,
            SslMode::Prefer => DriverSslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => DriverSslMode::Require,
        });
        if !self.pooler {
            let theirs = self.server.driver.get_options().unwrap_or_default();
            driver.options(format!("{} {theirs}", session_settings(self.operation_timeout)));
        }
        driver
    }
}

/// No host yet, which is this machine, and the defaults of all else.
impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            pool_min: 2,
            pool_max: 10,
            schema: None,
            ssl_mode: SslMode::Prefer,
            ssl_roots: None,
            operation_timeout: DEFAULT_OPERATION_TIMEOUT,
            connect_timeout: DEFAULT_OPERATION_TIMEOUT,
            max_value_bytes: DEFAULT_MAX_VALUE_BYTES,
            sweep: Some(SweepConfig::default()),
            pooler: false,
            application_name: "agent-storage".to_owned(),
            target_session_attrs: None,
            load_balance_hosts: false,
            tls_verify: TlsVerify::Full,
            pass_file: None,
            read_url: None,
            read_staleness: DEFAULT_READ_STALENESS,
            create: true,
            server: Server::new(),
        }
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

/// Without user name, password and the free-form options.
impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("hosts", &self.server.places())
            .field("database", &self.server.driver.get_dbname())
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
            .field("target_session_attrs", &self.target_session_attrs)
            .field("load_balance_hosts", &self.load_balance_hosts)
            .field("tls_verify", &self.tls_verify)
            .field("pass_file", &self.pass_file)
            .field("create", &self.create)
            .field("read_url", &self.read_url)
            .field("read_staleness", &self.read_staleness)
            .finish_non_exhaustive()
    }
}
