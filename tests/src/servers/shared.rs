//! The servers that all tests share, and the variables that say where they are.

use std::thread;

use super::azurite::Azurite;
use super::moto::Moto;
use super::postgres::{Postgres, PostgresOptions};
use super::redis::{AclUser, Redis, RedisCluster, RedisOptions};
use crate::{Error, Result};

const CLUSTER_NODES: usize = 3;

/// The servers that all tests share. They are stopped, and their data removed, when this is dropped.
#[derive(Debug)]
pub struct SharedServers {
    redis: Redis,
    redis_tls: Redis,
    redis_cluster: RedisCluster,
    valkey: Redis,
    postgres: Postgres,
    postgres_tls: Postgres,
    azurite: Azurite,
    moto: Moto,
}

impl SharedServers {
    /// Starts all of them at the same time.
    ///
    /// # Errors
    ///
    /// When one does not start; those that did are stopped again.
    pub fn start() -> Result<SharedServers> {
        thread::scope(|scope| {
            let redis = scope.spawn(|| Redis::start(&RedisOptions::default()));
            let redis_tls = scope.spawn(|| Redis::start(&locked_redis()));
            let redis_cluster = scope.spawn(|| RedisCluster::start(CLUSTER_NODES));
            let valkey =
                scope.spawn(|| Redis::start(&RedisOptions { valkey: true, ..RedisOptions::default() }));
            let postgres = scope.spawn(|| Postgres::start(&PostgresOptions::default()));
            let postgres_tls =
                scope.spawn(|| Postgres::start(&PostgresOptions { tls: true, ..PostgresOptions::default() }));
            let azurite = scope.spawn(Azurite::start);
            let moto = scope.spawn(Moto::start);
            Ok(SharedServers {
                redis: join(redis)?,
                redis_tls: join(redis_tls)?,
                redis_cluster: join(redis_cluster)?,
                valkey: join(valkey)?,
                postgres: join(postgres)?,
                postgres_tls: join(postgres_tls)?,
                azurite: join(azurite)?,
                moto: join(moto)?,
            })
        })
    }

    /// The variables that tell tests where the servers are, each with its value.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let path = |ca: Option<&std::path::Path>| ca.map(|ca| ca.display().to_string()).unwrap_or_default();
        vec![
            ("STORAGE_TEST_REDIS_URL", self.redis.url()),
            ("STORAGE_TEST_REDIS_SOCKET_URL", self.redis.socket_url()),
            ("STORAGE_TEST_REDIS_TLS_URL", self.redis_tls.url()),
            ("STORAGE_TEST_REDIS_TLS_CA", path(self.redis_tls.ca())),
            ("STORAGE_TEST_REDIS_CLUSTER_URL", self.redis_cluster.url()),
            ("STORAGE_TEST_VALKEY_URL", self.valkey.url()),
            ("STORAGE_TEST_POSTGRES_URL", self.postgres.url()),
            ("STORAGE_TEST_POSTGRES_TLS_URL", self.postgres_tls.url()),
            ("STORAGE_TEST_POSTGRES_TLS_CA", path(self.postgres_tls.ca())),
            ("STORAGE_TEST_AZURITE_URL", self.azurite.url()),
            ("STORAGE_TEST_S3_URL", self.moto.url()),
        ]
    }

    /// What was started, for people: each server with its ports.
    #[must_use]
    pub fn summary(&self) -> Vec<(&'static str, String)> {
        let cluster: Vec<String> =
            self.redis_cluster.nodes().iter().map(|node| node.port().to_string()).collect();
        vec![
            ("Redis", self.redis.port().to_string()),
            ("Redis, TLS and ACL", self.redis_tls.port().to_string()),
            ("Redis Cluster", cluster.join(", ")),
            ("Valkey", self.valkey.port().to_string()),
            ("Postgres", self.postgres.port().to_string()),
            ("Postgres, TLS", self.postgres_tls.port().to_string()),
            ("Azurite", self.azurite.port().to_string()),
            ("moto (S3)", self.moto.port().to_string()),
        ]
    }
}

/// Its password has characters that mean something in a URL.
fn locked_redis() -> RedisOptions {
    let user = AclUser { name: "agent".into(), password: "p@ss:w/rd%".into() };
    RedisOptions { tls: true, user: Some(user), ..RedisOptions::default() }
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| {
        Err(Error::Failed { command: "starting a server".into(), output: "it panicked".into() })
    })
}
