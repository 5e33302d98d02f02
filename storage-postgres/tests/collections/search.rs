//! Search: the index that serves it, and tables that an earlier release made.

use storage_core::{ErrorKind, Search, SearchText};

use super::*;
use crate::common::{config, eventually, open, outside, schema, url, with_login};

fn said(body: &str) -> Operation {
    append(body).searched(Some(SearchText::new(body)))
}

async fn found(backend: &PostgresBackend, query: &str) -> Vec<String> {
    let hits = store(backend).search(Search::new("conversation", query.parse().unwrap())).await.unwrap();
    hits.into_iter().map(|hit| String::from_utf8(hit.item.body.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn a_search_goes_through_the_index() {
    let config = config("search");
    let backend = open(config.clone());
    backend.connect().await.unwrap();
    for start in 0..5 {
        let numbers = start * 1_000..(start + 1) * 1_000;
        let commit =
            numbers.fold(Commit::new(partition("s")), |commit, n| commit.with(said(&format!("word{n} all"))));
        store(&backend).commit(commit).await.unwrap();
    }
    let quoted = schema(&config);
    outside().await.batch_execute(&format!("ANALYZE {quoted}.storage_item")).await.unwrap();
    eventually("a search went through the index", async || {
        assert_eq!(found(&backend, "word4711 all").await, ["word4711 all"]);
        let sql = "SELECT idx_scan >= 1 FROM pg_stat_user_indexes \
                   WHERE schemaname = $1 AND indexrelname = 'idx_storage_item_words'";
        outside().await.query_one(sql, &[&config.schema]).await.unwrap().get(0)
    })
    .await;
}

#[tokio::test]
async fn tables_of_a_release_without_search_get_it_on_connect_and_work_until_then() {
    let config = config("earlier");
    let backend = open(config.clone());
    backend.connect().await.unwrap();
    let quoted = schema(&config);
    outside()
        .await
        .batch_execute(&format!("ALTER TABLE {quoted}.storage_item DROP COLUMN words"))
        .await
        .unwrap();
    // Somebody reads it meanwhile, so that it cannot be altered at once.
    let reader = outside().await;
    reader.batch_execute(&format!("BEGIN; SELECT FROM {quoted}.storage_item")).await.unwrap();
    for create in [true, false] {
        let mut config = config.clone();
        config.create = create;
        let backend = open(config);
        backend.connect().await.unwrap();
        assert!(!store(&backend).searches("conversation"));
        let search = store(&backend).search(Search::new("conversation", "early".parse().unwrap())).await;
        assert_eq!(search.unwrap_err().kind(), ErrorKind::Unsupported);
        store(&backend).commit(Commit::new(partition("s")).with(said("early"))).await.unwrap();
        let put = Operation::put("k", Json::from(1), "early", storage_core::PutMode::Upsert);
        let put = put.searched(Some(SearchText::new("early")));
        store(&backend).commit(Commit::new(partition("s")).with(put)).await.unwrap();
    }
    reader.batch_execute("COMMIT").await.unwrap();
    let backend = open(config);
    backend.connect().await.unwrap();
    assert!(store(&backend).searches("conversation"));
    store(&backend).commit(Commit::new(partition("s")).with(said("later word"))).await.unwrap();
    assert_eq!(found(&backend, "word").await, ["later word"]);
    assert_eq!(found(&backend, "early").await, [""; 0]);
}

#[tokio::test]
async fn a_role_that_may_not_alter_tables_works_without_search() {
    let config = config("unaltered");
    open(config.clone()).connect().await.unwrap();
    let (quoted, client) = (schema(&config), outside().await);
    let role = format!("{}_role", config.schema.as_deref().unwrap());
    client
        .batch_execute(&format!(
            "ALTER TABLE {quoted}.storage_item DROP COLUMN words; CREATE ROLE \"{role}\" LOGIN PASSWORD 'pw'; \
             GRANT USAGE ON SCHEMA {quoted} TO \"{role}\"; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {quoted} TO \"{role}\""
        ))
        .await
        .unwrap();
    let mut theirs = storage_postgres::PostgresConfig::from_url(&with_login(&url(), &role, "pw")).unwrap();
    theirs.schema = config.schema.clone();
    let backend = open(theirs);
    backend.connect().await.unwrap();
    store(&backend).commit(Commit::new(partition("s")).with(said("word"))).await.unwrap();
    assert!(!store(&backend).searches("conversation"));
}
