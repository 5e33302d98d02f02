//! What Redis answers to `redis-benchmark`.

use std::process::Command;

use storage_bench_harness::{Job, Measured, Result, Task, children};
use storage_tests::programs;

/// redis-benchmark puts twelve digits in the place of this.
const RANDOM: &str = "__rand_int__";
/// Requests per second that are expected at a pipeline of 1 and of more: it counts requests, not time.
const EXPECTED: [f64; 2] = [60_000.0, 400_000.0];

/// One run with `job.callers` clients, each sending `pipeline` requests at once.
pub(super) async fn run(job: &Job, pipeline: u64) -> Result<Measured> {
    if job.task == Task::Seed {
        seed(job).await?;
        return Ok(Measured::default());
    }
    tokio::task::block_in_place(|| benchmark(job, pipeline))
}

/// Keys with the digits that redis-benchmark asks for.
async fn seed(job: &Job) -> Result<()> {
    let mut connection = redis::Client::open(job.target.as_str())?.get_multiplexed_async_connection().await?;
    let values = job.data.values()?;
    let mut entries =
        (0..job.data.keys).map(|position| format!("bench:{position:012}")).zip(values.iter().cycle());
    loop {
        let group: Vec<(String, &String)> = entries.by_ref().take(1_000).collect();
        if group.is_empty() {
            return Ok(());
        }
        redis::cmd("MSET").arg(group).exec_async(&mut connection).await?;
    }
}

fn benchmark(job: &Job, pipeline: u64) -> Result<Measured> {
    let program = programs::find("redis-benchmark").ok_or("redis-benchmark was not found")?;
    let expected = EXPECTED.get(usize::from(pipeline > 1)).copied().unwrap_or_default();
    let requests = (expected * job.seconds).round() as u64;
    let mut command = Command::new(program);
    command.args(["-u", &job.target, "-c", &job.callers.to_string(), "-P", &pipeline.to_string()]);
    command.args(["-n", &requests.to_string(), "-r", &job.data.keys.to_string(), "--precision", "3"]);
    let key = format!("bench:{RANDOM}");
    match job.task {
        Task::Get => command.args(["GET", &key]),
        _ => command.args(["SET", &key]).args(job.data.values()?.first()),
    };
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let measured = parse(&text).ok_or_else(|| format!("redis-benchmark said: {text}"))?;
    let used = children();
    let cpu_us_per_op = used.processor_time.as_secs_f64() * 1e6 / requests.max(1) as f64;
    Ok(Measured { cpu_us_per_op, peak_mib: used.peak_mib, ..measured })
}

/// Reads `throughput summary: 81234.12 requests per second` and the lines `99.219% <= 1.303 milliseconds ...`.
fn parse(text: &str) -> Option<Measured> {
    let after = |line: &str, start: &str| line.trim().strip_prefix(start).map(str::to_owned);
    let rate = text.lines().find_map(|line| after(line, "throughput summary: "))?;
    let quantiles: Vec<(f64, f64)> = text.lines().filter_map(quantile).collect();
    let at_least = |wanted: f64| quantiles.iter().find(|(percent, _)| *percent >= wanted).map(|(_, us)| *us);
    Some(Measured {
        ops_per_s: rate.split_whitespace().next()?.parse().ok()?,
        p50_us: at_least(50.0)?,
        p99_us: at_least(99.0)?,
        p999_us: at_least(99.9)?,
        ..Measured::default()
    })
}

fn quantile(line: &str) -> Option<(f64, f64)> {
    let (percent, rest) = line.split_once("% <= ")?;
    let (millis, _) = rest.split_once(" milliseconds")?;
    Some((percent.trim().parse().ok()?, millis.parse::<f64>().ok()? * 1000.0))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_report_of_redis_benchmark_is_read() {
        let report = "Latency by percentile distribution:\n0.000% <= 0.103 milliseconds (cumulative count 2)\n\
            50.000% <= 0.319 milliseconds (cumulative count 500)\n99.219% <= 0.639 milliseconds (cumulative count 993)\n\
            99.902% <= 0.9 milliseconds (cumulative count 1000)\n\nSummary:\n  \
            throughput summary: 73529.41 requests per second\n";
        let measured = parse(report).unwrap();
        assert_eq!((measured.ops_per_s, measured.p50_us), (73_529.41, 319.0));
        assert_eq!((measured.p99_us, measured.p999_us), (639.0, 900.0));
        assert!(parse("Could not connect to Redis").is_none());
    }
}
