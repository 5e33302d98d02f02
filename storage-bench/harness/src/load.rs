//! The loads: as fast as it goes, at a fixed rate, and one listing after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::{Contender, Job, Measured, Meter, Result, Stopwatch, Task, Window};

/// How often operations are started at a fixed rate; finer than what tokio's timers can.
const TICK: Duration = Duration::from_micros(50);
/// How long the last operations may take: longer than their own deadlines.
const PATIENCE: Duration = Duration::from_secs(10);

/// A contender with all that a load needs.
struct Load<C: Contender> {
    contender: C,
    job: Job,
    values: Vec<C::Value>,
    meter: Meter,
}

impl<C: Contender> Load<C> {
    fn prepare(contender: C, job: &Job) -> Result<Arc<Self>> {
        let values = job.data.values()?.iter().map(|text| C::value(text)).collect::<Result<_>>()?;
        Ok(Arc::new(Self { contender, job: job.clone(), values, meter: Meter::new()? }))
    }

    async fn operation(&self) -> Result<()> {
        let key = self.job.data.random_key();
        match self.job.task {
            Task::Get => match self.contender.get(&key).await? {
                0 => Err(format!("{key} is empty").into()),
                _ => Ok(()),
            },
            _ => {
                let value = fastrand::choice(&self.values).ok_or("no values")?;
                self.contender.set(&key, value.clone()).await
            }
        }
    }

    /// One operation, timed from `since`.
    async fn measured(&self, caller: usize, since: Instant, window: Window) {
        let done = self.operation().await;
        match done {
            Ok(()) => window.add(&self.meter, caller, since, Instant::now(), 1),
            Err(error) => {
                self.meter.fail(&error);
                // A contender that fails at once must not spin.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

/// Each caller starts its next operation when the last one has ended.
pub(crate) async fn closed<C: Contender>(contender: C, job: &Job) -> Result<Measured> {
    let load = Load::prepare(contender, job)?;
    let window = Window::of(job);
    let mut callers = JoinSet::new();
    for caller in 0..job.callers {
        let load = Arc::clone(&load);
        callers.spawn(async move {
            while Instant::now() < window.end {
                load.measured(caller, Instant::now(), window).await;
            }
        });
    }
    sleep_until(window.start.into()).await;
    let stopwatch = Stopwatch::start();
    sleep_until(window.end.into()).await;
    let processor_time = stopwatch.processor_time();
    let _ = timeout(PATIENCE, callers.join_all()).await;
    Ok(load.meter.finish(window.seconds(), processor_time))
}

/// Operations start on time, whether or not earlier ones have ended, at most `callers` at once. Latency counts from
/// the time at which an operation was due: what a busy contender delays is not omitted.
pub(crate) async fn fixed_rate<C: Contender>(contender: C, job: &Job, rate: f64) -> Result<Measured> {
    let load = Load::prepare(contender, job)?;
    let window = Window::of(job);
    let runtime = tokio::runtime::Handle::current();
    let permits = Arc::new(Semaphore::new(job.callers));
    let starter = std::thread::spawn({
        let (load, permits) = (Arc::clone(&load), Arc::clone(&permits));
        move || {
            let began = Instant::now();
            let mut started = 0_u32;
            let due = |position: u32| began + Duration::from_secs_f64(f64::from(position) / rate);
            while due(started) < window.end {
                while due(started) <= Instant::now().min(window.end) {
                    let (load, permits, since) = (Arc::clone(&load), Arc::clone(&permits), due(started));
                    runtime.spawn(async move {
                        let _permit = permits.acquire_owned().await;
                        load.measured(started as usize, since, window).await;
                    });
                    started += 1;
                }
                std::thread::sleep(TICK);
            }
        }
    });
    sleep_until(window.start.into()).await;
    let stopwatch = Stopwatch::start();
    sleep_until(window.end.into()).await;
    let processor_time = stopwatch.processor_time();
    starter.join().map_err(|_| "the thread that starts operations failed")?;
    // Permits are given in order: whoever gets all of them has waited for all operations.
    let _ = timeout(PATIENCE, permits.acquire_many(u32::try_from(job.callers)?)).await;
    Ok(load.meter.finish(window.seconds(), processor_time))
}

/// One listing after the other until the window has passed, at least one.
pub(crate) async fn listings<C: Contender>(contender: C, job: &Job) -> Result<Measured> {
    let meter = Meter::new()?;
    let stopwatch = Stopwatch::start();
    let end = Instant::now() + job.window();
    let mut taken = Duration::ZERO;
    loop {
        let finding = contender.listing(job.task).await?;
        check(job, finding.entries)?;
        meter.record(0, finding.took, 1);
        meter.count(1);
        taken += finding.took;
        if Instant::now() >= end {
            return Ok(meter.finish(taken.as_secs_f64(), stopwatch.processor_time()));
        }
    }
}

/// A listing that misses entries is not faster but wrong.
fn check(job: &Job, entries: u64) -> Result<()> {
    let expected = match job.task {
        Task::Keys | Task::Page => 100,
        Task::Sweep => return Ok(()),
        _ => job.data.keys,
    };
    if entries >= expected {
        return Ok(());
    }
    Err(format!("{} found {entries} entries, not {expected}", job.task.name()).into())
}
