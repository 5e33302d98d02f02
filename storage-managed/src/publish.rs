//! Publishing: the segment, then the head. That the head moves is the commit.

use std::{sync::Arc, time::Instant};

use storage_core::{Error as CoreError, ErrorKind};
use tempfile::TempPath;

use crate::{
    cache::Last,
    error::{Error, Result},
    format::{Base, Head, Id, SegmentHeader, base_name, segment_name},
    freshen::REREADS,
    home::{Body, Put},
    judge::{Made, Standing},
    local::{Change, Local},
    options::is_passing,
    reconcile::is_later,
    remote::{Known, Remote},
    shared::{Content, Shared},
};

/// A batch that is committed here, as it travels.
#[derive(Debug)]
struct Prepared {
    made: Made,
    /// Of the home that its head makes, where there is none yet.
    incarnation: Id,
    page_size: u32,
    object: String,
    body: Body,
    change: Change,
    /// What its segment says, and the pages that it changes; `None` for the first.
    segment: Option<(SegmentHeader, Vec<u32>)>,
    /// Where the body is that is too large for memory, for as long as it is needed.
    _staged: TempPath,
}

impl Prepared {
    /// Prepares what was committed behind what is published; `None` where nothing was.
    fn new(local: &mut Local, commit: Id) -> Result<Option<Self>> {
        local.discard_failed()?;
        let Some(change) = local.change()? else {
            local.allow_checkpoints();
            return Ok(None);
        };
        let published = *local.published();
        let incarnation = match local.state.incarnation {
            Some(incarnation) => incarnation,
            None => Id::random()?,
        };
        let generation = published.generation + 1;
        let (object, body, staged, segment) = match published.commit {
            Some(parent) => {
                let staged = local.paths.staged("segment")?;
                let (numbers, header) = local.segment(&change, incarnation, commit, parent);
                let body = local.encode(&change, header.clone(), &numbers, &staged)?;
                (segment_name(generation, commit), body, staged, Some((header, numbers)))
            }
            None => {
                let staged = local.paths.staged("base")?;
                let body = local.pin(&change.after)?.open()?.copy_to(&staged, || true)?;
                (base_name(generation, commit), body, staged, None)
            }
        };
        let made = Made {
            commit,
            parent: published.commit,
            incarnation: local.state.incarnation,
            generation,
            page_count: change.after.page_count(),
            checksum: change.after.total(),
        };
        Ok(Some(Self {
            made,
            incarnation,
            page_size: published.page_size,
            object,
            body,
            change,
            segment,
            _staged: staged,
        }))
    }

    /// The head that names it, on top of the one that is there.
    fn next(&self, known: Option<&Head>) -> Head {
        let Made { commit, parent, generation, page_count, checksum, .. } = self.made;
        let Some(known) = known else {
            let base = Base { generation, commit, page_count, checksum };
            return Head::of_base(self.incarnation, self.page_size, base, parent);
        };
        let mut head = known.clone();
        (head.generation, head.commit, head.parent) = (generation, commit, parent);
        (head.page_count, head.checksum) = (page_count, checksum);
        let grows = page_count >= known.page_count;
        // A body in memory is a segment that is read as a whole.
        let told = self.segment.as_ref().filter(|_| grows && matches!(self.body, Body::Bytes(_)));
        head.push(commit, self.body.length(), told.map(|(_, numbers)| numbers.clone()));
        head
    }

    /// Puts what the head will name. What is there already has to be the same: its own, of which the answer was lost.
    async fn put(&self, remote: &Remote) -> Result<()> {
        let unpublished = |source| Error::Unpublished { commit: self.made.commit.to_string(), source };
        if remote.put(&self.object, &self.body).await.map_err(unpublished)? {
            return Ok(());
        }
        // The same pages, written by another release, may be other bytes.
        let found = match self.made.parent {
            Some(_) => remote.segment(&self.object).await?,
            None => None,
        };
        match found {
            Some(segment) if self.made.is_told_by(&segment.header) => Ok(()),
            _ => Err(Error::corrupt(&self.object, "something else is there than what was to be published")),
        }
    }
}

/// What became of a batch.
enum Sent {
    /// It is in the home, of which this is the head.
    Published(Known),
    /// Somebody else has published in its place; `is_lost` where the head says so.
    Overtaken { known: Option<Known>, is_lost: bool },
}

impl Sent {
    fn new(standing: Standing, known: Option<Known>) -> Self {
        match (standing, known) {
            (Standing::Published, Some(known)) => Self::Published(known),
            (standing, known) => Self::Overtaken { known, is_lost: standing == Standing::Moved },
        }
    }
}

impl Shared {
    /// Publishes what was committed here under `commit`, if anything was.
    pub(crate) async fn publish(self: &Arc<Self>, content: &mut Content, commit: Id) -> Result<()> {
        let began = Instant::now();
        let unpublished =
            |error: Error| Error::Unpublished { commit: commit.to_string(), source: error.into() };
        let prepared = self.on_local(move |local| Prepared::new(local, commit)).await;
        let Some(prepared) = prepared.map_err(unpublished)? else {
            content.unsettled = None;
            self.set_dirty(false);
            return Ok(());
        };
        self.set_dirty(true);
        let (head, version) = match self.send(content, &prepared).await? {
            Sent::Published(known) => known,
            // Until it has given way, the batch is here, and in doubt where the home does not tell.
            Sent::Overtaken { known, is_lost } => {
                return match self.give_way(content, known, is_lost).await {
                    Err(Error::Home(source)) => {
                        Err(Error::Unpublished { commit: commit.to_string(), source })
                    }
                    given_way => Err(given_way?),
                };
            }
        };
        let (incarnation, change) = (head.incarnation, prepared.change);
        if let Some((header, numbers)) = prepared.segment {
            content.remember(header, numbers);
        }
        self.on_local(move |local| {
            local.settle(&change, incarnation, commit);
            Ok(())
        })
        .await?;
        let telemetry = &self.remote.telemetry;
        telemetry.publications.increment(1);
        telemetry.publication_seconds.record(began.elapsed());
        let newest = head.commit == commit && head.generation == prepared.made.generation;
        self.lease.set_fresh(newest && self.lease.is_fresh());
        // A head with more on top is read again, and followed.
        (content.known, content.unsettled) = (newest.then_some((head, version)), None);
        self.set_dirty(false);
        let mut view = self.view();
        view.publications += 1;
        view.fresh_at = newest.then(|| self.now());
        Ok(())
    }

    /// The head that holds the batch now, or that somebody else has made in its place.
    async fn send(self: &Arc<Self>, content: &mut Content, prepared: &Prepared) -> Result<Sent> {
        let made = &prepared.made;
        let unpublished = |source: CoreError| Error::Unpublished { commit: made.commit.to_string(), source };
        let mut known = content.known.clone();
        // After a crash the head may have been read already that holds it.
        match made.standing_in(&self.remote, known.as_ref().map(|(head, _)| head)).await? {
            Standing::Open => {}
            standing => return Ok(Sent::new(standing, known)),
        }
        prepared.put(&self.remote).await?;
        let mut tried = 1;
        loop {
            let next = prepared.next(known.as_ref().map(|(head, _)| head));
            self.take_lease(self.options.lease_wait).await.map_err(|error| unpublished(error.into()))?;
            let Some(held) = self.lease.held() else { continue };
            let (problem, refused) = match self.remote.move_head(known.as_ref(), &next, &held).await {
                Ok(Put::Done(version)) => return Ok(Sent::Published((next, version))),
                Ok(Put::Refused) => {
                    (CoreError::new(ErrorKind::Unavailable, "the home refused the head"), true)
                }
                Err(error) if !is_passing(error.kind()) => return Err(unpublished(error)),
                Err(error) => (error, false),
            };
            match self.find(made).await {
                Ok((Standing::Open, found)) => {
                    if refused && known == found {
                        // The head is as it was, so it must be the lease.
                        self.lease.lost();
                    }
                    known = found;
                    // Also for the next try, which would be refused for an old version again.
                    content.known.clone_from(&known);
                }
                Ok((standing, found)) => return Ok(Sent::new(standing, found)),
                Err(Error::Home(_)) => {}
                Err(error) => return Err(error),
            }
            if tried >= self.remote.retry.attempts {
                return Err(unpublished(problem));
            }
            self.remote.retry.wait(tried).await;
            tried += 1;
        }
    }

    /// The head as it is, and what it means for a commit.
    async fn find(&self, made: &Made) -> Result<(Standing, Option<Known>)> {
        let found = self.remote.head().await?;
        let standing = made.standing_in(&self.remote, found.as_ref().map(|(head, _)| head)).await?;
        Ok((standing, found))
    }

    /// Somebody else has published in the place of what was committed here, of which nobody was told that it is in the home:
    /// it is kept, and what the home holds takes its place. Refused where the home is no later state of what was published here.
    async fn give_way(
        self: &Arc<Self>,
        content: &mut Content,
        known: Option<Known>,
        is_lost: bool,
    ) -> Result<Error> {
        let mut known = match known {
            Some(known) => known,
            None => return Ok(self.diverge(content).await),
        };
        for _ in 0..REREADS {
            let head = known.0.clone();
            if !self.on_local(move |local| Ok(is_later(&head, &local.state))).await? {
                return Ok(self.diverge(content).await);
            }
            match self.apply_whole(&known.0, Local::replace).await? {
                Ok(Some(path)) => {
                    self.lease.set_fresh(false);
                    (content.known, content.unsettled) = (Some(known), None);
                    self.set_dirty(false);
                    return Ok(Error::Overtaken { path, is_lost });
                }
                Ok(None) => return Ok(self.diverge(content).await),
                Err(missing) => known = self.remote.head_instead_of(&known, &missing).await?,
            }
        }
        Err(Error::moving())
    }

    /// Keeps a database that has diverged, and refuses to go on.
    pub(crate) async fn diverge(self: &Arc<Self>, content: &mut Content) -> Error {
        let path = self.on_local(|local| {
            let path = local.keep()?;
            local.state.diverged = Some(path.clone());
            local.state.write(&local.paths, Last::Now)?;
            local.allow_checkpoints();
            Ok(path)
        });
        let path = match path.await {
            Ok(path) => path,
            Err(error) => return error,
        };
        tracing::error!(path = %path.display(), "somebody else has written; the local database is kept");
        (content.diverged, content.unsettled) = (Some(path.clone()), None);
        self.view().diverged = Some(path.clone());
        Error::Diverged { path }
    }
}
