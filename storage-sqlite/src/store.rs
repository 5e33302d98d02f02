//! The file while it is connected: who writes, who reads, who sweeps.

use std::sync::{Arc, Weak};

use futures::{Stream, stream};
use storage_core::{Error, ErrorKind, Lease, Lifecycle, Record, Result, Scan, spawn_sweeper, with_deadline};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    SqliteConfig,
    call::{Call, Caller},
    error::Answer,
    pool::Pool,
    scan::{Cursor, Page, read_page},
    schema::{Role, busy_limit},
    sql::{View, write},
};

/// The settings, and what there is only while connected.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) config: Arc<SqliteConfig>,
    lifecycle: Lifecycle<Connected>,
}

struct Connected {
    writer: Arc<Pool>,
    readers: Arc<Pool>,
    _sweeper: Option<AbortOnDropHandle<()>>,
}

impl Store {
    pub(crate) fn new(config: SqliteConfig) -> Arc<Self> {
        Arc::new(Self { config: Arc::new(config), lifecycle: Lifecycle::new() })
    }

    pub(crate) async fn connect(self: &Arc<Self>) -> Result<()> {
        let open = async {
            let open = async {
                let writer = Pool::open(Role::Writer, 1, &self.config).await?;
                let readers = Pool::open(Role::Reader, self.config.readers, &self.config).await?;
                Ok(Connected { writer, readers, _sweeper: self.sweeper() })
            };
            with_deadline(self.config.operation_timeout, ErrorKind::Timeout, open).await
        };
        self.lifecycle.connect(open).await
    }

    pub(crate) async fn disconnect(&self) -> Result<()> {
        let close = |connected: Arc<Connected>| async move {
            connected.readers.close().await;
            connected.writer.close().await;
            Ok(())
        };
        // The writes under way end within one operation's time, then closing has as much.
        let limit = self.config.operation_timeout.saturating_mul(2);
        with_deadline(limit, ErrorKind::Timeout, self.lifecycle.disconnect(close)).await
    }

    /// Runs `work` on a reader; once more where the connection turned out to be lost.
    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&View<'_>) -> Answer<T> + Send + Sync + 'static,
    {
        let lease = self.lifecycle.enter()?;
        let caller = Caller(Call::new(self.config.operation_timeout));
        let work = Arc::new(work);
        let answer = async {
            match self.visit_reader(lease, &caller, &work).await {
                Err(fault) if fault.loses_connection() => {
                    self.visit_reader(self.lifecycle.enter()?, &caller, &work).await
                }
                answer => answer,
            }
        };
        within(&caller, answer).await
    }

    async fn visit_reader<T, F>(&self, lease: Lease<Connected>, caller: &Caller, work: &Arc<F>) -> Answer<T>
    where
        T: Send + 'static,
        F: Fn(&View<'_>) -> Answer<T> + Send + Sync + 'static,
    {
        let (call, work, config) = (Arc::clone(&caller.0), Arc::clone(work), Arc::clone(&self.config));
        let readers = Arc::clone(&lease.readers);
        let visit = readers.visit(lease, move |db| {
            call.check()?;
            work(&View { db, call: &call, now: config.clock.now() })
        });
        visit.await
    }

    /// Runs `work` on the writer in a transaction; it is committed whole or not at all, and not after its caller was
    /// told that it timed out.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&View<'_>) -> Answer<T> + Send + 'static,
    {
        let lease = self.lifecycle.enter()?;
        let caller = Caller(Call::new(self.config.operation_timeout));
        let (call, config) = (Arc::clone(&caller.0), Arc::clone(&self.config));
        let writer = Arc::clone(&lease.writer);
        let visit = writer.visit(lease, move |db| {
            write(db, &call, busy_limit(config.busy_timeout), || config.clock.now(), work)
        });
        within(&caller, visit).await
    }

    /// The records of a scan, page by page; while the caller consumes one page the next is read.
    pub(crate) fn pages(
        self: Arc<Self>,
        scan: Scan,
        first_rows: usize,
    ) -> impl Stream<Item = Result<Vec<Result<Record>>>> {
        let first = Next::Unread(Cursor::start(scan.glob(), first_rows));
        let scan = Arc::new(scan);
        stream::try_unfold(first, move |next| {
            let (store, scan) = (Arc::clone(&self), Arc::clone(&scan));
            async move {
                let page = match next {
                    Next::Unread(cursor) => store.page(scan.clone(), cursor).await?,
                    Next::Reading(page) => page.await.unwrap_or_else(|_| Err(interrupted()))?,
                    Next::Nothing => return Ok(None),
                };
                let next = page.next.map_or(Next::Nothing, |cursor| {
                    let page = async move { store.page(scan, cursor).await };
                    Next::Reading(AbortOnDropHandle::new(tokio::spawn(page)))
                });
                Ok(Some((page.records, next)))
            }
        })
    }

    async fn page(&self, scan: Arc<Scan>, cursor: Cursor) -> Result<Page> {
        self.read(move |view| read_page(view, &scan, &cursor)).await
    }

    /// Removes one batch of expired rows.
    pub(crate) async fn sweep(&self) -> Result<u64> {
        let batch = self.config.sweep.unwrap_or_default().batch;
        self.write(move |view| view.sweep(batch)).await
    }

    fn sweeper(self: &Arc<Self>) -> Option<AbortOnDropHandle<()>> {
        let sweep = self.config.sweep?;
        let store = Arc::downgrade(self);
        Some(spawn_sweeper(sweep, move || {
            let store = Weak::upgrade(&store);
            async move {
                let Some(store) = store else { return Ok(0) };
                match store.sweep().await {
                    Err(error) if error.kind() == ErrorKind::NotConnected => Ok(0),
                    swept => swept,
                }
            }
        }))
    }
}

/// The page that comes next.
enum Next {
    Unread(Cursor),
    Reading(AbortOnDropHandle<Result<Page>>),
    Nothing,
}

/// Ends the wait at the call's deadline and says what has become of it.
async fn within<T>(caller: &Caller, answer: impl Future<Output = Answer<T>>) -> Result<T> {
    match tokio::time::timeout(caller.0.remaining(), answer).await {
        Ok(answer) => answer.map_err(Error::from),
        Err(_) => Err(caller.0.give_up()),
    }
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Unavailable, "reading ahead was interrupted")
}
