//! How many bytes a thread takes.

use storage_agent::checkpoints::{CheckpointConfig, CheckpointerBackend, Payload, Version};

use crate::cases::{WithValue, json, noise, plain};

const MESSAGE: usize = 1_100;

/// A thread whose list of messages grows; the length of the list stands at its beginning, as msgpack has it.
async fn grown(steps: usize, zstd_level: Option<i32>) -> u64 {
    let config = CheckpointConfig { zstd_level, ..CheckpointConfig::default() };
    let checkpointer = CheckpointerBackend::with_config(crate::memory().await, config);
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
    checkpointer.thread("thread").await.unwrap().unwrap().bytes
}

#[tokio::test]
async fn two_hundred_steps_take_less_than_a_megabyte_whatever_the_setting() {
    for zstd_level in [None, Some(3)] {
        let bytes = grown(200, zstd_level).await;
        assert!(bytes <= 1_000_000, "{bytes} bytes, zstd {zstd_level:?}");
    }
}

#[tokio::test]
async fn a_thousand_steps_take_less_than_six_times_the_content() {
    let bytes = grown(1_000, None).await;
    assert!(bytes < 6 * 1_000 * MESSAGE as u64, "{bytes} bytes");
}
