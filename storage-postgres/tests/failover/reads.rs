use std::{sync::Arc, time::Duration};

use storage_core::{Change, Commit, Expected, Json, Operation, Partition, StorageBackend, StorageExt};
use storage_postgres::{PostgresBackend, PostgresConfig};
use storage_tests::{Postgres, PostgresOptions};
use tokio::task::block_in_place;

use crate::common::{eventually, open};

struct Pair {
    primary: Postgres,
    standby: Postgres,
    /// Reads from the standby.
    backend: Arc<PostgresBackend>,
    /// Writes to the primary, and is another process as far as the first knows.
    other: PostgresBackend,
}

const STALENESS: Duration = Duration::from_millis(1_500);

async fn pair() -> Pair {
    let primary = block_in_place(|| Postgres::start(&PostgresOptions::default()).unwrap());
    let other = open(PostgresConfig::from_url(&primary.url()).unwrap());
    other.connect().await.unwrap();
    other.set("k", Json::from(1), None).await.unwrap();
    let standby = block_in_place(|| primary.standby(Default::default()).unwrap());
    let mut config = PostgresConfig::from_url(&primary.url()).unwrap();
    config.read_url = Some(Box::new(PostgresConfig::from_url(&standby.url()).unwrap()));
    config.read_staleness = STALENESS;
    let backend = Arc::new(open(config));
    backend.connect().await.unwrap();
    Pair { primary, standby, backend, other }
}

impl Pair {
    /// How many statements on the table the standby has run.
    fn reads(&self) -> u64 {
        let sql = "SELECT coalesce(sum(idx_scan + seq_scan), 0) FROM pg_stat_user_tables WHERE relname = 'kv_store'";
        block_in_place(|| self.standby.sql(sql)).unwrap().parse().unwrap()
    }

    async fn get(&self) -> Option<Json> {
        self.backend.get("k").await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_to_a_standby_that_is_near_enough_and_nothing_that_decides_a_write_does() {
    let pair = pair().await;
    let before = pair.reads();
    eventually("the standby is read from", async || pair.get().await.is_some() && pair.reads() > before)
        .await;
    // It falls behind: what it has is served for as long as it may be, and what is decided is not.
    block_in_place(|| pair.standby.sql("SELECT pg_wal_replay_pause()")).unwrap();
    eventually("it is near", async || pair.backend.health().await.stores[1].reads()).await;
    pair.other.set("k", Json::from(2), None).await.unwrap();
    pair.other.set("counter", Json::from(5), None).await.unwrap();
    assert_eq!(pair.get().await, Some(Json::from(1)), "the standby has the old value");
    let seen = pair.backend.update("k", None, |found| {
        assert_eq!(found, Some(&Json::from(2)), "what is changed is read from the primary");
        Ok(Change::Set(Json::from(3)))
    });
    assert_eq!(seen.await.unwrap(), Some(Json::from(3)));
    assert_eq!(pair.get().await, Some(Json::from(3)), "this process wrote it");
    assert_eq!(pair.backend.increment("counter", 1, None).await.unwrap(), 6);
    let swapped =
        pair.backend.compare_and_set("counter", Expected::Value(Json::from(6)), Some(Json::from(7)), None);
    assert!(swapped.await.unwrap());
    let partition = Partition::new("task", &["1"]).unwrap();
    let mut commit = Commit::new(partition.clone());
    commit.operations.push(Operation::Append {
        prefix: "n".to_owned(),
        attributes: Json::from(1),
        body: b"body".as_slice().into(),
        tag: None,
        search: None,
    });
    let collections = pair.backend.collections().unwrap();
    collections.commit(commit).await.unwrap();
    assert!(collections.partition(&partition).await.unwrap().is_some(), "this process wrote it");
    // Too far behind, it is not read from.
    pair.other.set("k", Json::from(4), None).await.unwrap();
    tokio::time::sleep(STALENESS + Duration::from_millis(50)).await;
    assert_eq!(pair.get().await, Some(Json::from(4)));
    assert_eq!(pair.backend.keys("*").await.unwrap(), ["counter", "k"]);
    let health = pair.backend.health().await;
    assert!(health.writes() && health.stores[0].reads() && !health.stores[1].reads(), "{health:?}");
    // And it is again once it has caught up.
    block_in_place(|| pair.standby.sql("SELECT pg_wal_replay_resume()")).unwrap();
    let before = pair.reads();
    eventually("the standby is read from", async || {
        assert_eq!(pair.get().await, Some(Json::from(4)));
        pair.reads() > before
    })
    .await;
    pair.backend.disconnect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_of_another_database_or_table_is_not_read_from() {
    let pair = pair().await;
    let other = "CREATE SCHEMA alt; CREATE TABLE alt.kv_store (LIKE public.kv_store INCLUDING ALL); \
                 INSERT INTO alt.kv_store VALUES ('k', '\"wrong\"', NULL)";
    block_in_place(|| {
        pair.primary.sql(other).unwrap();
        pair.primary.sql("CREATE DATABASE other TEMPLATE template0").unwrap();
    });
    let standby = pair.standby.url();
    for reads in [
        format!("{standby}?options=-csearch_path%3Dalt"),
        standby.replace("/storage", "/other"),
        pair.primary.url(),
    ] {
        let mut config = PostgresConfig::from_url(&pair.primary.url()).unwrap();
        config.read_url = Some(Box::new(PostgresConfig::from_url(&reads).unwrap()));
        config.read_staleness = STALENESS;
        let backend = open(config);
        backend.connect().await.unwrap();
        let end = tokio::time::Instant::now() + STALENESS;
        while tokio::time::Instant::now() < end {
            assert_eq!(backend.get("k").await.unwrap(), Some(Json::from(1)), "{reads}");
        }
        let health = backend.health().await;
        assert!(health.writes() && !health.stores[1].reads(), "{health:?}");
        backend.disconnect().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_is_down_or_none_costs_no_read() {
    let mut pair = pair().await;
    eventually("the standby is near", async || pair.backend.health().await.reads()).await;
    assert_eq!(pair.get().await, Some(Json::from(1)));
    block_in_place(|| pair.standby.kill()).unwrap();
    for _ in 0..20 {
        assert_eq!(pair.get().await, Some(Json::from(1)));
        assert_eq!(pair.backend.keys("*").await.unwrap(), ["k"]);
    }
    let health = pair.backend.health().await;
    assert_eq!((health.writes(), health.status()), (true, storage_core::HealthStatus::Degraded));
    // Connecting needs no standby either.
    pair.backend.disconnect().await.unwrap();
    pair.backend.connect().await.unwrap();
    assert_eq!(pair.get().await, Some(Json::from(1)));
    block_in_place(|| pair.standby.restart()).unwrap();
    eventually("it is used again", async || pair.backend.health().await.reads()).await;
    // One that was promoted goes its own way and is not read from.
    block_in_place(|| pair.standby.promote()).unwrap();
    pair.other.set("k", Json::from(2), None).await.unwrap();
    assert_eq!(block_in_place(|| pair.primary.sql("SELECT 1")).unwrap(), "1");
    tokio::time::sleep(STALENESS).await;
    assert_eq!(pair.get().await, Some(Json::from(2)));
    assert!(!pair.backend.health().await.reads());
}
