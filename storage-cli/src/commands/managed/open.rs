//! A managed database while a command uses it.

use std::{sync::Arc, time::Duration};

use indicatif::ProgressBar;
use storage_core::ErrorKind;
use storage_factory::{Settings, managed_database};
use storage_managed::{DatabaseStore, Error, Options, exists};

use super::watched::{Watched, progress};
use crate::{
    failure::{Failure, Result, USAGE},
    store::own_cache,
};

/// How long an agent that is just ending may still have the cache.
const CACHE_WAIT: Duration = Duration::from_millis(500);

/// An open store, the bar of its transfers, and whether its cache is its own because an agent uses the usual one.
pub(super) struct Opened {
    pub(super) store: DatabaseStore,
    pub(super) options: Options,
    pub(super) bar: ProgressBar,
    pub(super) has_own_cache: bool,
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
    Ok(Opened { store: store.inspect_err(|_| bar.finish_and_clear())?, options, bar, has_own_cache })
}

/// Looking after a home that nobody has written to would make one.
async fn check_exists(settings: &Settings) -> Result<()> {
    let (home, _) = managed_database(settings)?;
    let name = home.name();
    if exists(home).await? {
        return Ok(());
    }
    let failure =
        Failure::new(USAGE, ErrorKind::Config.code(), format!("there is no store in the home `{name}`"));
    Err(failure.hint("`storage init` makes one, and so does a program that connects"))
}

/// Opens, works, and closes in any case. Ctrl-C ends the work, which leaves the home whole.
pub(super) async fn with_database<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(&Opened) -> Result<T>,
) -> Result<T> {
    let interrupted = || Failure::interrupted("interrupted; the home is as whole as before");
    let work = async {
        check_exists(settings).await?;
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
