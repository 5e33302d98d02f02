//! Batches that share a publication: what one does to its transaction is nothing to the others.

use futures::future::join_all;
use rusqlite::Connection;
use storage_core::ErrorKind;
use storage_managed::DatabaseStore;

use crate::{Place, add, rows, rows_in_home, stopped::Stoppable};

type Batch = fn(&Connection) -> rusqlite::Result<()>;

/// Batches that fail, each in another way, after they have written a row.
const WRONG: [(&str, ErrorKind, Batch); 7] = [
    ("a broken deferred foreign key", ErrorKind::Conflict, |db| {
        db.execute_batch("INSERT INTO child VALUES (9)")
    }),
    ("COMMIT", ErrorKind::InvalidInput, |db| db.execute_batch("COMMIT")),
    ("END", ErrorKind::InvalidInput, |db| db.execute_batch("END TRANSACTION")),
    ("ROLLBACK", ErrorKind::InvalidInput, |db| db.execute_batch("ROLLBACK")),
    ("COMMIT, cached", ErrorKind::InvalidInput, |db| db.prepare_cached("COMMIT")?.execute([]).map(drop)),
    ("a conflict that ends the transaction, ignored", ErrorKind::Unsupported, |db| {
        let _ = db.execute_batch("INSERT OR ROLLBACK INTO parent VALUES (1)");
        Ok(())
    }),
    ("a panic", ErrorKind::InvalidInput, |_| panic!("a panic of the test")),
];

async fn with_tables(home: std::sync::Arc<Stoppable>, place: &Place) -> DatabaseStore {
    let store = DatabaseStore::open(home, place.holding("a")).await.unwrap();
    add(&store, "first").await.unwrap();
    let tables = "CREATE TABLE parent (id INTEGER PRIMARY KEY); INSERT INTO parent VALUES (1);
        CREATE TABLE child (parent REFERENCES parent DEFERRABLE INITIALLY DEFERRED)";
    store.for_write(move |db| db.execute_batch(tables)).await.unwrap();
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_fails_or_ends_its_transaction_fails_alone() {
    for (what, kind, wrong) in WRONG {
        let place = Place::new();
        let home = Stoppable::new(place.home());
        let store = with_tables(home.clone(), &place).await;
        let before = store.status().publications;
        // The next publication waits, and what comes meanwhile shares the one after it.
        home.stop();
        let batches = (0..9).map(|number| {
            let store = store.clone();
            async move {
                if number != 4 {
                    return add(&store, &number.to_string()).await;
                }
                let batch = move |db: &Connection| {
                    db.execute("INSERT INTO t (body) VALUES ('wrong')", [])?;
                    wrong(db)
                };
                store.for_write(batch).await
            }
        });
        let go_on = async {
            while !rows(&store).await.contains(&"0".to_owned()) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            home.go_on();
        };
        let (answers, ()) = futures::join!(join_all(batches), go_on);
        for (number, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(()) => assert!(number != 4, "{what} was acknowledged"),
                Err(error) => assert!(number == 4 && error.kind() == kind, "{what}: {number}: {error}"),
            }
        }
        assert!(store.status().publications <= before + 3, "they shared publications");
        let mut found = rows_in_home(&place).await;
        found.sort();
        assert_eq!(found, ["0", "1", "2", "3", "5", "6", "7", "8", "first"], "{what}");
        add(&store, "after").await.unwrap();
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn savepoints_are_the_batchs_own() {
    let place = Place::new();
    let store = with_tables(Stoppable::new(place.home()), &place).await;
    let batch = |db: &Connection| {
        db.execute_batch(
            "SAVEPOINT mine; INSERT INTO t (body) VALUES ('undone'); ROLLBACK TO mine;
             INSERT INTO t (body) VALUES ('done'); RELEASE mine;
             INSERT INTO child VALUES (2); INSERT INTO parent VALUES (2)",
        )
    };
    store.for_write(batch).await.unwrap();
    assert_eq!(rows_in_home(&place).await, ["first", "done"]);
    // What is no batch is as free as before.
    store.vacuum().await.unwrap();
    let read = store.read(|db| db.execute_batch("BEGIN; SELECT count(*) FROM t; COMMIT")).await;
    read.unwrap();
}
