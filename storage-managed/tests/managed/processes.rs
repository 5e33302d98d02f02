//! Several processes on one cache: SQLite's locks and its index of the log are shared with them.

use std::process::{Command, Stdio};

use storage_managed::{DatabaseStore, Options};

use crate::{Place, TABLE, kills::example};

#[tokio::test(flavor = "multi_thread")]
async fn other_processes_read_a_cache_while_generations_are_applied_to_it() {
    let place = Place::new();
    let (writer, options) = (place.open("a").await.unwrap(), place.options("b"));
    let reader =
        DatabaseStore::open(place.home(), Options { checkpoint_bytes: 300_000, ..options }).await.unwrap();
    pair(&writer, 0).await;
    reader.ensure_fresh().await.unwrap();
    let mut command = Command::new(example("reader"));
    command.arg(reader.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut children: Vec<_> = (0..2).map(|_| command.spawn().expect("the example is built")).collect();
    for number in 1..150 {
        pair(&writer, number).await;
        reader.ensure_fresh().await.unwrap();
    }
    for child in &mut children {
        drop(child.stdin.take());
    }
    for child in children {
        let done = child.wait_with_output().unwrap();
        let said = String::from_utf8(done.stdout).unwrap();
        let (rows, changes) = said.trim().split_once(' ').expect("it ended well");
        assert_eq!(rows, "300");
        assert!(changes.parse::<u32>().unwrap() > 5, "{changes} states were seen");
    }
}

/// A batch of two rows, larger than a page.
async fn pair(store: &DatabaseStore, number: usize) {
    let body = format!("{number} ").repeat(700);
    let batch = move |db: &rusqlite::Connection| {
        db.execute_batch(TABLE)?;
        db.execute("INSERT INTO t (body) VALUES (?1), (?1)", [body]).map(drop)
    };
    store.for_write(batch).await.unwrap();
}
