//! What a connected backend has, and how a call is done there.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use storage_core::{
    Error, ErrorKind, Result,
    engine::{Deadline, Guard, Home, Homes, Lease, background, spawn_sweeper},
};
use tokio::{runtime::Handle, sync::oneshot};
use tokio_postgres::Client;
use tokio_util::task::AbortOnDropHandle;

use super::{queues::Queues, sweep::sweep};
use crate::{
    config::PostgresConfig,
    connections::{
        connector::Connector,
        executor::Executor,
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
    _sweeper: Option<AbortOnDropHandle<()>>,
}

/// Connections, and the queues in front of them, for callers on one runtime, or on all others.
pub(crate) struct Set {
    home: Home,
    pool: Arc<Pool>,
    /// Shared with callers who wait, which is no reason not to disconnect.
    pub(crate) queues: Arc<Queues>,
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
            let pool = Arc::new(Pool::new(&config, connector.at(home), schema, first.take(), runtime));
            let queues = Arc::new(Queues::new(&pool, home, config.pool_max));
            Set { home, pool, queues }
        });
        let sweeper = sweeper(&config, connector.at(Home::Background), &sets)?;
        Ok(Self { sets, connector, _sweeper: sweeper })
    }

    /// The connections and queues for the caller.
    pub(crate) fn here(&self) -> &Set {
        self.sets.here()
    }

    /// How many connections there are, and how many of them are idle.
    pub(crate) fn size(&self) -> (u32, u32) {
        self.sets.all().map(|set| set.pool.size()).fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1))
    }

    /// Ends the connections.
    pub(crate) async fn close(self: Arc<Self>, config: &PostgresConfig) {
        // A clone, for `self` has to go before: pools close their connections when they are dropped.
        let connector = self.connector.clone();
        self.sets.all().for_each(|set| set.queues.close());
        drop(self);
        let limit = config.operation_timeout.saturating_add(CANCEL_LIMIT);
        if Deadline::after(limit).within(connector.closed()).await.is_none() {
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

/// Does `work`, which runs by itself. `late` is what the caller is told where it does not end: `Timeout` for what changes
/// nothing, `OutcomeUnknown` for a write.
pub(crate) async fn call<T, F>(
    lease: Lease<Connected>,
    late: ErrorKind,
    work: impl FnOnce(Executor) -> F,
) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let set = lease.here();
    let executor = Executor::new(&set.pool);
    let (home, limit) = (set.home, executor.deadline.limit());
    let answer = start(home, executor, Guard::from(lease), work);
    match Deadline::after(limit.saturating_add(GRACE)).within(answer).await {
        Some(Ok(answer)) => answer,
        Some(Err(_)) => Err(interrupted(late)),
        None => Err(Error::new(late, format!("no answer within {limit:?}"))),
    }
}

/// Starts work; it keeps `guard` until it has ended.
fn start<T, F>(
    home: Home,
    mut executor: Executor,
    guard: impl Send + 'static,
    work: impl FnOnce(Executor) -> F,
) -> oneshot::Receiver<Result<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let (mut reply, answer) = oneshot::channel();
    // Relaxed on both sides: the task that sets it is the one that reads it.
    let begun = executor.begun();
    let work = work(executor);
    home.spawn(async move {
        let _guard = guard;
        let mut work = pin!(work);
        let answer = poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            // Nothing was sent, and nobody waits any more.
            Poll::Pending if !begun.load(Ordering::Relaxed) => reply.poll_closed(context).map(|()| None),
            Poll::Pending => Poll::Pending,
        });
        if let Some(answer) = answer.await {
            let _ = reply.send(answer);
        }
    });
    answer
}
