use std::{sync::Arc, time::Duration};

use futures::{TryStreamExt, future::join_all};
use storage_core::{Expire, Operation, StorageBackend, StorageExt, SweepConfig, sequence_key};
use storage_postgres::PostgresConfig;

use crate::{
    append, assert_whole, commit,
    common::{config, database, eventually, open, outside, outside_at, schema},
    partition, store,
};

#[tokio::test(flavor = "multi_thread")]
async fn commits_deletions_and_sweeps_never_deadlock() {
    // Of its own, because the server counts deadlocks for a whole database.
    let url = database("partition_deadlocks", "").await;
    let backend = Arc::new(open(PostgresConfig::from_url(&url).unwrap()));
    backend.connect().await.unwrap();
    let writers = (0..12_usize).map(|writer| {
        let backend = Arc::clone(&backend);
        tokio::spawn(async move {
            for round in 0..40 {
                let of = partition(&format!("{}", (writer + round) % 4));
                let short = Expire::After(Duration::from_millis(15));
                match (writer + round) % 6 {
                    0 => drop(store(&backend).delete_partition(&of).await.unwrap()),
                    1 => drop(backend.cleanup().await.unwrap()),
                    2 => {
                        let commit = commit(&of, "x", true).expire(short);
                        store(&backend).commit(commit).await.unwrap();
                    }
                    3 => {
                        let trim = Operation::Trim { items: Some(5), bytes: None, max_age: None };
                        let range = Operation::DeleteRange { from: "m:".into(), to: None };
                        let commit = commit(&of, "x", true).with(trim).with(append("y")).with(range);
                        store(&backend).commit(commit).await.unwrap();
                    }
                    _ => drop(store(&backend).commit(commit(&of, "x", false)).await.unwrap()),
                }
                store(&backend).commit(commit(&partition("all"), "x", round % 2 == 0)).await.unwrap();
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    let info = store(&backend).partition(&partition("all")).await.unwrap().unwrap();
    let first = store(&backend).items(&partition("all"), &[&sequence_key("m:", 1)]).await.unwrap().remove(0);
    let commits = info.version - first.unwrap().version + 1;
    assert_eq!((commits, info.sequence, info.items), (480, 1_440, 1_441));
    for other in 0..4 {
        store(&backend).delete_partition(&partition(&other.to_string())).await.unwrap();
    }
    backend.cleanup().await.unwrap();
    backend.disconnect().await.unwrap();
    let client = outside_at(&url).await;
    let items: i64 = client.query_one("SELECT count(*) FROM storage_item", &[]).await.unwrap().get(0);
    assert_eq!(items, 1_441, "nothing of what is gone stays");
    let sql = "SELECT xact_commit > 0, deadlocks FROM pg_stat_database WHERE datname = current_database()";
    eventually("the server has counted", async || client.query_one(sql, &[]).await.unwrap().get(0)).await;
    assert_eq!(client.query_one(sql, &[]).await.unwrap().get::<_, i64>(1), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_is_removed_in_the_background_in_bounded_batches() {
    let mut config = config("swept partitions");
    config.sweep = Some(SweepConfig { interval: Duration::from_millis(50), batch: 7 });
    let backend = open(config.clone());
    backend.connect().await.unwrap();
    for number in 0..20 {
        let of = partition(&number.to_string());
        let commit = commit(&of, "x", number % 2 == 0).expire(Expire::After(Duration::from_millis(1)));
        store(&backend).commit(commit).await.unwrap();
    }
    let deleted = partition("deleted");
    store(&backend).commit(commit(&deleted, "x", true)).await.unwrap();
    assert!(store(&backend).delete_partition(&deleted).await.unwrap());
    store(&backend).commit(commit(&partition("kept"), "x", true)).await.unwrap();
    let client = outside().await;
    let quoted = schema(&config);
    let count = format!(
        "SELECT (SELECT count(*) FROM {quoted}.storage_partition), (SELECT count(*) FROM {quoted}.storage_item)"
    );
    eventually("the rows are gone", async || {
        let row = client.query_one(&count, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1)) == (1, 4)
    })
    .await;
    assert_whole(&backend, &partition("kept"), true).await;
    let left: Vec<_> = Arc::new(backend).partitions("conversation", &[]).try_collect().await.unwrap();
    assert_eq!(left.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_counts_what_it_removed_and_nothing_where_nothing_is() {
    let mut config = config("counted");
    config.sweep = None;
    let backend = open(config);
    backend.connect().await.unwrap();
    assert_eq!(backend.cleanup().await.unwrap(), 0);
    store(&backend).commit(commit(&partition("kept"), "x", true)).await.unwrap();
    store(&backend).commit(commit(&partition("gone"), "x", true)).await.unwrap();
    assert_eq!(backend.cleanup().await.unwrap(), 0);
    assert!(store(&backend).delete_partition(&partition("gone")).await.unwrap());
    assert_eq!(backend.cleanup().await.unwrap(), 5, "four items and their partition");
    assert_eq!(backend.cleanup().await.unwrap(), 0);
}
