//! Redis URLs. What is wrong with one is said without quoting it: any part may be a password that lost its place.

use std::{fmt, path::PathBuf};

use percent_encoding::percent_decode_str;
use storage_core::{Error, Result};

const DEFAULT_PORT: u16 = 6379;
const SCHEMES: &str = "use redis://, rediss://, redis+unix://, redis-cluster:// or rediss-cluster://";

/// Where the server is and who asks.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// One, or the first nodes to ask of a cluster.
    pub(crate) addresses: Vec<Address>,
    pub(crate) cluster: bool,
    pub(crate) tls: bool,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: u32,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// What stands between the scheme and the end.
#[derive(Default)]
struct Parts<'a> {
    user_info: Option<&'a str>,
    /// `host:port`, or nothing before a socket's path.
    host: &'a str,
    path: &'a str,
    query: Option<&'a str>,
}

pub(crate) fn parse(text: &str) -> Result<Server> {
    let Some((scheme, rest)) = text.trim().split_once("://") else {
        return Err(wrong("the Redis URL has no scheme").with_hint(SCHEMES));
    };
    match scheme {
        "redis" => parse_nodes(rest, false, false),
        "rediss" => parse_nodes(rest, true, false),
        "redis-cluster" => parse_nodes(rest, false, true),
        "rediss-cluster" => parse_nodes(rest, true, true),
        "redis+unix" | "unix" => parse_socket(rest),
        _ => Err(wrong("the Redis URL has an unknown scheme").with_hint(SCHEMES)),
    }
}

/// One node, or several separated by commas. The later ones may repeat scheme, user and database.
fn parse_nodes(rest: &str, tls: bool, cluster: bool) -> Result<Server> {
    let mut server: Option<Server> = None;
    for item in rest.split(',') {
        let parts = Parts::split(without_scheme(item, tls)?);
        if parts.query.is_some() {
            return Err(wrong("the Redis URL has parameters; set them as fields of the configuration"));
        }
        let address = address(parts.host)?;
        let (username, password) = user_info(parts.user_info)?;
        let database = database(parts.path.strip_prefix('/').unwrap_or_default())?;
        match &mut server {
            None => {
                let addresses = vec![address];
                server = Some(Server { addresses, cluster, tls, username, password, database });
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
    let server = server.ok_or_else(|| wrong("the Redis URL has no host"))?;
    match server.cluster && server.database != 0 {
        true => Err(wrong("Redis Cluster has database 0 alone")),
        false => Ok(server),
    }
}

fn without_scheme(item: &str, tls: bool) -> Result<&str> {
    match item.trim().split_once("://") {
        None => Ok(item.trim()),
        Some(("redis" | "redis-cluster", rest)) if !tls => Ok(rest),
        Some(("rediss" | "rediss-cluster", rest)) if tls => Ok(rest),
        Some(_) => Err(wrong("the nodes of one cluster must share one scheme")),
    }
}

fn parse_socket(rest: &str) -> Result<Server> {
    let parts = Parts::split(rest);
    if !parts.host.is_empty() || parts.path.len() < 2 {
        return Err(wrong("a Unix socket's URL needs an absolute path")
            .with_hint("write three slashes: redis+unix:///run/redis.sock"));
    }
    let (mut username, mut password) = user_info(parts.user_info)?;
    let mut number = 0;
    for parameter in parts.query.unwrap_or_default().split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            Some(("db", text)) => number = database(text)?,
            Some(("user" | "username", text)) => username = Some(decode(text)?),
            Some(("pass" | "password", text)) => password = Some(decode(text)?),
            _ => {
                return Err(
                    wrong("the Redis URL has an unknown parameter").with_hint("use db, user, password")
                );
            }
        }
    }
    let addresses = vec![Address::Unix(PathBuf::from(decode(parts.path)?))];
    Ok(Server { addresses, cluster: false, tls: false, username, password, database: number })
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Self {
        let (text, query) = match text.split_once('?') {
            Some((text, query)) => (text, Some(query)),
            None => (text, None),
        };
        // The last @ ends the user: one in the password may have been left unencoded.
        let (user_info, text) = match text.rsplit_once('@') {
            Some((user_info, text)) => (Some(user_info), text),
            None => (None, text),
        };
        let (host, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        Self { user_info, host, path, query }
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
    if username.is_some() && password.is_none() {
        return Err(wrong("the Redis URL names a user without a password"));
    }
    Ok((username, password))
}

fn address(text: &str) -> Result<Address> {
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
        None => DEFAULT_PORT,
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

fn database(text: &str) -> Result<u32> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| wrong("the database of the Redis URL is no number"))
}

fn decode(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| wrong("the Redis URL holds bytes that are not UTF-8"))
}

fn wrong(what: &'static str) -> Error {
    Error::config(what)
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.addresses)
            .field("cluster", &self.cluster)
            .field("tls", &self.tls)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "redacted"))
            .field("database", &self.database)
            .finish()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port }
    }

    fn server(addresses: Vec<Address>) -> Server {
        let cluster = addresses.len() > 1;
        Server { addresses, cluster, tls: false, username: None, password: None, database: 0 }
    }

    #[test]
    fn urls_by_table() {
        let with = |user: Option<&str>, password: &str, server: Server| Server {
            username: user.map(str::to_owned),
            password: Some(password.to_owned()),
            ..server
        };
        let one = || server(vec![tcp("h", 6379)]);
        let two = || server(vec![tcp("a", 1), tcp("b", 2)]);
        let socket = || server(vec![Address::Unix("/run/r.sock".into())]);
        let table = [
            ("redis://h", one()),
            (" redis://h/ ", one()),
            ("redis://h:7/3", Server { database: 3, ..server(vec![tcp("h", 7)]) }),
            ("redis://[::1]:7", server(vec![tcp("::1", 7)])),
            ("rediss://h", Server { tls: true, ..one() }),
            ("redis://:pw@h", with(None, "pw", one())),
            ("redis://u:p%40%3A%2F%25@h", with(Some("u"), "p@:/%", one())),
            ("redis://u:p@ss@h", with(Some("u"), "p@ss", one())),
            ("unix:///run/r.sock", socket()),
            ("redis+unix:///run/r.sock?db=2", Server { database: 2, ..socket() }),
            ("redis+unix:///run/r.sock?user=u&password=p%26", with(Some("u"), "p&", socket())),
            ("redis+unix://u:p@/run/r.sock", with(Some("u"), "p", socket())),
            ("redis-cluster://h", Server { cluster: true, ..one() }),
            ("redis-cluster://a:1,b:2", two()),
            ("redis-cluster://u:p@a:1,b:2", with(Some("u"), "p", two())),
            ("rediss-cluster://a:1,b:2", Server { tls: true, ..two() }),
            ("redis://a:1,redis://b:2", two()),
            ("redis://u:p@a:1/0,redis://u:p@b:2/0", with(Some("u"), "p", two())),
        ];
        for (url, expected) in table {
            assert_eq!(parse(url).unwrap(), expected, "{url}");
        }
    }

    #[test]
    fn wrong_urls_are_named_without_a_password() {
        for url in [
            "",
            "h:6379",
            "http://secret",
            "redis://",
            "redis://:secret@",
            "redis://u@h",
            "redis://:secret@h:port",
            "redis://:sec,secret@h:1",
            "redis://:secret@h/first",
            "redis://h?password=secret",
            "redis://:secret@h:0",
            "redis://:%ff%fe@h",
            "redis+unix://secret/run",
            "redis+unix:///run/r.sock?secret=1",
            "redis-cluster://:secret@a:1,b:2/1",
            "redis://:secret@a:1,rediss://b:2",
            "redis://:secret@a:1,redis://:other@b:2",
        ] {
            let error = parse(url).unwrap_err();
            assert_eq!(error.kind(), storage_core::ErrorKind::Config, "{url}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{url}: {error}");
        }
    }
}
