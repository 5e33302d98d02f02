//! Who is measured. Each run is a process of its own, so that memory and processor time are its own.

mod batching;
mod ours;
mod pgbench;
mod pool;
mod postgres;
mod raw;
mod redis;
mod redis_benchmark;
mod sqlite;

use storage_bench_harness::{Job, Measured, Result, measure};

/// Does what a job asks, as the contender that it names.
pub(crate) async fn work(job: Job) -> Result<Measured> {
    let target = job.target.as_str();
    match (job.store.as_str(), job.contender.as_str()) {
        (_, "ours") => measure(ours::Ours::open(&job).await?, &job).await,
        ("sqlite", "tokio-rusqlite") => measure(sqlite::TokioRusqlite::open(target).await?, &job).await,
        ("sqlite", "raw-256" | "raw-1-thread") => tokio::task::block_in_place(|| raw::run(&job)),
        ("postgres", "bb8-postgres") => measure(postgres::Pooled::open(target).await?, &job).await,
        ("postgres", "tokio-postgres") => measure(postgres::Pipelined::open(target).await?, &job).await,
        ("postgres", "pgbench") => tokio::task::block_in_place(|| pgbench::run(&job)),
        ("redis", "bb8-redis") => measure(redis::Pooled::open(target).await?, &job).await,
        ("redis", "redis") => measure(redis::Multiplexed::open(target).await?, &job).await,
        ("redis", "fred") => measure(redis::Fred::open(target).await?, &job).await,
        ("redis", "redis-benchmark-p1") => redis_benchmark::run(&job, 1).await,
        ("redis", "redis-benchmark-p32") => redis_benchmark::run(&job, 32).await,
        (store, contender) => Err(format!("{store} has no contender {contender}").into()),
    }
}
