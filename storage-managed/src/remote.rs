//! The home, asked again where it failed for now, and what travelled.

use std::{
    fs::File,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::TryStreamExt;

use crate::{
    cache::Paths,
    content::Fetched,
    download::Downloads,
    error::{Error, Result},
    format::{HEAD, Head, Index, IndexRef, Large, LargeRef, Preamble, Segment, SegmentHeader, index_name},
    home::{Body, ENCRYPTED, Fresh, Held, Home, Listed, Object, Put, Version},
    options::RetryPolicy,
    system::Positioned,
    telemetry::Telemetry,
};

/// What stands before the pages is not larger: of a database of 64 GiB it is not, and of what is damaged anything may be said.
pub(crate) const MAX_PREAMBLE: usize = 80 * 1024 * 1024;

/// A head, and the version to replace.
pub(crate) type Known = (Head, Version);

/// Whether the head has moved.
#[derive(Debug)]
pub(crate) enum Moved {
    No,
    To(Box<Known>),
    Gone,
}

#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) home: Arc<dyn Home>,
    pub(crate) retry: RetryPolicy,
    pub(crate) downloads: Downloads,
    pub(crate) telemetry: Arc<Telemetry>,
    /// The index that was read last.
    index: Mutex<Option<(IndexRef, Arc<Index>)>>,
}

/// The head that an object is.
pub(crate) fn known(telemetry: &Telemetry, object: Object) -> Result<Known> {
    telemetry.count_received(object.bytes.len());
    if object.bytes.starts_with(ENCRYPTED) {
        return Err(Error::Settings(without_keys()));
    }
    Ok((Head::decode(&object.bytes)?, object.version))
}

impl Remote {
    pub(crate) fn new(home: Arc<dyn Home>, retry: RetryPolicy, paths: &Paths) -> Self {
        let telemetry = Arc::new(Telemetry::of(home.name()));
        let downloads = Downloads::new(Arc::clone(&home), retry, paths.parts(), Arc::clone(&telemetry));
        Self { home, retry, downloads, telemetry, index: Mutex::default() }
    }

    /// Does something that may be done twice, as the retry policy says.
    pub(crate) async fn run<T, F>(&self, mut work: impl FnMut() -> F) -> storage_core::Result<T>
    where
        F: Future<Output = storage_core::Result<T>>,
    {
        let mut tried = 0_u64;
        let counted = || {
            tried += 1;
            work()
        };
        let done = self.retry.run(counted).await;
        self.telemetry.retries.increment(tried.saturating_sub(1));
        done
    }

    pub(crate) async fn head(&self) -> Result<Option<Known>> {
        let found = self.run(|| self.home.get(HEAD)).await?;
        found.map(|object| known(&self.telemetry, object)).transpose()
    }

    pub(crate) async fn head_if_changed(&self, version: &Version) -> Result<Moved> {
        Ok(match self.run(|| self.home.get_if_changed(HEAD, version)).await? {
            Fresh::Unchanged => Moved::No,
            Fresh::Changed(object) => Moved::To(Box::new(known(&self.telemetry, object)?)),
            Fresh::Absent => Moved::Gone,
        })
    }

    /// The head that has taken the place of one that names what is missing: that was folded and cleaned up since, or is lost.
    pub(crate) async fn head_instead_of(&self, known: &Known, missing: &str) -> Result<Known> {
        match self.head().await? {
            Some(found) if found.1 != known.1 => Ok(found),
            Some(_) => Err(Error::corrupt(missing, "the head names it and it is gone")),
            None => Err(Error::Recreated { known: known.0.incarnation.to_string(), found: None }),
        }
    }

    /// Replaces the head, once: whether it may be tried again the caller finds out by reading it.
    pub(crate) async fn move_head(
        &self,
        known: Option<&Known>,
        next: &Head,
        held: &Held,
    ) -> storage_core::Result<Put> {
        let bytes = Bytes::from(next.encode());
        self.telemetry.count_sent(bytes.len() as u64);
        match known {
            Some((_, version)) => self.home.replace(HEAD, bytes, version, Some(held)).await,
            None => self.home.create(HEAD, bytes, Some(held)).await,
        }
    }

    /// Writes an object unless there is one; may be done again. Says whether what is there now is this content.
    pub(crate) async fn put(&self, name: &str, body: &Body) -> storage_core::Result<bool> {
        let length = body.length();
        let put = self.run(|| async {
            self.telemetry.count_sent(length);
            self.home.put(name, body.clone(), &|_| {}).await
        });
        if put.await? {
            return Ok(true);
        }
        // Its own first try, of which the answer was lost, or something else.
        self.run(|| self.has(name, body)).await
    }

    /// As [`put`](Self::put); refused where something else is there.
    pub(crate) async fn put_new(&self, name: &str, body: &Body) -> Result<()> {
        if self.put(name, body).await? {
            return Ok(());
        }
        Err(Error::corrupt(name, "something else is there than what was to be published"))
    }

    /// The page size of a whole database, as SQLite has it at its beginning.
    pub(crate) async fn page_size(&self, name: &str) -> Result<u32> {
        let begun = self.run(|| async {
            let Some((_, mut pieces)) = self.home.read(name, 0).await? else { return Ok(Vec::new()) };
            let mut bytes = Vec::new();
            while bytes.len() < 18
                && let Some(piece) = pieces.try_next().await?
            {
                bytes.extend_from_slice(&piece);
            }
            Ok(bytes)
        });
        let begun = begun.await?;
        let size = begun.get(16..18).and_then(<[u8]>::first_chunk).map(|size| u16::from_be_bytes(*size));
        match size {
            Some(1) => Ok(65_536),
            Some(size) if size >= 512 && size.is_power_of_two() => Ok(u32::from(size)),
            _ if begun.starts_with(ENCRYPTED) => {
                Err(Error::corrupt(name, "it is encrypted, and no key is set"))
            }
            _ => Err(Error::corrupt(name, "it does not begin as a database does")),
        }
    }

    /// The objects whose names start with `prefix`.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        Ok(self.run(|| self.home.list(prefix)).await?)
    }

    /// Whether an object has this content.
    async fn has(&self, name: &str, body: &Body) -> storage_core::Result<bool> {
        let Some((length, mut pieces)) = self.home.read(name, 0).await? else { return Ok(false) };
        let mut content = Content::of(body)?;
        let (mut same, mut compared) = (length == content.length, 0);
        while same && let Some(piece) = pieces.try_next().await? {
            self.telemetry.count_received(piece.len());
            same = content.begins_with(compared, &piece)?;
            compared += piece.len() as u64;
        }
        Ok(same && compared == content.length)
    }

    /// The index that a head names, if it names one, or what is not there.
    pub(crate) async fn index(&self, head: &Head) -> Result<Fetched<Option<Arc<Index>>>> {
        let Some(named) = head.index else { return Ok(Ok(None)) };
        if let Some(index) = self.known_index(head) {
            return Ok(Ok(Some(index)));
        }
        let name = index_name(named.generation, named.id);
        let Some(bytes) = self.whole(&name).await? else { return Ok(Err(name)) };
        let index = Arc::new(Index::decode(&bytes, &named, head.incarnation)?);
        self.remember(named, &index);
        Ok(Ok(Some(index)))
    }

    /// How large segments begin; nothing where that is not there.
    pub(crate) async fn large(&self, named: &LargeRef) -> Result<Large> {
        match self.whole(&named.name()).await? {
            Some(bytes) => Large::decode(&bytes, named),
            None => Ok(Large::default()),
        }
    }

    /// An object that is small enough for memory, or `None` where there is none.
    async fn whole(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(content) = self.downloads.fetch(name).await? else { return Ok(None) };
        let read = content.length().and_then(|length| content.bytes(0..length));
        read.map(Some).map_err(Error::io("read what was fetched of", name))
    }

    /// The index that a head names, where that was read or written last.
    pub(crate) fn known_index(&self, head: &Head) -> Option<Arc<Index>> {
        let known = self.index.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known
            .filter(|(known, _)| head.index.is_some_and(|named| named.id == known.id))
            .map(|(_, index)| index)
    }

    /// Keeps an index that was written, too.
    pub(crate) fn remember(&self, named: IndexRef, index: &Arc<Index>) {
        *self.index.lock().unwrap_or_else(PoisonError::into_inner) = Some((named, Arc::clone(index)));
    }

    /// What stands before the pages of a segment, or `None` where there is none. Of one that can be checked without its pages
    /// those do not travel.
    pub(crate) async fn preamble(&self, name: &str) -> Result<Option<(SegmentHeader, Vec<u32>)>> {
        let begun = self.run(|| self.begun(name)).await?;
        match begun {
            None => Ok(None),
            Some(bytes) => match Preamble::parse(name, &bytes)? {
                Some(preamble) if preamble.is_checked() => Ok(Some((preamble.header, preamble.numbers))),
                _ => Ok(self.segment(name).await?.map(|segment| (segment.header, segment.numbers))),
            },
        }
    }

    /// The beginning of a segment, as far as its pages at least.
    async fn begun(&self, name: &str) -> storage_core::Result<Option<Vec<u8>>> {
        let Some((_, mut pieces)) = self.home.read(name, 0).await? else { return Ok(None) };
        let (mut bytes, mut look) = (Vec::new(), 0);
        while let Some(piece) = pieces.try_next().await? {
            self.telemetry.count_received(piece.len());
            bytes.extend_from_slice(&piece);
            if bytes.len() > MAX_PREAMBLE {
                break;
            }
            // Each look reads all that has arrived.
            if bytes.len() >= look {
                match Preamble::parse(name, &bytes) {
                    Ok(None) => look = bytes.len() * 2,
                    _ => break,
                }
            }
        }
        Ok(Some(bytes))
    }

    /// A segment, or `None` where there is none.
    pub(crate) async fn segment(&self, name: &str) -> Result<Option<Segment>> {
        let Some(content) = self.downloads.fetch(name).await? else { return Ok(None) };
        let name = name.to_owned();
        let decoded = tokio::task::spawn_blocking(move || Segment::decode(&name, content));
        decoded.await.map_err(|_| Error::Panicked)?.map(Some)
    }
}

/// What a body holds, to be compared with what is in the home.
struct Content<'a> {
    length: u64,
    source: Source<'a>,
}

enum Source<'a> {
    Bytes(&'a [u8]),
    File(File),
}

impl<'a> Content<'a> {
    fn of(body: &'a Body) -> storage_core::Result<Self> {
        Ok(match body {
            Body::Bytes(bytes) => Self { length: bytes.len() as u64, source: Source::Bytes(bytes) },
            Body::File { path, length } => {
                let file = File::open(path).map_err(|error| unreadable(&error))?;
                Self { length: *length, source: Source::File(file) }
            }
        })
    }

    /// Whether a piece is what stands at this position.
    fn begins_with(&mut self, at: u64, piece: &[u8]) -> storage_core::Result<bool> {
        match &self.source {
            Source::Bytes(bytes) => {
                let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..));
                Ok(rest.is_some_and(|rest| rest.starts_with(piece)))
            }
            Source::File(file) => {
                let mut ours = vec![0; piece.len()];
                file.read_exact_at(&mut ours, at).map_err(|error| unreadable(&error))?;
                Ok(ours == piece)
            }
        }
    }
}

/// The head of an encrypted home is seen as it is stored.
pub(crate) fn without_keys() -> storage_core::Error {
    let hint = "set STORAGE_MANAGED_KEYS or STORAGE_MANAGED_KEY_FILE, in a build with the feature `managed-encryption`; \
                a program that opens it by itself wraps it in an `EncryptedHome`";
    storage_core::Error::config("the home is encrypted, and was opened without keys").with_hint(hint)
}

fn unreadable(error: &std::io::Error) -> storage_core::Error {
    storage_core::Error::new(
        storage_core::ErrorKind::Unavailable,
        format!("the file to compare cannot be read: {error}"),
    )
}
