//! Damage in the home is refused by name, damage in the cache is made good.

use std::{os::unix::fs::FileExt, path::Path};

use storage_managed::Error;

use crate::{Place, count, fill};

/// Changes one byte.
fn damage(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

/// A base, a large merged segment with frames, and a small single one.
async fn place() -> Place {
    let place = Place::new();
    let store = place.writer().await;
    fill(&store, 1..4_000).await;
    fill(&store, 1_000..1_500).await;
    fill(&store, 1_500..2_000).await;
    store.merge().await.unwrap();
    fill(&store, 10..11).await;
    store.close().await.unwrap();
    place
}

async fn refused(place: &Place, cache: &str, kind: &str) {
    let opened = crate::open(place.home(), place.replica_options(cache)).await;
    let error = match opened {
        Ok(replica) => replica.read(count).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(&error, Error::Corrupt { object, .. } if object.starts_with(kind)), "{cache}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_home_is_refused_by_name() {
    let place = place().await;
    assert_eq!(place.replica("sound").await.read(count).await.unwrap(), 3_999);
    for (kind, frames) in [("merged", true), ("seg", false), ("index", false)] {
        let objects = place.objects(kind);
        let path = objects.last().unwrap();
        let places = match frames {
            // A frame in its middle, and its last one.
            true => vec![length(path) / 2, length(path) - 50],
            false => vec![length(path) / 2],
        };
        for at in places {
            damage(path, at);
            refused(&place, &format!("{kind}-{at}"), kind).await;
            damage(path, at);
        }
        let whole = std::fs::read(path).unwrap();
        std::fs::write(path, &whole[..whole.len() / 2]).unwrap();
        refused(&place, &format!("{kind}-cut"), kind).await;
        std::fs::remove_file(path).unwrap();
        refused(&place, &format!("{kind}-gone"), kind).await;
        std::fs::write(path, &whole).unwrap();
    }
    let base = &place.objects("base")[0];
    let file = std::fs::File::options().write(true).open(base).unwrap();
    file.set_len(length(base) - 4096).unwrap();
    refused(&place, "base-cut", "base").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_home_tells_elsewhere_is_not_read_there() {
    let place = place().await;
    let path = &place.objects("merged")[0];
    // Its header, and its page numbers: the index tells them, and is checked.
    for (at, is_told) in [(20, true), (1_000, true), (20, false), (1_000, false)] {
        if !is_told {
            place.forget_what_is_told();
        }
        damage(path, at);
        match is_told {
            true => assert_eq!(place.replica(&format!("told-{at}")).await.read(count).await.unwrap(), 3_999),
            false => refused(&place, &format!("not-told-{at}"), "merged").await,
        }
        damage(path, at);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_that_are_exchanged_are_refused_by_name() {
    let place = Place::new();
    let store = place.writer().await;
    fill(&store, 1..4_000).await;
    // The same rows each time, filled with another byte: objects of one shape.
    let change = async |byte: u8, from: i64| {
        for from in [from, from + 50] {
            let body = vec![byte; 980];
            let change = "UPDATE t SET body = ?1 WHERE id BETWEEN ?2 AND ?2 + 49";
            store.for_write(move |db| db.execute(change, (body, from)).map(drop)).await.unwrap();
        }
    };
    for from in [1_000, 3_000, 1_000, 3_000] {
        change(1, from).await;
    }
    store.fold().await.unwrap();
    for byte in [2, 3] {
        change(byte, 1_000).await;
        assert!(store.merge().await.unwrap());
    }
    for byte in [4, 5] {
        change(byte, 3_000).await;
    }
    store.close().await.unwrap();
    for (kind, one, two) in [("merged", 0, 1), ("seg", 0, 2)] {
        let objects = place.objects(kind);
        let (one, two) = (&objects[one], &objects[two]);
        assert_eq!(length(one), length(two));
        let exchange = || {
            let first = std::fs::read(one).unwrap();
            std::fs::copy(two, one).unwrap();
            std::fs::write(two, first).unwrap();
        };
        exchange();
        refused(&place, &format!("{kind}-exchanged"), kind).await;
        exchange();
    }
    assert_eq!(place.replica("sound").await.read(count).await.unwrap(), 3_999);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_cache_is_made_good() {
    let place = place().await;
    assert_eq!(place.replica("replica").await.read(count).await.unwrap(), 3_999);
    let cache = place.folder.path().join("replica");
    let pages = cache.join("pages");
    for at in (0..length(&pages).min(6 * 1024 * 1024)).step_by(30_011) {
        damage(&pages, at);
    }
    for entry in std::fs::read_dir(cache.join("objects")).unwrap() {
        let path = entry.unwrap().path();
        damage(&path, length(&path) / 2);
    }
    assert_eq!(place.replica("replica").await.read(count).await.unwrap(), 3_999);
    let replica = place.replica("replica").await;
    for entry in std::fs::read_dir(cache.join("objects")).unwrap() {
        // While it is open.
        std::fs::write(entry.unwrap().path(), b"nothing of use").unwrap();
    }
    std::fs::write(&pages, vec![7; 1024 * 1024]).unwrap();
    assert_eq!(replica.read(count).await.unwrap(), 3_999);
}
