//! What is too large for one request: sent in parts, and made an object of only where there is none.

use futures::{StreamExt, TryStreamExt};
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, path::Path};
use storage_core::{Error, ErrorKind, Result, with_deadline};

use super::service::{classify, failure};
use crate::home::{
    Body,
    http::{AT_ONCE, Effect, Failure, PIECE, PIECE_TIMEOUT},
};

/// What is told how many bytes have travelled.
type Sent<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// Sends `body` to `path`. The way of the requests adds the condition that there is no such object, where the store takes it.
pub(super) async fn send(store: &dyn ObjectStore, path: &Path, body: Body, sent: Sent<'_>) -> Result<bool> {
    let mut upload = in_time(store.put_multipart(path)).await?;
    let done = send_parts(upload.as_mut(), body, sent).await;
    if !matches!(done, Ok(true)) {
        // What was sent costs money until it is removed; the error is the caller's, not this one's.
        let _ = in_time(upload.abort()).await;
    }
    done
}

/// Sends `body` to `apart`, a name that nobody else has, and copies it from there: for a store that knows no condition for what is
/// sent in parts, and one for copies.
pub(super) async fn send_apart(
    store: &dyn ObjectStore,
    apart: &Path,
    path: &Path,
    body: Body,
    sent: Sent<'_>,
) -> Result<bool> {
    let done = match send(store, apart, body, sent).await {
        Ok(_) => copy(store, apart, path).await,
        Err(error) => Err(error),
    };
    // As above. A copy whose answer did not come is done or finds nothing to copy.
    let _ = in_time(store.delete(apart)).await;
    done
}

async fn copy(store: &dyn ObjectStore, from: &Path, to: &Path) -> Result<bool> {
    let copied = async {
        match store.copy_if_not_exists(from, to).await {
            Ok(()) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(classify(&error, Effect::Write)),
        }
    };
    with_deadline(PIECE_TIMEOUT, ErrorKind::OutcomeUnknown, copied).await
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
