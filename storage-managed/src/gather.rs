//! Acknowledging batches that are only here: they are gathered for a while, and published together.
//!
//! Until the first try to publish them they are one open commit, to which batches are added; the lease is held all the while.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use storage_core::engine::spawn_thread;

use crate::{
    error::{Error, Result},
    shared::{Shared, WriteLock},
};

/// How long to wait before what could not be published is tried again, at least and at most.
const ASK_AGAIN: Duration = Duration::from_millis(100);
const ASK_AT_LAST: Duration = Duration::from_secs(30);

impl Shared {
    /// The right to run batches, which are written down; they may join those that are gathered.
    pub(crate) async fn begin_batches(self: &Arc<Self>) -> Result<WriteLock> {
        let may_join = self.options.publish_every.is_some();
        let locked = self.lock_writers(self.options.lease_wait, may_join).await;
        let (mut lock, joins) = self.noted(locked)?;
        if !joins {
            lock.begin().await?;
        }
        Ok(lock)
    }

    /// Publishes what is gathered after a while, and again until that is done.
    fn publish_gathered(self: &Arc<Self>, every: Duration) {
        let shared = Arc::downgrade(self);
        spawn_thread("storage-managed-publish", async move {
            let mut pause = every;
            loop {
                tokio::time::sleep(pause).await;
                let Some(shared) = shared.upgrade().filter(|shared| shared.view().dirty) else { return };
                match shared.write_lock().await {
                    Ok(lock) => return lock.published().await,
                    Err(Error::Closed | Error::Diverged { .. }) => return,
                    Err(error) => {
                        tracing::warn!(%error, "batches that were acknowledged here are not in the home yet");
                        pause = (pause * 2).clamp(ASK_AGAIN, ASK_AT_LAST);
                        let _ = shared.noted(Err::<(), _>(error));
                    }
                }
            }
        });
    }
}

impl WriteLock {
    /// Ends batches: what they committed is in the home, or durably here where the settings say that this is enough.
    pub(crate) async fn end_batches(self) -> Result<()> {
        match self.shared.options.publish_every {
            Some(every) => self.gather(every).await,
            None => self.finish().await.map(drop),
        }
    }

    async fn gather(self, every: Duration) -> Result<()> {
        let shared = &self.shared;
        shared.on_local(|local| local.sync_log()).await?;
        shared.lease.touch();
        if !shared.gathering.swap(true, Ordering::AcqRel) {
            shared.set_dirty(true);
            shared.view().gathered_at = Some(shared.now());
            shared.publish_gathered(every);
        }
        Ok(())
    }
}
