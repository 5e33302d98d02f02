//! A program that knows nothing of managed databases and reads the cache of one as any SQLite file, again and again until its
//! input ends: `reads FILE`. The tests run it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a part of a test")]

use std::{
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use rusqlite::Connection;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file] = args.as_slice() else { panic!("reads FILE") };
    let ends = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ends);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        told.store(true, Relaxed);
    });
    while !ends.load(Relaxed) {
        if std::fs::exists(file).unwrap() {
            let db = Connection::open(file).unwrap();
            db.busy_timeout(Duration::from_secs(5)).unwrap();
            let _ = db.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
