//! Names that fit no key.

use storage_agent::{
    AgentStorage,
    checkpoints::{
        ChannelValue, CheckpointerBackend, ListCheckpoints, NewCheckpoint, Payload, PruneStrategy, Retention,
        Version,
    },
};
use storage_core::ErrorKind;

use super::{Storage, WithValue, id, ids, noise, of_thread, plain, removal::growing, writes};

/// Names of so many characters that differ at their end.
fn long(length: usize) -> [String; 3] {
    ["a", "b", "a:%"].map(|end| "x".repeat(length) + end)
}

/// The namespace of a subgraph that deep.
fn nested(depth: usize) -> String {
    vec!["node:00000000-0000-0000-0000-000000000000"; depth].join("|")
}

/// A checkpoint that has a value of each channel, with the names of both as its text, and writes of each task.
async fn put(checkpointer: &CheckpointerBackend, new: NewCheckpoint, channels: &[String], tasks: &[String]) {
    let versions = || long(1_100).map(Version::Text).into_iter().chain([Version::Int(1)]);
    let key = new.key.clone();
    let mut new = new;
    for channel in channels {
        for version in versions() {
            let value = Some(Payload::new("text", format!("{key:?} {channel} {version:?}")));
            new.new_values.push(ChannelValue { channel: channel.clone(), version, value });
        }
        new.channel_versions.insert(channel.clone(), versions().next().unwrap());
    }
    checkpointer.put(&new).await.unwrap();
    for task in tasks {
        let mut task = writes(0, task, &[("c", task), ("__error__", "e")]);
        task.checkpoint_id.clone_from(&key.checkpoint_id);
        checkpointer.put_writes(&key.thread_id, &key.checkpoint_ns, &task).await.unwrap();
    }
    let found = checkpointer.get(&key.thread_id, &key.checkpoint_ns, None).await.unwrap().unwrap();
    assert_eq!((&found.header.key, found.channel_values.len()), (&key, channels.len()));
    for (channel, value) in found.channel_values {
        let version = &new.channel_versions[&channel];
        assert_eq!(value, Payload::new("text", format!("{key:?} {channel} {version:?}")));
    }
    let mut written: Vec<_> =
        found.pending_writes.iter().map(|write| (&write.task_id, write.index)).collect();
    let mut expected: Vec<_> = tasks.iter().flat_map(|task| [(task, -1), (task, 0)]).collect();
    written.sort();
    expected.sort();
    assert_eq!(written, expected);
    for write in found.pending_writes.iter().filter(|write| write.index == 0) {
        assert_eq!(write.value, Payload::new("text", write.task_id.clone()));
    }
}

pub(crate) async fn long_names_come_back_whole_and_never_mix(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    let namespaces = [String::new(), nested(1), nested(40), nested(41), nested(19), "n".repeat(8_000)];
    let mut channels = vec!["c".to_owned()];
    channels.extend(long(1_100));
    channels.extend(long(500));
    let mut tasks = vec!["t".to_owned()];
    tasks.extend(long(1_500));
    for thread_id in long(2_000) {
        for (at, ns) in namespaces.iter().enumerate() {
            put(&checkpointer, plain(&thread_id, ns, at, None), &channels, &tasks).await;
        }
        let listed = checkpointer.list(&of_thread(&thread_id)).await.unwrap();
        let found: Vec<_> = listed.iter().map(|header| header.key.checkpoint_ns.clone()).collect();
        assert_eq!(found, namespaces.iter().rev().cloned().collect::<Vec<_>>());
        let before = ListCheckpoints { before: Some(id(3)), limit: Some(1), ..of_thread(&thread_id) };
        assert_eq!(checkpointer.list(&before).await.unwrap()[0].key.checkpoint_ns, nested(40));
        let of_ns = ListCheckpoints { checkpoint_ns: Some(nested(40)), ..of_thread(&thread_id) };
        assert_eq!(ids(&checkpointer.list(&of_ns).await.unwrap()), [id(2)]);
    }
    let everywhere = checkpointer.list(&ListCheckpoints::default()).await.unwrap();
    assert_eq!(everywhere.len(), 3 * namespaces.len());
    assert!(long(2_000).contains(&everywhere[0].key.thread_id));
}

pub(crate) async fn threads_with_long_ids_are_called_by_them(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage.clone());
    let [one, two, claimed] = long(2_000);
    let metadata = r#"{"run_id":"long-run"}"#;
    for thread_id in [&one, &two] {
        for number in 0..5usize {
            let parent = number.checked_sub(1);
            let new = growing(thread_id, number, parent);
            checkpointer.advance(&new, &[writes(number, "task", &[("c", "x")])]).await.unwrap();
            let new = plain(thread_id, &nested(40), number, parent).metadata(metadata);
            checkpointer.put(&new).await.unwrap();
        }
    }
    checkpointer.claim(&claimed).await.unwrap();
    let mut names: Vec<_> = checkpointer.threads(9).await.unwrap().into_iter().map(|t| t.thread_id).collect();
    names.sort();
    assert_eq!(names, [one.clone(), claimed, two.clone()]);
    assert_eq!(checkpointer.thread(&one).await.unwrap().unwrap().thread_id, one);

    let totals = AgentStorage::new(storage).unwrap().get_metrics().await.unwrap().totals;
    assert_eq!((totals.threads, totals.checkpoints), (3, 20));

    let latest = Retention { keep_last: Some(2), ..Retention::default() };
    let before = checkpointer.thread(&one).await.unwrap().unwrap().bytes;
    let dry = checkpointer.retain(&one, &latest, true).await.unwrap();
    assert_eq!(checkpointer.retain(&one, &latest, false).await.unwrap(), dry);
    assert_eq!(before - checkpointer.thread(&one).await.unwrap().unwrap().bytes, dry.bytes);
    assert_eq!(dry.checkpoints.len(), 6);
    let is_named = |thread_id: &str, ns: &str| {
        dry.checkpoints.iter().filter(|key| key.thread_id == thread_id && key.checkpoint_ns == ns).count()
    };
    assert_eq!((is_named(&one, ""), is_named(&one, &nested(40))), (3, 3));

    let reports = checkpointer.delete_for_runs(&["long-run"]).await.unwrap();
    let mut removed: Vec<_> =
        reports.iter().map(|report| (report.checkpoints.len(), &report.checkpoints[0])).collect();
    removed.sort();
    assert_eq!((removed[0].0, &removed[0].1.thread_id), (2, &one));
    assert_eq!((removed[1].0, &removed[1].1.thread_id), (5, &two));
    assert_eq!(removed[1].1.checkpoint_ns, nested(40));
}

pub(crate) async fn a_thread_with_a_long_id_is_copied_deleted_and_begun_anew(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    let [one, two, three] = long(2_000);
    checkpointer.put(&growing(&one, 0, None)).await.unwrap();
    checkpointer.put(&growing("short", 0, None)).await.unwrap();
    assert!(checkpointer.copy_thread(&one, &two).await.unwrap());
    assert!(checkpointer.copy_thread("short", &three).await.unwrap());
    assert!(checkpointer.copy_thread(&two, "shorter").await.unwrap());
    let names = async || {
        let threads = checkpointer.threads(9).await.unwrap();
        let mut names: Vec<_> = threads.into_iter().map(|thread| thread.thread_id).collect();
        names.sort();
        names
    };
    let mut all = vec![one.clone(), two.clone(), three.clone(), "short".to_owned(), "shorter".to_owned()];
    all.sort();
    assert_eq!(names().await, all);
    assert!(checkpointer.delete_thread(&one).await.unwrap());
    let report = &checkpointer.prune(&[&two], PruneStrategy::Delete).await.unwrap()[0];
    assert_eq!(report.checkpoints[0].thread_id, two);
    all.retain(|name| *name != one && *name != two);
    assert_eq!(names().await, all);
    assert_eq!(checkpointer.list(&ListCheckpoints::default()).await.unwrap().len(), 3);
    let late = checkpointer.put(&growing(&one, 1, Some(0))).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict);
    checkpointer.put_writes(&two, "", &writes(9, "task", &[("c", "x")])).await.unwrap();
    checkpointer.put(&growing(&one, 1, None)).await.unwrap();
    assert!(names().await.contains(&one));
    let found = checkpointer.get(&one, "", None).await.unwrap().unwrap();
    assert_eq!(found.channel_values["messages"], Payload::new("msgpack", noise(42, 2_200)));
}

pub(crate) async fn an_id_or_name_that_is_too_long_is_named_in_the_error(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    let of = |thread_id: &str, ns: &str, id: &str| {
        let mut new = plain(thread_id, ns, 1, None);
        id.clone_into(&mut new.key.checkpoint_id);
        new
    };
    let long = "x".repeat(1_000);
    let mut tasks = writes(1, &"x".repeat(10_000), &[("c", "x")]);
    let channel = of("bound", "", "1").with(&"x".repeat(10_000), 1, None);
    for (error, named) in [
        (checkpointer.put(&of("bound", "", &long)).await.unwrap_err(), "a checkpoint id"),
        (checkpointer.put(&of("bound", &"n".repeat(936), &long[..50])).await.unwrap_err(), "a checkpoint id"),
        (checkpointer.put(&of("bound", &"n".repeat(10_000), "1")).await.unwrap_err(), "a namespace"),
        (checkpointer.put(&of(&"t".repeat(10_000), "", "1")).await.unwrap_err(), "a thread id"),
        (checkpointer.put(&of("bound", &("\0".to_owned() + &long), "1")).await.unwrap_err(), "a namespace"),
        (checkpointer.put(&channel).await.unwrap_err(), "a channel's name"),
        (checkpointer.put_writes("bound", "", &tasks).await.unwrap_err(), "a task id"),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(named), "{error}");
    }
    for checkpoint_ns in [None, Some(String::new())] {
        let before = Some("x".repeat(2_000));
        let list = ListCheckpoints { before, checkpoint_ns, ..of_thread("bound") };
        let error = checkpointer.list(&list).await.unwrap_err();
        assert!(error.to_string().contains("a checkpoint id") && error.hint().is_some(), "{error}");
    }
    // What ends up in the keys of others is no matter: a parent of any length is nobody's.
    let parent = NewCheckpoint { parent_id: Some("x".repeat(2_000)), ..of("bound", "", &long[..40]) };
    checkpointer.put(&parent).await.unwrap();
    checkpointer.put(&of("bound", &"n".repeat(936), &long[..40])).await.unwrap();
    tasks.task_id.truncate(8_000);
    checkpointer.put_writes("bound", "", &tasks).await.unwrap();
    assert_eq!(checkpointer.delta_history("bound", "", None, &["c"]).await.unwrap()["c"].seed, None);
}
