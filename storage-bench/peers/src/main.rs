//! The contenders `sqlx` and `opendal`: a worker program of storage-bench.

mod opendal;
mod sqlx;

use std::process::ExitCode;

use storage_bench_harness::{Job, Measured, Result, measure, run_worker};

fn main() -> ExitCode {
    run_worker(work)
}

async fn work(job: Job) -> Result<Measured> {
    let target = job.target.as_str();
    match (job.store.as_str(), job.contender.as_str()) {
        ("sqlite", "sqlx") => measure(sqlx::Sqlite::open(target).await?, &job).await,
        ("postgres", "sqlx") => measure(sqlx::Postgres::open(target).await?, &job).await,
        (store, "opendal") => measure(opendal::OpenDal::open(store, target).await?, &job).await,
        (store, contender) => Err(format!("{store} has no contender {contender}").into()),
    }
}
