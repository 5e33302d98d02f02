//! Azure Blob Storage.

mod credentials;
mod error;
mod settings;
mod shared_key;
mod transfer;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::http::{ClientOptions, Etag, RetryOptions, Transport, Url, headers::HeaderName};
use azure_core::{
    Uuid,
    time::{OffsetDateTime, parse_rfc7231},
};
use azure_storage_blob::{
    BlobClient, BlobContainerClient, BlobContainerClientOptions,
    models::{
        BlobClientAcquireLeaseOptions, BlobClientBreakLeaseOptions, BlobClientGetPropertiesResultHeaders,
        BlobClientUploadOptions, BlobContainerClientListBlobsOptions, BlobItem, LeaseState,
    },
};
use bytes::{Bytes, BytesMut};
use futures::{TryStreamExt, stream::BoxStream};
use storage_core::{DEFAULT_OPERATION_TIMEOUT, Error, ErrorKind, Result, engine::task, with_deadline};

pub use self::credentials::{AzureCredentials, AzureIdentity};
pub(super) use self::settings::settings;
use self::{
    error::{classify, is_absent, is_not_ours, is_refused, is_unchanged},
    shared_key::SharedKey,
};
use super::{
    Body, Claim, Fresh, HEAD, Held, Holder, Home, LEASE, Listed, Object, Put, Version, first_of,
    http::{Effect, check_endpoint, client, place},
    names::{check_name, check_prefix},
};

/// The content of a head that holds the lease before the first publication, and counts as absent: only a blob that is there
/// can be leased.
const RESERVED: &[u8] = b"reserved for the first publication";
/// What Azure grants.
const SHORTEST_LEASE: Duration = Duration::from_secs(15);
const LONGEST_LEASE: Duration = Duration::from_secs(60);
const DATE: HeaderName = HeaderName::from_static("date");

/// A home in a container of Azure Blob Storage, under a prefix of its own.
///
/// Versions are etags. The lease is Azure's own (15 to 60 seconds), on the blob `head`, so that the service itself
/// refuses a `head` from anybody else. Requests are not repeated here; what became of each is said by the error.
pub struct AzureHome {
    container: BlobContainerClient,
    prefix: String,
    timeout: Duration,
}

impl fmt::Debug for AzureHome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureHome").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl AzureHome {
    /// A home under `prefix` in the container at `container`, `https://account.blob.core.windows.net/container` for
    /// example. A URL without TLS is for this machine alone. Does no I/O.
    ///
    /// # Errors
    /// `Config` where the URL, the prefix or the credentials cannot be used; an identity needs an `https` URL.
    pub fn new(container: &str, prefix: &str, credentials: AzureCredentials) -> Result<Self> {
        check_name(prefix)?;
        check_endpoint("the container's URL", container, false)?;
        let timeout = DEFAULT_OPERATION_TIMEOUT;
        let mut url = Url::parse(container).map_err(|_| no_url())?;
        if url.host().is_none() || url.path().len() < 2 || url.query().is_some() {
            return Err(no_url());
        }
        let transport = Transport::new(Arc::new(client(timeout)?));
        let mut token = None;
        let mut signing: Vec<Arc<dyn azure_core::http::policies::Policy>> = Vec::new();
        match credentials {
            AzureCredentials::SharedKey { account, key } => {
                shared_key::check(&key)?;
                signing.push(Arc::new(SharedKey::new(account, key)));
            }
            AzureCredentials::Sas(signature) => url.set_query(Some(signature.trim_start_matches('?'))),
            AzureCredentials::Identity(identity) => {
                token = Some(credentials::token_credential(identity, &transport)?);
            }
        }
        let client_options = ClientOptions {
            per_try_policies: signing,
            // A write that is sent again would report that its own first try is in its way.
            retry: RetryOptions::none(),
            transport: Some(transport),
            ..ClientOptions::default()
        };
        let options = BlobContainerClientOptions { client_options, ..BlobContainerClientOptions::default() };
        let container = BlobContainerClient::new(url, token, Some(options)).map_err(|_| no_url())?;
        Ok(Self { container, prefix: format!("{prefix}/"), timeout })
    }

    /// Bounds each request by `timeout` instead of 5 seconds; pieces of large bodies have a minute each.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Makes the container, unless it is there: for a first deployment, and tests.
    ///
    /// # Errors
    /// What the service answers, `Unauthorized` for example.
    pub async fn create_container(&self) -> Result<()> {
        let created = async {
            match self.container.create(None).await {
                Err(error)
                    if error::answer(&error).is_none_or(|(_, code)| code != "ContainerAlreadyExists") =>
                {
                    Err(classify(&error, Effect::Write))
                }
                _ => Ok(()),
            }
        };
        self.write("create_container", created).await
    }

    fn blob(&self, name: &str) -> BlobClient {
        self.container.blob_client(&format!("{}{name}", self.prefix))
    }

    fn head(&self) -> BlobClient {
        self.blob(HEAD)
    }

    async fn read<T>(&self, operation: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        with_deadline(self.timeout, ErrorKind::Timeout, work)
            .await
            .map_err(|error| error.at("azure", operation))
    }

    async fn write<T>(&self, operation: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let done = with_deadline(self.timeout, ErrorKind::OutcomeUnknown, work).await;
        done.map_err(|error| error.at("azure", operation))
    }

    /// Writes a small blob under conditions.
    async fn upload(&self, name: &str, bytes: Bytes, conditions: BlobClientUploadOptions<'_>) -> Result<Put> {
        let options =
            BlobClientUploadOptions { partition_size: transfer::one_request().partition_size, ..conditions };
        // Boxed: the SDK's future has 16 KiB.
        match Box::pin(self.blob(name).upload(bytes.into(), Some(options))).await {
            Ok(result) => version(result.etag).map(Put::Done),
            Err(error) if is_refused(&error) => Ok(Put::Refused),
            Err(error) => Err(classify(&error, Effect::Write)),
        }
    }

    /// A blob of moderate size, unless it is still `known`.
    async fn fetch(&self, name: &str, known: Option<&Version>) -> Result<Fresh> {
        let result = match self.blob(name).download(Some(transfer::download(known, 1))).await {
            Ok(result) => result,
            Err(error) if is_unchanged(&error) => return Ok(Fresh::Unchanged),
            Err(error) if is_absent(&error) => return Ok(Fresh::Absent),
            Err(error) => return Err(classify(&error, Effect::Read)),
        };
        let version = version(result.properties.etag.clone())?;
        let mut bytes =
            BytesMut::with_capacity(usize::try_from(transfer::length(&result)).unwrap_or_default());
        let mut pieces = transfer::content(result);
        while let Some(piece) = pieces.try_next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(Fresh::Changed(Object { bytes: bytes.freeze(), version }))
    }

    /// As [`fetch`](Self::fetch); a head that only reserves its place is absent.
    async fn fetch_published(&self, name: &str, known: Option<&Version>) -> Result<Fresh> {
        Ok(match self.fetch(name, known).await? {
            Fresh::Changed(object) if is_reserved(name, &object) => Fresh::Absent,
            found => found,
        })
    }

    /// Writes a head where there is none but a reserved one.
    async fn create_head(&self, bytes: Bytes, held: Option<&Held>) -> Result<Put> {
        match self.fetch(HEAD, None).await? {
            Fresh::Changed(object) if is_reserved(HEAD, &object) => {
                self.upload(HEAD, bytes, when_still(&object.version, held)).await
            }
            // The lease was on the head: it went with it.
            Fresh::Absent if held.is_some() => Ok(Put::Refused),
            Fresh::Absent => self.upload(HEAD, bytes, when_absent()).await,
            Fresh::Changed(_) | Fresh::Unchanged => Ok(Put::Refused),
        }
    }

    /// How a listing shows a blob.
    fn listed(&self, item: BlobItem, now: Option<OffsetDateTime>) -> Option<Listed> {
        let name = item.name?.strip_prefix(&self.prefix)?.to_owned();
        let properties = item.properties?;
        let length = properties.content_length?;
        let age = now
            .zip(properties.last_modified)
            .map(|(now, written)| (now - written).try_into().unwrap_or_default());
        let is_reserved = name == HEAD && usize::try_from(length) == Ok(RESERVED.len());
        (!is_reserved && name != LEASE).then_some(Listed { name, length, age })
    }

    async fn lease_head(&self, proposed: &str, term: Duration) -> Result<Option<bool>> {
        let options = BlobClientAcquireLeaseOptions {
            proposed_lease_id: Some(proposed.to_owned()),
            ..BlobClientAcquireLeaseOptions::default()
        };
        let seconds = i32::try_from(term.as_secs()).unwrap_or_default();
        match self.head().acquire_lease(seconds, Some(options)).await {
            Ok(_) => Ok(Some(true)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) if is_not_ours(&error) => Ok(Some(false)),
            Err(error) => Err(classify(&error, Effect::Write)),
        }
    }

    /// Makes a lease ours that is known under an earlier id, and begins its term anew. Whether it is ours now.
    async fn take_back(&self, former: String, proposed: &str) -> Result<bool> {
        let ours = |done: azure_core::Result<()>| match done {
            Ok(()) => Ok(true),
            Err(error) if is_not_ours(&error) || is_absent(&error) => Ok(false),
            Err(error) => Err(classify(&error, Effect::Write)),
        };
        let changed = self.head().change_lease(former, proposed.to_owned(), None).await.map(drop);
        if !ours(changed)? {
            return Ok(false);
        }
        ours(self.head().renew_lease(proposed.to_owned(), None).await.map(drop))
    }

    /// Notes who holds the lease, for people, while the holder goes on.
    fn note_owner(&self, owner: &str) {
        let (blob, owner) = (self.blob(LEASE), Bytes::copy_from_slice(owner.as_bytes()));
        task::spawn_in_background(async move {
            if let Err(error) = Box::pin(blob.upload(owner.into(), Some(transfer::one_request()))).await {
                tracing::debug!(%error, "who holds the lease was not noted");
            }
        });
    }

    /// What the holder of the lease has noted of itself.
    async fn noted_owner(&self) -> Result<Holder> {
        let result = match self.blob(LEASE).download(Some(transfer::download(None, 1))).await {
            Ok(result) => result,
            Err(error) if is_absent(&error) => return Ok(Holder::default()),
            Err(error) => return Err(classify(&error, Effect::Read)),
        };
        let now = result.headers.get_optional_str(&DATE).and_then(|date| parse_rfc7231(date).ok());
        let age = now.zip(result.properties.last_modified).map(|(now, at)| (now - at).try_into());
        let owner: Vec<Bytes> = transfer::content(result).try_collect().await?;
        let owner = String::from_utf8_lossy(&owner.concat()).into_owned();
        Ok(Holder { owner: Some(owner), age: age.map(Result::unwrap_or_default) })
    }

    /// Leases the head; where there is none, reserves its place first. Whether it is ours now.
    async fn take(&self, proposed: &str, term: Duration) -> Result<bool> {
        if let Some(ours) = self.lease_head(proposed, term).await? {
            return Ok(ours);
        }
        self.upload(HEAD, Bytes::from_static(RESERVED), when_absent()).await?;
        Ok(self.lease_head(proposed, term).await? == Some(true))
    }
}

#[async_trait]
impl Home for AzureHome {
    fn name(&self) -> String {
        format!("azblob {}/{}", place(self.container.url()), self.prefix.trim_end_matches('/'))
    }

    async fn get(&self, name: &str) -> Result<Option<Object>> {
        check_name(name)?;
        match self
            .read("get", self.fetch_published(name, None))
            .await
            .map_err(|error| error.with_key(name))?
        {
            Fresh::Changed(object) => Ok(Some(object)),
            Fresh::Unchanged | Fresh::Absent => Ok(None),
        }
    }

    async fn get_if_changed(&self, name: &str, known: &Version) -> Result<Fresh> {
        check_name(name)?;
        self.read("get", self.fetch_published(name, Some(known))).await.map_err(|error| error.with_key(name))
    }

    async fn read(&self, name: &str, from: u64) -> Result<Option<(u64, BoxStream<'static, Result<Bytes>>)>> {
        check_name(name)?;
        let opened = async {
            match self.blob(name).download(Some(transfer::download_from(from))).await {
                Ok(result) => Ok(Some((transfer::length(&result), transfer::content(result)))),
                Err(error) if is_absent(&error) => Ok(None),
                Err(error) => Err(classify(&error, Effect::Read)),
            }
        };
        self.read("read", opened).await.map_err(|error| error.with_key(name))
    }

    async fn read_range(&self, name: &str, from: u64, length: u64) -> Result<Option<(u64, Bytes)>> {
        check_name(name)?;
        let opened = async {
            match self.blob(name).download(Some(transfer::download_range(from, length))).await {
                Ok(result) => Ok(Some((transfer::length(&result), transfer::content(result)))),
                Err(error) if is_absent(&error) => Ok(None),
                Err(error) => Err(classify(&error, Effect::Read)),
            }
        };
        let opened = self.read("read", opened).await.map_err(|error| error.with_key(name))?;
        first_of(opened, from, length).await
    }

    async fn create(&self, name: &str, bytes: Bytes, held: Option<&Held>) -> Result<Put> {
        check_name(name)?;
        let created = async {
            match name {
                HEAD => self.create_head(bytes, held).await,
                _ => self.upload(name, bytes, when_absent()).await,
            }
        };
        self.write("create", created).await.map_err(|error| error.with_key(name))
    }

    async fn replace(
        &self,
        name: &str,
        bytes: Bytes,
        expected: &Version,
        held: Option<&Held>,
    ) -> Result<Put> {
        check_name(name)?;
        // The lease is on the head; of another blob it would be refused.
        let held = held.filter(|_| name == HEAD);
        let replaced = self.upload(name, bytes, when_still(expected, held));
        self.write("replace", replaced).await.map_err(|error| error.with_key(name))
    }

    async fn put(&self, name: &str, body: Body, sent: &(dyn Fn(u64) + Send + Sync)) -> Result<bool> {
        check_name(name)?;
        let put = transfer::upload(&self.blob(name), body, sent).await;
        put.map_err(|error| error.at("azure", "put").with_key(name))
    }

    async fn delete(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let deleted = async {
            match self.blob(name).delete(None).await {
                Err(error) if !is_absent(&error) => Err(classify(&error, Effect::Write)),
                _ => Ok(()),
            }
        };
        self.write("delete", deleted).await.map_err(|error| error.with_key(name))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        check_prefix(prefix)?;
        let options = BlobContainerClientListBlobsOptions {
            prefix: Some(format!("{}{prefix}", self.prefix)),
            ..BlobContainerClientListBlobsOptions::default()
        };
        let pages =
            self.container.list_blobs(Some(options)).map_err(|error| classify(&error, Effect::Read))?;
        let mut pages = pages.into_pages();
        let mut listed = Vec::new();
        loop {
            let page = async { pages.try_next().await.map_err(|error| classify(&error, Effect::Read)) };
            let Some(page) = self.read("list", page).await? else { return Ok(listed) };
            let now = page.headers().get_optional_str(&DATE).and_then(|date| parse_rfc7231(date).ok());
            let page = page.into_model().map_err(|error| classify(&error, Effect::Read))?;
            listed.extend(page.blob_items.into_iter().filter_map(|item| self.listed(item, now)));
        }
    }

    async fn acquire(&self, claim: &Claim<'_>) -> Result<Option<Held>> {
        let term = Duration::from_secs(claim.term.clamp(SHORTEST_LEASE, LONGEST_LEASE).as_secs());
        let proof = lease_id(claim.proof)?;
        let mut taken = self.write("acquire", self.take(&proof, term)).await;
        if taken.as_ref().is_err_and(|error| error.kind() == ErrorKind::OutcomeUnknown) {
            // Leasing again under the same id succeeds where it is ours already.
            taken = self.write("acquire", self.take(&proof, term)).await;
        }
        let mut taken = taken?;
        for former in claim.former {
            if taken {
                break;
            }
            taken = self.write("acquire", self.take_back(lease_id(former)?, &proof)).await?;
        }
        if taken {
            self.note_owner(claim.owner);
        }
        Ok(taken.then_some(Held { proof, term }))
    }

    async fn renew(&self, held: &Held) -> Result<Option<Held>> {
        let renewed = async {
            match self.head().renew_lease(held.proof.clone(), None).await {
                Ok(_) => Ok(Some(held.clone())),
                Err(error) if is_not_ours(&error) => Ok(None),
                Err(error) => Err(classify(&error, Effect::Write)),
            }
        };
        self.write("renew", renewed).await
    }

    async fn release(&self, held: &Held) -> Result<()> {
        let released = async {
            match self.head().release_lease(held.proof.clone(), None).await {
                Err(error) if !is_not_ours(&error) => Err(classify(&error, Effect::Write)),
                _ => Ok(()),
            }
        };
        self.write("release", released).await
    }

    async fn holder(&self) -> Result<Option<Holder>> {
        let asked = async {
            let properties = match self.head().get_properties(None).await {
                Ok(properties) => properties,
                Err(error) if is_absent(&error) => return Ok(None),
                Err(error) => return Err(classify(&error, Effect::Read)),
            };
            match properties.lease_state() {
                Ok(Some(LeaseState::Leased)) => self.noted_owner().await.map(Some),
                _ => Ok(None),
            }
        };
        self.read("holder", asked).await
    }

    async fn unlock(&self) -> Result<()> {
        let at_once =
            BlobClientBreakLeaseOptions { break_period: Some(0), ..BlobClientBreakLeaseOptions::default() };
        let broken = async {
            match self.head().break_lease(Some(at_once)).await {
                Err(error) if !is_not_ours(&error) && !is_absent(&error) => {
                    Err(classify(&error, Effect::Write))
                }
                _ => Ok(()),
            }
        };
        self.write("unlock", broken).await
    }
}

/// As Azure writes ids.
fn lease_id(proof: &str) -> Result<String> {
    let id = Uuid::parse_str(proof)
        .map_err(|_| Error::invalid_input("the proof of a lease has 32 hexadecimal digits"));
    id.map(|id| id.to_string())
}

fn no_url() -> Error {
    Error::config("the container's URL cannot be used").with_hint(
        "https://account.blob.core.windows.net/container, without a query; an identity needs https",
    )
}

fn version(etag: Option<Etag>) -> Result<Version> {
    match etag {
        Some(etag) => Ok(Version(String::from(etag))),
        None => Err(Error::corrupt("the store answered without an etag")),
    }
}

fn when_absent() -> BlobClientUploadOptions<'static> {
    BlobClientUploadOptions { if_none_match: Some(Etag::from("*")), ..BlobClientUploadOptions::default() }
}

fn when_still(version: &Version, held: Option<&Held>) -> BlobClientUploadOptions<'static> {
    BlobClientUploadOptions {
        if_match: Some(Etag::from(version.0.as_str())),
        lease_id: held.map(|held| held.proof.clone()),
        ..BlobClientUploadOptions::default()
    }
}

fn is_reserved(name: &str, object: &Object) -> bool {
    name == HEAD && object.bytes == RESERVED
}
