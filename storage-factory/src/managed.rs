//! Managed databases: a SQLite file whose home is named by the URL.

use storage_core::{Error, Result};

use crate::url::{MANAGED, is_managed, scheme};

/// What Python programs call their drivers in URLs; they say nothing to us.
const DRIVERS: [&str; 3] = ["sqlite", "sqlite+aiosqlite", "sqlite+pysqlite"];

/// Refuses a URL whose scheme is misspelt: it would be taken for the name of a local file.
pub(crate) fn check_scheme(url: &str) -> Result<&str> {
    match scheme(url).filter(|scheme| scheme.starts_with("sqlite")) {
        Some(scheme) if !is_managed(url) && !DRIVERS.contains(&scheme.as_str()) => Err(Error::config(
            format!("DATABASE_URL has the scheme `{scheme}`, which is no home of a database"),
        )
        .with_hint(
            "sqlite for a local file; sqlite+file, sqlite+azblob, sqlite+s3 or sqlite+gs for a managed one",
        )),
        _ => Ok(url),
    }
}

/// Refuses what this build lacks, with the feature to turn on.
fn check_feature(url: &str) -> Result<()> {
    let scheme = scheme(check_scheme(url)?);
    match MANAGED.iter().find(|(known, ..)| scheme.as_deref() == Some(*known)) {
        Some((scheme, feature, false)) => {
            let message = format!("{scheme}:// needs the feature `{feature}` of storage-factory");
            Err(Error::config(message).with_hint(format!("build with --features {feature}")))
        }
        Some(_) => Ok(()),
        None => Err(Error::config("DATABASE_URL names no managed database").with_hint(
            "sqlite+file:///folder/agent, sqlite+azblob://account/container/agent, sqlite+s3://bucket/agent or \
             sqlite+gs://bucket/agent",
        )),
    }
}

#[cfg(feature = "managed")]
pub(crate) use built::{backend, check_exists};
#[cfg(feature = "managed")]
pub use built::{managed_database, new_managed_key};

#[cfg(not(feature = "managed"))]
pub(crate) fn backend(
    url: &str,
    _settings: &crate::Settings,
    _options: &crate::options::Options,
) -> Result<std::sync::Arc<dyn storage_core::StorageBackend>> {
    check_feature(url)?;
    Err(Error::config("storage-factory was built without the feature `managed`"))
}

#[cfg(not(feature = "managed"))]
#[allow(clippy::unused_async, reason = "a build with managed databases asks their homes")]
pub(crate) async fn check_exists(
    _settings: &crate::Settings,
    _options: &crate::options::Options,
) -> Result<()> {
    Ok(())
}

#[cfg(feature = "managed")]
mod built {
    use std::{
        path::{Component, Path, PathBuf},
        sync::Arc,
        time::Duration,
    };

    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    use storage_core::{Error, Result, StorageBackend};
    use storage_managed::{
        Managed, Options as ManagedOptions, exists,
        home::{Home, from_url},
    };
    use storage_sqlite::SqliteBackend;

    use crate::{Settings, environment, keys, options::Options, url::is_managed};

    /// What a file's name shows as it is.
    const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');
    const LONGEST_NAME: usize = 200;
    /// By how much waiting for a lease outlasts its term.
    const OUTLASTING: Duration = Duration::from_secs(5);

    /// The home of the managed database that `DATABASE_URL` names, and how it is used, for what the backend alone cannot do:
    /// to fold, verify or restore it. Does no I/O but to read a file of Google's credentials.
    ///
    /// # Errors
    /// `Config` where the URL names no managed database, where a setting or a variable of the cloud cannot be used, or naming
    /// the Cargo feature that this build lacks.
    pub fn managed_database(settings: &Settings) -> Result<(Arc<dyn Home>, ManagedOptions)> {
        let url = settings.get("DATABASE_URL").unwrap_or_default();
        open(url, settings, &Options::parse(settings)?)
    }

    /// A new `id:key` entry for `STORAGE_MANAGED_KEYS`, or a line of the file of `STORAGE_MANAGED_KEY_FILE`.
    ///
    /// # Errors
    /// `Config` where this cannot be the id of a key, or naming the Cargo feature that this build lacks; `Unavailable` where the
    /// system has no random bytes.
    pub fn new_managed_key(id: &str) -> Result<String> {
        keys::generate(id)
    }

    pub(crate) fn backend(
        url: &str,
        settings: &Settings,
        options: &Options,
    ) -> Result<Arc<dyn StorageBackend>> {
        let (home, managed) = open(url, settings, options)?;
        let mut config = Managed::new(home, managed).config();
        config.create = options.create;
        config.operation_timeout = options.operation_timeout;
        config.max_value_bytes = options.max_value_bytes;
        config.sweep = options.sweep;
        Ok(Arc::new(SqliteBackend::new(config)?))
    }

    /// Fails where `DATABASE_URL` names a managed database to whose home nothing was ever published.
    pub(crate) async fn check_exists(settings: &Settings, options: &Options) -> Result<()> {
        let url = settings.get("DATABASE_URL").unwrap_or_default();
        if !is_managed(url) {
            return Ok(());
        }
        let (home, _) = open(url, settings, options)?;
        let name = home.name();
        if exists(home).await? {
            return Ok(());
        }
        Err(Error::config(format!("there is no store in the home `{name}`"))
            .with_hint("`storage init` makes one, and so does a program that connects; one on a disk or share is there once that is mounted"))
    }

    fn open(url: &str, settings: &Settings, options: &Options) -> Result<(Arc<dyn Home>, ManagedOptions)> {
        super::check_feature(url)?;
        let (scheme, rest) = url.split_once(':').unwrap_or_default();
        if scheme.eq_ignore_ascii_case("sqlite+file") && rest.trim_start_matches('/').starts_with('~') {
            return Err(Error::config("the home in DATABASE_URL begins with `~`, which only shells know")
                .with_hint("write the whole path, such as sqlite+file:///home/me/agent"));
        }
        let url = format!("{}:{rest}", scheme.to_ascii_lowercase());
        let home: Arc<dyn Home> = from_url(&url, &|name| settings.get(name).map(str::to_owned))?.into();
        let home = keys::encrypted(home, settings)?;
        let cache = match &options.cache_dir {
            Some(folder) => folder.clone(),
            None => default_cache(&home.name())?,
        };
        check_apart(&home.name(), &cache)?;
        let mut managed = ManagedOptions::new(cache);
        managed.freshness = options.freshness.unwrap_or(managed.freshness);
        managed.grace = options.managed_retention.unwrap_or(managed.grace);
        managed.publish_every = options.publish_every;
        managed.check_every = options.check_every;
        managed.lease_term = options.lease_term.unwrap_or(managed.lease_term);
        managed.lease_idle = options.lease_idle.unwrap_or(managed.lease_idle);
        managed.lease_share = options.lease_share.unwrap_or(managed.lease_share);
        managed.cache_wait = options.cache_wait.unwrap_or(managed.cache_wait);
        managed.fold_share = options.fold_share.unwrap_or(managed.fold_share);
        // Whoever waits outlives a killed writer's lease, and is told of it before the operation as a whole is given up.
        let outlasting = (managed.lease_term + OUTLASTING).min(options.operation_timeout / 2);
        managed.lease_wait = options.lease_wait.unwrap_or(outlasting);
        Ok((home, managed))
    }

    /// A folder of the user's own for each home.
    fn default_cache(home: &str) -> Result<PathBuf> {
        let unnamed = |why: &str| {
            Error::config(format!("no folder for the local copy of the managed database: {why}"))
                .with_hint("set STORAGE_CACHE_DIR to a folder for this process alone")
        };
        let user = environment::user_cache()?.ok_or_else(|| unnamed("this user has no home folder"))?;
        let name = utf8_percent_encode(&absolute(home), PLAIN).to_string();
        if name.len() > LONGEST_NAME {
            return Err(unnamed("the home's name is too long for the name of a file"));
        }
        Ok(user.join("agent-storage").join(name))
    }

    /// Each would take the other's files for its own, or for damage.
    fn check_apart(home: &str, cache: &Path) -> Result<()> {
        let Some(home) = home.strip_prefix("folder ") else { return Ok(()) };
        let (home, cache) = (real(Path::new(home)), real(cache));
        if cache.starts_with(&home) || home.starts_with(&cache) {
            return Err(Error::config(
                "the local copy of the managed database is in its home, or the home in it",
            )
            .with_hint("set STORAGE_CACHE_DIR, or --cache, to a folder apart from that of DATABASE_URL"));
        }
        Ok(())
    }

    /// The home's name; a folder by the one path that it has, so that however it is written, its copy is one.
    fn absolute(home: &str) -> String {
        let path = home.strip_prefix("folder ").map(|path| real(Path::new(path)));
        path.map_or_else(|| home.to_owned(), |path| format!("folder {}", path.display()))
    }

    /// The path without links, as far as it is there.
    fn real(path: &Path) -> PathBuf {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        for there in absolute.ancestors() {
            if let (Ok(real), Ok(rest)) = (there.canonicalize(), absolute.strip_prefix(there)) {
                // By its parts, so that a separator at the end is none.
                return rest.components().fold(real, |path, part| match part {
                    // What is not there is no link.
                    Component::ParentDir => path.parent().map(Path::to_owned).unwrap_or(path),
                    part => path.join(part),
                });
            }
        }
        absolute
    }
}
