//! Reads of a thread cost what they return, whatever its length: by the servers' own counters.

use std::{collections::BTreeMap, time::Duration};

use storage_agent::checkpoints::{CheckpointerBackend, ListCheckpoints};
use storage_core::{Commit, MemoryBackend, Operation, Partition, PutMode, Query, StorageBackend};
use storage_tests::{Postgres, PostgresOptions, Redis, RedisOptions};
use tokio_postgres::NoTls;

use super::cases::{WithValue, plain, writes};
use crate::stores::{Backend, build};

/// A thread of so many checkpoints, of which each has a value and the latest a write, made in memory and brought over.
async fn filled(storage: &Backend, checkpoints: usize) -> String {
    let memory = std::sync::Arc::new(MemoryBackend::new());
    memory.connect().await.unwrap();
    let checkpointer = CheckpointerBackend::new(memory.clone());
    let thread_id = format!("long-{checkpoints}");
    for number in 0..checkpoints {
        let value = storage_agent::checkpoints::Payload::new("text", "x");
        let new = plain(&thread_id, "", number, number.checked_sub(1)).with("c", number as i64, Some(value));
        checkpointer.put(&new).await.unwrap();
    }
    checkpointer.put_writes(&thread_id, "", &writes(checkpoints - 1, "task", &[("c", "x")])).await.unwrap();
    let partition = Partition::new("thread", &[&thread_id]).unwrap();
    let mut next = Some(Query::all(partition.clone(), 5_000));
    while let Some(query) = next {
        let page = memory.collections().unwrap().query(query.clone()).await.unwrap();
        next = query.after(&page);
        let put =
            |item: storage_core::Item| Operation::put(item.sort, item.attributes, item.body, PutMode::Insert);
        let commit = page.items.into_iter().map(put).fold(Commit::new(partition.clone()), Commit::with);
        storage.collections().unwrap().commit(commit).await.unwrap();
    }
    thread_id
}

async fn latest(checkpointer: &CheckpointerBackend, thread_id: &str) {
    let latest = checkpointer.get(thread_id, "", None).await.unwrap().unwrap();
    assert_eq!((latest.channel_values.len(), latest.pending_writes.len()), (1, 1));
}

async fn ten(checkpointer: &CheckpointerBackend, thread_id: &str) {
    let ten = ListCheckpoints {
        thread_id: Some(thread_id.to_owned()),
        checkpoint_ns: Some(String::new()),
        limit: Some(10),
        ..ListCheckpoints::default()
    };
    assert_eq!(checkpointer.list(&ten).await.unwrap().len(), 10);
}

/// How often the server ran each command, scripts' own included, since it was asked last. PING is no part of a read: a
/// connection that was idle is asked whether it still is one.
pub(crate) fn calls(server: &Redis) -> BTreeMap<String, u64> {
    let info = server.command(&["INFO", "commandstats"]).unwrap();
    server.command(&["CONFIG", "RESETSTAT"]).unwrap();
    let lines = info.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="));
    let counts =
        lines.map(|(name, rest)| (name.to_owned(), rest.split(',').next().unwrap().parse().unwrap()));
    counts.filter(|(name, _)| !matches!(name.as_str(), "info" | "config|resetstat" | "ping")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_reads_as_much_of_ten_thousand_as_of_twenty() {
    let server = Redis::start(&RedisOptions::default()).unwrap();
    let storage = build(&[("STORAGE_TYPE", "redis"), ("REDIS_URL", &server.url())]);
    storage.connect().await.unwrap();
    let checkpointer = CheckpointerBackend::new(storage.clone());
    let mut costs = Vec::new();
    for checkpoints in [20, 10_000] {
        let thread_id = filled(&storage, checkpoints).await;
        latest(&checkpointer, &thread_id).await;
        calls(&server);
        latest(&checkpointer, &thread_id).await;
        let of_latest = calls(&server);
        ten(&checkpointer, &thread_id).await;
        costs.push((of_latest, calls(&server)));
    }
    assert_eq!(costs[0], costs[1]);
    let (of_latest, of_ten) = &costs[1];
    // Two scripts, each asks whether there is a partition: the checkpoint and its write, header and body each. The value,
    // and the look whether the checkpoint is still there, come in one command.
    assert_eq!((of_latest["hget"], of_latest["hmget"]), (2 + 2 + 2, 1), "{of_latest:?}");
    assert_eq!(of_ten["hget"], 11, "{of_ten:?}");
}

/// Rows of items that the server has read, when all who did have gone.
pub(crate) async fn rows(client: &tokio_postgres::Client) -> i64 {
    let others = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    while client.query_one(others, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let sql = "SELECT coalesce(idx_tup_fetch, 0) + seq_tup_read FROM pg_stat_user_tables WHERE relname = 'storage_item'";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_reads_the_rows_that_it_returns_of_ten_thousand() {
    let server = Postgres::start(&PostgresOptions::default()).unwrap();
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let storage =
        build(&[("STORAGE_TYPE", "postgres"), ("DATABASE_URL", &server.url()), ("POSTGRES_POOL_MIN", "0")]);
    storage.connect().await.unwrap();
    let thread_id = filled(&storage, 10_000).await;
    storage.disconnect().await.unwrap();
    client.batch_execute("ANALYZE storage_item").await.unwrap();
    let checkpointer = CheckpointerBackend::new(storage.clone());
    let before = rows(&client).await;
    storage.connect().await.unwrap();
    latest(&checkpointer, &thread_id).await;
    storage.disconnect().await.unwrap();
    let of_latest = rows(&client).await - before;
    storage.connect().await.unwrap();
    ten(&checkpointer, &thread_id).await;
    storage.disconnect().await.unwrap();
    let of_ten = rows(&client).await - before - of_latest;
    // The checkpoint and, last of all, the look whether it is still there; its write; its value; and one more that tells
    // the query for the latest that there are older ones.
    assert!((3..=5).contains(&of_latest), "{of_latest}");
    assert!((10..=11).contains(&of_ten), "{of_ten}");
}
