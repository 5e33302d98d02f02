//! SQLite through its drivers alone, on the same table, as durable.

use rusqlite::{Connection, params};
use storage_bench_harness::{Contender, Result};

const GET: &str = "SELECT value, expires_at FROM kv_store WHERE key = ?1";
pub(super) const SET: &str = "INSERT INTO kv_store (key, value, expires_at) VALUES (?1, ?2, NULL)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at";

/// One connection on one thread, a call and a commit for each operation.
pub(super) struct TokioRusqlite(tokio_rusqlite::Connection);

impl TokioRusqlite {
    pub(super) async fn open(path: &str) -> Result<Self> {
        let connection = tokio_rusqlite::Connection::open(path).await?;
        connection.call(|db| set_up(db)).await.map_err(|error| error.to_string())?;
        Ok(Self(connection))
    }
}

impl Contender for TokioRusqlite {
    type Value = String;

    fn value(text: &str) -> Result<String> {
        Ok(text.to_owned())
    }

    async fn get(&self, key: &str) -> Result<usize> {
        let key = key.to_owned();
        Ok(self.0.call(move |db| read(db, &key)).await?.len())
    }

    async fn set(&self, key: &str, value: String) -> Result<()> {
        let key = key.to_owned();
        Ok(self.0.call(move |db| write(db, &key, &value)).await?)
    }
}

pub(super) fn set_up(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000")
}

pub(super) fn read(db: &Connection, key: &str) -> rusqlite::Result<String> {
    db.prepare_cached(GET)?.query_row([key], |row| {
        row.get::<_, Option<f64>>(1)?;
        row.get(0)
    })
}

fn write(db: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    db.prepare_cached(SET)?.execute(params![key, value]).map(drop)
}
