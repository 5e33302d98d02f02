//! The lease, as an object that is changed by compare-and-swap.
//!
//! The machines' clocks are never compared: who wants to take over from a holder reads, in one answer, what the store's clock
//! says now and when the object was written, so that a process that lives for a second sees a lease lapse. Where an answer
//! has no date, it waits on its own clock until the object has not changed for the holder's whole term. A holder renews by
//! changing it, and counts its term from before it asked.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use storage_core::{Error, ErrorKind, Result};

use crate::{
    home::{Claim, Held, Holder, Home, LEASE, Object, Put, Version},
    steady::Steady,
};

/// HTTP's dates are whole seconds, cut off: an object is younger than they say by less than this.
const COARSE: Duration = Duration::from_secs(1);

/// A home that tells how old an object is, by its own clock.
#[async_trait]
pub(super) trait Dated: Home {
    /// An object, and the time since it was written as its one answer has it; `None` where that has no date.
    async fn get_dated(&self, name: &str) -> Result<Option<(Object, Option<Duration>)>>;
}

/// What the object holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Who holds it, for people.
    owner: String,
    /// Who holds it; empty: nobody.
    token: String,
    /// For how long it holds unless it is changed.
    term_ms: u64,
    /// Makes each content another one.
    counter: u64,
}

/// What this program knows of the lease.
#[derive(Debug, Default)]
pub(super) struct Lease {
    known: Mutex<Known>,
    clock: Steady,
    /// One change at a time: a renewal must not outlive the giving back.
    change: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    ours: Option<Ours>,
    /// The version in which somebody else's was last seen, and since when.
    seen: Option<(Version, Duration)>,
    /// That of the last try, whatever became of it.
    counter: u64,
}

/// What is stored, and for how long it has been there.
struct Stored {
    record: Record,
    version: Version,
    age: Option<Duration>,
}

#[derive(Debug, Clone)]
struct Ours {
    record: Record,
    version: Version,
    /// When it was asked for.
    since: Duration,
}

impl Lease {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ours(&self, held: &Held) -> Option<Ours> {
        self.known().ours.clone().filter(|ours| ours.record.token == held.proof)
    }

    /// Another content than that of an earlier try, of which the answer may have been lost.
    fn count(&self, stored: u64) -> u64 {
        let mut known = self.known();
        known.counter = known.counter.max(stored).wrapping_add(1);
        known.counter
    }

    /// Whether `held` is ours and its term has not passed.
    pub(super) fn is_held(&self, held: &Held) -> bool {
        self.ours(held).is_some_and(|ours| self.clock.since(ours.since) < ours.record.term())
    }

    /// Whether the holder has been silent for its term; notes what was seen. Its own silence a holder knows already.
    fn has_lapsed(&self, stored: &Stored) -> bool {
        let (mut known, term, now) = (self.known(), stored.record.term(), self.clock.now());
        if stored.age.is_some_and(|age| age >= term.saturating_add(COARSE)) {
            return true;
        }
        match (&known.ours, &known.seen) {
            (Some(ours), _) if ours.record.token == stored.record.token => {
                now.saturating_sub(ours.since) >= term
            }
            (_, Some((seen, since))) if *seen == stored.version => now.saturating_sub(*since) >= term,
            _ => {
                known.seen = Some((stored.version.clone(), now));
                false
            }
        }
    }

    /// Takes the lease where nobody holds it, its holder has been silent for its term, or is known to be gone.
    pub(super) async fn take(&self, home: &impl Dated, claim: &Claim<'_>) -> Result<Option<Held>> {
        let _change = self.change.lock().await;
        let found = Self::stored(home).await?;
        if let Some(stored) = &found {
            let token = &stored.record.token;
            let is_ours = token == claim.proof || claim.former.contains(token);
            if !token.is_empty() && !is_ours && !self.has_lapsed(stored) {
                return Ok(None);
            }
        }
        let record = Record {
            owner: claim.owner.to_owned(),
            token: claim.proof.to_owned(),
            term_ms: u64::try_from(claim.term.as_millis()).unwrap_or(u64::MAX),
            counter: self.count(found.as_ref().map_or(0, |stored| stored.record.counter)),
        };
        let held = Held { proof: record.token.clone(), term: claim.term };
        let written = self.write(home, record, found.map(|stored| stored.version)).await?;
        Ok(written.then_some(held))
    }

    /// Who holds it, unless nobody does or the term has passed.
    pub(super) async fn holder(&self, home: &impl Dated) -> Result<Option<Holder>> {
        let held = Self::stored(home).await?.filter(|stored| !stored.record.token.is_empty());
        let held = held
            .filter(|stored| stored.age.is_none_or(|age| age < stored.record.term().saturating_add(COARSE)));
        Ok(held.map(|stored| Holder { owner: Some(stored.record.owner), age: stored.age }))
    }

    /// Lets nobody hold it.
    pub(super) async fn end(&self, home: &impl Dated) -> Result<()> {
        let Some(Stored { mut record, version, .. }) = Self::stored(home).await? else { return Ok(()) };
        if record.token.is_empty() {
            return Ok(());
        }
        record.token.clear();
        record.counter = record.counter.wrapping_add(1);
        match home.replace(LEASE, encode(&record)?, &version, None).await? {
            Put::Done(_) => Ok(()),
            Put::Refused => Err(Error::new(ErrorKind::Conflict, "the lease was renewed or taken meanwhile")
                .with_hint("its holder is alive; stop it, or try again")),
        }
    }

    pub(super) async fn renew(&self, home: &impl Dated, held: &Held) -> Result<Option<Held>> {
        let _change = self.change.lock().await;
        let Some(Ours { mut record, version, .. }) = self.ours(held) else { return Ok(None) };
        record.counter = self.count(record.counter);
        let written = self.write(home, record, Some(version)).await?;
        Ok(written.then(|| held.clone()))
    }

    pub(super) async fn give_back(&self, home: &impl Dated, held: &Held) -> Result<()> {
        let _change = self.change.lock().await;
        let Some(Ours { mut record, version, .. }) = self.ours(held) else { return Ok(()) };
        self.known().ours = None;
        record.token.clear();
        record.counter = self.count(record.counter);
        home.replace(LEASE, encode(&record)?, &version, None).await.map(|_| ())
    }

    /// Writes the record over the `expected` version, or none, and keeps it as ours. Where the answer does not say whether
    /// that was done, the object does. One of an earlier try is ours, too, but for no longer than that try has made it.
    async fn write(&self, home: &impl Dated, record: Record, expected: Option<Version>) -> Result<bool> {
        let since = self.clock.now();
        let bytes = encode(&record)?;
        let put = match &expected {
            Some(version) => home.replace(LEASE, bytes, version, None).await,
            None => home.create(LEASE, bytes, None).await,
        };
        let ours = match put {
            Ok(Put::Done(version)) => Some(Ours { record, version, since }),
            Err(error) if error.kind() != ErrorKind::OutcomeUnknown => return Err(error),
            // Refused: be it by an earlier write of ours, whose answer was lost.
            _ => match Self::stored(home).await? {
                Some(Stored { record: found, version, .. }) if found == record => {
                    Some(Ours { record, version, since })
                }
                Some(Stored { record: found, version, .. }) if found.token == record.token => {
                    let before = self.known().ours.clone();
                    let before = before.filter(|ours| ours.record.token == found.token);
                    before.map(|ours| Ours { record: found, version, since: ours.since })
                }
                _ => None,
            },
        };
        let is_ours = ours.as_ref().is_some_and(|ours| self.clock.since(ours.since) < ours.record.term());
        self.known().ours = ours;
        Ok(is_ours)
    }

    async fn stored(home: &impl Dated) -> Result<Option<Stored>> {
        let Some((object, age)) = home.get_dated(LEASE).await? else { return Ok(None) };
        let record = serde_json::from_slice(&object.bytes)
            .map_err(|_| Error::corrupt("the lease is no lease").with_key(LEASE))?;
        Ok(Some(Stored { record, version: object.version, age }))
    }
}

impl Record {
    fn term(&self) -> Duration {
        Duration::from_millis(self.term_ms)
    }
}

fn encode(record: &Record) -> Result<bytes::Bytes> {
    serde_json::to_vec(record).map(Into::into).map_err(|_| Error::corrupt("the lease cannot be written"))
}
