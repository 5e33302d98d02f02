//! Opening connections.

use std::{fmt, sync::Arc};

use bb8::{ErrorSink, ManageConnection};
use storage_core::{
    Error, ErrorKind, Result,
    engine::{Deadline, Home, background},
};
use tokio::sync::watch;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::{retired::Retired, search::Search, session::Session, tls, wire::Wire};
use crate::{
    config::{PostgresConfig, TlsVerify, pass_file},
    error::Failure,
};

/// Opens connections for a pool.
#[derive(Clone)]
pub(crate) struct Connector {
    config: Arc<PostgresConfig>,
    tls: MakeRustlsConnect,
    /// The content of the file of passwords.
    passwords: Option<Arc<str>>,
    retired: Arc<Retired>,
    /// Where the connections belong.
    home: Home,
    /// The connections that are open, and the tasks that cancel statements.
    tasks: TaskTracker,
    /// The latest attempt that failed: who waits for a connection hears of it.
    failed: watch::Sender<Option<Error>>,
}

impl Connector {
    /// Reads the root certificates and the file of passwords, and opens nothing yet.
    pub(crate) async fn new(config: Arc<PostgresConfig>, home: Home) -> Result<Self> {
        if config.tls_verify == TlsVerify::None {
            tracing::warn!(
                "the certificate of the Postgres server is not verified: anybody may answer in its place"
            );
        }
        let files = background()?.spawn_blocking({
            let config = Arc::clone(&config);
            move || {
                let passwords = config.pass_file.as_deref().and_then(pass_file::read);
                tls::client_config(&config).map(|tls| (tls, passwords))
            }
        });
        let files = files.await.map_err(|_| Error::new(ErrorKind::Unavailable, "the program is ending"))?;
        let (tls, passwords) = files?;
        let (tls, passwords) = (MakeRustlsConnect::new(tls), passwords.map(Arc::from));
        let (retired, tasks) = (Arc::new(Retired::new()), TaskTracker::new());
        Ok(Self { config, tls, passwords, retired, home, tasks, failed: watch::channel(None).0 })
    }

    /// The same for another pool.
    pub(crate) fn at(&self, home: Home) -> Self {
        // A channel of its own: a failure of one pool ends no wait in front of the other.
        Self { home, failed: watch::channel(None).0, ..self.clone() }
    }

    pub(super) fn retired(&self) -> &Retired {
        &self.retired
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
        let search = Search { config: &self.config, tls: &self.tls, passwords: self.passwords.as_deref() };
        let age = self.retired.begin();
        // The driver limits TCP alone, and each host by itself; this limits all hosts, TLS and the login, too.
        let opened = Deadline::after(limit).within(search.open()).await;
        let opened = opened.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Unavailable, format!("no connection within {limit:?}")))
        })?;
        let (connection, age) =
            (opened.connection, age.opened(opened.role.is_some_and(|role| !role.read_only)));
        let served = async {
            if let Err(error) = connection.await {
                let error = Failure::from(error).error;
                tracing::debug!(%error, "a Postgres connection ended");
            }
        };
        let wire = Wire::new(served, self.home, self.token());
        Ok(Session::new(opened.client, wire, &self.config, age))
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
        session.is_broken() || self.retired.contains(session.age)
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
