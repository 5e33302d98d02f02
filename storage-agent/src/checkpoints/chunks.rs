//! Payloads cut where their content says so, so that versions of one payload share most of their chunks; and the lists
//! of chunks cut the same way, so that they share most of their nodes.

use std::{collections::HashSet, ops::Range};

use bytes::Bytes;
use fastcdc::v2020::FastCDC;

/// Up to this many bytes a payload stands in the item it belongs to.
pub(super) const INLINE_BYTES: usize = 1024;
/// The average chunk. Messages have about a kilobyte: larger chunks would be written anew for each message.
const CHUNK_BYTES: usize = 512;
/// A payload of more chunks is cut into larger ones, so that it fits one commit.
const MAX_CHUNKS: usize = 8 * 1024;
/// So many entries may stand in the item itself; more get a level of nodes.
const ROOT_ENTRIES: usize = 16;
/// A node ends, past the least, where a hash is a multiple of the average, and at the most.
const NODE_ENTRIES: (usize, u128, usize) = (4, 8, 64);

/// A chunk, or a node whose entries are pieces of the level below.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) hash: u128,
    pub(super) body: Bytes,
    pub(super) below: Range<usize>,
}

/// A payload in pieces: chunks at the lowest level, few nodes or chunks at the highest.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) levels: Vec<Vec<Piece>>,
    pub(super) bytes: u64,
}

impl Cut {
    pub(super) fn of(payload: &Bytes) -> Self {
        let mut top = chunks(payload);
        let mut levels = Vec::new();
        while top.len() > ROOT_ENTRIES {
            let nodes = nodes(&top);
            levels.push(std::mem::replace(&mut top, nodes));
        }
        levels.push(top);
        Self { levels, bytes: payload.len() as u64 }
    }

    /// The pieces that the item itself lists.
    pub(super) fn root(&self) -> &[Piece] {
        self.levels.last().map_or(&[], Vec::as_slice)
    }

    /// How many levels of nodes there are.
    pub(super) fn depth(&self) -> usize {
        self.levels.len().saturating_sub(1)
    }

    /// The pieces that a next version, changed at its beginning or its end, is likely to share: the root's, and those of
    /// the first and the last node of each level.
    pub(super) fn edges(&self) -> Vec<u128> {
        let mut edges: HashSet<u128> = self.root().iter().map(|piece| piece.hash).collect();
        for (below, level) in self.levels.iter().zip(self.levels.iter().skip(1)) {
            for node in [level.first(), level.last()].into_iter().flatten() {
                let entries = below.get(node.below.clone()).unwrap_or_default();
                edges.extend(entries.iter().map(|piece| piece.hash));
            }
        }
        edges.into_iter().collect()
    }
}

fn chunks(payload: &Bytes) -> Vec<Piece> {
    let mut average = CHUNK_BYTES;
    while payload.len() / average > MAX_CHUNKS {
        average *= 2;
    }
    let cut = FastCDC::new(payload, average / 2, average, average * 4);
    cut.map(|chunk| {
        let body = payload.slice(chunk.offset..chunk.offset + chunk.length);
        Piece { hash: hash(&body), body, below: 0..0 }
    })
    .collect()
}

fn nodes(entries: &[Piece]) -> Vec<Piece> {
    let (least, average, most) = NODE_ENTRIES;
    let mut nodes = Vec::new();
    let mut start = 0;
    for (at, entry) in entries.iter().enumerate() {
        let length = at + 1 - start;
        let ends =
            (length >= least && entry.hash % average == 0) || length >= most || at + 1 == entries.len();
        if ends {
            nodes.push(node(entries, start..at + 1));
            start = at + 1;
        }
    }
    nodes
}

fn node(entries: &[Piece], below: Range<usize>) -> Piece {
    let listed = entries.get(below.clone()).unwrap_or_default();
    let body = join_hashes(listed.iter().map(|piece| piece.hash));
    Piece { hash: hash(&body), body: body.into(), below }
}

/// 128 bits: two contents of one hash do not happen by chance, and a thread's own writer gains nothing by making them.
pub(super) fn hash(bytes: &[u8]) -> u128 {
    let mut first = [0; 16];
    first.copy_from_slice(blake3::hash(bytes).as_bytes().first_chunk::<16>().unwrap_or(&[0; 16]));
    u128::from_be_bytes(first)
}

pub(super) fn join_hashes(hashes: impl Iterator<Item = u128>) -> Vec<u8> {
    hashes.flat_map(u128::to_be_bytes).collect()
}

/// The hashes that [`join_hashes`] joined; `None` where the bytes are not whole hashes.
pub(super) fn split_hashes(bytes: &[u8]) -> Option<Vec<u128>> {
    let (hashes, rest) = bytes.as_chunks::<16>();
    rest.is_empty().then(|| hashes.iter().map(|hash| u128::from_be_bytes(*hash)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(messages: usize) -> Bytes {
        (0..messages).flat_map(|i| blake3::hash(&i.to_be_bytes()).to_hex().repeat(17).into_bytes()).collect()
    }

    fn hashes(cut: &Cut) -> HashSet<u128> {
        cut.levels.iter().flatten().map(|piece| piece.hash).collect()
    }

    #[test]
    fn the_chunks_are_the_payload_and_the_nodes_list_them_all() {
        for payload in [text(1), text(300), Bytes::from(vec![0; 3_000_000]), Bytes::new()] {
            let cut = Cut::of(&payload);
            let joined: Vec<u8> = cut.levels[0].iter().flat_map(|piece| piece.body.to_vec()).collect();
            assert!(joined == payload);
            assert!(cut.root().len() <= ROOT_ENTRIES);
            for pair in cut.levels.windows(2) {
                let listed: Vec<usize> = pair[1].iter().flat_map(|node| node.below.clone()).collect();
                assert_eq!(listed, (0..pair[0].len()).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_message_more_changes_few_pieces_and_the_edges_lead_to_the_others() {
        let (old, new) = (Cut::of(&text(1000)), Cut::of(&text(1001)));
        let known = hashes(&old);
        assert!(hashes(&new).difference(&known).count() < 20);
        let edges: HashSet<u128> = old.edges().into_iter().collect();
        let reached = new.levels.iter().flatten().filter(|piece| edges.contains(&piece.hash)).count();
        assert!(reached > 0 && edges.len() < 200, "{reached} of {}", edges.len());
    }

    #[test]
    fn a_large_payload_fits_one_commit() {
        let mut state = 1u64;
        let random: Bytes = (0..40_000_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            })
            .collect();
        let cut = Cut::of(&random);
        assert!(cut.levels.iter().map(Vec::len).sum::<usize>() < 10_000);
    }
}
