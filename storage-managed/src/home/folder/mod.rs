//! A local or shared folder.

mod error;
mod files;
mod lock;
mod root;

use std::{
    io::{self, Seek, SeekFrom},
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use storage_core::{DEFAULT_OPERATION_TIMEOUT, Error, ErrorKind, Result, with_deadline};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;

use self::{files::Files, lock::Lock};
use super::{
    Body, Claim, Fresh, Held, Holder, Home, Listed, Object, Put, Version,
    names::{check_name, check_prefix},
};
use crate::system::STEP_BYTES;

/// What travels at once between two files.
const PIECE: usize = 256 * 1024;

/// A home in a local or shared folder, which is created on the first write (mode 0700, files 0600).
///
/// Versions are hashes of the content. The lease is a lock of the operating system on a file in the folder
/// (`flock`): it ends with the process that holds it, and a paused process keeps it. A shared folder therefore has to pass
/// locks on to its server: NFS 4 and SMB do, unless they are mounted with `nolock` or `nobrl`.
///
/// Once something of the home was found or put there, a folder that is gone, or another one in its place (without a `head`), as
/// where its disk or share is not mounted, is `Unavailable` to reads that find nothing, listings and writes; nothing is created there. The
/// home goes on once the folder is back.
#[derive(Debug)]
pub struct FolderHome {
    files: Files,
    timeout: Duration,
    lease: Mutex<Option<Lease>>,
}

#[derive(Debug)]
struct Lease {
    proof: String,
    lock: Lock,
}

impl FolderHome {
    /// A home in the folder `root`. Does no I/O.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { files: Files::new(root.into()), timeout: DEFAULT_OPERATION_TIMEOUT, lease: Mutex::default() }
    }

    /// Bounds each operation, and each piece of a transfer, by `timeout` instead of 5 seconds.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs `work` where blocking is allowed. A caller that goes away leaves it to end, whole or not at all.
    async fn blocking<T: Send + 'static>(
        &self,
        late: ErrorKind,
        work: impl FnOnce(&Files) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let files = self.files.clone();
        let task = tokio::task::spawn_blocking(move || work(&files));
        with_deadline(self.timeout, late, async { task.await.map_err(|_| stopped())? }).await
    }

    /// Whether writing under `held` is allowed.
    fn may_write(&self, held: Option<&Held>) -> bool {
        held.is_none_or(|held| {
            let lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
            lease.as_ref().is_some_and(|lease| lease.proof == held.proof && lease.lock.is_in_place())
        })
    }

    /// The lease is not held: it is lost, unless the folder is away, which may come back with it.
    async fn refused(&self) -> Result<Put> {
        self.blocking(ErrorKind::Timeout, Files::check).await?;
        Ok(Put::Refused)
    }

    /// The pieces of `body`, written to a file that nobody sees yet.
    async fn copy(&self, body: Body, sent: &(dyn Fn(u64) + Send + Sync)) -> Result<files::Draft> {
        let (draft, file) = self.blocking(ErrorKind::Timeout, Files::draft).await?;
        let mut target = tokio::fs::File::from_std(file);
        match body {
            Body::Bytes(bytes) => {
                self.in_time(target.write_all(&bytes)).await?;
                sent(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            }
            Body::File { path, length } => {
                let source = self.in_time(tokio::fs::File::open(path)).await?;
                self.copy_file(source, length, &mut target, sent).await?;
            }
        }
        self.in_time(target.flush()).await?;
        Ok(draft)
    }

    async fn copy_file(
        &self,
        source: tokio::fs::File,
        length: u64,
        target: &mut tokio::fs::File,
        sent: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<()> {
        let mut pieces = ReaderStream::with_capacity(source.take(length), PIECE);
        let (mut copied, mut synced) = (0, 0);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| error::failed(&error))?;
            self.in_time(target.write_all(&piece)).await?;
            copied += u64::try_from(piece.len()).unwrap_or(u64::MAX);
            sent(copied);
            // At once, all of it would keep every other sync of the disk waiting.
            if copied - synced >= STEP_BYTES {
                self.in_time(target.sync_data()).await?;
                synced = copied;
            }
        }
        if copied == length { Ok(()) } else { Err(super::cut_short(copied, length)) }
    }

    async fn in_time<T>(&self, work: impl Future<Output = io::Result<T>>) -> Result<T> {
        let work = async { work.await.map_err(|error| error::failed(&error)) };
        with_deadline(self.timeout, ErrorKind::Timeout, work).await
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::OutcomeUnknown, "the work was stopped before it ended")
}

/// Says where an error happened.
fn at(operation: &'static str, name: &str) -> impl FnOnce(Error) -> Error {
    move |error| error.at("folder", operation).with_key(name)
}

#[async_trait]
impl Home for FolderHome {
    fn name(&self) -> String {
        format!("folder {}", self.files.root().display())
    }

    async fn get(&self, name: &str) -> Result<Option<Object>> {
        check_name(name)?;
        let owned = name.to_owned();
        let read = self.blocking(ErrorKind::Timeout, move |files| files.read(&owned)).await;
        let bytes = read.map_err(at("get", name))?;
        Ok(bytes.map(|bytes| Object { version: version_of(&bytes), bytes: bytes.into() }))
    }

    async fn get_if_changed(&self, name: &str, known: &Version) -> Result<Fresh> {
        Ok(match self.get(name).await? {
            None => Fresh::Absent,
            Some(object) if object.version == *known => Fresh::Unchanged,
            Some(object) => Fresh::Changed(object),
        })
    }

    async fn read(&self, name: &str, from: u64) -> Result<Option<(u64, BoxStream<'static, Result<Bytes>>)>> {
        check_name(name)?;
        let owned = name.to_owned();
        let opened = self.blocking(ErrorKind::Timeout, move |files| files.open(&owned)).await;
        let Some((mut file, length)) = opened.map_err(at("read", name))? else { return Ok(None) };
        file.seek(SeekFrom::Start(from)).map_err(|error| at("read", name)(error::failed(&error)))?;
        let pieces = ReaderStream::with_capacity(tokio::fs::File::from_std(file), PIECE);
        let named = name.to_owned();
        let pieces =
            pieces.map(move |piece| piece.map_err(|error| at("read", &named)(error::failed(&error))));
        Ok(Some((length, pieces.boxed())))
    }

    async fn read_range(&self, name: &str, from: u64, length: u64) -> Result<Option<(u64, Bytes)>> {
        check_name(name)?;
        let owned = name.to_owned();
        let read =
            self.blocking(ErrorKind::Timeout, move |files| files.read_range(&owned, from, length)).await;
        Ok(read.map_err(at("read", name))?.map(|(whole, bytes)| (whole, bytes.into())))
    }

    async fn create(&self, name: &str, bytes: Bytes, held: Option<&Held>) -> Result<Put> {
        check_name(name)?;
        if !self.may_write(held) {
            return self.refused().await.map_err(at("create", name));
        }
        let owned = name.to_owned();
        let created = self.blocking(ErrorKind::OutcomeUnknown, move |files| {
            let version = version_of(&bytes);
            Ok(if files.create(&owned, &bytes)? { Put::Done(version) } else { Put::Refused })
        });
        created.await.map_err(at("create", name))
    }

    async fn replace(
        &self,
        name: &str,
        bytes: Bytes,
        expected: &Version,
        held: Option<&Held>,
    ) -> Result<Put> {
        check_name(name)?;
        if !self.may_write(held) {
            return self.refused().await.map_err(at("replace", name));
        }
        let (owned, expected) = (name.to_owned(), expected.clone());
        // Half of the time is for the write itself.
        let deadline = Instant::now() + self.timeout / 2;
        let replaced = self.blocking(ErrorKind::OutcomeUnknown, move |files| {
            let version = version_of(&bytes);
            let is_expected = |found: &[u8]| version_of(found) == expected;
            Ok(if files.replace(&owned, &bytes, is_expected, deadline)? {
                Put::Done(version)
            } else {
                Put::Refused
            })
        });
        replaced.await.map_err(at("replace", name))
    }

    async fn put(&self, name: &str, body: Body, sent: &(dyn Fn(u64) + Send + Sync)) -> Result<bool> {
        check_name(name)?;
        let draft = self.copy(body, sent).await.map_err(at("put", name))?;
        let owned = name.to_owned();
        let put = self.blocking(ErrorKind::OutcomeUnknown, move |files| files.put(&owned, draft));
        put.await.map_err(at("put", name))
    }

    async fn delete(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let owned = name.to_owned();
        let deleted = self.blocking(ErrorKind::OutcomeUnknown, move |files| files.delete(&owned));
        deleted.await.map_err(at("delete", name))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        check_prefix(prefix)?;
        let owned = prefix.to_owned();
        let listed = self.blocking(ErrorKind::Timeout, move |files| files.list(&owned));
        listed.await.map_err(at("list", prefix))
    }

    async fn check_room(&self) -> Result<()> {
        let checked = self.blocking(ErrorKind::Timeout, Files::check_room).await;
        checked.map_err(|error| error.at("folder", "check_room"))
    }

    async fn acquire(&self, claim: &Claim<'_>) -> Result<Option<Held>> {
        let owner = claim.owner.to_owned();
        let taken = self.blocking(ErrorKind::Timeout, move |files| files.take_lease(&owner));
        // Kept only here: where the caller has gone away, the lock goes with the answer.
        let Some(lock) = taken.await.map_err(|error| error.at("folder", "acquire"))? else { return Ok(None) };
        let lease = Lease { proof: claim.proof.to_owned(), lock };
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
        Ok(Some(Held { proof: claim.proof.to_owned(), term: claim.term }))
    }

    async fn renew(&self, held: &Held) -> Result<Option<Held>> {
        Ok(self.may_write(Some(held)).then(|| held.clone()))
    }

    async fn release(&self, held: &Held) -> Result<()> {
        let mut lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        if lease.as_ref().is_some_and(|lease| lease.proof == held.proof) {
            *lease = None;
        }
        Ok(())
    }

    async fn holder(&self) -> Result<Option<Holder>> {
        let held = self.blocking(ErrorKind::Timeout, Files::lease_holder).await;
        held.map_err(|error| error.at("folder", "holder"))
    }

    async fn unlock(&self) -> Result<()> {
        let unlocked = self.blocking(ErrorKind::OutcomeUnknown, Files::remove_lease).await;
        unlocked.map_err(|error| error.at("folder", "unlock"))
    }
}

fn version_of(bytes: &[u8]) -> Version {
    Version(blake3::hash(bytes).to_hex().to_string())
}
