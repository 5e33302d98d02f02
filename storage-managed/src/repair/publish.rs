//! Publishing what is sound, above all that was there.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use storage_core::{Error as CoreError, ErrorKind, epoch_millis};

use super::{Chosen, Repair, Stored};
use crate::{
    error::{Error, Result},
    format::{Base, HEAD, Head, Id, base_name},
    home::{Body, Held, Object, Put},
    lease::Lease,
    options::is_passing,
    proofs::Proofs,
    spawned::while_awaited,
};

/// How long somebody else's lease is waited for: who holds it is alive, and writes.
const LEASE_WAIT: Duration = Duration::from_secs(1);
/// So many of the newest commits a head names.
const NAMED_COMMITS: usize = 63;

impl Repair {
    /// Publishes what is sound as a new generation above all that was seen, with a base of its own. Nothing is removed: what
    /// is damaged goes when it is cleaned up after, and a damaged head is copied to `damaged/head-<time>` first. Readers and
    /// writers follow; a batch that was not in the home is then [`Error::Overtaken`], and kept. Where neither home nor cache
    /// says which database it was, it is another one from then on, and caches of it answer [`Error::Recreated`].
    /// Returns the generation.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where there is nothing to repair, nothing sound, or the home has changed meanwhile;
    /// [`Error::LeaseTaken`] where somebody writes; [`Error::Home`].
    pub async fn publish(self) -> Result<u64> {
        while_awaited(self.publish_chosen()).await
    }

    async fn publish_chosen(mut self) -> Result<u64> {
        let Some(chosen) = self.chosen.take() else {
            let why =
                if self.damage.is_empty() { "there is nothing to repair" } else { "nothing sound was found" };
            return Err(Error::Unsupported(why.to_owned()));
        };
        let lease = Lease::new(self.options.steady.clone(), Proofs::read(&self.paths, &self.lock));
        let home = Arc::clone(&self.remote.home);
        lease.ensure(&*home, &self.options, self.options.lease_wait.min(LEASE_WAIT)).await?;
        let published = {
            let work = self.put(&chosen, &lease);
            tokio::pin!(work);
            loop {
                tokio::select! {
                    done = &mut work => break done,
                    () = tokio::time::sleep(self.options.lease_term / 3) => drop(lease.renew(&*home).await),
                }
            }
        };
        lease.release(&*home).await;
        published.map(|()| chosen.generation)
    }

    async fn put(&self, chosen: &Chosen, lease: &Lease) -> Result<()> {
        if let Stored::Damaged(object) = &self.head {
            let name = format!("damaged/head-{}", epoch_millis(self.options.clock.now()));
            self.remote.put_new(&name, &Body::Bytes(object.bytes.clone())).await?;
        }
        let head = chosen.head()?;
        let length = u64::from(head.page_count) * u64::from(head.page_size);
        let base = Body::File { path: chosen.staged.to_path_buf(), length };
        self.remote.put_new(&base_name(head.generation, head.commit), &base).await?;
        let mut tried = 1;
        loop {
            let lost = || CoreError::new(ErrorKind::Unavailable, "the lease was lost");
            let held = lease.held().ok_or_else(|| Error::Home(lost()))?;
            let failed = match self.move_head(&head, &held).await {
                Ok(Put::Done(_)) => return Ok(()),
                Ok(Put::Refused) => None,
                Err(error) if is_passing(error.kind()) => Some(error),
                Err(error) => return Err(Error::Home(error)),
            };
            // Its own, of which the answer was lost, or somebody else's.
            match self.remote.head().await {
                Ok(Some((found, _))) if found.commit == head.commit => return Ok(()),
                Err(error @ (Error::Settings(_) | Error::Unsupported(_))) => return Err(error),
                _ => {}
            }
            let Some(failed) = failed else {
                return Err(Error::Unsupported("the home has changed meanwhile: look again".to_owned()));
            };
            if tried >= self.remote.retry.attempts {
                return Err(Error::Home(failed));
            }
            self.remote.retry.wait(tried).await;
            tried += 1;
        }
    }

    /// Only where the head is still what was found.
    async fn move_head(&self, head: &Head, held: &Held) -> storage_core::Result<Put> {
        let (home, bytes) = (&self.remote.home, Bytes::from(head.encode()));
        match &self.head {
            Stored::Absent => home.create(HEAD, bytes, Some(held)).await,
            Stored::Sound(_, version) | Stored::Damaged(Object { version, .. }) => {
                home.replace(HEAD, bytes, version, Some(held)).await
            }
        }
    }
}

impl Chosen {
    /// The head of a new generation with a base of its own.
    fn head(&self) -> Result<Head> {
        let commit = Id::random()?;
        let incarnation = match self.incarnation {
            Some(incarnation) => incarnation,
            None => Id::random()?,
        };
        let (page_count, checksum) = (self.sums.page_count(), self.sums.total());
        // A head names generations without a gap.
        let is_next = self.end.0 + 1 == self.generation;
        let before = self.commits.iter().take(if is_next { NAMED_COMMITS } else { 0 });
        let mut commits: Vec<(Id, u64)> = before.copied().collect();
        commits.reverse();
        commits.push((commit, 0));
        let base = Base { generation: self.generation, commit, page_count, checksum };
        let head = Head::of_base(incarnation, self.page_size, base, Some(self.end.1));
        Ok(Head { commits, repaired: Some((self.end.0, self.generation)), ..head })
    }
}
