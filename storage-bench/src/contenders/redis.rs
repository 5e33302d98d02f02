//! Redis through its drivers alone, on the same keys.

use std::time::Instant;

use bb8_redis::RedisConnectionManager;
use fred::interfaces::{ClientLike, KeysInterface};
use futures::TryStreamExt;
use redis::{AsyncCommands, aio::MultiplexedConnection};
use storage_bench_harness::{Contender, Deal, Finding, Result, Task};

use super::pool::POOL;

/// The namespace that a backend has unless it is set up otherwise.
const NAMESPACE: &str = "ad_buyer:";
/// Keys of one SCAN and of one MGET.
const PAGE: usize = 1_000;

fn full(key: &str) -> String {
    format!("{NAMESPACE}{key}")
}

/// A pool with its default settings; each operation checks a connection out.
pub(super) struct Pooled(bb8::Pool<RedisConnectionManager>);

impl Pooled {
    pub(super) async fn open(url: &str) -> Result<Self> {
        let manager = RedisConnectionManager::new(url)?;
        Ok(Self(bb8::Pool::builder().max_size(POOL).min_idle(POOL).build(manager).await?))
    }
}

impl Contender for Pooled {
    type Value = String;

    fn value(text: &str) -> Result<String> {
        Ok(text.to_owned())
    }

    async fn get(&self, key: &str) -> Result<usize> {
        let value: String = self.0.get().await?.get(full(key)).await?;
        Ok(value.len())
    }

    async fn set(&self, key: &str, value: String) -> Result<()> {
        Ok(self.0.get().await?.set(full(key), value).await?)
    }

    /// SCAN for the keys, MGET for their values, each decoded.
    async fn listing(&self, task: Task) -> Result<Finding> {
        if task != Task::ListDeals {
            return Err(format!("cannot {}", task.name()).into());
        }
        let start = Instant::now();
        let mut connection = self.0.get().await?;
        let options = redis::ScanOptions::default().with_pattern(full("deal:*")).with_count(PAGE);
        let keys: Vec<String> = connection.scan_options(options).await?.try_collect().await?;
        let mut deals: Vec<Deal> = Vec::new();
        for page in keys.chunks(PAGE) {
            let values: Vec<String> = connection.mget(page).await?;
            for value in &values {
                deals.push(serde_json::from_str(value)?);
            }
        }
        Ok(Finding { entries: deals.len() as u64, took: start.elapsed() })
    }
}

/// The driver's own connection, cloned for each operation.
pub(super) struct Multiplexed(MultiplexedConnection);

impl Multiplexed {
    pub(super) async fn open(url: &str) -> Result<Self> {
        Ok(Self(redis::Client::open(url)?.get_multiplexed_async_connection().await?))
    }
}

impl Contender for Multiplexed {
    type Value = String;

    fn value(text: &str) -> Result<String> {
        Ok(text.to_owned())
    }

    async fn get(&self, key: &str) -> Result<usize> {
        let value: String = self.0.clone().get(full(key)).await?;
        Ok(value.len())
    }

    async fn set(&self, key: &str, value: String) -> Result<()> {
        Ok(self.0.clone().set(full(key), value).await?)
    }
}

/// One client for all callers; it pipelines by itself.
pub(super) struct Fred(fred::clients::Client);

impl Fred {
    pub(super) async fn open(url: &str) -> Result<Self> {
        let client =
            fred::types::Builder::from_config(fred::types::config::Config::from_url(url)?).build()?;
        client.init().await?;
        Ok(Self(client))
    }
}

impl Contender for Fred {
    /// Shares its bytes when it is cloned.
    type Value = fred::types::Value;

    fn value(text: &str) -> Result<Self::Value> {
        Ok(text.into())
    }

    async fn get(&self, key: &str) -> Result<usize> {
        let value: String = self.0.get(full(key)).await?;
        Ok(value.len())
    }

    async fn set(&self, key: &str, value: Self::Value) -> Result<()> {
        Ok(self.0.set(full(key), value, None, None, false).await?)
    }
}
