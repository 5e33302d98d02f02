//! Publishing: the segment, then the head. That the head moves is the commit.

use std::sync::Arc;

use bytes::Bytes;
use storage_core::{Error as CoreError, ErrorKind};
use tempfile::TempPath;

use crate::{
    error::{Error, Result},
    format::{Base, FORMAT, Head, Hex, Id, base_name, segment_name},
    home::{Body, Put},
    local::{Change, Local},
    options::is_passing,
    recover,
    remote::Known,
    shared::{Content, Shared},
};

/// A batch that is committed here, as it travels.
#[derive(Debug)]
struct Prepared {
    commit: Id,
    parent: Option<Id>,
    incarnation: Id,
    generation: u64,
    page_size: u32,
    page_count: u32,
    checksum: Hex,
    object: String,
    body: Body,
    change: Change,
    now: u64,
    /// Where the body is, for as long as it is needed.
    _staged: Option<TempPath>,
}

/// What a head that was found means for a batch.
enum Judged {
    /// It is in the home.
    Published(Known),
    /// It can still be published.
    Open(Option<Known>),
    /// Somebody else was there.
    Moved,
}

impl Prepared {
    /// Prepares what was committed behind what is published; `None` where nothing was.
    fn new(local: &mut Local, commit: Id, now: u64) -> Result<Option<Self>> {
        local.discard_failed()?;
        let Some(change) = local.change()? else {
            local.let_go();
            return Ok(None);
        };
        let published = *local.published();
        let incarnation = local.state.incarnation.unwrap_or_else(Id::random);
        let generation = published.generation + 1;
        let (object, body, staged) = match published.commit {
            Some(parent) => {
                let segment = local.segment(&change, incarnation, commit, parent)?;
                (segment_name(generation, commit), Body::Bytes(Bytes::from(segment)), None)
            }
            None => {
                let staged = local.paths.staged("base")?;
                let body = local.copy_to(&staged, &change.after)?;
                (base_name(generation, commit), body, Some(staged))
            }
        };
        Ok(Some(Self {
            commit,
            parent: published.commit,
            incarnation,
            generation,
            page_size: published.page_size,
            page_count: change.after.page_count(),
            checksum: change.after.total(),
            object,
            body,
            change,
            now,
            _staged: staged,
        }))
    }

    /// The head that names it, on top of the one that is there.
    fn next(&self, known: Option<&Head>) -> Head {
        let base = Base {
            generation: self.generation,
            commit: self.commit,
            page_count: self.page_count,
            checksum: self.checksum,
        };
        let mut head = known.cloned().unwrap_or_else(|| Head {
            format: FORMAT,
            incarnation: self.incarnation,
            generation: 0,
            commit: self.commit,
            parent: None,
            page_size: self.page_size,
            page_count: 0,
            checksum: Hex(0),
            base,
            commits: Vec::new(),
            folds: vec![(self.generation, self.now)],
        });
        head.generation = self.generation;
        head.commit = self.commit;
        head.parent = self.parent;
        head.page_count = self.page_count;
        head.checksum = self.checksum;
        let bytes = match &self.body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::File { .. } => 0,
        };
        head.push(self.commit, bytes);
        head
    }

    fn judge(&self, found: Option<Known>) -> Judged {
        match found {
            None if self.parent.is_none() => Judged::Open(None),
            None => Judged::Moved,
            // What is in the home under this id has to be what is here.
            Some(known) if known.0.commit == self.commit && known.0.checksum != self.checksum => {
                Judged::Moved
            }
            Some(known) if known.0.generation_of(self.commit).is_some() => Judged::Published(known),
            Some(known) if Some(known.0.commit) == self.parent => Judged::Open(Some(known)),
            Some(_) => Judged::Moved,
        }
    }
}

impl Shared {
    /// Publishes what was committed here under `commit`, if anything was.
    pub(crate) async fn publish(self: &Arc<Self>, content: &mut Content, commit: Id) -> Result<()> {
        let now = storage_core::epoch_millis(self.options.clock.now());
        let unpublished =
            |error: Error| Error::Unpublished { commit: commit.to_string(), source: error.into() };
        let prepared = self.on_local(move |local| Prepared::new(local, commit, now)).await;
        let Some(prepared) = prepared.map_err(unpublished)? else {
            content.unsettled = None;
            return Ok(());
        };
        self.view().dirty = true;
        let (head, version) = match self.send(content, &prepared).await? {
            Some(known) => known,
            None => return Err(self.diverge(content).await),
        };
        let (incarnation, change) = (head.incarnation, prepared.change);
        self.on_local(move |local| {
            local.settle(&change, incarnation, commit);
            Ok(())
        })
        .await?;
        let newest = head.commit == commit;
        self.lease.set_fresh(newest && self.lease.is_fresh());
        (content.known, content.unsettled) = (Some((head, version)), None);
        let mut view = self.view();
        view.dirty = false;
        view.publications += 1;
        view.fresh_at = newest.then(std::time::Instant::now);
        Ok(())
    }

    /// The head that holds the batch now; `None` where somebody else's stands in its place.
    async fn send(self: &Arc<Self>, content: &Content, prepared: &Prepared) -> Result<Option<Known>> {
        let unpublished =
            |source: CoreError| Error::Unpublished { commit: prepared.commit.to_string(), source };
        // After a crash the head may have been read already that holds it.
        let mut known = match prepared.judge(content.known.clone()) {
            Judged::Published(known) => return Ok(Some(known)),
            Judged::Moved => return Ok(None),
            Judged::Open(known) => known,
        };
        self.remote.put(&prepared.object, &prepared.body).await.map_err(unpublished)?;
        let mut tried = 1;
        loop {
            let next = prepared.next(known.as_ref().map(|(head, _)| head));
            self.hold().await.map_err(|error| unpublished(error.into()))?;
            let Some(held) = self.lease.held() else { continue };
            let (problem, refused) = match self.remote.move_head(known.as_ref(), &next, &held).await {
                Ok(Put::Done(version)) => return Ok(Some((next, version))),
                Ok(Put::Refused) => {
                    (CoreError::new(ErrorKind::Unavailable, "the home refused the head"), true)
                }
                Err(error) if !is_passing(error.kind()) => return Err(unpublished(error)),
                Err(error) => (error, false),
            };
            match self.remote.head().await.map(|found| prepared.judge(found)) {
                Ok(Judged::Published(found)) => return Ok(Some(found)),
                Ok(Judged::Moved) => return Ok(None),
                Ok(Judged::Open(found)) => {
                    if refused && known == found {
                        // The head is as it was, so it must be the lease.
                        self.lease.lost();
                    }
                    known = found;
                }
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

    /// Keeps a database that has diverged, and refuses to go on.
    pub(crate) async fn diverge(self: &Arc<Self>, content: &mut Content) -> Error {
        let path = self.on_local(|local| {
            let path = recover::keep(&local.paths, &mut local.files.database, Some(&mut local.files.log))?;
            local.state.diverged = Some(path.clone());
            local.state.write(&local.paths)?;
            local.let_go();
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
