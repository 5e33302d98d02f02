//! Of a user who was forgotten nothing is left in the store, as seen from outside: every table, every key, the file itself.
//!
//! `STORAGE_TEST_FORGOTTEN_SESSIONS=10000 cargo test --release -p storage-tests --test it forgotten -- --nocapture` has more
//! sessions.

use std::{path::Path, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use storage_agent::{
    AgentStorage, Forgotten, MemoryTtl, NewMessage, NewSession, UserData,
    checkpoints::{CheckpointKey, NewCheckpoint, Payload},
};
use storage_tests::{Postgres, PostgresOptions, Redis, RedisOptions, forgotten_sessions};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::NoTls;

use crate::stores::{Backend, build, json};

/// What stands in all that there is of the user.
const MARK: &str = "ursula";
const PARALLEL: usize = 32;

async fn live(agent: &AgentStorage, user: &str, sessions: usize) {
    let ids: Vec<String> = (0..sessions).map(|number| format!("{user}-{number}")).collect();
    for some in ids.chunks(500) {
        let new = some.iter().map(|id| NewSession::new(id.clone(), user));
        let created = agent.sessions().batch_create_sessions(new.collect()).await;
        assert!(created.iter().all(Result::is_ok));
    }
    stream::iter(ids)
        .for_each_concurrent(PARALLEL, |id| async move {
            let messages = (0..3)
                .map(|n| NewMessage::new("user", format!("{user} says {n}")).with_id(format!("{id} {n}")));
            agent.conversations().add_conversation_messages(&id, messages.collect()).await.unwrap();
            let task = json(&format!(r#"{{"of":"{user}"}}"#));
            agent.tasks().store_task_context(Some(&id), "plan", task).await.unwrap();
            agent.checkpointer().put(&step(&id, user)).await.unwrap();
            let fact = json(&format!(r#"{{"of":"{id}"}}"#));
            agent.memories().put(&[user, "facts"], &id, fact, MemoryTtl::Never).await.unwrap();
        })
        .await;
}

fn step(thread: &str, user: &str) -> NewCheckpoint {
    NewCheckpoint {
        key: CheckpointKey::new(thread, "", "0001"),
        parent_id: None,
        checkpoint: Payload::new("json", format!("of {user}")),
        metadata: json(&format!(r#"{{"user_id":"{user}"}}"#)),
        channel_versions: [].into(),
        new_values: vec![],
    }
}

/// Forgets the user in calls that are given up, each after a longer while, until one ends.
async fn forgotten_in_pieces(agent: &AgentStorage) -> usize {
    let (mut given_up, mut patience) = (0, Duration::from_millis(5));
    loop {
        match timeout(patience, agent.delete_user(MARK, &UserData::of(MARK))).await {
            Ok(deleted) => {
                deleted.unwrap();
                return given_up;
            }
            Err(_) => given_up += 1,
        }
        patience *= 2;
    }
}

/// `traces` says what is left of the user, from outside.
async fn nothing_is_left(storage: Backend, traces: impl AsyncFn() -> Vec<String>) {
    let sessions = forgotten_sessions(100);
    storage.connect().await.unwrap();
    let agent = AgentStorage::new(storage.clone()).unwrap();
    live(&agent, "otto", 3).await;
    live(&agent, MARK, sessions).await;
    assert!(!traces().await.is_empty(), "the scan sees what there is");
    let began = Instant::now();
    let given_up = forgotten_in_pieces(&agent).await;
    assert!(given_up > 0, "the first calls are given up in the middle");
    let took = began.elapsed();
    let again = agent.delete_user(MARK, &UserData::of(MARK)).await.unwrap();
    assert_eq!(again, Forgotten::default());
    // What was deleted is gone for every reader, and removed from the store in the background.
    let mut left = traces().await;
    for _ in 0..600 {
        if left.is_empty() {
            break;
        }
        storage.cleanup().await.unwrap();
        sleep(Duration::from_millis(100)).await;
        left = traces().await;
    }
    assert!(left.is_empty(), "{} traces: {:?}", left.len(), &left[..left.len().min(5)]);
    let others = agent.conversations().get_conversation_history("otto-1", 10).await.unwrap();
    assert_eq!(others.len(), 3);
    println!(
        "{sessions} sessions forgotten in {took:?}, {given_up} calls given up; clean after {:?}",
        began.elapsed()
    );
    storage.disconnect().await.unwrap();
}

fn has_mark(bytes: &[u8]) -> bool {
    bytes.windows(MARK.len()).any(|window| window == MARK.as_bytes())
}

/// The rows of all tables that have the mark.
fn rows_with_mark(file: &Path) -> Vec<String> {
    let db = rusqlite::Connection::open(file).unwrap();
    let mut tables = db.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").unwrap();
    let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut found = Vec::new();
    for table in tables {
        let mut rows = db.prepare(&format!(r#"SELECT * FROM "{table}""#)).unwrap();
        let columns = rows.column_count();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let marked = |column| match row.get_ref(column).unwrap() {
                rusqlite::types::ValueRef::Text(bytes) | rusqlite::types::ValueRef::Blob(bytes) => {
                    has_mark(bytes)
                }
                _ => false,
            };
            if (0..columns).any(marked) {
                found.push(table.clone());
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_sqlite() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("forgotten-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("forgotten.db");
    let storage = build(&[("DATABASE_URL", &format!("sqlite:///{}", file.display()))]);
    nothing_is_left(storage, async || rows_with_mark(&file)).await;
    // What SQLite calls free pages keeps old bytes until they are written over; VACUUM leaves them out.
    let copy = folder.join("copy.db");
    let db = rusqlite::Connection::open(&file).unwrap();
    db.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    let bytes = std::fs::read(&copy).unwrap();
    assert!(bytes.len() > 1_000 && !has_mark(&bytes), "in pages of tables and indexes");
    drop(db);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_redis() {
    let server = Redis::start(&RedisOptions::default()).unwrap();
    let storage = build(&[("STORAGE_TYPE", "redis"), ("REDIS_URL", &server.url())]);
    let script = r"
        local found = {}
        for _, key in ipairs(redis.call('KEYS', '*')) do
            local kind, parts = redis.call('TYPE', key).ok, {}
            if kind == 'hash' then parts = redis.call('HGETALL', key)
            elseif kind == 'zset' then parts = redis.call('ZRANGE', key, 0, -1)
            elseif kind == 'set' then parts = redis.call('SMEMBERS', key)
            elseif kind == 'list' then parts = redis.call('LRANGE', key, 0, -1)
            elseif kind == 'string' then parts = {redis.call('GET', key)}
            else return {'a key of another kind: ' .. kind} end
            parts[#parts + 1] = key
            for _, part in ipairs(parts) do
                if string.find(part, ARGV[1], 1, true) then
                    found[#found + 1] = key
                    break
                end
            end
        end
        return found";
    let traces = async || {
        let found = server.command(&["EVAL", script, "0", MARK]).unwrap();
        found.lines().map(str::to_owned).collect()
    };
    nothing_is_left(storage, traces).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_postgres() {
    let server = Postgres::start(&PostgresOptions::default()).unwrap();
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let storage =
        build(&[("STORAGE_TYPE", "postgres"), ("DATABASE_URL", &server.url()), ("POSTGRES_POOL_MIN", "0")]);
    let hex: String = MARK.bytes().map(|byte| format!("{byte:02x}")).collect();
    let traces = async || {
        let tables = "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables
            WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')";
        let tables = client.query(tables, &[]).await.unwrap();
        let counts = stream::iter(tables).then(async |row| {
            let table: String = row.get(0);
            let sql = format!(
                "SELECT count(*) FROM {table} t WHERE t::text LIKE '%{MARK}%' OR t::text LIKE '%{hex}%'"
            );
            let count: i64 = client.query_one(&sql, &[]).await?.get(0);
            Ok::<_, tokio_postgres::Error>(vec![table; usize::try_from(count).unwrap()])
        });
        counts.try_concat().await.unwrap()
    };
    nothing_is_left(storage, traces).await;
}
