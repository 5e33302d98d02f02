//! **Expiry**: to the millisecond, never early, gone at once for every operation.

use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use storage_core::{Clock, Entry, ErrorKind, Expected, Expiry, MAX_TTL, Scan, SystemClock};

use crate::{
    Subject,
    sample::{numbered, records, value, wait_until_gone},
};

const SHORT: Duration = Duration::from_millis(60);
const LONG: Duration = Duration::from_secs(3600);

/// An entry stays for at least its time to live, and goes soon after.
pub async fn an_entry_expires_and_never_early(subject: Subject) {
    let backend = subject.connected().await;
    let ttl = Duration::from_millis(300);
    let before = Instant::now();
    backend.set("quote:1", numbered(1), Some(ttl)).await.unwrap();
    assert!(wait_until_gone(&backend, "quote:1").await, "it expires");
    assert!(before.elapsed() >= ttl, "gone after {:?}", before.elapsed());
    assert_eq!(backend.get("quote:1").await.unwrap(), None);
}

/// The seven, and what is provided on top of them, do not see an expired entry.
pub async fn an_expired_entry_is_gone_for_the_required_operations(subject: Subject) {
    let backend = subject.connected().await;
    backend.set("quote:1", numbered(1), Some(SHORT)).await.unwrap();
    backend.set_many(vec![Entry::new("quote:2", numbered(2)).with_ttl(SHORT)]).await.unwrap();
    backend.set("quote:3", numbered(3), Some(LONG)).await.unwrap();
    assert!(wait_until_gone(&backend, "quote:1").await && wait_until_gone(&backend, "quote:2").await);
    assert_eq!(backend.get("quote:1").await.unwrap(), None);
    assert!(!backend.delete("quote:1").await.unwrap(), "there is nothing to delete");
    assert_eq!(backend.delete_many(&["quote:2"]).await.unwrap(), 0);
    assert_eq!(backend.keys("quote:*").await.unwrap(), ["quote:3"]);
    assert_eq!(records(&backend, Scan::entries("quote:*").unwrap()).await.len(), 1);
    let many = backend.get_many(&["quote:1", "quote:3"]).await.unwrap();
    assert_eq!(many.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [None, Some(numbered(3))]);
    backend.set("quote:1", numbered(4), None).await.unwrap();
    assert_eq!(backend.get("quote:1").await.unwrap(), Some(numbered(4)), "the key can be used again");
}

/// The optional operations do not see an expired entry either.
pub async fn an_expired_entry_is_gone_for_the_optional_operations(subject: Subject) {
    let backend = subject.connected().await;
    for key in ["quote:a", "quote:b", "quote:c", "quote:d", "quote:e"] {
        backend.set(key, numbered(7), Some(SHORT)).await.unwrap();
    }
    tokio::time::sleep(SHORT).await;
    assert!(wait_until_gone(&backend, "quote:e").await);
    assert_eq!(backend.ttl("quote:a").await.unwrap(), None);
    assert!(!backend.expire("quote:a", LONG).await.unwrap());
    assert!(!backend.persist("quote:a").await.unwrap());
    let stale = Expected::Value(numbered(7));
    assert!(!backend.compare_and_set("quote:b", stale, Some(numbered(8)), None).await.unwrap());
    assert!(backend.compare_and_set("quote:b", Expected::Absent, Some(numbered(9)), None).await.unwrap());
    assert_eq!(backend.ttl("quote:b").await.unwrap(), Some(Expiry::Never));
    assert_eq!(backend.increment("quote:c", 2, Some(LONG)).await.unwrap(), 2, "an expired value counts as 0");
    assert!(matches!(backend.ttl("quote:c").await.unwrap(), Some(Expiry::After(left)) if left > SHORT));
    assert!(backend.compare_and_set("quote:d", Expected::Absent, None, None).await.unwrap());
}

/// A plain `set` makes an entry stay for good.
pub async fn set_without_ttl_removes_an_earlier_expiry(subject: Subject) {
    let backend = subject.connected().await;
    backend.set("deal:1", numbered(1), Some(SHORT)).await.unwrap();
    backend.set("deal:1", numbered(2), None).await.unwrap();
    backend.set("deal:2", numbered(1), None).await.unwrap();
    backend.set("deal:2", numbered(2), Some(SHORT)).await.unwrap();
    assert!(wait_until_gone(&backend, "deal:2").await, "a new expiry counts");
    tokio::time::sleep(SHORT).await;
    assert_eq!(backend.get("deal:1").await.unwrap(), Some(numbered(2)));
}

/// Zero and more than 100 years are `InvalidInput`, and write nothing.
pub async fn a_ttl_of_zero_or_beyond_the_limit_is_refused(subject: Subject) {
    let backend = subject.connected().await;
    for ttl in [Duration::ZERO, MAX_TTL + Duration::from_nanos(1), Duration::MAX] {
        let error = backend.set("deal:1", numbered(1), Some(ttl)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{ttl:?}");
        let entry = Entry::new("deal:2", numbered(1)).with_ttl(ttl);
        assert_eq!(backend.set_many(vec![entry]).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert!(backend.keys("*").await.unwrap().is_empty());
    backend.set("deal:3", numbered(3), Some(MAX_TTL)).await.unwrap();
    assert!(backend.exists("deal:3").await.unwrap(), "100 years are far away");
}

/// A nanosecond is rounded up to a millisecond, not down to nothing.
pub async fn a_ttl_below_a_millisecond_is_kept(subject: Subject) {
    let backend = subject.connected().await;
    backend.set("deal:1", numbered(1), Some(Duration::from_nanos(1))).await.unwrap();
    assert!(wait_until_gone(&backend, "deal:1").await);
}

/// `ttl` tells, `expire` sets and `persist` removes an expiry, and none of them touches the value.
pub async fn ttl_expire_and_persist(subject: Subject) {
    let backend = subject.connected().await;
    assert_eq!(backend.ttl("deal:1").await.unwrap(), None);
    assert!(!backend.expire("deal:1", LONG).await.unwrap());
    assert!(!backend.persist("deal:1").await.unwrap());
    backend.set("deal:1", numbered(1), None).await.unwrap();
    assert_eq!(backend.ttl("deal:1").await.unwrap(), Some(Expiry::Never));
    assert!(backend.persist("deal:1").await.unwrap(), "an entry that stays for good goes on staying");
    assert!(backend.expire("deal:1", LONG).await.unwrap());
    let Some(Expiry::After(left)) = backend.ttl("deal:1").await.unwrap() else { panic!("it has an expiry") };
    assert!(left <= LONG + Duration::from_millis(2) && left > LONG - Duration::from_secs(60), "{left:?}");
    let expires_at =
        records(&backend, Scan::entries("*").unwrap().with_expiry()).await[0].expires_at.unwrap();
    let from_now = expires_at.duration_since(SystemClock.now()).unwrap();
    assert!(from_now.abs_diff(left) < Duration::from_secs(30), "a scan tells the same: {from_now:?}");
    assert!(backend.persist("deal:1").await.unwrap());
    assert_eq!(backend.ttl("deal:1").await.unwrap(), Some(Expiry::Never));
    // Longer than two calls take on a slow disk.
    assert!(backend.expire("deal:1", Duration::from_millis(500)).await.unwrap());
    assert_eq!(backend.expire("deal:1", Duration::ZERO).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(backend.get("deal:1").await.unwrap(), Some(numbered(1)));
    assert!(wait_until_gone(&backend, "deal:1").await);
}

/// `cleanup` takes the rows of expired entries and no others.
pub async fn cleanup_removes_expired_rows_alone(subject: Subject) {
    let backend = subject.connected().await;
    let start: SystemTime = SystemClock.now();
    for number in 0..50 {
        backend.set(&format!("quote:{number}"), numbered(number), Some(SHORT)).await.unwrap();
        backend.set(&format!("deal:{number}"), numbered(number), None).await.unwrap();
        backend.set(&format!("order:{number}"), numbered(number), Some(LONG)).await.unwrap();
    }
    assert!(start <= SystemClock.now());
    assert!(wait_until_gone(&backend, "quote:49").await);
    let removed = backend.cleanup().await.unwrap();
    assert!(removed == 50 || removed == 0, "a server that expires by itself says 0: {removed}");
    assert_eq!(backend.cleanup().await.unwrap(), 0, "a second one finds nothing");
    assert_eq!(backend.keys("*").await.unwrap().len(), 100);
}

/// Cleaning up while others write the same keys again never takes what they wrote.
pub async fn a_value_written_since_survives_cleanup(subject: Subject) {
    let backend = subject.connected().await;
    let sweeping = tokio::spawn({
        let backend = backend.clone();
        async move {
            for _ in 0..100 {
                backend.cleanup().await.unwrap();
            }
        }
    });
    for round in 0..100 {
        backend.set("deal:1", value(&json!({"old": round})), Some(Duration::from_millis(1))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
        backend.set("deal:1", numbered(round), None).await.unwrap();
        assert_eq!(backend.get("deal:1").await.unwrap(), Some(numbered(round)));
    }
    sweeping.await.unwrap();
    assert_eq!(backend.get("deal:1").await.unwrap(), Some(numbered(99)));
}
