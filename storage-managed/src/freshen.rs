//! Following the home: what others have published since is fetched and applied.

use std::sync::Arc;

use futures::{TryStreamExt, pin_mut};

use crate::{
    cache::Published,
    compact::warn_of_checkpoint,
    content::Fetched,
    error::{Error, Result},
    format::{HEAD, Head, Id, Segment, Sums},
    local::{Local, Pages},
    rebuild::{Chain, Link, fetch, links},
    remote::{Known, Moved, Remote},
    shared::{Content, Shared},
    wal::Mark,
};

/// How often a head that names what is gone is read again.
pub(crate) const REREADS: u32 = 5;

impl Shared {
    /// Brings the database up to date unless it was within the freshness interval. Returns its generation.
    pub(crate) async fn ensure_fresh(self: &Arc<Self>) -> Result<u64> {
        if self.is_fresh() {
            return Ok(self.view().generation);
        }
        let mut content = Arc::clone(&self.content).lock_owned().await;
        if let Some(path) = &content.diverged {
            return Err(Error::Diverged { path: path.clone() });
        }
        // Another caller may have done it meanwhile.
        if !self.is_fresh() && content.unsettled.is_none() {
            let freshened = self.freshen(&mut content).await;
            self.noted(freshened)?;
        }
        Ok(self.view().generation)
    }

    pub(crate) fn is_fresh(&self) -> bool {
        let fresh_at = self.view().fresh_at;
        self.lease.is_fresh()
            || fresh_at.is_some_and(|at| self.options.steady.since(at) < self.options.freshness)
    }

    /// Asks the home for the newest generation.
    pub(crate) async fn freshen(self: &Arc<Self>, content: &mut Content) -> Result<()> {
        let asked = self.now();
        let moved = match &content.known {
            Some((_, version)) => self.remote.head_if_changed(version).await?,
            None => self.remote.head().await?.map_or(Moved::Gone, |known| Moved::To(Box::new(known))),
        };
        match moved {
            Moved::No => {}
            Moved::To(known) => self.follow(content, *known).await?,
            Moved::Gone => self.check_gone().await?,
        }
        self.view().fresh_at = Some(asked);
        self.remote
            .telemetry
            .fresh
            .set(storage_core::epoch_millis(self.options.clock.now()) as f64 / 1_000.0);
        Ok(())
    }

    /// A home without a head is new, or not the one it was.
    pub(crate) async fn check_gone(self: &Arc<Self>) -> Result<()> {
        match self.on_local(|local| Ok(local.state.incarnation)).await? {
            Some(known) => Err(Error::Recreated { known: known.to_string(), found: None }),
            None => Ok(()),
        }
    }

    /// Brings the database to a head that was found.
    pub(crate) async fn follow(self: &Arc<Self>, content: &mut Content, mut known: Known) -> Result<()> {
        let (incarnation, published) =
            self.on_local(|local| Ok((local.state.incarnation, *local.published()))).await?;
        for _ in 0..REREADS {
            check_follows(&known.0, incarnation, &published)?;
            if known.0.generation == published.generation {
                content.known = Some(known);
                return Ok(());
            }
            let Err(missing) = self.fetch_and_apply(content, &known.0, &published).await? else {
                content.known = Some(known);
                return Ok(());
            };
            known = self.remote.head_instead_of(&known, &missing).await?;
        }
        Err(Error::moving())
    }

    async fn fetch_and_apply(
        self: &Arc<Self>,
        content: &mut Content,
        head: &Head,
        published: &Published,
    ) -> Result<Fetched<()>> {
        let behind = match behind(&self.remote, head, published).await? {
            Ok(behind) => behind,
            Err(missing) => return Ok(Err(missing)),
        };
        let applies = match behind {
            // Nobody was told that what is here would go: a copy of it is kept.
            Behind::Another => Local::replace_kept,
            _ => Local::apply,
        };
        if let Behind::Links(links, is_certain) = behind {
            match self.apply_links(head, published, links).await {
                Ok(Ok(applied)) => return self.applied(content, head, applied).await,
                Ok(Err(missing)) => return Ok(Err(missing)),
                // What is here may be of another line than what was merged.
                Err(Error::Corrupt { .. }) if !is_certain => {}
                Err(error) => return Err(error),
            }
        }
        match self.apply_whole(head, applies).await? {
            Ok(applied) => self.applied(content, head, applied).await,
            Err(missing) => Ok(Err(missing)),
        }
    }

    /// Applies the segments that lead on from what is here. False where somebody else has written to the cache.
    async fn apply_links(
        self: &Arc<Self>,
        head: &Head,
        published: &Published,
        links: Vec<Link>,
    ) -> Result<Fetched<bool>> {
        let to = Published::of(head, Mark::default());
        let (incarnation, from) = (head.incarnation, published.generation);
        let mut segments: Vec<Segment> = Vec::with_capacity(links.len());
        {
            let fetched = fetch(&self.remote, links);
            pin_mut!(fetched);
            let mut state = (from, published.commit.unwrap_or_default(), published.checksum);
            while let Some(segment) = fetched.try_next().await? {
                let segment = match segment {
                    Ok(segment) => segment,
                    Err(missing) => return Ok(Err(missing)),
                };
                segment.follows(incarnation, state)?;
                state = segment.state();
                segments.push(segment);
            }
        }
        let applied = self.on_local(move |local| {
            // A caller that went away may have left the same work behind.
            if local.published().generation != from {
                return Ok(true);
            }
            let (pages, sums) = local.merge(&segments)?;
            if sums.total() != to.checksum {
                return Err(Error::corrupt(HEAD, "its segments do not give what it says"));
            }
            local.apply(&pages, sums, incarnation, to)
        });
        applied.await.map(Ok)
    }

    /// Fetches what a head's base and segments give, and lets `apply` bring the database to it.
    pub(crate) async fn apply_whole<T: Send + 'static>(
        self: &Arc<Self>,
        head: &Head,
        apply: fn(&mut Local, &Pages, Sums, Id, Published) -> Result<T>,
    ) -> Result<Fetched<T>> {
        let to = Published::of(head, Mark::default());
        let (staged, incarnation) = (self.paths.staged("whole")?, head.incarnation);
        let (_, file, sums) = match Chain::build_newest(&self.remote, head, &staged).await? {
            Ok(built) => built,
            Err(missing) => return Ok(Err(missing)),
        };
        let applied =
            self.on_local(move |local| apply(local, &Pages::File(file), sums, incarnation, to)).await?;
        drop(staged);
        Ok(Ok(applied))
    }

    /// What follows an attempt to apply a generation.
    async fn applied(
        self: &Arc<Self>,
        content: &mut Content,
        head: &Head,
        applied: bool,
    ) -> Result<Fetched<()>> {
        if !applied {
            return self.replace_foreign(content, head).await;
        }
        let bytes = self.options.checkpoint_bytes;
        warn_of_checkpoint(&self.on_local(move |local| local.checkpoint(bytes)).await);
        Ok(Ok(()))
    }

    /// Somebody else has written here. That is kept, and refused where a batch was ever begun here; where there was none,
    /// what is in the home takes its place.
    pub(crate) async fn replace_foreign(
        self: &Arc<Self>,
        content: &mut Content,
        head: &Head,
    ) -> Result<Fetched<()>> {
        if self.on_local(|local| Ok(local.state.wrote)).await? {
            return Err(self.diverge(content).await);
        }
        match self.apply_whole(head, Local::replace).await? {
            Ok(Some(_)) => Ok(Ok(())),
            Ok(None) => Err(self.diverge(content).await),
            Err(missing) => Ok(Err(missing)),
        }
    }

    /// Gives up what has diverged and was kept, and takes what the home holds. Open connections go on.
    pub(crate) async fn adopt(self: &Arc<Self>) -> Result<u64> {
        let mut content = Arc::clone(&self.content).lock_owned().await;
        if content.diverged.is_none() {
            return Ok(self.view().generation);
        }
        let known = self.remote.head().await?;
        let Some((head, version)) = known else {
            self.check_gone().await?;
            return Err(Error::Unsupported("the home is empty: open the store anew".to_owned()));
        };
        self.on_local(|local| local.accept()).await?;
        match self.apply_whole(&head, Local::apply).await? {
            Ok(true) => {}
            Ok(false) => return Err(self.diverge(&mut content).await),
            Err(missing) => return Err(Error::corrupt(&missing, "the head names it and it is gone")),
        }
        (content.known, content.diverged, content.unsettled) = (Some((head, version)), None, None);
        self.set_dirty(false);
        let mut view = self.view();
        (view.diverged, view.fresh_at) = (None, Some(self.now()));
        Ok(view.generation)
    }
}

/// How a head is reached from what is here.
enum Behind {
    /// By these segments; whether it is certain that they lead on from it.
    Links(Vec<Link>, bool),
    /// By all that there is.
    Whole,
    /// So, too: the home has gone on without what is here, as after a repair, or from an earlier state that was put back.
    Another,
}

async fn behind(remote: &Remote, head: &Head, published: &Published) -> Result<Fetched<Behind>> {
    let (Some(here), from) = (published.commit, published.generation) else { return Ok(Ok(Behind::Whole)) };
    // The base's own commit may have left the list of the newest.
    let known = match from == head.base.generation {
        true => Some(head.base.commit),
        false => head.commit_at(from).map(|(commit, _)| commit),
    };
    if head.has_lost(from) || known.is_some_and(|known| known != here) {
        return Ok(Ok(Behind::Another));
    }
    if head.page_size != published.page_size {
        return Ok(Ok(Behind::Whole));
    }
    let index = match from < head.singles_from() {
        true => match remote.index(head).await? {
            Ok(index) => index,
            Err(missing) => return Ok(Err(missing)),
        },
        false => None,
    };
    let links = links(head, index.as_deref(), from);
    let leads_on = links.first().is_some_and(|link| link.first <= from + 1);
    Ok(Ok(if leads_on { Behind::Links(links, known.is_some()) } else { Behind::Whole }))
}

/// Refuses a head that is of another database, or of an earlier state of this one.
pub(crate) fn check_follows(head: &Head, incarnation: Option<Id>, published: &Published) -> Result<()> {
    if let Some(known) = incarnation.filter(|known| *known != head.incarnation) {
        let found = Some(head.incarnation.to_string());
        return Err(Error::Recreated { known: known.to_string(), found });
    }
    let other = head.generation == published.generation && Some(head.commit) != published.commit;
    if head.generation < published.generation || other {
        return Err(Error::WentBack { known: published.generation, found: head.generation });
    }
    Ok(())
}
