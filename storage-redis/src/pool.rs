//! The connections to one server: a few that all calls share, each replaced when it breaks.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use bb8::{ErrorSink, ManageConnection, Pool, PooledConnection};
use redis::Value;
use storage_core::{Combiner, Error, ErrorKind, Result};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, timeout_at},
};

use crate::{
    config::Address,
    connect::{Connector, Link, Request},
    error::{Failure, unexpected},
    group::{Commands, together},
};

/// Only a caller's deadline ends the wait for a connection, never the pool's own.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// One server.
pub(crate) struct Node {
    lanes: Arc<Lanes>,
    /// Single commands, which callers send together.
    shared: Combiner<Commands>,
}

/// The connections to a server.
///
/// The pool opens connections, limits their number and replaces broken ones; a lane keeps one checked out for all its
/// callers, so that a call costs a clone of the connection and no checkout.
pub(crate) struct Lanes {
    address: Address,
    pool: Pool<Manager>,
    lanes: Vec<Lane>,
    failures: watch::Receiver<Option<Error>>,
}

#[derive(Default)]
struct Lane {
    held: ArcSwapOption<PooledConnection<'static, Manager>>,
    /// One caller at a time replaces a broken connection.
    refill: Mutex<()>,
}

/// Which connections a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    Small,
    /// Much goes over in one piece: kept apart from the small ones.
    Bulk,
}

impl Node {
    /// `connections` is at least 1. No I/O.
    pub(crate) fn new(address: Address, connector: Arc<Connector>, connections: u32) -> Self {
        let lanes = Arc::new(Lanes::new(address, connector, connections));
        Self { shared: Commands::queue(Arc::clone(&lanes)), lanes }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.lanes.address
    }

    /// The answer, or why there is none. An error that the server answers is a [`Value::ServerError`].
    pub(crate) async fn call(
        &self,
        request: Request<'_>,
        load: Load,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        match (request, load) {
            (Request::One(command), Load::Small) => {
                together(&self.shared, &self.lanes, command, deadline).await
            }
            _ => Box::pin(self.lanes.call(request, load, deadline)).await,
        }
    }
}

impl Lanes {
    fn new(address: Address, connector: Arc<Connector>, connections: u32) -> Self {
        let (sender, failures) = watch::channel(None);
        let manager = Manager { address: address.clone(), connector };
        let pool = Pool::builder()
            .max_size(connections)
            .max_lifetime(None)
            .idle_timeout(None)
            .connection_timeout(NEVER)
            .retry_connection(false)
            .error_sink(Box::new(Failures(sender)))
            .build_unchecked(manager);
        let lanes = (0..connections).map(|_| Lane::default()).collect();
        Self { address, pool, lanes, failures }
    }

    /// As [`Node::call`], by itself.
    pub(crate) async fn call(
        &self,
        request: Request<'_>,
        load: Load,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let mut link = self.link(load, deadline).await.map_err(Failure::NotSent)?;
        match timeout_at(deadline, link.send(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => match error.into_server_errors().as_deref() {
                Some([(_, error), ..]) => Ok(Value::ServerError(error.clone())),
                _ => Err(Failure::Lost),
            },
            Err(_) => {
                // It may lead nowhere any more, which TCP takes minutes to find out.
                link.retire();
                Err(Failure::TimedOut)
            }
        }
    }

    async fn link(&self, load: Load, deadline: Instant) -> Result<Link> {
        let lane = self.lane(load)?;
        if let Some(link) = lane.link() {
            return Ok(link);
        }
        // Boxed, as are the other rare turns of a request: its future is allocated for every call.
        timeout_at(deadline, Box::pin(self.refilled(lane))).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "no connection to the server within the deadline"))
        })
    }

    /// Of the connections for small requests the one with the least under way: behind a large answer on one the others go on.
    fn lane(&self, load: Load) -> Result<&Lane> {
        let (bulk, small) = self.lanes.split_last().ok_or_else(unexpected)?;
        if load == Load::Bulk {
            return Ok(bulk);
        }
        Ok(small.iter().min_by_key(|lane| lane.users()).unwrap_or(bulk))
    }

    async fn refilled(&self, lane: &Lane) -> Result<Link> {
        let _turn = lane.refill.lock().await;
        if let Some(link) = lane.link() {
            return Ok(link);
        }
        // Given back, the pool finds it broken and may open another.
        lane.held.store(None);
        let mut failures = self.failures.clone();
        failures.mark_unchanged();
        // The pool opens connections in the background and tells failures to its sink alone.
        let held = tokio::select! {
            biased;
            held = self.pool.get_owned() => held.ok(),
            _ = failures.changed() => None,
        };
        let Some(held) = held else {
            let failure = failures.borrow().clone();
            return Err(failure.unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "no connection")));
        };
        let link = held.clone();
        lane.held.store(Some(Arc::new(held)));
        tracing::debug!(server = %self.address, "opened a connection");
        Ok(link)
    }
}

impl Lane {
    fn users(&self) -> usize {
        self.held.load().as_deref().map_or(0, |held| held.users())
    }

    fn link(&self) -> Option<Link> {
        let held = self.held.load();
        held.as_deref().filter(|held| held.is_usable()).map(|held| Link::clone(held))
    }
}

/// Opens connections for the pool and knows when one is broken, which `bb8-redis` does not.
struct Manager {
    address: Address,
    connector: Arc<Connector>,
}

impl ManageConnection for Manager {
    type Connection = Link;
    type Error = Error;

    async fn connect(&self) -> Result<Link> {
        self.connector.link(&self.address).await
    }

    async fn is_valid(&self, link: &mut Link) -> Result<()> {
        match link.is_usable() {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Unavailable, "the connection broke")),
        }
    }

    fn has_broken(&self, link: &mut Link) -> bool {
        !link.is_usable()
    }
}

/// Hands a failure to open a connection to those who wait for one.
#[derive(Debug, Clone)]
struct Failures(watch::Sender<Option<Error>>);

impl ErrorSink<Error> for Failures {
    fn sink(&self, error: Error) {
        tracing::warn!(%error, "no connection to Redis");
        self.0.send_replace(Some(error));
    }

    fn boxed_clone(&self) -> Box<dyn ErrorSink<Error>> {
        Box::new(self.clone())
    }
}
