//! Calls that are kept without being polled, runtimes that end, and threads without one: they stop nobody.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Waker},
    time::Duration,
};

use futures::executor::block_on;
use storage_core::{ErrorKind, engine::Deadline};
use storage_managed::{DatabaseStore, Options, Result};
use tokio::runtime::{Builder, Runtime};

use crate::{Place, add, rows, rows_of};

async fn soon<T>(work: impl Future<Output = Result<T>>) -> T {
    Deadline::after(Duration::from_secs(20)).within(work).await.expect("somebody is in the way").unwrap()
}

/// Polled once and kept.
type Kept<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

fn keep<'a, T>(work: impl Future<Output = T> + 'a) -> Kept<'a> {
    let mut kept: Kept<'a> = Box::pin(async { drop(work.await) });
    let _ = kept.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    kept
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_polled_once_and_kept_block_nobody() {
    let place = Place::new();
    let store = place.open("a").await.unwrap();
    add(&store, "first").await.unwrap();
    // Somebody else writes, so that there is something to fetch.
    let other = place.open("b").await.unwrap();
    soon(other.ensure_fresh()).await;
    let mut kept: Vec<Kept<'_>> = Vec::new();
    for _ in 0..3 {
        kept.push(keep(store.ensure_fresh()));
        kept.push(keep(store.fold()));
        kept.push(keep(store.vacuum()));
        kept.push(keep(store.verify()));
        kept.push(keep(store.discard_diverged()));
        kept.push(keep(add(&store, "kept")));
    }
    // More than there are connections.
    kept.extend((0..10).map(|_| keep(store.read(rows_of))));
    soon(add(&store, "second")).await;
    soon(store.ensure_fresh()).await;
    let found = soon(store.read(rows_of)).await;
    assert_eq!(found.iter().filter(|body| *body != "kept").collect::<Vec<_>>(), ["first", "second"]);
    soon(add(&other, "third")).await;
    kept.push(keep(store.close()));
    soon(store.close()).await;
    soon(other.close()).await;
}

#[test]
fn a_store_outlives_the_runtime_that_opened_it() {
    let place = Place::new();
    let (ending, next) = (current_thread(), current_thread());
    let options = Options { lease_term: Duration::from_millis(600), ..place.holding("a") };
    let store = ending.block_on(DatabaseStore::open(place.home(), options)).unwrap();
    ending.block_on(soon(add(&store, "first")));
    let entered = ending.enter();
    let kept = keep(add(&store, "second"));
    drop(entered);
    drop(ending);
    // The lease is renewed all the same.
    std::thread::sleep(Duration::from_secs(1));
    next.block_on(soon(add(&store, "third")));
    let found = block_on(rows(&store));
    assert_eq!(found, ["first", "second", "third"], "without a runtime, too");
    drop(kept);
    block_on(soon(add(&store, "fourth")));
    block_on(soon(store.close()));
}

#[tokio::test(flavor = "multi_thread")]
async fn times_beyond_a_day_are_refused_by_name() {
    let place = Place::new();
    let longest = Duration::MAX;
    for (name, options) in [
        ("freshness", Options { freshness: longest, ..place.options("a") }),
        ("lease_term", Options { lease_term: longest, ..place.options("a") }),
        ("lease_wait", Options { lease_wait: longest, ..place.options("a") }),
        ("lease_idle", Options { lease_idle: longest, ..place.options("a") }),
        ("busy_timeout", Options { busy_timeout: longest, ..place.options("a") }),
        ("cache_wait", Options { cache_wait: longest, ..place.options("a") }),
    ] {
        let error = DatabaseStore::open(place.home(), options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().starts_with(name), "{error}");
    }
    let options = Options { grace: longest, ..place.options("a") };
    let store = DatabaseStore::open(place.home(), options).await.unwrap();
    soon(add(&store, "first")).await;
    soon(store.fold()).await;
}
