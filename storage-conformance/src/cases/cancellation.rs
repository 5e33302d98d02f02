//! **Cancellation**: dropping a future leaks nothing and blocks nobody.

use std::time::Duration;

use crate::{
    Subject,
    sample::{Backend, at_once, numbered},
};

/// Starts a call, lets it run for a moment that differs each time, and drops it.
async fn start_and_drop<F: Future>(random: &mut fastrand::Rng, call: F) -> Option<F::Output> {
    let moment = Duration::from_micros(random.u64(0..1_500));
    tokio::time::timeout(moment, call).await.ok()
}

/// The value is the old one or the new one, and a write that was acknowledged is there.
pub async fn a_dropped_write_happened_whole_or_not_at_all(subject: Subject) {
    let backend = subject.connected().await;
    let mut random = fastrand::Rng::new();
    for round in 0..150 {
        let key = format!("deal:{}", round % 7);
        backend.set(&key, numbered(round), None).await.unwrap();
        let written = start_and_drop(&mut random, backend.set(&key, numbered(1_000 + round), None)).await;
        settle(&backend).await;
        let found = backend.get(&key).await.unwrap().expect("a dropped overwrite deletes nothing");
        let new = found == numbered(1_000 + round);
        assert!(new || found == numbered(round), "neither the old nor the new value");
        assert!(new || written.is_none(), "an acknowledged write is there");
    }
}

/// Lets a write that was dropped, but had left, arrive: one write after it on the same store.
async fn settle(backend: &Backend) {
    backend.set("settle:1", numbered(0), None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(3)).await;
}

/// After hundreds of dropped calls everybody else goes on at once.
pub async fn dropped_calls_block_nobody(subject: Subject) {
    let backend = subject.connected().await;
    at_once(32, |task| {
        let backend = backend.clone();
        async move {
            let mut random = fastrand::Rng::new();
            for round in 0..20 {
                let key = format!("deal:{task}:{round}");
                let _ = start_and_drop(&mut random, backend.set(&key, numbered(round), None)).await;
                let _ = start_and_drop(&mut random, backend.get(&key)).await;
                let _ = start_and_drop(&mut random, backend.keys("deal:*")).await;
                let _ = start_and_drop(&mut random, backend.delete(&key)).await;
                let _ = start_and_drop(&mut random, backend.get_many(&["deal:1", &key])).await;
            }
        }
    })
    .await;
    at_once(32, |task| {
        let backend = backend.clone();
        async move {
            let key = format!("order:{task}");
            backend.set(&key, numbered(task), None).await.unwrap();
            assert_eq!(backend.get(&key).await.unwrap(), Some(numbered(task)));
        }
    })
    .await;
    backend.disconnect().await.unwrap();
    backend.connect().await.unwrap();
    assert_eq!(backend.keys("order:*").await.unwrap().len(), 32);
}

/// An increment whose caller went away counts once or not at all; one that was answered counts.
pub async fn dropped_increments_count_once_or_not_at_all(subject: Subject) {
    let backend = subject.connected().await;
    let mut random = fastrand::Rng::new();
    let (mut started, mut answered) = (0_i64, 0_i64);
    for _ in 0..200 {
        started += 1;
        if let Some(sum) = start_and_drop(&mut random, backend.increment("seen:1", 1, None)).await {
            sum.unwrap();
            answered += 1;
        }
    }
    settle(&backend).await;
    let count = backend.increment("seen:1", 0, None).await.unwrap();
    assert!((answered..=started).contains(&count), "{answered} answered, {started} started, {count} counted");
}
