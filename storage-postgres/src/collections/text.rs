//! Full-text search: a `tsvector` beside each item that is found.

use std::{collections::BTreeMap, fmt::Write, time::UNIX_EPOCH};

use storage_core::{
    Error, ErrorKind, Hit, Partition, Phrase, Result, Search, SearchQuery, SearchText, epoch_millis,
};

use super::read::item;
use crate::{
    connections::executor::Executor,
    statements::{
        partition_schema::Collections,
        partitions::Sql,
        query::Query,
        value::{Param, column, signed},
    },
};

/// What stands before a label, so that no word is one.
const LABEL: char = '=';

/// As text of a `tsvector`. Words and labels are letters and digits, so that nothing in them has to be escaped.
pub(super) fn vector(text: &SearchText) -> String {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (word, place) in text.places() {
        places.entry(word).or_default().push(place);
    }
    let mut vector = String::with_capacity(text.words().len() * 2);
    for (word, places) in places {
        let mut separator = ':';
        let _ = write!(vector, "'{word}'");
        for place in places {
            let _ = write!(vector, "{separator}{place}");
            separator = ',';
        }
        vector.push(' ');
    }
    for label in text.labels() {
        let _ = write!(vector, "'{LABEL}{label}' ");
    }
    vector
}

pub(super) async fn search(mut executor: Executor, search: Search) -> Result<Vec<Hit>> {
    if executor.schema().collections != Collections::Whole {
        return Err(Error::new(ErrorKind::Unsupported, "the tables are of a release without search")
            .with_hint("connect with a role that may alter them, or run `storage init` with one"));
    }
    let within = !search.partitions.is_empty();
    let (from, to, _) = Partition::range(&search.kind, &[])?;
    let since = signed(epoch_millis(search.written_since.unwrap_or(UNIX_EPOCH)));
    let words = words(&search.query);
    let labels = search.labels.iter().map(|label| format!(" & '{LABEL}{label}'"));
    let asked = words.clone() + &labels.collect::<String>();
    let (limit, offset) = (signed(search.limit as u64), signed(search.offset as u64));
    let names: Vec<&str> = search.partitions.iter().map(Partition::as_str).collect();
    let params: [Param<'_>; 8] = [&asked, &words, &from, &to, &since, &limit, &offset, &names];
    let params = if within { &params[..] } else { &params[..7] };
    let rows = executor.query(Query::Collections(Sql::Search { within }), params).await?;
    let hit = |row| {
        let partition = Partition::from_text(column(row, 6)?)?;
        Ok(Hit { partition, item: item(row)?, score: column(row, 7)? })
    };
    rows.iter().map(hit).collect()
}

/// As text of a `tsquery`.
fn words(query: &SearchQuery) -> String {
    let groups: Vec<String> = query.all().iter().map(|group| format!("({})", any(group))).collect();
    let none = if query.none().is_empty() { String::new() } else { format!(" & !({})", any(query.none())) };
    groups.join(" & ") + &none
}

fn any(phrases: &[Phrase]) -> String {
    let phrase = |phrase: &Phrase| {
        let prefix = if phrase.prefix { ":*" } else { "" };
        format!("('{}'{prefix})", phrase.words.join("' <-> '"))
    };
    phrases.iter().map(phrase).collect::<Vec<_>>().join(" | ")
}
