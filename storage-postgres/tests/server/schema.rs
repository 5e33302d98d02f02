use futures::future::join_all;
use storage_core::{Batch, Commit, ErrorKind, Json, Operation, Partition, StorageBackend};
use storage_postgres::PostgresConfig;

use crate::common::{
    config, database, eventually, open, outside, outside_at, schema, unique, url, with_login,
};

async fn indexes(schema: &str) -> Vec<String> {
    let sql =
        "SELECT indexname::text FROM pg_indexes WHERE schemaname = $1 AND tablename = 'kv_store' ORDER BY 1";
    let rows = outside().await.query(sql, &[&schema]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_backends_connecting_at_once_make_the_schema_once() {
    let config = config("at once");
    let backends: Vec<_> = (0..16).map(|_| open(config.clone())).collect();
    for connected in join_all(backends.iter().map(StorageBackend::connect)).await {
        connected.unwrap();
    }
    let made = indexes(config.schema.as_deref().unwrap()).await;
    assert_eq!(made, ["idx_kv_expires", "idx_kv_key_c", "kv_store_pkey"]);
    backends[0].set("k", Json::from(1), None).await.unwrap();
    assert!(backends[15].exists("k").await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_makes_the_table_at_the_same_time_is_no_error() {
    let config = config("python");
    let quoted = schema(&config);
    outside().await.batch_execute(&format!("CREATE SCHEMA {quoted}")).await.unwrap();
    let theirs = format!(
        "CREATE TABLE IF NOT EXISTS {quoted}.kv_store \
         (key TEXT PRIMARY KEY, value JSONB NOT NULL, expires_at DOUBLE PRECISION); \
         CREATE INDEX IF NOT EXISTS idx_kv_expires ON {quoted}.kv_store (expires_at) WHERE expires_at IS NOT NULL"
    );
    let makers = (0..8).map(|_| async {
        // Postgres lets all but one of them fail.
        drop(outside().await.batch_execute(&theirs).await);
    });
    let backends: Vec<_> = (0..8).map(|_| open(config.clone())).collect();
    let connects = join_all(backends.iter().map(StorageBackend::connect));
    let (connected, _) = futures::future::join(connects, join_all(makers)).await;
    for connected in connected {
        connected.unwrap();
    }
    assert_eq!(
        indexes(config.schema.as_deref().unwrap()).await,
        ["idx_kv_expires", "idx_kv_key_c", "kv_store_pkey"]
    );
}

#[tokio::test]
async fn the_columns_are_those_of_the_python_agents() {
    let config = config("columns");
    open(config.clone()).connect().await.unwrap();
    let sql = "SELECT column_name::text, data_type::text, is_nullable::text FROM information_schema.columns \
               WHERE table_schema = $1 AND table_name = 'kv_store' ORDER BY ordinal_position";
    let rows = outside().await.query(sql, &[&config.schema]).await.unwrap();
    let columns: Vec<(String, String, String)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let column = |name: &str, kind: &str, null: &str| (name.to_owned(), kind.to_owned(), null.to_owned());
    assert_eq!(
        columns,
        [
            column("key", "text", "NO"),
            column("value", "jsonb", "NO"),
            column("expires_at", "double precision", "YES")
        ]
    );
}

#[tokio::test]
async fn a_database_in_another_collation_lists_by_bytes_and_through_the_index() {
    let url = database("collation", "LOCALE_PROVIDER icu ICU_LOCALE 'en-US'").await;
    let backend = open(PostgresConfig::from_url(&url).unwrap());
    backend.connect().await.unwrap();
    let mut keys =
        ["deal:a", "deal:B", "deal:b", "deal:_", "deal:é", "Deal:c", "deal;", "deal:A-1", "deal:a1"];
    for key in keys {
        backend.set(key, Json::from(1), None).await.unwrap();
    }
    keys.sort_unstable();
    let deals: Vec<_> = keys.iter().copied().filter(|key| key.starts_with("deal:")).collect();
    assert_eq!(backend.keys("deal:*").await.unwrap(), deals);
    assert_eq!(backend.keys("*").await.unwrap(), keys);
    for key in keys {
        assert_eq!(backend.get(key).await.unwrap(), Some(Json::from(1)), "{key}");
    }
    // A session reports what it did as it ends.
    backend.disconnect().await.unwrap();
    let client = outside_at(&url).await;
    let natural = client.query("SELECT key FROM kv_store ORDER BY key", &[]).await.unwrap();
    let natural: Vec<String> = natural.iter().map(|row| row.get(0)).collect();
    assert_ne!(natural, keys, "else this test shows nothing");
    eventually("listings and reads went through the index in byte order", async || {
        let sql = "SELECT idx_scan >= 11 FROM pg_stat_user_indexes WHERE indexrelname = 'idx_kv_key_c'";
        client.query_one(sql, &[]).await.unwrap().get(0)
    })
    .await;
}

#[tokio::test]
async fn a_table_without_our_indexes_gets_them_and_keeps_its_rows() {
    let config = config("legacy");
    let quoted = schema(&config);
    let legacy = format!(
        "CREATE SCHEMA {quoted}; \
         CREATE TABLE {quoted}.kv_store (key text NOT NULL PRIMARY KEY, value jsonb NOT NULL, expires_at double precision); \
         CREATE INDEX idx_kv_expires ON {quoted}.kv_store (expires_at) WHERE expires_at IS NOT NULL; \
         INSERT INTO {quoted}.kv_store VALUES ('deal:1', '{{\"status\": \"active\"}}', NULL), ('quote:old', '1', 1)"
    );
    outside().await.batch_execute(&legacy).await.unwrap();
    let backend = open(config.clone());
    backend.connect().await.unwrap();
    assert_eq!(backend.keys("*").await.unwrap(), ["deal:1"]);
    assert_eq!(
        indexes(config.schema.as_deref().unwrap()).await,
        ["idx_kv_expires", "idx_kv_key_c", "kv_store_pkey"]
    );
}

#[tokio::test]
async fn a_role_without_the_right_to_create_uses_what_is_there() {
    let config = config("granted");
    let owner = open(config.clone());
    owner.connect().await.unwrap();
    let (role, quoted) = (unique("reader"), schema(&config));
    let client = outside().await;
    let grants = format!(
        "CREATE ROLE \"{role}\" LOGIN PASSWORD 'pw'; GRANT USAGE ON SCHEMA {quoted} TO \"{role}\"; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON {quoted}.kv_store TO \"{role}\""
    );
    client.batch_execute(&grants).await.unwrap();
    let mut theirs = PostgresConfig::from_url(&with_login(&url(), &role, "pw")).unwrap();
    theirs.schema = config.schema.clone();
    let backend = open(theirs.clone());
    backend.connect().await.unwrap();
    backend.set("k", Json::from(1), None).await.unwrap();
    assert!(owner.exists("k").await.unwrap());
    // Somebody else's table without our index, which only its owner may make.
    client.batch_execute(&format!("DROP INDEX {quoted}.idx_kv_key_c")).await.unwrap();
    let backend = open(theirs);
    backend.connect().await.unwrap();
    assert_eq!(backend.keys("*").await.unwrap(), ["k"]);
    assert_eq!(backend.get("k").await.unwrap(), Some(Json::from(1)));
    backend.disconnect().await.unwrap();
    eventually("the read went through the primary key", async || {
        let sql = "SELECT idx_scan >= 1 FROM pg_stat_user_indexes \
                   WHERE schemaname = $1 AND indexrelname = 'kv_store_pkey'";
        client.query_one(sql, &[&config.schema]).await.unwrap().get(0)
    })
    .await;
}

/// A role that may log in, and nothing else.
async fn role(name: &str) -> String {
    let role = unique(name);
    outside().await.batch_execute(&format!("CREATE ROLE \"{role}\" LOGIN PASSWORD 'pw'")).await.unwrap();
    role
}

#[tokio::test]
async fn with_the_least_grants_everything_works() {
    let config = config("least");
    open(config.clone()).connect().await.unwrap();
    let (role, quoted) = (role("least").await, schema(&config));
    let tables = ["kv_store", "storage_partition", "storage_item"].map(|table| format!("{quoted}.{table}"));
    let grants = format!(
        "GRANT USAGE ON SCHEMA {quoted} TO \"{role}\"; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO \"{role}\"",
        tables.join(", ")
    );
    outside().await.batch_execute(&grants).await.unwrap();
    for create in [true, false] {
        let mut theirs = PostgresConfig::from_url(&with_login(&url(), &role, "pw")).unwrap();
        (theirs.schema, theirs.create) = (config.schema.clone(), create);
        let backend = open(theirs);
        backend.connect().await.unwrap();
        backend.set("k", Json::from(1), None).await.unwrap();
        assert!(backend.health().await.writes());
        backend.apply(Batch::new().set("a", Json::from(1), None).delete("k")).await.unwrap();
        backend.cleanup().await.unwrap();
        assert_eq!(backend.keys("*").await.unwrap(), ["a"]);
        let collections = backend.collections().unwrap();
        let partition = Partition::new("task", &["1"]).unwrap();
        let append = Operation::Append {
            prefix: "n".to_owned(),
            attributes: Json::from(1),
            body: b"body".as_slice().into(),
            tag: None,
            search: None,
        };
        let mut commit = Commit::new(partition.clone());
        commit.operations.push(append);
        collections.commit(commit).await.unwrap();
        assert!(collections.delete_partition(&partition).await.unwrap());
        assert!(backend.stats().await.is_ok());
    }
}

#[tokio::test]
async fn health_tells_a_role_that_may_only_read() {
    let config = config("reads");
    open(config.clone()).connect().await.unwrap();
    let (role, quoted) = (role("reads").await, schema(&config));
    let grants = format!(
        "GRANT USAGE ON SCHEMA {quoted} TO \"{role}\"; GRANT SELECT ON {quoted}.kv_store TO \"{role}\""
    );
    outside().await.batch_execute(&grants).await.unwrap();
    let mut theirs = PostgresConfig::from_url(&with_login(&url(), &role, "pw")).unwrap();
    theirs.schema = config.schema.clone();
    let backend = open(theirs);
    backend.connect().await.unwrap();
    let health = backend.health().await;
    assert!(health.reads() && !health.writes(), "{health:?}");
    assert!(health.stores[0].write_error.as_ref().unwrap().contains("GRANT"), "{health:?}");
    // Neither, without the table.
    outside().await.batch_execute(&format!("DROP TABLE {quoted}.kv_store")).await.unwrap();
    assert!(!backend.health().await.reads());
}

#[tokio::test(flavor = "multi_thread")]
async fn health_leaves_nothing_behind_and_many_may_ask_at_once() {
    let config = config("health");
    let backend = open(config.clone());
    backend.connect().await.unwrap();
    for health in join_all((0..32).map(|_| backend.health())).await {
        assert!(health.reads() && health.writes(), "{health:?}");
    }
    let left = format!("SELECT count(*) FROM {}.kv_store", schema(&config));
    assert_eq!(outside().await.query_one(&left, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn what_may_not_be_made_names_the_right_that_is_missing() {
    let url = database("rights", "").await;
    let role = role("rights").await;
    let connect = async |change: &dyn Fn(&mut PostgresConfig)| {
        let mut config = PostgresConfig::from_url(&with_login(&url, &role, "pw")).unwrap();
        change(&mut config);
        open(config).connect().await
    };
    let client = outside_at(&url).await;
    client.batch_execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC; CREATE SCHEMA closed").await.unwrap();
    let error = connect(&|_| {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let hint = error.hint().unwrap();
    assert!(
        hint.contains("GRANT CREATE ON SCHEMA \"public\"") && hint.contains("POSTGRES_SCHEMA"),
        "{error}"
    );
    let error = connect(&|config| config.schema = Some("none".to_owned())).await.unwrap_err();
    assert!(error.hint().unwrap().contains("CREATE ON DATABASE"), "{error}");
    let error = connect(&|config| config.schema = Some("closed".to_owned())).await.unwrap_err();
    assert!(error.hint().unwrap().contains("ON SCHEMA \"closed\""), "{error}");
    // Where nothing is to be made, what is missing is said.
    let error = connect(&|config| config.create = false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.hint().unwrap().contains("storage init"), "{error}");
    assert_eq!(client.query("SELECT FROM pg_class WHERE relname LIKE 'kv%'", &[]).await.unwrap().len(), 0);
}
