//! Payloads in a partition: what a commit must write of them, and how they are put together again.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use storage_core::{CollectionStore, Item, Json, Operation, Partition, Precondition, PutMode, Result};

use super::{
    chunks::{Cut, MOST_LEVELS, MOST_PIECES, Piece, hash, hashes, join_hashes, split_hashes},
    layout::{chunk, corrupt, node},
    record::{Packer, Record, unpack},
};

/// How many items are asked for at once.
pub(super) const FETCHED: usize = 1000;

/// How often a read is repeated that a pruning took something away from.
pub(super) const TRIES: u32 = 8;

pub(super) fn null() -> Json {
    Json::from_serialize(&()).unwrap_or_else(|_| Json::from(0))
}

/// The pieces that a commit writes, and those it counts on.
#[derive(Default)]
pub(super) struct Staged {
    pub(super) operations: Vec<Operation>,
    pub(super) preconditions: Vec<Precondition>,
    seen: HashSet<String>,
}

impl Staged {
    /// Adds what is not known to be there by a `hint`. While that stays as it was found, which becomes a precondition, each
    /// piece that it names is there with all that it lists: a removal of pieces begins with the hints. That the piece is there
    /// becomes another, for a partition that was damaged.
    pub(super) fn add(&mut self, cut: &Cut, hint: Option<&Item>, packer: &mut Packer) -> Result<()> {
        let known: HashSet<u128> =
            hint.and_then(|hint| split_hashes(&hint.body)).into_iter().flatten().collect();
        let mut counted_on = hint.filter(|_| !known.is_empty());
        let mut open: Vec<(usize, &Piece)> = cut.root().iter().map(|piece| (cut.depth(), piece)).collect();
        while let Some((level, piece)) = open.pop() {
            let sort = if level == 0 { chunk(piece.hash) } else { node(piece.hash) };
            if !self.seen.insert(sort.clone()) {
                continue;
            }
            if known.contains(&piece.hash) {
                self.preconditions.push(Precondition::Present(sort));
                self.preconditions.extend(counted_on.take().map(unchanged));
                continue;
            }
            let listed = cut.listed(level, piece);
            let body =
                if level == 0 { packer.pack(&cut.chunk(piece))? } else { join_hashes(hashes(listed)).into() };
            self.operations.push(Operation::put(sort, null(), body, PutMode::InsertIfAbsent));
            open.extend(listed.iter().map(|piece| (level - 1, piece)));
        }
        Ok(())
    }
}

fn unchanged(item: &Item) -> Precondition {
    Precondition::ItemVersion(item.sort.clone(), item.version)
}

/// The bytes of a record: `None` where it has none.
///
/// # Errors
/// `Corrupt` naming a piece that is missing or damaged.
pub(super) async fn load(
    store: &dyn CollectionStore,
    partition: &Partition,
    record: Record,
) -> Result<Option<Bytes>> {
    let (depth, bytes, mut hashes) = match record {
        Record::Absent | Record::NoBytes => return Ok(None),
        Record::Inline(bytes) => return Ok(Some(bytes)),
        Record::Tree { depth, bytes, root } => (depth, bytes, root),
    };
    // A damaged item must not ask for more than a payload can have.
    let bounded = |hashes: &Vec<u128>| hashes.len() <= MOST_PIECES;
    if depth > MOST_LEVELS || !bounded(&hashes) {
        return Err(corrupt(partition.as_str()));
    }
    for _ in 0..depth {
        let nodes = nodes(store, partition, &hashes).await?;
        hashes = nodes.into_iter().flatten().collect();
        if !bounded(&hashes) {
            return Err(corrupt(partition.as_str()));
        }
    }
    let mut joined = BytesMut::new();
    for hashes in hashes.chunks(FETCHED) {
        for (sort, body) in bodies(store, partition, hashes, chunk).await? {
            joined.extend(
                &body.1.ok_or_else(|| corrupt(&sort)).and_then(|packed| checked(&sort, body.0, &packed))?,
            );
        }
        if joined.len() as u64 > bytes {
            break;
        }
    }
    if joined.len() as u64 == bytes { Ok(Some(joined.freeze())) } else { Err(corrupt(partition.as_str())) }
}

/// What nodes list.
pub(super) async fn nodes(
    store: &dyn CollectionStore,
    partition: &Partition,
    hashes: &[u128],
) -> Result<Vec<Vec<u128>>> {
    let mut listed = Vec::with_capacity(hashes.len());
    for hashes in hashes.chunks(FETCHED) {
        for (sort, (_, body)) in bodies(store, partition, hashes, node).await? {
            listed.push(body.and_then(|body| split_hashes(&body)).ok_or_else(|| corrupt(&sort))?);
        }
    }
    Ok(listed)
}

type Found = (String, (u128, Option<Bytes>));

async fn bodies(
    store: &dyn CollectionStore,
    partition: &Partition,
    hashes: &[u128],
    key: fn(u128) -> String,
) -> Result<Vec<Found>> {
    let sorts: Vec<String> = hashes.iter().map(|hash| key(*hash)).collect();
    let found = store.items(partition, &sorts.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let bodies = found.into_iter().map(|item| item.map(|item| item.body));
    Ok(sorts.into_iter().zip(hashes.iter().copied().zip(bodies)).collect())
}

fn checked(sort: &str, expected: u128, packed: &Bytes) -> Result<Bytes> {
    unpack(packed).filter(|bytes| hash(bytes) == expected).ok_or_else(|| corrupt(sort))
}
