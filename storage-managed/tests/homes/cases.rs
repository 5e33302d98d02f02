//! What every home does.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::join_all, stream};
use storage_core::ErrorKind;
use storage_managed::home::{Body, Claim, Fresh, Held, Home, Put, Version, probe};

use crate::stores::Store;

/// Hands the names of all cases to a macro.
macro_rules! each_case {
    ($to:ident) => {
        $to! {
            the_probe_accepts_the_home_and_leaves_nothing
            absent_objects_are_absent
            objects_are_read_as_they_were_written
            parts_of_objects_are_read
            of_many_who_create_one_wins
            of_many_who_replace_one_wins
            another_version_is_not_replaced
            an_unchanged_object_is_not_read_again
            putting_again_changes_nothing
            of_many_who_put_one_wins
            what_was_put_in_pieces_is_not_written_over
            a_large_file_travels_both_ways
            a_file_that_is_too_short_is_not_put
            deleting_what_is_not_there_succeeds
            objects_are_listed_by_prefix
            names_that_leave_the_home_are_refused
            only_one_holds_the_lease
            a_lease_is_renewed_and_given_back
            a_first_head_is_created_under_the_lease
            a_lease_is_taken_back_at_once_by_who_knows_its_proof
            who_holds_the_lease_is_told
            an_unlocked_lease_is_lost_and_free
        }
    };
}
pub(crate) use each_case;

pub(crate) const TERM: Duration = Duration::from_secs(30);
const HEAD: &str = "head";

pub(crate) fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn done(put: Put) -> Version {
    match put {
        Put::Done(version) => version,
        Put::Refused => panic!("the write was refused"),
    }
}

/// Asks for the lease as somebody new.
pub(crate) async fn acquire(home: &dyn Home, owner: &str, term: Duration) -> Option<Held> {
    acquire_back(home, owner, term, &[]).await
}

/// As [`acquire`], by whoever knows what proved these earlier leases.
pub(crate) async fn acquire_back(
    home: &dyn Home,
    owner: &str,
    term: Duration,
    former: &[String],
) -> Option<Held> {
    let proof = new_proof();
    let claim = Claim { owner, proof: &proof, former, term };
    // Others may ask at the same moment: as writers do, whoever is put off for them asks again.
    for _ in 0..100 {
        match home.acquire(&claim).await {
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            taken => return taken.unwrap(),
        }
    }
    home.acquire(&claim).await.unwrap()
}

pub(crate) fn new_proof() -> String {
    format!("{:032x}", fastrand::u128(..))
}

async fn content(home: &dyn Home, name: &str) -> Option<Bytes> {
    home.get(name).await.unwrap().map(|object| object.bytes)
}

async fn put(home: &dyn Home, name: &str, content: &str) {
    assert!(home.put(name, Body::Bytes(text(content)), &|_| {}).await.unwrap());
}

pub(crate) async fn the_probe_accepts_the_home_and_leaves_nothing(store: &Store) {
    let home = store();
    probe(&*home).await.unwrap();
    assert_eq!(home.list("").await.unwrap(), []);
}

pub(crate) async fn absent_objects_are_absent(store: &Store) {
    let home = store();
    assert!(home.get(HEAD).await.unwrap().is_none());
    assert!(home.read("seg/1", 0).await.unwrap().is_none());
    let known = Version("\"0x0\"".into());
    assert!(matches!(home.get_if_changed(HEAD, &known).await.unwrap(), Fresh::Absent));
    assert_eq!(home.replace(HEAD, text("new"), &known, None).await.unwrap(), Put::Refused);
    assert!(home.get(HEAD).await.unwrap().is_none());
    assert_eq!(home.list("").await.unwrap(), []);
}

pub(crate) async fn parts_of_objects_are_read(store: &Store) {
    const LENGTH: usize = 300_000;
    let home = store();
    assert!(home.read_range("base/1", 0, 10).await.unwrap().is_none());
    let content: Vec<u8> = (0..LENGTH).map(|at| (at / 251) as u8).collect();
    assert!(home.put("base/1", Body::Bytes(content.clone().into()), &|_| {}).await.unwrap());
    // A home that has read nothing of it before, and one that has.
    for (from, length) in
        [(0, 1), (0, 65_536), (65_535, 2), (65_536, 65_536), (131_000, 140_000), (299_999, 1)]
    {
        let other = store();
        for home in [&other, &home] {
            let (whole, part) = home.read_range("base/1", from, length).await.unwrap().unwrap();
            let (from, length) = (usize::try_from(from).unwrap(), usize::try_from(length).unwrap());
            assert!(whole == LENGTH as u64 && part == content[from..from + length], "{from} {length}");
        }
    }
    for (from, left) in [(0, LENGTH), (250_000, 50_000)] {
        let (_, part) = home.read_range("base/1", from, 1 << 20).await.unwrap().unwrap();
        assert!(part == content[LENGTH - left..], "it ends with the object");
    }
}

pub(crate) async fn objects_are_read_as_they_were_written(store: &Store) {
    let home = store();
    let created = done(home.create(HEAD, text("first"), None).await.unwrap());
    let object = home.get(HEAD).await.unwrap().unwrap();
    assert_eq!((object.bytes, object.version), (text("first"), created.clone()));
    let replaced = done(home.replace(HEAD, text("second"), &created, None).await.unwrap());
    assert_ne!(created, replaced);
    let object = home.get(HEAD).await.unwrap().unwrap();
    assert_eq!((object.bytes, object.version), (text("second"), replaced));
    put(&*home, "empty", "").await;
    assert_eq!(content(&*home, "empty").await.unwrap(), "");
    let (length, pieces) = home.read("empty", 0).await.unwrap().unwrap();
    assert_eq!((length, pieces.try_collect::<Vec<_>>().await.unwrap().concat()), (0, Vec::new()));
}

/// What became of 16 writers, each with a client of its own, who write at once.
async fn race<F, W>(store: &Store, write: F) -> Vec<Put>
where
    F: Fn(Box<dyn Home>, Bytes) -> W,
    W: Future<Output = storage_core::Result<Put>> + Send + 'static,
{
    let barrier = Arc::new(tokio::sync::Barrier::new(16));
    let writers = (0..16).map(|writer| {
        let (write, barrier) = (write(store(), text(&format!("writer {writer}"))), Arc::clone(&barrier));
        tokio::spawn(async move {
            barrier.wait().await;
            write.await.unwrap()
        })
    });
    join_all(writers.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect()
}

async fn assert_one_won(store: &Store, puts: &[Put]) {
    let winners: Vec<usize> = (0..puts.len()).filter(|writer| puts[*writer] != Put::Refused).collect();
    assert_eq!(winners.len(), 1, "{puts:?}");
    let object = store().get(HEAD).await.unwrap().unwrap();
    assert_eq!(object.bytes, format!("writer {}", winners[0]));
    assert_eq!(puts[winners[0]], Put::Done(object.version));
}

pub(crate) async fn of_many_who_create_one_wins(store: &Store) {
    let puts = race(store, |home, bytes| async move { home.create(HEAD, bytes, None).await }).await;
    assert_one_won(store, &puts).await;
}

pub(crate) async fn of_many_who_replace_one_wins(store: &Store) {
    let version = done(store().create(HEAD, text("first"), None).await.unwrap());
    let puts = race(store, |home, bytes| {
        let version = version.clone();
        async move { home.replace(HEAD, bytes, &version, None).await }
    });
    assert_one_won(store, &puts.await).await;
}

pub(crate) async fn another_version_is_not_replaced(store: &Store) {
    let home = store();
    let first = done(home.create(HEAD, text("first"), None).await.unwrap());
    assert_eq!(home.create(HEAD, text("again"), None).await.unwrap(), Put::Refused);
    done(home.replace(HEAD, text("second"), &first, None).await.unwrap());
    assert_eq!(home.replace(HEAD, text("stale"), &first, None).await.unwrap(), Put::Refused);
    assert_eq!(content(&*home, HEAD).await.unwrap(), "second");
}

pub(crate) async fn an_unchanged_object_is_not_read_again(store: &Store) {
    let home = store();
    let first = done(home.create(HEAD, text("first"), None).await.unwrap());
    assert!(matches!(home.get_if_changed(HEAD, &first).await.unwrap(), Fresh::Unchanged));
    let second = done(home.replace(HEAD, text("second"), &first, None).await.unwrap());
    let Fresh::Changed(object) = home.get_if_changed(HEAD, &first).await.unwrap() else {
        panic!("it has changed")
    };
    assert_eq!((object.bytes, object.version), (text("second"), second));
}

pub(crate) async fn putting_again_changes_nothing(store: &Store) {
    let home = store();
    put(&*home, "seg/1", "pages").await;
    for again in ["pages", "others"] {
        assert!(!home.put("seg/1", Body::Bytes(text(again)), &|_| {}).await.unwrap(), "{again}");
        assert_eq!(content(&*home, "seg/1").await.unwrap(), "pages");
    }
    assert_eq!(home.list("seg/").await.unwrap().len(), 1);
}

pub(crate) async fn of_many_who_put_one_wins(store: &Store) {
    let writers = (0..8).map(|writer| {
        let (home, body) = (store(), Body::Bytes(text(&format!("writer {writer}"))));
        tokio::spawn(async move { home.put("seg/1", body, &|_| {}).await.unwrap() })
    });
    let puts = join_all(writers.collect::<Vec<_>>()).await;
    let winners: Vec<usize> = (0..8).filter(|writer| *puts[*writer].as_ref().unwrap()).collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    let found = content(&*store(), "seg/1").await.unwrap();
    assert_eq!(found, format!("writer {}", winners[0]), "it was written over");
}

pub(crate) async fn what_was_put_in_pieces_is_not_written_over(store: &Store) {
    let large = |fill: u8| Body::Bytes(vec![fill; 9 << 20].into());
    assert!(store().put("base/1", large(1), &|_| {}).await.unwrap());
    assert!(!store().put("base/1", large(2), &|_| {}).await.unwrap());
    let (length, pieces) = store().read("base/1", 0).await.unwrap().unwrap();
    assert_eq!(length, 9 << 20);
    assert!(pieces.try_collect::<Vec<_>>().await.unwrap().concat().iter().all(|byte| *byte == 1));
}

pub(crate) async fn a_large_file_travels_both_ways(store: &Store) {
    // Two whole pieces and a part of one.
    let bytes: Vec<u8> = (0..17_u32 << 20).map(|at| (at % 251) as u8).collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    let length = bytes.len() as u64;
    let told = Mutex::new(Vec::new());
    let home = store();
    let body = Body::File { path: file.path().to_owned(), length };
    home.put("base/1", body, &|sent| told.lock().unwrap().push(sent)).await.unwrap();
    let told = told.into_inner().unwrap();
    assert!(told.is_sorted() && told.last() == Some(&length), "{told:?}");
    let (found, pieces) = home.read("base/1", 0).await.unwrap().unwrap();
    assert_eq!(found, length);
    assert!(pieces.try_collect::<Vec<_>>().await.unwrap().concat() == bytes, "the content is another");
    // What broke off is gone on with.
    for from in [1, 9 << 20, bytes.len() - 1] {
        let (found, pieces) = home.read("base/1", from as u64).await.unwrap().unwrap();
        assert_eq!(found, length, "the length is that of the whole");
        let rest = pieces.try_collect::<Vec<_>>().await.unwrap().concat();
        assert!(rest == bytes[from..], "from {from} on the content is another: {} bytes", rest.len());
    }
}

pub(crate) async fn a_file_that_is_too_short_is_not_put(store: &Store) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"half").unwrap();
    let home = store();
    let body = Body::File { path: file.path().to_owned(), length: 8 };
    assert_eq!(home.put("base/1", body, &|_| {}).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(home.list("").await.unwrap(), []);
}

pub(crate) async fn deleting_what_is_not_there_succeeds(store: &Store) {
    let home = store();
    put(&*home, "seg/1", "pages").await;
    for _ in 0..2 {
        home.delete("seg/1").await.unwrap();
    }
    assert!(home.get("seg/1").await.unwrap().is_none());
}

pub(crate) async fn objects_are_listed_by_prefix(store: &Store) {
    let home = store();
    stream::iter(["head", "seg/10", "seg/11", "seg/2", "segment"])
        .for_each_concurrent(None, |name| put(&*home, name, name))
        .await;
    let expected: [(&str, &[&str]); 5] = [
        ("", &["head", "seg/10", "seg/11", "seg/2", "segment"]),
        ("seg/", &["seg/10", "seg/11", "seg/2"]),
        ("seg/1", &["seg/10", "seg/11"]),
        ("seg", &["seg/10", "seg/11", "seg/2", "segment"]),
        ("base/", &[]),
    ];
    for (prefix, names) in expected {
        let listed = home.list(prefix).await.unwrap();
        let mut found: Vec<&str> = listed.iter().map(|listed| listed.name.as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, names, "{prefix}");
        assert!(listed.iter().all(|listed| listed.length == listed.name.len() as u64), "{listed:?}");
        assert!(listed.iter().all(|listed| listed.age.unwrap() < Duration::from_secs(60)), "{listed:?}");
    }
}

pub(crate) async fn names_that_leave_the_home_are_refused(store: &Store) {
    let home = store();
    for name in ["../head", "/head", "seg/../../head", ".tmp", "", "a b", "a%2fb", "a?b"] {
        let error = home.create(name, Bytes::new(), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
        assert!(home.get(name).await.is_err(), "{name}");
    }
}

pub(crate) async fn only_one_holds_the_lease(store: &Store) {
    let homes: Vec<_> = (0..8).map(|_| store()).collect();
    let taken = join_all(homes.iter().map(|home| acquire(&**home, "somebody", TERM))).await;
    assert_eq!(taken.iter().flatten().count(), 1, "{taken:?}");
    let holder = taken.iter().position(Option::is_some).unwrap();
    assert_eq!(acquire(&*homes[holder], "again", TERM).await, None);
    assert!(homes[holder].get(HEAD).await.unwrap().is_none(), "a lease is no head");
    homes[holder].release(taken[holder].as_ref().unwrap()).await.unwrap();
    let next = &homes[(holder + 1) % 8];
    let held = acquire(&**next, "the next", TERM).await.unwrap();
    assert_eq!(next.renew(&held).await.unwrap().unwrap().proof, held.proof);
}

pub(crate) async fn a_lease_is_renewed_and_given_back(store: &Store) {
    let (ours, theirs) = (store(), store());
    let mut held = acquire(&*ours, "ours", TERM).await.unwrap();
    for _ in 0..3 {
        held = ours.renew(&held).await.unwrap().unwrap();
        assert_eq!(acquire(&*theirs, "theirs", TERM).await, None);
    }
    for _ in 0..2 {
        ours.release(&held).await.unwrap();
    }
    assert_eq!(ours.renew(&held).await.unwrap(), None);
    assert_eq!(ours.create(HEAD, text("late"), Some(&held)).await.unwrap(), Put::Refused);
    let next = acquire(&*theirs, "theirs", TERM).await.unwrap();
    done(theirs.create(HEAD, text("in time"), Some(&next)).await.unwrap());
}

pub(crate) async fn a_first_head_is_created_under_the_lease(store: &Store) {
    let (ours, theirs) = (store(), store());
    let held = acquire(&*ours, "ours", TERM).await.unwrap();
    let first = done(ours.create(HEAD, text("first"), Some(&held)).await.unwrap());
    assert_eq!(theirs.create(HEAD, text("theirs"), None).await.unwrap(), Put::Refused);
    let second = done(ours.replace(HEAD, text("second"), &first, Some(&held)).await.unwrap());
    assert_eq!(ours.replace(HEAD, text("stale"), &first, Some(&held)).await.unwrap(), Put::Refused);
    ours.release(&held).await.unwrap();
    assert_eq!(ours.replace(HEAD, text("late"), &second, Some(&held)).await.unwrap(), Put::Refused);
    assert_eq!(content(&*ours, HEAD).await.unwrap(), "second");
}

/// As the next process on the cache of one that was killed: it knows what proved the lease.
pub(crate) async fn a_lease_is_taken_back_at_once_by_who_knows_its_proof(store: &Store) {
    let (killed, other) = (store(), store());
    let held = acquire(&*killed, "killed", TERM).await.unwrap();
    let stranger = [new_proof()];
    assert_eq!(acquire_back(&*other, "a stranger", TERM, &stranger).await, None);
    drop(killed);
    let next = store();
    let again = acquire_back(&*next, "the next", TERM, &[new_proof(), held.proof.clone()]).await.unwrap();
    assert_ne!(again.proof, held.proof, "what the killed one had on its way must not count any more");
    assert_eq!(next.renew(&again).await.unwrap().unwrap().proof, again.proof);
    assert_eq!(acquire_back(&*other, "a stranger", TERM, &stranger).await, None);
    done(next.create(HEAD, text("in time"), Some(&again)).await.unwrap());
}

pub(crate) async fn who_holds_the_lease_is_told(store: &Store) {
    let (ours, theirs) = (store(), store());
    assert_eq!(theirs.holder().await.unwrap(), None);
    let held = acquire(&*ours, "process 7 on ours", TERM).await.unwrap();
    let mut holder = theirs.holder().await.unwrap().unwrap();
    // Azure's is noted while the holder goes on.
    for _ in 0..200 {
        if holder.owner.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        holder = theirs.holder().await.unwrap().unwrap();
    }
    assert_eq!(holder.owner.as_deref(), Some("process 7 on ours"));
    assert!(holder.age.unwrap() < Duration::from_secs(60), "{holder:?}");
    assert_eq!(theirs.list("").await.unwrap(), [], "who holds the lease is no object");
    ours.release(&held).await.unwrap();
    assert_eq!(theirs.holder().await.unwrap(), None);
}

pub(crate) async fn an_unlocked_lease_is_lost_and_free(store: &Store) {
    let (ours, theirs) = (store(), store());
    theirs.unlock().await.unwrap();
    let held = acquire(&*ours, "ours", TERM).await.unwrap();
    let first = done(ours.create(HEAD, text("first"), Some(&held)).await.unwrap());
    theirs.unlock().await.unwrap();
    assert_eq!(theirs.holder().await.unwrap(), None);
    let next = acquire(&*theirs, "theirs", TERM).await.unwrap();
    done(theirs.replace(HEAD, text("second"), &first, Some(&next)).await.unwrap());
    assert_eq!(ours.replace(HEAD, text("late"), &first, Some(&held)).await.unwrap(), Put::Refused);
    assert_eq!(ours.renew(&held).await.unwrap(), None);
    assert_eq!(content(&*ours, HEAD).await.unwrap(), "second");
}
