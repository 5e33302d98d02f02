//! Lines that are slow, or that break in the middle of an object.

use std::time::Duration;

use storage_managed::{DatabaseStore, Result};
use storage_tests::Fault;
use tokio::time::timeout;

use crate::{
    model::{add, batches, in_home},
    place::{Cloud, Place},
};

/// A batch that no compression makes shorter.
async fn add_noise(store: &DatabaseStore, bytes: usize) -> Result<()> {
    let batch = move |db: &rusqlite::Connection| {
        db.execute_batch("CREATE TABLE IF NOT EXISTS noise (id INTEGER PRIMARY KEY, body BLOB)")?;
        let pieces = bytes.div_ceil(1 << 20);
        (0..pieces).try_for_each(|_| {
            db.execute("INSERT INTO noise (body) VALUES (randomblob(?1))", [bytes.min(1 << 20) as i64])
                .map(drop)
        })
    };
    store.for_write(batch).await
}

pub(crate) async fn a_slow_segment(cloud: &Cloud) {
    let place = Place::new(*cloud).await;
    let writer = place.open(place.options("writer")).await.unwrap();
    add(&writer, "first").await.unwrap();
    // Its requests may take two seconds, and the segment five.
    let short = Duration::from_secs(2);
    let reader = DatabaseStore::open(place.watched(short), place.options("reader")).await.unwrap();
    add_noise(&writer, 600 << 10).await.unwrap();
    add(&writer, "second").await.unwrap();
    place.proxy.always(Fault::Throttle(120_000));
    reader.ensure_fresh().await.unwrap();
    assert_eq!(batches(&reader).await, ["first", "second"]);
    reader.close().await.unwrap();
    writer.close().await.unwrap();
}

/// A home whose base has so many bytes and a little more.
async fn with_base(place: &Place, bytes: usize) {
    let writer = place.open(place.options("writer")).await.unwrap();
    add(&writer, "first").await.unwrap();
    add_noise(&writer, bytes).await.unwrap();
    writer.fold().await.unwrap();
    writer.close().await.unwrap();
}

pub(crate) async fn a_broken_download(cloud: &Cloud) {
    let (place, bytes) = (Place::new(*cloud).await, 12 << 20);
    with_base(&place, bytes).await;
    // The head; then the base's first answers, of which each breaks off in its middle.
    (1..6).for_each(|request| place.proxy.at(request, Fault::TruncateAnswer));
    let options = place.options("reader");
    let reader = DatabaseStore::open(place.watched(crate::place::TIMEOUT), options).await.unwrap();
    assert_eq!(batches(&reader).await, ["first"]);
    let received = reader.status().bytes_received;
    assert!(received < bytes as u64 * 11 / 10, "what had arrived was asked for again: {received} bytes");
    reader.close().await.unwrap();
    assert_eq!(std::fs::read_dir(place.cache("reader/parts")).unwrap().count(), 0, "a part is left");
}

/// What lies where a download would be gone on with is longer than the object.
pub(crate) async fn a_part_that_is_too_long(cloud: &Cloud) {
    let place = Place::new(*cloud).await;
    with_base(&place, 1 << 20).await;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let parts = place.cache("reader/parts");
    std::fs::create_dir_all(&parts).unwrap();
    for base in place.direct().list("base/").await.unwrap() {
        let name = format!("{}-{}", &boot[..8], base.name.replace('/', "-"));
        std::fs::write(parts.join(name), vec![7; base.length as usize + 100]).unwrap();
    }
    let reader = place.open(place.options("reader")).await.unwrap();
    assert_eq!(batches(&reader).await, ["first"]);
    reader.close().await.unwrap();
    assert_eq!(std::fs::read_dir(parts).unwrap().count(), 0, "a part is left");
}

pub(crate) async fn an_impatient_caller(cloud: &Cloud) {
    let place = Place::new(*cloud).await;
    with_base(&place, 24 << 20).await;
    place.proxy.always(Fault::Throttle(3 << 20));
    let mut tries = 0;
    let reader = loop {
        tries += 1;
        assert!(tries < 30, "each try begins anew");
        let home = place.watched(Duration::from_secs(10));
        let opened =
            timeout(Duration::from_secs(2), DatabaseStore::open(home, place.options("reader"))).await;
        if let Ok(opened) = opened {
            break opened.unwrap();
        }
    };
    assert!(tries > 1, "nobody was impatient");
    assert_eq!(batches(&reader).await, ["first"]);
    reader.close().await.unwrap();
    assert_eq!(in_home(&place).await, ["first"]);
}
