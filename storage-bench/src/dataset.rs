//! Fresh stores to measure on.

use std::path::Path;

use storage_bench_harness::Result;
use tokio_postgres::{Client, NoTls};

use crate::args::Run;

/// One of the stores that a run measures on.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    /// `sqlite`, `postgres` or `redis`.
    pub(crate) name: &'static str,
    /// The folder of SQLite's files, or a server's URL.
    place: String,
}

/// The stores of a run.
pub(crate) fn stores(run: &Run) -> Vec<Store> {
    let sqlite = run.sqlite.as_ref().map(|folder| folder.display().to_string());
    [("sqlite", sqlite), ("postgres", run.postgres.clone()), ("redis", run.redis.clone())]
        .into_iter()
        .filter_map(|(name, place)| Some(Store { name, place: place? }))
        .collect()
}

impl Store {
    /// An empty store; what was measured on before is removed. Returns the file's path or the URL.
    pub(crate) async fn fresh(&self, phase: &str) -> Result<String> {
        match self.name {
            "sqlite" => fresh_file(Path::new(&self.place), phase),
            "postgres" => {
                let server = connect(&self.place).await?;
                for old in ["small", "large", "growth"] {
                    server
                        .batch_execute(&format!("DROP DATABASE IF EXISTS bench_{old} WITH (FORCE)"))
                        .await?;
                }
                server.batch_execute(&format!("CREATE DATABASE bench_{phase}")).await?;
                let (server, _) = self.place.rsplit_once('/').ok_or("the Postgres URL names no database")?;
                Ok(format!("{server}/bench_{phase}"))
            }
            _ => {
                let mut server = redis_at(&self.place).await?;
                redis::cmd("FLUSHALL").exec_async(&mut server).await?;
                Ok(self.place.clone())
            }
        }
    }

    /// Gives SQLite's log the size that it has in a service that has been writing for a while, and that it keeps while the
    /// connection is open: what is written where the file ends costs the file system more, so a measurement of half a second
    /// would show the first moments of a service.
    pub(crate) fn grown_log(&self, target: &str) -> Result<Option<rusqlite::Connection>> {
        if self.name != "sqlite" {
            return Ok(None);
        }
        let log = rusqlite::Connection::open(target)?;
        // What does not fit the cache goes to the log, and is not committed.
        log.execute_batch(
            "PRAGMA cache_size = 100; BEGIN; CREATE TABLE filler (bytes); \
             WITH RECURSIVE part (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM part WHERE n < 640) \
             INSERT INTO filler SELECT randomblob(262144) FROM part; \
             ROLLBACK",
        )?;
        Ok(Some(log))
    }

    /// Lets a store settle after many writes, so that the first measurement does not pay for them.
    pub(crate) async fn settle(&self, target: &str) -> Result<()> {
        if self.name == "postgres" {
            connect(target).await?.batch_execute("VACUUM ANALYZE").await?;
            connect(target).await?.batch_execute("CHECKPOINT").await?;
        }
        Ok(())
    }

    /// The version of the server or library.
    pub(crate) async fn version(&self) -> Result<String> {
        match self.name {
            "sqlite" => Ok(format!("SQLite {}", rusqlite::version())),
            "postgres" => {
                let row = connect(&self.place).await?.query_one("SHOW server_version", &[]).await?;
                Ok(format!("Postgres {}", row.try_get::<_, String>(0)?))
            }
            _ => {
                let mut server = redis_at(&self.place).await?;
                let info: String = redis::cmd("INFO").arg("server").query_async(&mut server).await?;
                let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
                Ok(format!("Redis {}", version.unwrap_or("of an unknown version").trim()))
            }
        }
    }
}

/// A connection that waits for an answer as long as it takes: emptying a large store takes longer than the driver would.
async fn redis_at(url: &str) -> Result<redis::aio::MultiplexedConnection> {
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    Ok(redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&patient).await?)
}

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn fresh_file(folder: &Path, phase: &str) -> Result<String> {
    std::fs::create_dir_all(folder)?;
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("bench-")) {
            // Python's store is a folder.
            if path.is_dir() { std::fs::remove_dir_all(path)? } else { std::fs::remove_file(path)? }
        }
    }
    Ok(folder.join(format!("bench-{phase}.db")).display().to_string())
}
