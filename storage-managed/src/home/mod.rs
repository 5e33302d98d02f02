//! Where a database lives: a folder, or a container of blobs.
//!
//! A [`Home`] keeps objects by name. One of them, `head`, is replaced; all others are written once. What a home must be able to
//! do for that is little, and [`probe`] proves it at open.

#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "encryption")]
mod encrypted;
mod folder;
#[cfg(feature = "gcs")]
mod gcs;
#[cfg(any(feature = "azure", feature = "gcs", feature = "s3"))]
mod http;
mod names;
#[cfg(any(feature = "gcs", feature = "s3"))]
mod objects;
#[cfg(any(feature = "azure", feature = "gcs", feature = "s3"))]
mod pieces;
mod probe;
#[cfg(feature = "s3")]
mod s3;
mod url;

use std::{fmt, path::PathBuf, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{TryStreamExt, stream::BoxStream};
use storage_core::{Error, ErrorKind, Result};

#[cfg(feature = "azure")]
pub use azure::{AzureCredentials, AzureHome, AzureIdentity};
#[cfg(feature = "encryption")]
pub use encrypted::{EncryptedHome, Keys};
pub use folder::FolderHome;
#[cfg(feature = "gcs")]
pub use gcs::GcsHome;
#[cfg(any(feature = "gcs", feature = "s3"))]
pub use objects::ObjectHome;
pub use probe::probe;
#[cfg(feature = "s3")]
pub use s3::S3Home;
pub use url::from_url;

/// The one object that is replaced.
const HEAD: &str = "head";
/// The object that says who holds the lease. No listing shows it.
#[cfg(any(feature = "azure", feature = "gcs", feature = "s3"))]
const LEASE: &str = "lease";

/// How encrypted objects begin: a build without encryption recognizes them, too.
pub(crate) const ENCRYPTED: &[u8] = b"agentenc";

/// What tells two contents of one name apart: an etag, a generation, or a hash of the content. Never a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(pub String);

/// An object's content and the version that it is of.
#[derive(Debug, Clone)]
pub struct Object {
    /// The content.
    pub bytes: Bytes,
    /// Its version.
    pub version: Version,
}

/// The answer to [`Home::get_if_changed`].
#[derive(Debug, Clone)]
pub enum Fresh {
    /// It is still the known version; no content travelled.
    Unchanged,
    /// It is another one.
    Changed(Object),
    /// There is no object of this name.
    Absent,
}

/// The answer to a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// Written; the object is now of this version.
    Done(Version),
    /// Not written: the condition did not hold (an object is there, it is another one, or the lease is not ours).
    Refused,
}

/// What to write: bytes in memory, or a file that may be larger than memory.
#[derive(Debug, Clone)]
pub enum Body {
    /// In memory.
    Bytes(Bytes),
    /// A file of this length, read while it is sent.
    File {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
    },
}

impl Body {
    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name, from the home's root.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
    /// How long ago it was written, by the home's clock; `None` where the home cannot tell.
    pub age: Option<Duration>,
}

/// A home's exclusive lease for writing, held for a limited time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What proves it to the home: a lease id, or the version of the lease's object.
    pub proof: String,
    /// How long it lasts unless renewed, from the moment that it was asked for.
    pub term: Duration,
}

/// Who takes a lease, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Names the holder for people.
    pub owner: &'a str,
    /// What will prove the lease to the home: 32 hexadecimal digits that were never used before.
    pub proof: &'a str,
    /// What proved earlier leases whose holders are gone for sure: one of these is taken over at once.
    pub former: &'a [String],
    /// For about how long.
    pub term: Duration,
}

/// Who holds a home's lease, as far as the home tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holder {
    /// As the holder named itself.
    pub owner: Option<String>,
    /// How long ago it was taken or last renewed, by the home's clock. The clouds tell whole seconds; on Azure, how long ago
    /// it was taken.
    pub age: Option<Duration>,
}

/// Where a database lives.
///
/// Every call is bounded by the home's own operation timeout and fails with the kinds of [`storage_core::ErrorKind`]:
/// `Unavailable` or `Timeout` where nothing was done, `OutcomeUnknown` where a write may have been done. No message holds a
/// credential.
#[async_trait]
pub trait Home: Send + Sync + fmt::Debug {
    /// What to call it in messages, without credentials.
    fn name(&self) -> String;

    /// An object, or `None` where there is none.
    async fn get(&self, name: &str) -> Result<Option<Object>>;

    /// An object as it is stored, for a copy of what is damaged: of a home that changes what is stored, such as an encrypted
    /// one, without changing it back. Whoever wraps a home asks that.
    async fn get_stored(&self, name: &str) -> Result<Option<Object>> {
        self.get(name).await
    }

    /// An object unless it is still the `known` version, in one request.
    async fn get_if_changed(&self, name: &str, known: &Version) -> Result<Fresh>;

    /// An object's content piece by piece, without the first `from` bytes, and the length in bytes of the whole object; `None`
    /// where there is none. Each piece comes in a time of its own, however long the whole takes. `from` is less than the
    /// length, or 0.
    async fn read(&self, name: &str, from: u64) -> Result<Option<(u64, BoxStream<'static, Result<Bytes>>)>>;

    /// A part of an object, at most `length` bytes, and the length in bytes of the whole; `None` where there is none. It is
    /// shorter only where the object ends. `from` is less than the length of the object. A home that does not do it by
    /// itself begins to [`read`](Self::read), and stops.
    async fn read_range(&self, name: &str, from: u64, length: u64) -> Result<Option<(u64, Bytes)>> {
        first_of(self.read(name, from).await?, from, length).await
    }

    /// Writes `name` only where there is no such object. Of many who create at once, exactly one is `Done`.
    async fn create(&self, name: &str, bytes: Bytes, held: Option<&Held>) -> Result<Put>;

    /// Replaces `name` only where it is still the `expected` version, and where `held` is given and the home can tell, only
    /// while that is held.
    async fn replace(&self, name: &str, bytes: Bytes, expected: &Version, held: Option<&Held>)
    -> Result<Put>;

    /// Writes an object that nobody will change, only where there is none of this name: `false` says that there is one, and
    /// that it is as it was, so a doubtful answer is settled by writing again and comparing. Readers see all of it or
    /// nothing. `sent` is told the bytes that have travelled, now and then.
    async fn put(&self, name: &str, body: Body, sent: &(dyn Fn(u64) + Send + Sync)) -> Result<bool>;

    /// Removes an object. Where there is none, that is success.
    async fn delete(&self, name: &str) -> Result<()>;

    /// All objects whose names start with `prefix`.
    async fn list(&self, prefix: &str) -> Result<Vec<Listed>>;

    /// Whether there is room for what is written next, without an object that anybody sees. A home that does not fill up, or cannot
    /// tell, says so by default.
    async fn check_room(&self) -> Result<()> {
        Ok(())
    }

    /// Takes the lease, or `None` where somebody else holds it. Asked again with the same claim, it answers the same.
    async fn acquire(&self, claim: &Claim<'_>) -> Result<Option<Held>>;

    /// Holds it for another term, or `None` where it is lost.
    async fn renew(&self, held: &Held) -> Result<Option<Held>>;

    /// Gives it back. Where it is not held any more, that is success.
    async fn release(&self, held: &Held) -> Result<()>;

    /// Who holds the lease, or `None` where nobody does. Takes nothing.
    async fn holder(&self) -> Result<Option<Holder>>;

    /// Takes the lease away from whoever holds it, at once: for people who know that the holder is gone. One that lives learns
    /// of it when it renews, or by a `head` that is refused. That nobody holds it is success.
    async fn unlock(&self) -> Result<()>;
}

/// What comes of an object.
type Pieces = BoxStream<'static, Result<Bytes>>;

/// At most `length` bytes of an object of this whole length that comes from `from` on.
async fn first_of(opened: Option<(u64, Pieces)>, from: u64, length: u64) -> Result<Option<(u64, Bytes)>> {
    let Some((whole, mut pieces)) = opened else { return Ok(None) };
    let length = usize::try_from(length.min(whole.saturating_sub(from))).unwrap_or(usize::MAX);
    let mut bytes = BytesMut::new();
    while bytes.len() < length {
        let Some(piece) = pieces.try_next().await? else {
            return Err(Error::new(ErrorKind::Unavailable, "the answer ended before the part did"));
        };
        bytes.extend_from_slice(&piece);
    }
    bytes.truncate(length);
    Ok(Some((whole, bytes.freeze())))
}

/// A file that had another length than was said of it.
fn cut_short(found: u64, length: u64) -> Error {
    Error::invalid_input(format!("the file had {found} of {length} bytes"))
        .with_hint("nobody may change it while it is sent")
}
