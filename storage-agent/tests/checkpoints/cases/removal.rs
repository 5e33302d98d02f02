//! What goes, and what must not go with it.

use std::time::Duration;

use storage_agent::checkpoints::{
    CheckpointConfig, CheckpointStore, CheckpointerBackend, NewCheckpoint, Payload, PruneReport,
    PruneStrategy, Retention,
};
use storage_core::ErrorKind;

use super::{Storage, WithValue, id, ids, json, metadata::prompted, noise, of_thread, plain, writes};

/// A list that grows by a message of noise a step.
pub(crate) fn growing(thread_id: &str, number: usize, parent: Option<usize>) -> NewCheckpoint {
    let payload = Payload::new("msgpack", noise(42, 1_100 * (number + 1)));
    plain(thread_id, "", number, parent).with("messages", number as i64, Some(payload))
}

async fn checked(checkpointer: &CheckpointerBackend, thread_id: &str, number: usize) {
    let found = checkpointer.get(thread_id, "", Some(&id(number))).await.unwrap().unwrap();
    assert_eq!(found.channel_values["messages"].bytes.as_ref().unwrap(), &noise(42, 1_100 * (number + 1)));
}

pub(crate) async fn pruning_keeps_the_latest_of_each_namespace_with_its_writes(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    for number in 0..30 {
        checkpointer.put(&growing("keep", number, number.checked_sub(1))).await.unwrap();
        checkpointer.put_writes("keep", "", &writes(number, "task", &[("messages", "x")])).await.unwrap();
    }
    for number in 0..3 {
        checkpointer.put(&plain("keep", "child", number, number.checked_sub(1))).await.unwrap();
    }
    checkpointer.put_writes("keep", "", &writes(99, "task", &[("messages", "early")])).await.unwrap();
    let reports = checkpointer.prune(&["keep", "no such thread"], PruneStrategy::KeepLatest).await.unwrap();
    assert_eq!((reports[0].checkpoints.len(), reports[0].writes, reports[0].values), (31, 29, 29));
    assert_eq!(reports[1], PruneReport::default());
    let left = checkpointer.list(&of_thread("keep")).await.unwrap();
    assert_eq!(ids(&left), [id(29), id(2)]);
    checked(&checkpointer, "keep", 29).await;
    let latest = checkpointer.get("keep", "", None).await.unwrap().unwrap();
    assert_eq!(latest.pending_writes.len(), 1);
    let info = checkpointer.thread("keep").await.unwrap().unwrap();
    assert_eq!(info.checkpoints, 2);
    assert!(info.bytes < 60_000, "{info:?}");
    // What came early finds its checkpoint, and the thread goes on.
    checkpointer.put(&growing("keep", 99, Some(29))).await.unwrap();
    assert_eq!(checkpointer.get("keep", "", None).await.unwrap().unwrap().pending_writes.len(), 1);
    checked(&checkpointer, "keep", 99).await;
    assert!(
        checkpointer.prune(&["keep"], PruneStrategy::KeepLatest).await.unwrap()[0].checkpoints.len() == 1
    );
    assert_eq!(
        checkpointer.prune(&["keep"], PruneStrategy::KeepLatest).await.unwrap()[0],
        PruneReport::default()
    );
}

pub(crate) async fn pruning_to_nothing_says_what_there_was(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    for thread_id in ["nothing", "nothing:2"] {
        checkpointer.put(&growing(thread_id, 0, None)).await.unwrap();
        checkpointer.put(&plain(thread_id, "child:1", 1, None)).await.unwrap();
        checkpointer.put_writes(thread_id, "", &writes(0, "task", &[("c", "x"), ("d", "y")])).await.unwrap();
    }
    let before = checkpointer.thread("nothing").await.unwrap().unwrap();
    let threads = ["nothing", "no such thread"];
    let reports = checkpointer.prune(&threads, PruneStrategy::Delete).await.unwrap();
    let report = &reports[0];
    assert_eq!(
        (report.checkpoints.len(), report.writes, report.values, report.bytes),
        (2, 2, 1, before.bytes)
    );
    assert_eq!(reports[1], PruneReport::default());
    assert_eq!(checkpointer.thread("nothing").await.unwrap(), None);
    checked(&checkpointer, "nothing:2", 0).await;
}

pub(crate) async fn pruning_keeps_what_waits_to_be_taken_up(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    for (number, parent) in [(0, None), (1, Some(0)), (2, Some(0)), (3, Some(2)), (4, Some(0))] {
        checkpointer.put(&growing("waits", number, parent)).await.unwrap();
    }
    // 1 is interrupted on a branch of its own; what was written on 2 has been taken up by 3; 4 is the latest.
    for number in [1, 2] {
        checkpointer
            .put_writes("waits", "", &writes(number, "task", &[("__interrupt__", "?")]))
            .await
            .unwrap();
    }
    checkpointer.prune(&["waits"], PruneStrategy::KeepLatest).await.unwrap();
    assert_eq!(ids(&checkpointer.list(&of_thread("waits")).await.unwrap()), [id(4), id(1)]);
    checked(&checkpointer, "waits", 1).await;
    let waiting = checkpointer.get("waits", "", Some(&id(1))).await.unwrap().unwrap();
    assert_eq!(waiting.pending_writes[0].index, -3);
}

pub(crate) async fn pruning_keeps_the_ancestors_of_delta_channels(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    for number in 0..10usize {
        let value = (number % 4 == 1).then(|| Payload::new("snapshot", noise(9, 3_000)));
        let counters = format!(r#"{{"counters_since_delta_snapshot":{{"d":[{number},1]}}}}"#);
        let new = plain("ancestors", "", number, number.checked_sub(1))
            .with("d", number as i64, value)
            .with("consumed", number as i64, None)
            .metadata(&counters);
        checkpointer.put(&new).await.unwrap();
        checkpointer.put_writes("ancestors", "", &writes(number, "task", &[("d", "x")])).await.unwrap();
    }
    // The latest has a snapshot of its own: nothing else is needed.
    let before = checkpointer.delta_history("ancestors", "", Some(&id(8)), &["d"]).await.unwrap();
    assert_eq!(before["d"].writes.len(), 3);
    assert!(checkpointer.copy_thread("ancestors", "ancestors-2").await.unwrap());
    checkpointer.prune(&["ancestors"], PruneStrategy::KeepLatest).await.unwrap();
    assert_eq!(ids(&checkpointer.list(&of_thread("ancestors")).await.unwrap()), [id(9)]);
    // One step more, and that needs 9.
    let more = plain("ancestors-2", "", 10, Some(9)).with("d", 10, None);
    let more = more.metadata(r#"{"counters_since_delta_snapshot":{"d":[1,1]}}"#);
    checkpointer.put(&more).await.unwrap();
    let before = checkpointer.delta_history("ancestors-2", "", None, &["d"]).await.unwrap();
    checkpointer.prune(&["ancestors-2"], PruneStrategy::KeepLatest).await.unwrap();
    assert_eq!(ids(&checkpointer.list(&of_thread("ancestors-2")).await.unwrap()), [id(10), id(9)]);
    assert_eq!(checkpointer.delta_history("ancestors-2", "", None, &["d"]).await.unwrap(), before);
    assert!(before["d"].seed.is_some());
}

pub(crate) async fn pruning_ends_calls_of_pruned_checkpoints(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    for number in 0..3 {
        checkpointer.put(&plain("calls", "", number, number.checked_sub(1))).await.unwrap();
        let parents = format!(r#"{{"parents":{{"":"{}"}}}}"#, id(number));
        for ns in [format!("sub:{number}"), "kept".to_owned()] {
            checkpointer.put(&plain("calls", &ns, 10 + number, None).metadata(&parents)).await.unwrap();
        }
    }
    let early = format!(r#"{{"parents":{{"":"{}"}}}}"#, id(7));
    checkpointer.put(&plain("calls", "sub:early", 20, None).metadata(&early)).await.unwrap();
    checkpointer.prune(&["calls"], PruneStrategy::KeepLatest).await.unwrap();
    let left = checkpointer.list(&of_thread("calls")).await.unwrap();
    let left: Vec<_> = left.iter().map(|header| header.key.checkpoint_ns.as_str()).collect();
    assert_eq!(left, ["sub:early", "sub:2", "kept", ""]);
}

pub(crate) async fn a_dry_run_says_to_the_byte_what_would_go(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    for number in 0..20 {
        let mut new = growing("dry", number, number.checked_sub(1));
        if number % 3 != 1 {
            new.metadata = prompted("dry", number, number as u64 / 8).metadata;
        }
        checkpointer.put(&new).await.unwrap();
        checkpointer
            .put_writes("dry", "", &writes(number, "task", &[("messages", "x"), ("__error__", "e")]))
            .await
            .unwrap();
    }
    let policy = Retention { keep_last: Some(5), ..Retention::default() };
    let before = checkpointer.thread("dry").await.unwrap().unwrap();
    let dry = checkpointer.retain("dry", &policy, true).await.unwrap();
    assert_eq!(checkpointer.thread("dry").await.unwrap().unwrap(), before);
    assert_eq!(checkpointer.retain("dry", &policy, false).await.unwrap(), dry);
    let after = checkpointer.thread("dry").await.unwrap().unwrap();
    assert_eq!(before.bytes - after.bytes, dry.bytes);
    assert_eq!((dry.checkpoints.len(), dry.writes, dry.values, after.checkpoints), (15, 30, 15, 5));
    for number in 15..20 {
        checked(&checkpointer, "dry", number).await;
    }
}

pub(crate) async fn runs_are_deleted_in_every_namespace_and_thread(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    let run = |number: usize| format!(r#"{{"run_id":"runs-{}"}}"#, number % 3);
    for thread_id in ["runs-a", "runs-b"] {
        for number in 0..9 {
            let new = growing(thread_id, number, number.checked_sub(1)).metadata(&run(number));
            checkpointer.put(&new).await.unwrap();
            checkpointer.put_writes(thread_id, "", &writes(number, "task", &[("c", "x")])).await.unwrap();
        }
        checkpointer.put(&plain(thread_id, "child:1", 1, None).metadata(&run(2))).await.unwrap();
    }
    assert!(checkpointer.delete_for_runs(&[]).await.unwrap().is_empty());
    assert!(checkpointer.delete_for_runs(&["runs-9"]).await.unwrap().is_empty());
    let reports = checkpointer.delete_for_runs(&["runs-0", "runs-2"]).await.unwrap();
    assert_eq!(reports.iter().map(|report| report.checkpoints.len()).collect::<Vec<_>>(), [7, 7]);
    for thread_id in ["runs-a", "runs-b"] {
        assert_eq!(ids(&checkpointer.list(&of_thread(thread_id)).await.unwrap()), [id(7), id(4), id(1)]);
        assert_eq!(checkpointer.get(thread_id, "", Some(&id(8))).await.unwrap(), None);
        checked(&checkpointer, thread_id, 4).await;
        let first = growing(thread_id, 8, Some(7));
        checkpointer.advance(&first, &[]).await.unwrap();
    }
}

pub(crate) async fn a_copy_is_complete_and_its_own(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    assert!(!checkpointer.copy_thread("no such thread", "copy:b").await.unwrap());
    for number in 0..20 {
        checkpointer.put(&growing("copy", number, number.checked_sub(1))).await.unwrap();
        checkpointer.put_writes("copy", "", &writes(number, "task", &[("c", "x")])).await.unwrap();
    }
    checkpointer.put(&plain("copy", "child:1|x", 1, None)).await.unwrap();
    assert!(checkpointer.copy_thread("copy", "copy:b").await.unwrap());
    let taken = checkpointer.copy_thread("copy", "copy:b").await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Conflict);
    assert!(taken.to_string().contains("is there already") && taken.hint().is_some(), "{taken}");
    assert!(checkpointer.delete_thread("copy").await.unwrap());
    let listed = checkpointer.list(&of_thread("copy:b")).await.unwrap();
    assert_eq!(listed.len(), 21);
    for number in 0..20 {
        checked(&checkpointer, "copy:b", number).await;
        let found = checkpointer.get("copy:b", "", Some(&id(number))).await.unwrap().unwrap();
        assert_eq!(found.pending_writes.len(), 1);
        assert_eq!(found.header.parent_id, number.checked_sub(1).map(id));
    }
    checkpointer.advance(&growing("copy:b", 20, Some(19)), &[]).await.unwrap();
    assert_eq!(checkpointer.thread("copy:b").await.unwrap().unwrap().checkpoints, 22);
}

pub(crate) async fn retention_goes_by_number_and_age(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    for number in 0..4 {
        checkpointer.put(&plain("age", "", number, number.checked_sub(1))).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    for number in 4..6 {
        checkpointer.put(&plain("age", "", number, Some(number - 1))).await.unwrap();
    }
    let hour = Retention { max_age: Some(Duration::from_secs(3600)), ..Retention::default() };
    assert_eq!(checkpointer.retain("age", &hour, false).await.unwrap(), PruneReport::default());
    let nothing = checkpointer.retain("age", &Retention::default(), false).await.unwrap();
    assert_eq!(nothing, PruneReport::default());
    let second =
        Retention { keep_last: Some(5), max_age: Some(Duration::from_millis(750)), ..Retention::default() };
    assert_eq!(checkpointer.retain("age", &second, false).await.unwrap().checkpoints.len(), 4);
    let none = Retention { keep_last: Some(0), max_age: Some(Duration::ZERO), ..Retention::default() };
    checkpointer.retain("age", &none, false).await.unwrap();
    assert_eq!(ids(&checkpointer.list(&of_thread("age")).await.unwrap()), [id(5)]);
}

pub(crate) async fn threads_expire_and_are_listed_by_activity(storage: Storage) {
    let config = CheckpointConfig { ttl: Some(Duration::from_millis(400)), ..CheckpointConfig::default() };
    let (kept, short) =
        (CheckpointerBackend::new(storage.clone()), CheckpointerBackend::with_config(storage, config));
    short.put(&plain("active-0", "", 1, None)).await.unwrap();
    for thread_id in ["active-3", "active-1", "active-2", "active-1"] {
        tokio::time::sleep(Duration::from_millis(5)).await;
        kept.put(&plain(thread_id, "", 1, None)).await.unwrap();
    }
    assert!(kept.thread("active-0").await.unwrap().unwrap().expires_at.is_some());
    assert!(kept.expire_thread("active-2", Some(Duration::from_millis(300))).await.unwrap());
    assert!(kept.expire_thread("active-3", Some(Duration::from_millis(300))).await.unwrap());
    assert!(kept.expire_thread("active-3", None).await.unwrap());
    assert!(!kept.expire_thread("active-9", None).await.unwrap());
    tokio::time::sleep(Duration::from_millis(700)).await;
    kept.put(&plain("active-1", "", 2, Some(1))).await.unwrap();
    let threads = kept.threads(1000).await.unwrap();
    let active: Vec<_> = threads.iter().filter(|thread| thread.thread_id.starts_with("active-")).collect();
    let names: Vec<_> = active.iter().map(|thread| thread.thread_id.as_str()).collect();
    assert_eq!(names, ["active-1", "active-3"]);
    assert_eq!(active[0].checkpoints, 2);
    assert!(active[0].bytes > 0 && active[0].items > 0);
    assert_eq!(kept.threads(1).await.unwrap().len(), 1);
    assert_eq!(kept.get("active-0", "", None).await.unwrap(), None);
}

pub(crate) async fn a_write_keeps_a_thread_that_was_about_to_expire(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage.clone());
    let threads = ["soon-put", "soon-advance", "soon-writes", "soon-claim"];
    for thread_id in threads {
        checkpointer.put(&plain(thread_id, "", 1, None)).await.unwrap();
        assert!(checkpointer.expire_thread(thread_id, Some(Duration::from_millis(500))).await.unwrap());
    }
    checkpointer.put(&plain("soon-put", "", 2, Some(1))).await.unwrap();
    checkpointer.advance(&plain("soon-advance", "", 2, Some(1)), &[]).await.unwrap();
    checkpointer.put_writes("soon-writes", "", &writes(1, "task", &[("c", "x")])).await.unwrap();
    checkpointer.claim("soon-claim").await.unwrap();
    tokio::time::sleep(Duration::from_millis(800)).await;
    for thread_id in threads {
        let left = checkpointer.get(thread_id, "", Some(&id(1))).await.unwrap();
        assert!(left.is_some(), "{thread_id}");
    }
}

pub(crate) async fn pruned_general_checkpoints_leave_the_others_whole(storage: Storage) {
    let checkpoints = CheckpointStore::new(storage);
    let data = |number: usize| {
        let messages: Vec<String> =
            (0..number).map(|at| format!("{at}{:?}", noise(at as u64, 100))).collect();
        storage_core::Json::from_serialize(&messages).unwrap()
    };
    for number in 0..20 {
        checkpoints.store_checkpoint("pruned", &id(number), data(number), json("{}")).await.unwrap();
    }
    assert_eq!(checkpoints.prune_checkpoints("pruned", 3).await.unwrap(), 17);
    checkpoints.store_checkpoint("pruned", &id(20), data(20), json("{}")).await.unwrap();
    for number in 17..21 {
        let found = checkpoints.get_checkpoint("pruned", Some(&id(number))).await.unwrap().unwrap();
        assert_eq!(found.data.unwrap(), data(number));
    }
    assert_eq!(checkpoints.get_checkpoint("pruned", Some(&id(16))).await.unwrap(), None);
    assert_eq!(checkpoints.list_checkpoints("pruned", None).await.unwrap().len(), 4);
}

/// Who has not noticed that a thread was deleted does not bring it back; who begins anew does.
pub(crate) async fn a_deleted_thread_stays_deleted_for_late_writers(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage.clone());
    for number in 1..4 {
        checkpointer.put(&growing("late", number, Some(number - 1))).await.unwrap();
    }
    assert!(checkpointer.delete_thread("late").await.unwrap());
    let late = [
        checkpointer.put(&growing("late", 4, Some(3))).await.unwrap_err(),
        checkpointer.advance(&growing("late", 4, Some(3)), &[]).await.unwrap_err(),
        checkpointer.put_writes("late", "", &writes(3, "task", &[("c", "x")])).await.unwrap_err(),
    ];
    for error in late {
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("was deleted") && error.hint().is_some(), "{error}");
    }
    assert_eq!(checkpointer.thread("late").await.unwrap(), None);
    assert!(!checkpointer.delete_thread("late").await.unwrap());
    assert!(checkpointer.list(&of_thread("late")).await.unwrap().is_empty());
    let listed = checkpointer.threads(1_000).await.unwrap();
    assert!(listed.iter().all(|thread| thread.thread_id != "late"));

    // Writes may come before their checkpoint, and ids may be those of before.
    checkpointer.put_writes("late", "", &writes(5, "task", &[("c", "x")])).await.unwrap();
    checkpointer.advance(&growing("late", 1, None), &[]).await.unwrap();
    checkpointer.advance(&growing("late", 5, Some(1)), &[]).await.unwrap();
    let latest = checkpointer.get("late", "", None).await.unwrap().unwrap();
    assert_eq!((latest.pending_writes.len(), latest.header.parent_id), (1, Some(id(1))));
    let late = checkpointer.put(&growing("late", 6, Some(3))).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict);
    assert_eq!(checkpointer.thread("late").await.unwrap().unwrap().checkpoints, 2);

    // Without a mark nothing is left, and anything goes.
    let config = CheckpointConfig { deleted_for: None, ..CheckpointConfig::default() };
    let checkpointer = CheckpointerBackend::with_config(storage, config);
    assert!(checkpointer.delete_thread("late").await.unwrap());
    checkpointer.put(&growing("late", 6, Some(3))).await.unwrap();
}

/// A copy onto a thread that was deleted keeps late writers out, ended or not, and who has claimed the thread in.
pub(crate) async fn a_copy_onto_a_deleted_thread_keeps_late_writers_out(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    checkpointer.put(&growing("from", 1, None)).await.unwrap();
    for thread in ["onto", "claimed"] {
        checkpointer.put(&growing(thread, 9, None)).await.unwrap();
        checkpointer.delete_thread(thread).await.unwrap();
    }
    let epoch = checkpointer.claim("claimed").await.unwrap();
    let kept = checkpointer.copy_thread("from", "onto");
    drop(futures::future::select(Box::pin(kept), Box::pin(std::future::ready(()))).await);
    assert!(checkpointer.put(&growing("onto", 99, Some(9))).await.is_err());
    for thread in ["onto", "claimed"] {
        let _ = checkpointer.copy_thread("from", thread).await;
        let late = checkpointer.put(&growing(thread, 99, Some(9))).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Conflict, "{thread}");
        assert_eq!(checkpointer.thread(thread).await.unwrap().unwrap().checkpoints, 1);
    }
    checkpointer.fenced(epoch).put(&growing("claimed", 2, Some(1))).await.unwrap();
}

/// The first checkpoint of a subgraph's call has no parent, and brings no deleted thread back; and the mark has its time.
pub(crate) async fn a_call_brings_no_deleted_thread_back_and_a_mark_ends(storage: Storage) {
    let config =
        CheckpointConfig { deleted_for: Some(Duration::from_millis(700)), ..CheckpointConfig::default() };
    let checkpointer = CheckpointerBackend::with_config(storage, config);
    checkpointer.put(&growing("calls", 9, None)).await.unwrap();
    checkpointer.delete_thread("calls").await.unwrap();
    let call = plain("calls", "node:1", 35, None);
    assert_eq!(checkpointer.put(&call).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(!checkpointer.expire_thread("calls", None).await.unwrap());
    checkpointer.put(&growing("calls", 1, None)).await.unwrap();
    checkpointer.put(&call).await.unwrap();
    assert!(checkpointer.put(&growing("calls", 10, Some(8))).await.is_err());
    tokio::time::sleep(Duration::from_millis(900)).await;
    checkpointer.put(&growing("calls", 10, Some(8))).await.unwrap();
}
