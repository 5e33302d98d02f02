//! The shared test server, and a schema of its own for each test.

#![allow(dead_code, reason = "each test program uses a part")]

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use storage_postgres::{PostgresBackend, PostgresConfig};
pub(crate) use storage_tests::variable;
use tokio_postgres::{Client, NoTls};

pub(crate) fn url() -> String {
    variable("STORAGE_TEST_POSTGRES_URL")
}

/// A name that no other test, process or run has.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_micros();
    format!("{name}_{now}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Settings for a schema of its own.
pub(crate) fn config(name: &str) -> PostgresConfig {
    let mut config = PostgresConfig::from_url(&url()).unwrap();
    config.schema = Some(unique(name));
    config.pool_min = 0;
    config
}

pub(crate) fn open(config: PostgresConfig) -> PostgresBackend {
    PostgresBackend::new(config).unwrap()
}

/// The schema of a configuration, quoted.
pub(crate) fn schema(config: &PostgresConfig) -> String {
    format!("\"{}\"", config.schema.as_deref().unwrap_or("public"))
}

/// A bare connection, to look from outside.
pub(crate) async fn outside() -> Client {
    outside_at(&url()).await
}

pub(crate) async fn outside_at(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Asks until the answer is yes.
pub(crate) async fn eventually(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    for _ in 0..100 {
        if ask().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never came true: {what}");
}

/// The same server with another login, host or database.
pub(crate) fn with_login(url: &str, user: &str, password: &str) -> String {
    let (_, place) = url.split_once('@').unwrap();
    format!("postgresql://{user}:{password}@{place}")
}

/// A database of its own, for what is counted or set for a whole database; `options` of `CREATE DATABASE`.
pub(crate) async fn database(name: &str, options: &str) -> String {
    let name = unique(name);
    outside()
        .await
        .batch_execute(&format!("CREATE DATABASE \"{name}\" TEMPLATE template0 {options}"))
        .await
        .unwrap();
    let url = url();
    let (login, place) = url.split_once('@').unwrap();
    let (host, _) = place.split_once('/').unwrap();
    format!("{login}@{host}/{name}")
}

/// The port of a URL.
pub(crate) fn port(url: &str) -> u16 {
    url.rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap()
}

/// The same login and database on other ports of this machine.
pub(crate) fn at_ports(url: &str, ports: &[u16]) -> PostgresConfig {
    let (login, place) = url.split_once('@').unwrap();
    let (_, database) = place.split_once('/').unwrap();
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    PostgresConfig::from_url(&format!("{login}@{}/{database}", hosts.join(","))).unwrap()
}
