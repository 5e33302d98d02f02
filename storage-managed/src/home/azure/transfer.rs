//! Bodies on their way to Azure and back.

use std::num::NonZero;

use azure_core::http::{Etag, headers::HeaderName};
use azure_storage_blob::{
    BlobClient, BlockBlobClient,
    models::{
        BlobClientDownloadOptions, BlobClientDownloadResult, BlobClientUploadOptions,
        BlockBlobClientCommitBlockListOptions, BlockLookupList,
    },
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use storage_core::{Error, ErrorKind, Result, with_deadline};

use super::error::{classify, is_refused};
use crate::home::{
    Body, Version,
    http::{AT_ONCE, DOWNLOAD_PIECE, Effect, PIECE, PIECE_TIMEOUT},
    pieces::punctual,
};

/// Every version of a blob: none of them may be there.
const ANY: &str = "*";
const CONTENT_RANGE: HeaderName = HeaderName::from_static("content-range");

/// How to ask for a blob: unless it is still `known`, and in pieces that may come `at_once`.
pub(super) fn download(known: Option<&Version>, at_once: usize) -> BlobClientDownloadOptions<'static> {
    BlobClientDownloadOptions {
        if_none_match: known.map(|version| Etag::from(version.0.as_str())),
        parallel: NonZero::new(at_once),
        partition_size: NonZero::new(PIECE),
        ..BlobClientDownloadOptions::default()
    }
}

/// How to ask for all of a blob but its first bytes.
pub(super) fn download_from(from: u64) -> BlobClientDownloadOptions<'static> {
    BlobClientDownloadOptions {
        range: (from > 0).then(|| (from..).into()),
        partition_size: NonZero::new(DOWNLOAD_PIECE),
        ..download(None, AT_ONCE)
    }
}

/// How to ask for a part of a blob.
pub(super) fn download_range(from: u64, length: u64) -> BlobClientDownloadOptions<'static> {
    BlobClientDownloadOptions {
        range: Some((from..from.saturating_add(length)).into()),
        ..download(None, AT_ONCE)
    }
}

/// The length of the whole blob, of which the first answer may hold a part.
pub(super) fn length(result: &BlobClientDownloadResult) -> u64 {
    let range = result.headers.get_optional_str(&CONTENT_RANGE);
    let total = range.and_then(|range| range.rsplit('/').next()?.parse().ok());
    total.or(result.properties.content_length).unwrap_or_default()
}

/// The content piece by piece; each comes in time or is an error.
pub(super) fn content(result: BlobClientDownloadResult) -> BoxStream<'static, Result<Bytes>> {
    punctual(result.body.map_err(|error| classify(&error, Effect::Read)).boxed())
}

/// Sends `body` as one request where it is small, in blocks where it is not, unless there is a blob. `false`: there is.
pub(super) async fn upload(
    blob: &BlobClient,
    body: Body,
    sent: &(dyn Fn(u64) + Send + Sync),
) -> Result<bool> {
    let length = body.length();
    if usize::try_from(length).is_ok_and(|length| length <= PIECE) {
        let content = body.whole().await?;
        let absent = BlobClientUploadOptions { if_none_match: Some(Etag::from(ANY)), ..one_request() };
        let upload = Box::pin(blob.upload(content.into(), Some(absent)));
        let put = in_time(async { written(upload.await) }).await?;
        sent(length);
        return Ok(put);
    }
    Box::pin(upload_blocks(&blob.block_blob_client(), body, sent)).await
}

/// Whether a write under the condition that there is no blob was done.
fn written<T>(answer: azure_core::Result<T>) -> Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(error) if is_refused(&error) => Ok(false),
        Err(error) => Err(classify(&error, Effect::Write)),
    }
}

/// Keeps the SDK from cutting a body up.
pub(super) fn one_request() -> BlobClientUploadOptions<'static> {
    BlobClientUploadOptions {
        partition_size: u64::try_from(2 * PIECE).ok().and_then(NonZero::new),
        ..BlobClientUploadOptions::default()
    }
}

/// How the ids of this upload's blocks begin. Those of an earlier one may still arrive, or come from a clone of this machine,
/// and hold other bytes where the content was encrypted anew. All ids of a blob have 16 bytes.
fn own_blocks() -> Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|_| Error::new(ErrorKind::Unavailable, "the system gives no random bytes"))?;
    Ok(format!("{:011x}", u64::from_le_bytes(bytes) >> 20))
}

async fn upload_blocks(
    blob: &BlockBlobClient,
    body: Body,
    sent: &(dyn Fn(u64) + Send + Sync),
) -> Result<bool> {
    let own = &own_blocks()?;
    let staged = body.pieces(PIECE).enumerate().map(|(index, piece)| async move {
        let piece = piece?;
        let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        let id = format!("{own}{index:05}").into_bytes();
        let stage = blob.stage_block(&id, length, piece.into(), None);
        in_time(async { stage.await.map_err(|error| classify(&error, Effect::Write)) }).await?;
        Ok::<_, Error>((id, length))
    });
    let (mut ids, mut total) = (Vec::new(), 0);
    let mut staged = staged.buffered(AT_ONCE).boxed();
    while let Some((id, length)) = staged.try_next().await? {
        ids.push(id);
        total += length;
        sent(total);
    }
    let list = BlockLookupList { latest: Some(ids), ..BlockLookupList::default() };
    let list = list.try_into().map_err(|error| classify(&error, Effect::Read))?;
    let absent = BlockBlobClientCommitBlockListOptions {
        if_none_match: Some(Etag::from(ANY)),
        ..BlockBlobClientCommitBlockListOptions::default()
    };
    let commit = blob.commit_block_list(list, Some(absent));
    Box::pin(in_time(async { written(commit.await) })).await
}

async fn in_time<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    with_deadline(PIECE_TIMEOUT, ErrorKind::OutcomeUnknown, work).await
}
