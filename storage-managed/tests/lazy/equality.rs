//! A replica reads what a full copy reads, whatever has happened to the database.

use std::sync::Arc;

use rusqlite::Connection;
use storage_managed::{
    DatabaseStore,
    home::Home,
    lazy::{Replica, ReplicaOptions},
};

use crate::{Place, open};

/// All rows, and whether SQLite finds the file sound.
fn all(db: &Connection) -> rusqlite::Result<(Vec<(i64, String)>, String)> {
    let rows = db
        .prepare("SELECT id, body FROM u ORDER BY id")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    Ok((rows, db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?))
}

async fn check(store: &DatabaseStore, replica: &Replica, step: &str) {
    assert_eq!(replica.refresh().await.unwrap(), store.status().generation, "{step}");
    let expected = store.read(all).await.unwrap();
    let found = replica.read(all).await.unwrap();
    assert!(found == expected, "{step}: {} rows and {}", found.0.len(), found.1);
    assert_eq!(found.1, "ok");
}

/// Changes some rows by chance.
async fn change(store: &DatabaseStore, random: &mut fastrand::Rng) {
    let seed = random.u64(..);
    let change = move |db: &Connection| {
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..random.usize(1..60) {
            let id = random.i64(..3_000);
            if random.u8(..4) == 0 {
                db.execute("DELETE FROM u WHERE id BETWEEN ?1 AND ?1 + 5", [id])?;
            } else {
                let body: String = std::iter::repeat_with(|| random.alphanumeric()).take(400).collect();
                db.execute("INSERT OR REPLACE INTO u VALUES (?1, ?2)", (id, body))?;
            }
        }
        Ok(())
    };
    store.for_write(change).await.unwrap();
}

async fn run(home: Arc<dyn Home>, place: &Place, page_size: u32, cache_bytes: u64) {
    let store = DatabaseStore::open(Arc::clone(&home), place.options()).await.unwrap();
    let made = move |db: &Connection| db.execute_batch("CREATE TABLE u (id INTEGER PRIMARY KEY, body TEXT)");
    store.for_write(made).await.unwrap();
    let options = ReplicaOptions { cache_bytes, ..place.replica_options("replica") };
    let replica = open(home, options.clone()).await.unwrap();
    let mut random = fastrand::Rng::with_seed(u64::from(page_size));
    for step in 0..40 {
        change(&store, &mut random).await;
        let what = match step % 10 {
            3 | 6 => {
                store.merge().await.unwrap();
                "merged"
            }
            8 => {
                store.for_write(|db| db.execute_batch("DELETE FROM u WHERE id > 1000")).await.unwrap();
                store.vacuum().await.unwrap();
                "cut"
            }
            9 if step > 20 => {
                store.fold().await.unwrap();
                "folded"
            }
            _ => "changed",
        };
        check(&store, &replica, &format!("{what} in step {step}")).await;
    }
    let size: u32 = replica.read(|db| db.query_row("PRAGMA page_size", [], |row| row.get(0))).await.unwrap();
    assert_eq!(size, page_size);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_commits_merges_folds_and_vacuums() {
    let place = Place::new();
    run(place.home(), &place, 4096, 64 * 1024 * 1024).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_cache_of_two_blocks() {
    let place = Place::new();
    run(place.home(), &place, 4096, 2 * 64 * 1024).await;
}

#[cfg(feature = "encryption")]
#[tokio::test(flavor = "multi_thread")]
async fn behind_encryption() {
    use storage_managed::home::{EncryptedHome, Keys};
    let place = Place::new();
    let keys = Keys::parse(&Keys::generate("2026a").unwrap()).unwrap();
    run(Arc::new(EncryptedHome::new(place.home(), keys)), &place, 4096, 1024 * 1024).await;
}
