//! Metadata that is large.

use serde_json::{Value, json as value};
use storage_agent::checkpoints::{
    CheckpointerBackend, ListCheckpoints, MAX_METADATA_BYTES, NewCheckpoint, PruneReport, PruneStrategy,
    Retention,
};
use storage_core::ErrorKind;

use super::{Storage, WithValue, id, ids, json, noise, of_thread, plain};

/// Text that does not repeat.
pub(crate) fn prompt(seed: u64, length: usize) -> String {
    noise(seed, length).into_iter().map(|byte| char::from(b'a' + byte % 26)).collect()
}

/// A checkpoint whose metadata has a prompt of 60 kB.
pub(crate) fn prompted(thread_id: &str, number: usize, seed: u64) -> NewCheckpoint {
    let prompt = prompt(seed, 60_000);
    let text = format!(
        r#"{{ "prompt":"{prompt}", "seed": {seed}, "step":{number}, "run_id":"run-{}", "odd": 1.50 }}"#,
        number % 3
    );
    plain(thread_id, "", number, number.checked_sub(1)).metadata(&text)
}

async fn checked(checkpointer: &CheckpointerBackend, new: &NewCheckpoint) {
    let key = &new.key;
    let found = checkpointer.get(&key.thread_id, &key.checkpoint_ns, Some(&key.checkpoint_id)).await.unwrap();
    let header = found.unwrap().header;
    assert_eq!(header.metadata.as_str(), new.metadata.as_str());
    for checkpoint_ns in [None, Some(key.checkpoint_ns.clone())] {
        let list = ListCheckpoints { checkpoint_ns, ..of_thread(&key.thread_id) };
        let listed = checkpointer.list(&list).await.unwrap();
        let mut listed = listed.into_iter().filter(|listed| listed.key == *key);
        assert_eq!((listed.next().as_ref(), listed.next()), (Some(&header), None));
    }
}

pub(crate) async fn large_metadata_comes_back_as_it_was(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    let number = |number: usize| format!(r#""member-{number}":{number}"#);
    let many = format!("{{{}}}", (0..9_000).map(number).collect::<Vec<_>>().join(","));
    let spaced = format!("{{ \"a\": 1, {} \"b\": 2 }}", " ".repeat(70_000));
    let name = format!(r#"{{"{}": 1}}"#, "n".repeat(70_000));
    for (at, text) in [many, spaced, name, r#"{"a":1}"#.to_owned()].into_iter().enumerate() {
        let new = plain("large", "a:b", at, None).metadata(&text);
        checkpointer.put(&new).await.unwrap();
        checked(&checkpointer, &new).await;
    }
    let new = prompted("large", 9, 1);
    checkpointer.advance(&NewCheckpoint { parent_id: None, ..new.clone() }, &[]).await.unwrap();
    checked(&checkpointer, &new).await;
}

pub(crate) async fn a_filter_sees_large_metadata_too(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    for number in 0..40 {
        let new = match number % 4 {
            0 => plain("filtered", "", number, None),
            _ => prompted("filtered", number, (number % 4) as u64),
        };
        checkpointer.put(&new).await.unwrap();
    }
    let found = async |filter: Value, limit: Option<usize>| {
        let filter = filter.as_object().unwrap().clone().into_iter().collect();
        let list = ListCheckpoints { filter, limit, ..of_thread("filtered") };
        let found = checkpointer.list(&list).await.unwrap();
        ids(&found).iter().map(|id| id.parse::<usize>().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(found(value!({"prompt": prompt(2, 60_000)}), Some(3)).await, [38, 34, 30]);
    assert_eq!(found(value!({"prompt": prompt(2, 60_000), "step": 34}), None).await, [34]);
    assert_eq!(found(value!({"prompt": prompt(5, 60_000)}), None).await, [0usize; 0]);
    assert_eq!(found(value!({"prompt": null}), Some(2)).await, [36, 32]);
    assert_eq!(found(value!({"seed": 3, "none": null}), Some(1)).await, [39]);
    assert_eq!(found(value!({"odd": 1.5}), None).await.len(), 30);
}

pub(crate) async fn an_unchanged_prompt_is_stored_once(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    let size = async || checkpointer.thread("prompt").await.unwrap().unwrap().bytes;
    checkpointer.advance(&prompted("prompt", 0, 1), &[]).await.unwrap();
    let first = size().await;
    assert!(first < 100_000, "{first}");
    for number in 1..11 {
        checkpointer.advance(&prompted("prompt", number, 1), &[]).await.unwrap();
    }
    let more = size().await - first;
    assert!(more < 10 * 3_000, "{more}");
    // In the place of another stands what came last, and nothing of the other is left.
    let small = plain("prompt", "", 10, Some(9));
    checkpointer.put(&small).await.unwrap();
    checked(&checkpointer, &small).await;
    let again = prompted("prompt", 9, 7);
    checkpointer.put(&again).await.unwrap();
    checked(&checkpointer, &again).await;
    checkpointer.put(&plain("prompt", "", 9, None)).await.unwrap();
    checkpointer.prune(&["prompt"], PruneStrategy::KeepLatest).await.unwrap();
    assert!(size().await < 1_000);
}

pub(crate) async fn large_metadata_goes_with_its_checkpoint(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    let all = Retention { keep_last: Some(usize::MAX), ..Retention::default() };
    for number in 0..9 {
        checkpointer.put(&prompted("goes", number, number as u64 / 4)).await.unwrap();
    }
    assert!(checkpointer.copy_thread("goes", "goes-2").await.unwrap());
    let reports = checkpointer.delete_for_runs(&["run-0"]).await.unwrap();
    let (removed, both) = (&reports[0], ["goes", "goes-2"]);
    assert_eq!((reports.len(), removed.checkpoints.len()), (2, 3));
    let small = plain("goes", "", 8, None);
    checkpointer.put(&small).await.unwrap();
    checked(&checkpointer, &small).await;
    for thread_id in both {
        for number in [1, 2, 4, 5, 7] {
            let key = prompted(thread_id, number, number as u64 / 4);
            checked(&checkpointer, &key).await;
        }
        checkpointer.retain(thread_id, &all, false).await.unwrap();
        assert_eq!(checkpointer.retain(thread_id, &all, true).await.unwrap(), PruneReport::default());
    }
    let before = checkpointer.thread("goes-2").await.unwrap().unwrap().bytes;
    let latest = Retention { keep_last: Some(1), ..Retention::default() };
    let dry = checkpointer.retain("goes-2", &latest, true).await.unwrap();
    assert_eq!(checkpointer.retain("goes-2", &latest, false).await.unwrap(), dry);
    assert_eq!(before - checkpointer.thread("goes-2").await.unwrap().unwrap().bytes, dry.bytes);
    checked(&checkpointer, &prompted("goes-2", 8, 2)).await;
}

/// The namespaces of forty subgraphs within each other, which each checkpoint of the innermost names as its parents.
pub(crate) async fn calls_with_many_parents_end_with_their_root(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    for number in 0..3 {
        checkpointer.put(&plain("deep", "", number, number.checked_sub(1))).await.unwrap();
        let parents = (0..40).map(|depth| {
            let ns = "node:00000000-0000-0000-0000-000000000000|".repeat(depth);
            format!(r#""{}":"{}""#, ns.trim_end_matches('|'), id(number))
        });
        let text = format!(r#"{{"parents":{{{}}}}}"#, parents.collect::<Vec<_>>().join(","));
        assert!(text.len() > 16 * 1024);
        let new = plain("deep", &format!("sub:{number}"), 10 + number, None).metadata(&text);
        checkpointer.put(&new).await.unwrap();
    }
    checkpointer.prune(&["deep"], PruneStrategy::KeepLatest).await.unwrap();
    let left = checkpointer.list(&of_thread("deep")).await.unwrap();
    let left: Vec<_> = left.iter().map(|header| header.key.checkpoint_ns.as_str()).collect();
    assert_eq!(left, ["sub:2", ""]);
}

pub(crate) async fn metadata_has_a_bound(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    let text = |length: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(length - 8));
    let most = plain("bound", "", 1, None).metadata(&text(MAX_METADATA_BYTES));
    checkpointer.put(&most).await.unwrap();
    let found = checkpointer.get("bound", "", None).await.unwrap().unwrap();
    assert!(found.header.metadata == json(&text(MAX_METADATA_BYTES)));
    let larger = plain("bound", "", 2, None).metadata(&text(MAX_METADATA_BYTES + 1));
    let refused = checkpointer.put(&larger).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("16777217") && refused.hint().is_some(), "{refused}");
}
