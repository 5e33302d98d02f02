//! Real servers for tests.
//!
//! [`Redis`], [`RedisCluster`], [`Sentinels`], [`Postgres`], [`PgBouncer`], [`Azurite`] and [`Moto`] each start a private server on a free port of the loopback
//! interface, with its data in a temporary folder. A test may kill, stop, pause and restart it; dropping it
//! stops it and removes its data. A server never outlives the program that started it, however that ends. A
//! [`Proxy`] before an HTTP server loses, breaks and delays requests and answers. A [`SmallDisk`] can be filled. [`Gcs`] is no
//! real server: it follows the documentation of Google Cloud Storage in this process.
//!
//! Tests that only need *some* server take the shared ones, whose addresses `cargo xtask test` puts into
//! [`variable`]s:
//!
//! | variable | server |
//! |---|---|
//! | `STORAGE_TEST_REDIS_URL` | Redis without a password |
//! | `STORAGE_TEST_REDIS_SOCKET_URL` | the same server, through its Unix socket |
//! | `STORAGE_TEST_REDIS_TLS_URL` | Redis with TLS and an ACL user; nobody else may enter |
//! | `STORAGE_TEST_REDIS_TLS_CA` | path of the certificate authority (PEM) that signed its certificate |
//! | `STORAGE_TEST_REDIS_CLUSTER_URL` | Redis Cluster of three primaries |
//! | `STORAGE_TEST_VALKEY_URL` | Valkey |
//! | `STORAGE_TEST_POSTGRES_URL` | Postgres, whose text order is a natural language's, not the bytes' |
//! | `STORAGE_TEST_POSTGRES_TLS_URL` | Postgres that refuses connections without TLS |
//! | `STORAGE_TEST_POSTGRES_TLS_CA` | path of the certificate authority (PEM) that signed its certificate |
//! | `STORAGE_TEST_AZURITE_URL` | Azure Blob Storage (Azurite): the URL of its account |
//! | `STORAGE_TEST_S3_URL` | S3 (moto) with a bucket `storage`; it takes any credentials |
//!
//! # Example
//!
//! ```no_run
//! use storage_tests::{Postgres, PostgresOptions};
//!
//! # fn main() -> storage_tests::Result<()> {
//! let mut postgres = Postgres::start(&PostgresOptions::default())?;
//! let url = postgres.url(); // connect a backend to it ...
//! postgres.kill()?; // ... as if the machine had lost power ...
//! postgres.restart()?; // ... and back again: same port, same data.
//! # Ok(())
//! # }
//! ```

mod disk;
mod environment;
mod error;
mod gcs;
pub mod processes;
pub mod programs;
mod proxy;
pub mod servers;
mod tcp;

pub use disk::SmallDisk;
pub use environment::{
    failovers, forgotten_sessions, kills, short_processes, simulated_damages, simulated_schedules,
    simulated_seed, threads, variable,
};
pub use error::{Error, Result};
pub use gcs::Gcs;
pub use proxy::{Fault, Proxy, Seen};
pub use servers::azurite::Azurite;
pub use servers::certificates::Certificates;
pub use servers::moto::Moto;
pub use servers::pgbouncer::PgBouncer;
pub use servers::postgres::{Postgres, PostgresOptions, StandbyOptions};
pub use servers::redis::{AclUser, Redis, RedisCluster, RedisOptions, SentinelOptions, Sentinels};
pub use servers::shared::SharedServers;
pub use tcp::TcpProxy;

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
