//! Reads from a standby, where that is wanted and it is near enough.

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

use storage_core::{
    ErrorKind, Result,
    engine::{Home, Homes, background},
};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::set::{Set, start};
use crate::{
    config::PostgresConfig,
    connections::{
        connector::Connector,
        executor::Executor,
        freshness::Freshness,
        pool::{Pool, Schema},
    },
    statements::{query::Query, value::column},
};

pub(crate) struct Replica {
    sets: Homes<Set>,
    pub(super) connector: Connector,
    pub(crate) freshness: Arc<Freshness>,
    _watcher: AbortOnDropHandle<()>,
}

impl Replica {
    /// Opens nothing yet: a standby that is down is no reason not to connect. `primary` is asked where it is.
    pub(super) async fn new(
        config: PostgresConfig,
        freshness: Freshness,
        schema: Schema,
        runtime: Option<&Handle>,
        primary: Weak<Pool>,
    ) -> Result<Self> {
        let (config, freshness) = (Arc::new(config), Arc::new(freshness));
        let background = background()?;
        let home = if runtime.is_some() { Home::Own } else { Home::Background };
        let connector = Connector::new(Arc::clone(&config), home).await?;
        let sets = Homes::of(runtime.map(Handle::id), |home| {
            let runtime = runtime.filter(|_| home == Home::Own).unwrap_or(background);
            let pool = Pool::new(&config, connector.at(home), schema, None, runtime);
            Set::new(home, pool.near(Arc::clone(&freshness)), config.pool_max)
        });
        let watcher = watch(Arc::clone(&freshness), primary, connector.at(Home::Background))?;
        Ok(Self { sets, connector, freshness, _watcher: watcher })
    }

    pub(super) fn here(&self) -> &Set {
        self.sets.here()
    }

    pub(super) fn close(&self) {
        self.sets.all().for_each(|set| set.queues.close());
    }
}

/// Asks the primary where it is, for as long as it is kept.
fn watch(
    freshness: Arc<Freshness>,
    primary: Weak<Pool>,
    connector: Connector,
) -> Result<AbortOnDropHandle<()>> {
    let watcher = background()?.spawn(async move {
        while let Some(pool) = primary.upgrade() {
            let (asked, work) = (Instant::now(), |executor| async move { position(executor).await });
            let answer = start(Home::Background, Executor::new(&pool), connector.token(), work);
            drop(pool);
            match answer.await {
                Ok(Ok((position, table))) => freshness.note(asked, &position, table),
                Ok(Err(error)) if error.kind() == ErrorKind::Unauthorized => freshness.cannot_ask(&error),
                _ => {}
            }
            tokio::time::sleep(freshness.interval()).await;
            freshness.tidy();
        }
    });
    Ok(AbortOnDropHandle::new(watcher))
}

/// Where it is, and which table.
async fn position(mut executor: Executor) -> Result<(String, String)> {
    let rows = executor.query(Query::Position, &[]).await?;
    rows.first().map_or_else(|| Ok(Default::default()), |row| Ok((column(row, 0)?, column(row, 1)?)))
}
