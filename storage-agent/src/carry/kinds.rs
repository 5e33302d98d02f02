//! What is particular to the partitions of a kind.

use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use storage_core::{Error, Item, Json, Result, prefix_successor, ttl_millis};

use super::{
    canonical, due,
    format::{ItemLine, MemoryLine},
};
use crate::{
    conversations,
    memories::{self, Carried},
    shared::{CHECKPOINTS, THREADS},
    tasks,
};

/// The member of attributes that says when an item was written elsewhere.
const TIME: &str = "created_at";
/// Internal to one store, or exported otherwise.
const OTHERWISE: [&str; 4] = [memories::KIND, memories::LEASES, "clock", "retention"];

/// A range of sort keys: the first, and the first beyond.
pub(super) type Range = (String, Option<String>);

/// Checks that partitions of a kind are carried as such.
pub(super) fn check(kind: &str) -> Result<()> {
    if OTHERWISE.contains(&kind) {
        let message = format!("partitions of the kind `{kind}` are not carried as such");
        return Err(Error::invalid_input(message).with_hint("memories have lines of their own"));
    }
    Ok(())
}

/// What makes a thread one: all else of it is brought before, which nobody sees by itself.
fn shown(kind: &str) -> Vec<Range> {
    let prefix = |prefix: &str| (prefix.to_owned(), prefix_successor(prefix));
    match kind {
        THREADS => vec![prefix("c:"), prefix("l:")],
        // The head is a key, no prefix.
        CHECKPOINTS => vec![prefix("d:"), ("l".to_owned(), Some("l\u{1}".to_owned())), prefix("s:")],
        _ => Vec::new(),
    }
}

/// Whether an item is one that comes last.
pub(super) fn is_shown(kind: &str, sort: &str) -> bool {
    shown(kind).iter().any(|range| is_in(range, sort))
}

/// Whether a sort key is in a range.
pub(super) fn is_in((from, to): &Range, sort: &str) -> bool {
    sort >= from.as_str() && to.as_deref().is_none_or(|to| sort < to)
}

/// The ranges of sort keys in which items are exported.
pub(super) fn ranges(kind: &str) -> Vec<Range> {
    let last = shown(kind);
    let (mut ranges, mut from) = (Vec::new(), String::new());
    for (first, beyond) in &last {
        ranges.push((std::mem::replace(&mut from, beyond.clone().unwrap_or_default()), Some(first.clone())));
    }
    ranges.push((from, None));
    ranges.into_iter().chain(last).collect()
}

/// Whether what reads items of the kind asks when they were written, and looks for that in the attributes first.
fn has_times(kind: &str) -> bool {
    [conversations::KIND, tasks::KIND].contains(&kind)
}

#[derive(Serialize, Deserialize)]
struct Time(#[serde(with = "crate::time")] SystemTime);

/// The line of an item, the same for every store.
pub(super) fn line(kind: &str, item: Item) -> Result<ItemLine> {
    let mut attributes: Value = item.attributes.decode().map_err(|error| error.with_key(&item.sort))?;
    let mut time = None;
    if let Some(members) = attributes.as_object_mut().filter(|_| has_times(kind)) {
        let own = members.get(TIME).and_then(|time| Time::deserialize(time).ok());
        if own.is_some() || !members.contains_key(TIME) {
            members.remove(TIME);
            time = Some(crate::time::whole(own.map_or(item.written_at, |Time(time)| time)));
        }
    }
    Ok(ItemLine::new(item.sort, time, canonical::of_value(&attributes)?, &item.body))
}

/// The attributes and the body that an import writes.
pub(super) fn content(line: &ItemLine) -> Result<(Json, Bytes), String> {
    let said = |error: Error| error.message().to_owned();
    let body = line.body()?;
    let attributes = match &line.attributes {
        Some(attributes) => attributes.clone(),
        None => Json::parse("null").map_err(said)?,
    };
    let Some(time) = line.time else { return Ok((attributes, body)) };
    let mut members: Value = attributes.decode().map_err(said)?;
    let time = serde_json::to_value(Time(time)).map_err(|_| "`time` is no time")?;
    let all = members.as_object_mut().ok_or("it has a `time`, and attributes that are no object")?;
    all.insert(TIME.to_owned(), time);
    Ok((Json::try_from(members).map_err(said)?, body))
}

/// The line of a memory, the same for every store.
pub(super) fn memory_line(memory: Carried) -> Result<MemoryLine> {
    let Carried { item, ttl } = memory;
    Ok(MemoryLine {
        value: canonical::canonical(&item.value)?,
        namespace: item.namespace,
        key: item.key,
        version: item.version,
        created_at: item.created_at,
        updated_at: item.updated_at,
        ttl: ttl.map(ttl_millis).transpose()?,
        expires_at: item.expires_at.map(due::second),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_each_sort_key_once_and_what_is_shown_last() {
        for kind in [THREADS, CHECKPOINTS, "conversation"] {
            let ranges = ranges(kind);
            let first = ranges.len() - shown(kind).len();
            for sort in [
                "\u{1}",
                "a",
                "c",
                "c:",
                "c:x",
                "c;",
                "d:1",
                "h:",
                "k:1",
                "l",
                "l-deleted",
                "l:",
                "m",
                "s:1",
                "z",
            ] {
                let places: Vec<usize> = (0..ranges.len()).filter(|n| is_in(&ranges[*n], sort)).collect();
                assert_eq!(places.len(), 1, "{kind} {sort} {ranges:?}");
                assert_eq!(places[0] >= first, is_shown(kind, sort), "{kind} {sort}");
            }
        }
    }
}
