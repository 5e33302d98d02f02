//! SQLite through its drivers alone, on the same table, as durable.

use std::time::Instant;

use rusqlite::{Connection, params};
use storage_bench_harness::{Contender, Data, Deal, Job, Measured, Meter, Result, Stopwatch, Task, Window};

const GET: &str = "SELECT value, expires_at FROM kv_store WHERE key = ?1";
const SET: &str = "INSERT INTO kv_store (key, value, expires_at) VALUES (?1, ?2, NULL)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at";
const DEALS: &str = "SELECT value FROM kv_store WHERE key >= 'deal:' AND key < 'deal;' ORDER BY key";
/// Rows of one transaction of `raw-256`.
const GROUP: u64 = 256;

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

fn set_up(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000")
}

fn read(db: &Connection, key: &str) -> rusqlite::Result<String> {
    db.prepare_cached(GET)?.query_row([key], |row| {
        row.get::<_, Option<f64>>(1)?;
        row.get(0)
    })
}

fn write(db: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    db.prepare_cached(SET)?.execute(params![key, value]).map(drop)
}

/// What one thread can do without a library in between.
pub(super) fn raw(job: &Job) -> Result<Measured> {
    let db = Connection::open(&job.target)?;
    set_up(&db)?;
    let values = job.data.values()?;
    let meter = Meter::new()?;
    let window = Window::of(job);
    let mut stopwatch = Stopwatch::start();
    let mut counts = false;
    loop {
        let start = Instant::now();
        let operations = match job.task {
            Task::Get => read(&db, &job.data.random_key()).map(|_| 1)?,
            Task::Set => write_group(&db, &job.data, &values)?,
            _ => list_deals(&db)?,
        };
        let now = Instant::now();
        if !matches!(job.task, Task::Get | Task::Set) {
            meter.record(0, now - start, 1);
            meter.count(1);
            return Ok(meter.finish((now - start).as_secs_f64(), stopwatch.processor_time()));
        }
        if now > window.end {
            return Ok(meter.finish(window.seconds(), stopwatch.processor_time()));
        }
        if !counts && now >= window.start {
            (counts, stopwatch) = (true, Stopwatch::start());
        } else if counts {
            window.add(&meter, 0, start, now, operations);
        }
    }
}

fn write_group(db: &Connection, data: &Data, values: &[String]) -> Result<u64> {
    db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    for _ in 0..GROUP {
        write(db, &data.random_key(), fastrand::choice(values).ok_or("no values")?)?;
    }
    db.prepare_cached("COMMIT")?.execute([])?;
    Ok(GROUP)
}

fn list_deals(db: &Connection) -> Result<u64> {
    let mut select = db.prepare(DEALS)?;
    let mut rows = select.query([])?;
    let mut deals = Vec::new();
    while let Some(row) = rows.next()? {
        deals.push(serde_json::from_str::<Deal>(row.get_ref(0)?.as_str()?)?);
    }
    Ok(deals.len() as u64)
}
