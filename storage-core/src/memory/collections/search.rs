//! Search in memory: every text of the kind is looked at.

use std::{collections::HashSet, sync::Arc};

use super::{Partitions, partition::Stored};
use crate::{Hit, MAX_HIT_BODY_BYTES, Partition, Result, Search, SearchText, search::ranked};

/// An item that may be found.
struct Text {
    partition: String,
    sort: String,
    text: Arc<SearchText>,
}

pub(super) fn hits(partitions: &Partitions, search: &Search) -> Result<Vec<Hit>> {
    // What is looked at is taken along: ranking holds no lock.
    let texts = texts(partitions, search)?;
    let mut found = ranked(&search.query, texts.iter().map(|text| text.text.words()));
    let place = |at: &usize| texts.get(*at).map(|text| (&text.partition, &text.sort));
    found.sort_by(|(left, better), (right, worse)| {
        // By name where they fit equally well, so that pages of one search do not overlap.
        worse.total_cmp(better).then_with(|| place(left).cmp(&place(right)))
    });
    let best = found.into_iter().skip(search.offset).take(search.limit);
    let hits = best.filter_map(|(place, score)| {
        let Text { partition, sort, .. } = texts.get(place)?;
        let partition = Partition::from_text(partition).ok()?;
        let mut item = partitions.look(&partition, |stored| stored.item(sort))?;
        if item.body.len() > MAX_HIT_BODY_BYTES {
            item.body = bytes::Bytes::new();
        }
        Some(Hit { partition, item, score })
    });
    Ok(hits.collect())
}

fn texts(partitions: &Partitions, search: &Search) -> Result<Vec<Text>> {
    let only: HashSet<&str> = search.partitions.iter().map(Partition::as_str).collect();
    let mut texts = Vec::new();
    let mut take = |name: &str, stored: &Stored| {
        if !only.is_empty() && !only.contains(name) {
            return;
        }
        let found = stored.texts().filter(|(item, text)| {
            search.written_since.is_none_or(|since| item.written_at >= since)
                && search.labels.iter().all(|label| text.labels().contains(label))
        });
        texts.extend(found.map(|(item, text)| Text {
            partition: name.to_owned(),
            sort: item.sort.clone(),
            text: text.clone(),
        }));
    };
    let (mut from, to, _) = Partition::range(&search.kind, &[])?;
    while let Some(next) = partitions.some(&from, &to, &mut take) {
        from = next;
    }
    Ok(texts)
}
