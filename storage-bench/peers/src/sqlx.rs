//! sqlx on the table that the others use, as durable.

use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgPool, SqlitePool, postgres::PgPoolOptions};
use storage_bench_harness::{Contender, Result};

const READERS: u32 = 4;
const POOL: u32 = 16;
const ACQUIRE: Duration = Duration::from_secs(30);

const SQLITE_GET: &str = "SELECT value, expires_at FROM kv_store WHERE key = ?1";
const SQLITE_SET: &str = "INSERT INTO kv_store (key, value, expires_at) VALUES (?1, ?2, NULL) \
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at";
const POSTGRES_GET: &str = "SELECT value::text FROM kv_store WHERE key = $1 \
    AND (expires_at IS NULL OR expires_at > extract(epoch FROM statement_timestamp())::float8)";
const POSTGRES_SET: &str = "INSERT INTO kv_store (key, value, expires_at) VALUES ($1, $2::text::jsonb, NULL) \
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at";

/// Several connections read; one writes, because writers that fight for SQLite's lock wait in long sleeps.
pub(crate) struct Sqlite {
    readers: SqlitePool,
    writer: SqlitePool,
}

impl Sqlite {
    pub(crate) async fn open(path: &str) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = |size| SqlitePoolOptions::new().max_connections(size).acquire_timeout(ACQUIRE);
        let writer = pool(1).connect_with(options.clone()).await?;
        Ok(Self { readers: pool(READERS).connect_with(options).await?, writer })
    }
}

impl Contender for Sqlite {
    type Value = String;

    fn value(text: &str) -> Result<String> {
        Ok(text.to_owned())
    }

    async fn get(&self, key: &str) -> Result<usize> {
        let query = sqlx::query_as::<_, (String, Option<f64>)>(SQLITE_GET);
        let (value, _) = query.bind(key).fetch_one(&self.readers).await?;
        Ok(value.len())
    }

    async fn set(&self, key: &str, value: String) -> Result<()> {
        sqlx::query(SQLITE_SET).bind(key).bind(value).execute(&self.writer).await?;
        Ok(())
    }
}

/// A pool; sqlx prepares each statement once per connection.
pub(crate) struct Postgres(PgPool);

impl Postgres {
    pub(crate) async fn open(url: &str) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(POOL).min_connections(POOL).acquire_timeout(ACQUIRE);
        Ok(Self(pool.connect(url).await?))
    }
}

impl Contender for Postgres {
    type Value = String;

    fn value(text: &str) -> Result<String> {
        Ok(text.to_owned())
    }

    async fn get(&self, key: &str) -> Result<usize> {
        let value: String = sqlx::query_scalar(POSTGRES_GET).bind(key).fetch_one(&self.0).await?;
        Ok(value.len())
    }

    async fn set(&self, key: &str, value: String) -> Result<()> {
        sqlx::query(POSTGRES_SET).bind(key).bind(value).execute(&self.0).await?;
        Ok(())
    }
}
