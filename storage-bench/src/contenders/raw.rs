//! Limits of SQLite: one thread that no caller waits for.

use std::time::Instant;

use rusqlite::Connection;
use storage_bench_harness::{Deal, Job, Measured, Meter, Result, Stopwatch, Task, Window};

use super::batching::Writer;
use super::sqlite::{read, set_up};

const DEALS: &str = "SELECT value FROM kv_store WHERE key >= 'deal:' AND key < 'deal;' ORDER BY key";
/// What ours has where it reads single keys. Negative, since it is KiB and not pages.
const CACHE_KIB: i32 = -32 * 1024;

/// What one thread can do without a library in between.
pub(super) fn run(job: &Job) -> Result<Measured> {
    let db = Connection::open(&job.target)?;
    set_up(&db)?;
    db.pragma_update(None, "cache_size", CACHE_KIB)?;
    let writer = Writer::open(&job.target)?;
    let values = job.data.values()?;
    let meter = Meter::new()?;
    let window = Window::of(job);
    let mut stopwatch = Stopwatch::start();
    let mut counts = false;
    loop {
        let start = Instant::now();
        let operations = match job.task {
            Task::Get => read(&db, &job.data.random_key()).map(|_| 1)?,
            Task::Set => writer.write(&job.data, &values)?,
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

fn list_deals(db: &Connection) -> Result<u64> {
    let mut select = db.prepare(DEALS)?;
    let mut rows = select.query([])?;
    let mut deals = Vec::new();
    while let Some(row) = rows.next()? {
        deals.push(serde_json::from_str::<Deal>(row.get_ref(0)?.as_str()?)?);
    }
    Ok(deals.len() as u64)
}
