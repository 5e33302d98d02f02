//! A worker program measures on a real file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use storage_bench_harness::{Data, Job, Measured, Task};

fn job(file: &Path, contender: &str, task: Task) -> Job {
    Job {
        store: "sqlite".into(),
        contender: contender.into(),
        target: file.display().to_string(),
        task,
        callers: 4,
        data: Data { prefix: "deal".into(), keys: 500, value_bytes: 220 },
        seconds: 0.2,
        rate: None,
    }
}

fn work(job: &Job) -> Output {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_storage-bench"))
        .arg("worker")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(worker.stdin.take().unwrap(), "{}", serde_json::to_string(job).unwrap()).unwrap();
    worker.wait_with_output().unwrap()
}

fn measured(job: &Job) -> Measured {
    let output = work(job);
    assert!(output.status.success(), "{job:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn contenders_read_and_write_what_ours_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bench.db");
    measured(&job(&file, "ours", Task::Seed));
    let loads = [
        ("ours", Task::Get),
        ("ours", Task::Set),
        ("tokio-rusqlite", Task::Get),
        ("tokio-rusqlite", Task::Set),
        ("raw-1-thread", Task::Get),
        ("raw-256", Task::Set),
    ];
    for (contender, task) in loads {
        let measured = measured(&job(&file, contender, task));
        let case = format!("{contender} {}: {measured:?}", task.name());
        assert!(measured.ops_per_s > 0.0 && measured.cpu_us_per_op > 0.0, "{case}");
        assert!(measured.p50_us <= measured.p99_us && measured.p99_us <= measured.p999_us, "{case}");
        assert!(measured.peak_mib > 0.0 && measured.errors == 0, "{case}");
    }
}

#[test]
fn listings_find_every_entry_and_a_fixed_rate_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bench.db");
    measured(&job(&file, "ours", Task::Seed));
    for (contender, task) in [
        ("ours", Task::ListDeals),
        ("raw-1-thread", Task::ListDeals),
        ("ours", Task::Scan),
        ("ours", Task::Keys),
        ("ours", Task::Page),
        ("ours", Task::Sweep),
    ] {
        assert!(measured(&job(&file, contender, task)).ops_per_s > 0.0);
    }
    let steady = Job { rate: Some(100.0), seconds: 0.5, ..job(&file, "ours", Task::Get) };
    let measured = measured(&steady);
    assert!(measured.ops_per_s > 0.0 && measured.ops_per_s <= 130.0, "{measured:?}");
}

#[test]
fn a_worker_that_cannot_measure_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let output = work(&job(&folder.path().join("bench.db"), "nobody", Task::Get));
    assert!(!output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "sqlite has no contender nobody\n");
    // A listing that misses entries is not fast but wrong.
    let output = work(&job(&folder.path().join("bench.db"), "ours", Task::Scan));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "scan found 0 entries, not 500\n");
}
