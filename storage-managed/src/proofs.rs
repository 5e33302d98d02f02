//! What a cache remembers of the leases that were taken for it, so that the lease of a killed process is no obstacle to the
//! next one on the same cache.
//!
//! The lock of the cache says that whoever took them is gone. A copy of the cache, or a clone of its machine, has no such
//! say: its original may live. So they count only together with the machine's boot and the very file that is locked.

use std::{
    fs::{self, File},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    cache::{Paths, create_private},
    error::{Error, Result},
    format::Id,
    system::{Positioned, identity},
};

/// The newest: of the last one the answer may have been lost.
const KEPT: usize = 3;

#[derive(Debug)]
pub(crate) struct Proofs {
    path: PathBuf,
    known: Mutex<Record>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    /// Of whom these are.
    identity: String,
    proofs: Vec<String>,
}

impl Proofs {
    /// Those of a cache, whose lock is taken. What cannot be read is forgotten: a lease ends by itself, too.
    pub(crate) fn read(paths: &Paths, lock: &File) -> Self {
        let (path, identity) = (paths.leases(), identity(lock));
        let found = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
        let ours = found.filter(|found| found.identity == identity && !identity.is_empty());
        let known = ours.unwrap_or(Record { identity, proofs: Vec::new() });
        Self { path, known: Mutex::new(known) }
    }

    fn known(&self) -> MutexGuard<'_, Record> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What proved earlier leases, the newest first.
    pub(crate) fn former(&self) -> Vec<String> {
        self.known().proofs.iter().rev().cloned().collect()
    }

    /// A new one, written down before it is used. It has to outlive the process, not the machine.
    pub(crate) fn next(&self) -> Result<String> {
        let proof = Id::random()?.to_string();
        let mut known = self.known();
        known.proofs.push(proof.clone());
        let old = known.proofs.len().saturating_sub(KEPT);
        known.proofs.drain(..old);
        let record = serde_json::to_vec(&*known).unwrap_or_default();
        // A record that is cut short counts as none.
        let written = create_private(&self.path)?.write_all_at(&record, 0);
        written.map_err(Error::io("write", &self.path))?;
        Ok(proof)
    }
}
