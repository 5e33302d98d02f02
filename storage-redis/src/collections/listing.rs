//! Listing partitions: SCAN over every primary for their hashes, a page at a time.

use std::collections::VecDeque;

use storage_core::{Partition, PartitionInfo, Result, engine::Deadline, escape_glob};

use super::query;
use crate::{
    error::Access,
    work::{
        operations::Connected,
        scan::{Place, Seen},
    },
};

/// What the keys of the hashes end with.
pub(super) const HASH: &str = "}\0h";

/// Where a listing stands. Between two steps it holds no connection.
pub(super) struct Walk {
    /// What the full key of a listed partition starts with, and what stands before its text.
    prefix: String,
    before: usize,
    pattern: String,
    places: VecDeque<Place>,
    seen: Seen,
    /// The partition that has no more segments than were asked for: no prefix finds it.
    own: Option<Partition>,
}

impl Walk {
    pub(super) fn new(connected: &Connected, kind: &str, segments: &[String]) -> Result<Self> {
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (lower, _, own) = Partition::range(kind, &segments)?;
        let prefix = [&*connected.namespace, "{", &lower].concat();
        let nodes = connected.router.nodes();
        Ok(Self {
            before: prefix.len() - lower.len(),
            pattern: format!("{}*{}", escape_glob(&prefix), HASH),
            prefix,
            places: nodes.iter().map(|node| Place::start_of(node.address())).collect(),
            seen: Seen::default(),
            own,
        })
    }

    /// The next partitions; `None` at the end. May be empty before it.
    pub(super) async fn step(
        &mut self,
        connected: &Connected,
        deadline: Deadline,
    ) -> Result<Option<Vec<Result<PartitionInfo>>>> {
        let mut found: Vec<Partition> = self.own.take().into_iter().collect();
        if found.is_empty() {
            let Some(place) = self.places.front_mut() else { return Ok(None) };
            let keys = place.page(connected, &self.pattern, "hash", deadline).await?;
            if place.cursor == 0 {
                self.places.pop_front();
            }
            found = keys.into_iter().filter_map(|key| self.partition(&key)).collect();
            found.retain(|partition| self.seen.is_new(partition.as_str()));
        }
        infos(connected, found, deadline).await.map(Some)
    }

    fn partition(&self, key: &[u8]) -> Option<Partition> {
        let key = std::str::from_utf8(key).ok()?;
        let text = key.strip_suffix(HASH)?;
        text.starts_with(&self.prefix).then_some(())?;
        Partition::from_text(text.get(self.before..)?).ok()
    }
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
