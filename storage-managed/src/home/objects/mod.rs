//! Homes in buckets of objects: what S3 and Google Cloud Storage share.

mod lease;
mod parts;
mod service;

use std::{
    fmt,
    marker::PhantomData,
    ops::Range,
    sync::{Arc, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig,
    UpdateVersion, path::Path,
};
use storage_core::{DEFAULT_OPERATION_TIMEOUT, Error, ErrorKind, Result, with_deadline};

use self::{
    lease::{Dated, Lease},
    service::{AnsweredAt, Connector, ServerTime, classify, failure},
};
use super::{
    Body, Claim, Fresh, Held, Holder, Home, LEASE, Listed, Object, Put, Version, first_of,
    http::{Effect, Failure, PIECE, PIECE_TIMEOUT, client, place},
    names::{check_name, check_prefix},
    pieces::punctual,
};
use crate::format::Id;

/// How often a write is tried that was put off for others of the same object; nothing was done then.
const TRIES: u32 = 4;
/// How the names of what is sent apart end. No listing shows it.
const APART: &str = ".upload";

/// What stores differ in.
pub trait Dialect: fmt::Debug + Send + Sync + 'static {
    /// What the store is called.
    const NAME: &'static str;
    /// Whether what was sent in parts becomes an object on the condition that there is none. Elsewhere it is sent apart, and
    /// copied on that condition.
    const PARTS_UNDER_CONDITION: bool;
    /// The status of a write that is put off for others of the same object: nothing was done.
    const PUT_OFF: u16;
    /// How many milliseconds such a write waits before the second try; before each later one that much more.
    const PAUSE: Range<u64>;

    /// The version that an answer tells of; `None` where it does not tell enough.
    fn version(told: UpdateVersion) -> Option<Version>;

    /// What [`version`](Self::version) was made of; `None` where no object of this store can be of it.
    fn told(version: &Version) -> Option<UpdateVersion>;
}

/// A home in a bucket, under a prefix of its own: `S3Home` or `GcsHome`.
pub struct ObjectHome<D> {
    store: Arc<dyn ObjectStore>,
    name: String,
    prefix: String,
    timeout: Duration,
    time: ServerTime,
    lease: Lease,
    dialect: PhantomData<D>,
}

impl<D: Dialect> fmt::Debug for ObjectHome<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectHome").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A write that is sent again would report that its own first try is in its way.
pub(super) fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

impl<D: Dialect> ObjectHome<D> {
    /// A home under `prefix` in `bucket`, of the store that `build` makes. `endpoint` is where that is, unless it is the cloud's
    /// usual place.
    pub(super) fn build(
        bucket: &str,
        prefix: &str,
        endpoint: Option<&str>,
        build: impl FnOnce(Connector) -> Result<Arc<dyn ObjectStore>>,
    ) -> Result<Self> {
        check_name(prefix)?;
        check_name(bucket)?;
        let (timeout, time) = (DEFAULT_OPERATION_TIMEOUT, ServerTime::default());
        let store = build(Connector {
            client: client(timeout)?,
            time: Arc::clone(&time),
            parts_under_condition: D::PARTS_UNDER_CONDITION,
        })?;
        // Two services may have buckets of one name.
        let endpoint = endpoint.and_then(|endpoint| reqwest::Url::parse(endpoint).ok());
        let at = endpoint.map_or_else(String::new, |endpoint| format!(" at {}", place(&endpoint)));
        let name = format!("{} {bucket}/{prefix}{at}", D::NAME);
        let (prefix, lease) = (prefix.to_owned(), Lease::default());
        Ok(Self { store, name, prefix, timeout, time, lease, dialect: PhantomData })
    }

    /// Bounds each request by `timeout` instead of 5 seconds; pieces of large bodies have a minute each.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn path(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.prefix))
    }

    async fn reading<T>(&self, operation: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        with_deadline(self.timeout, ErrorKind::Timeout, work)
            .await
            .map_err(|error| error.at(D::NAME, operation))
    }

    async fn writing<T>(&self, operation: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let done = with_deadline(self.timeout, ErrorKind::OutcomeUnknown, work).await;
        done.map_err(|error| error.at(D::NAME, operation))
    }

    /// An object of moderate size, unless it is still `known`.
    async fn fetch(&self, name: &str, known: Option<&Version>) -> Result<Fresh> {
        Ok(self.fetch_dated(name, known).await?.0)
    }

    /// As [`fetch`](Self::fetch), with the time since it was written, by the clock of who answered.
    async fn fetch_dated(&self, name: &str, known: Option<&Version>) -> Result<(Fresh, Option<Duration>)> {
        let if_none_match = known.and_then(D::told).and_then(|told| told.e_tag);
        let options = GetOptions { if_none_match, ..GetOptions::default() };
        let result = match self.store.get_opts(&self.path(name), options).await {
            Ok(result) => result,
            Err(object_store::Error::NotModified { .. }) => return Ok((Fresh::Unchanged, None)),
            Err(object_store::Error::NotFound { .. }) => return Ok((Fresh::Absent, None)),
            Err(error) => return Err(classify(&error, Effect::Read)),
        };
        let now = result.extensions.get().map(|AnsweredAt(now)| *now);
        let age = now.map(|now| (now - result.meta.last_modified).to_std().unwrap_or_default());
        let version = version::<D>(result.meta.e_tag.clone(), result.meta.version.clone())?;
        let mut bytes = BytesMut::with_capacity(usize::try_from(result.meta.size).unwrap_or_default());
        let mut pieces = result.into_stream();
        while let Some(piece) = pieces.try_next().await.map_err(|error| classify(&error, Effect::Read))? {
            bytes.extend_from_slice(&piece);
        }
        Ok((Fresh::Changed(Object { bytes: bytes.freeze(), version }), age))
    }

    /// The content of an object, or a part of it, and the length of the whole.
    async fn open(
        &self,
        name: &str,
        range: Option<GetRange>,
    ) -> Result<Option<(u64, BoxStream<'static, Result<Bytes>>)>> {
        match self.store.get_opts(&self.path(name), GetOptions { range, ..GetOptions::default() }).await {
            Ok(result) => {
                let length = result.meta.size;
                let pieces = result.into_stream().map_err(|error| classify(&error, Effect::Read));
                Ok(Some((length, punctual(pieces.boxed()))))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(classify(&error, Effect::Read)),
        }
    }

    /// Writes under a condition. What was put off for other writes is tried again: nothing was done.
    async fn upload(&self, name: &str, bytes: Bytes, mode: PutMode) -> Result<Put> {
        for again in 1..=TRIES {
            let options = PutOptions::from(mode.clone());
            match self.store.put_opts(&self.path(name), bytes.clone().into(), options).await {
                Ok(done) => return version::<D>(done.e_tag, done.version).map(Put::Done),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                    return Ok(Put::Refused);
                }
                Err(error) if is_put_off::<D>(&error) => {}
                Err(error) => return Err(classify(&error, Effect::Write)),
            }
            if again < TRIES {
                let pause = fastrand::u64(D::PAUSE) * u64::from(again);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }
        // As of a store that is busy: nothing was done, and later it may be.
        Err(Error::new(ErrorKind::Unavailable, "the store puts the write off for others of the same object"))
    }

    /// Writes a body only where there is no such object.
    async fn send(&self, name: &str, body: Body, sent: &(dyn Fn(u64) + Send + Sync)) -> Result<bool> {
        let length = body.length();
        if usize::try_from(length).is_ok_and(|length| length <= PIECE) {
            let bytes = body.whole().await?;
            let upload = self.upload(name, bytes, PutMode::Create);
            let put = with_deadline(PIECE_TIMEOUT, ErrorKind::OutcomeUnknown, upload).await?;
            sent(length);
            return Ok(put != Put::Refused);
        }
        // Before gigabytes are sent; what comes meanwhile is refused in the end.
        let path = self.path(name);
        let found = with_deadline(self.timeout, ErrorKind::Timeout, async {
            match self.store.head(&path).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::NotFound { .. }) => Ok(false),
                Err(error) => Err(classify(&error, Effect::Read)),
            }
        });
        if found.await? {
            return Ok(false);
        }
        if D::PARTS_UNDER_CONDITION {
            return parts::send(&*self.store, &path, body, sent).await;
        }
        let apart = self.path(&format!("{name}-{}{APART}", Id::random()?));
        parts::send_apart(&*self.store, &apart, &path, body, sent).await
    }

    fn listed(&self, found: &ObjectMeta) -> Option<Listed> {
        let name = found.location.as_ref().strip_prefix(&self.prefix)?.strip_prefix('/')?.to_owned();
        let now = *self.time.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.map(|now| (now - found.last_modified).to_std().unwrap_or_default());
        (name != LEASE && !name.ends_with(APART)).then_some(Listed { name, length: found.size, age })
    }
}

#[async_trait]
impl<D: Dialect> Home for ObjectHome<D> {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn get(&self, name: &str) -> Result<Option<Object>> {
        check_name(name)?;
        match self.reading("get", self.fetch(name, None)).await.map_err(|error| error.with_key(name))? {
            Fresh::Changed(object) => Ok(Some(object)),
            Fresh::Unchanged | Fresh::Absent => Ok(None),
        }
    }

    async fn get_if_changed(&self, name: &str, known: &Version) -> Result<Fresh> {
        check_name(name)?;
        self.reading("get", self.fetch(name, Some(known))).await.map_err(|error| error.with_key(name))
    }

    async fn read(&self, name: &str, from: u64) -> Result<Option<(u64, BoxStream<'static, Result<Bytes>>)>> {
        check_name(name)?;
        let opened = self.open(name, (from > 0).then_some(GetRange::Offset(from)));
        self.reading("read", opened).await.map_err(|error| error.with_key(name))
    }

    async fn read_range(&self, name: &str, from: u64, length: u64) -> Result<Option<(u64, Bytes)>> {
        check_name(name)?;
        let opened = self.open(name, Some(GetRange::Bounded(from..from.saturating_add(length))));
        let opened = self.reading("read", opened).await.map_err(|error| error.with_key(name))?;
        first_of(opened, from, length).await
    }

    async fn create(&self, name: &str, bytes: Bytes, held: Option<&Held>) -> Result<Put> {
        check_name(name)?;
        if held.is_some_and(|held| !self.lease.is_held(held)) {
            return Ok(Put::Refused);
        }
        let created = self.upload(name, bytes, PutMode::Create);
        self.writing("create", created).await.map_err(|error| error.with_key(name))
    }

    async fn replace(
        &self,
        name: &str,
        bytes: Bytes,
        expected: &Version,
        held: Option<&Held>,
    ) -> Result<Put> {
        check_name(name)?;
        if held.is_some_and(|held| !self.lease.is_held(held)) {
            return Ok(Put::Refused);
        }
        let Some(expected) = D::told(expected) else { return Ok(Put::Refused) };
        let replaced = self.upload(name, bytes, PutMode::Update(expected));
        self.writing("replace", replaced).await.map_err(|error| error.with_key(name))
    }

    async fn put(&self, name: &str, body: Body, sent: &(dyn Fn(u64) + Send + Sync)) -> Result<bool> {
        check_name(name)?;
        self.send(name, body, sent).await.map_err(|error| error.at(D::NAME, "put").with_key(name))
    }

    async fn delete(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let deleted = async {
            match self.store.delete(&self.path(name)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(classify(&error, Effect::Write)),
            }
        };
        self.writing("delete", deleted).await.map_err(|error| error.with_key(name))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        check_prefix(prefix)?;
        // object_store lists by whole folders.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut found = self.store.list(Some(&self.path(folder)));
        let mut listed = Vec::new();
        loop {
            let next = async { found.try_next().await.map_err(|error| classify(&error, Effect::Read)) };
            let Some(next) = self.reading("list", next).await? else { return Ok(listed) };
            listed.extend(self.listed(&next).filter(|listed| listed.name.starts_with(prefix)));
        }
    }

    async fn acquire(&self, claim: &Claim<'_>) -> Result<Option<Held>> {
        self.lease.take(self, claim).await
    }

    async fn renew(&self, held: &Held) -> Result<Option<Held>> {
        self.lease.renew(self, held).await
    }

    async fn release(&self, held: &Held) -> Result<()> {
        self.lease.give_back(self, held).await
    }

    async fn holder(&self) -> Result<Option<Holder>> {
        self.lease.holder(self).await
    }

    async fn unlock(&self) -> Result<()> {
        self.lease.end(self).await
    }
}

#[async_trait]
impl<D: Dialect> Dated for ObjectHome<D> {
    async fn get_dated(&self, name: &str) -> Result<Option<(Object, Option<Duration>)>> {
        let fetched = self.reading("get", self.fetch_dated(name, None)).await;
        let (fresh, age) = fetched.map_err(|error| error.with_key(name))?;
        Ok(match fresh {
            Fresh::Changed(object) => Some((object, age)),
            Fresh::Unchanged | Fresh::Absent => None,
        })
    }
}

fn is_put_off<D: Dialect>(error: &object_store::Error) -> bool {
    matches!(failure(error), Failure::Answered(status, _) if status == D::PUT_OFF)
}

fn version<D: Dialect>(e_tag: Option<String>, version: Option<String>) -> Result<Version> {
    let told = UpdateVersion { e_tag, version };
    D::version(told).ok_or_else(|| Error::corrupt("the store answered without the object's version"))
}
