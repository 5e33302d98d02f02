//! A program that brings the cache of a managed database in a folder up to date, and says how much memory that took:
//! `peak HOME CACHE`. The tests run it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a part of a test, which reads what is printed"
)]

use std::sync::Arc;

use storage_managed::{DatabaseStore, Options, home::FolderHome};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [home, cache] = args.as_slice() else { panic!("peak HOME CACHE") };
    let store = DatabaseStore::open(Arc::new(FolderHome::new(home)), Options::new(cache)).await.unwrap();
    let generation = store.status().generation;
    store.close().await.unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("{generation} {}", peak.trim().trim_end_matches(" kB"));
}
