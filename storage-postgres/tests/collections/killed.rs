//! A process that is killed in the middle of its commits.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures::future::join_all;
use storage_core::StorageBackend;

use crate::{
    assert_whole, commit,
    common::{config, eventually, open, outside, url},
    partition, store,
};

const KILLS: u32 = 50;
const WRITERS: u32 = 4;

/// Run by the test below as a process of its own, which is told the schema and the run, and says what it has done.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "is the process that the test beside it kills"]
async fn committer() {
    let mut told = String::new();
    std::io::stdin().read_line(&mut told).unwrap();
    let (schema, run) = told.trim().split_once(' ').unwrap();
    let mut config = storage_postgres::PostgresConfig::from_url(&url()).unwrap();
    config.schema = Some(schema.to_owned());
    config.application_name = schema.to_owned();
    // Fifty processes on a busy machine.
    config.operation_timeout = Duration::from_secs(30);
    config.connect_timeout = Duration::from_secs(30);
    let backend = open(config);
    backend.connect().await.unwrap();
    let writers = (0..WRITERS).map(|writer| {
        let backend = &backend;
        async move {
            let whole = writer % 2 == 0;
            let of = partition(if whole { "whole" } else { "short" });
            for number in 0.. {
                let body = format!("{run}:{writer}:{number}");
                store(backend).commit(commit(&of, &body, whole)).await.unwrap();
                // One write, so that lines do not mix.
                std::io::stdout().write_all(format!("done {body}\n").as_bytes()).unwrap();
            }
        }
    });
    join_all(writers).await;
}

fn spawn(schema: &str, run: u32) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::committer", "--ignored", "--nocapture", "--test-threads=1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{schema} {run}\n").as_bytes()).unwrap();
    child
}

/// Runs a process until it has committed something and a while longer; returns what it said that it has done.
fn run_and_kill(schema: &str, run: u32) -> Vec<String> {
    let mut child = spawn(schema, run);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let done = |line: String| line.split_once("done ").map(|(_, body)| body.to_owned());
    let first = lines.find_map(done).expect("the process commits");
    let reader = std::thread::spawn(move || lines.filter_map(done).collect::<Vec<_>>());
    std::thread::sleep(Duration::from_micros(fastrand::u64(0..60_000)));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut acknowledged = reader.join().unwrap();
    acknowledged.push(first);
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_leaves_no_half_commit_and_loses_no_acknowledged_one() {
    let config = config("sigkill");
    let backend = open(config.clone());
    backend.connect().await.unwrap();
    let schema = config.schema.unwrap();
    let mut acknowledged = Vec::new();
    for run in 0..KILLS {
        let schema = schema.clone();
        acknowledged.extend(tokio::task::spawn_blocking(move || run_and_kill(&schema, run)).await.unwrap());
    }
    let client = outside().await;
    eventually("the server has ended what the last process sent", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
        client.query_one(sql, &[&schema]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    let mut stored = assert_whole(&backend, &partition("whole"), true).await;
    stored.extend(assert_whole(&backend, &partition("short"), false).await);
    let stored: std::collections::HashSet<_> = stored.into_iter().collect();
    let missing: Vec<_> = acknowledged.iter().filter(|body| !stored.contains(*body)).collect();
    assert_eq!(missing, [""; 0], "acknowledged and missing");
    assert!(acknowledged.len() >= KILLS as usize);
}
