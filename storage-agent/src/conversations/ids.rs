//! What keeps the id of a message that was written over: an item behind it, with the tag that the store took from the message.
//!
//! Its sort key is the message's, a colon, and a number of the sequence. So limits and summaries take it with its message.

use std::collections::BTreeMap;

use storage_core::{
    CollectionStore, Item, Json, Operation, Order, Outcome, Partition, Query, Result, sequence_key,
};

/// How many items are looked at in one step.
const PAGE: usize = 1_000;

/// Keeps the id of a message that the same commit writes over. Where it is kept already, nothing is written.
pub(super) fn keep(sequence: u64, id: &str) -> Operation {
    let (prefix, tag) = (format!("{}:", sequence_key("", sequence)), Some(id.to_owned()));
    Operation::Append { prefix, attributes: Json::from(0), body: bytes::Bytes::new(), tag, search: None }
}

/// Forgets the id of a message that was written over.
pub(super) fn forget(sequence: u64) -> Operation {
    let sort = sequence_key("", sequence);
    Operation::DeleteRange { from: format!("{sort}:"), to: Some(format!("{sort};")) }
}

/// Whether an item keeps an id, and is no message.
pub(super) fn is_kept_id(item: &Item) -> bool {
    kept(&item.sort).is_some()
}

/// The numbers of the message and of the item that keeps its id.
fn kept(sort: &str) -> Option<(u64, u64)> {
    let (message, own) = sort.split_once(':')?;
    Some((message.parse().ok()?, own.parse().ok()?))
}

/// The numbers of messages that were appended. Where the store answers that of an item that keeps an id, the message's is
/// looked for: in the keys before it, backwards, which takes long only where the message was said long before.
pub(super) async fn numbers(
    store: &dyn CollectionStore,
    partition: &Partition,
    outcomes: &[Outcome],
) -> Result<Vec<u64>> {
    let appended = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Appended { sequence, new } => Some((*sequence, *new)),
        _ => None,
    });
    let appended: Vec<_> = appended.collect();
    let mut known: BTreeMap<u64, Option<u64>> =
        appended.iter().filter(|(_, new)| !new).map(|(sequence, _)| (*sequence, None)).collect();
    let mut missing = known.len();
    let end = known.last_key_value().map(|(last, _)| sequence_key("", last.saturating_add(1)));
    let all = |end| Query::range(partition.clone(), "", Some(end), PAGE).without_bodies();
    let mut next = end.map(|end| all(end).order(Order::Descending));
    while let Some(query) = next.filter(|_| missing > 0) {
        let page = store.query(query.clone()).await?;
        next = query.after(&page);
        for item in page.items {
            let named = kept(&item.sort).or_else(|| item.sort.parse().ok().map(|number| (number, number)));
            let Some((message, own)) = named else { continue };
            if let Some(place @ None) = known.get_mut(&own) {
                *place = Some(message);
                missing -= 1;
            }
        }
    }
    // What is not found limits have taken in the same step.
    let number = |(sequence, _)| known.get(&sequence).copied().flatten().unwrap_or(sequence);
    Ok(appended.into_iter().map(number).collect())
}
