//! Where the file is and how it is used.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use percent_encoding::percent_decode_str;
use storage_core::{
    Clock, DEFAULT_MAX_VALUE_BYTES, DEFAULT_OPERATION_TIMEOUT, Error, Result, SweepConfig, SystemClock,
    check_timeout,
};

use crate::Publisher;

/// How many connections read unless a backend is set up otherwise.
const DEFAULT_READERS: usize = 4;
const HINT: &str =
    "write sqlite:///./agent.db for a file in this folder, sqlite:////var/lib/agent.db for another";

/// How a [`SqliteBackend`](crate::SqliteBackend) is set up.
///
/// ```
/// use std::time::Duration;
/// use storage_sqlite::SqliteConfig;
///
/// let config = SqliteConfig { operation_timeout: Duration::from_secs(2), ..SqliteConfig::new("./agent.db") };
/// assert_eq!(config.path, SqliteConfig::from_url("sqlite:///./agent.db")?.path);
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SqliteConfig {
    /// The database file. It is created with mode 0600 where it does not exist, and so is its folder (0700).
    pub path: PathBuf,
    /// Whether connecting makes the file, its folder and its tables where they are not there. Without it nothing is made and
    /// the file stays as it is, but for what is written to it; what is not there is `Config`. On by default.
    pub create: bool,
    /// How much a commit waits for the disk.
    pub synchronous: Synchronous,
    /// How many threads read what takes longer than a single key, each on a connection of its own, started as they are
    /// needed. One more writes, one reads single keys, and one runs checkpoints.
    pub readers: usize,
    /// How long a call may take, waiting for a connection and for other processes included.
    pub operation_timeout: Duration,
    /// How long a write waits for the lock while others write to the file; never longer than the call may take.
    pub busy_timeout: Duration,
    /// The longest value, in bytes.
    pub max_value_bytes: usize,
    /// How expired rows are removed in the background; `None` leaves it to
    /// [`cleanup`](storage_core::StorageBackend::cleanup).
    pub sweep: Option<SweepConfig>,
    /// The clock that judges expiry.
    pub clock: Arc<dyn Clock>,
    /// Who keeps the file elsewhere too; nobody by default. See [`Publisher`].
    pub publisher: Option<Arc<dyn Publisher>>,
}

/// How much a commit waits for the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// Until the data is on the disk: what was written survives a power cut.
    #[default]
    Full,
    /// Not at all: the file stays sound, but a power cut may undo the last writes.
    Normal,
}

impl Synchronous {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Normal => "NORMAL",
        }
    }
}

impl SqliteConfig {
    /// The default settings on the file at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            create: true,
            synchronous: Synchronous::default(),
            readers: DEFAULT_READERS,
            operation_timeout: DEFAULT_OPERATION_TIMEOUT,
            busy_timeout: DEFAULT_OPERATION_TIMEOUT,
            max_value_bytes: DEFAULT_MAX_VALUE_BYTES,
            sweep: Some(SweepConfig::default()),
            clock: Arc::new(SystemClock),
            publisher: None,
        }
    }

    /// The default settings on the file that a URL names: `sqlite:///a.db` and `sqlite:///./a.db` relative to the
    /// working folder, `sqlite:////var/a.db` absolute. A driver (`sqlite+aiosqlite`) is ignored, percent-escapes are
    /// decoded. What has no scheme is a path and taken as it is.
    ///
    /// # Errors
    /// `Config` for a URL that names no file, that has parameters, or whose scheme is another; and for `~`, which only shells
    /// know.
    pub fn from_url(url: &str) -> Result<Self> {
        let path = match url.split_once(':') {
            Some((scheme, rest)) if is_sqlite(scheme) => path_of(rest)?,
            Some((scheme, rest)) if rest.starts_with("//") => {
                let scheme = scheme.escape_debug();
                return Err(
                    Error::config(format!("`{scheme}` is not the scheme of a SQLite URL")).with_hint(HINT)
                );
            }
            _ => url.to_owned(),
        };
        if path.starts_with('~') {
            return Err(Error::config("the path of the SQLite file begins with `~`, which only shells know")
                .with_hint("write the whole path, such as sqlite:////home/me/agent.db; ./~ where a file has that name"));
        }
        check_path(Path::new(&path))?;
        Ok(Self::new(path))
    }

    /// Checks what the types let through.
    pub(crate) fn check(&self) -> Result<()> {
        check_path(&self.path)?;
        let sweep = self.sweep.unwrap_or_default();
        let zero = [
            ("readers", self.readers == 0),
            ("operation_timeout", self.operation_timeout.is_zero()),
            ("sweep.interval", sweep.interval.is_zero()),
            ("sweep.batch", sweep.batch == 0),
        ];
        if let Some((name, _)) = zero.iter().find(|(_, zero)| *zero) {
            return Err(Error::config(format!("`{name}` may not be zero")));
        }
        check_timeout("operation_timeout", self.operation_timeout)?;
        check_timeout("busy_timeout", self.busy_timeout)?;
        check_timeout("sweep.interval", sweep.interval)
    }
}

fn is_sqlite(scheme: &str) -> bool {
    let dialect = scheme.split('+').next().unwrap_or_default();
    dialect.eq_ignore_ascii_case("sqlite")
}

/// The path behind `sqlite:`. The third slash of `sqlite:///` ends the empty host and is no part of the path.
fn path_of(rest: &str) -> Result<String> {
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let path = rest.strip_prefix('/').unwrap_or(rest);
    if path.contains('?') {
        return Err(Error::config("a SQLite URL takes no parameters")
            .with_hint("write a question mark that belongs to the file's name as %3F"));
    }
    match percent_decode_str(path).decode_utf8() {
        Ok(path) => Ok(path.into_owned()),
        Err(_) => Err(Error::config("the path in the SQLite URL is not UTF-8 once its escapes are decoded")),
    }
}

fn check_path(path: &Path) -> Result<()> {
    if path.as_os_str().is_empty() {
        return Err(Error::config("the SQLite setting names no file").with_hint(HINT));
    }
    if path.as_os_str() == ":memory:" {
        return Err(Error::config("a SQLite database in memory is not supported")
            .with_hint("use the memory backend, or name a file"));
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(Error::config("the path of the SQLite file holds a NUL character"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_by_table() {
        for (url, path) in [
            ("sqlite:///./a.db", "./a.db"),
            ("sqlite:///a.db", "a.db"),
            ("sqlite:////var/lib/a.db", "/var/lib/a.db"),
            ("sqlite://a.db", "a.db"),
            ("sqlite://./data/a.db", "./data/a.db"),
            ("sqlite:a.db", "a.db"),
            ("SQLite:///a.db", "a.db"),
            ("sqlite+aiosqlite:///./a.db", "./a.db"),
            ("sqlite:///a%20b%3F%c3%a9.db", "a b?é.db"),
            ("sqlite:///a b#c.db", "a b#c.db"),
            ("a.db", "a.db"),
            ("./a%20b?.db", "./a%20b?.db"),
            ("/var/lib/a.db", "/var/lib/a.db"),
            ("odd:name.db", "odd:name.db"),
        ] {
            assert_eq!(SqliteConfig::from_url(url).unwrap().path, Path::new(path), "{url}");
        }
    }

    #[test]
    fn urls_that_name_no_file_are_refused_without_repeating_them() {
        for url in [
            "",
            "sqlite:",
            "sqlite://",
            "sqlite:///",
            "sqlite:///:memory:",
            ":memory:",
            "sqlite:///a.db?password=s3cret",
            "sqlite:///s3cret%ff",
            "sqlite:///s3cret%00",
            "postgresql://agent:s3cret@db/agents",
            "sqlitex://s3cret",
            "sqlite:///~/s3cret.db",
            "~/s3cret.db",
        ] {
            let error = SqliteConfig::from_url(url).unwrap_err();
            assert_eq!(error.kind(), storage_core::ErrorKind::Config, "{url}");
            assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        }
    }
}
