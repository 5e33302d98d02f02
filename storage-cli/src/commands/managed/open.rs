//! A managed database while a command uses it.

use std::{sync::Arc, time::Duration};

use indicatif::ProgressBar;
use storage_core::ErrorKind;
use storage_factory::{Settings, managed_database};
use storage_managed::{DatabaseStore, Error, Options, exists};
use tempfile::TempDir;

use super::watched::{Watched, progress};
use crate::{
    failure::{Failure, Result, USAGE},
    store::own_cache,
};

/// How long an agent that is just ending may still have the cache.
pub(super) const CACHE_WAIT: Duration = Duration::from_millis(500);

/// An open store, the bar of its transfers, and whether its cache is its own because an agent uses the usual one.
pub(super) struct Opened {
    pub(super) store: DatabaseStore,
    pub(super) options: Options,
    pub(super) bar: ProgressBar,
    pub(super) has_own_cache: bool,
    /// A cache for this command alone.
    _empty: Option<TempDir>,
}

pub(super) async fn open(settings: &Settings, change: impl FnOnce(&mut Options)) -> Result<Opened> {
    let (home, mut options) = managed_database(settings)?;
    options.cache_wait = CACHE_WAIT;
    change(&mut options);
    let bar = progress();
    let home = Arc::new(Watched::new(home, bar.clone()));
    let (store, has_own_cache) = match DatabaseStore::open(home.clone(), options.clone()).await {
        Err(Error::CacheInUse { .. }) if !options.discard_after_rescue => {
            let elsewhere = Options { cache: own_cache(&options.cache), ..options.clone() };
            (DatabaseStore::open(home, elsewhere).await, true)
        }
        opened => (opened, false),
    };
    let store = store.inspect_err(|_| bar.finish_and_clear())?;
    Ok(Opened { store, options, bar, has_own_cache, _empty: None })
}

/// The same with an empty cache, for what asks the home alone, where a person has to decide about the usual one.
async fn open_home(settings: &Settings) -> Result<Opened> {
    let opened = Box::pin(open(settings, |_| {})).await;
    if opened.as_ref().is_err_and(|failure| failure.kind == ErrorKind::Diverged.code()) {
        let empty = tempfile::tempdir()
            .map_err(|error| Failure::input(format!("no folder for a copy of the database: {error}")))?;
        let elsewhere = open(settings, |options| options.cache = empty.path().to_owned());
        let opened = Box::pin(elsewhere).await?;
        return Ok(Opened { _empty: Some(empty), ..opened });
    }
    opened
}

/// Looking after a home that nobody has written to would make one.
pub(super) async fn check_exists(settings: &Settings) -> Result<()> {
    let (home, _) = managed_database(settings)?;
    let name = home.name();
    match exists(home).await {
        // A store whose head is gone is one: who needs the head says so.
        Ok(true) | Err(Error::Corrupt { .. }) => return Ok(()),
        Ok(false) => {}
        Err(error) => return Err(error.into()),
    }
    let failure =
        Failure::new(USAGE, ErrorKind::Config.code(), format!("there is no store in the home `{name}`"));
    Err(failure.hint("`storage init` makes one, and so does a program that connects; one on a disk or share is there once that is mounted"))
}

/// Opens, works, and closes in any case. Ctrl-C ends the work, which leaves the home whole.
pub(super) async fn with_database<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(&Opened) -> Result<T>,
) -> Result<T> {
    use_opened(settings, Box::pin(open(settings, |_| {})), work).await
}

/// The same for what asks the home alone, which a cache that is refused does not keep from it.
pub(super) async fn with_home<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(&Opened) -> Result<T>,
) -> Result<T> {
    use_opened(settings, Box::pin(open_home(settings)), work).await
}

pub(super) fn interrupted() -> Failure {
    Failure::interrupted("interrupted; the home is as whole as before")
}

async fn use_opened<T>(
    settings: &Settings,
    opened: impl Future<Output = Result<Opened>>,
    work: impl AsyncFnOnce(&Opened) -> Result<T>,
) -> Result<T> {
    let work = async {
        check_exists(settings).await?;
        let opened = opened.await?;
        let answer = tokio::select! {
            answer = work(&opened) => answer,
            _ = tokio::signal::ctrl_c() => Err(interrupted()),
        };
        opened.bar.finish_and_clear();
        let closed = opened.store.close().await;
        let answer = answer?;
        closed?;
        Ok(answer)
    };
    work.await
}
