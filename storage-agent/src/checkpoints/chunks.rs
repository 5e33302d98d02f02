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
/// No level has more pieces: the smallest chunk is a quarter of the average.
pub(super) const MOST_PIECES: usize = 4 * MAX_CHUNKS + ROOT_ENTRIES;
/// Nor are there more levels of nodes, of which each has a quarter of the pieces below at most.
pub(super) const MOST_LEVELS: u8 = 8;
/// So many entries may stand in the item itself; more get a level of nodes.
const ROOT_ENTRIES: usize = 16;
/// A node ends, past the least, where a hash is a multiple of the average, and at the most.
const NODE_ENTRIES: (usize, u128, usize) = (4, 8, 64);

/// How many of an earlier cut's pieces are looked at for one that stands here too.
const AHEAD: usize = 32;
/// How many bytes behind a chunk decide about its end: the cutter looks at bytes in pairs.
const LOOKED_PAST: usize = 2;

/// A chunk of the payload's bytes, or a node that lists pieces of the level below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) hash: u128,
    /// The bytes, or the pieces.
    span: Range<usize>,
}

/// A payload in pieces: chunks at the lowest level, few nodes or chunks at the highest.
#[derive(Debug)]
pub(super) struct Cut {
    payload: Bytes,
    levels: Vec<Vec<Piece>>,
    /// How many bytes were in no earlier cut.
    pub(super) fresh: usize,
}

impl Cut {
    /// Cuts a payload. What stands in an `earlier` cut too is taken from there, and comes out as if it were cut anew.
    pub(super) fn of(payload: &Bytes, earlier: Option<&Self>) -> Self {
        let average = average(payload);
        let earlier = earlier.filter(|earlier| self::average(&earlier.payload) == average);
        let (mut top, fresh) = chunks(payload, average, earlier);
        let mut levels = Vec::new();
        while top.len() > ROOT_ENTRIES {
            let nodes = nodes(&top, earlier.map(|earlier| (earlier, levels.len())));
            levels.push(std::mem::replace(&mut top, nodes));
        }
        levels.push(top);
        Self { payload: payload.clone(), levels, fresh }
    }

    /// The length of the payload.
    pub(super) fn bytes(&self) -> usize {
        self.payload.len()
    }

    /// What it takes in memory.
    pub(super) fn weight(&self) -> usize {
        self.bytes() + self.levels.iter().map(|level| level.len() * size_of::<Piece>()).sum::<usize>()
    }

    /// The pieces that the item itself lists.
    pub(super) fn root(&self) -> &[Piece] {
        self.levels.last().map_or(&[], Vec::as_slice)
    }

    /// How many levels of nodes there are.
    pub(super) fn depth(&self) -> usize {
        self.levels.len().saturating_sub(1)
    }

    /// What a node of a level lists; nothing where the level is that of the chunks.
    pub(super) fn listed(&self, level: usize, node: &Piece) -> &[Piece] {
        let below = level.checked_sub(1).and_then(|below| self.levels.get(below));
        below.and_then(|below| below.get(node.span.clone())).unwrap_or_default()
    }

    /// The bytes of a chunk.
    pub(super) fn chunk(&self, chunk: &Piece) -> Bytes {
        self.payload.slice(chunk.span.clone())
    }

    /// The pieces that a next version, changed at its beginning or its end, is likely to share: the root's, and those of
    /// the first and the last node of each level.
    pub(super) fn edges(&self) -> Vec<u128> {
        let mut edges: HashSet<u128> = self.root().iter().map(|piece| piece.hash).collect();
        for (at, level) in self.levels.iter().enumerate() {
            for node in [level.first(), level.last()].into_iter().flatten() {
                edges.extend(self.listed(at, node).iter().map(|piece| piece.hash));
            }
        }
        edges.into_iter().collect()
    }
}

fn average(payload: &Bytes) -> usize {
    let mut average = CHUNK_BYTES;
    while payload.len() / average > MAX_CHUNKS {
        average *= 2;
    }
    average
}

/// The chunks, and how many bytes of them are no earlier cut's. Where a chunk ends depends on its own bytes and few more,
/// so that one whose bytes stand here too would be cut and hashed the same again.
fn chunks(payload: &Bytes, average: usize, earlier: Option<&Cut>) -> (Vec<Piece>, usize) {
    let cutter = FastCDC::new(payload, average / 2, average, average * 4);
    let old = earlier.map_or(&[][..], |earlier| &earlier.payload);
    let mut ahead = earlier.and_then(|earlier| earlier.levels.first()).map_or(&[][..], Vec::as_slice);
    let mut chunks = Vec::with_capacity(ahead.len());
    let (mut at, mut fresh) = (0, 0);
    while at < payload.len() {
        let same = |chunk: &Piece| {
            let was = old.get(chunk.span.start..chunk.span.end + LOOKED_PAST);
            was.is_some() && was == payload.get(at..at + chunk.span.len() + LOOKED_PAST)
        };
        let chunk = match next(&mut ahead, same) {
            Some(found) => Piece { hash: found.hash, span: at..at + found.span.len() },
            None => {
                let (_, end) = cutter.cut(at, payload.len() - at);
                fresh += end - at;
                Piece { hash: hash(payload.get(at..end).unwrap_or_default()), span: at..end }
            }
        };
        at = chunk.span.end;
        chunks.push(chunk);
    }
    (chunks, fresh)
}

/// The nodes that list `entries`, which are the level of the earlier cut that is given with it.
fn nodes(entries: &[Piece], earlier: Option<(&Cut, usize)>) -> Vec<Piece> {
    let (least, average, most) = NODE_ENTRIES;
    let known = earlier.and_then(|(earlier, level)| earlier.levels.get(level + 1));
    let mut ahead = known.map_or(&[][..], Vec::as_slice);
    let mut nodes = Vec::with_capacity(ahead.len());
    let mut start = 0;
    for (at, entry) in entries.iter().enumerate() {
        let length = at + 1 - start;
        let ends =
            (length >= least && entry.hash % average == 0) || length >= most || at + 1 == entries.len();
        if ends {
            let span = start..at + 1;
            let listed = entries.get(span.clone()).unwrap_or_default();
            let same = |node: &Piece| {
                earlier.is_some_and(|(earlier, level)| {
                    hashes(earlier.listed(level + 1, node)).eq(hashes(listed))
                })
            };
            let known = next(&mut ahead, same).map(|node| node.hash);
            let hash = known.unwrap_or_else(|| hash(&join_hashes(hashes(listed))));
            nodes.push(Piece { hash, span });
            start = at + 1;
        }
    }
    nodes
}

/// The piece that is the `same`, if it is among the next of an earlier cut; the search goes on behind it.
fn next<'a>(ahead: &mut &'a [Piece], same: impl Fn(&Piece) -> bool) -> Option<&'a Piece> {
    let at = ahead.iter().take(AHEAD).position(same)?;
    let (found, rest) = ahead.get(at..)?.split_first()?;
    *ahead = rest;
    Some(found)
}

pub(super) fn hashes(pieces: &[Piece]) -> impl Iterator<Item = u128> {
    pieces.iter().map(|piece| piece.hash)
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
mod tests;
