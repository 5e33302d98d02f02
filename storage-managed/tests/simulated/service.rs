//! What a cloud's service keeps, and how it answers: conditions, the lease of a blob, ages by its own clock. Each change
//! is whole at one moment.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use storage_managed::home::Version;

pub(crate) const HEAD: &str = "head";

/// Whose conditions a service keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavor {
    /// If-Match and If-None-Match; 409 where another conditional write to the key is under way.
    S3,
    /// Etags, and a lease on the blob `head` that the service itself enforces.
    Azure,
    /// x-goog-if-generation-match.
    Gcs,
}

#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) bytes: Bytes,
    pub(crate) version: Version,
    pub(crate) written: Duration,
}

/// When a write is done.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    Absent,
    Is(Version),
}

/// The lease of the blob `head`. One whose time has passed is known until somebody else writes or takes it.
#[derive(Debug)]
struct BlobLease {
    id: String,
    term: Duration,
    until: Duration,
}

/// A change on its way that arrives when nobody waits for its answer any more.
pub(crate) type Late = Box<dyn FnOnce(&mut Service, Duration) + Send>;

pub(crate) struct Service {
    flavor: Flavor,
    pub(crate) objects: BTreeMap<String, Stored>,
    lease: Option<BlobLease>,
    versions: u64,
    /// The conditional writes that are under way, by key.
    pub(crate) writing: BTreeMap<String, usize>,
    pub(crate) late: Vec<(Duration, Late)>,
}

impl Service {
    pub(crate) fn new(flavor: Flavor) -> Self {
        Self {
            flavor,
            objects: BTreeMap::new(),
            lease: None,
            versions: 0,
            writing: BTreeMap::new(),
            late: Vec::new(),
        }
    }

    /// Does what has arrived by now.
    pub(crate) fn arrive(&mut self, now: Duration) {
        for (at, change) in std::mem::take(&mut self.late) {
            match at <= now {
                true => change(self, now),
                false => self.late.push((at, change)),
            }
        }
    }

    /// Writes under a condition; `None` where it does not hold.
    pub(crate) fn put(
        &mut self,
        now: Duration,
        name: &str,
        bytes: Bytes,
        condition: &Condition,
        lease: Option<&str>,
    ) -> Option<Version> {
        let holds = match (condition, self.objects.get(name)) {
            (Condition::Absent, found) => found.is_none(),
            (Condition::Is(version), found) => found.is_some_and(|found| found.version == *version),
        };
        if !holds || (name == HEAD && self.flavor == Flavor::Azure && !self.lets_write(now, lease)) {
            return None;
        }
        self.versions += 1;
        let version = Version(match self.flavor {
            Flavor::S3 => format!("\"{:032x}\"", self.versions),
            Flavor::Azure => format!("\"0x{:X}\"", self.versions),
            Flavor::Gcs => format!("{}", 1_700_000_000_000_000 + self.versions),
        });
        let stored = Stored { bytes, version: version.clone(), written: now };
        self.objects.insert(name.to_owned(), stored);
        Some(version)
    }

    /// Whether the lease of the blob lets who gives this id write. Who writes without one after its time ends it for good.
    fn lets_write(&mut self, now: Duration, id: Option<&str>) -> bool {
        let lasts = self.lease.as_ref().filter(|lease| now < lease.until).map(|lease| lease.id.as_str());
        let lets = lasts == id;
        if lets && id.is_none() {
            self.lease = None;
        }
        lets
    }

    /// Leases the blob; `None` where there is none.
    pub(crate) fn lease(&mut self, now: Duration, id: &str, term: Duration) -> Option<bool> {
        self.objects.get(HEAD)?;
        let is_free = self.lease.as_ref().is_none_or(|lease| lease.id == id || lease.until <= now);
        if is_free {
            self.lease = Some(BlobLease { id: id.to_owned(), term, until: now + term });
        }
        Some(is_free)
    }

    pub(crate) fn renew_lease(&mut self, now: Duration, id: &str) -> bool {
        let Some(lease) = self.lease.as_mut().filter(|lease| lease.id == id) else { return false };
        lease.until = now + lease.term;
        true
    }

    pub(crate) fn change_lease(&mut self, now: Duration, from: &str, to: &str) -> bool {
        let known = |lease: &&mut BlobLease| now < lease.until && (lease.id == from || lease.id == to);
        let Some(lease) = self.lease.as_mut().filter(known) else { return false };
        to.clone_into(&mut lease.id);
        true
    }

    pub(crate) fn release_lease(&mut self, id: &str) {
        self.lease.take_if(|lease| lease.id == id);
    }

    pub(crate) fn break_lease(&mut self) {
        self.lease = None;
    }

    /// How long ago the blob was leased, unless nobody holds it.
    pub(crate) fn leased_since(&self, now: Duration) -> Option<Duration> {
        let lease = self.lease.as_ref().filter(|lease| now < lease.until)?;
        Some((now + lease.term).saturating_sub(lease.until))
    }
}
