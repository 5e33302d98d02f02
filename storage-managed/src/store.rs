//! The store: what a program holds.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::Connection;
use storage_core::engine::Combiner;
use tokio::sync::Semaphore;

use crate::{
    batch::{Batches, Work, submit},
    download::Download,
    error::{Error, Result},
    format::HEAD,
    history::{Generation, History},
    holds::{Hold, VerifiedHold},
    home::{Holder, Home},
    local::connect,
    open::open,
    options::Options,
    rescue::{Rescued, list},
    shared::{Shared, WriteLock},
    spawned::{by_itself, while_awaited, while_awaited_idle},
    target::write_new,
    verify::{Verified, is_new},
};

/// A SQLite database that lives in a [`Home`], see the [crate documentation](crate). Cheap to clone; all clones are one
/// store. Needs no runtime: what it does runs on threads of its own, and a call that is kept without being polled, or whose
/// runtime ends, stops nobody else.
#[derive(Clone)]
pub struct DatabaseStore {
    inner: Arc<Inner>,
}

struct Inner {
    // Closed before the files of the cache are.
    readers: Readers,
    shared: Arc<Shared>,
    batches: Combiner<Batches>,
}

/// Connections that only read.
struct Readers {
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

/// What a store can say of itself without asking the home.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The home's name.
    pub home: String,
    /// The newest generation that is both here and in the home; 0 before the first.
    pub generation: u64,
    /// The commit that led to it.
    pub commit: Option<String>,
    /// A batch is committed here and not known to be published.
    pub dirty: bool,
    /// How long ago the oldest batch was acknowledged that is only here, with [`Options::publish_every`].
    pub unpublished_for: Option<Duration>,
    /// Where the local database was put that has diverged.
    pub diverged: Option<PathBuf>,
    /// How old the knowledge is that this is the newest generation; `None` before the home was asked.
    pub lag: Option<Duration>,
    /// How often this store has published.
    pub publications: u64,
    /// Bytes of objects sent to the home, tries that failed included.
    pub bytes_sent: u64,
    /// Bytes of objects received from it.
    pub bytes_received: u64,
    /// What is on its way from the home, where that takes its time.
    pub download: Option<Download>,
    /// What went wrong last, if anything did.
    pub last_error: Option<String>,
}

impl DatabaseStore {
    /// Opens the database of a home, with a cache in [`Options::cache`]: checks the cache, fetches what is missing, and
    /// publishes what a crash had left unpublished; later, where somebody else has the lease now.
    ///
    /// # Errors
    /// [`Error::Diverged`] where something else wrote to a cache on which batches were begun; [`Error::CacheInUse`]; [`Error::Recreated`] and [`Error::WentBack`] where the
    /// home is not what this cache has seen; [`Error::Corrupt`]; [`Error::Pending`] or [`Error::Home`] where the home
    /// cannot be asked now.
    pub async fn open(home: Arc<dyn Home>, options: Options) -> Result<Self> {
        options.check()?;
        let readers = Readers { idle: Mutex::default(), permits: Arc::new(Semaphore::new(options.readers)) };
        let shared = while_awaited(open(home, options)).await?;
        let batches = Batches::new(&shared);
        Ok(Self { inner: Arc::new(Inner { readers, shared, batches }) })
    }

    /// Runs one batch in a transaction, and returns once it is in the home, or in the cache where
    /// [`Options::publish_every`] says so. Batches that wait together share the
    /// publication; one that fails, panics or breaks a deferred foreign key is rolled back alone. The batch runs on a thread
    /// of its own; `BEGIN`, `COMMIT` and `ROLLBACK` in it are refused, savepoints are its own. What changes nothing publishes nothing.
    ///
    /// # Errors
    /// [`Error::Batch`] and [`Error::Panicked`] for a batch that failed by itself; [`Error::LeaseTaken`],
    /// [`Error::Pending`] and [`Error::Home`] where nothing was written; [`Error::Unpublished`] where it is committed here
    /// and not known to be in the home; [`Error::Overtaken`] where it was rolled back, since somebody else has published in
    /// its place; [`Error::Diverged`].
    pub async fn for_write<T, F>(&self, batch: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let work: Work = Box::new(|db| batch(db).map(|answer| Box::new(answer) as _));
        let answer = submit(&self.inner.batches, work).await?;
        // It is what the batch has answered.
        answer.downcast().map(|answer| *answer).map_err(|_| Error::Panicked)
    }

    /// Brings the database up to date, unless that was done within [`Options::freshness`]. Returns the generation, which
    /// never goes backwards. Open connections see it without being opened again; a read transaction keeps its snapshot.
    ///
    /// # Errors
    /// [`Error::Home`] where the home cannot be asked; [`Error::Corrupt`], [`Error::Recreated`], [`Error::WentBack`].
    pub async fn ensure_fresh(&self) -> Result<u64> {
        let shared = Arc::clone(&self.inner.shared);
        if shared.is_fresh() {
            return Ok(shared.view().generation);
        }
        by_itself(async move { shared.ensure_fresh().await }).await
    }

    /// Reads from what is here, on a thread of its own; [`ensure_fresh`](Self::ensure_fresh) brings it up to date. For
    /// several statements on one snapshot begin a transaction.
    ///
    /// # Errors
    /// [`Error::Sqlite`] with what the closure answered.
    pub async fn read<T, F>(&self, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        while_awaited_idle(async move {
            let permits = Arc::clone(&inner.readers.permits);
            let permit = permits.acquire_owned().await.map_err(|_| Error::Closed)?;
            let work = move || {
                let db = inner.readers.pop().map_or_else(|| inner.reader(), Ok)?;
                let answer = read(&db).map_err(Error::sqlite("read"));
                if db.is_autocommit() {
                    inner.readers.lock().push(db);
                }
                drop(permit);
                answer
            };
            tokio::task::spawn_blocking(work).await.map_err(|_| Error::Panicked)?
        })
        .await
    }

    /// Runs `VACUUM`, which no batch can, and publishes what it changed: usually most of the database.
    ///
    /// # Errors
    /// As [`for_write`](Self::for_write).
    pub async fn vacuum(&self) -> Result<()> {
        let shared = Arc::clone(&self.inner.shared);
        by_itself(async move {
            let mut lock = shared.write_lock().await?;
            lock.begin().await?;
            let done =
                shared.on_local(|local| local.db.execute_batch("VACUUM").map_err(Error::sqlite("vacuum")));
            let done = done.await;
            lock.finish().await?;
            done
        })
        .await
    }

    /// The file of the local copy. Whoever opens it has to apply [`prepare`](crate::prepare) to the connection, and writes
    /// only within [`for_write`](Self::for_write).
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.inner.shared.paths.database()
    }

    /// Whether a batch could be published now. Publishes nothing; takes the lease for a moment, unless it is held here or
    /// elsewhere, which shows that the home is there and lets itself be written to. In a folder a file is written, and removed.
    ///
    /// # Errors
    /// [`Error::Home`] where it is not or does not; [`Error::Diverged`]; [`Error::Closed`].
    pub async fn check(&self) -> Result<()> {
        let shared = Arc::clone(&self.inner.shared);
        by_itself(async move { shared.check().await }).await
    }

    /// What is known without asking the home.
    #[must_use]
    pub fn status(&self) -> Status {
        let shared = &self.inner.shared;
        let (bytes_sent, bytes_received) = shared.remote.telemetry.travelled();
        let view = shared.view().clone();
        let lag = view.fresh_at.map(|at| shared.options.steady.since(at));
        Status {
            home: shared.remote.home.name(),
            generation: view.generation,
            commit: view.commit.map(|commit| commit.to_string()),
            dirty: view.dirty,
            unpublished_for: view.gathered_at.map(|at| shared.options.steady.since(at)),
            diverged: view.diverged,
            lag: if shared.lease.is_fresh() { Some(Duration::ZERO) } else { lag },
            publications: view.publications,
            bytes_sent,
            bytes_received,
            download: shared.remote.downloads.now(),
            last_error: view.last_error,
        }
    }

    /// Who holds the lease in the home, this store or another, or `None` where nobody does.
    ///
    /// # Errors
    /// [`Error::Home`].
    pub async fn holder(&self) -> Result<Option<Holder>> {
        let home = Arc::clone(&self.inner.shared.remote.home);
        by_itself(async move { home.holder().await.map_err(Error::Home) }).await
    }

    /// The databases that were kept because they had diverged.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn rescued(&self) -> Result<Vec<Rescued>> {
        list(&self.inner.shared.paths)
    }

    /// Goes on from the home after a divergence; what was here was kept. Returns the generation. Open connections see it.
    ///
    /// # Errors
    /// As [`ensure_fresh`](Self::ensure_fresh).
    pub async fn discard_diverged(&self) -> Result<u64> {
        let shared = Arc::clone(&self.inner.shared);
        by_itself(async move { shared.adopt().await }).await
    }

    /// Makes the newest generation a base now, removes what was superseded longer than [`Options::grace`] ago, and waits for
    /// both; true where there was anything on top of the base.
    ///
    /// # Errors
    /// As [`for_write`](Self::for_write), and nothing was changed then.
    pub async fn fold(&self) -> Result<bool> {
        let shared = Arc::clone(&self.inner.shared);
        by_itself(async move {
            let folding = Arc::new(shared.going(|shared| &shared.folding).await);
            let folded = shared.fold(&folding).await?;
            shared.clean().await?;
            Ok(folded)
        })
        .await
    }

    /// Merges the single segments into one now, removes what was superseded longer than [`Options::grace`] ago, and waits for
    /// both; true where there were several.
    ///
    /// # Errors
    /// As [`for_write`](Self::for_write), and nothing was changed then.
    pub async fn merge(&self) -> Result<bool> {
        let shared = Arc::clone(&self.inner.shared);
        by_itself(async move {
            let merging = Arc::new(shared.going(|shared| &shared.merging).await);
            let merged = shared.merge(&merging).await?;
            shared.clean().await?;
            Ok(merged)
        })
        .await
    }

    /// Rebuilds the newest generation from the home alone, in a folder of its own, and runs SQLite's integrity check.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the object that is wrong.
    pub async fn verify(&self) -> Result<Verified> {
        let shared = Arc::clone(&self.inner.shared);
        while_awaited(async move { shared.verify().await }).await
    }

    /// The generations that can be restored, the oldest first: each until it is merged with others, and within
    /// [`Options::grace`] as long as there is room; then those that merged segments and bases lead to. Reads no content.
    ///
    /// # Errors
    /// [`Error::Home`]; [`Error::Corrupt`].
    pub async fn history(&self) -> Result<Vec<Generation>> {
        let shared = Arc::clone(&self.inner.shared);
        while_awaited(async move {
            let Some((head, _)) = shared.remote.head().await? else { return Ok(Vec::new()) };
            let now = shared.options.clock.now();
            Ok(History::read(&shared.remote, &head).await?.generations(now))
        })
        .await
    }

    /// Writes a generation to a new file, from the home alone, and checks it as [`verify`](Self::verify) does. Earlier
    /// generations are there as long as [`history`](Self::history) shows them.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a generation that is not there, and for a file that is, or one beside it as
    /// [`check_new_file`](crate::check_new_file) has it; [`Error::Corrupt`].
    pub async fn restore(&self, generation: u64, to: &Path) -> Result<Verified> {
        let (shared, path) = (Arc::clone(&self.inner.shared), to.to_owned());
        let rebuild = async move { Ok(shared.rebuild(Some(generation), &path).await?.verified) };
        write_new(to, rebuild).await
    }

    /// Keeps a generation, the newest or this one, under a name until [`remove_hold`](Self::remove_hold): a copy of its own in
    /// the home, rebuilt from the home and checked as [`restore`](Self::restore) does. The name has 1 to 64 letters, digits,
    /// `.`, `_` and `-`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a name that is taken or cannot be one, and for a generation that is not there;
    /// [`Error::Corrupt`]; [`Error::Home`].
    pub async fn hold(&self, name: &str, generation: Option<u64>) -> Result<Hold> {
        let (shared, name) = (Arc::clone(&self.inner.shared), name.to_owned());
        while_awaited(async move { shared.hold(&name, generation).await }).await
    }

    /// What is kept under names, the earliest generation first.
    ///
    /// # Errors
    /// [`Error::Home`].
    pub async fn holds(&self) -> Result<Vec<Hold>> {
        let shared = Arc::clone(&self.inner.shared);
        while_awaited(async move { shared.holds().await }).await
    }

    /// Removes what is kept under a name, and says what it was. Two holds that were made at once may have one name: then the
    /// generation tells them apart.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where there is none, or more than one; [`Error::Home`].
    pub async fn remove_hold(&self, name: &str, generation: Option<u64>) -> Result<Hold> {
        let (shared, name) = (Arc::clone(&self.inner.shared), name.to_owned());
        while_awaited(async move { shared.remove_hold(&name, generation).await }).await
    }

    /// Writes what is kept under a name to a new file, and checks it. The generation is as for
    /// [`remove_hold`](Self::remove_hold).
    ///
    /// # Errors
    /// As [`restore`](Self::restore).
    pub async fn restore_hold(&self, name: &str, generation: Option<u64>, to: &Path) -> Result<Verified> {
        let (shared, name, path) = (Arc::clone(&self.inner.shared), name.to_owned(), to.to_owned());
        write_new(to, async move {
            shared.remote.rebuild_hold(&name, generation, &path, &*shared.options.clock).await
        })
        .await
    }

    /// Reads each hold, and checks it as [`restore_hold`](Self::restore_hold) does; the earliest generation first. All of them travel, one
    /// after the other.
    ///
    /// # Errors
    /// [`Error::Home`] where they cannot be listed, and [`Error::Io`]; what is wrong with one stands in what is found of it.
    pub async fn verify_holds(&self) -> Result<Vec<VerifiedHold>> {
        let shared = Arc::clone(&self.inner.shared);
        while_awaited(async move { shared.verify_holds().await }).await
    }

    /// Publishes what is not published yet, gives back the lease, and closes the cache. Every later call is
    /// [`Error::Closed`].
    ///
    /// # Errors
    /// [`Error::Pending`] where a batch could not be published: the next open publishes it.
    pub async fn close(&self) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        by_itself(async move { inner.close().await }).await
    }

    pub(crate) async fn begin_batches(&self) -> Result<WriteLock> {
        self.inner.shared.begin_batches().await
    }
}

impl Inner {
    async fn close(&self) -> Result<()> {
        let shared = &self.shared;
        let (unsettled, inherited) = {
            let content = shared.content.lock().await;
            (content.unsettled, content.inherited)
        };
        let settled = match unsettled {
            // A store that may have been opened to read is not kept from closing by what an earlier process had left.
            Some(_) if unsettled == inherited => match shared.write_lock_within(Duration::ZERO).await {
                Err(error) if error.can_wait() => Ok(()),
                settled => settled.map(drop),
            },
            Some(_) => shared.write_lock().await.map(drop),
            None => Ok(()),
        };
        shared.give_up_compacting().await;
        let _folding = shared.going(|shared| &shared.folding).await;
        let _merging = shared.going(|shared| &shared.merging).await;
        let _writer = shared.writer.lock().await;
        let permits = &self.readers.permits;
        let all = u32::try_from(shared.options.readers).unwrap_or(u32::MAX);
        // Whoever closes second finds it closed.
        let _reading = permits.acquire_many(all).await;
        permits.close();
        let _content = shared.content.lock().await;
        self.readers.lock().clear();
        if let Some(mut local) = shared.take_local() {
            let saved = tokio::task::spawn_blocking(move || {
                local.wait_for_checkpoint();
                local.save()
            })
            .await;
            saved.map_err(|_| Error::Panicked)??;
        }
        shared.lease.release(&*shared.remote.home).await;
        settled
    }

    fn reader(&self) -> Result<Connection> {
        let options = &self.shared.options;
        let open = || {
            let db = connect(&self.shared.paths.database(), options.busy_timeout)?;
            db.pragma_update(None, "query_only", true)?;
            Ok(db)
        };
        open().map_err(Error::sqlite("open the cache"))
    }
}

impl Readers {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pop(&self) -> Option<Connection> {
        self.lock().pop()
    }
}

impl fmt::Debug for DatabaseStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseStore").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// Whether anything was ever published to a home. Reads one small object, and makes nothing.
///
/// # Errors
/// [`Error::Home`] where the home cannot be asked; [`Error::Corrupt`] where its head is gone.
pub async fn exists(home: Arc<dyn Home>) -> Result<bool> {
    by_itself(async move { Ok(home.get(HEAD).await?.is_some() || !is_new(&*home).await?) }).await
}
