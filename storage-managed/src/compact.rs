//! What is done beside the work: merging segments, making bases, and removing what nobody needs any more.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use storage_core::engine::{spawn_thread, task};

use crate::{
    error::{Error, Result},
    format::{Head, base_name},
    home::Put,
    levels::{Levels, Superseded, superseded},
    shared::{Content, Shared},
};

/// How many times as much as is worth it a closing store leaves to the next one.
const OVERDUE: u64 = 2;
/// How many objects are removed at once.
const REMOVED_AT_ONCE: usize = 8;

/// Work of which one at a time goes on, since two would write to one file, until it is dropped.
pub(crate) struct Going {
    shared: Arc<Shared>,
    of: fn(&Shared) -> &AtomicBool,
}

impl Drop for Going {
    fn drop(&mut self) {
        (self.of)(&self.shared).store(false, Ordering::Release);
    }
}

impl Shared {
    /// What follows a publication and nobody waits for.
    pub(crate) async fn tidy(self: &Arc<Self>, content: &Content) {
        self.checkpoint().await;
        self.check_now_and_then();
        let Some((head, _)) = &content.known else { return };
        self.remote.telemetry.segments.set(head.singles() as f64);
        let levels = Levels::of(&self.options);
        if levels.is_merge_due(head, 1)
            && let Some(merging) = self.try_going(|shared| &shared.merging)
        {
            let merging = Arc::new(merging);
            self.in_background("storage-managed-merge", async move { merging.shared.merge(&merging).await });
        }
        let index = self.remote.known_index(head);
        if (levels.is_fold_due(head, 1) || levels.is_fold_better(head, index.as_deref()))
            && let Some(folding) = self.try_going(|shared| &shared.folding)
        {
            let folding = Arc::new(folding);
            self.in_background("storage-managed-fold", async move { folding.shared.fold(&folding).await });
        }
    }

    /// Moves what is published to the main file of the cache now and then. Nothing depends on it.
    async fn checkpoint(self: &Arc<Self>) {
        let bytes = self.options.checkpoint_bytes;
        match self.on_local(move |local| local.checkpoint_beside(bytes)).await {
            Ok(Some(moving)) => {
                spawn_thread("storage-managed-checkpoint", async move { warn_of_checkpoint(&moving.run()) });
            }
            Ok(None) => {}
            failed => warn_of_checkpoint(&failed),
        }
    }

    /// Checks the home beside the work, where it is time for it.
    fn check_now_and_then(self: &Arc<Self>) {
        if self.takes_check()
            && let Some(checking) = self.try_going(|shared| &shared.checking)
        {
            spawn_thread("storage-managed-check", async move {
                let shared = &checking.shared;
                tokio::select! {
                    () = shared.check_home() => {}
                    () = shared.closes.cancelled() => {}
                }
            });
        }
    }

    /// Does such work on a thread of its own, and removes what it superseded, until the store closes.
    fn in_background(
        self: &Arc<Self>,
        name: &'static str,
        work: impl Future<Output = Result<bool>> + Send + 'static,
    ) {
        let shared = Arc::clone(self);
        spawn_thread(name, async move {
            let all = async {
                work.await?;
                shared.clean().await
            };
            // What was put and is not named by the head yet is nobody's.
            let done = tokio::select! {
                done = all => done,
                () = shared.closes.cancelled() => Ok(()),
            };
            if let Err(error) = done
                && !matches!(error, Error::Closed)
            {
                tracing::warn!(%error, "merging, folding or cleaning up failed; it will be tried again");
            }
        });
    }

    /// Lets the head name something else than before. False where it could not be, or somebody else moved it.
    pub(crate) async fn name(&self, content: &mut Content, next: Head) -> Result<bool> {
        let (Some(known), Some(held)) = (&content.known, self.lease.held()) else { return Ok(false) };
        match self.remote.move_head(Some(known), &next, &held).await {
            Ok(Put::Done(version)) => {
                content.known = Some((next, version));
                Ok(true)
            }
            // A writer's next head would be refused with an old version: read which one stands.
            Ok(Put::Refused) | Err(_) => {
                let found = self.remote.head().await?;
                let taken = found
                    .as_ref()
                    .is_some_and(|(head, _)| (&head.base, head.index) == (&next.base, next.index));
                if let Some(found) = found.filter(|(head, _)| head.commit == next.commit) {
                    content.known = Some(found);
                }
                Ok(taken)
            }
        }
    }

    /// Removes what was superseded long enough ago.
    pub(crate) async fn clean(self: &Arc<Self>) -> Result<()> {
        let Some((known, _)) = self.content.lock().await.known.clone() else { return Ok(()) };
        // By the head that is there now: the home may have been brought back to an earlier state since.
        let Some(newest) = self.remote.head().await? else { return Ok(()) };
        let head = &newest.0;
        if head.incarnation != known.incarnation || head.generation < known.generation {
            return Ok(());
        }
        let Ok(index) = self.remote.index(head).await? else { return Ok(()) };
        let objects = self.remote.list("").await?;
        let base = base_name(head.base.generation, head.base.commit);
        if !objects.iter().any(|object| object.name == base) {
            // It may have been superseded and removed since the head was read.
            return self.remote.head_instead_of(&newest, &base).await.map(drop);
        }
        let Superseded { gone, left } = superseded(&objects, head, index.as_deref(), self.options.grace);
        let count = gone.len() as u64;
        let removed = stream::iter(gone)
            .map(|name| async move { self.remote.run(|| self.remote.home.delete(&name)).await });
        removed.buffer_unordered(REMOVED_AT_ONCE).try_collect::<()>().await?;
        self.remote.telemetry.removed.increment(count);
        self.remote.telemetry.objects.set((objects.len() as u64 - count) as f64);
        if left > 0 {
            self.clean_later();
        }
        Ok(())
    }

    /// Looks again once all that is superseded now is old enough: nobody may write until then. And once more where something
    /// was superseded meanwhile.
    fn clean_later(self: &Arc<Self>) {
        if self.cleans_later.swap(true, Ordering::AcqRel) {
            return;
        }
        let (shared, pause) = (Arc::downgrade(self), self.options.grace.max(Duration::from_secs(1)));
        task::spawn_in_background(async move {
            tokio::time::sleep(pause).await;
            let Some(shared) = shared.upgrade().filter(|shared| !shared.closes.is_cancelled()) else {
                return;
            };
            shared.cleans_later.store(false, Ordering::Release);
            if let Err(error) = shared.clean().await {
                tracing::warn!(%error, "cleaning up failed; it will be tried again");
                shared.clean_later();
            }
        });
    }

    /// Ends what goes on in the background, which the next process does, unless that was put off for long: of processes that
    /// live for a second each is the last one.
    pub(crate) async fn give_up_compacting(&self) {
        let overdue = {
            let content = self.content.lock().await;
            let levels = Levels::of(&self.options);
            content.known.as_ref().is_some_and(|(head, _)| {
                levels.is_merge_due(head, OVERDUE) || levels.is_fold_due(head, OVERDUE)
            })
        };
        if !overdue {
            self.closes.cancel();
        }
    }

    fn try_going(self: &Arc<Self>, of: fn(&Shared) -> &AtomicBool) -> Option<Going> {
        let is_free = !of(self).swap(true, Ordering::AcqRel);
        is_free.then(|| Going { shared: Arc::clone(self), of })
    }

    /// Waits for such work that goes on, and for the right to do it.
    pub(crate) async fn going(self: &Arc<Self>, of: fn(&Shared) -> &AtomicBool) -> Going {
        loop {
            if let Some(going) = self.try_going(of) {
                return going;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A checkpoint that failed is tried again with the next batch.
pub(crate) fn warn_of_checkpoint<T>(done: &Result<T>) {
    if let Err(error) = done {
        tracing::warn!(%error, "the log of the cache could not be written back; it will be tried again");
    }
}

impl Going {
    /// Whether nobody closes the store.
    pub(crate) fn goes_on(&self) -> bool {
        !self.shared.closes.is_cancelled()
    }
}
