//! The replica: what a program holds.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::Connection;
use storage_core::ErrorKind;
use tokio::sync::Semaphore;

use super::{
    cached::CachedHome,
    image::{Failure, Image},
    options::ReplicaOptions,
    snapshot::Snapshot,
};
use crate::{
    cache::Published,
    error::{Error, Result},
    freshen::{REREADS, check_follows},
    home::Home,
    remote::{Known, Moved},
    spawned::{while_awaited, while_awaited_idle},
    wal::Mark,
};

/// A database of a [`Home`] that is only read, and fetched page by page as it is, see the [module](super). Cheap to clone; all
/// clones are one replica. Needs no runtime.
#[derive(Clone)]
pub struct Replica {
    inner: Arc<Inner>,
}

struct Inner {
    // Closed before the cache is.
    idle: Mutex<Vec<Reader>>,
    permits: Arc<Semaphore>,
    current: Mutex<Current>,
    /// One refreshes at a time.
    refreshing: tokio::sync::Mutex<()>,
    home: Arc<CachedHome>,
    options: ReplicaOptions,
}

/// What later reads see.
struct Current {
    snapshot: Arc<Snapshot>,
    /// When the home was asked for it.
    fresh_at: Duration,
}

/// A connection, and what it reads.
struct Reader {
    // Before its image.
    db: Connection,
    image: Arc<Image>,
}

/// What a replica can say of itself without asking the home.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaStatus {
    /// The home's name.
    pub home: String,
    /// The generation that the next read sees.
    pub generation: u64,
    /// The commit that led to it.
    pub commit: String,
    /// How old the knowledge is that this is the newest generation.
    pub lag: Duration,
    /// How many segments lie on its base.
    pub segments: usize,
    /// How often the home was asked, tries that failed included. A home with encryption may ask another one twice.
    pub requests: u64,
    /// Bytes of objects received.
    pub bytes_received: u64,
    /// Bytes of pages in the cache on disk.
    pub cached_bytes: u64,
}

impl Replica {
    /// Opens the newest generation of a home's database: asks for the head, the index, and what of the segments tells which pages they
    /// hold. Pages are fetched when they are read.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where nothing was ever published; [`Error::CacheInUse`]; [`Error::Corrupt`]; [`Error::Home`]
    /// where the home cannot be asked now; [`Error::Settings`]; [`Error::Io`].
    pub async fn open(home: Arc<dyn Home>, options: ReplicaOptions) -> Result<Self> {
        options.check()?;
        while_awaited(async move {
            let (opened, settings) = (options.clone(), options);
            let opening = tokio::task::spawn_blocking(move || CachedHome::open(home, &opened));
            let home = Arc::new(opening.await.map_err(|_| Error::Panicked)??);
            let asked = settings.steady.now();
            let known = home.source.head().await?;
            let known =
                known.ok_or_else(|| Error::Unsupported("nothing was published to it yet".to_owned()))?;
            let snapshot = follow(&home, known, None, settings.fetched_at_once).await?;
            home.objects.sweep(snapshot.object_names());
            let inner = Inner {
                idle: Mutex::default(),
                permits: Arc::new(Semaphore::new(settings.readers)),
                current: Mutex::new(Current { snapshot: Arc::new(snapshot), fresh_at: asked }),
                refreshing: tokio::sync::Mutex::default(),
                home,
                options: settings,
            };
            Ok(Self { inner: Arc::new(inner) })
        })
        .await
    }

    /// Asks the home for the newest generation, which reads that begin later see; those under way keep theirs. Returns the
    /// generation, which never goes backwards. Where nothing is new, that is one request without a body.
    ///
    /// # Errors
    /// [`Error::Home`] where the home cannot be asked; [`Error::Corrupt`]; [`Error::Recreated`] and [`Error::WentBack`]
    /// where it is not what this replica has seen. What was seen before can be read on.
    pub async fn refresh(&self) -> Result<u64> {
        let inner = Arc::clone(&self.inner);
        while_awaited(async move { inner.refresh().await }).await
    }

    /// Reads from the newest generation that is known, on a thread of its own. All that the closure reads is of that one. Each
    /// page that is not cached is waited for, at most [`ReplicaOptions::fetch_timeout`].
    ///
    /// # Errors
    /// [`Error::Home`] where a page could not be fetched: of the kind `Unavailable` also where it was superseded and removed
    /// meanwhile, and the replica refreshed, so that the read can be tried again; [`Error::Corrupt`] naming the object that
    /// is wrong; else [`Error::Sqlite`] with what the closure answered, as for a write, which is refused.
    pub async fn read<T, F>(&self, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        while_awaited_idle(async move {
            let permits = Arc::clone(&inner.permits);
            let permit = permits.acquire_owned().await.map_err(|_| Error::Closed)?;
            let reading = Arc::clone(&inner);
            let work = move || {
                let answer = reading.read(read);
                drop(permit);
                answer
            };
            let read = tokio::task::spawn_blocking(work).await.map_err(|_| Error::Panicked)??;
            match read {
                Ok(answer) => Ok(answer),
                Err(lost) => Err(inner.superseded(&lost).await),
            }
        })
        .await
    }

    /// What is known without asking the home.
    #[must_use]
    pub fn status(&self) -> ReplicaStatus {
        let Inner { home, options, .. } = &*self.inner;
        let (requests, bytes_received) = home.source.travelled();
        let current = self.inner.current();
        let head = current.snapshot.head();
        ReplicaStatus {
            home: home.source.home.name(),
            generation: head.generation,
            commit: head.commit.to_string(),
            lag: options.steady.since(current.fresh_at),
            segments: current.snapshot.segments.len(),
            requests,
            bytes_received,
            cached_bytes: home.blocks.bytes(),
        }
    }
}

/// An object that was not there, and the snapshot that needs it.
struct Lost {
    object: String,
    snapshot: Arc<Snapshot>,
}

impl Inner {
    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection on the newest snapshot, or what that needs and is not there.
    fn reader(&self) -> Result<std::result::Result<Reader, Lost>> {
        let snapshot = Arc::clone(&self.current().snapshot);
        let idle = {
            let mut idle = self.idle();
            idle.retain(|reader| Arc::ptr_eq(&reader.image.snapshot, &snapshot));
            idle.pop()
        };
        if let Some(reader) = idle {
            return Ok(Ok(reader));
        }
        let image = Arc::new(Image::new(snapshot, Arc::clone(&self.home)));
        let open = || {
            let db = storage_managed_vfs::open(Arc::<Image>::clone(&image))?;
            db.pragma_update(None, "query_only", true)?;
            Ok(db)
        };
        match open() {
            Ok(db) => Ok(Ok(Reader { db, image })),
            Err(error) => self.failed(&image, Error::sqlite("open the replica")(error)).map(Err),
        }
    }

    /// Why SQLite could not do it: for a reason of the image's, or of its own.
    fn failed(&self, image: &Image, error: Error) -> Result<Lost> {
        match image.take_failure() {
            Some(Failure::Missing(object)) => Ok(Lost { object, snapshot: Arc::clone(&image.snapshot) }),
            Some(Failure::Error(failure)) => {
                self.home.source.failed(&failure);
                Err(failure)
            }
            None => Err(error),
        }
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<std::result::Result<T, Lost>> {
        let reader = match self.reader()? {
            Ok(reader) => reader,
            Err(lost) => return Ok(Err(lost)),
        };
        let answer = match read(&reader.db) {
            Ok(answer) => Ok(Ok(answer)),
            Err(error) => self.failed(&reader.image, Error::sqlite("read")(error)).map(Err),
        };
        // What the closure has taken for no failure is none.
        reader.image.take_failure();
        if reader.db.is_autocommit() {
            self.idle().push(reader);
        }
        answer
    }

    /// What to say of a read that needs an object which is gone. Later reads see a newer snapshot, if there is one.
    async fn superseded(&self, lost: &Lost) -> Error {
        if let Err(error) = self.refresh().await {
            return error;
        }
        if Arc::ptr_eq(&self.current().snapshot, &lost.snapshot) {
            return Error::corrupt(&lost.object, "the head names it and it is gone");
        }
        let message = format!("`{}` was superseded and removed before it was read", lost.object);
        let error = storage_core::Error::new(ErrorKind::Unavailable, message);
        Error::Home(error.with_hint(
            "read again, which sees a newer generation; a longer retention keeps superseded objects for slow readers",
        ))
    }

    async fn refresh(&self) -> Result<u64> {
        let _one = self.refreshing.lock().await;
        let (asked, earlier) = (self.options.steady.now(), Arc::clone(&self.current().snapshot));
        let known = match self.home.source.head_if_changed(&earlier.known.1).await? {
            Moved::No => {
                self.current().fresh_at = asked;
                return Ok(earlier.head().generation);
            }
            Moved::To(known) => *known,
            Moved::Gone => {
                let known = earlier.head().incarnation.to_string();
                return Err(Error::Recreated { known, found: None });
            }
        };
        let at_once = self.options.fetched_at_once;
        let snapshot = Arc::new(follow(&self.home, known, Some(&earlier), at_once).await?);
        let generation = snapshot.head().generation;
        self.home.objects.sweep(snapshot.object_names().chain(earlier.object_names()));
        *self.current() = Current { snapshot, fresh_at: asked };
        self.idle().clear();
        Ok(generation)
    }
}

/// A snapshot of a head; of a later one, where that has superseded what the first one names.
async fn follow(
    home: &CachedHome,
    mut known: Known,
    earlier: Option<&Snapshot>,
    at_once: usize,
) -> Result<Snapshot> {
    for _ in 0..REREADS {
        if let Some(earlier) = earlier {
            let earlier = earlier.head();
            check_follows(&known.0, Some(earlier.incarnation), &Published::of(earlier, Mark::default()))?;
        }
        let version = known.1.clone();
        let missing = match Snapshot::read(home, known, earlier, at_once).await? {
            Ok(snapshot) => return Ok(snapshot),
            Err(missing) => missing,
        };
        known = match home.source.head_if_changed(&version).await? {
            Moved::To(known) => *known,
            Moved::No | Moved::Gone => {
                return Err(Error::corrupt(&missing, "the head names it and it is gone"));
            }
        };
    }
    Err(Error::moving())
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("status", &self.status()).finish_non_exhaustive()
    }
}
