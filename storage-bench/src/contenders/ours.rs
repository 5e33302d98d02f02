//! The backends of this workspace, through what everybody can call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use storage_bench_harness::{Contender, Data, Deal, Finding, Job, Result, Task};
use storage_core::{Entry, Json, Scan, StorageBackend, StorageExt, domain::AdBuyer};
use storage_postgres::{PostgresBackend, PostgresConfig};
use storage_redis::{RedisBackend, RedisConfig};
use storage_sqlite::{SqliteBackend, SqliteConfig};

const SEED_GROUP: usize = 1_000;
/// How many expired entries a sweep finds.
const EXPIRED: usize = 1_000;

/// A connected backend.
pub(super) struct Ours(Arc<dyn StorageBackend>);

impl Ours {
    pub(super) async fn open(job: &Job) -> Result<Self> {
        // What is to be measured must not have happened in the background.
        let sweeps = job.task != Task::Sweep;
        let storage: Arc<dyn StorageBackend> = match job.store.as_str() {
            "sqlite" => {
                let config = SqliteConfig::new(&job.target);
                let sweep = config.sweep.filter(|_| sweeps);
                Arc::new(SqliteBackend::new(SqliteConfig { sweep, ..config })?)
            }
            "postgres" => {
                let mut config = PostgresConfig::from_url(&job.target)?;
                config.sweep = config.sweep.filter(|_| sweeps);
                Arc::new(PostgresBackend::new(config)?)
            }
            _ => Arc::new(RedisBackend::new(RedisConfig::from_url(&job.target)?)?),
        };
        storage.connect().await?;
        Ok(Self(storage))
    }

    async fn count(&self, entries: usize) -> Result<u64> {
        let mut records = self.0.scan(Scan::entries("*")?).take(entries);
        let mut count = 0;
        while let Some(record) = records.next().await {
            record?;
            count += 1;
        }
        Ok(count)
    }

    async fn expire_some(&self) -> Result<()> {
        let entry = |position| {
            Ok(Entry::new(format!("expired:{position}"), Json::parse("{}")?)
                .with_ttl(Duration::from_millis(1)))
        };
        self.0.set_many((0..EXPIRED).map(entry).collect::<Result<_>>()?).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(())
    }
}

impl Contender for Ours {
    type Value = Json;

    fn value(text: &str) -> Result<Json> {
        Ok(Json::parse(text)?)
    }

    async fn seed(&self, data: &Data) -> Result<()> {
        let values = data.values()?.iter().map(|text| Self::value(text)).collect::<Result<Vec<Json>>>()?;
        let mut values = values.iter().cycle();
        let mut position = 0;
        while position < data.keys {
            let group = (position..data.keys).take(SEED_GROUP).zip(values.by_ref());
            let group: Vec<Entry> =
                group.map(|(at, value)| Entry::new(data.key(at), value.clone())).collect();
            position += group.len() as u64;
            self.0.set_many(group).await?;
        }
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<usize> {
        Ok(self.0.get(key).await?.map_or(0, |value| value.len()))
    }

    async fn set(&self, key: &str, value: Json) -> Result<()> {
        Ok(self.0.set(key, value, None).await?)
    }

    async fn listing(&self, task: Task) -> Result<Finding> {
        if task == Task::Sweep {
            self.expire_some().await?;
        }
        let start = Instant::now();
        let entries = match task {
            Task::ListDeals => self.0.list_deals::<Deal>(None, None).await?.all()?.len() as u64,
            Task::Scan => self.count(usize::MAX).await?,
            Task::Page => self.count(100).await?,
            Task::Keys => self.0.keys("deal:*").await?.len() as u64,
            _ => self.0.cleanup().await?,
        };
        Ok(Finding { entries, took: start.elapsed() })
    }
}
