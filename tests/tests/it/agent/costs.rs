//! The latest messages of a long conversation cost what is returned: by the servers' own counters.

use storage_agent::{ConversationStore, NewMessage, UncountedTokens};
use storage_tests::{Postgres, PostgresOptions, Redis, RedisOptions};
use tokio_postgres::NoTls;

use crate::{
    checkpoints::counters::{calls, rows},
    stores::{Backend, build},
};

async fn filled(storage: &Backend, messages: usize) -> ConversationStore {
    let conversations = ConversationStore::new(storage.clone()).unwrap();
    for from in (0..messages).step_by(5_000) {
        let message = |n: usize| NewMessage::new("user", n.to_string()).with_tokens(10);
        let batch = (from..messages.min(from + 5_000)).map(message).collect();
        conversations.add_conversation_messages("s", batch).await.unwrap();
    }
    conversations
}

async fn fifty(conversations: &ConversationStore) {
    assert_eq!(conversations.get_conversation_history("s", 50).await.unwrap().len(), 50);
}

async fn that_fit(conversations: &ConversationStore) {
    let within = conversations.get_latest_within_tokens("s", 490, UncountedTokens::Refuse).await.unwrap();
    assert_eq!((within.len(), within.more), (49, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_runs_one_script_for_the_latest_fifty_of_a_hundred_thousand() {
    let mut costs = Vec::new();
    for messages in [100, 100_000] {
        let server = Redis::start(&RedisOptions::default()).unwrap();
        let storage = build(&[("STORAGE_TYPE", "redis"), ("REDIS_URL", &server.url())]);
        storage.connect().await.unwrap();
        let conversations = filled(&storage, messages).await;
        fifty(&conversations).await;
        calls(&server);
        fifty(&conversations).await;
        let of_fifty = calls(&server);
        that_fit(&conversations).await;
        costs.push((of_fifty, calls(&server)));
    }
    assert_eq!(costs[0], costs[1], "whatever the length");
    for cost in [&costs[1].0, &costs[1].1] {
        // One round trip. In it, header and body of each, and whether there is a conversation.
        assert_eq!((cost["evalsha"], cost["hget"]), (1, 2 * 50 + 1), "{cost:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_reads_fifty_rows_of_a_hundred_thousand() {
    let server = Postgres::start(&PostgresOptions::default()).unwrap();
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let storage =
        build(&[("STORAGE_TYPE", "postgres"), ("DATABASE_URL", &server.url()), ("POSTGRES_POOL_MIN", "0")]);
    storage.connect().await.unwrap();
    let conversations = filled(&storage, 100_000).await;
    storage.disconnect().await.unwrap();
    client.batch_execute("ANALYZE storage_item").await.unwrap();
    let before = rows(&client).await;
    storage.connect().await.unwrap();
    fifty(&conversations).await;
    storage.disconnect().await.unwrap();
    let of_fifty = rows(&client).await - before;
    storage.connect().await.unwrap();
    that_fit(&conversations).await;
    storage.disconnect().await.unwrap();
    let of_those_that_fit = rows(&client).await - before - of_fifty;
    for read in [of_fifty, of_those_that_fit] {
        // And one more, which tells that there are older ones.
        assert!((50..=51).contains(&read), "{read}");
    }
}
