//! Folding segments into a new base, and removing what nobody needs any more.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use storage_core::engine::spawn_thread;

use crate::{
    error::{Error, Result},
    format::{Base, Head, MAX_FOLDS, base_name, parse_name},
    home::{Body, Listed, Put},
    remote::Known,
    shared::{Content, Shared},
};

/// How many times as much as is worth folding a closing store leaves to the next one.
const OVERDUE: u64 = 2;
/// Segments are worth a new base from this share of the base on.
const SHARE: u64 = 4;

impl Shared {
    /// What follows a publication and nobody waits for.
    pub(crate) async fn tidy(self: &Arc<Self>, content: &Content) {
        self.write_back().await;
        let Some((head, _)) = &content.known else { return };
        self.remote.telemetry.segments.set(head.on_top().0 as f64);
        if self.is_due(head, 1)
            && let Some(folding) = self.try_folding()
        {
            let folding = Arc::new(folding);
            spawn_thread("storage-managed-fold", async move {
                let shared = &folding.0;
                let work = async {
                    shared.fold(&folding).await?;
                    shared.clean().await
                };
                // A base that is not named by the head yet is nobody's.
                let done = tokio::select! {
                    done = work => done,
                    () = shared.closes.notified() => Ok(()),
                };
                if let Err(error) = done.or_else(unless_closed) {
                    tracing::warn!(%error, "folding or cleaning up failed; it will be tried again");
                }
            });
        }
    }

    /// Makes the newest generation a base. True where one was made.
    pub(crate) async fn fold(self: &Arc<Self>, folding: &Arc<Folding>) -> Result<bool> {
        let staged = self.paths.staged("fold")?;
        let copied = self.copy_base(staged.to_path_buf(), Arc::clone(folding)).await?;
        let Some((base, body)) = copied else { return Ok(false) };
        let name = base_name(base.generation, base.commit);
        if !self.remote.put(&name, &body).await? {
            return Err(Error::corrupt(
                &name,
                "something else is there than the generation that it is named by",
            ));
        }
        drop(staged);
        let mut lock = self.write_lock().await?;
        self.name_base(&mut lock.content, base).await
    }

    /// Copies the newest generation, from a snapshot: whoever writes meanwhile does not wait.
    async fn copy_base(self: &Arc<Self>, to: PathBuf, folding: Arc<Folding>) -> Result<Option<(Base, Body)>> {
        let (base, snapshot) = {
            let lock = self.write_lock().await?;
            let Some((head, _)) = &lock.content.known else { return Ok(None) };
            if head.base.generation == head.generation {
                return Ok(None);
            }
            let base = Base {
                generation: head.generation,
                commit: head.commit,
                page_count: head.page_count,
                checksum: head.checksum,
            };
            (base, self.on_local(|local| local.pin(local.sums())).await?)
        };
        // Whoever closes waits until the files of the snapshot are not in use any more.
        let copied = tokio::task::spawn_blocking(move || {
            let body = snapshot.copy_to(&to, || !folding.0.closing.load(Ordering::Relaxed));
            drop(snapshot);
            drop(folding);
            body
        });
        let body = copied.await.map_err(|_| Error::Panicked)??;
        Ok(Some((base, body)))
    }

    /// Lets the head name the base, unless it went on without it.
    async fn name_base(&self, content: &mut Content, base: Base) -> Result<bool> {
        let Some(known) = &content.known else { return Ok(false) };
        let at_base = known.0.commit_at(base.generation).map(|(commit, _)| commit);
        let ours = known.0.generation == base.generation || at_base == Some(base.commit);
        let (Some(held), true, true) = (self.lease.held(), ours, known.0.base.generation < base.generation)
        else {
            return Ok(false);
        };
        let mut next = known.0.clone();
        next.folds.retain(|(generation, _)| *generation > content.cleaned);
        next.folds.push((base.generation, storage_core::epoch_millis(self.options.clock.now())));
        thin(&mut next.folds);
        next.base = base;
        match self.remote.move_head(Some(known), &next, &held).await {
            Ok(Put::Done(version)) => {
                self.remote.telemetry.folds.increment(1);
                content.known = Some((next, version));
                Ok(true)
            }
            // A writer's next head would be refused with an old version: read which one stands.
            Ok(Put::Refused) | Err(_) => {
                let found = self.remote.head().await?;
                let taken = found.as_ref().is_some_and(|(head, _)| head.base == next.base);
                if let Some(found) = found.filter(|(head, _)| head.commit == next.commit) {
                    content.known = Some(found);
                }
                Ok(taken)
            }
        }
    }

    /// The generation up to which objects have been superseded long enough, by the home's clock: by a base that is so old. At
    /// most the head's base's.
    fn superseded(&self, head: &Head, bases: &[Listed]) -> u64 {
        let now = storage_core::epoch_millis(self.options.clock.now());
        let age = |generation: u64, at: u64| {
            let base = bases
                .iter()
                .find(|base| parse_name(&base.name).is_some_and(|(_, at, _)| at == generation))?;
            Some(base.age.unwrap_or(Duration::from_millis(now.saturating_sub(at))))
        };
        let old = head.folds.iter().filter(|(generation, at)| {
            *generation <= head.base.generation
                && age(*generation, *at).is_some_and(|age| age >= self.options.grace)
        });
        old.map(|(generation, _)| *generation).max().unwrap_or(0)
    }

    /// Removes what was superseded long enough ago.
    pub(crate) async fn clean(self: &Arc<Self>) -> Result<()> {
        let (known, cleaned): (Option<Known>, u64) = {
            let content = self.content.lock().await;
            (content.known.clone(), content.cleaned)
        };
        let Some((known, _)) = known else { return Ok(()) };
        if !known.folds.iter().any(|(generation, _)| *generation > cleaned) {
            return Ok(());
        }
        // By the head that is there now: the home may have been brought back to an earlier state since.
        let Some((head, _)) = self.remote.head().await? else { return Ok(()) };
        if head.incarnation != known.incarnation || head.generation < known.generation {
            return Ok(());
        }
        let bases = self.remote.list("base/").await?;
        let until = self.superseded(&head, &bases);
        if until <= cleaned {
            return Ok(());
        }
        let base = base_name(head.base.generation, head.base.commit);
        let Some(base) = bases.iter().find(|object| object.name == base) else {
            return Err(Error::corrupt(&base, "the head names it and it is gone"));
        };
        let segments = self.remote.list("seg/").await?;
        for object in bases.iter().chain(&segments).filter(|object| is_superseded(object, until, base)) {
            self.remote.run(|| self.remote.home.delete(&object.name)).await?;
            self.remote.telemetry.removed.increment(1);
        }
        self.content.lock().await.cleaned = until;
        Ok(())
    }

    /// Whether there is so many times as much to fold as it takes.
    fn is_due(&self, head: &Head, times: u64) -> bool {
        let (segments, bytes) = head.on_top();
        let share = (head.base_bytes() / SHARE).max(self.options.fold_bytes);
        let most = (self.options.fold_segments as u64).saturating_mul(times);
        segments as u64 >= most || bytes > share.saturating_mul(times)
    }

    /// Ends folding in the background, which the next process does, unless that was put off for long: of processes that live
    /// for a second each is the last one.
    pub(crate) async fn give_up_folding(&self) {
        let overdue = {
            let content = self.content.lock().await;
            content.known.as_ref().is_some_and(|(head, _)| self.is_due(head, OVERDUE))
        };
        if !overdue {
            self.closing.store(true, Ordering::Relaxed);
            self.closes.notify_one();
        }
    }

    /// The right to fold, which one at a time has: two would write to one file.
    fn try_folding(self: &Arc<Self>) -> Option<Folding> {
        let is_free = !self.folding.swap(true, Ordering::AcqRel);
        is_free.then(|| Folding(Arc::clone(self)))
    }

    /// Waits for folding that goes on, and for the right to fold.
    pub(crate) async fn folding(self: &Arc<Self>) -> Folding {
        loop {
            if let Some(folding) = self.try_folding() {
                return folding;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// That the store closes meanwhile is no failure.
fn unless_closed(error: Error) -> Result<()> {
    if matches!(error, Error::Closed) { Ok(()) } else { Err(error) }
}

/// Folding that goes on, until it is dropped.
pub(crate) struct Folding(Arc<Shared>);

impl Drop for Folding {
    fn drop(&mut self) {
        self.0.folding.store(false, Ordering::Release);
    }
}

/// Drops the fold between whose neighbours the least time lies, where there are too many: what it superseded goes with the
/// next. Never the oldest, so that it grows old enough however often it is folded.
fn thin(folds: &mut Vec<(u64, u64)>) {
    if folds.len() <= MAX_FOLDS {
        return;
    }
    let gaps = folds.windows(3).map(|around| match around {
        [(_, before), _, (_, after)] => after.saturating_sub(*before),
        _ => u64::MAX,
    });
    if let Some((index, _)) = gaps.enumerate().min_by_key(|(_, gap)| *gap) {
        folds.remove(index + 1);
    }
}

/// Whether an object is of a generation up to `until`, which is the base's or an earlier one, and nothing needs it: what is
/// younger than the base is of somebody who knows more.
fn is_superseded(object: &Listed, until: u64, base: &Listed) -> bool {
    let is_older = match (object.age, base.age) {
        (Some(age), Some(base)) => age >= base,
        _ => true,
    };
    let is_behind = match parse_name(&object.name) {
        Some(("seg", generation, _)) => generation <= until,
        Some((_, generation, _)) => generation < until,
        None => false,
    };
    is_older && is_behind
}
