//! The file while it is connected: who writes, who reads, who sweeps.

use std::sync::{Arc, Weak};

use rusqlite::Connection;
use storage_core::{
    ErrorKind, Record, Result, Scan, ScanPage, SteadyClock,
    engine::{Combiner, Deadline, Guard, Homes, Lifecycle, Unanswered, background, spawn_sweeper},
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::{
    SqliteConfig,
    call::{Call, Caller},
    collections::{partition::sweep as sweep_partitions, text::merge},
    connections::{
        file::DatabaseFile,
        open::{Role, is_set_up, open, open_writer},
    },
    error::{Answer, lost},
    statements::{
        entries::{Asked, Found, View},
        pages::{Place, read_page},
    },
    work::{
        checkpoints::Checkpoints,
        points::{Point, Points},
        readers::{Readers, on_reader},
        refreshes::Refreshes,
        writes::{Steps, Write, Writes},
    },
};

/// The settings, and what there is only while connected.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) config: Arc<SqliteConfig>,
    pub(crate) lifecycle: Lifecycle<Connected>,
}

/// Each is shared with the calls that wait for it, which are no reason not to disconnect.
pub(crate) struct Connected {
    refreshes: Option<Arc<Combiner<Refreshes>>>,
    points: Arc<Homes<Combiner<Points>>>,
    readers: Arc<Combiner<Readers>>,
    checkpoints: Arc<Combiner<Checkpoints>>,
    writes: Arc<Combiner<Writes>>,
    open: Open,
    file: Arc<DatabaseFile>,
    _sweeper: Option<AbortOnDropHandle<()>>,
}

/// The connections that are open.
#[derive(Default)]
struct Open {
    readers: TaskTracker,
    checkpoints: TaskTracker,
    writer: TaskTracker,
}

impl Store {
    pub(crate) fn new(mut config: SqliteConfig) -> Arc<Self> {
        config.clock = Arc::new(SteadyClock::new(config.clock));
        // What changes the working directory later changes no store.
        config.path = std::path::absolute(&config.path).unwrap_or(config.path);
        Arc::new(Self { config: Arc::new(config), lifecycle: Lifecycle::new() })
    }

    pub(crate) async fn connect(self: &Arc<Self>) -> Result<()> {
        // A publisher may have to fetch the file first, and limits that by itself.
        let deadline = match &self.config.publisher {
            Some(_) => Deadline::never(),
            None => self.deadline(),
        };
        let store = Arc::clone(self);
        self.lifecycle.connect(deadline, || async move { store.open().await }).await
    }

    async fn open(self: Arc<Self>) -> Result<Connected> {
        if let Some(publisher) = &self.config.publisher {
            publisher.open().await?;
        }
        let file = DatabaseFile::new(&self.config);
        let opened = self.deadline().answer(ErrorKind::Timeout, self.open_connections(&file));
        let (writer, reader) = opened.await?;
        self.connected(&file, writer, reader)
    }

    /// Opens the writer, where the file may be written to, and a reader. Making the tables is a write that has to be
    /// published.
    async fn open_connections(&self, file: &Arc<DatabaseFile>) -> Result<(Option<Connection>, Connection)> {
        let publication = match &self.config.publisher {
            Some(publisher) if self.config.create && !blocking(file, is_set_up).await? => {
                Some(publisher.begin().await?)
            }
            _ => None,
        };
        let writer = blocking(file, open_writer).await?;
        if let Some(publication) = publication {
            publication.finish().await?;
        }
        Ok((writer, blocking(file, |file| open(file, Role::Inline)).await?))
    }

    fn connected(
        self: &Arc<Self>,
        file: &Arc<DatabaseFile>,
        writer: Option<Connection>,
        reader: Connection,
    ) -> Result<Connected> {
        let (open, wal) = (Open::default(), Arc::default());
        let readers = Arc::new(Readers::new(file, &open.readers));
        let checkpoints = Arc::new(Checkpoints::new(file, &wal, &open.checkpoints));
        let sweeper = if writer.is_some() { self.sweeper()? } else { None };
        let writes = Writes::new(file, writer, (wal, Arc::clone(&checkpoints)), &open.writer);
        Ok(Connected {
            refreshes: self.config.publisher.as_ref().map(|publisher| Arc::new(Refreshes::new(publisher))),
            points: Arc::new(Points::new(file, &open.readers, &readers, reader)),
            readers,
            checkpoints,
            writes: Arc::new(writes),
            open,
            file: Arc::clone(file),
            _sweeper: sweeper,
        })
    }

    pub(crate) async fn disconnect(&self) -> Result<()> {
        let publisher = self.config.publisher.clone();
        let close = |connected: Arc<Connected>| async move {
            connected.close().await;
            match publisher {
                Some(publisher) => publisher.close().await,
                None => Ok(()),
            }
        };
        self.lifecycle.disconnect(self.deadline(), close).await
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.config.operation_timeout)
    }

    /// Reads what is asked about one key.
    pub(crate) async fn find(&self, asked: Asked, key: &str) -> Result<Found> {
        let deadline = self.deadline();
        self.refresh(deadline).await?;
        let lease = self.lifecycle.enter()?;
        let points = Arc::clone(&lease.points);
        let point = Point { key: key.to_owned(), asked, _guard: lease.into() };
        points.here().submit(point, deadline).await
    }

    /// Runs `work` on a reader; once more where the connection turned out to be lost.
    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&View<'_>) -> Answer<T> + Send + 'static,
    {
        let caller = Caller(Call::new(self.config.operation_timeout));
        let (call, config) = (Arc::clone(&caller.0), Arc::clone(&self.config));
        self.refresh(call.deadline()).await?;
        let lease = self.lifecycle.enter()?;
        let (readers, deadline, guard) = (Arc::clone(&lease.readers), call.deadline(), Guard::from(lease));
        let read = on_reader(&readers, deadline, move |reader| {
            let _guard = guard;
            reader.read(|db| {
                call.check()?;
                call.during(|| work(&View { db, call: Some(&call), now: config.clock.now() }))
            })
        });
        Ok(read.await??)
    }

    /// Runs `work` on the writer, in one transaction with others who wait for it; it is done whole or not at all, and not
    /// after its caller was told that it timed out. `weight` is roughly how many bytes it writes.
    pub(crate) async fn write<F>(&self, weight: usize, steps: Steps, work: F) -> Result<i64>
    where
        F: Fn(&View<'_>) -> Answer<i64> + Send + Sync + 'static,
    {
        let lease = self.lifecycle.enter()?;
        if let Some(refusal) = lease.file.refusal() {
            return Err(refusal.clone());
        }
        let caller = Caller(Call::new(self.config.operation_timeout));
        let (call, writes) = (Arc::clone(&caller.0), Arc::clone(&lease.writes));
        let write =
            Write { call: Arc::clone(&call), weight, steps, work: Box::new(work), _guard: lease.into() };
        match writes.call(write, call.deadline()).await {
            Ok(answer) => answer,
            Err(Unanswered::Waiting | Unanswered::Taken) => Err(call.give_up()),
            Err(Unanswered::Lost) => Err(call.lose()),
        }
    }

    /// Whether writes work: writes and removes a row in one transaction. Where there is a publisher, that would be published,
    /// and the publisher is asked instead.
    pub(crate) async fn check_writes(&self) -> Result<()> {
        let Some(publisher) = &self.config.publisher else {
            return self.write(0, Steps::Many, |view| view.write_and_remove()).await.map(drop);
        };
        // Not kept: what a caller keeps must not hold up a disconnect.
        drop(self.lifecycle.enter()?);
        self.deadline().answer(ErrorKind::Timeout, publisher.check()).await
    }

    /// Lets the publisher bring the file up to date, if there is one.
    async fn refresh(&self, deadline: Deadline) -> Result<()> {
        if self.config.publisher.is_none() {
            return Ok(());
        }
        let lease = self.lifecycle.enter()?;
        let Some(refreshes) = lease.refreshes.clone() else { return Ok(()) };
        refreshes.submit(lease.into(), deadline).await
    }

    /// A page of a scan, from a place on.
    pub(crate) async fn page(&self, scan: Scan, from: Place, limit: usize) -> Result<ScanPage<Record>> {
        self.read(move |view| read_page(view, &scan, &from, limit)).await
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

    /// Removes some of what the index of texts still has of those that are gone; says whether there is more to do.
    pub(crate) async fn merge(&self) -> Result<bool> {
        self.write(0, Steps::Many, |view: &View<'_>| merge(view).map(i64::from)).await.map(|more| more > 0)
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

    fn sweeper(self: &Arc<Self>) -> Result<Option<AbortOnDropHandle<()>>> {
        let Some(sweep) = self.config.sweep else { return Ok(None) };
        // The sweeper belongs to what the store has while connected: an `Arc` would keep the store alive.
        let store = Arc::downgrade(self);
        let sweeper = spawn_sweeper(sweep, move || {
            let store = Weak::upgrade(&store);
            async move {
                let Some(store) = store else { return Ok(0) };
                match store.sweep_round(sweep.batch).await {
                    // Disconnected in between, which is no failure of the sweep.
                    Err(error) if error.kind() == ErrorKind::NotConnected => Ok(0),
                    swept => swept,
                }
            }
        });
        sweeper.map(Some)
    }
}

/// Does what blocks on a thread of the background.
async fn blocking<T: Send + 'static>(
    file: &Arc<DatabaseFile>,
    work: impl FnOnce(&DatabaseFile) -> Answer<T> + Send + 'static,
) -> Result<T> {
    let file = Arc::clone(file);
    let done = background()?.spawn_blocking(move || work(&file)).await;
    Ok(done.unwrap_or_else(|_| Err(lost()))?)
}

impl Connected {
    /// Closes the connections, the writer's last, and waits for each: a checkpoint under way ends.
    async fn close(&self) {
        self.points.all().for_each(Combiner::close);
        self.readers.close();
        self.checkpoints.close();
        for open in [&self.open.readers, &self.open.checkpoints] {
            open.close();
            open.wait().await;
        }
        // SQLite's last connection writes the log back and removes it, and syncs as its own `synchronous` says.
        self.writes.close();
        self.open.writer.close();
        self.open.writer.wait().await;
    }
}
