//! What the reads send, and how they read the answers.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use storage_core::{Error, Item, Json, MAX_PAGE_BYTES, Order, Page, Partition, PartitionInfo, Query, Result};

use crate::{
    error::unexpected,
    statements::{
        answer::Answer,
        command::{Command, cmd},
        reply,
        script::Script,
    },
};

pub(super) static SCRIPT: Script = Script::new(include_str!("query.lua"));

/// The beginning of a range, as Redis spells it.
pub(super) fn lower(from: &str) -> String {
    ["[", from].concat()
}

/// The end of a range, as Redis spells it.
pub(super) fn upper(to: Option<&str>) -> String {
    to.map_or_else(|| "+".to_owned(), |to| ["(", to].concat())
}

pub(super) fn arguments(query: &Query) -> [Cow<'static, [u8]>; 6] {
    let (lower, upper) = (lower(&query.from), upper(query.to.as_deref()));
    let (command, start, stop) = match query.order {
        Order::Ascending => ("ZRANGEBYLEX", lower, upper),
        Order::Descending => ("ZREVRANGEBYLEX", upper, lower),
    };
    let bodies = if query.bodies { "1" } else { "0" };
    let (limit, most) = (query.limit.to_string(), MAX_PAGE_BYTES.to_string());
    [command.to_owned(), start, stop, limit, bodies.to_owned(), most].map(|text| text.into_bytes().into())
}

pub(super) fn page(query: &Query, answer: Answer) -> Result<Page> {
    if let Answer::Status(_) = answer {
        return Err(corrupt());
    }
    let mut parts = reply::array(answer)?.into_iter();
    let Some(more) = parts.next() else { return Ok(Page::default()) };
    let more = reply::integer(more)? != 0;
    let mut items = Vec::with_capacity(parts.len() / 3);
    while let (Some(sort), Some(header), Some(body)) = (parts.next(), parts.next(), parts.next()) {
        let sort = reply::text(sort)?;
        let body = if query.bodies { Some(body) } else { None };
        items.push(item(&sort, &reply::bytes(header)?, body)?);
    }
    Ok(Page { items, more })
}

pub(super) fn multi_get(hash: &str, sorts: &[&str]) -> Command {
    let fields = sorts.iter().flat_map(|sort| [["a:", sort].concat(), ["b:", sort].concat()]);
    cmd("HMGET").arg(hash).args(fields)
}

pub(super) fn items(sorts: &[&str], answer: Answer) -> Result<Vec<Option<Item>>> {
    let mut parts = reply::array(answer)?.into_iter();
    let items = sorts.iter().map(|sort| match (parts.next(), parts.next()) {
        (Some(Answer::Nil), Some(_)) => Ok(None),
        (Some(header), Some(body)) => item(sort, &reply::bytes(header)?, Some(body)).map(Some),
        _ => Err(unexpected()),
    });
    items.collect()
}

/// Reads an item; the body is `None` where it was not asked for.
fn item(sort: &str, header: &[u8], body: Option<Answer>) -> Result<Item> {
    let damaged = || Error::corrupt("the stored item cannot be read").with_key(sort);
    let header = std::str::from_utf8(header).map_err(|_| damaged())?;
    let mut parts = header.splitn(5, ' ');
    let mut number = || parts.next()?.parse::<u64>().ok();
    let (version, written_at) = (number().ok_or_else(damaged)?, number().ok_or_else(damaged)?);
    let (body_bytes, tag_bytes) = (number().ok_or_else(damaged)?, number().ok_or_else(damaged)?);
    let content = parts.next().ok_or_else(damaged)?;
    let attributes = usize::try_from(tag_bytes).ok().and_then(|start| content.get(start..));
    let attributes = Json::from_stored(sort, attributes.ok_or_else(damaged)?.to_owned())?;
    let body = match body {
        None => Bytes::new(),
        // An empty one takes no field.
        Some(Answer::Nil) if body_bytes == 0 => Bytes::new(),
        Some(body) => {
            let body = Some(reply::bytes(body)?).filter(|body| body.len() as u64 == body_bytes);
            // A copy: a part would keep the whole page in memory.
            Bytes::copy_from_slice(&body.ok_or_else(damaged)?)
        }
    };
    Ok(Item { sort: sort.to_owned(), attributes, body, body_bytes, version, written_at: time(written_at) })
}

/// Asks for what [`info`] reads.
pub(super) fn look(hash: &str) -> Command {
    let fields = ["version", "items", "bytes", "sequence", "updated_at", "expires_at"];
    cmd("HMGET").arg(hash).args(fields)
}

pub(super) fn info(partition: Partition, answer: Answer) -> Result<Option<PartitionInfo>> {
    let fields: [Answer; 6] = reply::array(answer)?.try_into().map_err(|_| unexpected())?;
    let [version, items, bytes, sequence, updated_at, expires_at] = fields;
    if version == Answer::Nil {
        return Ok(None);
    }
    let number = |field: Answer| reply::text(field)?.parse::<u64>().map_err(|_| corrupt());
    let mut info = PartitionInfo::new(partition, number(version)?, time(number(updated_at)?));
    (info.items, info.bytes, info.sequence) = (number(items)?, number(bytes)?, number(sequence)?);
    if expires_at != Answer::Nil {
        info.expires_at = Some(time(number(expires_at)?));
    }
    Ok(Some(info))
}

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

pub(super) fn corrupt() -> Error {
    Error::corrupt("a part of the partition is missing or damaged")
        .with_hint("a server that evicts keys may have dropped it; delete_partition removes the rest")
}
