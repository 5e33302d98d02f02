//! Listing partitions: SCAN over every primary for their hashes, a page at a time.

use storage_core::{Cursor, Partition, PartitionInfo, Result, ScanPage, engine::Deadline, escape_glob};

use super::query;
use crate::{
    error::Access,
    work::{operations::Connected, walk::Place},
};

/// What the keys of the hashes end with.
pub(super) const HASH: &str = "}\0h";

/// The next partitions of a kind. SCAN may name one again.
pub(super) async fn page(
    connected: &Connected,
    kind: &str,
    segments: &[&str],
    after: Option<&Cursor>,
    limit: usize,
    deadline: Deadline,
) -> Result<ScanPage<PartitionInfo>> {
    let (lower, _, own) = Partition::range(kind, segments)?;
    let place = after.map(Cursor::place::<Place>).transpose()?;
    // No prefix finds the partition that has no more segments than were asked for: it is a page of its own.
    let own = own.filter(|_| place.is_none());
    let mut place = place.unwrap_or(Place::Start);
    let found = match own {
        Some(own) => vec![own],
        None => {
            // What the full key of a listed partition starts with: the namespace, `{`, and the text.
            let prefix = [&*connected.namespace, "{", &lower].concat();
            let pattern = format!("{}*{}", escape_glob(&prefix), HASH);
            let keys = place.step(connected, &pattern, "hash", limit, deadline).await?;
            let before = prefix.len() - lower.len();
            keys.iter().filter_map(|key| partition(key, &prefix, before)).collect()
        }
    };
    let infos = infos(connected, found, deadline).await?;
    let next = if place.is_end() { None } else { Some(Cursor::at(&place)?) };
    Ok(ScanPage::new(infos, next).repeatable())
}

fn partition(key: &[u8], prefix: &str, before: usize) -> Option<Partition> {
    let text = std::str::from_utf8(key).ok()?.strip_suffix(HASH)?;
    text.starts_with(prefix).then_some(())?;
    Partition::from_text(text.get(before..)?).ok()
}

/// What is known of each that is still there.
async fn infos(
    connected: &Connected,
    found: Vec<Partition>,
    deadline: Deadline,
) -> Result<Vec<Result<PartitionInfo>>> {
    let commands = found.iter().map(|partition| {
        let keys = connected.keys_of(partition);
        (connected.router.slot(&keys.hash), query::look(&keys.hash))
    });
    let answers = connected.router.many(commands.collect(), Access::Read, deadline).await;
    let mut infos = Vec::with_capacity(found.len());
    for (partition, answer) in found.into_iter().zip(answers) {
        let text = partition.as_str().to_owned();
        let answer = answer?;
        infos.extend(query::info(partition, answer).map_err(|error| error.with_key(&text)).transpose());
    }
    Ok(infos)
}
