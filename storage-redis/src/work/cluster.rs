//! Which node owns which key: Redis Cluster's 16,384 slots.

use std::sync::Arc;

use storage_core::Result;

use crate::{
    connections::node::Node,
    error::{refused, unexpected},
    statements::{
        answer::{Answer, ServerError},
        reply::utf8,
    },
    url::Address,
};

/// How many slots every cluster has.
pub(crate) const SLOTS: u16 = 16_384;

/// The nodes and what each owns.
pub(crate) struct Map {
    pub(crate) nodes: Vec<Arc<Node>>,
    /// The index into `nodes` by slot; `None` where there is one node for all.
    owners: Option<Vec<Option<usize>>>,
}

/// Slots that follow each other, and their primary.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Range {
    first: u16,
    last: u16,
    address: Address,
}

impl Map {
    /// One server that owns every key.
    pub(crate) fn of_one(node: Arc<Node>) -> Self {
        Self { nodes: vec![node], owners: None }
    }

    /// A cluster; `node_at` makes or finds the node of an address.
    pub(crate) fn of_cluster(ranges: Vec<Range>, mut node_at: impl FnMut(&Address) -> Arc<Node>) -> Self {
        let mut nodes: Vec<Arc<Node>> = Vec::new();
        let mut owners = vec![None; usize::from(SLOTS)];
        for range in ranges {
            let known = nodes.iter().position(|node| *node.address() == range.address);
            let index = known.unwrap_or_else(|| {
                nodes.push(node_at(&range.address));
                nodes.len() - 1
            });
            let slots = owners.get_mut(usize::from(range.first)..=usize::from(range.last));
            slots.unwrap_or_default().fill(Some(index));
        }
        Self { nodes, owners: Some(owners) }
    }

    /// The node that owns a slot; `None` where no node does.
    pub(crate) fn owner(&self, slot: u16) -> Option<&Arc<Node>> {
        match &self.owners {
            None => self.nodes.first(),
            Some(owners) => self.nodes.get((*owners.get(usize::from(slot))?)?),
        }
    }

    pub(crate) fn node_at(&self, address: &Address) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.address() == address)
    }
}

/// The slot of a key: of the text between its first `{` and the next `}`, where there is any, else of all of it.
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')?;
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|byte| *byte == b'}')?;
        rest.get(..close).filter(|tag| !tag.is_empty())
    };
    crc16(tag().unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM, which Redis Cluster prescribes.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            let carry = crc & 0x8000 != 0;
            (crc << 1) ^ if carry { 0x1021 } else { 0 }
        })
    })
}

/// Reads the answer to CLUSTER SLOTS. `asked` is where it came from: a node may not know its own name.
pub(crate) fn ranges(answer: Answer, asked: &Address) -> Result<Vec<Range>> {
    match answer {
        Answer::Array(entries) => {
            entries.into_iter().map(|entry| range(entry, asked).ok_or_else(unexpected)).collect()
        }
        Answer::Error(error) => Err(refused(&error)),
        _ => Err(unexpected()),
    }
}

fn range(entry: Answer, asked: &Address) -> Option<Range> {
    let Answer::Array(parts) = entry else { return None };
    let mut parts = parts.into_iter();
    let slot = |part: Answer| match part {
        Answer::Int(slot) => u16::try_from(slot).ok().filter(|slot| *slot < SLOTS),
        _ => None,
    };
    let (first, last) = (slot(parts.next()?)?, slot(parts.next()?)?);
    let Answer::Array(primary) = parts.next()? else { return None };
    let mut primary = primary.into_iter();
    let host = match primary.next()? {
        Answer::Bulk(host) => utf8(&host)?,
        Answer::Nil => String::new(),
        _ => return None,
    };
    let Answer::Int(port) = primary.next()? else { return None };
    (first <= last).then_some(Range { first, last, address: named(&host, u16::try_from(port).ok()?, asked)? })
}

/// What an answer asks to do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// The slot has another owner now.
    Moved,
    /// This once, ask that node.
    Ask(Address),
}

pub(crate) fn redirect(error: &ServerError, asked: &Address) -> Option<Redirect> {
    match error.code() {
        "MOVED" => Some(Redirect::Moved),
        "ASK" => {
            let (_slot, address) = error.details().split_once(' ')?;
            let (host, port) = address.trim().rsplit_once(':')?;
            Some(Redirect::Ask(named(host, port.parse().ok()?, asked)?))
        }
        _ => None,
    }
}

fn named(host: &str, port: u16, asked: &Address) -> Option<Address> {
    let host = match (host, asked) {
        ("" | "?", Address::Tcp { host, .. }) => host.clone(),
        ("" | "?", Address::Unix(_)) => return None,
        (host, _) => host.to_owned(),
    };
    Some(Address::Tcp { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn slots_by_table() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"{foo}:a"), slot_of(b"foo"));
        assert_eq!(slot_of(b"a{foo}{bar}"), slot_of(b"foo"));
        assert_eq!(slot_of(b"a{}{foo}"), crc16(b"a{}{foo}") % SLOTS);
        assert_eq!(slot_of(b"a{foo"), crc16(b"a{foo") % SLOTS);
    }

    #[test]
    fn a_slot_map_is_read_and_garbage_refused() {
        let node = |host: Answer| Answer::Array(vec![host, Answer::Int(7), Answer::Bulk("id".into())]);
        let entry = |host| Answer::Array(vec![Answer::Int(0), Answer::Int(99), node(host)]);
        let asked = tcp("seed", 1);
        let read = |host| ranges(Answer::Array(vec![entry(host)]), &asked).unwrap().remove(0);
        assert_eq!(read(Answer::Bulk("h".into())).address, tcp("h", 7));
        assert_eq!(read(Answer::Bulk("".into())).address, tcp("seed", 7));
        assert_eq!(read(Answer::Nil), Range { first: 0, last: 99, address: tcp("seed", 7) });
        for garbage in
            [Answer::Nil, Answer::Array(vec![Answer::Int(1)]), Answer::Array(vec![Answer::Array(vec![])])]
        {
            assert!(ranges(garbage, &asked).is_err());
        }
    }
}
