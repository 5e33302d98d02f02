//! What a thread costs: bytes stored and time per step while a list of messages grows, and reads of a long thread.
//!
//! `cargo run --release -p storage-agent --example checkpoint_growth [-- --json]`, in memory.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use storage_agent::checkpoints::{
    ChannelValue, CheckpointConfig, CheckpointKey, CheckpointerBackend, ListCheckpoints, NewCheckpoint,
    Payload, TaskWrites, Version,
};
use storage_core::{Json, MemoryBackend, Result, StorageBackend};

const MESSAGE_BYTES: usize = 1100;

/// A line of the table.
struct Growth {
    name: &'static str,
    steps: usize,
    content: usize,
    stored: u64,
    whole: usize,
    first: Duration,
    last: Duration,
}

/// A message of letters that do not repeat, as a serialiser writes it.
fn message(number: usize) -> Vec<u8> {
    let mut message = format!("{{\"id\":{number},\"role\":\"user\",\"content\":\"").into_bytes();
    let mut state = number as u64 + 1;
    while message.len() < MESSAGE_BYTES - 2 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        message.push(b'a' + u8::try_from((state >> 33) % 26).unwrap_or_default());
    }
    message.extend(b"\"}");
    message
}

fn text_version(step: usize) -> Version {
    Version::Text(format!("{step:032}.0.{:016}", step * 7_919))
}

/// A step as LangGraph makes one: a list of which one message more is in it, its versions, and the task's write.
fn step(thread_id: &str, number: usize, messages: &[u8], count: usize) -> NewCheckpoint {
    let id = |number: usize| format!("1f0d5c3a-{number:08}-6a3e-8001-0123456789ab");
    let mut list = vec![0xdd];
    list.extend(u32::try_from(count).unwrap_or_default().to_be_bytes());
    list.extend(messages);
    let versions: std::collections::BTreeMap<String, Version> = ["__start__", "messages", "branch:to:agent"]
        .map(|channel| (channel.to_owned(), text_version(number)))
        .into();
    let seen = serde_json::to_string(&versions).unwrap_or_default();
    let checkpoint =
        format!("{{\"v\":4,\"ts\":\"2026-01-01T00:00:{number:09}\",\"versions_seen\":{{\"agent\":{seen}}}}}");
    NewCheckpoint {
        key: CheckpointKey::new(thread_id, "", id(number)),
        parent_id: number.checked_sub(1).map(id),
        checkpoint: Payload::new("msgpack", checkpoint),
        metadata: Json::from_serialize(&serde_json::json!({"source": "loop", "step": number, "parents": {}}))
            .unwrap_or_else(|_| Json::from(0)),
        new_values: vec![ChannelValue {
            channel: "messages".to_owned(),
            version: text_version(number),
            value: Some(Payload::new("msgpack", list)),
        }],
        channel_versions: versions,
    }
}

async fn growth(name: &'static str, steps: usize, zstd_level: Option<i32>, writes: bool) -> Result<Growth> {
    let storage = Arc::new(MemoryBackend::new());
    storage.connect().await?;
    let config = CheckpointConfig { zstd_level, ..CheckpointConfig::default() };
    let checkpointer = CheckpointerBackend::with_config(storage, config);
    let (mut messages, mut whole, mut times) = (Vec::new(), 0, Vec::new());
    for number in 0..steps {
        let added = message(number);
        messages.extend(&added);
        let new = step("thread", number, &messages, number + 1);
        whole += messages.len();
        let written: Vec<TaskWrites> = new
            .parent_id
            .iter()
            .filter(|_| writes)
            .map(|parent| TaskWrites {
                checkpoint_id: parent.clone(),
                task_id: format!("6a3e8001-{number:08}"),
                task_path: String::new(),
                writes: vec![("messages".to_owned(), Payload::new("msgpack", added.clone()))],
            })
            .collect();
        let started = Instant::now();
        checkpointer.advance(&new, &written).await?;
        times.push(started.elapsed());
    }
    let stored = checkpointer.thread("thread").await?.map_or(0, |thread| thread.bytes);
    let tenth = (steps / 10).max(1);
    let mean =
        |times: &[Duration]| times.iter().sum::<Duration>() / u32::try_from(times.len().max(1)).unwrap_or(1);
    let (first, last) = (times.get(..tenth).map(mean), times.get(steps - tenth..).map(mean));
    Ok(Growth {
        name,
        steps,
        content: messages.len(),
        stored,
        whole,
        first: first.unwrap_or_default(),
        last: last.unwrap_or_default(),
    })
}

/// The times of the latest checkpoint and of a list of ten in a thread of so many.
async fn reads(checkpoints: usize) -> Result<(Duration, Duration)> {
    let storage = Arc::new(MemoryBackend::new());
    storage.connect().await?;
    let checkpointer = CheckpointerBackend::new(storage);
    for number in 0..checkpoints {
        checkpointer.put(&step("thread", number, &message(number), 1)).await?;
    }
    const ROUNDS: u32 = 200;
    let started = Instant::now();
    for _ in 0..ROUNDS {
        checkpointer.get("thread", "", None).await?;
    }
    let latest = started.elapsed() / ROUNDS;
    let ten = ListCheckpoints {
        thread_id: Some("thread".to_owned()),
        checkpoint_ns: Some(String::new()),
        limit: Some(10),
        ..ListCheckpoints::default()
    };
    let started = Instant::now();
    for _ in 0..ROUNDS {
        checkpointer.list(&ten).await?;
    }
    Ok((latest, started.elapsed() / ROUNDS))
}

#[tokio::main]
async fn main() -> Result<()> {
    let json = std::env::args().any(|argument| argument == "--json");
    let mut rows = Vec::new();
    for steps in [200, 1000] {
        rows.push(growth("raw", steps, None, false).await?);
        rows.push(growth("zstd 3", steps, Some(3), false).await?);
        rows.push(growth("zstd 3, with writes", steps, Some(3), true).await?);
    }
    let (latest, ten) = reads(10_000).await?;
    if json {
        print_json(&rows, latest, ten);
    } else {
        print_table(&rows, latest, ten);
    }
    Ok(())
}

fn print_json(rows: &[Growth], latest: Duration, ten: Duration) {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            serde_json::json!({
                "name": row.name, "steps": row.steps, "content_bytes": row.content, "stored_bytes": row.stored,
                "whole_state_bytes": row.whole, "first_tenth_us": row.first.as_micros(), "last_tenth_us": row.last.as_micros(),
            })
        })
        .collect();
    let (latest, ten) = (latest.as_micros(), ten.as_micros());
    println!(
        "{}",
        serde_json::json!({"growth": rows, "latest_of_10000_us": latest, "list_10_of_10000_us": ten})
    );
}

fn print_table(rows: &[Growth], latest: Duration, ten: Duration) {
    println!(
        "{:20} {:>6} {:>10} {:>12} {:>8} {:>12} {:>12} {:>12}",
        "", "steps", "content", "stored", "ratio", "whole state", "first tenth", "last tenth"
    );
    for row in rows {
        #[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
        let ratio = row.stored as f64 / row.content as f64;
        println!(
            "{:20} {:>6} {:>10} {:>12} {:>8.2} {:>12} {:>9} µs {:>9} µs",
            row.name,
            row.steps,
            row.content,
            row.stored,
            ratio,
            row.whole,
            row.first.as_micros(),
            row.last.as_micros()
        );
    }
    println!(
        "\nof 10,000 checkpoints: the latest in {} µs, a list of 10 in {} µs",
        latest.as_micros(),
        ten.as_micros()
    );
}
