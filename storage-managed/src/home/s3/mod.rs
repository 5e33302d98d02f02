//! S3, and what speaks its protocol.

mod lease;
mod service;

use std::{
    fmt,
    sync::{Arc, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    GetOptions, GetRange, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutResult, RetryConfig, UpdateVersion,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey},
    path::Path,
};
use storage_core::{DEFAULT_OPERATION_TIMEOUT, Error, ErrorKind, Result, with_deadline};

use self::{
    lease::{Dated, Lease},
    service::{AnsweredAt, Connector, ServerTime, classify, failure},
};
use super::{
    Body, Claim, Fresh, Held, Holder, Home, LEASE, Listed, Object, Put, Version, first_of,
    http::{AT_ONCE, Effect, Failure, PIECE, PIECE_TIMEOUT, check_endpoint, client, place},
    names::{check_name, check_prefix},
    pieces::punctual,
};

/// The variables of AWS that say where S3 is and who asks.
const VARIABLES: [&str; 14] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
];
/// How often a write is tried that S3 put off for another one under way (409); nothing was done then.
const TRIES: u32 = 4;

/// A home in a bucket of S3, or of a store that speaks its protocol with conditional writes, under a prefix of its own.
///
/// Versions are etags. The lease is an object, `lease`, that is changed by compare-and-swap: another takes over
/// when it was unchanged for the holder's whole term, by S3's own clock. S3 cannot refuse a late `head` for its lease, so it is the
/// etag that fences writers there. Requests are not repeated here; what became of each is said by the error.
pub struct S3Home {
    store: AmazonS3,
    name: String,
    prefix: String,
    timeout: Duration,
    time: ServerTime,
    lease: Lease,
}

impl fmt::Debug for S3Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Home").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl S3Home {
    /// A home under `prefix` in `bucket`. Where S3 is and who asks, `variable` says by the names that AWS gave them:
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL` and those of
    /// roles and containers; without a key the machine's own role is asked for. An endpoint without TLS is for this
    /// machine alone, unless `AWS_ALLOW_HTTP` is `true`. Does no I/O.
    ///
    /// # Errors
    /// `Config` where a variable, the bucket or the prefix cannot be used.
    pub fn new(bucket: &str, prefix: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        check_name(prefix)?;
        check_name(bucket)?;
        let timeout = DEFAULT_OPERATION_TIMEOUT;
        let time = ServerTime::default();
        let connector = Connector { client: client(timeout)?, time: Arc::clone(&time) };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            // A write that is sent again would report that its own first try is in its way.
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .with_disable_bulk_delete(true)
            .with_http_connector(connector);
        let may_be_plain = variable("AWS_ALLOW_HTTP").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        for name in VARIABLES {
            let Some(value) = variable(name) else { continue };
            if name.starts_with("AWS_ENDPOINT_URL") {
                check_endpoint(name, &value, may_be_plain)?;
            }
            let key: AmazonS3ConfigKey = name.to_ascii_lowercase().parse().map_err(|_| unusable())?;
            builder = builder.with_config(key, value);
        }
        let store = builder.build().map_err(|_| unusable())?;
        // Two services may have buckets of one name.
        let endpoint = variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL"));
        let endpoint = endpoint.and_then(|endpoint| reqwest::Url::parse(&endpoint).ok());
        let at = endpoint.map_or_else(String::new, |endpoint| format!(" at {}", place(&endpoint)));
        let (name, prefix) = (format!("s3 {bucket}/{prefix}{at}"), prefix.to_owned());
        Ok(Self { store, name, prefix, timeout, time, lease: Lease::default() })
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
        with_deadline(self.timeout, ErrorKind::Timeout, work).await.map_err(|error| error.at("s3", operation))
    }

    async fn writing<T>(&self, operation: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let done = with_deadline(self.timeout, ErrorKind::OutcomeUnknown, work).await;
        done.map_err(|error| error.at("s3", operation))
    }

    /// An object of moderate size, unless it is still `known`.
    async fn fetch(&self, name: &str, known: Option<&Version>) -> Result<Fresh> {
        Ok(self.fetch_dated(name, known).await?.0)
    }

    /// As [`fetch`](Self::fetch), with the time since it was written, by the clock of who answered.
    async fn fetch_dated(&self, name: &str, known: Option<&Version>) -> Result<(Fresh, Option<Duration>)> {
        let if_none_match = known.map(|version| version.0.clone());
        let options = GetOptions { if_none_match, ..GetOptions::default() };
        let result = match self.store.get_opts(&self.path(name), options).await {
            Ok(result) => result,
            Err(object_store::Error::NotModified { .. }) => return Ok((Fresh::Unchanged, None)),
            Err(object_store::Error::NotFound { .. }) => return Ok((Fresh::Absent, None)),
            Err(error) => return Err(classify(&error, Effect::Read)),
        };
        let now = result.extensions.get().map(|AnsweredAt(now)| *now);
        let age = now.map(|now| (now - result.meta.last_modified).to_std().unwrap_or_default());
        let version = version(result.meta.e_tag.clone())?;
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

    /// Writes under a condition. What S3 put off for another write is tried again: nothing was done.
    async fn upload(&self, name: &str, bytes: Bytes, mode: PutMode) -> Result<Put> {
        let mut put = Err(Error::new(ErrorKind::Unavailable, "other writes were in the way"));
        for again in 1..=TRIES {
            let options = PutOptions::from(mode.clone());
            put = match self.store.put_opts(&self.path(name), bytes.clone().into(), options).await {
                Ok(PutResult { e_tag, .. }) => version(e_tag).map(Put::Done),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                    Ok(Put::Refused)
                }
                Err(error) if matches!(failure(&error), Failure::Answered(409, _)) && again < TRIES => {
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(10..60) * u64::from(again))).await;
                    continue;
                }
                Err(error) => Err(classify(&error, Effect::Write)),
            };
            break;
        }
        put
    }

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
        let found = with_deadline(self.timeout, ErrorKind::Timeout, async {
            match self.store.head(&self.path(name)).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::NotFound { .. }) => Ok(false),
                Err(error) => Err(classify(&error, Effect::Read)),
            }
        });
        if found.await? {
            return Ok(false);
        }
        let mut upload = in_time(self.store.put_multipart(&self.path(name))).await?;
        let done = send_parts(upload.as_mut(), body, sent).await;
        if !matches!(done, Ok(true)) {
            // What was sent costs money until it is removed; the error is the caller's, not this one's.
            let _ = in_time(upload.abort()).await;
        }
        done
    }

    fn listed(&self, found: &ObjectMeta) -> Option<Listed> {
        let name = found.location.as_ref().strip_prefix(&self.prefix)?.strip_prefix('/')?.to_owned();
        let now = *self.time.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.map(|now| (now - found.last_modified).to_std().unwrap_or_default());
        (name != LEASE).then_some(Listed { name, length: found.size, age })
    }
}

async fn send_parts(
    upload: &mut dyn MultipartUpload,
    body: Body,
    sent: &(dyn Fn(u64) + Send + Sync),
) -> Result<bool> {
    let mut total = 0;
    {
        let parts = body.pieces(PIECE).map(|piece| {
            let part = piece.map(|piece| (u64::try_from(piece.len()), upload.put_part(piece.into())));
            async move {
                let (length, part) = part?;
                in_time(part).await?;
                Ok::<u64, Error>(length.unwrap_or_default())
            }
        });
        let mut parts = parts.buffered(AT_ONCE).boxed();
        while let Some(length) = parts.try_next().await? {
            total += length;
            sent(total);
        }
    }
    // The way of the requests adds the condition that there is no such object.
    let complete = async {
        match upload.complete().await {
            Ok(_) => Ok(true),
            Err(error) if matches!(failure(&error), Failure::Answered(412, _)) => Ok(false),
            Err(error) => Err(classify(&error, Effect::Write)),
        }
    };
    with_deadline(PIECE_TIMEOUT, ErrorKind::OutcomeUnknown, complete).await
}

async fn in_time<T>(work: impl Future<Output = object_store::Result<T>>) -> Result<T> {
    let work = async { work.await.map_err(|error| classify(&error, Effect::Write)) };
    with_deadline(PIECE_TIMEOUT, ErrorKind::OutcomeUnknown, work).await
}

#[async_trait]
impl Home for S3Home {
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
        let expected = UpdateVersion { e_tag: Some(expected.0.clone()), version: None };
        let replaced = self.upload(name, bytes, PutMode::Update(expected));
        self.writing("replace", replaced).await.map_err(|error| error.with_key(name))
    }

    async fn put(&self, name: &str, body: Body, sent: &(dyn Fn(u64) + Send + Sync)) -> Result<bool> {
        check_name(name)?;
        self.send(name, body, sent).await.map_err(|error| error.at("s3", "put").with_key(name))
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
        // S3 lists by whole folders here.
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
impl Dated for S3Home {
    async fn get_dated(&self, name: &str) -> Result<Option<(Object, Option<Duration>)>> {
        let fetched = self.reading("get", self.fetch_dated(name, None)).await;
        let (fresh, age) = fetched.map_err(|error| error.with_key(name))?;
        Ok(match fresh {
            Fresh::Changed(object) => Some((object, age)),
            Fresh::Unchanged | Fresh::Absent => None,
        })
    }
}

fn unusable() -> Error {
    Error::config("the settings for S3 cannot be used").with_hint("check the bucket and the AWS_ variables")
}

fn version(etag: Option<String>) -> Result<Version> {
    etag.map(Version).ok_or_else(|| Error::corrupt("the store answered without an etag"))
}
