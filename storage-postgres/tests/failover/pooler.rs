use storage_core::{ErrorKind, Json, StorageBackend};
use storage_postgres::PostgresConfig;
use storage_tests::PgBouncer;

use crate::common::{eventually, open, port, unique, url};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_pooler_refuses_names_the_setting() {
    let pooler = PgBouncer::start(port(&url())).unwrap();
    let error = open(PostgresConfig::from_url(&pooler.url()).unwrap()).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.hint().unwrap().contains("POSTGRES_POOLER=true"), "{error}");
    let wrong = pooler.url().replace("storage:", "storage:s3cret");
    let error = open(PostgresConfig::from_url(&format!("{wrong}?pgbouncer=true")).unwrap())
        .connect()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert!(!format!("{error:?}").contains("s3cret"));
    let database = format!("{}?pgbouncer=true", pooler.url()).replace("/storage?", "/no_such_database?");
    let error = open(PostgresConfig::from_url(&database).unwrap()).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_comes_back_is_used_again() {
    let mut pooler = PgBouncer::start(port(&url())).unwrap();
    let mut config = PostgresConfig::from_url(&format!("{}?pgbouncer=true", pooler.url())).unwrap();
    config.schema = Some(unique("pooler"));
    let backend = open(config);
    backend.connect().await.unwrap();
    backend.set("k", Json::from(1), None).await.unwrap();
    assert!(backend.health().await.writes());
    pooler.kill().unwrap();
    assert_eq!(backend.get("k").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(!backend.health().await.reads());
    pooler.restart().unwrap();
    eventually("it works again", async || backend.set("k", Json::from(2), None).await.is_ok()).await;
    assert_eq!(backend.get("k").await.unwrap(), Some(Json::from(2)));
}
