//! The statements about entries. Every one is about arrays where it can be: one key is the array of one.

/// The server's time as `expires_at` counts it, for judging what has expired: one moment for a whole statement.
///
/// Not `clock_timestamp()`: it could differ between two places of one statement, and no index serves it. A statement
/// that had to wait judges by the moment it was sent, so nothing is taken for expired too early.
const NOW: &str = "extract(epoch FROM statement_timestamp())::float8";

/// Some `columns` of the entries of some keys.
pub(super) fn find(table: &str, columns: &str, key: &str) -> String {
    format!("SELECT {columns} FROM {table} e WHERE {key} = ANY($1) AND {live}", live = live())
}

/// Whether the row `e` has not expired.
fn live() -> String {
    format!("(e.expires_at IS NULL OR e.expires_at > {NOW})")
}

/// `expires_at` for a time to live in milliseconds, rounded up so that nothing expires early. What has none is spared the
/// arithmetic with decimals, a twentieth of an upsert.
fn expiry(ttl: &str) -> String {
    let now = "extract(epoch FROM clock_timestamp())::float8";
    format!("CASE WHEN {ttl} IS NOT NULL THEN ceil({now} * 1000 + {ttl}) / 1000 END")
}

/// Takes its locks in the order in which it is given the keys.
pub(super) fn upsert(table: &str) -> String {
    format!(
        "INSERT INTO {table} AS e (key, value, expires_at) \
         SELECT key, value, {expiry} FROM unnest($1, $2, $3) AS new (key, value, ttl) \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at",
        expiry = expiry("ttl")
    )
}

pub(super) fn upsert_one(table: &str) -> String {
    format!(
        "INSERT INTO {table} (key, value, expires_at) VALUES ($1, $2, {expiry}) \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at",
        expiry = expiry("$3")
    )
}

/// Locks in the order of the keys, as upserts do, so that two calls never wait for each other.
pub(super) fn delete(table: &str) -> String {
    format!(
        "WITH doomed AS MATERIALIZED ( \
             SELECT key FROM {table} WHERE key = ANY($1) ORDER BY key COLLATE \"C\" FOR UPDATE) \
         DELETE FROM {table} e USING doomed WHERE e.key = doomed.key RETURNING e.key, {live}",
        live = live()
    )
}

/// Locks in the order of the keys. What is judged and what is answered is what stands there once it is locked.
pub(super) fn swap(table: &str) -> String {
    format!(
        "WITH found AS MATERIALIZED ( \
             SELECT e.key, e.value, e.value = new.old AS swaps, new.value AS new, new.ttl \
             FROM unnest($1, $2, $3, $4) AS new (key, old, value, ttl) JOIN {table} e ON e.key = new.key \
             WHERE {live} ORDER BY e.key COLLATE \"C\" FOR UPDATE OF e), \
         replaced AS ( \
             UPDATE {table} e SET value = found.new, expires_at = {expiry} FROM found \
             WHERE e.key = found.key AND found.swaps AND found.new IS NOT NULL), \
         removed AS ( \
             DELETE FROM {table} e USING found \
             WHERE e.key = found.key AND found.swaps AND found.new IS NULL) \
         SELECT key, swaps, CASE WHEN NOT swaps THEN value END FROM found",
        live = live(),
        expiry = expiry("found.ttl")
    )
}

/// Answers no row where the value is no integer or the sum would overflow.
pub(super) fn increment(table: &str) -> String {
    // CASE below, for `AND` has no order: the cast would fail on what is no number.
    let range = "BETWEEN -9223372036854775808 AND 9223372036854775807";
    format!(
        "INSERT INTO {table} AS e (key, value, expires_at) VALUES ($1, to_jsonb($2), {expiry}) \
         ON CONFLICT (key) DO UPDATE SET \
             value = CASE WHEN {live} THEN to_jsonb((e.value::numeric + $2)::int8) ELSE excluded.value END, \
             expires_at = CASE WHEN {live} THEN e.expires_at ELSE excluded.expires_at END \
         WHERE CASE \
             WHEN e.expires_at <= {NOW} THEN true \
             WHEN jsonb_typeof(e.value) = 'number' THEN e.value::numeric % 1 = 0 \
                 AND e.value::numeric {range} AND e.value::numeric + $2 {range} \
             ELSE false END \
         RETURNING value::int8",
        expiry = expiry("$3"),
        live = live()
    )
}

/// From `$1` on, before `$2`, in the order of the bytes whatever the collation of the database is.
pub(super) fn page(table: &str, columns: &str, filter: &str) -> String {
    format!(
        "SELECT {columns} FROM {table} e WHERE key COLLATE \"C\" >= $1 AND key COLLATE \"C\" < $2 \
         AND {live}{filter} ORDER BY key COLLATE \"C\" LIMIT $3",
        live = live()
    )
}

/// Writes what is not there.
pub(super) fn create(table: &str) -> String {
    format!("{upsert} WHERE e.expires_at <= {NOW} RETURNING key", upsert = upsert(table))
}

pub(super) fn ttl(table: &str) -> String {
    format!("SELECT expires_at - {NOW} FROM {table} e WHERE key = $1 AND {live}", live = live())
}

pub(super) fn expire(table: &str) -> String {
    format!(
        "UPDATE {table} e SET expires_at = {expiry} WHERE key = $1 AND {live} RETURNING 1",
        expiry = expiry("$2"),
        live = live()
    )
}

pub(super) fn persist(table: &str) -> String {
    format!("UPDATE {table} e SET expires_at = NULL WHERE key = $1 AND {live} RETURNING 1", live = live())
}

/// Locks in the order in which it is given the keys. `WHERE false` locks the row and leaves it as it is; what is not there
/// can only be locked by being made, as expired since the epoch.
pub(super) fn claim(table: &str) -> String {
    format!(
        "INSERT INTO {table} AS e (key, value, expires_at) SELECT key, 'null', 0 FROM unnest($1) AS new (key) \
         ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE false"
    )
}

/// Deletes those of some keys that have expired.
pub(super) fn purge(table: &str) -> String {
    format!("DELETE FROM {table} WHERE key = ANY($1) AND expires_at <= {NOW}")
}

/// Passes over rows that somebody is writing, and looks again before it deletes: a value written since stays.
pub(super) fn sweep(table: &str) -> String {
    format!(
        // An array is evaluated once; in a join the planner could run the sub-select, and its LIMIT, several times.
        "WITH gone AS ( \
             DELETE FROM {table} WHERE expires_at <= {NOW} AND key = ANY(ARRAY( \
                 SELECT key FROM {table} WHERE expires_at <= {NOW} \
                 ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)) \
             RETURNING 1) \
         SELECT count(*) FROM gone"
    )
}

/// Counts a small table and takes the planner's estimate of a large one.
pub(super) fn stats(table: &str) -> String {
    format!(
        "SELECT CASE WHEN pg_relation_size(c.oid) < 64 * 1024 * 1024 OR c.reltuples < 0 \
             THEN (SELECT count(*) FROM {table}) ELSE c.reltuples::int8 END, \
             pg_total_relation_size(c.oid), current_setting('server_version') \
         FROM pg_class c WHERE c.oid = to_regclass($1)"
    )
}

/// Reads, and says of a standby how many seconds it is behind: nothing where all that it has received is replayed, and it
/// receives.
pub(super) fn look(table: &str) -> String {
    format!(
        "SELECT CASE WHEN NOT pg_is_in_recovery() THEN NULL \
         WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() AND EXISTS (SELECT FROM pg_stat_wal_receiver) THEN 0 \
         ELSE greatest(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0) END::float8, \
         EXISTS (SELECT FROM {table} WHERE key = '')"
    )
}

/// A position in the log, and what primary and standby have in common where this table is one and the same: the cluster's
/// own number, and those of database and table.
pub(crate) fn position(table: &str, position: &str) -> String {
    let table = table.replace('\'', "''");
    format!(
        "SELECT {position}::text, concat_ws('/', (SELECT system_identifier FROM pg_control_system()), \
         (SELECT oid FROM pg_database WHERE datname = current_database()), to_regclass('{table}')::oid)"
    )
}

/// Writes and leaves nothing behind, in one implicit transaction: no program has an entry with the empty key.
pub(crate) fn touch(table: &str) -> String {
    format!(
        "INSERT INTO {table} (key, value, expires_at) VALUES ('', 'null', 0) ON CONFLICT (key) DO NOTHING; \
         DELETE FROM {table} WHERE key = '' AND expires_at = 0"
    )
}
