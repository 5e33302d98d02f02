//! A program that writes numbered batches to a managed database in a folder until it is killed, and says which were
//! acknowledged: `writer HOME CACHE FIRST before:N|after:N|never`. The tests kill it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a part of a test, which reads what is printed"
)]

#[path = "../tests/managed/faulty.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod faulty;

use std::{sync::Arc, time::Duration};

use faulty::{Fault, Faulty};
use storage_managed::{DatabaseStore, Options, home::FolderHome};

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, home, cache, first, die] = args.as_slice() else { panic!("writer HOME CACHE FIRST DIE") };
    let home = Faulty::new(Arc::new(FolderHome::new(home)));
    match die.split_once(':') {
        Some(("before", request)) => home.fail([request.parse().unwrap()], Fault::DieBefore),
        Some((_, request)) => home.fail([request.parse().unwrap()], Fault::DieAfter),
        None => {}
    }
    let options = Options {
        merge_segments: 5,
        merge_fan_out: 3,
        grace: Duration::ZERO,
        checkpoint_bytes: 60_000,
        lease_idle: Duration::from_millis(5),
        ..Options::new(cache)
    };
    let store = DatabaseStore::open(home, options).await.unwrap();
    let first: usize = first.parse().unwrap();
    for number in first.. {
        let batch = move |db: &rusqlite::Connection| {
            db.execute_batch("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body TEXT)")?;
            db.execute("INSERT INTO t (body) VALUES (?1), (?1)", [number.to_string()]).map(drop)
        };
        store.for_write(batch).await.unwrap();
        println!("ok {number}");
        if number % 7 == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
