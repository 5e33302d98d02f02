use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use storage_core::{Batch, Entry, Json, StorageBackend, SweepConfig};
use storage_postgres::PostgresConfig;

use crate::common::{config, database, eventually, open, outside, outside_at, schema};

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_overlapping_keys_in_any_order_never_deadlock() {
    // Of its own, because the server counts deadlocks for a whole database.
    let url = database("deadlocks", "").await;
    let backend = Arc::new(open(PostgresConfig::from_url(&url).unwrap()));
    backend.connect().await.unwrap();
    let keys: Vec<String> = (0..40).map(|number| format!("k:{number}")).collect();
    let writers = (0..8_usize).map(|writer| {
        let (backend, mut keys) = (Arc::clone(&backend), keys.clone());
        tokio::spawn(async move {
            for round in 0..30 {
                let by = (writer * 5 + round) % keys.len();
                keys.rotate_left(by);
                keys.reverse();
                match (writer + round) % 4 {
                    0 => {
                        let names: Vec<&str> = keys.iter().map(String::as_str).collect();
                        backend.delete_many(&names).await.map(drop).unwrap();
                    }
                    1 => {
                        let halves = keys.iter().enumerate().fold(Batch::new(), |batch, (at, key)| {
                            if at % 2 == 0 { batch.delete(key) } else { batch.set(key, Json::from(1), None) }
                        });
                        backend.apply(halves).await.unwrap();
                    }
                    _ => {
                        let entries = keys.iter().map(|key| Entry::new(key, Json::from(1))).collect();
                        backend.set_many(entries).await.unwrap();
                    }
                }
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    backend.disconnect().await.unwrap();
    let client = outside_at(&url).await;
    let sql = "SELECT xact_commit > 0, deadlocks FROM pg_stat_database WHERE datname = current_database()";
    eventually("the server has counted", async || client.query_one(sql, &[]).await.unwrap().get(0)).await;
    assert_eq!(client.query_one(sql, &[]).await.unwrap().get::<_, i64>(1), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_deletions_leaves_no_row() {
    let config = config("purged");
    let backend = open(config.clone());
    backend.connect().await.unwrap();
    backend.set("a", Json::from(1), None).await.unwrap();
    backend.apply(Batch::new().delete("a").delete("never").set("b", Json::from(1), None)).await.unwrap();
    let sql = format!("SELECT key FROM {}.kv_store", schema(&config));
    let rows = outside().await.query(&sql, &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_neither_waits_for_nor_removes_what_is_being_written() {
    let config = config("sweep");
    let quoted = schema(&config);
    let backend = open(config);
    backend.connect().await.unwrap();
    let mut client = outside().await;
    let expired = format!("INSERT INTO {quoted}.kv_store VALUES ('old', '1', 1), ('renewed', '1', 1)");
    client.batch_execute(&expired).await.unwrap();
    let writing = client.transaction().await.unwrap();
    let renew = format!("UPDATE {quoted}.kv_store SET value = '2', expires_at = NULL WHERE key = 'renewed'");
    writing.batch_execute(&renew).await.unwrap();
    let swept = tokio::time::timeout(Duration::from_secs(2), backend.cleanup()).await.unwrap();
    assert_eq!(swept.unwrap(), 1);
    writing.commit().await.unwrap();
    assert_eq!(backend.cleanup().await.unwrap(), 0);
    assert_eq!(backend.get("renewed").await.unwrap(), Some(Json::from(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_rows_leave_the_table_in_the_background() {
    let mut config = config("background");
    config.sweep = Some(SweepConfig { interval: Duration::from_millis(50), batch: 7 });
    let quoted = schema(&config);
    let backend = open(config);
    backend.connect().await.unwrap();
    let client = outside().await;
    let fill =
        format!("INSERT INTO {quoted}.kv_store SELECT 'old:' || i, '1', i FROM generate_series(1, 50) i");
    client.batch_execute(&fill).await.unwrap();
    backend.set("kept", Json::from(1), Some(Duration::from_secs(60))).await.unwrap();
    let count = format!("SELECT count(*) FROM {quoted}.kv_store");
    eventually("the expired rows are gone", async || {
        client.query_one(&count, &[]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
    assert!(backend.exists("kept").await.unwrap());
}
