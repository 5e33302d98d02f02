//! What a home has to hold: batches that were acknowledged, and those that may have happened.

use storage_core::ErrorKind;
use storage_managed::{DatabaseStore, Options, Result};

use crate::place::Place;

/// Adds two rows, so that a batch that happened by half is seen.
pub(crate) async fn add(store: &DatabaseStore, body: &str) -> Result<()> {
    let body = body.to_owned();
    store
        .for_write(move |db| {
            db.execute_batch("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body TEXT)")?;
            db.execute("INSERT INTO t (body) VALUES (?1), (?1)", [body]).map(drop)
        })
        .await
}

/// The batches, in their order, each of which is whole.
pub(crate) async fn batches(store: &DatabaseStore) -> Vec<String> {
    let rows = store.read(|db| {
        let exists: bool =
            db.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 't'", [], |row| row.get(0))?;
        if !exists {
            return Ok(Vec::new());
        }
        let mut rows = db.prepare("SELECT body FROM t ORDER BY id")?;
        rows.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    });
    let rows = rows.await.unwrap();
    let pairs: Vec<&[String]> = rows.chunks(2).collect();
    assert!(pairs.iter().all(|pair| pair.len() == 2 && pair[0] == pair[1]), "a batch is torn: {rows:?}");
    let batches: Vec<String> = pairs.iter().map(|pair| pair[0].clone()).collect();
    let distinct: std::collections::BTreeSet<_> = batches.iter().collect();
    assert_eq!(distinct.len(), batches.len(), "a batch is there twice: {batches:?}");
    batches
}

/// The batches from the home alone, after SQLite's integrity check.
pub(crate) async fn in_home(place: &Place) -> Vec<String> {
    let cache = tempfile::tempdir().unwrap();
    let options = Options { cache: cache.path().to_owned(), ..place.options("unused") };
    let store = place.open(options).await.unwrap();
    if store.status().generation > 0 {
        store.verify().await.unwrap();
    }
    let found = batches(&store).await;
    store.close().await.unwrap();
    found
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    acknowledged: Vec<String>,
    unknown: Vec<String>,
}

impl Model {
    /// Adds a batch, and notes what was said of it.
    pub(crate) async fn add(&mut self, store: &DatabaseStore, body: &str, situation: &str) {
        match add(store, body).await {
            Ok(()) => self.acknowledged.push(body.to_owned()),
            Err(error) => match error.kind() {
                ErrorKind::OutcomeUnknown => self.unknown.push(body.to_owned()),
                ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Conflict => {}
                kind => panic!("{situation}: {kind}: {error}"),
            },
        }
    }

    pub(crate) fn check(&self, found: &[String], situation: &str) {
        for body in &self.acknowledged {
            assert!(found.contains(body), "{situation}: {body} was acknowledged and is lost: {found:?}");
        }
        for body in found {
            let known = self.acknowledged.contains(body) || self.unknown.contains(body);
            assert!(known, "{situation}: {body} was refused and is there");
        }
    }
}
