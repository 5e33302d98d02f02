//! Removing what has expired, in bounded batches.

use storage_core::Result;

use crate::{
    connections::executor::Executor,
    statements::{
        partition_schema::Collections,
        partitions::Sql,
        query::Query,
        value::{column, unsigned},
    },
};

/// Removes a batch after the other until nothing is left or the time is up; returns how many rows.
pub(crate) async fn sweep_all(mut executor: Executor, batch: u32) -> Result<u64> {
    let mut removed = 0;
    loop {
        let swept = match sweep(&mut executor, batch).await {
            Err(_) if removed > 0 => return Ok(removed),
            swept => swept?,
        };
        removed += swept;
        if swept < u64::from(batch) {
            return Ok(removed);
        }
    }
}

/// Removes up to `batch` expired rows, and as much of partitions that are gone; returns how many.
pub(crate) async fn sweep(executor: &mut Executor, batch: u32) -> Result<u64> {
    let removed = remove(executor, Query::Sweep, batch).await?;
    Ok(removed + sweep_partitions(executor, batch).await?)
}

/// Removes up to `batch` items, and as many partitions, that have expired or were deleted; returns how many of both.
async fn sweep_partitions(executor: &mut Executor, batch: u32) -> Result<u64> {
    if executor.schema().collections == Collections::Absent {
        return Ok(0);
    }
    remove(executor, Query::Collections(Sql::SweepExpired), batch).await?;
    let items = remove(executor, Query::Collections(Sql::SweepItems), batch).await?;
    Ok(items + remove(executor, Query::Collections(Sql::SweepPartitions), batch).await?)
}

async fn remove(executor: &mut Executor, query: Query, batch: u32) -> Result<u64> {
    let rows = executor.query(query, &[&i64::from(batch)]).await?;
    rows.first().map_or(Ok(0), |row| column(row, 0).map(unsigned))
}
