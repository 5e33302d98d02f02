//! How a [`RedisBackend`](crate::RedisBackend) is set up.

use std::{fmt, path::PathBuf, time::Duration};

use storage_core::{DEFAULT_MAX_VALUE_BYTES, DEFAULT_OPERATION_TIMEOUT, Error, Result, check_timeout};

use crate::{
    error::NAME,
    options::{Options, Protocol, TlsVerify},
    url::{self, Address, Sentinels, Server},
};

/// The namespace unless another is set: what the Python buyer agent uses.
const DEFAULT_NAMESPACE: &str = "ad_buyer:";
/// More connections than this only cost: each carries any number of calls at once.
const MAX_CONNECTIONS: u32 = 64;
/// What the server shows of a connection in `CLIENT LIST`, unless another name is set.
const DEFAULT_CLIENT_NAME: &str = "agent-storage";
/// The longest value that Redis takes: its `proto-max-bulk-len`.
const MAX_VALUE_BYTES: usize = 512 * 1024 * 1024;
/// The longest namespace, of text that stands before every key.
const MAX_NAMESPACE_BYTES: usize = 1_024;

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
    /// the system trusts; or the certificate itself, where it is self-signed.
    pub tls_ca: Option<PathBuf>,
    /// Whether the server's certificate is verified. It is, unless this says otherwise.
    pub tls_verify: TlsVerify,
    /// The version of Redis' protocol.
    pub protocol: Protocol,
    /// What `CLIENT LIST` calls our connections, where the server allows a name: printable ASCII without spaces.
    pub client_name: String,
    /// A connection that nobody has used for so long, or for half of it, is asked whether it still is one before the next
    /// request goes out on it: what is in between may have dropped it without a word.
    pub idle_check: Duration,
    pub(crate) server: Server,
}

impl RedisConfig {
    /// The settings of a URL; everything that it does not say has its default.
    ///
    /// - `redis://[user[:password]@]host[:port][/database]`, with TLS `rediss://`
    /// - `redis+unix:///path/of/socket[?db=1][&user=..][&password=..]`, also written `unix://`
    /// - Redis Cluster: `redis-cluster://[user:password@]host:port,host:port`, with TLS `rediss-cluster://`, or a list
    ///   of `redis://` URLs separated by commas
    /// - Sentinel: `redis+sentinel://[user:password@]host:port,host:port/service[/database]`, with TLS to Redis and to the
    ///   Sentinels `rediss+sentinel://`. `?sentinel_user=..&sentinel_password=..` are for the Sentinels, which else are
    ///   asked without credentials.
    ///
    /// User and password are percent-decoded, schemes may be in any case. Parameters that drivers and providers use are
    /// understood (`db`, `protocol`, `ssl_cert_reqs`, `ssl_ca_certs`, `socket_timeout`, `socket_connect_timeout`,
    /// `health_check_interval`, `client_name`), ignored where they change nothing here (`decode_responses`, `encoding`,
    /// `retry_on_timeout`, ..), and else refused with what to set instead.
    ///
    /// # Errors
    /// `Config` naming what is wrong; nothing of the URL is quoted but a host and a port that stand alone.
    pub fn from_url(url: &str) -> Result<Self> {
        let (server, options) = url::parse(url).map_err(|error| error.at(NAME, "config"))?;
        Ok(Self::on(server).with(options))
    }

    /// A server by its host, a name or an address, and its port.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self::on(Server::at(vec![Address::Tcp { host: host.into(), port }]))
    }

    /// A server behind a Unix socket.
    #[must_use]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::on(Server::at(vec![Address::Unix(path.into())]))
    }

    /// A Redis Cluster by some of its nodes, which are asked for the others.
    #[must_use]
    pub fn cluster<H: Into<String>>(nodes: impl IntoIterator<Item = (H, u16)>) -> Self {
        Self::on(Server { cluster: true, ..Server::at(tcp(nodes)) })
    }

    /// The master of a service, which some of these Sentinels know. User, password and database are those of Redis.
    #[must_use]
    pub fn sentinel<H: Into<String>>(
        service: impl Into<String>,
        nodes: impl IntoIterator<Item = (H, u16)>,
    ) -> Self {
        let service = service.into();
        let server = Server::at(vec![Address::Service(service.clone())]);
        let sentinels = Sentinels { nodes: tcp(nodes), service, username: None, password: None };
        Self::on(Server { sentinels: Some(sentinels), ..server })
    }

    /// As this user of the Sentinels instead of their default one. Without Sentinels it means nothing.
    #[must_use]
    pub fn sentinel_user(mut self, user: impl Into<String>) -> Self {
        if let Some(sentinels) = &mut self.server.sentinels {
            sentinels.username = Some(user.into());
        }
        self
    }

    /// With this password for the Sentinels, as it is. Without Sentinels it means nothing.
    #[must_use]
    pub fn sentinel_password(mut self, password: impl Into<String>) -> Self {
        if let Some(sentinels) = &mut self.server.sentinels {
            sentinels.password = Some(password.into());
        }
        self
    }

    /// With TLS, to the Sentinels too; certificates are verified.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.server.tls = true;
        self
    }

    /// Whether the connections are to have TLS.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.server.tls
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

    fn on(server: Server) -> Self {
        Self {
            namespace: DEFAULT_NAMESPACE.to_owned(),
            connections: 4,
            operation_timeout: DEFAULT_OPERATION_TIMEOUT,
            connect_timeout: Duration::from_secs(3),
            max_value_bytes: DEFAULT_MAX_VALUE_BYTES,
            tls_ca: None,
            tls_verify: TlsVerify::default(),
            protocol: Protocol::default(),
            client_name: DEFAULT_CLIENT_NAME.to_owned(),
            idle_check: Duration::from_secs(10),
            server,
        }
    }

    fn with(self, options: Options) -> Self {
        Self {
            tls_verify: options.tls_verify.unwrap_or(self.tls_verify),
            tls_ca: options.tls_ca.or(self.tls_ca),
            protocol: options.protocol.unwrap_or(self.protocol),
            operation_timeout: options.operation_timeout.unwrap_or(self.operation_timeout),
            connect_timeout: options.connect_timeout.unwrap_or(self.connect_timeout),
            idle_check: options.idle_check.unwrap_or(self.idle_check),
            client_name: options.client_name.unwrap_or(self.client_name),
            ..self
        }
    }

    /// Checks what the fields hold.
    pub(crate) fn check(&self) -> Result<()> {
        let times = [
            ("operation_timeout", self.operation_timeout),
            ("connect_timeout", self.connect_timeout),
            ("idle_check", self.idle_check),
        ];
        let checked = match self.wrong().or_else(|| self.server.wrong().map(str::to_owned)) {
            Some(wrong) => Err(Error::config(wrong)),
            None => times.into_iter().try_for_each(|(name, time)| match time.is_zero() {
                true => Err(Error::config(format!("{name} may not be zero"))),
                false => check_timeout(name, time),
            }),
        };
        checked.map_err(|error| error.at(NAME, "config"))
    }

    fn wrong(&self) -> Option<String> {
        let nameable = |byte: u8| byte.is_ascii_graphic();
        if self.namespace.contains('\0') {
            Some("the namespace may not hold a NUL character".to_owned())
        } else if self.namespace.len() > MAX_NAMESPACE_BYTES {
            Some(format!("the namespace may have at most {MAX_NAMESPACE_BYTES} bytes"))
        } else if self.server.cluster && self.namespace.contains(['{', '}']) {
            Some("on Redis Cluster the namespace may not hold { or }: they decide where keys live".to_owned())
        } else if !(1..=MAX_CONNECTIONS).contains(&self.connections) {
            Some(format!("connections must be 1 to {MAX_CONNECTIONS}"))
        } else if !(1..=MAX_VALUE_BYTES).contains(&self.max_value_bytes) {
            Some(format!("max_value_bytes must be 1 to {MAX_VALUE_BYTES}"))
        } else if !(1..=64).contains(&self.client_name.len()) || !self.client_name.bytes().all(nameable) {
            Some("client_name must be 1 to 64 characters of printable ASCII without spaces".to_owned())
        } else {
            None
        }
    }
}

fn tcp<H: Into<String>>(nodes: impl IntoIterator<Item = (H, u16)>) -> Vec<Address> {
    nodes.into_iter().map(|(host, port)| Address::Tcp { host: host.into(), port }).collect()
}

impl Server {
    /// What a URL would not let through.
    fn wrong(&self) -> Option<&'static str> {
        let nameless = |address: &Address| match address {
            Address::Tcp { host, port } => host.is_empty() || *port == 0,
            Address::Unix(path) => path.as_os_str().is_empty(),
            Address::Service(service) => service.is_empty(),
        };
        let is_socket = |address: &Address| matches!(address, Address::Unix(_));
        let none = |addresses: &[Address]| addresses.is_empty() || addresses.iter().any(nameless);
        if none(&self.addresses) {
            Some(
                "a server needs a host and a port, the path of a socket, or the name of a Sentinel's service",
            )
        } else if self.sentinels.as_ref().is_some_and(|sentinels| none(&sentinels.nodes)) {
            Some("a Sentinel needs a host and a port")
        } else if self.cluster && self.database > 0 {
            Some("a Redis Cluster has no database but 0")
        } else if self.username.is_some() && self.password.is_none() {
            Some("a user needs a password")
        } else if self.sentinels.as_ref().is_some_and(|own| own.username.is_some() && own.password.is_none())
        {
            Some("a user of the Sentinels needs a password")
        } else if self.tls && self.addresses.iter().any(is_socket) {
            Some("a Unix socket has no TLS")
        } else if !cfg!(unix) && self.addresses.iter().any(is_socket) {
            Some("this system has no Unix sockets: use redis://host:port")
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
            .field("tls_verify", &self.tls_verify)
            .field("protocol", &self.protocol)
            .field("client_name", &self.client_name)
            .field("idle_check", &self.idle_check)
            .field("server", &self.server)
            .finish()
    }
}
