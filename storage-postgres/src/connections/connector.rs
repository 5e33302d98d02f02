//! Opening connections.

use std::{fmt, sync::Arc};

use bb8::{ErrorSink, ManageConnection};
use storage_core::{
    Error, ErrorKind, Result,
    engine::{Deadline, Home, background},
};
use tokio::sync::watch;
use tokio_postgres::config::Config as Driver;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::{session::Session, tls, wire::Wire};
use crate::{
    config::PostgresConfig,
    error::{Failure, connect_error},
};

/// Opens connections for a pool.
#[derive(Clone)]
pub(crate) struct Connector {
    config: Arc<PostgresConfig>,
    driver: Driver,
    tls: MakeRustlsConnect,
    /// Where the connections belong.
    home: Home,
    /// The connections that are open, and the tasks that cancel statements.
    tasks: TaskTracker,
    /// The latest attempt that failed: who waits for a connection hears of it.
    failed: watch::Sender<Option<Error>>,
}

impl Connector {
    /// Reads the root certificates, and opens nothing yet.
    pub(crate) async fn new(config: Arc<PostgresConfig>, home: Home) -> Result<Self> {
        let tls = background()?.spawn_blocking({
            let config = Arc::clone(&config);
            move || tls::client_config(config.ssl_mode, config.ssl_roots.as_ref())
        });
        let tls = tls.await.map_err(|_| Error::new(ErrorKind::Unavailable, "the program is ending"))??;
        let (driver, tls) = (config.driver(), MakeRustlsConnect::new(tls));
        Ok(Self { config, driver, tls, home, tasks: TaskTracker::new(), failed: watch::channel(None).0 })
    }

    /// The same for another pool.
    pub(crate) fn at(&self, home: Home) -> Self {
        // A channel of its own: a failure of one pool ends no wait in front of the other.
        Self { home, failed: watch::channel(None).0, ..self.clone() }
    }

    pub(super) fn home(&self) -> Home {
        self.home
    }

    pub(super) fn tls(&self) -> MakeRustlsConnect {
        self.tls.clone()
    }

    /// The failures from now on.
    pub(super) fn failures(&self) -> watch::Receiver<Option<Error>> {
        self.failed.subscribe()
    }

    /// Kept by what has to end before the backend is disconnected.
    pub(crate) fn token(&self) -> TaskTrackerToken {
        self.tasks.token()
    }

    /// Ends when no connection is open, and nothing has a [`token`](Self::token) any more.
    pub(crate) async fn closed(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) async fn open(&self) -> Result<Session> {
        let limit = self.config.connect_timeout;
        // The driver limits TCP alone, and each host by itself; this limits TLS and the login, too.
        let opened = Deadline::after(limit).within(self.driver.connect(self.tls.clone())).await;
        let (client, connection) = opened
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, format!("no connection within {limit:?}")))?
            .map_err(|error| connect_error(&error))?;
        let served = async {
            if let Err(error) = connection.await {
                let error = Failure::from(error).error;
                tracing::debug!(%error, "a Postgres connection ended");
            }
        };
        Ok(Session::new(client, Wire::new(served, self.home, self.token()), &self.config))
    }
}

impl ManageConnection for Connector {
    type Connection = Session;
    type Error = Error;

    async fn connect(&self) -> Result<Session> {
        let opened = self.open().await;
        if let Err(error) = &opened {
            self.failed.send_replace(Some(error.clone()));
        }
        opened
    }

    /// Not asked by the pool: a checkout costs no round trip.
    async fn is_valid(&self, _: &mut Session) -> Result<()> {
        Ok(())
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        session.is_broken()
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Errors of connections that nobody waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trace;

impl ErrorSink<Error> for Trace {
    fn sink(&self, error: Error) {
        tracing::warn!(%error, "a Postgres connection could not be opened");
    }

    fn boxed_clone(&self) -> Box<dyn ErrorSink<Error>> {
        Box::new(*self)
    }
}
