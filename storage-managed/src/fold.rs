//! Making the newest generation a base.

use std::{path::PathBuf, sync::Arc};

use crate::{
    compact::Going,
    error::{Error, Result},
    format::{Base, IndexRef, base_name},
    home::Body,
    open::blocking,
    shared::{Content, Shared},
    system::free,
};

impl Shared {
    /// Makes the newest generation a base. True where one was made.
    pub(crate) async fn fold(self: &Arc<Self>, folding: &Arc<Going>) -> Result<bool> {
        let staged = self.paths.staged("fold")?;
        let copied = self.copy_base(staged.to_path_buf(), Arc::clone(folding)).await?;
        let Some((base, body)) = copied else { return Ok(false) };
        let name = base_name(base.generation, base.commit);
        self.remote.put_new(&name, &body).await?;
        // Not freed, it is no more in the way than before.
        let _ = blocking(move || free(&staged).map_err(Error::io("free", &staged))).await;
        let mut lock = self.write_lock().await?;
        let folded = self.name_base(&mut lock.content, base).await?;
        self.remote.telemetry.folds.increment(u64::from(folded));
        Ok(folded)
    }

    /// Copies the newest generation, from a snapshot: whoever writes meanwhile does not wait.
    async fn copy_base(self: &Arc<Self>, to: PathBuf, folding: Arc<Going>) -> Result<Option<(Base, Body)>> {
        let (base, pinned) = {
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
            let body = pinned.open().and_then(|snapshot| snapshot.copy_to(&to, || folding.goes_on()));
            drop(folding);
            body
        });
        let body = copied.await.map_err(|_| Error::Panicked)??;
        Ok(Some((base, body)))
    }

    /// Lets the head name the base, unless it went on without it.
    async fn name_base(&self, content: &mut Content, base: Base) -> Result<bool> {
        let Some(newest) = &content.known else { return Ok(false) };
        let known = &newest.0;
        let at_base = known.commit_at(base.generation).map(|(commit, _)| commit);
        let index = match self.remote.index(known).await? {
            Ok(index) => index,
            // Who has lost the lease meanwhile knows an old head.
            Err(missing) => return self.remote.head_instead_of(newest, &missing).await.map(|_| false),
        };
        // A merged segment may have taken the place of the base's own commit.
        let is_known =
            known.generation == base.generation || at_base.is_none_or(|commit| commit == base.commit);
        if !is_known || known.base.generation >= base.generation {
            return Ok(false);
        }
        let mut next = known.clone();
        next.index = next
            .index
            .zip(index)
            .map(|(named, index)| IndexRef { bytes: index.bytes_from(base.generation), ..named });
        next.base = base;
        next.forget();
        self.name(content, next).await
    }
}
