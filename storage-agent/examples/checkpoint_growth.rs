//! What agent memory costs: bytes stored and time per step while a list of messages grows, reads of a long thread, and
//! many writers on one conversation.
//!
//! ```text
//! cargo run --release -p storage-agent --example checkpoint_growth -- [--postgres URL] [--python]
//! ```
//!
//! In memory, on a SQLite file, and on the Postgres at the URL, which should be an empty database. With `--python`, the
//! same payloads go through LangGraph's savers too, in a virtual environment under the target folder. Each measurement is a
//! line of JSON; times are in microseconds, of the first and of the last tenth of the steps.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use serde_json::json;
use storage_agent::{
    ConversationStore, Metadata,
    checkpoints::{
        ChannelValue, CheckpointConfig, CheckpointKey, CheckpointerBackend, ListCheckpoints, NewCheckpoint,
        Payload, TaskWrites, Version,
    },
};
use storage_core::{Error, Json, Result, StorageBackend};
use storage_factory::{Settings, get_storage_backend};

const MESSAGE_BYTES: usize = 1100;
const LONG: usize = 10_000;
const ROUNDS: u32 = 200;
const WRITERS: usize = 64;

type Storage = Arc<dyn StorageBackend>;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| arguments.iter().skip_while(|argument| *argument != name).nth(1);
    let postgres = after("--postgres");
    let folder = tempfile::tempdir().map_err(|error| failed("make a folder", error))?;
    let file = folder.path().join("ours.db").display().to_string();
    measure("memory", &[("STORAGE_TYPE", "memory")]).await?;
    measure("sqlite", &[("DATABASE_URL", &format!("sqlite:///{file}"))]).await?;
    if let Some(url) = postgres {
        measure("postgres", &[("STORAGE_TYPE", "postgres"), ("DATABASE_URL", url)]).await?;
    }
    if arguments.iter().any(|argument| argument == "--python") {
        peers(&folder.path().join("peers.db"), postgres)?;
    }
    Ok(())
}

async fn measure(name: &str, settings: &[(&str, &str)]) -> Result<()> {
    let empty = Ok(Settings::new());
    let settings = settings.iter().fold(empty, |all: Result<_>, (name, text)| all?.with(name, *text))?;
    let storage = get_storage_backend(&settings)?;
    storage.connect().await?;
    for steps in [200, 1000] {
        for (kind, zstd_level) in [("uncompressed", None), ("as configured", Some(3))] {
            growth(&storage, name, kind, steps, zstd_level).await?;
        }
    }
    reads(&storage, name).await?;
    conversation(&storage, name).await?;
    storage.disconnect().await
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

fn id(number: usize) -> String {
    format!("1f0d5c3a-{number:08}-6a3e-8001-0123456789ab")
}

/// A step as LangGraph makes one: a list with a message more, and the versions of the channels.
fn step(thread_id: &str, number: usize, messages: &[u8], count: usize) -> Result<NewCheckpoint> {
    let mut list = vec![0xdd];
    list.extend(u32::try_from(count).unwrap_or_default().to_be_bytes());
    list.extend(messages);
    let version = Version::Text(format!("{number:032}.0.{:016}", number * 7_919));
    let channels = ["__start__", "messages", "branch:to:agent"];
    let versions: BTreeMap<_, _> = channels.map(|channel| (channel.to_owned(), version.clone())).into();
    let seen =
        json!({"v": 4, "ts": format!("2026-01-01T00:00:{number:09}"), "versions_seen": {"agent": &versions}});
    Ok(NewCheckpoint {
        key: CheckpointKey::new(thread_id, "", id(number)),
        parent_id: number.checked_sub(1).map(id),
        checkpoint: Payload::new("msgpack", seen.to_string()),
        metadata: Json::from_serialize(&json!({"source": "loop", "step": number, "parents": {}}))?,
        new_values: vec![ChannelValue {
            channel: "messages".to_owned(),
            version,
            value: Some(Payload::new("msgpack", list)),
        }],
        channel_versions: versions,
    })
}

async fn growth(
    storage: &Storage,
    name: &str,
    kind: &str,
    steps: usize,
    zstd_level: Option<i32>,
) -> Result<()> {
    let config = CheckpointConfig { zstd_level, ..CheckpointConfig::default() };
    let checkpointer = CheckpointerBackend::with_config(Arc::clone(storage), config);
    let thread_id = format!("{kind}-{steps}");
    let (mut messages, mut times) = (Vec::new(), Vec::new());
    for number in 0..steps {
        let added = message(number);
        messages.extend(&added);
        let new = step(&thread_id, number, &messages, number + 1)?;
        let written = new.parent_id.clone().map(|checkpoint_id| TaskWrites {
            checkpoint_id,
            task_id: format!("6a3e8001-{number:08}"),
            task_path: String::new(),
            writes: vec![("messages".to_owned(), Payload::new("msgpack", added))],
        });
        let started = Instant::now();
        checkpointer.advance(&new, written.as_slice()).await?;
        times.push(started.elapsed());
    }
    let stored = checkpointer.thread(&thread_id).await?.map_or(0, |thread| thread.bytes);
    let tenth = steps / 10;
    let (first, last) = (times.get(..tenth), times.get(steps - tenth..));
    println!(
        "{}",
        json!({
            "name": format!("{name}, {kind}"), "steps": steps, "content_bytes": messages.len(), "stored_bytes": stored,
            "first_tenth_us": mean(first), "last_tenth_us": mean(last),
        })
    );
    Ok(())
}

fn mean(times: Option<&[Duration]>) -> u128 {
    let times = times.unwrap_or_default();
    times.iter().sum::<Duration>().as_micros() / times.len().max(1) as u128
}

/// The times of the latest checkpoint and of a list of ten in a long thread.
async fn reads(storage: &Storage, name: &str) -> Result<()> {
    let checkpointer = CheckpointerBackend::new(Arc::clone(storage));
    for number in 0..LONG {
        checkpointer.put(&step("long", number, &message(number), 1)?).await?;
    }
    let started = Instant::now();
    for _ in 0..ROUNDS {
        checkpointer.get("long", "", None).await?;
    }
    let latest = started.elapsed() / ROUNDS;
    let ten = ListCheckpoints {
        thread_id: Some("long".to_owned()),
        checkpoint_ns: Some(String::new()),
        limit: Some(10),
        ..ListCheckpoints::default()
    };
    let started = Instant::now();
    for _ in 0..ROUNDS {
        checkpointer.list(&ten).await?;
    }
    let listed = started.elapsed() / ROUNDS;
    let (latest, listed) = (latest.as_micros(), listed.as_micros());
    println!("{}", json!({"name": name, "checkpoints": LONG, "latest_us": latest, "list_10_us": listed}));
    Ok(())
}

async fn conversation(storage: &Storage, name: &str) -> Result<()> {
    let conversations = ConversationStore::new(Arc::clone(storage))?;
    let text = String::from_utf8(message(7)).unwrap_or_default();
    let started = Instant::now();
    let writers = (0..WRITERS).map(|_| async {
        for _ in 0..LONG / WRITERS {
            conversations.add_conversation_message("shared", "user", text.as_str(), Metadata::new()).await?;
        }
        Ok::<_, Error>(())
    });
    try_join_all(writers).await?;
    let (messages, took) = (LONG / WRITERS * WRITERS, started.elapsed());
    let each = took.as_micros() / messages as u128;
    println!("{}", json!({"name": name, "writers": WRITERS, "messages": messages, "message_us": each}));
    Ok(())
}

/// The same through LangGraph's savers, in an environment of their own.
fn peers(file: &Path, postgres: Option<&String>) -> Result<()> {
    let program = std::env::current_exe().map_err(|error| failed("find this program", error))?;
    let environment = program.ancestors().nth(2).unwrap_or(Path::new(".")).join("checkpoint_peers");
    let python = environment.join("bin/python");
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/checkpoint_growth.py");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    }
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "-r"])
        .arg(beside.with_extension("txt")))?;
    run(Command::new(&python).arg(&beside).arg(file).args(postgres))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| failed("start Python", error))?;
    if status.success() { Ok(()) } else { Err(failed("measure the peers", status.to_string())) }
}

fn failed(what: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(storage_core::ErrorKind::Unavailable, format!("cannot {what}")).with_source(source)
}
