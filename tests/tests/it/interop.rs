//! Stores written by the Python seller agent: `data/interop/README.md` says what they hold.

use std::{collections::BTreeMap, path::Path};

use futures::StreamExt;
use serde_json::Value;
use storage_core::{
    ErrorKind, Json, Scan, StorageBackend, StorageExt,
    domain::{AdBuyer, AdSeller},
};
use storage_tests::{Postgres, PostgresOptions, Redis, RedisOptions};

use crate::stores::{Backend, connected, json};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/interop");

fn data(name: &str) -> String {
    std::fs::read_to_string(Path::new(DATA).join(name)).unwrap()
}

fn lines(name: &str) -> Vec<Value> {
    data(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every line of `expected.ndjson`: key and value.
fn expected() -> BTreeMap<String, Json> {
    let entries = lines("expected.ndjson").into_iter();
    entries
        .map(|line| (line["key"].as_str().unwrap().to_owned(), Json::try_from(&line["value"]).unwrap()))
        .collect()
}

async fn sqlite(folder: &Path) -> Backend {
    let file = folder.join("seller_agent.sqlite3");
    std::fs::copy(Path::new(DATA).join("seller_agent.sqlite3"), &file).unwrap();
    connected(&[("DATABASE_URL", &format!("sqlite:///{}", file.display()))]).await
}

async fn postgres() -> (Postgres, Backend) {
    let server = Postgres::start(&PostgresOptions::default()).unwrap();
    let dump = data("seller_agent.postgres.sql");
    // `\restrict` is for psql reading a file.
    let statements: Vec<&str> = dump.lines().filter(|line| !line.starts_with('\\')).collect();
    server.sql(&statements.join("\n")).unwrap();
    let backend = connected(&[("DATABASE_URL", &server.url())]).await;
    (server, backend)
}

async fn redis() -> (Redis, Backend) {
    let server = Redis::start(&RedisOptions::default()).unwrap();
    for line in lines("seller_agent.redis.ndjson") {
        let (key, text) = (line["key"].as_str().unwrap(), line["value"].as_str().unwrap());
        let ttl = line["pttl_ms"].as_i64().unwrap();
        let mut command = vec!["SET", key, text];
        let millis = ttl.to_string();
        if ttl >= 0 {
            command.extend(["PX", &millis]);
        }
        server.command(&command).unwrap();
    }
    let backend = connected(&[("REDIS_URL", &server.url()), ("REDIS_NAMESPACE", "ad_seller:")]).await;
    (server, backend)
}

/// What holds on all three.
async fn reads_everything(storage: &dyn StorageBackend) {
    let expected = expected();
    assert_eq!(expected.len(), 89);
    for (key, value) in &expected {
        assert_eq!(storage.get(key).await.unwrap().as_ref(), Some(value), "{key}");
    }
    let names: Vec<&str> = expected.keys().map(String::as_str).collect();
    let many = storage.get_many(&names).await.unwrap();
    for ((key, value), found) in expected.iter().zip(many) {
        assert_eq!(found.unwrap().as_ref(), Some(value), "{key}");
    }
    assert_eq!(storage.keys("opt_decision:*").await.unwrap(), ["opt_decision:1"]);
    let listed: Vec<String> = expected.keys().filter(|key| key.starts_with("deal:")).cloned().collect();
    assert_eq!(storage.keys("deal:*").await.unwrap(), listed);
    let mut records: Vec<_> = storage.records(Scan::entries("*").unwrap()).collect().await;
    records.retain(|record| record.is_ok());
    let found: BTreeMap<_, _> =
        records.into_iter().map(|record| record.unwrap()).map(|r| (r.key, r.value)).collect();
    assert_eq!(found.len(), 89);
    for (key, value) in &expected {
        assert_eq!(found[key].as_ref(), Some(value), "{key}");
    }
    reads_through_the_helpers(storage).await;
}

async fn reads_through_the_helpers(storage: &dyn StorageBackend) {
    let buyer = storage.get_buyer_session_ids("acme|gold").await.unwrap();
    assert_eq!(buyer, ["550e8400-e29b-41d4-a716-446655440000"]);
    let agent = storage.get_agent_url_index("https://buyer.example/a2a?x=1&y=%20").await.unwrap();
    assert_eq!(agent.as_deref(), Some("agent-7"));
    let available = storage.list_quotes::<Value>(Some("available"), Some("inv-1")).await.unwrap();
    assert_eq!(available.len(), 1);
    let preferred = storage.list_deals::<Value>(Some("active"), Some("PREFERRED")).await.unwrap();
    assert_eq!(preferred.len(), 1);
    storage.add_session_to_buyer_index("s-2", "acme|gold").await.unwrap();
    assert_eq!(storage.get_buyer_session_ids("acme|gold").await.unwrap().len(), 2);
    storage.remove_session_from_buyer_index("s-2", "acme|gold").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sqlite_file_reads_back_equal_and_spares_what_is_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let storage = sqlite(folder.path()).await;
    reads_everything(&*storage).await;
    assert!(!storage.exists("quote:expired").await.unwrap());
    assert_eq!(storage.get("quote:expired").await.unwrap(), None);
    let error = storage.get("value:nan").await.unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Corrupt, Some("value:nan")));
    let mut many = storage.get_many(&["value:zero", "value:nan", "value:true"]).await.unwrap();
    assert_eq!(many.remove(0).unwrap(), Some(json("0")));
    assert_eq!(many.remove(0).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(many.remove(0).unwrap(), Some(json("true")));
    let records: Vec<_> = storage.records(Scan::entries("value:*").unwrap()).collect().await;
    let corrupt: Vec<_> = records.iter().filter_map(|record| record.as_ref().err()).collect();
    assert_eq!(corrupt.len(), 1);
    assert_eq!(corrupt[0].key(), Some("value:nan"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_postgres_dump_reads_back_equal() {
    let (_server, storage) = postgres().await;
    reads_everything(&*storage).await;
    storage.disconnect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_redis_strings_read_back_equal() {
    let (_server, storage) = redis().await;
    reads_everything(&*storage).await;
    storage.disconnect().await.unwrap();
}

const WRITTEN: &str = r#"{"b":[1,2.5,"é 🚀\n"],"a":null}"#;

/// What the Python agents' own statements read of what we write, in the form that `json.loads` takes.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_to_postgres_has_the_stated_schema() {
    let (server, storage) = postgres().await;
    storage.set("deal:new", json(WRITTEN), None).await.unwrap();
    storage.set("quote:new", json("1"), Some(std::time::Duration::from_secs(3600))).await.unwrap();
    let columns = "SELECT column_name, data_type, is_nullable FROM information_schema.columns \
                   WHERE table_name = 'kv_store' AND table_schema = 'public' ORDER BY ordinal_position";
    let schema = server.sql(columns).unwrap();
    assert_eq!(schema.trim(), "key|text|NO\nvalue|jsonb|NO\nexpires_at|double precision|YES");
    let found = server
        .sql("SELECT value FROM public.kv_store WHERE key = 'deal:new' AND expires_at IS NULL")
        .unwrap();
    assert_eq!(json(found.trim()), json(WRITTEN));
    let left = server.sql(
        "SELECT expires_at - extract(epoch FROM now()) BETWEEN 3590 AND 3601 FROM public.kv_store WHERE key = 'quote:new'",
    );
    assert_eq!(left.unwrap().trim(), "t");
    storage.disconnect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_to_redis_is_the_very_text_with_native_expiry() {
    let (server, storage) = redis().await;
    storage.set("deal:new", json(WRITTEN), None).await.unwrap();
    storage.set("quote:new", json("1"), Some(std::time::Duration::from_secs(3600))).await.unwrap();
    assert_eq!(server.command(&["GET", "ad_seller:deal:new"]).unwrap().trim_end_matches('\n'), WRITTEN);
    assert_eq!(server.command(&["PTTL", "ad_seller:deal:new"]).unwrap().trim(), "-1");
    let left: i64 = server.command(&["PTTL", "ad_seller:quote:new"]).unwrap().trim().parse().unwrap();
    assert!((3_590_000..=3_600_000).contains(&left), "{left}");
    storage.disconnect().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_to_sqlite_has_the_stated_schema_and_the_very_text() {
    let folder = tempfile::tempdir().unwrap();
    let storage = sqlite(folder.path()).await;
    storage.set("deal:new", json(WRITTEN), None).await.unwrap();
    storage.set("quote:new", json("1"), Some(std::time::Duration::from_secs(3600))).await.unwrap();
    storage.disconnect().await.unwrap();
    let file = rusqlite::Connection::open(folder.path().join("seller_agent.sqlite3")).unwrap();
    let text: String = file
        .query_row("SELECT value FROM kv_store WHERE key = 'deal:new' AND expires_at IS NULL", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(text, WRITTEN);
    let in_time: bool = file
        .query_row(
            "SELECT typeof(expires_at) = 'real' AND expires_at - unixepoch('subsec') BETWEEN 3590 AND 3601 FROM kv_store WHERE key = 'quote:new'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert!(in_time);
    let columns: String = file
        .query_row("SELECT group_concat(name || ' ' || type || ' ' || \"notnull\" || pk, ', ') FROM pragma_table_info('kv_store')", [], |row| row.get(0))
        .unwrap();
    assert_eq!(columns, "key TEXT 01, value TEXT 10, expires_at REAL 00");
}
