//! What is more than one commit can carry.

use std::time::Duration;

use storage_agent::checkpoints::{CheckpointStore, CheckpointerBackend, Payload, PruneReport, Retention};
use storage_core::{Commit, ErrorKind, Operation, Partition, PutMode, Query};

use crate::cases::{WithValue, id, json, noise, of_thread, plain, writes};

/// Bytes that do not repeat, cheaper than the cases' own.
fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut state = seed;
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend((state ^ (state >> 29)).to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_of_eighty_megabytes_comes_whole() {
    let checkpointer = CheckpointerBackend::new(crate::memory().await);
    let large = Payload::new("bytes", random(1, 70_000_000));
    let written = Payload::new("bytes", random(2, 10_000_000));
    let mut task = writes(1, "task", &[]);
    task.writes.push(("c".to_owned(), written.clone()));
    let new = plain("large", "", 1, None).with("c", 1, Some(large.clone()));
    checkpointer.advance(&new, std::slice::from_ref(&task)).await.unwrap();
    checkpointer.put_writes("large", "", &writes(1, "other", &[("c", "x")])).await.unwrap();
    let found = checkpointer.get("large", "", None).await.unwrap().unwrap();
    assert!(found.channel_values["c"] == large && found.pending_writes[1].value == written);
    // In fewer pieces than a commit may have, the second step counts on those that are there.
    let next = plain("large", "", 2, Some(1)).with("c", 2, Some(large));
    let before = checkpointer.thread("large").await.unwrap().unwrap().bytes;
    checkpointer.advance(&next, &[]).await.unwrap();
    assert!(checkpointer.thread("large").await.unwrap().unwrap().bytes < before + 2_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_thousand_checkpoints_are_pruned_as_the_dry_run_says() {
    const CHECKPOINTS: usize = 8_000;
    let checkpointer = CheckpointerBackend::new(crate::memory().await);
    for number in 0..CHECKPOINTS {
        let payload = Payload::new("bytes", noise(number as u64, 1_100));
        let new = plain("many", "", number, number.checked_sub(1)).with("c", number as i64, Some(payload));
        checkpointer.advance(&new, &[writes(number, "task", &[("c", "x"), ("d", "y")])]).await.unwrap();
    }
    let policy = Retention { keep_last: Some(3), ..Retention::default() };
    let before = checkpointer.thread("many").await.unwrap().unwrap();
    let dry = checkpointer.retain("many", &policy, true).await.unwrap();
    assert_eq!(checkpointer.retain("many", &policy, false).await.unwrap(), dry);
    let after = checkpointer.thread("many").await.unwrap().unwrap();
    assert_eq!((dry.checkpoints.len(), after.checkpoints), (CHECKPOINTS - 3, 3));
    assert_eq!((dry.writes, dry.values), (2 * (CHECKPOINTS as u64 - 3), CHECKPOINTS as u64 - 3));
    assert_eq!(before.bytes - after.bytes, dry.bytes);
    assert_eq!(checkpointer.retain("many", &policy, false).await.unwrap(), PruneReport::default());
    let copied = checkpointer.copy_thread("many", "other").await.unwrap();
    assert!(copied && checkpointer.list(&of_thread("other")).await.unwrap().len() == 3);
    checkpointer.advance(&plain("many", "", CHECKPOINTS, Some(CHECKPOINTS - 1)), &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_of_more_items_than_a_commit_has_operations_is_copied_and_pruned() {
    const CHECKPOINTS: usize = 6_000;
    let storage = crate::memory().await;
    let checkpointer = CheckpointerBackend::new(storage.clone());
    for number in 0..CHECKPOINTS {
        checkpointer.put(&plain("source", "", number, number.checked_sub(1))).await.unwrap();
    }
    assert!(checkpointer.copy_thread("source", "copy").await.unwrap());
    let copied = checkpointer.thread("copy").await.unwrap().unwrap();
    assert_eq!(copied.checkpoints, CHECKPOINTS as u64);
    assert_eq!(checkpointer.list(&of_thread("copy")).await.unwrap().len(), CHECKPOINTS);

    let general = CheckpointStore::new(storage);
    for number in 0..CHECKPOINTS {
        general.store_checkpoint("general", &id(number), json("[1]"), json("{}")).await.unwrap();
    }
    assert_eq!(general.list_checkpoints("general", Some(usize::MAX)).await.unwrap().len(), CHECKPOINTS);
    assert_eq!(general.prune_checkpoints("general", 2).await.unwrap(), CHECKPOINTS - 2);
    let left = general.list_checkpoints("general", None).await.unwrap();
    assert_eq!(
        left.iter().map(|left| left.id.clone()).collect::<Vec<_>>(),
        [id(CHECKPOINTS - 1), id(CHECKPOINTS - 2)]
    );
}

/// A node that lists itself would unfold to more than any memory holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_payload_unfolds_to_a_bound() {
    let storage = crate::memory().await;
    let checkpointer = CheckpointerBackend::new(storage.clone());
    let large = Payload::new("bytes", noise(1, 100_000));
    checkpointer.advance(&plain("damaged", "", 1, None).with("c", 1, Some(large)), &[]).await.unwrap();
    let (partition, store) =
        (Partition::new("thread", &["damaged"]).unwrap(), storage.collections().unwrap());
    let values = store.query(Query::prefix(partition.clone(), "v:", 10)).await.unwrap();
    let [value] = values.items.as_slice() else { panic!("{values:?}") };
    let hash = 7_u128.to_be_bytes();
    let node =
        Operation::put(format!("m:{:032x}", 7), value.attributes.clone(), hash.repeat(64), PutMode::Upsert);
    for depth in [3, 200] {
        let body = [&[3, depth], u64::MAX.to_be_bytes().as_slice(), &hash.repeat(16)].concat();
        let record = Operation::put(value.sort.clone(), value.attributes.clone(), body, PutMode::Upsert);
        store.commit(Commit::new(partition.clone()).with(node.clone()).with(record)).await.unwrap();
        let found = checkpointer.get("damaged", "", None);
        let error = tokio::time::timeout(Duration::from_secs(60), found).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}
