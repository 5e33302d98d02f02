//! How a [`RedisBackend`](crate::RedisBackend) is set up.

use std::{fmt, path::PathBuf, time::Duration};

use storage_core::{DEFAULT_MAX_VALUE_BYTES, DEFAULT_OPERATION_TIMEOUT, Error, Result, check_timeout};

use crate::{
    error::NAME,
    url::{self, Address, Server},
};

/// The namespace unless another is set: what the Python buyer agent uses.
const DEFAULT_NAMESPACE: &str = "ad_buyer:";
/// More connections than this only cost: each carries any number of calls at once.
const MAX_CONNECTIONS: u32 = 64;

/// How a [`RedisBackend`](crate::RedisBackend) is set up. Made from a URL, or piece by piece; the fields may then be changed.
///
/// ```
/// use storage_redis::RedisConfig;
///
/// let mut config = RedisConfig::from_url("rediss://agent:s%40cret@cache.example/2")?;
/// config.namespace = "ad_seller:".to_owned();
/// assert!(!format!("{config:?}").contains("cret"));
///
/// // A password from a vault is given as it is.
/// let config = RedisConfig::new("cache.example", 6379).tls().user("agent").password("s@cret").database(2);
/// assert!(!format!("{config:?}").contains("cret"));
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Clone)]
pub struct RedisConfig {
    /// What stands before every key and channel. May be empty; holds no NUL, and on Redis Cluster no `{` or `}`:
    /// there a brace would decide which node every key lives on.
    pub namespace: String,
    /// How many connections are kept to each server, 1 to 64. Calls share them; with two or more, the last one
    /// carries the large transfers (listings, groups of keys), so that those hold up no single call.
    pub connections: u32,
    /// How long a call may take, waiting for a connection included.
    pub operation_timeout: Duration,
    /// How long opening one connection may take.
    pub connect_timeout: Duration,
    /// The longest value, in bytes.
    pub max_value_bytes: usize,
    /// The certificate authorities (a PEM file) that may have signed the server's certificate, instead of those that
    /// the system trusts. The certificate is verified in any case.
    pub tls_ca: Option<PathBuf>,
    pub(crate) server: Server,
}

impl RedisConfig {
    /// The settings of a URL; everything that it does not say has its default.
    ///
    /// - `redis://[user[:password]@]host[:port][/database]`, with TLS `rediss://`
    /// - `redis+unix:///path/of/socket[?db=1][&user=..][&password=..]`, also written `unix://`
    /// - Redis Cluster: `redis-cluster://[user:password@]host:port,host:port`, with TLS `rediss-cluster://`, or a list
    ///   of `redis://` URLs separated by commas
    ///
    /// User and password are percent-decoded.
    ///
    /// # Errors
    /// `Config` naming what is wrong; nothing of the URL is quoted.
    pub fn from_url(url: &str) -> Result<Self> {
        Ok(Self::on(url::parse(url).map_err(|error| error.at(NAME, "config"))?))
    }

    /// A server by its host, a name or an address, and its port.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self::at(vec![Address::Tcp { host: host.into(), port }], false)
    }

    /// A server behind a Unix socket.
    #[must_use]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::at(vec![Address::Unix(path.into())], false)
    }

    /// A Redis Cluster by some of its nodes, which are asked for the others.
    #[must_use]
    pub fn cluster<H: Into<String>>(nodes: impl IntoIterator<Item = (H, u16)>) -> Self {
        let addresses = nodes.into_iter().map(|(host, port)| Address::Tcp { host: host.into(), port });
        Self::at(addresses.collect(), true)
    }

    /// With TLS; the certificate is verified.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.server.tls = true;
        self
    }

    /// As this user instead of the default one.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.server.username = Some(user.into());
        self
    }

    /// With this password, as it is: nothing in it is decoded.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.server.password = Some(password.into());
        self
    }

    /// In this database of the server. A cluster has none but 0.
    #[must_use]
    pub fn database(mut self, database: u32) -> Self {
        self.server.database = database;
        self
    }

    fn at(addresses: Vec<Address>, cluster: bool) -> Self {
        Self::on(Server { addresses, cluster, tls: false, username: None, password: None, database: 0 })
    }

    fn on(server: Server) -> Self {
        Self {
            namespace: DEFAULT_NAMESPACE.to_owned(),
            connections: 4,
            operation_timeout: DEFAULT_OPERATION_TIMEOUT,
            connect_timeout: Duration::from_secs(3),
            max_value_bytes: DEFAULT_MAX_VALUE_BYTES,
            tls_ca: None,
            server,
        }
    }

    /// Checks what the fields hold.
    pub(crate) fn check(&self) -> Result<()> {
        let wrong = if self.namespace.contains('\0') {
            "the namespace may not hold a NUL character".to_owned()
        } else if self.server.cluster && self.namespace.contains(['{', '}']) {
            "on Redis Cluster the namespace may not hold { or }: they decide where keys live".to_owned()
        } else if !(1..=MAX_CONNECTIONS).contains(&self.connections) {
            format!("connections must be 1 to {MAX_CONNECTIONS}")
        } else if let Some(wrong) = self.server.wrong() {
            wrong.to_owned()
        } else if self.operation_timeout.is_zero() || self.connect_timeout.is_zero() {
            "a timeout may not be zero".to_owned()
        } else {
            return check_timeout("operation_timeout", self.operation_timeout)
                .and_then(|()| check_timeout("connect_timeout", self.connect_timeout))
                .map_err(|error| error.at(NAME, "config"));
        };
        Err(Error::config(wrong).at(NAME, "config"))
    }
}

impl Server {
    /// What a URL would not let through.
    fn wrong(&self) -> Option<&'static str> {
        let nameless = |address: &Address| match address {
            Address::Tcp { host, port } => host.is_empty() || *port == 0,
            Address::Unix(path) => path.as_os_str().is_empty(),
        };
        if self.addresses.is_empty() || self.addresses.iter().any(nameless) {
            Some("a server needs a host and a port, or the path of a socket")
        } else if self.cluster && self.database > 0 {
            Some("a Redis Cluster has no database but 0")
        } else if self.username.is_some() && self.password.is_none() {
            Some("a user needs a password")
        } else if self.tls && self.addresses.iter().any(|address| matches!(address, Address::Unix(_))) {
            Some("a Unix socket has no TLS")
        } else {
            None
        }
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("namespace", &self.namespace)
            .field("connections", &self.connections)
            .field("operation_timeout", &self.operation_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("max_value_bytes", &self.max_value_bytes)
            .field("tls_ca", &self.tls_ca)
            .field("server", &self.server)
            .finish()
    }
}
