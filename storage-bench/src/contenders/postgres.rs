//! Postgres through its driver alone, on the same table.

use std::time::Instant;

use bb8_postgres::PostgresConnectionManager;
use storage_bench_harness::{Contender, Deal, Finding, Result, Task};
use tokio_postgres::{Client, NoTls, Row, Statement, types::Type};

use super::pool::POOL;

/// One key, unless it has expired.
pub(super) const GET: &str = "SELECT value::text FROM kv_store WHERE key = $1 \
    AND (expires_at IS NULL OR expires_at > extract(epoch FROM statement_timestamp())::float8)";
/// One upsert.
pub(super) const SET: &str = "INSERT INTO kv_store (key, value, expires_at) VALUES ($1, $2::text::jsonb, NULL) \
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at";
const DEALS: &str = "SELECT value::text FROM kv_store \
    WHERE key COLLATE \"C\" >= 'deal:' AND key COLLATE \"C\" < 'deal;' ORDER BY key COLLATE \"C\"";

/// One connection for all callers, their queries pipelined, the statements prepared.
pub(super) struct Pipelined {
    client: Client,
    get: Statement,
    set: Statement,
}

impl Pipelined {
    pub(super) async fn open(url: &str) -> Result<Self> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        let get = client.prepare_typed(GET, &[Type::TEXT]).await?;
        let set = client.prepare_typed(SET, &[Type::TEXT, Type::TEXT]).await?;
        Ok(Self { client, get, set })
    }
}

impl Contender for Pipelined {
    type Value = String;

    fn value(text: &str) -> Result<String> {
        Ok(text.to_owned())
    }

    async fn get(&self, key: &str) -> Result<usize> {
        length(&self.client.query_one(&self.get, &[&key]).await?)
    }

    async fn set(&self, key: &str, value: String) -> Result<()> {
        self.client.execute(&self.set, &[&key, &value]).await?;
        Ok(())
    }

    /// One SELECT, each row decoded.
    async fn listing(&self, task: Task) -> Result<Finding> {
        if task != Task::ListDeals {
            return Err(format!("cannot {}", task.name()).into());
        }
        let start = Instant::now();
        let rows = self.client.query(DEALS, &[]).await?;
        let deals = rows.iter().map(|row| Ok(serde_json::from_str(row.try_get(0)?)?));
        let deals = deals.collect::<Result<Vec<Deal>>>()?;
        Ok(Finding { entries: deals.len() as u64, took: start.elapsed() })
    }
}

/// A pool with its default settings; each operation checks a connection out and queries it.
pub(super) struct Pooled(bb8::Pool<PostgresConnectionManager<NoTls>>);

impl Pooled {
    pub(super) async fn open(url: &str) -> Result<Self> {
        let manager = PostgresConnectionManager::new_from_stringlike(url, NoTls)?;
        Ok(Self(bb8::Pool::builder().max_size(POOL).min_idle(POOL).build(manager).await?))
    }
}

impl Contender for Pooled {
    type Value = String;

    fn value(text: &str) -> Result<String> {
        Ok(text.to_owned())
    }

    async fn get(&self, key: &str) -> Result<usize> {
        // Typed, so that a query costs one round trip although nothing keeps prepared statements.
        length(&self.0.get().await?.query_typed_one(GET, &[(&key, Type::TEXT)]).await?)
    }

    async fn set(&self, key: &str, value: String) -> Result<()> {
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&key, Type::TEXT), (&value, Type::TEXT)];
        self.0.get().await?.query_typed(SET, &parameters).await?;
        Ok(())
    }
}

/// The value as the text that a caller gets.
fn length(row: &Row) -> Result<usize> {
    Ok(row.try_get::<_, String>(0)?.len())
}
