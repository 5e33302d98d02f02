//! The lease runs out in mid-upload: the segment is slow, and meanwhile no renewal arrives.

use std::time::Duration;

use storage_managed::{DatabaseStore, Options, Result};
use storage_tests::{Fault, Seen};

use crate::{
    model::{add, batches, in_home},
    place::{Cloud, Place, TIMEOUT},
    writers::{check_overtaken, until_a_segment_travels},
};

async fn writer(place: &Place) -> DatabaseStore {
    let options = Options { lease_term: place.cloud.term(), ..place.holding("slow") };
    let store = DatabaseStore::open(place.watched(TIMEOUT), options).await.unwrap();
    add(&store, "first").await.unwrap();
    store
}

fn is_of_the_lease(seen: &Seen) -> bool {
    seen.path.contains("comp=lease") || seen.path.replace("%2F", "/").ends_with("/lease")
}

/// Writes a batch whose segment arrives after `delay`, while everything else is lost until `meanwhile` has ended.
async fn write_slowly(
    place: &Place,
    store: &DatabaseStore,
    delay: Duration,
    meanwhile: impl Future<Output = ()>,
) -> Result<()> {
    place.proxy.reset();
    place.proxy.at(0, Fault::DelayRequest(delay));
    place.proxy.always(Fault::LoseRequest);
    let meanwhile = async {
        until_a_segment_travels(place).await;
        tokio::time::sleep(place.cloud.term()).await;
        meanwhile.await;
        let seen = place.proxy.seen();
        let renewals = seen.iter().filter(|seen| is_of_the_lease(seen) && seen.status.is_none()).count();
        assert!(renewals > 0 && renewals + 1 == seen.len(), "{seen:?}");
        assert_eq!(seen[0].status, None, "the segment is still on its way");
        place.proxy.reset();
    };
    let (written, ()) = tokio::join!(add(store, "only here"), meanwhile);
    written
}

pub(crate) async fn nobody_writes_meanwhile(cloud: &Cloud) {
    let place = Place::new(*cloud).await;
    let store = writer(&place).await;
    let delay = cloud.term() + Duration::from_secs(5);
    write_slowly(&place, &store, delay, async {}).await.unwrap();
    assert!(place.proxy.seen().iter().any(is_of_the_lease), "it was taken again: {:?}", place.proxy.seen());
    assert_eq!(in_home(&place).await, ["first", "only here"]);
    add(&store, "after").await.unwrap();
    store.close().await.unwrap();
    assert_eq!(in_home(&place).await, ["first", "only here", "after"]);
}

pub(crate) async fn another_writes_meanwhile(cloud: &Cloud) {
    let place = Place::new(*cloud).await;
    let store = writer(&place).await;
    let other = async {
        let other = place.open(place.patient("other")).await.unwrap();
        add(&other, "elsewhere").await.unwrap();
        other.close().await.unwrap();
    };
    let delay = cloud.term() + Duration::from_secs(15);
    let written = Box::pin(write_slowly(&place, &store, delay, other)).await;
    check_overtaken(&place, &store, written).await;
    assert_eq!(in_home(&place).await, ["first", "elsewhere"]);
    let again = place.open(place.options("slow")).await.unwrap();
    assert_eq!(batches(&again).await, ["first", "elsewhere"]);
}
