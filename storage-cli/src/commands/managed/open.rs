//! A managed database while a command uses it.

use std::{sync::Arc, time::Duration};

use indicatif::ProgressBar;
use storage_factory::{Settings, managed_database};
use storage_managed::{DatabaseStore, Error, Options};
use tempfile::TempDir;

use super::watched::{Watched, progress};
use crate::failure::{Failure, Result};

/// How long an agent that is just ending may still have the cache.
const CACHE_WAIT: Duration = Duration::from_millis(500);

/// An open store, the bar of its transfers, and the cache that it has where an agent uses the usual one.
pub(super) struct Opened {
    pub(super) store: DatabaseStore,
    pub(super) options: Options,
    pub(super) bar: ProgressBar,
    pub(super) own_cache: Option<TempDir>,
}

pub(super) async fn open(settings: &Settings, change: impl FnOnce(&mut Options)) -> Result<Opened> {
    let (home, mut options) = managed_database(settings)?;
    options.cache_wait = CACHE_WAIT;
    change(&mut options);
    let bar = progress();
    let home = Arc::new(Watched::new(home, bar.clone()));
    let (store, own_cache) = match DatabaseStore::open(home.clone(), options.clone()).await {
        Err(Error::CacheInUse { .. }) if !options.discard_after_rescue => {
            let own = tempfile::tempdir().map_err(|error| Failure::output(&error))?;
            let elsewhere = Options { cache: own.path().to_owned(), ..options.clone() };
            (DatabaseStore::open(home, elsewhere).await, Some(own))
        }
        opened => (opened, None),
    };
    Ok(Opened { store: store.inspect_err(|_| bar.finish_and_clear())?, options, bar, own_cache })
}

/// Opens, works, and closes in any case. Ctrl-C ends the work, which leaves the home whole.
pub(super) async fn with_database<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(&Opened) -> Result<T>,
) -> Result<T> {
    let interrupted = || Failure::interrupted("interrupted; the home is as whole as before");
    let work = async {
        let opened = open(settings, |_| {}).await?;
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
