use futures::future::join_all;
use storage_core::{ErrorKind, Json, StorageBackend};
use storage_postgres::PostgresConfig;

use crate::{
    assert_whole, commit,
    common::{config, open, outside, schema, unique, url, with_login},
    partition, store,
};

#[tokio::test(flavor = "multi_thread")]
async fn many_backends_connecting_at_once_make_the_tables_once() {
    let config = config("tables at once");
    let backends: Vec<_> = (0..16).map(|_| open(config.clone())).collect();
    for connected in join_all(backends.iter().map(StorageBackend::connect)).await {
        connected.unwrap();
    }
    let sql = "SELECT tablename::text FROM pg_tables WHERE schemaname = $1 ORDER BY 1";
    let rows = outside().await.query(sql, &[&config.schema]).await.unwrap();
    let tables: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(tables, ["kv_store", "storage_item", "storage_partition"]);
    store(&backends[0]).commit(commit(&partition("s"), "x", true)).await.unwrap();
    assert_whole(&backends[15], &partition("s"), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_the_right_to_create_uses_the_tables_that_are_there() {
    let config = config("granted tables");
    open(config.clone()).connect().await.unwrap();
    let (role, quoted) = (unique("writer"), schema(&config));
    let client = outside().await;
    let grants = format!(
        "CREATE ROLE \"{role}\" LOGIN PASSWORD 'pw'; GRANT USAGE ON SCHEMA {quoted} TO \"{role}\"; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {quoted} TO \"{role}\""
    );
    client.batch_execute(&grants).await.unwrap();
    let mut theirs = PostgresConfig::from_url(&with_login(&url(), &role, "pw")).unwrap();
    theirs.schema = config.schema.clone();
    let backend = open(theirs);
    backend.connect().await.unwrap();
    for whole in [true, false] {
        let of = partition(if whole { "whole" } else { "short" });
        store(&backend).commit(commit(&of, "x", whole)).await.unwrap();
        assert_whole(&backend, &of, whole).await;
        assert!(store(&backend).delete_partition(&of).await.unwrap());
    }
    assert_eq!(backend.cleanup().await.unwrap(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_can_neither_make_nor_use_the_tables_is_served_entries() {
    let config = config("entries alone");
    open(config.clone()).connect().await.unwrap();
    let (role, quoted) = (unique("entries"), schema(&config));
    let client = outside().await;
    let grants = format!(
        "CREATE ROLE \"{role}\" LOGIN PASSWORD 'pw'; GRANT USAGE ON SCHEMA {quoted} TO \"{role}\"; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON {quoted}.kv_store TO \"{role}\""
    );
    client.batch_execute(&grants).await.unwrap();
    let mut theirs = PostgresConfig::from_url(&with_login(&url(), &role, "pw")).unwrap();
    theirs.schema = config.schema.clone();
    for missing in [false, true] {
        if missing {
            let drop = format!("DROP TABLE {quoted}.storage_item, {quoted}.storage_partition");
            client.batch_execute(&drop).await.unwrap();
        }
        let backend = open(theirs.clone());
        backend.connect().await.unwrap();
        backend.set("k", Json::from(1), None).await.unwrap();
        assert_eq!(backend.cleanup().await.unwrap(), 0);
        let error = store(&backend).commit(commit(&partition("s"), "x", true)).await.unwrap_err();
        let expected = if missing { ErrorKind::Unavailable } else { ErrorKind::Unauthorized };
        assert_eq!(error.kind(), expected, "{error}");
        backend.disconnect().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_a_later_version_are_refused() {
    let config = config("later");
    open(config.clone()).connect().await.unwrap();
    let comment =
        format!("COMMENT ON TABLE {}.storage_partition IS 'agent storage, schema 2'", schema(&config));
    outside().await.batch_execute(&comment).await.unwrap();
    assert_eq!(open(config).connect().await.unwrap_err().kind(), ErrorKind::Config);
}
