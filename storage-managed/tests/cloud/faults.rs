//! Each request from an empty home to the third publication fails, one after the other, in each way.

use std::time::Duration;

use futures::{StreamExt, stream};
use storage_managed::{DatabaseStore, Options};
use storage_tests::Fault;

use crate::{
    model::{Model, batches, in_home},
    place::{Cloud, Place, TIMEOUT},
};

/// How long a condition may take that is sure to come, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(120);
/// How many cases run at once.
const AT_ONCE: usize = 6;

pub(crate) async fn requests_are_lost(cloud: &Cloud) {
    at_each_request(*cloud, Fault::LoseRequest).await;
}

pub(crate) async fn answers_are_lost(cloud: &Cloud) {
    at_each_request(*cloud, Fault::LoseAnswer).await;
}

pub(crate) async fn requests_are_refused(cloud: &Cloud) {
    at_each_request(*cloud, Fault::Answer(503)).await;
}

pub(crate) async fn requests_fail_after(cloud: &Cloud) {
    at_each_request(*cloud, Fault::AnswerAfter(500)).await;
}

pub(crate) async fn answers_break_off(cloud: &Cloud) {
    at_each_request(*cloud, Fault::TruncateAnswer).await;
}

/// How many requests there are without a fault.
async fn requests(cloud: Cloud) -> usize {
    let place = Place::new(cloud).await;
    let mut model = Model::default();
    let store = write(&place, &mut model, TIMEOUT, "no fault").await;
    store.close().await.unwrap();
    model.check(&in_home(&place).await, "no fault");
    assert_eq!(in_home(&place).await.len(), 3);
    let requests = place.proxy.seen().len();
    assert!((12..40).contains(&requests), "{:?}", place.proxy.seen());
    requests
}

/// Opens a store through the proxy, and writes three batches.
async fn write(place: &Place, model: &mut Model, timeout: Duration, situation: &str) -> DatabaseStore {
    let open = || DatabaseStore::open(place.watched(timeout), place.options("a"));
    let mut opened = open().await;
    // Nothing was written yet. A fault comes once, but on a busy machine a short timeout is passed now and then.
    for _ in 0..20 {
        if opened.is_ok() {
            break;
        }
        opened = open().await;
    }
    let store = opened.unwrap_or_else(|error| panic!("{situation}: {error}"));
    for number in 0..3 {
        model.add(&store, &format!("batch {number}"), situation).await;
    }
    store
}

async fn at_each_request(cloud: Cloud, fault: Fault) {
    let cases = stream::iter(0..requests(cloud).await);
    cases.for_each_concurrent(AT_ONCE, |index| case(cloud, index, fault)).await;
}

async fn case(cloud: Cloud, index: usize, fault: Fault) {
    let situation = format!("{fault:?} at request {index}");
    let place = Place::new(cloud).await;
    place.proxy.at(index, fault);
    let mut model = Model::default();
    let store = write(&place, &mut model, TIMEOUT, &situation).await;
    // What could not be published stays for the next open.
    let _ = store.close().await;
    model.check(&in_home(&place).await, &situation);
    let again = place.open(place.patient("a")).await.unwrap_or_else(|error| panic!("{situation}: {error}"));
    assert!(!again.status().dirty, "{situation}");
    model.check(&batches(&again).await, &situation);
    again.close().await.unwrap();
    assert_eq!(in_home(&place).await, batches_after(&place).await, "{situation}");
}

async fn batches_after(place: &Place) -> Vec<String> {
    let store = place.open(place.options("a")).await.unwrap();
    let found = batches(&store).await;
    store.close().await.unwrap();
    found
}

/// The writer has given up the request and gone on, or away, and another has written when it arrives.
pub(crate) async fn requests_come_late(cloud: &Cloud) {
    let cloud = *cloud;
    let cases = stream::iter(0..requests(cloud).await);
    // At once, for they wait for the longest.
    cases.for_each_concurrent(None, |index| late(cloud, index)).await;
}

async fn late(cloud: Cloud, index: usize) {
    let situation = format!("request {index} comes late");
    let (place, delay) = (Place::new(cloud).await, cloud.term() + Duration::from_secs(3));
    place.proxy.at(index, Fault::DelayRequest(delay));
    let mut model = Model::default();
    let store = write(&place, &mut model, Duration::from_millis(700), &situation).await;
    let patient = Options { lease_wait: cloud.term() * 2, ..place.options("b") };
    let other = place.open(patient).await.unwrap();
    model.add(&other, "elsewhere", &situation).await;
    until_it_has_come(&place, index).await;
    model.check(&in_home(&place).await, &situation);
    model.add(&other, "after", &situation).await;
    until_published(&other).await;
    model.add(&store, "at last", &situation).await;
    model.check(&in_home(&place).await, &situation);
    other.close().await.unwrap();
    let _ = store.close().await;
}

/// Waits for the answer to a request that comes late, wherever that goes.
async fn until_it_has_come(place: &Place, index: usize) {
    let came = async {
        while place.proxy.seen().get(index).expect("it was made").status.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, came).await.expect("it never came");
}

/// Waits until nothing is left of which its writer was told that the outcome is unknown: another's batch on top of it
/// would rightly refuse it.
async fn until_published(store: &DatabaseStore) {
    let published = async {
        while store.status().dirty {
            // An empty batch publishes what is left.
            let _ = store.for_write(|_| Ok(())).await;
        }
    };
    tokio::time::timeout(PATIENCE, published).await.expect("it was never published");
}
