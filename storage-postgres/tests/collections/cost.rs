//! What reads and commits cost, by the server's own counters.

use storage_core::{Commit, Json, Operation, Order, PutMode, Query, StorageBackend};
use storage_postgres::PostgresConfig;

use crate::{
    append,
    common::{config, eventually, open, outside},
    partition, store,
};

const ITEMS: u64 = 10_000;

/// How often rows of items were read, through an index and not, and pages of large bodies were touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counters {
    rows: i64,
    scans: i64,
    bodies: i64,
}

async fn counters(config: &PostgresConfig) -> Counters {
    let sql = "SELECT coalesce(s.idx_tup_fetch, 0), s.seq_tup_read, \
        coalesce(io.toast_blks_hit + io.toast_blks_read, 0) \
        FROM pg_stat_user_tables s JOIN pg_statio_user_tables io USING (relid) \
        WHERE s.schemaname = $1 AND s.relname = 'storage_item'";
    let row = outside().await.query_one(sql, &[&config.schema]).await.unwrap();
    Counters { rows: row.get(0), scans: row.get(1), bodies: row.get(2) }
}

/// What a call costs. A session reports what it did as it ends.
async fn cost(
    config: &PostgresConfig,
    call: impl AsyncFnOnce(&storage_postgres::PostgresBackend),
) -> Counters {
    let before = counters(config).await;
    let backend = open(config.clone());
    backend.connect().await.unwrap();
    call(&backend).await;
    // A row that is surely read and counted shows that the counters have arrived.
    let found = store(&backend).items(&partition("marker"), &["m"]).await.unwrap();
    assert!(found[0].is_some());
    backend.disconnect().await.unwrap();
    eventually("the server has counted", async || counters(config).await.rows > before.rows).await;
    let after = counters(config).await;
    Counters {
        rows: after.rows - before.rows - 1,
        scans: after.scans - before.scans,
        bodies: after.bodies - before.bodies,
    }
}

/// A partition of many items, each with a body that does not compress and is kept apart from its row.
async fn filled(name: &str) -> PostgresConfig {
    let mut config = config(name);
    config.sweep = None;
    config.pool_max = 1;
    let backend = open(config.clone());
    backend.connect().await.unwrap();
    let table = format!("\"{}\".storage_item", config.schema.as_deref().unwrap());
    // What the server does by itself would be counted too.
    let alone =
        format!("ALTER TABLE {table} SET (autovacuum_enabled = false, toast.autovacuum_enabled = false)");
    outside().await.batch_execute(&alone).await.unwrap();
    let marker = Operation::put("m", Json::from(1), "", PutMode::Upsert);
    store(&backend).commit(Commit::new(partition("marker")).with(marker)).await.unwrap();
    let mut random = fastrand::Rng::new();
    for _ in 0..10 {
        let bodies = (0..ITEMS / 10).map(|_| std::iter::repeat_with(|| random.u8(..)).take(4_000).collect());
        let commit = bodies.fold(Commit::new(partition("s")), |commit, body: Vec<u8>| {
            commit.with(Operation::append("m:", Json::from(1), body))
        });
        store(&backend).commit(commit).await.unwrap();
    }
    backend.disconnect().await.unwrap();
    outside().await.batch_execute(&format!("ANALYZE {table}")).await.unwrap();
    eventually("the server has counted", async || counters(&config).await.bodies > 0).await;
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_reads_what_it_returns_and_no_body_that_it_leaves_out() {
    let mut config = filled("query cost").await;
    for pooler in [false, true] {
        config.pooler = pooler;
        for order in [Order::Ascending, Order::Descending] {
            let bare = cost(&config, async |backend| {
                let query = Query::prefix(partition("s"), "m:", 10).order(order).without_bodies();
                let page = store(backend).query(query).await.unwrap();
                assert!(page.more && page.items.len() == 10 && page.items[0].body_bytes == 4_000);
            });
            // The one more tells that there are more.
            assert_eq!(bare.await, Counters { rows: 11, scans: 0, bodies: 0 }, "{order:?}, pooler {pooler}");
        }
        let whole = cost(&config, async |backend| {
            let page = store(backend).query(Query::all(partition("s"), 10)).await.unwrap();
            assert!(page.items.iter().all(|item| item.body.len() == 4_000));
        });
        let whole = whole.await;
        assert_eq!((whole.rows, whole.scans), (11, 0));
        assert!(whole.bodies > 0, "else the counter shows nothing");
        let info = cost(&config, async |backend| {
            assert_eq!(store(backend).partition(&partition("s")).await.unwrap().unwrap().items, ITEMS);
        });
        assert_eq!(info.await, Counters { rows: 0, scans: 0, bodies: 0 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_reads_what_it_touches_and_a_bound_what_it_deletes() {
    let config = filled("commit cost").await;
    let short = cost(&config, async |backend| {
        store(backend).commit(Commit::new(partition("s")).with(append("x"))).await.unwrap();
    });
    assert_eq!(short.await, Counters { rows: 0, scans: 0, bodies: 0 });
    let whole = cost(&config, async |backend| {
        let put = |sort: &str| Operation::put(sort, Json::from(1), "x", PutMode::Upsert);
        let commit = Commit::new(partition("s")).with(put("a")).with(put("b")).with(append("x"));
        store(backend).commit(commit).await.unwrap();
    });
    let whole = whole.await;
    assert!(whole.rows <= 4 && whole.scans == 0 && whole.bodies == 0, "{whole:?}");
    for (most, deleted) in [(ITEMS, 3), (ITEMS - 100, 100)] {
        let trim = cost(&config, async |backend| {
            let trim = Operation::Trim { items: Some(most), bytes: None, max_age: None };
            let outcomes =
                store(backend).commit(Commit::new(partition("s")).with(trim)).await.unwrap().outcomes;
            // What was added above lies beyond.
            assert!(
                matches!(outcomes[0], storage_core::Outcome::Deleted(found) if found.abs_diff(deleted) <= 1)
            );
        });
        let trim = trim.await;
        // Once to look, once to delete, and a few more.
        assert!(trim.rows <= 2 * i64::try_from(deleted).unwrap() + 20 && trim.scans == 0, "{trim:?}");
    }
}
