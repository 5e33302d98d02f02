//! The lease, as an object that is changed by compare-and-swap.
//!
//! The machines' clocks are never compared: who wants to take over from a holder waits, on its own monotonic clock, until the
//! object has not changed for the holder's whole term. A holder renews by changing it, and counts its term from before it
//! asked.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use storage_core::{Error, ErrorKind, Result};

use crate::home::{Held, Home, Put, Version};

/// The lease's object.
pub(super) const LEASE: &str = "lease";

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
    /// One change at a time: a renewal must not outlive the giving back.
    change: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    ours: Option<Ours>,
    /// The version in which somebody else's was last seen, and since when.
    seen: Option<(Version, Instant)>,
}

#[derive(Debug, Clone)]
struct Ours {
    record: Record,
    version: Version,
    /// When it was asked for.
    since: Instant,
}

impl Lease {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ours(&self, held: &Held) -> Option<Ours> {
        self.known().ours.clone().filter(|ours| ours.record.token == held.proof)
    }

    /// Whether `held` is ours and its term has not passed.
    pub(super) fn is_held(&self, held: &Held) -> bool {
        self.ours(held).is_some_and(|ours| ours.since.elapsed() < Duration::from_millis(ours.record.term_ms))
    }

    /// Whether the holder has been silent for its term; notes what was seen. Its own silence a holder knows already.
    fn has_lapsed(&self, record: &Record, version: &Version) -> bool {
        let (mut known, term) = (self.known(), Duration::from_millis(record.term_ms));
        match (&known.ours, &known.seen) {
            (Some(ours), _) if ours.record.token == record.token => ours.since.elapsed() >= term,
            (_, Some((seen, since))) if seen == version => since.elapsed() >= term,
            _ => {
                known.seen = Some((version.clone(), Instant::now()));
                false
            }
        }
    }

    /// Takes the lease where nobody holds it, or its holder has been silent for its term.
    pub(super) async fn take(&self, home: &impl Home, owner: &str, term: Duration) -> Result<Option<Held>> {
        let _change = self.change.lock().await;
        let found = Self::stored(home).await?;
        if let Some((record, version)) = &found
            && !record.token.is_empty()
            && !self.has_lapsed(record, version)
        {
            return Ok(None);
        }
        let record = Record {
            owner: owner.to_owned(),
            token: format!("{:032x}", fastrand::u128(..)),
            term_ms: u64::try_from(term.as_millis()).unwrap_or(u64::MAX),
            counter: 0,
        };
        let held = Held { proof: record.token.clone(), term };
        let written = self.write(home, record, found.map(|(_, version)| version)).await?;
        Ok(written.then_some(held))
    }

    pub(super) async fn renew(&self, home: &impl Home, held: &Held) -> Result<Option<Held>> {
        let _change = self.change.lock().await;
        let Some(Ours { mut record, version, .. }) = self.ours(held) else { return Ok(None) };
        record.counter += 1;
        let written = self.write(home, record, Some(version)).await?;
        Ok(written.then(|| held.clone()))
    }

    pub(super) async fn give_back(&self, home: &impl Home, held: &Held) -> Result<()> {
        let _change = self.change.lock().await;
        let Some(Ours { mut record, version, .. }) = self.ours(held) else { return Ok(()) };
        self.known().ours = None;
        record.token.clear();
        record.counter += 1;
        home.replace(LEASE, encode(&record)?, &version, None).await.map(|_| ())
    }

    /// Writes the record over the `expected` version, or none, and keeps it as ours. Where the answer does not say whether
    /// that was done, the object does: only we write our token.
    async fn write(&self, home: &impl Home, record: Record, expected: Option<Version>) -> Result<bool> {
        let since = Instant::now();
        let bytes = encode(&record)?;
        let put = match &expected {
            Some(version) => home.replace(LEASE, bytes, version, None).await,
            None => home.create(LEASE, bytes, None).await,
        };
        let version = match put {
            Ok(Put::Done(version)) => Some(version),
            Err(error) if error.kind() != ErrorKind::OutcomeUnknown => return Err(error),
            // Refused: be it by an earlier write of ours, whose answer was lost.
            _ => match Self::stored(home).await? {
                Some((found, version)) if found.token == record.token => Some(version),
                _ => None,
            },
        };
        let ours = version.map(|version| Ours { record, version, since });
        let is_ours = ours.is_some();
        self.known().ours = ours;
        Ok(is_ours)
    }

    async fn stored(home: &impl Home) -> Result<Option<(Record, Version)>> {
        let Some(object) = home.get(LEASE).await? else { return Ok(None) };
        let record = serde_json::from_slice(&object.bytes)
            .map_err(|_| Error::corrupt("the lease is no lease").with_key(LEASE))?;
        Ok(Some((record, object.version)))
    }
}

fn encode(record: &Record) -> Result<bytes::Bytes> {
    serde_json::to_vec(record).map(Into::into).map_err(|_| Error::corrupt("the lease cannot be written"))
}
