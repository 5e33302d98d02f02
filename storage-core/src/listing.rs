//! Listings in pages, and the stream that reads one page after the other.

use std::{
    collections::HashSet,
    fmt,
    future::Future,
    hash::{BuildHasher, RandomState},
    pin::Pin,
    str::FromStr,
};

use futures::{
    FutureExt, StreamExt, TryStreamExt,
    future::{BoxFuture, MaybeDone, maybe_done},
    poll,
    stream::{self, BoxStream},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, ErrorKind, Result};

/// How many entries a stream asks for at first, and at most: many a caller wants no more than the first few.
const FIRST_PAGE: usize = 256;
const MAX_PAGE: usize = 4_096;

/// Where a listing goes on after a page: a text that may be stored and brought back later, to another process too.
///
/// It is meant for the same listing on the same store; another one refuses it as `InvalidInput`, or begins at its own
/// nearest place. What it promises is said at [`scan_page`](crate::StorageBackend::scan_page).
///
/// ```
/// use storage_core::{Json, MemoryBackend, Scan, StorageBackend};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), storage_core::Error> {
/// let storage = MemoryBackend::new();
/// storage.connect().await?;
/// for key in ["deal:1", "deal:2", "deal:3"] {
///     storage.set(key, Json::from(1), None).await?;
/// }
/// let scan = Scan::keys("deal:*")?;
/// let first = storage.scan_page(&scan, None, 2).await?;
/// let cursor = first.next.map(|cursor| cursor.to_string());
/// assert_eq!(first.items.len(), 2);
///
/// let cursor = cursor.map(|text| text.parse()).transpose()?;
/// let second = storage.scan_page(&scan, cursor.as_ref(), 2).await?;
/// let keys: Vec<String> = second.items.into_iter().map(|record| Ok(record?.key)).collect::<Result<_, storage_core::Error>>()?;
/// assert_eq!(keys, ["deal:3"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cursor(String);

impl Cursor {
    /// A cursor that says where a backend goes on, in the backend's own terms.
    ///
    /// # Errors
    /// `InvalidInput` where `place` does not serialize.
    pub fn at<P: Serialize + ?Sized>(place: &P) -> Result<Self> {
        serde_json::to_string(place).map(Self).map_err(|_| wrong_cursor())
    }

    /// What [`at`](Self::at) was given.
    ///
    /// # Errors
    /// `InvalidInput` where the text is of another kind of listing.
    pub fn place<P: DeserializeOwned>(&self) -> Result<P> {
        serde_json::from_str(&self.0).map_err(|_| wrong_cursor())
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cursor").field(&self.0).finish()
    }
}

impl FromStr for Cursor {
    type Err = Error;

    /// Takes any text: the listing that it is brought to tells whether it is one of its own.
    fn from_str(text: &str) -> Result<Self> {
        Ok(Self(text.to_owned()))
    }
}

fn wrong_cursor() -> Error {
    Error::new(ErrorKind::InvalidInput, "this is no cursor of this listing")
        .with_hint("bring back what a page of the same listing gave, unchanged")
}

/// Some of what a listing finds.
#[derive(Debug)]
#[non_exhaustive]
pub struct ScanPage<T> {
    /// What was found. A `Corrupt` error names its key and is an item like the others.
    pub items: Vec<Result<T>>,
    /// Where to go on; `None` at the end. Pages before it may have few items, or none.
    pub next: Option<Cursor>,
    /// Whether an item may come again on a later page, as Redis' SCAN has it.
    pub may_repeat: bool,
}

impl<T> ScanPage<T> {
    /// A page whose items come on no other.
    #[must_use]
    pub fn new(items: Vec<Result<T>>, next: Option<Cursor>) -> Self {
        Self { items, next, may_repeat: false }
    }

    /// The same page, with the place named in the errors among its items.
    #[must_use]
    pub fn at(mut self, backend: &'static str, operation: &'static str) -> Self {
        let named = |item: Result<T>| item.map_err(|error| error.at(backend, operation));
        self.items = self.items.into_iter().map(named).collect();
        self
    }

    /// The same page, where items may come again.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        self.may_repeat = true;
        self
    }
}

/// Checks the limit of a page.
///
/// # Errors
/// `InvalidInput` for zero.
pub fn check_page_limit(limit: usize) -> Result<()> {
    match limit {
        0 => Err(Error::invalid_input("a page needs a limit of 1 or more")),
        _ => Ok(()),
    }
}

/// A page that is being read.
type Reading<'a, T> = Pin<Box<MaybeDone<BoxFuture<'a, Result<ScanPage<T>>>>>>;

/// What a stream does next.
enum Next<'a, T> {
    Ask(Option<Cursor>),
    /// Begun already: a backend's work runs by itself once it was polled.
    Reading(Cursor, Reading<'a, T>),
    End,
}

/// All items of a listing, each once. While the caller consumes one page the next is read.
pub(crate) fn stream<'a, T, P, F>(page: P, key: fn(&T) -> &str) -> BoxStream<'a, Result<T>>
where
    T: Send + 'a,
    P: Fn(Option<Cursor>, usize) -> F + Send + 'a,
    F: Future<Output = Result<ScanPage<T>>> + Send + 'a,
{
    let start = (Next::Ask(None), FIRST_PAGE, Seen::default(), page);
    let pages = stream::try_unfold(start, move |(next, limit, mut seen, page)| async move {
        let mut read = match next {
            Next::Ask(cursor) => page(cursor, limit).await?,
            Next::Reading(cursor, mut reading) => {
                reading.as_mut().await;
                match reading.as_mut().take_output() {
                    Some(Ok(read)) => read,
                    // Its deadline began when it was read ahead, and the caller may have paused, or disconnected and
                    // connected, since then.
                    _ => page(Some(cursor), limit).await?,
                }
            }
            Next::End => return Ok(None),
        };
        if read.may_repeat {
            read.items.retain(|item| match item {
                Ok(item) => seen.is_new(key(item)),
                Err(error) => error.key().is_none_or(|key| seen.is_new(key)),
            });
        }
        let limit = limit.saturating_mul(4).min(MAX_PAGE);
        let next = match read.next.take() {
            None => Next::End,
            Some(cursor) => {
                let mut reading = Box::pin(maybe_done(page(Some(cursor.clone()), limit).boxed()));
                let _ = poll!(reading.as_mut());
                Next::Reading(cursor, reading)
            }
        };
        Ok::<_, Error>(Some((stream::iter(read.items), (next, limit, seen, page))))
    });
    pages.try_flatten().boxed()
}

/// The keys that have come already.
///
/// Of each key it keeps 128 bits of hash, about 36 bytes with the table's free places, whatever the key's length. In
/// parts, so that never more than one part is copied when it grows.
pub(crate) struct Seen {
    parts: Vec<HashSet<u128>>,
    hashers: [RandomState; 2],
}

impl Default for Seen {
    fn default() -> Self {
        Self { parts: vec![HashSet::new(); 64], hashers: [RandomState::new(), RandomState::new()] }
    }
}

impl Seen {
    pub(crate) fn is_new(&mut self, key: &str) -> bool {
        let [high, low] = self.hashers.each_ref().map(|hasher| hasher.hash_one(key));
        let parts = self.parts.len().max(1) as u64;
        let part = usize::try_from(low % parts).ok().and_then(|index| self.parts.get_mut(index));
        part.is_some_and(|part| part.insert(u128::from(high) << 64 | u128::from(low)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_goes_through_text_and_is_refused_elsewhere() {
        let cursor = Cursor::at("deal:\u{1f}é").unwrap();
        let back: Cursor = cursor.to_string().parse().unwrap();
        assert_eq!(back.place::<String>().unwrap(), "deal:\u{1f}é");
        let refused = back.place::<u64>().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_page_that_failed_while_it_was_read_ahead_is_asked_for_again() {
        let calls = std::sync::atomic::AtomicUsize::new(0);
        let pages = |cursor: Option<Cursor>, _| {
            let call = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async move {
                let place: u64 = cursor.map_or(Ok(0), |cursor| cursor.place())?;
                if call == 1 || call > 3 {
                    return Err(Error::new(ErrorKind::Timeout, "late"));
                }
                Ok(ScanPage::new(vec![Ok(place.to_string())], Some(Cursor::at(&(place + 1))?)))
            }
        };
        let mut items = stream(pages, |item: &String| item);
        let next = || futures::executor::block_on(items.next()).unwrap();
        let found: Vec<_> = std::iter::repeat_with(next).take(4).collect();
        assert_eq!(found[0].as_ref().unwrap(), "0");
        assert_eq!(found[1].as_ref().unwrap(), "1");
        assert_eq!(found[2].as_ref().unwrap(), "2");
        assert_eq!(
            found[3].as_ref().unwrap_err().kind(),
            ErrorKind::Timeout,
            "twice in a row ends the stream"
        );
    }

    #[test]
    fn what_comes_again_is_streamed_once() {
        let pages = |cursor: Option<Cursor>, _| async move {
            let place: u64 = cursor.map_or(Ok(0), |cursor| cursor.place())?;
            let items = vec![Ok(place.to_string()), Ok("again".to_owned())];
            let next = (place < 3).then(|| Cursor::at(&(place + 1))).transpose()?;
            Ok(ScanPage::new(items, next).repeatable())
        };
        let items = stream(pages, |item: &String| item).try_collect::<Vec<_>>();
        let items = futures::executor::block_on(items).unwrap();
        assert_eq!(items, ["0", "again", "1", "2", "3"]);
    }
}
