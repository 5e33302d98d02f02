use std::time::{Duration, Instant};

use storage_core::{ErrorKind, Json, StorageBackend};
use storage_postgres::PostgresConfig;
use storage_tests::{Postgres, PostgresOptions};
use tokio::task::block_in_place;

use crate::common::{eventually, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_alone_serves_reads_and_says_that_it_takes_no_writes() {
    let primary = block_in_place(|| Postgres::start(&PostgresOptions::default()).unwrap());
    let standby = block_in_place(|| primary.standby(Default::default()).unwrap());
    let config = PostgresConfig::from_url(&standby.url()).unwrap();
    // Without the table there is nothing to read.
    let error = open(config.clone()).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.hint().unwrap().contains("standby"), "{error}");
    let writer = open(PostgresConfig::from_url(&primary.url()).unwrap());
    writer.connect().await.unwrap();
    writer.set("k", Json::from(1), None).await.unwrap();
    let reader = open(config);
    eventually("the table arrives", async || reader.connect().await.is_ok()).await;
    eventually("the entry arrives", async || reader.get("k").await.unwrap() == Some(Json::from(1))).await;
    let start = Instant::now();
    for _ in 0..20 {
        let error = reader.set("k", Json::from(2), None).await.unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::Unavailable, Some("k")), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(4), "it is said at once");
    eventually("all is replayed", async || {
        let health = reader.health().await;
        let store = &health.stores[0];
        assert!(store.reads() && !store.writes(), "{health:?}");
        store.behind == Some(Duration::ZERO)
    })
    .await;
    assert_eq!(writer.health().await.stores[0].behind, None);
    // What is received and not replayed is behind.
    block_in_place(|| standby.sql("SELECT pg_wal_replay_pause()")).unwrap();
    writer.set("k", Json::from(3), None).await.unwrap();
    eventually("it falls behind", async || {
        reader.health().await.stores[0].behind.is_some_and(|behind| behind > Duration::from_millis(200))
    })
    .await;
    block_in_place(|| standby.sql("SELECT pg_wal_replay_resume()")).unwrap();
    block_in_place(|| standby.promote()).unwrap();
    eventually("it takes writes", async || reader.set("k", Json::from(4), None).await.is_ok()).await;
    assert!(reader.health().await.writes());
}
