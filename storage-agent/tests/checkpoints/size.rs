//! How many bytes a thread takes.

use storage_agent::checkpoints::{CheckpointConfig, CheckpointerBackend, Payload, Version};
use storage_core::{Item, Partition, Query};

use crate::cases::{WithValue, json, noise, plain};

const MESSAGE: usize = 1_100;

/// A thread whose list of messages grows; the length of the list stands at its beginning, as msgpack has it.
async fn grown(steps: usize, config: CheckpointConfig) -> (u64, Vec<Item>) {
    let storage = crate::memory().await;
    let checkpointer = CheckpointerBackend::with_config(storage.clone(), config);
    let all = noise(7, steps * MESSAGE);
    for number in 0..steps {
        let mut list = vec![0xdd];
        list.extend(u32::try_from(number).unwrap().to_be_bytes());
        list.extend(&all[..(number + 1) * MESSAGE]);
        let mut new = plain("thread", "", number, number.checked_sub(1));
        new.metadata = json(&format!(r#"{{"source":"loop","step":{number},"parents":{{}}}}"#));
        let mut new = new.with("messages", number as i64, Some(Payload::new("msgpack", list)));
        new.channel_versions
            .insert("branch:to:agent".into(), Version::Text(format!("{number:032}.0.1234567890123456")));
        new.checkpoint = Payload::new("msgpack", noise(number as u64, 300));
        checkpointer.advance(&new, &[]).await.unwrap();
    }
    let all = Query::all(Partition::new("thread", &["thread"]).unwrap(), 10_000);
    let items = storage.collections().unwrap().query(all).await.unwrap().items;
    (checkpointer.thread("thread").await.unwrap().unwrap().bytes, items)
}

#[tokio::test]
async fn two_hundred_steps_take_less_than_a_megabyte_whatever_the_setting() {
    for zstd_level in [None, Some(3)] {
        let config = CheckpointConfig { zstd_level, ..CheckpointConfig::default() };
        let (bytes, _) = grown(200, config).await;
        assert!(bytes <= 1_000_000, "{bytes} bytes, zstd {zstd_level:?}");
    }
}

#[tokio::test]
async fn a_thousand_steps_take_less_than_six_times_the_content() {
    let (bytes, _) = grown(1_000, CheckpointConfig { zstd_level: None, ..CheckpointConfig::default() }).await;
    assert!(bytes < 6 * 1_000 * MESSAGE as u64, "{bytes} bytes");
}

#[tokio::test]
async fn what_is_stored_does_not_depend_on_what_is_remembered() {
    let (_, remembered) = grown(300, CheckpointConfig::default()).await;
    // The cache holds a short list, and is too small for a longer one.
    for cache_bytes in [0, 100_000] {
        let (_, items) = grown(300, CheckpointConfig { cache_bytes, ..CheckpointConfig::default() }).await;
        let stored = |items: &[Item]| {
            items.iter().map(|item| (item.sort.clone(), item.body.clone())).collect::<Vec<_>>()
        };
        let hints = |(sort, _): &(String, _)| sort.starts_with("h:");
        let (mut with, mut without) = (stored(&remembered), stored(&items));
        with.retain(|item| !hints(item));
        without.retain(|item| !hints(item));
        assert!(with.len() > 300 && with == without);
    }
}
