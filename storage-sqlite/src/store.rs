//! The file while it is connected: who writes, who reads, who sweeps.

use std::sync::{Arc, Weak};

use futures::{Stream, stream};
use storage_core::{
    CombineConfig, Combiner, Error, ErrorKind, Lease, Lifecycle, Record, Result, Scan, spawn_sweeper,
    with_deadline,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    SqliteConfig,
    call::{Call, Caller},
    checkpoint::{Checkpoints, Log},
    collections::sweep as sweep_partitions,
    error::Answer,
    hold::Hold,
    inline::Inline,
    pool::{Pool, lost},
    read::{Asked, Found, Read, Reads},
    scan::{Cursor, Page, read_page},
    schema::{self, Role},
    sql::View,
    write::{Steps, Write, Writes},
};

/// A group of this many bytes takes milliseconds, and that is what a small write waits behind large ones.
const TOGETHER: CombineConfig =
    CombineConfig { running: 1, items: 1_024, bytes: 1024 * 1024, queue_bytes: 64 * 1024 * 1024 };

/// The settings, and what there is only while connected.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) config: Arc<SqliteConfig>,
    pub(crate) lifecycle: Lifecycle<Connected>,
}

pub(crate) struct Connected {
    inline: Arc<Inline>,
    writer: Arc<Pool>,
    readers: Arc<Pool>,
    checkpoints: Checkpoints,
    writes: Arc<Combiner<Writes>>,
    reads: Arc<Combiner<Reads>>,
    _sweeper: Option<AbortOnDropHandle<()>>,
}

impl Store {
    pub(crate) fn new(config: SqliteConfig) -> Arc<Self> {
        Arc::new(Self { config: Arc::new(config), lifecycle: Lifecycle::new() })
    }

    pub(crate) async fn connect(self: &Arc<Self>) -> Result<()> {
        let open = async {
            if let Some(publisher) = &self.config.publisher {
                publisher.open().await?;
            }
            let open = async {
                let writer = self.open_writer().await?;
                let readers = Pool::open(Role::Reader, self.config.readers, &self.config).await?;
                let log = Arc::new(Log::default());
                let hold = Arc::new(Hold::default());
                let checkpoints =
                    Checkpoints::start(&self.config, &writer, Arc::clone(&log), Arc::clone(&hold)).await?;
                Ok(self.connected(writer, readers, checkpoints, log, hold))
            };
            with_deadline(self.config.operation_timeout, ErrorKind::Timeout, open).await
        };
        self.lifecycle.connect(open).await
    }

    /// Opens the writer. Making the tables is a write that has to be published.
    async fn open_writer(&self) -> Result<Arc<Pool>> {
        let turn = match &self.config.publisher {
            Some(publisher) if !is_set_up(&self.config).await? => Some(publisher.begin().await?),
            _ => None,
        };
        let writer = Pool::open(Role::Writer, 1, &self.config).await?;
        if let Some(turn) = turn {
            turn.finish().await?;
        }
        Ok(writer)
    }

    /// Lets the publisher bring the file up to date, if there is one.
    async fn refresh(&self) -> Result<()> {
        let Some(publisher) = &self.config.publisher else { return Ok(()) };
        with_deadline(self.config.operation_timeout, ErrorKind::Timeout, publisher.refresh()).await
    }

    fn connected(
        self: &Arc<Self>,
        writer: Arc<Pool>,
        readers: Arc<Pool>,
        checkpoints: Checkpoints,
        log: Arc<Log>,
        hold: Arc<Hold>,
    ) -> Connected {
        let inline = Arc::new(Inline::new(&self.config, hold));
        let writes = Writes { writer: Arc::clone(&writer), config: Arc::clone(&self.config), log };
        let reads = Reads {
            readers: Arc::clone(&readers),
            inline: Arc::clone(&inline),
            config: Arc::clone(&self.config),
        };
        Connected {
            inline,
            writer,
            readers,
            checkpoints,
            writes: Arc::new(Combiner::new(writes, TOGETHER)),
            reads: Arc::new(Combiner::new(reads, CombineConfig { running: self.config.readers, ..TOGETHER })),
            _sweeper: self.sweeper(),
        }
    }

    pub(crate) async fn disconnect(&self) -> Result<()> {
        let close = |connected: Arc<Connected>| async move {
            connected.inline.close();
            connected.readers.close().await;
            connected.checkpoints.close().await;
            connected.writer.close().await;
            match &self.config.publisher {
                Some(publisher) => publisher.close().await,
                None => Ok(()),
            }
        };
        // The writes under way end within one operation's time, then closing has as much.
        let limit = self.config.operation_timeout.saturating_mul(2);
        with_deadline(limit, ErrorKind::Timeout, self.lifecycle.disconnect(close)).await
    }

    /// Reads what is asked about one key: in the caller's own task where that is quick.
    pub(crate) async fn find(&self, asked: Asked, key: &str) -> Result<Found> {
        let lease = self.lifecycle.enter()?;
        self.refresh().await?;
        let crowded = lease.sharers() > self.config.readers;
        if let Some(found) = lease.inline.find(asked, key, crowded).await {
            return Ok(found?);
        }
        let reads = Arc::clone(&lease.reads);
        reads.submit(Read { key: key.to_owned(), asked, _lease: lease }, self.config.operation_timeout).await
    }

    /// Runs `work` on a reader; once more where the connection turned out to be lost.
    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&View<'_>) -> Answer<T> + Send + Sync + 'static,
    {
        let lease = self.lifecycle.enter()?;
        self.refresh().await?;
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
            work(&View { db, call: Some(&call), now: config.clock.now() })
        });
        visit.await
    }

    /// Runs `work` on the writer, in one transaction with others who wait for it; it is done whole or not at all, and not
    /// after its caller was told that it timed out. `weight` is roughly how many bytes it writes.
    pub(crate) async fn write<F>(&self, weight: usize, steps: Steps, work: F) -> Result<i64>
    where
        F: Fn(&View<'_>) -> Answer<i64> + Send + Sync + 'static,
    {
        let lease = self.lifecycle.enter()?;
        let caller = Caller(Call::new(self.config.operation_timeout));
        let writes = Arc::clone(&lease.writes);
        let write = Write { call: Arc::clone(&caller.0), weight, steps, work: Box::new(work), _lease: lease };
        let written = writes.submit_unlimited(write);
        match tokio::time::timeout(caller.0.remaining(), written).await {
            Ok(written) => written,
            Err(_) => Err(caller.0.give_up()),
        }
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

    /// Removes one batch of what has expired: entries, then items of partitions.
    pub(crate) async fn sweep(&self) -> Result<u64> {
        let batch = self.config.sweep.unwrap_or_default().batch;
        let sweep = move |view: &View<'_>| {
            let removed = view.sweep(batch)?;
            Ok(removed + sweep_partitions(view, i64::from(batch) - removed)?)
        };
        self.write(0, Steps::Many, sweep).await.map(i64::unsigned_abs)
    }

    /// Sweeps until nothing is left or a whole batch is removed: large items go a few at a time.
    async fn sweep_round(&self, batch: u32) -> Result<u64> {
        let mut removed = 0;
        loop {
            let some = self.sweep().await?;
            removed += some;
            if some == 0 || removed >= u64::from(batch) {
                return Ok(removed);
            }
        }
    }

    fn sweeper(self: &Arc<Self>) -> Option<AbortOnDropHandle<()>> {
        let sweep = self.config.sweep?;
        let store = Arc::downgrade(self);
        Some(spawn_sweeper(sweep, move || {
            let store = Weak::upgrade(&store);
            async move {
                let Some(store) = store else { return Ok(0) };
                match store.sweep_round(sweep.batch).await {
                    Err(error) if error.kind() == ErrorKind::NotConnected => Ok(0),
                    swept => swept,
                }
            }
        }))
    }
}

async fn is_set_up(config: &Arc<SqliteConfig>) -> Result<bool> {
    let config = Arc::clone(config);
    let asked = tokio::task::spawn_blocking(move || schema::is_set_up(&config)).await;
    Ok(asked.unwrap_or_else(|_| Err(lost()))?)
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
