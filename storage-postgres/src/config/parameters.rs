//! libpq's parameters, and those of other drivers that providers hand out: what each sets here.

use std::{fmt::Display, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use storage_core::{Error, Result};
use tokio_postgres::config::{ChannelBinding, SslNegotiation};

use super::{
    server,
    settings::PostgresConfig,
    ssl::{SslMode, SslRoots},
    text::Values,
};

/// The variables that libpq reads, and the parameters that they stand for.
const VARIABLES: [(&str, &str); 16] = [
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGDATABASE", "dbname"),
    ("PGPASSFILE", "passfile"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLNEGOTIATION", "sslnegotiation"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGAPPNAME", "application_name"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGOPTIONS", "options"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGLOADBALANCEHOSTS", "load_balance_hosts"),
];

/// Other drivers' names of parameters.
const ALIASES: [(&str, &str); 5] = [
    ("ssl", "sslmode"),
    ("database", "dbname"),
    ("keepalives_retries", "keepalives_count"),
    ("ssl_negotiation", "sslnegotiation"),
    ("pgbouncer", "pooler"),
];

/// What cannot be done here, and what to do instead.
const REFUSED: [(&str, &str); 22] = [
    ("service", "write what the service's section says into the URL"),
    ("servicefile", "write what the service's section says into the URL"),
    ("sslcert", "client certificates are not supported: log in with a password"),
    ("sslkey", "client certificates are not supported: log in with a password"),
    ("sslpassword", "client certificates are not supported: log in with a password"),
    ("sslcrl", "lists of revoked certificates are not supported"),
    ("sslcrldir", "lists of revoked certificates are not supported"),
    ("sslaccept", "use sslmode=verify-full, or POSTGRES_TLS_VERIFY=none to verify nothing"),
    ("requirepeer", "it is not supported: leave it out"),
    (
        "require_auth",
        "it is not supported; channel_binding=require proves the server's knowledge of the password",
    ),
    ("krbsrvname", "GSSAPI is not supported: log in with a password"),
    ("gsslib", "GSSAPI is not supported: log in with a password"),
    ("gssdelegation", "GSSAPI is not supported: log in with a password"),
    ("replication", "it is not for programs that read and write entries"),
    ("pool_timeout", "STORAGE_OPERATION_TIMEOUT bounds waiting for a connection too"),
    ("socket_timeout", "STORAGE_OPERATION_TIMEOUT bounds each call"),
    ("command_timeout", "STORAGE_OPERATION_TIMEOUT bounds each call"),
    ("statement_timeout", "STORAGE_OPERATION_TIMEOUT bounds each call, at the server too"),
    ("search_path", "use POSTGRES_SCHEMA, or options=-c%20search_path%3D…"),
    ("currentSchema", "use POSTGRES_SCHEMA, or `schema`"),
    ("statement_cache_size", "behind a pooler set POSTGRES_POOLER=true"),
    ("prepared_statement_cache_size", "behind a pooler set POSTGRES_POOLER=true"),
];

/// One parameter, and where it was said.
struct Said<'a> {
    place: String,
    text: &'a str,
}

/// Adds what the variables say and the text does not. The file of passwords in the user's home is used where nothing names
/// another.
pub(super) fn with_variables(values: &mut Values, variable: &dyn Fn(&str) -> Option<String>) -> Result<()> {
    rename(values);
    let read = |name| variable(name).filter(|text| !text.is_empty());
    for (name, parameter) in VARIABLES {
        // A host of one and an address of the other would be for different servers.
        let overruled = parameter == "hostaddr" && values.contains_key("host");
        if let (false, false, Some(text)) = (values.contains_key(parameter), overruled, read(name)) {
            values.insert(parameter.to_owned(), text.clone());
            // Looked at by itself, so that the error names the variable.
            let said = Said { place: name.to_owned(), text: &text };
            apply(&mut PostgresConfig::default(), parameter, &said)?;
        }
    }
    if let (false, Some(home)) = (values.contains_key("passfile"), read("HOME")) {
        let path = PathBuf::from(home).join(".pgpass");
        values.extend(path.to_str().map(|path| ("passfile".to_owned(), path.to_owned())));
    }
    Ok(())
}

/// The settings that the values say.
pub(super) fn config(mut values: Values) -> Result<PostgresConfig> {
    rename(&mut values);
    let mut config = PostgresConfig::default();
    for (name, text) in &values {
        let said = Said { place: format!("the Postgres URL's `{name}`"), text };
        apply(&mut config, name, &said)?;
    }
    // As libpq does for `system`: who names roots means them to be looked at.
    if !values.contains_key("sslmode") {
        match config.ssl_roots {
            Some(SslRoots::System) => config.ssl_mode = SslMode::VerifyFull,
            Some(SslRoots::File(_)) => config.ssl_mode = SslMode::VerifyCa,
            None => {}
        }
    }
    if !values.contains_key("application_name")
        && let Some(name) = values.get("fallback_application_name")
    {
        config.application_name.clone_from(name);
    }
    config.server.check()?;
    Ok(config)
}

fn rename(values: &mut Values) {
    for (alias, name) in ALIASES {
        if let Some(text) = values.remove(alias) {
            values.entry(name.to_owned()).or_insert(text);
        }
    }
}

/// Sets what one parameter says.
fn apply(config: &mut PostgresConfig, name: &str, said: &Said<'_>) -> Result<()> {
    let driver = &mut config.server.driver;
    match name {
        "host" => config.server.hosts = said.text.split(',').map(server::host).collect(),
        "hostaddr" => config.server.addresses = said.list("a list of addresses")?,
        "port" => config.server.ports = said.ports()?,
        "user" => {
            driver.user(said.text);
        }
        "password" if said.text.is_empty() => {}
        "password" => {
            driver.password(said.text);
        }
        "dbname" => {
            driver.dbname(said.text);
        }
        "options" => {
            driver.options(said.text);
        }
        "channel_binding" => {
            driver.channel_binding(said.channel_binding()?);
        }
        "passfile" => config.pass_file = Some(PathBuf::from(said.text)),
        "application_name" => said.text.clone_into(&mut config.application_name),
        // Looked at once all is known.
        "fallback_application_name" => {}
        "connect_timeout" => {
            let limit = said.seconds()?;
            // Without end, for libpq; here the default.
            config.connect_timeout = if limit.is_zero() { config.connect_timeout } else { limit };
        }
        "target_session_attrs" => config.target_session_attrs = Some(said.parsed()?),
        "load_balance_hosts" => config.load_balance_hosts = said.one_of(&["disable", "random"])? == "random",
        "schema" => config.schema = Some(said.text.to_owned()),
        "pooler" => config.pooler = said.flag()?,
        "connection_limit" => {
            config.pool_max = said.number("a number of connections")?;
            config.pool_min = config.pool_min.min(config.pool_max);
        }
        _ if name.starts_with("ssl") => return tls(config, name, said),
        _ if name.starts_with("keepalives") || name == "tcp_user_timeout" => {
            return keepalive(config, name, said);
        }
        _ => return others(name, said),
    }
    Ok(())
}

fn tls(config: &mut PostgresConfig, name: &str, said: &Said<'_>) -> Result<()> {
    match name {
        "sslmode" => {
            config.ssl_mode = match said.text {
                // As Python's and Java's drivers spell them.
                "true" => SslMode::Require,
                "false" => SslMode::Disable,
                _ => said.parsed()?,
            }
        }
        "sslrootcert" if said.text == "system" => config.ssl_roots = Some(SslRoots::System),
        "sslrootcert" => config.ssl_roots = Some(SslRoots::File(PathBuf::from(said.text))),
        "sslnegotiation" => {
            let direct = said.one_of(&["postgres", "direct"])? == "direct";
            let how = if direct { SslNegotiation::Direct } else { SslNegotiation::Postgres };
            config.server.driver.ssl_negotiation(how);
        }
        // What is so in any case.
        "sslcompression" => said.is_one_of(&["0"])?,
        "sslsni" => said.is_one_of(&["1"])?,
        "sslcertmode" => said.is_one_of(&["disable", "allow"])?,
        "ssl_min_protocol_version" => said.is_one_of(&["TLSv1", "TLSv1.1", "TLSv1.2"])?,
        "ssl_max_protocol_version" => said.is_one_of(&["TLSv1.3"])?,
        _ => return others(name, said),
    }
    Ok(())
}

fn keepalive(config: &mut PostgresConfig, name: &str, said: &Said<'_>) -> Result<()> {
    let driver = &mut config.server.driver;
    // Of all of them zero means the default.
    match name {
        "keepalives" => {
            driver.keepalives(said.flag()?);
        }
        "keepalives_idle" => {
            if let Some(idle) = said.some_seconds()? {
                driver.keepalives_idle(idle);
            }
        }
        "keepalives_interval" => {
            if let Some(interval) = said.some_seconds()? {
                driver.keepalives_interval(interval);
            }
        }
        "keepalives_count" => match said.number("a number of probes")? {
            0 => {}
            count => {
                driver.keepalives_retries(count);
            }
        },
        "tcp_user_timeout" => match said.number("a number of milliseconds")? {
            0 => {}
            limit => {
                driver.tcp_user_timeout(Duration::from_millis(limit));
            }
        },
        _ => return others(name, said),
    }
    Ok(())
}

fn others(name: &str, said: &Said<'_>) -> Result<()> {
    match name {
        // GSSAPI is not spoken here, and the text is always UTF-8.
        "gssencmode" => said.is_one_of(&["disable", "prefer"])?,
        // What another driver, or a provider's pooler in front of the server, is told.
        "uselibpqcompat" | "supa" => {}
        "client_encoding" => match said.text.to_ascii_lowercase().as_str() {
            "utf8" | "utf-8" | "unicode" | "auto" => {}
            _ => return Err(said.must_be("utf8").with_hint("Postgres sends and takes UTF-8 here")),
        },
        _ => {
            let error = |what: &str| Error::config(format!("{} {what}", said.place));
            return Err(match REFUSED.iter().find(|(refused, _)| *refused == name) {
                Some((_, instead)) => error("is not supported").with_hint(*instead),
                None => error("is not known").with_hint("the parameters are libpq's"),
            });
        }
    }
    Ok(())
}

impl Said<'_> {
    fn must_be(&self, expected: impl Display) -> Error {
        Error::config(format!("{} must be {expected}", self.place))
    }

    fn parsed<T: FromStr<Err = Error>>(&self) -> Result<T> {
        // Only the hint, which names what may be said.
        self.text
            .parse()
            .map_err(|error| Error::config(format!("{} is not known", self.place)).with_hint_of(&error))
    }

    fn one_of(&self, known: &[&'static str]) -> Result<&'static str> {
        let found = known.iter().find(|known| **known == self.text);
        found.copied().ok_or_else(|| self.must_be(known.join(" or ")))
    }

    fn is_one_of(&self, known: &[&'static str]) -> Result<()> {
        self.one_of(known).map(|_| ())
    }

    fn flag(&self) -> Result<bool> {
        match self.text {
            "1" | "true" | "yes" | "on" => Ok(true),
            "0" | "false" | "no" | "off" => Ok(false),
            _ => Err(self.must_be("1 or 0")),
        }
    }

    fn number<T: FromStr>(&self, what: &str) -> Result<T> {
        self.text.parse().map_err(|_| self.must_be(what))
    }

    fn seconds(&self) -> Result<Duration> {
        self.number("a number of seconds").map(Duration::from_secs)
    }

    fn some_seconds(&self) -> Result<Option<Duration>> {
        Ok(Some(self.seconds()?).filter(|time| !time.is_zero()))
    }

    fn list(&self, what: &str) -> Result<Vec<IpAddr>> {
        self.text.split(',').map(|text| text.parse().map_err(|_| self.must_be(what))).collect()
    }

    /// One for all hosts, or one for each; an empty one is the default.
    fn ports(&self) -> Result<Vec<u16>> {
        let port = |text: &str| match text {
            "" => Ok(server::PORT),
            text => text.parse().ok().filter(|port| *port > 0).ok_or_else(|| self.must_be("a port")),
        };
        self.text.split(',').map(port).collect()
    }

    fn channel_binding(&self) -> Result<ChannelBinding> {
        Ok(match self.one_of(&["disable", "prefer", "require"])? {
            "disable" => ChannelBinding::Disable,
            "require" => ChannelBinding::Require,
            _ => ChannelBinding::Prefer,
        })
    }
}
