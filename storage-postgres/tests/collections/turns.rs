use std::{sync::Arc, time::Duration};

use storage_core::StorageBackend;
use tokio::task::JoinSet;

use crate::{
    commit,
    common::{config, open},
    partition, store,
};

/// Many more callers than connections, each back for another at once: the first to wait is the first to get, so that
/// each waits about as long as the others and nobody until the deadline.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_takes_turns_at_the_connections() {
    let mut config = config("turns");
    (config.pool_max, config.operation_timeout) = (2, Duration::from_secs(2));
    let backend = Arc::new(open(config));
    backend.connect().await.unwrap();
    let mut crowd = JoinSet::new();
    for caller in 0..64 {
        let backend = Arc::clone(&backend);
        crowd.spawn(async move {
            let of = partition(&caller.to_string());
            for _ in 0..50 {
                store(&backend).commit(commit(&of, "x", true)).await.unwrap();
            }
        });
    }
    crowd.join_all().await;
    backend.disconnect().await.unwrap();
}
