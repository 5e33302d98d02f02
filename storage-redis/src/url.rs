//! Redis URLs. What is wrong with one is said without quoting it: any part may be a password that lost its place.

use std::{fmt, path::PathBuf};

use storage_core::{Error, Result};

use crate::options::{Options, Parameters, TlsVerify, database, decode};

const DEFAULT_PORT: u16 = 6379;
const DEFAULT_SENTINEL_PORT: u16 = 26379;
const SCHEMES: &str = "use redis://, rediss://, redis+sentinel://, redis-cluster://, with TLS rediss+sentinel:// or rediss-cluster://, or \
     redis+unix://";
const SENTINEL_FORM: &str = "write redis+sentinel://host:port,host:port/service/db";

/// Where the server is and who asks.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// One, or the first nodes to ask of a cluster.
    pub(crate) addresses: Vec<Address>,
    pub(crate) cluster: bool,
    /// Those who say where the master of a service is.
    pub(crate) sentinels: Option<Sentinels>,
    pub(crate) tls: bool,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: u32,
}

/// Where the Sentinels are and who asks them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Sentinels {
    pub(crate) nodes: Vec<Address>,
    pub(crate) service: String,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Tcp {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
    /// The master of a service, whichever the Sentinels say that it is.
    Service(String),
}

/// What stands between the scheme and the end.
#[derive(Default)]
struct Parts<'a> {
    user_info: Option<&'a str>,
    /// `host:port`, or several, or nothing before a socket's path.
    host: &'a str,
    path: &'a str,
}

pub(crate) fn parse(text: &str) -> Result<(Server, Options)> {
    let text = text.trim();
    let Some((scheme, rest)) = text.split_once("://") else { return Err(no_scheme(text)) };
    // As the redis crate spells it.
    let (rest, insecure) = rest.strip_suffix("#insecure").map_or((rest, false), |rest| (rest, true));
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let mut parameters = Parameters::parse(query)?;
    if insecure {
        parameters.options.tls_verify = Some(TlsVerify::None);
    }
    let mut server = match scheme.to_ascii_lowercase().as_str() {
        "redis" | "valkey" => parse_nodes(rest, false, false)?,
        "rediss" | "valkeys" => parse_nodes(rest, true, false)?,
        "redis-cluster" => parse_nodes(rest, false, true)?,
        "rediss-cluster" => parse_nodes(rest, true, true)?,
        "redis+sentinel" => parse_sentinels(rest, false)?,
        "rediss+sentinel" => parse_sentinels(rest, true)?,
        "redis+unix" | "redis+socket" | "unix" => parse_socket(rest)?,
        "redis-sentinel" | "rediss-sentinel" | "sentinel" => {
            return Err(wrong("the Redis URL has another form than Sentinel's here").with_hint(SENTINEL_FORM));
        }
        _ => return Err(wrong("the Redis URL has an unknown scheme").with_hint(SCHEMES)),
    };
    let options = server.join(parameters)?;
    Ok((server, options))
}

/// A host and a port alone are quoted: there is no place for a password in them.
fn no_scheme(text: &str) -> Error {
    let bare = text.rsplit_once(':').is_some_and(|(host, port)| {
        let in_hosts = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        !host.is_empty() && host.bytes().all(in_hosts) && port.parse::<u16>().is_ok()
    });
    let error = wrong("the Redis URL has no scheme");
    if bare { error.with_hint(format!("write redis://{text}")) } else { error.with_hint(SCHEMES) }
}

impl Server {
    pub(crate) fn at(addresses: Vec<Address>) -> Self {
        Self {
            addresses,
            cluster: false,
            sentinels: None,
            tls: false,
            username: None,
            password: None,
            database: 0,
        }
    }

    /// Takes what the parameters say about the server. What the URL has said before them must not contradict.
    fn join(&mut self, parameters: Parameters) -> Result<Options> {
        let Parameters { database, username, password, sentinel_user, sentinel_password, options } =
            parameters;
        if let Some(database) = database {
            if self.database != 0 && self.database != database {
                return Err(wrong("the Redis URL names two databases"));
            }
            self.database = database;
        }
        for (own, said) in [(&mut self.username, username), (&mut self.password, password)] {
            if own.is_some() && said.is_some() && *own != said {
                return Err(wrong("the Redis URL names two users or passwords"));
            }
            *own = own.take().or(said);
        }
        if self.username.is_some() && self.password.is_none() {
            return Err(wrong("the Redis URL names a user without a password"));
        }
        match &mut self.sentinels {
            Some(sentinels) => (sentinels.username, sentinels.password) = (sentinel_user, sentinel_password),
            None if sentinel_user.is_some() || sentinel_password.is_some() => {
                return Err(wrong("the Redis URL has credentials for Sentinels and names none")
                    .with_hint(SENTINEL_FORM));
            }
            None => {}
        }
        if self.cluster && self.database != 0 {
            return Err(wrong("Redis Cluster has database 0 alone"));
        }
        if !self.tls && options.tls_verify.is_some() {
            return Err(
                wrong("the Redis URL speaks of certificates, and has no TLS").with_hint("write rediss://")
            );
        }
        Ok(options)
    }
}

/// One node, or several separated by commas. The later ones may repeat scheme, user and database.
fn parse_nodes(rest: &str, tls: bool, cluster: bool) -> Result<Server> {
    let mut server: Option<Server> = None;
    for item in rest.split(',') {
        let parts = Parts::split(without_scheme(item, tls)?);
        let address = address(parts.host, DEFAULT_PORT)?;
        let (username, password) = user_info(parts.user_info)?;
        let database = database(parts.path.strip_prefix('/').unwrap_or_default())?;
        match &mut server {
            None => {
                server =
                    Some(Server { cluster, tls, username, password, database, ..Server::at(vec![address]) });
            }
            Some(server) => {
                let repeated =
                    parts.user_info.is_none() || (server.username == username && server.password == password);
                if !repeated {
                    return Err(wrong("the nodes of one cluster must share user and password"));
                }
                server.cluster = true;
                server.database = server.database.max(database);
                server.addresses.push(address);
            }
        }
    }
    server.ok_or_else(|| wrong("the Redis URL has no host"))
}

fn without_scheme(item: &str, tls: bool) -> Result<&str> {
    let Some((scheme, rest)) = item.trim().split_once("://") else { return Ok(item.trim()) };
    match scheme.to_ascii_lowercase().as_str() {
        "redis" | "redis-cluster" if !tls => Ok(rest),
        "rediss" | "rediss-cluster" if tls => Ok(rest),
        _ => Err(wrong("the nodes of one cluster must share one scheme")),
    }
}

/// `[user:password@]host:port,host:port/service[/database]`, where user and password are those of Redis.
fn parse_sentinels(rest: &str, tls: bool) -> Result<Server> {
    let parts = Parts::split(rest);
    let nodes = parts.host.split(',').map(|node| address(node.trim(), DEFAULT_SENTINEL_PORT));
    let nodes = nodes.collect::<Result<Vec<_>>>()?;
    let path = parts.path.strip_prefix('/').unwrap_or_default();
    let (service, number) = path.split_once('/').unwrap_or((path, ""));
    if service.is_empty() {
        return Err(wrong("the Sentinel URL names no service").with_hint(SENTINEL_FORM));
    }
    let (username, password) = user_info(parts.user_info)?;
    let service = decode(service)?;
    let server = Server::at(vec![Address::Service(service.clone())]);
    let sentinels = Some(Sentinels { nodes, service, username: None, password: None });
    Ok(Server { sentinels, tls, username, password, database: database(number)?, ..server })
}

fn parse_socket(rest: &str) -> Result<Server> {
    let parts = Parts::split(rest);
    if !parts.host.is_empty() || parts.path.len() < 2 {
        return Err(wrong("a Unix socket's URL needs an absolute path")
            .with_hint("write three slashes: redis+unix:///run/redis.sock"));
    }
    let (username, password) = user_info(parts.user_info)?;
    let server = Server::at(vec![Address::Unix(PathBuf::from(decode(parts.path)?))]);
    Ok(Server { username, password, ..server })
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Self {
        // The last @ ends the user: one in the password may have been left unencoded.
        let (user_info, text) = match text.rsplit_once('@') {
            Some((user_info, text)) => (Some(user_info), text),
            None => (None, text),
        };
        let (host, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        Self { user_info, host, path }
    }
}

fn user_info(text: Option<&str>) -> Result<(Option<String>, Option<String>)> {
    let Some(text) = text else { return Ok((None, None)) };
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (text, None),
    };
    let username = if user.is_empty() { None } else { Some(decode(user)?) };
    let password = password.filter(|password| !password.is_empty()).map(decode).transpose()?;
    Ok((username, password))
}

fn address(text: &str, default_port: u16) -> Result<Address> {
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let unencoded = |c: char| c.is_whitespace() || matches!(c, '@' | '#' | '?' | '%');
    if host.is_empty() || host.contains(unencoded) {
        return Err(wrong("the Redis URL has no valid host"));
    }
    let port = match port {
        None => default_port,
        Some(port) => match port.parse() {
            Ok(port) if port != 0 => port,
            _ => {
                return Err(wrong("the port of the Redis URL is no port")
                    .with_hint("percent-encode what is special in the password"));
            }
        },
    };
    Ok(Address::Tcp { host: host.to_owned(), port })
}

fn wrong(what: &'static str) -> Error {
    Error::config(what)
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.addresses)
            .field("cluster", &self.cluster)
            .field("sentinels", &self.sentinels)
            .field("tls", &self.tls)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "redacted"))
            .field("database", &self.database)
            .finish()
    }
}

impl fmt::Debug for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sentinels")
            .field("nodes", &self.nodes)
            .field("service", &self.service)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "redacted"))
            .finish()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Service(service) => write!(f, "the master of {service}"),
        }
    }
}

#[cfg(test)]
mod tests;
