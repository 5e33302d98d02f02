//! What Postgres answers to `pgbench`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use storage_bench_harness::{Job, KEY_BASE, Measured, Meter, Result, Task, children};
use storage_tests::programs;

use super::postgres::{GET, SET};

/// Each transaction whose latency is logged stands for this many, so that logging slows nobody.
const SAMPLED: u64 = 20;

/// One run with `job.callers` clients.
pub(super) fn run(job: &Job) -> Result<Measured> {
    if job.task == Task::Seed {
        return Ok(Measured::default());
    }
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("script.sql");
    std::fs::write(&script, script_of(job))?;
    let before = children().processor_time;
    let output = command(job, &script, folder.path())?.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = transactions_per_second(&text)
        .filter(|_| output.status.success())
        .ok_or_else(|| format!("pgbench: {}", String::from_utf8_lossy(&output.stderr)))?;
    let used = children();
    let seconds = whole_seconds(job);
    let mut measured = latencies(folder.path())?;
    measured.ops_per_s = rate;
    measured.cpu_us_per_op = (used.processor_time - before).as_secs_f64() * 1e6 / (rate * seconds as f64);
    measured.peak_mib = used.peak_mib;
    Ok(measured)
}

/// The statements of the drivers, with pgbench's names of the parameters.
fn script_of(job: &Job) -> String {
    let statement = if job.task == Task::Get { GET } else { SET };
    let key = format!("('{}:' || :id::text)", job.data.prefix);
    let statement = statement.replace("$1", &key).replace("$2", ":value");
    let last = KEY_BASE + job.data.keys - 1;
    format!("\\set id random({KEY_BASE}, {last})\n{statement};\n")
}

fn command(job: &Job, script: &Path, folder: &Path) -> Result<Command> {
    let mut command = Command::new(programs::postgres_folder()?.join("pgbench"));
    let value = job.data.values()?.into_iter().next().ok_or("no values")?;
    command.args(["--no-vacuum", "--protocol=prepared", "--jobs=2", "--log"]);
    command.arg(format!("--client={}", job.callers)).arg(format!("--time={}", whole_seconds(job)));
    command.arg(format!("--sampling-rate={}", 1.0 / SAMPLED as f64));
    command.arg(format!("--log-prefix={}", folder.join("log").display()));
    command.arg(format!("--define=value={value}")).arg("--file").arg(script).arg(&job.target);
    Ok(command)
}

/// It takes whole seconds alone.
fn whole_seconds(job: &Job) -> u64 {
    job.window().as_secs_f64().ceil() as u64
}

fn transactions_per_second(output: &str) -> Option<f64> {
    let line = output.lines().find_map(|line| line.strip_prefix("tps = "))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The latencies of the logs: the third word of each line, in microseconds.
fn latencies(folder: &Path) -> Result<Measured> {
    let meter = Meter::new()?;
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            continue;
        }
        for line in std::fs::read_to_string(&path)?.lines() {
            let micros = line.split_whitespace().nth(2).and_then(|word| word.parse().ok());
            meter.record(0, Duration::from_micros(micros.unwrap_or_default()), SAMPLED);
        }
    }
    Ok(meter.finish(1.0, Duration::ZERO))
}
