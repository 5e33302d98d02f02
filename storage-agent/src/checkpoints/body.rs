//! The body of a checkpoint: the length of the versions, the versions, and the record of the payload.

use storage_core::{Error, Item, Result};

use super::{layout::corrupt, record::Record, types::ChannelVersions};

pub(super) fn join_body(versions: &ChannelVersions, record: &[u8]) -> Result<Vec<u8>> {
    let failed = |_| Error::invalid_input("the versions of the channels are no JSON");
    let versions = serde_json::to_vec(versions).map_err(failed)?;
    let length = u32::try_from(versions.len()).map_err(|_| Error::invalid_input("too many channels"))?;
    Ok([length.to_be_bytes().as_slice(), &versions, record].concat())
}

pub(super) fn split_body(item: &Item) -> Result<(ChannelVersions, Record)> {
    let parts = || {
        let length = usize::try_from(u32::from_be_bytes(*item.body.first_chunk()?)).ok()?;
        let end = length.checked_add(4)?;
        let versions = serde_json::from_slice(item.body.get(4..end)?).ok()?;
        Some((versions, item.body.slice(end..)))
    };
    let (versions, record) = parts().ok_or_else(|| corrupt(&item.sort))?;
    Ok((versions, Record::decode(&item.sort, &record)?))
}
