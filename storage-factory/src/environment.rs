//! The one place where the environment is read.

#[cfg(feature = "managed")]
use std::path::PathBuf;
use std::{env, path::Path};

use storage_core::{Error, Result};

/// A variable of the process; empty counts as unset.
#[allow(clippy::disallowed_methods, reason = "the one home of the environment")]
pub(crate) fn variable(name: &str) -> Result<Option<String>> {
    match env::var(name) {
        Ok(text) => Ok(Some(text).filter(|text| !text.trim().is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(Error::config(format!("the variable {name} is not UTF-8"))),
    }
}

/// The user's folder for what can be had again; `None` for a user without a home.
#[cfg(feature = "managed")]
pub(crate) fn user_cache() -> Result<Option<PathBuf>> {
    let named = variable("XDG_CACHE_HOME")?.map(PathBuf::from).filter(|path| path.is_absolute());
    let usual = || env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join(".cache"));
    Ok(named.or_else(usual))
}

/// The variables of `.env` in the working directory; none where there is no such file.
pub(crate) fn dot_env() -> Result<Vec<(String, String)>> {
    let path = Path::new(".env");
    let lines = match dotenvy::from_path_iter(path) {
        Ok(lines) => lines,
        Err(dotenvy::Error::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(unreadable(&error)),
    };
    lines.collect::<Result<Vec<_>, _>>().map_err(|error| unreadable(&error))
}

/// Without the line itself, which may hold a password.
fn unreadable(error: &dotenvy::Error) -> Error {
    let what = match error {
        dotenvy::Error::LineParse(_, at) => {
            format!("the file .env has a line that is no NAME=value, near column {at}")
        }
        dotenvy::Error::Io(error) => format!("the file .env cannot be read: {}", error.kind()),
        _ => "the file .env cannot be read".to_owned(),
    };
    Error::config(what)
}
