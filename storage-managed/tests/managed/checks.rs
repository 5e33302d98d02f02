//! Checking the home in the background.

use std::{sync::Arc, time::Duration};

use storage_core::{Clock, ManualClock, SystemClock};
use storage_managed::{DatabaseStore, Options};

use crate::{Place, add};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Waits for reads of the base, which only a check asks for here; how often it was read.
async fn checks(home: &crate::Faulty, at_least: usize) -> usize {
    let mut seen = 0;
    for _ in 0..200 {
        seen += home.take_log().iter().filter(|request| request.starts_with("read base/")).count();
        if seen >= at_least {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    seen + home.take_log().iter().filter(|request| request.starts_with("read base/")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_is_checked_as_often_as_the_settings_say_and_damage_is_told() {
    let place = Place::new();
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let options = Options { check_every: Some(DAY), clock: clock.clone(), ..place.options("a") };
    let home = place.home();
    let store = DatabaseStore::open(home.clone(), options.clone()).await.unwrap();
    add(&store, "1").await.unwrap();
    assert_eq!(checks(&home, 1).await, 1, "the first time");
    add(&store, "2").await.unwrap();
    store.close().await.unwrap();
    let store = DatabaseStore::open(home.clone(), options).await.unwrap();
    add(&store, "3").await.unwrap();
    assert_eq!(checks(&home, 0).await, 0, "not again on the same day, nor by the next process");
    assert_eq!(store.status().last_error, None);

    let base = place.object("base", &place.objects("base")[0]);
    let mut content = std::fs::read(&base).unwrap();
    content[5_000] ^= 1;
    std::fs::write(base, content).unwrap();
    clock.advance(DAY);
    add(&store, "4").await.unwrap();
    assert!(checks(&home, 1).await > 0);
    for _ in 0..200 {
        if store.status().last_error.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let told = store.status().last_error.unwrap_or_default();
    assert!(told.contains("base/"), "{told}");
    store.close().await.unwrap();
}
