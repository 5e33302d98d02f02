//! The one place where the environment is read.

#[cfg(feature = "managed")]
use std::path::PathBuf;
use std::{env, fs, io};

use storage_core::{Error, Result};

use crate::dot_env::DotEnv;

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

/// What the file `.env` in the working directory says; nothing where there is no such file.
pub(crate) fn dot_env() -> Result<DotEnv> {
    let bytes = match fs::read(".env") {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(DotEnv::default()),
        Err(error) => return Err(unreadable(&error.kind().to_string())),
    };
    let text = String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8"))?;
    Ok(DotEnv::parse(&text, &|name| variable(name).ok().flatten()))
}

fn unreadable(why: &str) -> Error {
    Error::config(format!("the file .env cannot be read: {why}"))
}
