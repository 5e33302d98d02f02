//! The statements about partitions and items.

use std::sync::LazyLock;

use storage_core::{MAX_HIT_BODY_BYTES, MAX_PAGE_BYTES};
use tokio_postgres::types::Type;

/// No sort key of 1,024 bytes comes after this.
pub(crate) static END: LazyLock<String> = LazyLock::new(|| "\u{10ffff}".repeat(257));

/// The names of the tables as they stand in SQL.
pub(crate) struct Tables {
    pub(crate) partitions: String,
    pub(crate) items: String,
}

impl Tables {
    /// The tables beside `kv_store`.
    pub(crate) fn of(kv_store: &str) -> Self {
        let schema = kv_store.strip_suffix("kv_store").unwrap_or_default();
        Self { partitions: format!("{schema}storage_partition"), items: format!("{schema}storage_item") }
    }
}

/// A statement by its purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sql {
    /// Takes the name from an expired partition.
    Bury,
    /// Makes a partition of version 0, if there is none.
    Make,
    /// Locks a partition and tells what is known of it.
    Lock,
    /// What a commit has to know of the items that it may touch.
    Touched,
    /// Deletes items, and takes the tags from those that will be written over.
    Clear,
    /// Writes items and the partition; and the words that items are found by, where there is a column for them.
    Write {
        words: bool,
    },
    /// A whole commit that does nothing but append.
    Append {
        words: bool,
    },
    /// Items by their words, in partitions from a name to before another; or in some of these alone.
    Search {
        within: bool,
    },
    Page {
        descending: bool,
        bodies: bool,
    },
    Items,
    Info,
    /// A page of partitions.
    List,
    /// Takes the name from a partition.
    Delete,
    /// Takes the names from some expired partitions.
    SweepExpired,
    /// Deletes some items of partitions without a name.
    SweepItems,
    /// Deletes some partitions without a name and items.
    SweepPartitions,
}

impl Sql {
    /// Whether a lost answer leaves the outcome unknown. `Bury` and `Make` are parts of transactions; a sweep may be
    /// repeated as often as you like.
    pub(crate) fn is_write(self) -> bool {
        matches!(self, Self::Clear | Self::Write { .. } | Self::Append { .. } | Self::Delete)
    }

    pub(crate) fn types(self) -> &'static [Type] {
        const TEXT: Type = Type::TEXT;
        const TEXTS: Type = Type::TEXT_ARRAY;
        const INT: Type = Type::INT8;
        match self {
            Self::Bury | Self::Make | Self::Lock | Self::Info | Self::Delete => &[TEXT],
            Self::Touched => &[TEXT, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, INT, INT],
            Self::Clear => &[INT, TEXTS, TEXTS],
            Self::Write { words: false } => {
                &[INT, INT, INT, INT, INT, Type::BOOL, INT, TEXTS, TEXTS, Type::BYTEA_ARRAY, TEXTS]
            }
            Self::Write { words: true } => {
                &[INT, INT, INT, INT, INT, Type::BOOL, INT, TEXTS, TEXTS, Type::BYTEA_ARRAY, TEXTS, TEXTS]
            }
            Self::Append { words: false } => {
                &[TEXT, INT, INT, Type::BOOL, INT, TEXTS, TEXTS, Type::BYTEA_ARRAY, TEXTS, INT]
            }
            Self::Append { words: true } => {
                &[TEXT, INT, INT, Type::BOOL, INT, TEXTS, TEXTS, Type::BYTEA_ARRAY, TEXTS, INT, TEXTS]
            }
            Self::Search { within: false } => &[TEXT, TEXT, TEXT, TEXT, INT, INT, INT],
            Self::Search { within: true } => &[TEXT, TEXT, TEXT, TEXT, INT, INT, INT, TEXTS],
            Self::Page { .. } => &[TEXT, TEXT, TEXT, INT],
            Self::Items => &[TEXT, TEXTS],
            Self::List => &[TEXT, TEXT, INT],
            Self::SweepExpired | Self::SweepItems | Self::SweepPartitions => &[INT],
        }
    }

    /// The statement on the tables beside `kv_store`.
    pub(crate) fn text(self, kv_store: &str) -> String {
        let tables = Tables::of(kv_store);
        let Tables { partitions, items } = &tables;
        match self {
            Self::Bury => {
                format!("UPDATE {partitions} SET name = NULL WHERE name = $1 AND expires_at <= {NOW}")
            }
            // ON CONFLICT alone would use up a number of the sequence with each commit.
            Self::Make => format!(
                "INSERT INTO {partitions} (name, version, sequence, items, bytes, updated_at) \
                 SELECT $1, 0, 0, 0, 0, {MOMENT} WHERE NOT EXISTS (SELECT FROM {partitions} WHERE name = $1) \
                 ON CONFLICT (name) DO NOTHING"
            ),
            Self::Lock => format!(
                "SELECT id, version, sequence, items, bytes, {MOMENT} FROM {partitions} WHERE name = $1 FOR UPDATE"
            ),
            Self::Touched => touched(&tables),
            Self::Clear => format!(
                "WITH untagged AS ( \
                     UPDATE {items} SET tag = NULL WHERE partition = $1 AND sort = ANY($3)) \
                 DELETE FROM {items} WHERE partition = $1 AND sort = ANY($2)"
            ),
            Self::Write { words } => write(&tables, words),
            Self::Append { words } => append(&tables, words),
            Self::Search { within } => search(&tables, within),
            Self::Page { descending, bodies } => page(&tables, descending, bodies),
            Self::Items => format!(
                "SELECT sort, attributes, body, octet_length(body)::int8, version, written_at FROM {items} \
                 WHERE partition = {id} AND sort = ANY($2)",
                id = id(partitions)
            ),
            Self::Info => format!("SELECT {INFO} FROM {partitions} p WHERE name = $1 AND {LIVE}"),
            Self::List => format!(
                "SELECT {INFO} FROM {partitions} p WHERE name >= $1 AND name < $2 AND {LIVE} \
                 ORDER BY name LIMIT $3"
            ),
            Self::Delete => {
                format!("UPDATE {partitions} p SET name = NULL WHERE name = $1 RETURNING {LIVE}")
            }
            Self::SweepExpired => sweep_expired(partitions),
            Self::SweepItems => sweep_items(&tables),
            Self::SweepPartitions => sweep_partitions(&tables),
        }
    }
}

/// For judging what has expired: one moment for a whole statement, and an index serves it.
const NOW: &str = "statement_timestamp()";
/// For what is written. Taken when the partition is locked, so that it does not go back from commit to commit.
const MOMENT: &str = "date_trunc('milliseconds', clock_timestamp())";
/// Whether the partition `p` has not expired.
const LIVE: &str = "(p.expires_at IS NULL OR p.expires_at > statement_timestamp())";
const INFO: &str = "name, version, sequence, items, bytes, updated_at, expires_at";

/// The id of the partition of the name `$1`; once for a whole statement.
fn id(partitions: &str) -> String {
    format!("(SELECT p.id FROM {partitions} p WHERE p.name = $1 AND {LIVE})")
}

/// `expires_at` where `change` says so: a time to live in milliseconds from now, or none.
fn expiry(change: &str, ttl: &str, otherwise: &str) -> String {
    format!(
        "CASE WHEN {change} THEN clock_timestamp() + {ttl} * interval '1 millisecond' ELSE {otherwise} END"
    )
}

/// By sort key (`$2`), of these also the attributes (`$3`); by tag (`$4`); where appends of the prefixes `$5` will
/// probably go; from `$6` to before `$7`; and from the beginning, so many as a bound will probably reach (`$8`, `$9`).
fn touched(Tables { partitions, items }: &Tables) -> String {
    let columns = "i.sort, i.version, octet_length(i.attributes)::int8, coalesce(octet_length(i.body), 0)::int8, \
        i.tag, i.written_at";
    // OFFSET 0 below keeps each range an index scan of its own: without it the planner flattens it into a join.
    let mine = format!("{items} i WHERE i.partition = (SELECT id FROM p)");
    format!(
        "WITH p AS MATERIALIZED (SELECT id, sequence, items FROM {partitions} WHERE name = $1) \
         SELECT {columns}, CASE WHEN i.sort = ANY($3) THEN i.attributes END, false FROM {mine} AND i.sort = ANY($2) \
         UNION ALL SELECT {columns}, NULL, false FROM {mine} AND i.tag = ANY($4) AND i.tag IS NOT NULL \
         UNION ALL SELECT {columns}, NULL, false FROM {mine} AND i.sort = ANY(ARRAY( \
             SELECT prefix || lpad(((SELECT sequence FROM p) + place)::text, 20, '0') \
             FROM unnest($5) WITH ORDINALITY AS a (prefix, place))) \
         UNION ALL SELECT i.* FROM unnest($6, $7) AS r (low, high) CROSS JOIN LATERAL ( \
             SELECT {columns}, NULL, false FROM {mine} AND i.sort >= r.low AND i.sort < r.high OFFSET 0) i \
         UNION ALL (SELECT {columns}, NULL, true FROM {mine} ORDER BY i.sort \
             LIMIT greatest($8, (SELECT items FROM p) + $9))"
    )
}

/// A body that is NULL means that the one that is there stays.
fn write(Tables { partitions, items }: &Tables, words: bool) -> String {
    let [column, value, update, array] =
        if words { [", words", ", words::tsvector", ", words = excluded.words", ", $12"] } else { [""; 4] };
    format!(
        "WITH moment AS MATERIALIZED (SELECT {MOMENT} AS now), written AS ( \
             INSERT INTO {items} AS i (partition, sort, attributes, body, tag, version, written_at{column}) \
             SELECT $1, sort, attributes, body, tag, $2, (SELECT now FROM moment){value} \
             FROM unnest($8, $9, $10, $11{array}) AS new (sort, attributes, body, tag{column}) \
             ON CONFLICT (partition, sort) DO UPDATE SET attributes = excluded.attributes, \
                 body = coalesce(excluded.body, i.body), tag = excluded.tag, version = excluded.version, \
                 written_at = excluded.written_at{update}) \
         UPDATE {partitions} SET version = $2, sequence = $3, items = $4, bytes = $5, \
             updated_at = (SELECT now FROM moment), expires_at = {expiry} WHERE id = $1",
        expiry = expiry("$6", "$7", "expires_at")
    )
}

/// Answers no row where the partition has expired, or where a tag is there. A tag that came meanwhile, or an item where
/// one should go, is a unique violation; either way it takes the longer way. `$10` is the version of a new partition.
fn append(Tables { partitions, items }: &Tables, words: bool) -> String {
    let [column, value, array] = if words { [", words", ", words::tsvector", ", $11"] } else { [""; 3] };
    format!(
        "WITH p AS ( \
             INSERT INTO {partitions} AS p (name, version, sequence, items, bytes, updated_at, expires_at) \
             VALUES ($1, $10, $2, $2, $3, {MOMENT}, {fresh}) \
             ON CONFLICT (name) DO UPDATE SET version = p.version + 1, sequence = p.sequence + $2, \
                 items = p.items + $2, bytes = p.bytes + $3, updated_at = {MOMENT}, expires_at = {renewed} \
             WHERE {LIVE} AND NOT EXISTS ( \
                 SELECT FROM {items} i WHERE i.partition = p.id AND i.tag = ANY($9) AND i.tag IS NOT NULL) \
             RETURNING id, version, sequence, updated_at), \
         written AS ( \
             INSERT INTO {items} (partition, sort, attributes, body, tag, version, written_at{column}) \
             SELECT p.id, prefix || lpad((p.sequence - $2 + place)::text, 20, '0'), attributes, body, tag, \
                 p.version, p.updated_at{value} \
             FROM p, unnest($6, $7, $8, $9{array}) \
                 WITH ORDINALITY AS new (prefix, attributes, body, tag{column}, place)) \
         SELECT version, sequence FROM p",
        fresh = expiry("$4", "$5", "NULL"),
        renewed = expiry("$4", "$5", "p.expires_at")
    )
}

/// Of what is found (`$1`), ranked by the words alone (`$2`), only the best are looked at for what they hold.
fn search(Tables { partitions, items }: &Tables, within: bool) -> String {
    let only = if within { "AND p.name = ANY($8)" } else { "" };
    format!(
        "SELECT i.sort, i.attributes, CASE WHEN octet_length(i.body) <= {MAX_HIT_BODY_BYTES} THEN i.body END, \
             octet_length(i.body)::int8, i.version, i.written_at, hit.name, hit.rank::float8 FROM ( \
             SELECT p.name, i.partition, i.sort, i.written_at, ts_rank(i.words, $2::tsquery, 1) AS rank \
             FROM {items} i JOIN {partitions} p ON p.id = i.partition \
             WHERE i.words @@ $1::tsquery AND p.name >= $3 AND p.name < $4 AND {LIVE} \
                 AND i.written_at >= to_timestamp($5::float8 / 1000) {only} \
             ORDER BY rank DESC, i.written_at DESC, p.name, i.sort DESC LIMIT $6 OFFSET $7) hit \
         JOIN {items} i ON i.partition = hit.partition AND i.sort = hit.sort \
         ORDER BY hit.rank DESC, hit.written_at DESC, hit.name, hit.sort DESC"
    )
}

/// Items until their bytes pass those of a page, and the first beyond, without its body, which tells that there are
/// more. The length of a body is known without reading it.
fn page(Tables { partitions, items }: &Tables, descending: bool, bodies: bool) -> String {
    let order = if descending { "DESC" } else { "ASC" };
    let (body, counted) = if bodies {
        let fits = format!("place = 1 OR (place < $4 AND total <= {MAX_PAGE_BYTES})");
        (format!("CASE WHEN {fits} THEN body END"), "coalesce(octet_length(body), 0)")
    } else {
        ("NULL::bytea".to_owned(), "0")
    };
    format!(
        "SELECT sort, attributes, {body}, octet_length(body)::int8, version, written_at FROM ( \
             SELECT i.*, row_number() OVER w AS place, sum(size) OVER w AS total FROM ( \
                 SELECT *, octet_length(attributes) + {counted} AS size FROM {items} \
                 WHERE partition = {id} AND sort >= $2 AND sort < $3 ORDER BY sort {order} LIMIT $4) i \
             WINDOW w AS (ORDER BY sort {order} ROWS UNBOUNDED PRECEDING)) page \
         WHERE total - size <= {MAX_PAGE_BYTES}",
        id = id(partitions)
    )
}

/// Passes over partitions that somebody commits to, and looks again: one that got more time stays.
fn sweep_expired(partitions: &str) -> String {
    format!(
        "WITH gone AS ( \
             UPDATE {partitions} SET name = NULL WHERE name IS NOT NULL AND expires_at <= {NOW} \
             AND id = ANY(ARRAY(SELECT id FROM {partitions} WHERE name IS NOT NULL AND expires_at <= {NOW} \
                 ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)) \
             RETURNING 1) \
         SELECT count(*) FROM gone"
    )
}

/// Nobody but another sweep touches what is deleted here.
fn sweep_items(Tables { partitions, items }: &Tables) -> String {
    format!(
        "WITH gone AS ( \
             DELETE FROM {items} WHERE ctid = ANY(ARRAY( \
                 SELECT i.ctid FROM {partitions} p CROSS JOIN LATERAL ( \
                     SELECT ctid FROM {items} WHERE partition = p.id LIMIT $1 FOR UPDATE SKIP LOCKED) i \
                 WHERE p.name IS NULL LIMIT $1)) \
             RETURNING 1) \
         SELECT count(*) FROM gone"
    )
}

fn sweep_partitions(Tables { partitions, items }: &Tables) -> String {
    format!(
        "WITH gone AS ( \
             DELETE FROM {partitions} WHERE id = ANY(ARRAY( \
                 SELECT p.id FROM {partitions} p WHERE p.name IS NULL \
                 AND (SELECT i.partition FROM {items} i WHERE i.partition = p.id LIMIT 1) IS NULL \
                 LIMIT $1 FOR UPDATE SKIP LOCKED)) \
             RETURNING 1) \
         SELECT count(*) FROM gone"
    )
}
