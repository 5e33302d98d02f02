//! A worker program.

use std::io::{Write, stdin, stdout};
use std::process::ExitCode;
use std::time::Duration;

use crate::{Contender, Job, Measured, Result, Task, load};

/// The `main` of a worker program: reads the job, hands it to `work`, and writes what it measured. A failure goes to
/// the standard error.
pub fn run_worker<F, W>(work: W) -> ExitCode
where
    F: Future<Output = Result<Measured>>,
    W: FnOnce(Job) -> F,
{
    match answer(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn answer<F, W>(work: W) -> Result<()>
where
    F: Future<Output = Result<Measured>>,
    W: FnOnce(Job) -> F,
{
    let mut line = String::new();
    stdin().read_line(&mut line)?;
    let job = serde_json::from_str(&line)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let measured = runtime.block_on(work(job))?;
    writeln!(stdout(), "{}", serde_json::to_string(&measured)?)?;
    // Not waiting for what a contender left running.
    runtime.shutdown_timeout(Duration::from_millis(100));
    Ok(())
}

/// Runs the load of a job on a contender.
///
/// # Errors
/// What made the measurement impossible. Operations that fail under load are counted instead.
pub async fn measure<C: Contender>(contender: C, job: &Job) -> Result<Measured> {
    match (job.task, job.rate) {
        (Task::Seed, _) => {
            contender.seed(&job.data).await?;
            Ok(Measured::default())
        }
        (Task::Get | Task::Set, Some(rate)) => load::fixed_rate(contender, job, rate).await,
        (Task::Get | Task::Set, None) => load::closed(contender, job).await,
        _ => load::listings(contender, job).await,
    }
}
