//! Which node owns which key.

use std::sync::Arc;

use super::{
    members::{Member, named},
    slots::{SLOTS, Slots},
};
use crate::{connections::node::Node, statements::answer::ServerError, url::Address};

/// The nodes and what each owns.
#[derive(Clone)]
pub(crate) struct Map {
    /// The primaries, those without slots included: keys may be on their way to them.
    pub(crate) nodes: Vec<Arc<Node>>,
    /// The index into `nodes` by slot; `None` where there is one node for all.
    owners: Option<Vec<u16>>,
}

/// A slot without an owner.
const NOBODY: u16 = u16::MAX;

impl Map {
    /// One server that owns every key.
    pub(crate) fn of_one(node: Arc<Node>) -> Self {
        Self { nodes: vec![node], owners: None }
    }

    /// A cluster; `node_at` makes or finds the node of an address. Of two that name the same slot the later one has it.
    pub(crate) fn of_cluster(members: &[Member], node_at: impl Fn(&Address) -> Arc<Node>) -> Self {
        let mut owners = vec![NOBODY; usize::from(SLOTS)];
        for (member, index) in members.iter().zip(0..) {
            for slot in member.slots.iter() {
                if let Some(owner) = owners.get_mut(usize::from(slot)) {
                    *owner = index;
                }
            }
        }
        Self { nodes: members.iter().map(|member| node_at(&member.address)).collect(), owners: Some(owners) }
    }

    /// The same with another owner of one slot.
    pub(crate) fn moved(&self, slot: u16, node: Arc<Node>) -> Self {
        let mut map = self.clone();
        let known = map.nodes.iter().position(|known| known.address() == node.address());
        let index = known.unwrap_or_else(|| {
            map.nodes.push(node);
            map.nodes.len() - 1
        });
        let owner = map.owners.as_mut().and_then(|owners| owners.get_mut(usize::from(slot)));
        if let (Some(owner), Ok(index)) = (owner, u16::try_from(index)) {
            *owner = index;
        }
        map
    }

    /// The node that owns a slot; `None` where no node does.
    pub(crate) fn owner(&self, slot: u16) -> Option<&Arc<Node>> {
        match &self.owners {
            None => self.nodes.first(),
            Some(owners) => self.nodes.get(usize::from(*owners.get(usize::from(slot))?)),
        }
    }

    /// Whether a node owns any slot.
    pub(crate) fn serves(&self, node: &Node) -> bool {
        (0..SLOTS).any(|slot| self.owner(slot).is_some_and(|owner| owner.address() == node.address()))
    }

    /// The slots that no node owns.
    pub(crate) fn unowned(&self) -> Slots {
        (0..SLOTS).filter(|slot| self.owner(*slot).is_none()).collect()
    }

    pub(crate) fn node_at(&self, address: &Address) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.address() == address)
    }
}

/// What an answer asks to do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// The slot has another owner now.
    Moved(Address),
    /// This once, ask that node.
    Ask(Address),
    /// Nobody can answer for the moment.
    Wait,
}

pub(crate) fn redirect(error: &ServerError, asked: &Address) -> Option<Redirect> {
    let address = || {
        let (_slot, address) = error.details().split_once(' ')?;
        let (host, port) = address.trim().rsplit_once(':')?;
        named(host, port.parse().ok()?, asked)
    };
    match error.code() {
        "MOVED" => Some(Redirect::Moved(address()?)),
        "ASK" => Some(Redirect::Ask(address()?)),
        // Both pass: another primary is promoted, or the keys of one slot are on two nodes.
        "CLUSTERDOWN" | "TRYAGAIN" => Some(Redirect::Wait),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_by_table() {
        let asked = Address::Tcp { host: "seed".to_owned(), port: 1 };
        let at = |host: &str| Address::Tcp { host: host.to_owned(), port: 7 };
        for (answer, expected) in [
            ("MOVED 5 10.0.0.2:7", Some(Redirect::Moved(at("10.0.0.2")))),
            ("MOVED 5 :7", Some(Redirect::Moved(at("seed")))),
            ("MOVED 5 fe80::1:7", Some(Redirect::Moved(at("fe80::1")))),
            ("ASK 5 other.example:7", Some(Redirect::Ask(at("other.example")))),
            ("CLUSTERDOWN The cluster is down", Some(Redirect::Wait)),
            ("TRYAGAIN Multiple keys request", Some(Redirect::Wait)),
            ("MOVED 5", None),
            ("ERR no", None),
        ] {
            assert_eq!(redirect(&ServerError::new(answer), &asked), expected, "{answer}");
        }
    }
}
