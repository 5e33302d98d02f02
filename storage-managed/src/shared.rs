//! What the parts of a store share, and who may change what.
//!
//! Writers take the lock of this store's writers, then the lease from the home, then the content. Readers that freshen take
//! the content alone, so that they do not wait for somebody else's lease.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use storage_core::engine::task;
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use crate::{
    cache::Paths,
    error::{Error, Result},
    format::{Id, SegmentHeader},
    lease::Lease,
    local::Local,
    options::Options,
    proofs::Proofs,
    remote::{Known, Remote},
};

type AsyncMutex<T> = tokio::sync::Mutex<T>;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) remote: Remote,
    pub(crate) options: Options,
    pub(crate) paths: Paths,
    pub(crate) lease: Lease,
    pub(crate) writer: Arc<AsyncMutex<()>>,
    pub(crate) content: Arc<AsyncMutex<Content>>,
    /// Used on threads that may block, by whoever has the content.
    local: Arc<Mutex<Option<Local>>>,
    pub(crate) view: Mutex<View>,
    /// Batches were acknowledged that are only here, and more may join them.
    pub(crate) gathering: AtomicBool,
    pub(crate) folding: AtomicBool,
    pub(crate) merging: AtomicBool,
    pub(crate) checking: AtomicBool,
    /// Somebody removes later what is superseded now.
    pub(crate) cleans_later: AtomicBool,
    /// Nobody waits any more for what goes on in the background.
    pub(crate) closes: CancellationToken,
}

/// What segments say of themselves, and the pages that they change.
pub(crate) type Change = (SegmentHeader, Vec<u32>);
/// The newest of them that were made here, by generation, so that merging them asks the home for nothing.
pub(crate) type Changes = BTreeMap<u64, Arc<Change>>;

/// What is known of the home.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) known: Option<Known>,
    /// A batch that may be committed here and not be in the home.
    pub(crate) unsettled: Option<Id>,
    /// The one that an earlier process had left.
    pub(crate) inherited: Option<Id>,
    pub(crate) diverged: Option<PathBuf>,
    pub(crate) changes: Changes,
}

/// What can be told without waiting.
#[derive(Debug, Default, Clone)]
pub(crate) struct View {
    pub(crate) generation: u64,
    pub(crate) commit: Option<Id>,
    pub(crate) dirty: bool,
    pub(crate) diverged: Option<PathBuf>,
    /// By [`Options::steady`].
    pub(crate) fresh_at: Option<Duration>,
    pub(crate) publications: u64,
    /// When the oldest batch was acknowledged that is only here, by [`Options::steady`].
    pub(crate) gathered_at: Option<Duration>,
    pub(crate) last_error: Option<String>,
}

/// What a writer holds: nobody else writes, here or elsewhere, until it is dropped.
#[derive(Debug)]
pub(crate) struct WriteLock {
    pub(crate) shared: Arc<Shared>,
    pub(crate) content: OwnedMutexGuard<Content>,
    _writer: OwnedMutexGuard<()>,
}

impl Shared {
    pub(crate) fn new(
        remote: Remote,
        options: Options,
        local: Local,
        content: Content,
        proofs: Proofs,
    ) -> Arc<Self> {
        let view = View { diverged: content.diverged.clone(), ..View::default() };
        let shared = Arc::new(Self {
            remote,
            paths: local.paths.clone(),
            lease: Lease::new(options.steady.clone(), proofs),
            options,
            writer: Arc::default(),
            content: Arc::new(AsyncMutex::new(content)),
            local: Arc::new(Mutex::new(Some(local))),
            view: Mutex::new(view),
            gathering: AtomicBool::new(false),
            folding: AtomicBool::new(false),
            merging: AtomicBool::new(false),
            checking: AtomicBool::new(false),
            cleans_later: AtomicBool::new(false),
            closes: CancellationToken::new(),
        });
        shared.show();
        shared
    }

    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets everybody see the generation that is here.
    fn show(&self) {
        let local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(local) = &*local {
            let published = *local.published();
            let mut view = self.view();
            (view.generation, view.commit) = (published.generation, published.commit);
            self.remote.telemetry.generation.set(published.generation as f64);
        }
    }

    /// Works on the database, where blocking is allowed.
    pub(crate) async fn on_local<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Local) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let done = {
                let mut local = shared.local.lock().unwrap_or_else(PoisonError::into_inner);
                work(local.as_mut().ok_or(Error::Closed)?)
            };
            shared.show();
            done
        });
        done.await.map_err(|_| Error::Panicked)?
    }

    /// Closes the database.
    pub(crate) fn take_local(&self) -> Option<Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits for the other writers of this store and for the lease, and brings the database up to date.
    pub(crate) async fn write_lock(self: &Arc<Self>) -> Result<WriteLock> {
        self.write_lock_within(self.options.lease_wait).await
    }

    /// As [`write_lock`](Self::write_lock), waiting so long for somebody else's lease.
    pub(crate) async fn write_lock_within(self: &Arc<Self>, wait: Duration) -> Result<WriteLock> {
        Ok(self.lock_writers(wait, false).await?.0)
    }

    /// As [`write_lock`](Self::write_lock); what is gathered here may stay so where the caller joins it, which is told.
    pub(crate) async fn lock_writers(
        self: &Arc<Self>,
        wait: Duration,
        joins: bool,
    ) -> Result<(WriteLock, bool)> {
        let writer = Arc::clone(&self.writer).lock_owned().await;
        self.take_lease(wait).await?;
        let mut content = Arc::clone(&self.content).lock_owned().await;
        if let Some(path) = &content.diverged {
            return Err(Error::Diverged { path: path.clone() });
        }
        let joins = joins
            && content.unsettled.is_some()
            && self.gathering.load(Ordering::Acquire)
            && self.lease.is_fresh();
        if let Some(commit) = content.unsettled.filter(|_| !joins) {
            // From the first try on it is what it is.
            self.gathering.store(false, Ordering::Release);
            match self.publish(&mut content, commit).await {
                // Who wrote it knows that its outcome is unknown.
                Ok(()) => {}
                Err(overtaken @ Error::Overtaken { .. }) => {
                    self.view().last_error = Some(overtaken.to_string());
                }
                Err(Error::Unpublished { commit, source }) => return Err(Error::Pending { commit, source }),
                Err(error) => return Err(error),
            }
        }
        if !self.lease.is_fresh() {
            self.freshen(&mut content).await?;
            self.lease.set_fresh(true);
        }
        self.lease.touch();
        Ok((WriteLock { shared: Arc::clone(self), content, _writer: writer }, joins))
    }

    /// Whether a batch could be published now, see [`DatabaseStore::check`](crate::DatabaseStore::check).
    pub(crate) async fn check(&self) -> Result<()> {
        if let Some(path) = self.view().diverged.clone() {
            return Err(Error::Diverged { path });
        }
        let home = &*self.remote.home;
        // Whoever writes now finds out by himself.
        let writer = Arc::clone(&self.writer).try_lock_owned();
        if writer.is_err() || self.lease.held().is_some() {
            self.remote.head().await?;
        } else {
            match self.lease.ensure(home, &self.options, Duration::ZERO).await {
                Ok(_) => self.lease.release(home).await,
                // Somebody else writes, and will have written.
                Err(Error::LeaseTaken { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(home.check_room().await?)
    }

    /// Takes the lease, unless it is held, and keeps it.
    pub(crate) async fn take_lease(self: &Arc<Self>, wait: Duration) -> Result<()> {
        if self.lease.ensure(&*self.remote.home, &self.options, wait).await? {
            task::spawn_in_background(keep(Arc::downgrade(self)));
        }
        Ok(())
    }

    /// What the clock shows that suspend does not stop.
    pub(crate) fn now(&self) -> Duration {
        self.options.steady.now()
    }

    /// Whether a batch is committed here and not known to be published.
    pub(crate) fn set_dirty(&self, dirty: bool) {
        {
            let mut view = self.view();
            view.dirty = dirty;
            view.gathered_at = view.gathered_at.filter(|_| dirty);
        }
        self.remote.telemetry.unpublished.set(f64::from(u8::from(dirty)));
    }

    /// Keeps an error for the status.
    pub(crate) fn noted<T>(&self, done: Result<T>) -> Result<T> {
        if let Err(error) = &done {
            self.view().last_error = Some(error.to_string());
            self.remote.telemetry.failed(error.kind());
        }
        done
    }
}

impl Drop for Shared {
    /// Gives the lease back.
    fn drop(&mut self) {
        if let Some(held) = self.lease.held() {
            let home = Arc::clone(&self.remote.home);
            task::spawn_in_background(async move {
                if let Err(error) = home.release(&held).await {
                    tracing::debug!(%error, "the lease was not given back; it ends by itself");
                }
            });
        }
    }
}

impl WriteLock {
    /// Writes down that a batch comes; returns its id.
    pub(crate) async fn begin(&mut self) -> Result<Id> {
        let commit = Id::random()?;
        if !self.shared.on_local(move |local| local.begin(commit)).await? {
            self.replace_foreign().await?;
            if !self.shared.on_local(move |local| local.begin(commit)).await? {
                return Err(self.shared.diverge(&mut self.content).await);
            }
        }
        self.content.unsettled = Some(commit);
        Ok(commit)
    }

    /// What follows where somebody else has written to the cache, see [`Shared::replace_foreign`].
    async fn replace_foreign(&mut self) -> Result<()> {
        let Some((head, _)) = self.content.known.clone() else {
            return Err(self.shared.diverge(&mut self.content).await);
        };
        match self.shared.replace_foreign(&mut self.content, &head).await? {
            Ok(()) => Ok(()),
            Err(missing) => Err(Error::corrupt(&missing, "the head names it and it is gone")),
        }
    }

    /// Publishes what was committed since [`begin`](Self::begin), if anything was. Returns the generation.
    pub(crate) async fn finish(mut self) -> Result<u64> {
        let Some(commit) = self.content.unsettled else { return Ok(self.shared.view().generation) };
        let shared = Arc::clone(&self.shared);
        let published = shared.publish(&mut self.content, commit).await;
        shared.noted(published)?;
        shared.lease.touch();
        let generation = shared.view().generation;
        self.published().await;
        Ok(generation)
    }

    /// What follows a publication.
    pub(crate) async fn published(self) {
        let shared = Arc::clone(&self.shared);
        shared.tidy(&self.content).await;
        if shared.lease.kept().is_some_and(|kept| kept >= shared.options.lease_share) {
            // Whoever waits elsewhere has a chance before the next writer here.
            shared.lease.release(&*shared.remote.home).await;
            drop(self.content);
            tokio::time::sleep(Duration::from_millis(20 + fastrand::u64(..20))).await;
        }
    }
}

/// Renews the lease, and gives it back when nobody writes.
async fn keep(shared: std::sync::Weak<Shared>) {
    loop {
        let Some(pause) = shared.upgrade().map(|shared| {
            (shared.options.lease_term / 3).min(shared.options.lease_idle).max(Duration::from_millis(5))
        }) else {
            return;
        };
        tokio::time::sleep(pause).await;
        let Some(shared) = shared.upgrade() else { return };
        let Some(idle) = shared.lease.idle() else { return };
        if idle >= shared.options.lease_idle
            && !shared.gathering.load(Ordering::Acquire)
            && let Ok(_writer) = Arc::clone(&shared.writer).try_lock_owned()
        {
            shared.lease.release(&*shared.remote.home).await;
            return;
        }
        if shared.lease.due(&shared.options) && !shared.lease.renew(&*shared.remote.home).await {
            tracing::warn!(home = shared.remote.home.name(), "the lease was lost");
            return;
        }
    }
}
