//! What a URL or a key=value text says, as names and values.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use storage_core::{Error, Result};

/// The schemes of a URL. `+asyncpg` and the like are how Python programs name their driver.
const SCHEMES: [&str; 6] = [
    "postgresql://",
    "postgres://",
    "postgresql+asyncpg://",
    "postgresql+psycopg://",
    "postgresql+psycopg2://",
    "postgresql+psycopg_async://",
];

/// Values by libpq's names; of a name that is said twice the last one.
pub(super) type Values = BTreeMap<String, String>;

/// What `text` says: a URL, or libpq's key=value form.
pub(super) fn values(text: &str) -> Result<Values> {
    let text = text.trim();
    let after = |scheme: &&str| {
        let (begin, rest) = text.split_at_checked(scheme.len())?;
        begin.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    if let Some(rest) = SCHEMES.iter().find_map(after) {
        return url(rest);
    }
    if is_key_value(text) {
        return key_value(text);
    }
    Err(Error::config("this is no Postgres URL")
        .with_hint("it begins with postgresql:// or postgres://, or is of the form `host=… dbname=…`"))
}

/// Whether a text begins with a name and an equals sign.
fn is_key_value(text: &str) -> bool {
    text.split_once('=').is_some_and(|(name, _)| {
        let name = name.trim_end();
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    })
}

/// `user:password@host:port,host:port/database?name=value&name=value`.
fn url(rest: &str) -> Result<Values> {
    let (login, place, query) = split(rest)?;
    let mut values = Values::new();
    let mut put = |name: &str, text: &str| -> Result<()> {
        if !text.is_empty() {
            values.insert(name.to_owned(), decode(name, text)?);
        }
        Ok(())
    };
    if let Some(login) = login {
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        put("user", user)?;
        put("password", password)?;
    }
    let (servers, database) = place.split_once('/').unwrap_or((place, ""));
    put("dbname", database)?;
    let (hosts, ports) = servers.split(',').map(server).collect::<Result<(Vec<_>, Vec<_>)>>()?;
    put("host", &joined(&hosts))?;
    put("port", &joined(&ports))?;
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let Some((name, value)) = parameter.split_once('=') else {
            return Err(Error::config("a parameter of the Postgres URL has no value")
                .with_hint("parameters are of the form name=value, separated by `&`"));
        };
        // A plus sign is one, as in libpq.
        let name = decode("a parameter's name", name)?;
        let value = decode(&name, value)?;
        values.insert(name, value);
    }
    Ok(values)
}

/// The parts, empty ones too; nothing where all are empty.
fn joined(parts: &[&str]) -> String {
    if parts.iter().all(|part| part.is_empty()) { String::new() } else { parts.join(",") }
}

/// Host and port. An IPv6 address stands in brackets.
fn server(text: &str) -> Result<(&str, &str)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest
            .split_once(']')
            .ok_or_else(|| Error::config("an IPv6 address of the Postgres URL has no closing bracket"))?,
        None => text.split_at_checked(text.find(':').unwrap_or(text.len())).unwrap_or((text, "")),
    };
    match port.strip_prefix(':') {
        Some(port) => Ok((host, port)),
        None if port.is_empty() => Ok((host, "")),
        None => Err(Error::config("the Postgres URL has something between an IPv6 address and its port")),
    }
}

/// Splits into the login, the place and the parameters; user and password may hold what separates the others.
fn split(rest: &str) -> Result<(Option<&str>, &str, &str)> {
    let login = rest.split_once('@').filter(|(login, _)| {
        // An `@` among the parameters ends no login.
        !login.split_once('/').is_some_and(|(_, rest)| rest.contains('?'))
    });
    let (login, rest) = login.map_or((None, rest), |(login, rest)| (Some(login), rest));
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    if place.contains('@') {
        return Err(Error::config("the Postgres URL has more than one `@`")
            .with_hint("write an `@` in user or password as %40"));
    }
    Ok((login, place, query))
}

fn decode(name: &str, text: &str) -> Result<String> {
    let text = percent_decode_str(text).decode_utf8();
    let text = text.map_err(|_| Error::config(format!("the Postgres URL's {name} is not UTF-8")))?;
    if text.contains('\0') {
        return Err(Error::config(format!("the Postgres URL's {name} has a NUL")));
    }
    Ok(text.into_owned())
}

/// libpq's form: `name = value` separated by spaces; a value with spaces in single quotes, in which a backslash goes before
/// a quote or a backslash. Two quotes are taken as one as well.
fn key_value(text: &str) -> Result<Values> {
    let mut values = Values::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some((name, value)) = rest.split_once('=') else {
            return Err(malformed("has a name without `=`"));
        };
        let name = name.trim_end();
        if !is_key_value(&format!("{name}=")) {
            return Err(malformed("has a name that is none"));
        }
        let (value, after) = match value.trim_start().strip_prefix('\'') {
            Some(quoted) => quoted_value(quoted)?,
            None => plain_value(value.trim_start()),
        };
        values.insert(name.to_owned(), value);
        rest = after.trim_start();
    }
    Ok(values)
}

fn quoted_value(text: &str) -> Result<(String, &str)> {
    let (mut value, mut letters) = (String::new(), text.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next()),
            '\'' => match letters.as_str().strip_prefix('\'') {
                Some(rest) => {
                    value.push('\'');
                    letters = rest.chars();
                }
                None => return Ok((value, letters.as_str())),
            },
            letter => value.push(letter),
        }
    }
    Err(malformed("has a quoted value without an end"))
}

fn plain_value(text: &str) -> (String, &str) {
    let (mut value, mut letters) = (String::new(), text.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next()),
            letter if letter.is_whitespace() => break,
            letter => value.push(letter),
        }
    }
    (value, letters.as_str())
}

fn malformed(what: &str) -> Error {
    Error::config(format!("the Postgres settings {what}"))
        .with_hint("they are of the form `host=… dbname=…`, a value with spaces in single quotes")
}
