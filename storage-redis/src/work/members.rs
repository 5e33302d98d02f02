//! What the nodes of a cluster say about its primaries.

use std::collections::HashMap;

use storage_core::Result;

use super::slots::Slots;
use crate::{
    error::unexpected,
    statements::{answer::Answer, reply},
    url::Address,
};

/// A primary, as some node sees it.
#[derive(Clone)]
pub(crate) struct Member {
    id: String,
    pub(crate) address: Address,
    /// Of two words about one slot that with the newer epoch holds.
    pub(crate) epoch: u64,
    pub(crate) slots: Slots,
    /// On their way to another node or from one. Only the node itself tells.
    pub(crate) moving: Slots,
    /// Whether the node that was asked says it of itself.
    pub(crate) itself: bool,
    failed: bool,
}

/// Reads the answers to CLUSTER SLOTS, which knows the addresses that clients are to use, and to CLUSTER NODES, which
/// knows the rest. `asked` is where they came from: a node may not know its own name.
pub(crate) fn members(slots: Answer, nodes: Answer, asked: &Address) -> Result<Vec<Member>> {
    let slots = reply::array(slots)?;
    let endpoints: HashMap<String, Address> =
        slots.into_iter().filter_map(|entry| endpoint(entry, asked)).collect();
    let text = reply::text(nodes)?;
    let lines = text.lines().filter(|line| !line.is_empty());
    let members = lines.map(|line| member(line, &endpoints, asked).ok_or_else(unexpected));
    // Those that are no primaries are none of ours.
    members.filter_map(Result::transpose).collect()
}

/// The id and the address of the primary of a range.
fn endpoint(entry: Answer, asked: &Address) -> Option<(String, Address)> {
    let mut parts = reply::array(entry).ok()?.into_iter().skip(2);
    let mut primary = reply::array(parts.next()?).ok()?.into_iter();
    let host = match primary.next()? {
        Answer::Nil => String::new(),
        host => reply::text(host).ok()?,
    };
    let port = u16::try_from(reply::integer(primary.next()?).ok()?).ok()?;
    let id = reply::text(primary.next()?).ok()?;
    Some((id, named(&host, port, asked)?))
}

/// `<id> <ip:port@bus[,hostname]> <flags> <primary> <ping> <pong> <epoch> <link> <slot>...`; nothing where the line is
/// about a node that is no primary, or none yet.
fn member(line: &str, endpoints: &HashMap<String, Address>, asked: &Address) -> Option<Option<Member>> {
    let mut words = line.split(' ');
    let (id, place, flags) = (words.next()?, words.next()?, words.next()?);
    let flags: Vec<&str> = flags.split(',').collect();
    let has = |flag: &str| flags.contains(&flag);
    let epoch = words.nth(3)?.parse().ok()?;
    if !has("master") || has("handshake") || has("noaddr") {
        return Some(None);
    }
    let (host, port) = place.split('@').next()?.rsplit_once(':')?;
    let address = match endpoints.get(id) {
        Some(address) => address.clone(),
        None => named(host, port.parse().ok()?, asked)?,
    };
    let (mut slots, mut moving) = (Slots::none(), Slots::none());
    for word in words.skip(1) {
        match word
            .strip_prefix('[')
            .and_then(|word| word.split_once("->-").or_else(|| word.split_once("-<-")))
        {
            Some((slot, _)) => {
                let slot = slot.parse().ok()?;
                moving.insert(slot, slot);
            }
            None => {
                let (first, last) = word.split_once('-').unwrap_or((word, word));
                slots.insert(first.parse().ok()?, last.parse().ok()?);
            }
        }
    }
    let (itself, failed) = (has("myself"), has("fail"));
    Some(Some(Member { id: id.to_owned(), address, epoch, slots, moving, itself, failed }))
}

/// One picture of several: of each primary the newest word, in the order in which later ones win a slot.
pub(crate) fn merged(views: impl IntoIterator<Item = Vec<Member>>) -> Vec<Member> {
    let mut newest: HashMap<String, Member> = HashMap::new();
    for member in views.into_iter().flatten() {
        let better = |known: &Member| (member.epoch, member.itself) > (known.epoch, known.itself);
        if newest.get(&member.id).is_none_or(better) {
            newest.insert(member.id.clone(), member);
        }
    }
    let mut members: Vec<Member> = newest.into_values().collect();
    // One that has failed and owns nothing has been replaced, or was forgotten.
    members.retain(|member| !member.failed || !member.slots.is_empty());
    members.sort_by(|left, right| (left.epoch, &left.id).cmp(&(right.epoch, &right.id)));
    members
}

/// The address of a node; where it does not know its own name, that of the one that was asked.
pub(crate) fn named(host: &str, port: u16, asked: &Address) -> Option<Address> {
    let host = match (host, asked) {
        ("" | "?", Address::Tcp { host, .. }) => host.clone(),
        ("" | "?", _) => return None,
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

    fn bulk(text: &str) -> Answer {
        Answer::Bulk(text.to_owned().into())
    }

    fn read(hosts: &[(&str, Answer, i64)], nodes: &str) -> Result<Vec<Member>> {
        let entries = hosts.iter().map(|(id, host, port)| {
            let primary = Answer::Array(vec![host.clone(), Answer::Int(*port), bulk(id)]);
            Answer::Array(vec![Answer::Int(0), Answer::Int(9), primary])
        });
        members(Answer::Array(entries.collect()), bulk(nodes), &tcp("seed", 1))
    }

    const NODES: &str = "\
        a 10.0.0.1:7@17,a.example myself,master - 0 0 3 connected 0-9 11 [5->-b] [20-<-b]\n\
        b 10.0.0.2:7@17 master - 0 0 5 connected 12-20\n\
        c :7@17 master - 0 0 0 connected\n\
        d 10.0.0.4:7@17 slave b 0 0 5 connected\n\
        e 10.0.0.5:7@17 master,fail - 0 0 2 connected\n\
        f 10.0.0.6:7@17 handshake - 0 0 0 disconnected\n";

    #[test]
    fn a_node_s_view_is_read() {
        let view = read(&[("a", bulk("one"), 6), ("b", Answer::Nil, 8)], NODES).unwrap();
        let of = |id: &str| view.iter().find(|member| member.id == id).unwrap();
        assert_eq!((&of("a").address, of("a").epoch, of("a").itself), (&tcp("one", 6), 3, true));
        assert_eq!(Vec::from(of("a").slots.clone()), [(0, 9), (11, 11)]);
        assert_eq!(Vec::from(of("a").moving.clone()), [(5, 5), (20, 20)]);
        // A node that does not know its name has that by which it was asked.
        assert_eq!(of("b").address, tcp("seed", 8));
        assert_eq!((&of("c").address, of("c").slots.is_empty()), (&tcp("seed", 7), true));
        assert!(!view.iter().any(|member| ["d", "f"].contains(&&*member.id)));
        // One that owns nothing and has failed is forgotten.
        let all: Vec<String> = merged([view]).into_iter().map(|member| member.id).collect();
        assert_eq!(all, ["c", "a", "b"]);
    }

    #[test]
    fn garbage_is_refused() {
        for nodes in [
            "a",
            "a b c",
            "a h:x@1 master - 0 0 1 up",
            "a h:1@1 master - 0 0 x up",
            "a h:1@1 master - 0 0 1 up 1-x",
        ] {
            assert!(read(&[], nodes).is_err(), "{nodes}");
        }
        assert!(members(Answer::Nil, bulk(NODES), &tcp("seed", 1)).is_err());
        assert!(members(Answer::Array(vec![]), Answer::Int(1), &tcp("seed", 1)).is_err());
    }

    #[test]
    fn of_two_words_the_newer_epoch_holds() {
        let old = read(&[], "a h:1@1 myself,master - 0 0 1 up 0-9\nb h:2@2 master - 0 0 2 up 10-19").unwrap();
        let new = read(&[], "a h:1@1 master - 0 0 1 up 0-4\nb h:2@2 myself,master - 0 0 3 up 5-19").unwrap();
        for views in [[old.clone(), new.clone()], [new, old]] {
            let last = merged(views).pop().unwrap();
            assert_eq!((&*last.id, Vec::from(last.slots)), ("b", vec![(5, 19)]));
        }
    }
}
