//! Folding segments into a new base, and removing what nobody needs any more.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use storage_core::engine::spawn_thread;

use crate::{
    error::{Error, Result},
    format::{Base, Head, MAX_FOLDS, base_name},
    home::{Body, Listed, Put},
    remote::Known,
    shared::{Content, Shared},
};

/// Segments are worth a new base from this share of the base on.
const SHARE: u64 = 4;

impl Shared {
    /// What follows a publication and nobody waits for.
    pub(crate) async fn tidy(self: &Arc<Self>, content: &Content) {
        self.write_back().await;
        let Some((head, _)) = &content.known else { return };
        let (segments, bytes) = head.on_top();
        let large = bytes > (head.base_bytes() / SHARE).max(self.options.fold_bytes);
        let fold = segments >= self.options.fold_segments || large;
        if fold && !self.folding.swap(true, Ordering::AcqRel) {
            let folding = Folding(Arc::clone(self));
            spawn_thread("storage-managed-fold", async move {
                let shared = &folding.0;
                let done = match shared.fold().await {
                    Ok(_) => shared.clean().await,
                    Err(error) => Err(error),
                };
                if let Err(error) = done {
                    tracing::warn!(%error, "folding or cleaning up failed; it will be tried again");
                }
            });
        }
    }

    /// Makes the newest generation a base. True where one was made.
    pub(crate) async fn fold(self: &Arc<Self>) -> Result<bool> {
        let staged = self.paths.staged("fold")?;
        let Some((base, body)) = self.copy_base(staged.to_path_buf()).await? else { return Ok(false) };
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

    /// Copies the newest generation while nobody writes.
    async fn copy_base(self: &Arc<Self>, to: PathBuf) -> Result<Option<(Base, Body)>> {
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
        let body = self.on_local(move |local| local.copy_to(&to, local.sums())).await?;
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
        next.folds.push((base.generation, storage_core::epoch_millis(self.options.clock.now())));
        if next.folds.len() > MAX_FOLDS {
            // What it superseded then goes with the next one.
            next.folds.remove(0);
        }
        next.base = base;
        match self.remote.move_head(Some(known), &next, &held).await {
            Ok(Put::Done(version)) => {
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

    /// The generation up to which objects have been superseded long enough: at most the base's.
    fn superseded(&self, head: &Head) -> u64 {
        let now = storage_core::epoch_millis(self.options.clock.now());
        let grace = u64::try_from(self.options.grace.as_millis()).unwrap_or(u64::MAX);
        let old = head.folds.iter().filter(|(_, at)| at.saturating_add(grace) <= now);
        let bases = old.map(|(generation, _)| *generation);
        bases.filter(|generation| *generation <= head.base.generation).max().unwrap_or(0)
    }

    /// Removes what was superseded long enough ago.
    pub(crate) async fn clean(self: &Arc<Self>) -> Result<()> {
        let (known, cleaned): (Option<Known>, u64) = {
            let content = self.content.lock().await;
            (content.known.clone(), content.cleaned)
        };
        let Some((known, _)) = known else { return Ok(()) };
        if self.superseded(&known) <= cleaned {
            return Ok(());
        }
        // By the head that is there now: the home may have been brought back to an earlier state since.
        let Some((head, _)) = self.remote.head().await? else { return Ok(()) };
        if head.incarnation != known.incarnation || head.generation < known.generation {
            return Ok(());
        }
        let until = self.superseded(&head);
        let bases = self.remote.list("base/").await?;
        let base = base_name(head.base.generation, head.base.commit);
        let Some(base) = bases.iter().find(|object| object.name == base) else {
            return Err(Error::corrupt(&base, "the head names it and it is gone"));
        };
        let segments = self.remote.list("seg/").await?;
        for object in bases.iter().chain(&segments).filter(|object| is_superseded(object, until, base)) {
            self.remote.retry.run(|| self.remote.home.delete(&object.name)).await?;
        }
        self.content.lock().await.cleaned = until;
        Ok(())
    }

    /// Waits for folding that goes on in the background.
    pub(crate) async fn folded(&self) {
        while self.folding.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Folding that goes on, until it is dropped.
struct Folding(Arc<Shared>);

impl Drop for Folding {
    fn drop(&mut self) {
        self.0.folding.store(false, Ordering::Release);
    }
}

/// Whether an object is of a generation up to `until`, which is the base's or an earlier one, and nothing needs it: what is
/// younger than the base is of somebody who knows more.
fn is_superseded(object: &Listed, until: u64, base: &Listed) -> bool {
    let is_older = match (object.age, base.age) {
        (Some(age), Some(base)) => age >= base,
        _ => true,
    };
    let of = |prefix| generation_of(&object.name, prefix);
    is_older && (of("seg/").is_some_and(|at| at <= until) || of("base/").is_some_and(|at| at < until))
}

fn generation_of(name: &str, prefix: &str) -> Option<u64> {
    let (generation, _commit) = name.strip_prefix(prefix)?.split_once('-')?;
    u64::from_str_radix(generation, 16).ok()
}
