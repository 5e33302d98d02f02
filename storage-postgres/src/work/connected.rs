//! What a connected backend has, and how a call is done there.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use storage_core::{
    ErrorKind, Result,
    engine::{Deadline, Guard, Home, Homes, Lease, background, spawn_sweeper},
};
use tokio::runtime::Handle;
use tokio_postgres::Client;
use tokio_util::task::AbortOnDropHandle;

use super::{
    replica::Replica,
    set::{Set, start},
    sweep::sweep,
};
use crate::{
    config::PostgresConfig,
    connections::{
        connector::Connector,
        executor::Executor,
        freshness::Freshness,
        pool::{CANCEL_LIMIT, Pool, Schema},
    },
    error::interrupted,
    statements::{partition_schema, query::Query, schema},
};

/// Work ends by the deadline itself and then says why; whoever waits for it gives up so much later.
const GRACE: Duration = Duration::from_millis(100);

pub(crate) struct Connected {
    sets: Homes<Set>,
    connector: Connector,
    /// A standby to read from.
    pub(crate) replica: Option<Replica>,
    _sweeper: Option<AbortOnDropHandle<()>>,
}

impl Connected {
    /// Opens a connection, and makes the schema. `runtime` is the one that connects, where there is one.
    pub(crate) async fn open(config: Arc<PostgresConfig>, runtime: Option<Handle>) -> Result<Self> {
        let background = background()?;
        let home = if runtime.is_some() { Home::Own } else { Home::Background };
        let connector = Connector::new(Arc::clone(&config), home).await?;
        let mut first = connector.open().await?;
        let schema = first.wire.drive(prepare(&first.statements.client, &config)).await?;
        let mut first = Some(first);
        let sets = Homes::of(runtime.as_ref().map(Handle::id), |home| {
            let runtime = runtime.as_ref().filter(|_| home == Home::Own).unwrap_or(background);
            // `first` goes to the pool that is made first, that of the runtime on which it was opened.
            Set::new(
                home,
                Pool::new(&config, connector.at(home), schema, first.take(), runtime),
                config.pool_max,
            )
        });
        let sweeper = sweeper(&config, connector.at(Home::Background), &sets)?;
        let replica = replica(&config, schema, runtime.as_ref(), &sets).await?;
        Ok(Self { sets, connector, replica, _sweeper: sweeper })
    }

    /// The connections and queues for the caller.
    pub(crate) fn here(&self) -> &Set {
        self.sets.here()
    }

    /// Those to a server.
    pub(crate) fn at(&self, to: To) -> &Set {
        let replica = self.replica.as_ref().filter(|_| to == To::Near);
        replica.map_or_else(|| self.here(), Replica::here)
    }

    /// How many connections there are, and how many of them are idle.
    pub(crate) fn size(&self) -> (u32, u32) {
        self.sets.all().map(|set| set.pool.size()).fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1))
    }

    /// Ends the connections.
    pub(crate) async fn close(self: Arc<Self>, config: &PostgresConfig) {
        // A clone, for `self` has to go before: pools close their connections when they are dropped.
        let mut connectors = vec![self.connector.clone()];
        self.sets.all().for_each(|set| set.queues.close());
        if let Some(replica) = &self.replica {
            replica.close();
            connectors.push(replica.connector.clone());
        }
        drop(self);
        let limit = config.operation_timeout.saturating_add(CANCEL_LIMIT);
        let closed = join_all(connectors.iter().map(Connector::closed));
        if Deadline::after(limit).within(closed).await.is_none() {
            tracing::warn!("a Postgres connection did not close within {limit:?}");
        }
    }
}

/// Makes what is missing.
async fn prepare(client: &Client, config: &PostgresConfig) -> Result<Schema> {
    let indexed = schema::prepare(client, config).await?;
    let collections = partition_schema::prepare(client, config).await?;
    Ok(Schema { get: if indexed { Query::Get } else { Query::GetByPrimaryKey }, collections })
}

/// The server that reads may come from, where there is one.
async fn replica(
    config: &PostgresConfig,
    schema: Schema,
    runtime: Option<&Handle>,
    sets: &Homes<Set>,
) -> Result<Option<Replica>> {
    // The last one is driven by the background.
    let primary = sets.all().last().map(|set| Arc::downgrade(&set.pool));
    let (Some(theirs), Some(primary)) = (config.for_reads(), primary) else { return Ok(None) };
    let freshness = Freshness::new(config.read_staleness);
    Replica::new(theirs, freshness, schema, runtime, primary).await.map(Some)
}

/// Sweeps with the connections of the background.
fn sweeper(
    config: &PostgresConfig,
    connector: Connector,
    sets: &Homes<Set>,
) -> Result<Option<AbortOnDropHandle<()>>> {
    // The last one is driven by the background. Weak: the sweeper belongs to what it would keep alive.
    let pool = sets.all().last().map(|set| Arc::downgrade(&set.pool));
    let (Some(config), Some(pool)) = (config.sweep, pool) else { return Ok(None) };
    let sweeper = spawn_sweeper(config, move || {
        let swept = pool.upgrade().map(|pool| {
            let work = move |mut executor| async move { sweep(&mut executor, config.batch).await };
            start(Home::Background, Executor::new(&pool), connector.token(), work)
        });
        async move {
            match swept {
                Some(swept) => swept.await.unwrap_or_else(|_| Err(interrupted(ErrorKind::Timeout))),
                None => Ok(0),
            }
        }
    });
    sweeper.map(Some)
}

/// Which server a call goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    Primary,
    /// A standby, where one is to be read from.
    Near,
}

/// Does `work`, which runs by itself. `late` is what the caller is told where it does not end: `Timeout` for what changes
/// nothing, `OutcomeUnknown` for a write.
pub(crate) async fn call<T, F>(
    lease: Lease<Connected>,
    to: To,
    deadline: Deadline,
    late: ErrorKind,
    work: impl FnOnce(Executor) -> F,
) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let set = lease.at(to);
    let (home, mut executor) = (set.home, Executor::new(&set.pool));
    executor.deadline = deadline;
    // The lease goes with the work: a caller that is kept holds up no disconnect.
    let answer = start(home, executor, Guard::from(lease), work);
    match Deadline::after(deadline.remaining().saturating_add(GRACE)).within(answer).await {
        Some(Ok(answer)) => answer,
        Some(Err(_)) => Err(interrupted(late)),
        None => Err(deadline.error(late)),
    }
}
