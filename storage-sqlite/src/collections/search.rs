//! Search: what FTS5 finds and ranks, looked up.

use std::time::UNIX_EPOCH;

use rusqlite::{ToSql, params};
use storage_core::{
    Error, ErrorKind, Hit, Json, MAX_HIT_BODY_BYTES, Partition, Phrase, Search, SearchQuery, epoch_millis,
};

use super::{item::readable, partition::millis, query::read, text::prepare};
use crate::{
    error::{Answer, Fault},
    statements::entries::View,
};

// FTS5 ranks, and yields the best first; the items of the others are not looked at.
macro_rules! search {
    ($partitions:literal) => {
        concat!(
            "SELECT i.id, i.sort, i.attributes, i.version, i.written_at_ms, octet_length(i.body),
                iif(octet_length(i.body) <= ?8, i.body, NULL), p.name, t.rank
            FROM storage_text t CROSS JOIN storage_item i ON i.id = t.rowid
                CROSS JOIN storage_partition p ON p.id = i.partition
            WHERE t.storage_text MATCH ?1 AND p.name >= ?2 AND p.name < ?3
                AND (p.expires_at_ms IS NULL OR p.expires_at_ms > ?4) AND i.written_at_ms >= ?5 ",
            $partitions,
            " ORDER BY t.rank LIMIT ?6 OFFSET ?7"
        )
    };
}
pub(super) const SEARCH: &str = search!("");
pub(super) const SEARCH_WITHIN: &str = search!("AND p.name IN (SELECT value FROM json_each(?9))");

pub(super) fn search(view: &View<'_>, search: &Search) -> Answer<Vec<Hit>> {
    let sql = if search.partitions.is_empty() { SEARCH } else { SEARCH_WITHIN };
    let mut select = prepare(view, sql)?.ok_or_else(outdated)?;
    let (from, to, _) = Partition::range(&search.kind, &[])?;
    let since = search.written_since.unwrap_or(UNIX_EPOCH);
    let (limit, offset) = (search.limit.cast_signed(), search.offset.cast_signed());
    let (asked, most) = (expression(search), MAX_HIT_BODY_BYTES.cast_signed());
    let since = epoch_millis(since).cast_signed();
    let names: Vec<&str> = search.partitions.iter().map(Partition::as_str).collect();
    let names = Json::from_serialize(&names)?;
    let all: &[&dyn ToSql] =
        params![asked, from, to, millis(view), since, limit, offset, most, names.as_str()];
    let used = if search.partitions.is_empty() { all.len() - 1 } else { all.len() };
    let mut rows = select.query(all.get(..used).unwrap_or(all))?;
    let mut hits = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = readable(&search.kind, row.get(7))?;
        let item = read(row, &name)?.without_body();
        let score: f64 = row.get(8)?;
        hits.push(Hit { partition: Partition::from_text(&name)?, item, score: -score });
        view.check()?;
    }
    Ok(hits)
}

fn outdated() -> Fault {
    Error::new(ErrorKind::Unsupported, "the file was made by a release without search")
        .with_hint("`storage init` adds it, or a program's connect; what was written before is not found")
        .into()
}

/// In the language of FTS5. Words and labels are letters and digits, so that nothing in them has to be escaped.
fn expression(search: &Search) -> String {
    let mut expression = format!("words : ({})", words(&search.query));
    for label in &search.labels {
        expression += &format!(" AND labels : (\"{label}\")");
    }
    expression
}

fn words(query: &SearchQuery) -> String {
    let groups: Vec<String> = query.all().iter().map(|group| format!("({})", any(group))).collect();
    let all = groups.join(" AND ");
    if query.none().is_empty() { all } else { format!("({all}) NOT ({})", any(query.none())) }
}

fn any(phrases: &[Phrase]) -> String {
    let phrase =
        |phrase: &Phrase| format!("\"{}\"{}", phrase.words.join(" "), if phrase.prefix { " *" } else { "" });
    phrases.iter().map(phrase).collect::<Vec<_>>().join(" OR ")
}
