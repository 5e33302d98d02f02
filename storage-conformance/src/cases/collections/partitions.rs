//! Partitions: expiry, deletion, listing, lifecycle.

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt, TryStreamExt};
use storage_core::{
    Commit, ErrorKind, Expire, Outcome, Partition, PartitionInfo, Precondition, Query, StorageExt,
    sequence_key,
};

use super::*;
use crate::{
    Subject,
    sample::{Backend, at_once},
};

/// A partition expires whole and at once, and begins anew, without a version that it had before.
pub async fn a_partition_expires_whole_and_begins_anew(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    // Longer than a slow disk takes for a commit and a look.
    let short = Expire::After(Duration::from_millis(500));
    let long = Expire::After(Duration::from_secs(60));
    let old = Commit::new(of.clone()).with(append("old")).with(tagged("t", "t-1")).expire(short);
    let before = store(&backend).commit(old).await.unwrap().version;
    let plain = partition("s-3");
    let old = Commit::new(plain.clone()).with(append("old")).expire(short);
    let plain_before = store(&backend).commit(old).await.unwrap().version;
    assert!(info(&backend, &of).await.unwrap().expires_at.is_some());
    let stays = partition("s-2");
    store(&backend).commit(Commit::new(stays.clone()).with(append("x")).expire(long)).await.unwrap();
    store(&backend).commit(Commit::new(stays.clone()).with(append("y"))).await.unwrap();
    assert!(info(&backend, &stays).await.unwrap().expires_at.is_some(), "another commit keeps the expiry");
    store(&backend).commit(Commit::new(stays.clone()).expire(Expire::Never)).await.unwrap();
    for _ in 0..400 {
        if info(&backend, &of).await.is_none() && info(&backend, &plain).await.is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(info(&backend, &of).await, None);
    assert!(all(&backend, &of).await.is_empty());
    assert_eq!(store(&backend).items(&of, &[&sequence_key("m:", 1)]).await.unwrap(), [None]);
    assert!(!store(&backend).delete_partition(&of).await.unwrap());
    assert_eq!(all(&backend, &stays).await.len(), 2);
    let fresh = Commit::new(of.clone()).only_if(Precondition::Version(0)).with(tagged("new", "t-1"));
    let committed = store(&backend).commit(fresh).await.unwrap();
    assert_eq!(committed.outcomes, [Outcome::Appended { sequence: 1, new: true }]);
    assert_no_longer_holds(&backend, &of, &sequence_key("m:", 1), before).await;
    store(&backend).commit(Commit::new(plain.clone()).with(append("new"))).await.unwrap();
    assert_no_longer_holds(&backend, &plain, &sequence_key("m:", 1), plain_before).await;
    assert_eq!(all(&backend, &of).await.len(), 1, "nothing of the old one comes back");
    assert_eq!(info(&backend, &of).await.unwrap().expires_at, None);
    backend.cleanup().await.unwrap();
    assert_eq!(all(&backend, &of).await.len(), 1);
    assert_counted(&backend, &of).await;
}

/// A deleted partition is gone at once, and begins anew, without a version that it had before.
pub async fn a_deleted_partition_begins_anew(subject: Subject) {
    let backend = subject.connected().await;
    let of = partition("s-1");
    let versions = async || {
        let mut versions = Vec::new();
        for body in ["1", "2", "3"] {
            let commit = Commit::new(of.clone()).with(upsert("a", body));
            versions.push(store(&backend).commit(commit).await.unwrap().version);
        }
        versions
    };
    filled(&backend, &of).await;
    let before = versions().await;
    assert!(store(&backend).delete_partition(&of).await.unwrap());
    assert!(!store(&backend).delete_partition(&of).await.unwrap());
    assert_eq!(info(&backend, &of).await, None);
    assert!(all(&backend, &of).await.is_empty());
    let fresh = Commit::new(of.clone()).only_if(Precondition::Absent("a".into())).with(append("x"));
    store(&backend).commit(fresh).await.unwrap();
    backend.cleanup().await.unwrap();
    assert_eq!(sorts(&backend, &of).await, [sequence_key("m:", 1)]);
    let after = versions().await;
    for version in &before {
        assert_no_longer_holds(&backend, &of, "a", *version).await;
    }
    assert!(!after.iter().any(|version| before.contains(version)), "{after:?} repeats one of {before:?}");
}

/// A version from before a partition began anew is neither its own nor that of an item.
async fn assert_no_longer_holds(backend: &Backend, of: &Partition, sort: &str, version: u64) {
    for stale in [Precondition::Version(version), Precondition::ItemVersion(sort.to_owned(), version)] {
        let commit = Commit::new(of.clone()).only_if(stale).with(append("stale"));
        assert_eq!(kind(store(backend).commit(commit).await), ErrorKind::Conflict, "{version}");
    }
}

async fn listed(backend: &Backend, kind: &str, segments: &[&str]) -> Vec<String> {
    let found: Vec<PartitionInfo> = backend.partitions(kind, segments).try_collect().await.unwrap();
    let mut texts: Vec<String> = found.into_iter().map(|info| info.partition.as_str().to_owned()).collect();
    texts.sort();
    texts
}

/// Partitions are listed by kind and first segments; look-alikes never meet.
pub async fn partitions_are_listed_by_kind_and_never_meet(subject: Subject) {
    let backend = subject.connected().await;
    let names: [&[&str]; 8] =
        [&["a"], &["a", ""], &["a", "b:c"], &["a:b", "c"], &["a", "b", "c"], &["ab"], &["a*"], &["é{x}"]];
    for (number, segments) in names.iter().enumerate() {
        let of = Partition::new("thread", segments).unwrap();
        store(&backend).commit(Commit::new(of).with(upsert("a", &number.to_string()))).await.unwrap();
    }
    let other = Partition::new("thread_2", &["a"]).unwrap();
    store(&backend).commit(Commit::new(other).with(upsert("a", "x"))).await.unwrap();
    for (number, segments) in names.iter().enumerate() {
        let items = all(&backend, &Partition::new("thread", segments).unwrap()).await;
        assert_eq!((items.len(), &items[0].body[..]), (1, number.to_string().as_bytes()), "{segments:?}");
    }
    assert_eq!(listed(&backend, "thread", &[]).await.len(), 8);
    assert_eq!(
        listed(&backend, "thread", &["a"]).await,
        ["thread:a", "thread:a:", "thread:a:b%3Ac", "thread:a:b:c"]
    );
    assert_eq!(listed(&backend, "thread", &["a", "b"]).await, ["thread:a:b:c"]);
    assert_eq!(listed(&backend, "thread", &["a:b"]).await, ["thread:a%3Ab:c"]);
    assert_eq!(listed(&backend, "nothing", &[]).await, [""; 0]);
    assert!(backend.partitions("Wrong:Kind", &[]).next().await.unwrap().is_err());
    assert!(backend.keys("*").await.unwrap().is_empty(), "partitions are no entries");
}

/// Hundreds of partitions are listed, each once.
pub async fn many_partitions_are_listed_once_each(subject: Subject) {
    let backend = subject.connected().await;
    at_once(8, |task| {
        let backend = backend.clone();
        async move {
            for number in 0..75 {
                let of = partition(&format!("{task}-{number}"));
                store(&backend).commit(Commit::new(of).with(append("x"))).await.unwrap();
            }
        }
    })
    .await;
    let texts = listed(&backend, "conversation", &[]).await;
    assert_eq!(texts.len(), 600);
    assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), 600);
}

/// Before `connect` and after `disconnect` every operation says so.
pub async fn unconnected_collections_say_so(subject: Subject) {
    let backend = subject.open();
    let of = partition("s-1");
    for _ in 0..2 {
        let collections = store(&backend);
        assert_eq!(
            kind(collections.commit(Commit::new(of.clone()).with(append("x"))).await),
            ErrorKind::NotConnected
        );
        assert_eq!(kind(collections.query(Query::all(of.clone(), 1)).await), ErrorKind::NotConnected);
        assert_eq!(kind(collections.items(&of, &["a"]).await), ErrorKind::NotConnected);
        assert_eq!(kind(collections.partition(&of).await), ErrorKind::NotConnected);
        assert_eq!(kind(collections.delete_partition(&of).await), ErrorKind::NotConnected);
        assert!(backend.partitions("conversation", &[]).next().await.unwrap().is_err());
        backend.connect().await.unwrap();
        store(&backend).commit(Commit::new(of.clone()).with(append("x"))).await.unwrap();
        backend.disconnect().await.unwrap();
    }
    backend.connect().await.unwrap();
    assert_eq!(all(&backend, &of).await.len(), 2, "partitions survive a reconnect");
}
