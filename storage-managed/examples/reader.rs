//! A program that reads the cache of a store of another process, again and again, until its input ends: `reader DATABASE`.
//! Every snapshot has to hold whole batches, and none fewer than the one before. The tests run it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a part of a test, which reads what is printed"
)]

use std::{
    io::Read,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

static ENDED: AtomicBool = AtomicBool::new(false);

fn main() {
    let path = std::env::args().nth(1).expect("reader DATABASE");
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        ENDED.store(true, Relaxed);
    });
    let db = rusqlite::Connection::open(path).unwrap();
    db.busy_timeout(Duration::from_secs(5)).unwrap();
    storage_managed::prepare(&db).unwrap();
    let count = || db.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap();
    let (mut seen, mut changes, mut ended) = (0, 0, false);
    while !ended {
        ended = ENDED.load(Relaxed);
        db.execute_batch("BEGIN").unwrap();
        let rows = count();
        assert_eq!(rows % 2, 0, "a batch is torn");
        assert!(rows >= seen, "it went back");
        if rows > seen {
            changes += 1;
            let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(check, "ok");
        }
        assert_eq!(count(), rows, "a snapshot has changed");
        db.execute_batch("COMMIT").unwrap();
        seen = rows;
    }
    println!("{seen} {changes}");
}
