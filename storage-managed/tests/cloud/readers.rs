//! Readers while the home changes under them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use storage_managed::{DatabaseStore, Options};

use crate::{
    model::{add, batches, in_home},
    place::{Cloud, Place},
};

const BATCHES: usize = 12;

/// Whether what was seen is a whole number of batches from the first on.
fn check(found: &[String], seen: &mut usize) {
    let expected: Vec<String> = (0..found.len()).map(|number| format!("{number}")).collect();
    assert_eq!(found, expected);
    assert!(found.len() >= *seen, "it went back");
    *seen = found.len();
}

/// One that stays open, or opens again and again with nothing but the home.
async fn read(place: Arc<Place>, again: bool, ended: Arc<AtomicBool>) -> usize {
    let (mut seen, mut round) = (0, 0);
    let mut store: Option<DatabaseStore> = None;
    while !ended.load(Relaxed) {
        let reader = match store.take() {
            Some(store) => store,
            None => place.open(place.options(&format!("reader {again} {round}"))).await.unwrap(),
        };
        reader.ensure_fresh().await.unwrap();
        check(&batches(&reader).await, &mut seen);
        round += 1;
        match again {
            true => reader.close().await.unwrap(),
            false => store = Some(reader),
        }
    }
    seen
}

pub(crate) async fn while_it_is_folded(cloud: &Cloud) {
    let place = Arc::new(Place::new(*cloud).await);
    let options = Options {
        merge_segments: 2,
        fold_share: 0.0,
        fold_bytes: 5_000,
        grace: Duration::ZERO,
        ..place.holding("writer")
    };
    let writer = place.open(options).await.unwrap();
    add(&writer, "0").await.unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let readers =
        [true, false].map(|again| tokio::spawn(read(Arc::clone(&place), again, Arc::clone(&ended))));
    for number in 1..BATCHES {
        add(&writer, &number.to_string()).await.unwrap();
        if number % 3 == 0 {
            writer.fold().await.unwrap();
        }
    }
    ended.store(true, Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    writer.fold().await.unwrap();
    writer.close().await.unwrap();
    let left = place.direct().list("").await.unwrap();
    assert!(left.len() < BATCHES, "it was cleaned up: {left:?}");
    assert_eq!(in_home(&place).await.len(), BATCHES);
}
