//! A process that dies at any step of a publication loses nothing that it has acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{Place, rows, rows_in_home};

/// A program of `examples/`, which cargo builds for the tests.
pub(crate) fn example(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    here.parent().unwrap().parent().unwrap().join("examples").join(name)
}

/// Runs the writer until it dies, or is killed after a while; returns the numbers that it has acknowledged.
fn run(place: &Place, first: usize, die: &str, kill_after: Option<Duration>) -> BTreeSet<usize> {
    let mut command = Command::new(example("writer"));
    command.arg(place.home_path()).arg(place.cache("a")).arg(first.to_string()).arg(die);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("the example is built");
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reading = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
    if let Some(after) = kill_after {
        std::thread::sleep(after);
        child.kill().unwrap();
    }
    child.wait().unwrap();
    let lines = reading.join().unwrap();
    lines.iter().filter_map(|line| line.strip_prefix("ok ")).map(|number| number.parse().unwrap()).collect()
}

/// Each batch writes its number twice: whole or not at all, in order, and none twice.
pub(crate) fn check(found: &[String], acknowledged: &BTreeSet<usize>, situation: &str) {
    let mut times = BTreeMap::<usize, usize>::new();
    for body in found {
        *times.entry(body.parse().unwrap()).or_default() += 1;
    }
    for number in acknowledged {
        assert!(times.contains_key(number), "{situation}: {number} was acknowledged and is lost");
    }
    for (number, times) in times {
        assert_eq!(times, 2, "{situation}: {number} is torn");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_at_each_request_loses_nothing_acknowledged() {
    for when in ["before", "after"] {
        let (place, mut acknowledged, mut first) = (Place::new(), BTreeSet::new(), 0);
        for request in 0..14 {
            let situation = format!("{when} request {request}");
            acknowledged.extend(run(&place, first, &format!("{when}:{request}"), None));
            first += 100;
            if request % 3 == 0 {
                check(&rows_in_home(&place).await, &acknowledged, &situation);
            }
            if request % 4 == 0 {
                let store = place.open("a").await.unwrap();
                check(&rows(&store).await, &acknowledged, &situation);
                store.close().await.unwrap();
                assert_eq!(rows_in_home(&place).await, rows_after(&place).await, "{situation}");
            }
        }
        check(&rows_in_home(&place).await, &acknowledged, when);
        assert!(acknowledged.len() > 5, "{acknowledged:?}");
    }
}

async fn rows_after(place: &Place) -> Vec<String> {
    let store = place.open("a").await.unwrap();
    let found = rows(&store).await;
    store.close().await.unwrap();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_at_any_moment_loses_nothing_acknowledged() {
    let (place, mut acknowledged) = (Place::new(), BTreeSet::new());
    for round in 0..storage_tests::kills(100) {
        let after = Duration::from_millis(20 + fastrand::u64(..120));
        acknowledged.extend(run(&place, round * 1_000, "never", Some(after)));
        if round % 10 == 9 {
            check(&rows_in_home(&place).await, &acknowledged, &format!("round {round}"));
        }
    }
    let store = place.open("a").await.unwrap();
    check(&rows(&store).await, &acknowledged, "at the end");
    store.close().await.unwrap();
    assert_eq!(rows_in_home(&place).await, rows_after(&place).await);
    assert!(acknowledged.len() > 50, "{} acknowledged", acknowledged.len());
}
