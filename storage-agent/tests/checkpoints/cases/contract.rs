//! LangGraph's contract: what goes in comes out.

use serde_json::json as value;
use storage_agent::checkpoints::{
    ChannelValue, CheckpointStore, CheckpointerBackend, ListCheckpoints, NewCheckpoint, Payload,
    PendingWrite, Version,
};
use storage_core::ErrorKind;

use super::{Storage, WithValue, id, ids, json, noise, of_thread, plain, writes};

pub(crate) async fn a_checkpoint_comes_back_as_it_was(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    let large = Payload::new("bytes", noise(1, 300_000));
    let none = Payload { kind: "null".into(), bytes: None };
    let new = plain("whole", "child:1|a%b", 2, Some(1))
        .with("large", 1, Some(large.clone()))
        .with("none", 1, Some(none.clone()))
        .with("empty", 1, Some(Payload::new("", "")))
        .with("absent", 1, None)
        .metadata(r#"{"source":"loop","step":-1,"parents":{"":"x"},"text":"ü%_\\"}"#);
    let new = NewCheckpoint { checkpoint: Payload::new("msgpack", noise(2, 5_000)), ..new };
    checkpointer.put(&new).await.unwrap();
    let found = checkpointer.get("whole", "child:1|a%b", Some(&id(2))).await.unwrap().unwrap();
    assert_eq!(found.header.key, new.key);
    assert_eq!(found.header.parent_id, Some(id(1)));
    assert_eq!(found.header.metadata, new.metadata);
    assert_eq!(found.checkpoint, new.checkpoint);
    assert_eq!(found.channel_versions, new.channel_versions);
    let expected = [("empty", Payload::new("", "")), ("large", large), ("none", none)];
    assert_eq!(found.channel_values, expected.map(|(channel, value)| (channel.to_owned(), value)).into());
    assert!(found.pending_writes.is_empty());
    assert_eq!(checkpointer.get("whole", "", None).await.unwrap(), None);
    assert_eq!(checkpointer.get("whole", "child:1|a%b", Some(&id(3))).await.unwrap(), None);
}

pub(crate) async fn the_latest_is_the_greatest_id_not_the_last_inserted(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    for number in [2, 3, 1] {
        checkpointer.put(&plain("latest", "", number, None)).await.unwrap();
    }
    let latest = checkpointer.get("latest", "", None).await.unwrap().unwrap();
    assert_eq!(latest.header.key.checkpoint_id, id(3));
    for odd in ["00000003:", "00000003%", "00000003\u{1}", "00000003a"] {
        let mut new = plain("latest", "", 0, None);
        new.key.checkpoint_id = odd.to_owned();
        checkpointer.put(&new).await.unwrap();
    }
    let listed = checkpointer.list(&of_thread("latest")).await.unwrap();
    let mut sorted = ids(&listed);
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(ids(&listed), sorted);
    assert_eq!(sorted.len(), 7);
}

pub(crate) async fn versions_keep_their_type(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    let versions =
        [Version::Int(1), Version::Float(1.0), Version::Text("1".into()), Version::Float(0.1 + 0.2)];
    let mut new = plain("versions", "", 1, None);
    for (at, version) in versions.iter().enumerate() {
        let value = Some(Payload::new("text", format!("{at}")));
        new.channel_versions.insert(format!("c{at}"), version.clone());
        new.new_values.push(ChannelValue { channel: "same".into(), version: version.clone(), value });
    }
    for (at, version) in versions.iter().enumerate() {
        let mut of =
            NewCheckpoint { new_values: new.new_values.clone(), ..plain("versions", "", at + 2, None) };
        of.channel_versions.insert("same".into(), version.clone());
        checkpointer.put(&of).await.unwrap();
        let found = checkpointer.get("versions", "", None).await.unwrap().unwrap();
        assert_eq!(found.channel_values["same"], Payload::new("text", format!("{at}")));
        assert_eq!(found.channel_versions["same"], *version);
    }
}

pub(crate) async fn a_value_is_written_once(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    let large = Payload::new("bytes", noise(3, 40_000));
    checkpointer.put(&plain("once", "", 1, None).with("c", 1, Some(large.clone()))).await.unwrap();
    let other = Payload::new("bytes", noise(4, 40_000));
    checkpointer.put(&plain("once", "", 2, Some(1)).with("c", 1, Some(other))).await.unwrap();
    // The third does not bring the value along.
    let third = NewCheckpoint {
        channel_versions: [("c".to_owned(), Version::Int(1))].into(),
        ..plain("once", "", 3, Some(2))
    };
    checkpointer.put(&third).await.unwrap();
    for number in 1..4 {
        let found = checkpointer.get("once", "", Some(&id(number))).await.unwrap().unwrap();
        assert_eq!(found.channel_values["c"], large);
    }
}

pub(crate) async fn advance_refuses_another_value_of_a_version(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    let large = Payload::new("bytes", noise(3, 40_000));
    let first = [
        ("large", Some(large.clone())),
        ("small", Some(Payload::new("bytes", "x"))),
        ("none", Some(Payload { kind: "null".into(), bytes: None })),
        ("empty", None),
    ];
    let new = |number: usize, values: &[(&str, Option<Payload>)]| {
        let parent = number.checked_sub(1);
        values.iter().fold(plain("fork", "", number, parent), |new, (channel, value)| {
            new.with(channel, 7, value.clone())
        })
    };
    checkpointer.advance(&new(0, &first), &[]).await.unwrap();
    checkpointer.advance(&new(1, &first), &[]).await.unwrap();
    let others = [
        ("large", Some(Payload::new("bytes", noise(4, 40_000)))),
        ("large", Some(Payload { kind: "text".into(), ..large.clone() })),
        ("small", Some(Payload::new("bytes", "y"))),
        ("small", None),
        ("none", Some(Payload::new("null", ""))),
        ("empty", Some(large)),
    ];
    for other in others {
        let refused = checkpointer.advance(&new(2, std::slice::from_ref(&other)), &[]).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        let (text, named) = (refused.to_string(), format!("Int(7) of the channel {:?}", other.0));
        assert!(
            text.contains(&named) && refused.hint().is_some_and(|hint| hint.contains("random")),
            "{text}"
        );
    }
    checkpointer.put(&new(2, &[("small", None)])).await.unwrap();
    let found = checkpointer.get("fork", "", None).await.unwrap().unwrap();
    assert_eq!(
        (found.header.key.checkpoint_id, &found.channel_values["small"]),
        (id(2), first[1].1.as_ref().unwrap())
    );
    checkpointer.advance(&new(3, &first).with("small", 8, None), &[]).await.unwrap();
}

pub(crate) async fn namespaces_and_threads_never_mix(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    let places = [
        ("mix", "a"),
        ("mix:a", ""),
        ("mix", "a:"),
        ("mix", "a|b"),
        ("mix%3Aa", ""),
        ("mix_", "a"),
        ("MIX", "a"),
    ];
    for (at, (thread_id, ns)) in places.iter().enumerate() {
        let text = format!("{at}");
        checkpointer
            .put(&plain(thread_id, ns, 1, None).with("c", 1, Some(Payload::new("text", text))))
            .await
            .unwrap();
        checkpointer
            .put_writes(thread_id, ns, &writes(1, "task", &[("c", &format!("w{at}"))]))
            .await
            .unwrap();
    }
    for (at, (thread_id, ns)) in places.iter().enumerate() {
        let found = checkpointer.get(thread_id, ns, None).await.unwrap().unwrap();
        assert_eq!(found.channel_values["c"], Payload::new("text", format!("{at}")));
        assert_eq!(found.pending_writes.len(), 1);
        assert_eq!(found.pending_writes[0].value, Payload::new("text", format!("w{at}")));
    }
    assert!(checkpointer.delete_thread("mix").await.unwrap());
    assert!(!checkpointer.delete_thread("mix").await.unwrap());
    for (thread_id, ns) in places {
        let there = checkpointer.get(thread_id, ns, None).await.unwrap().is_some();
        assert_eq!(there, thread_id != "mix", "{thread_id} {ns}");
    }
}

fn seen(writes: &[PendingWrite]) -> Vec<(String, i64, String)> {
    let text = |write: &PendingWrite| String::from_utf8(write.value.bytes.clone().unwrap().to_vec()).unwrap();
    writes.iter().map(|write| (write.channel.clone(), write.index, text(write))).collect()
}

pub(crate) async fn writes_keep_the_first_but_special_ones_the_last(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    checkpointer.put(&plain("first", "", 1, None)).await.unwrap();
    let specials = [("__error__", -1), ("__scheduled__", -2), ("__interrupt__", -3), ("__resume__", -4)];
    for round in ["one", "two"] {
        let mut all = vec![("a", round)];
        all.extend(specials.map(|(channel, _)| (channel, round)));
        all.push(("b", round));
        checkpointer.put_writes("first", "", &writes(1, "task", &all)).await.unwrap();
    }
    let found = checkpointer.get("first", "", None).await.unwrap().unwrap();
    let mut expected: Vec<_> = specials
        .iter()
        .rev()
        .map(|(channel, index)| ((*channel).to_owned(), *index, "two".to_owned()))
        .collect();
    expected.extend([("a".to_owned(), 0, "one".to_owned()), ("b".to_owned(), 5, "one".to_owned())]);
    assert_eq!(seen(&found.pending_writes), expected);
}

pub(crate) async fn writes_may_come_before_their_checkpoint(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    checkpointer.put_writes("early", "ns", &writes(1, "task", &[("a", "x")])).await.unwrap();
    assert_eq!(checkpointer.get("early", "ns", None).await.unwrap(), None);
    assert_eq!(checkpointer.list(&of_thread("early")).await.unwrap(), []);
    checkpointer.put(&plain("early", "ns", 1, None)).await.unwrap();
    checkpointer.put(&plain("early", "ns", 2, Some(1))).await.unwrap();
    let found = checkpointer.get("early", "ns", Some(&id(1))).await.unwrap().unwrap();
    assert_eq!(seen(&found.pending_writes), [("a".to_owned(), 0, "x".to_owned())]);
    assert_eq!(checkpointer.get("early", "ns", None).await.unwrap().unwrap().pending_writes, []);
}

pub(crate) async fn writes_are_ordered_by_path_task_and_index(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    checkpointer.put(&plain("order", "", 1, None)).await.unwrap();
    let mut many = vec![("c", "x"); 12];
    many.push(("__interrupt__", "x"));
    for (path, task) in [("b", "1"), ("a:b", "2"), ("a%", "9"), ("", "z"), ("a", "3"), ("a", "1:0")] {
        let mut task = writes(1, task, &many);
        task.task_path = path.to_owned();
        checkpointer.put_writes("order", "", &task).await.unwrap();
    }
    let found = checkpointer.get("order", "", None).await.unwrap().unwrap().pending_writes;
    let keys: Vec<_> = found.iter().map(|write| (&write.task_path, &write.task_id, write.index)).collect();
    let mut sorted = keys.clone();
    sorted.sort();
    assert_eq!(keys, sorted);
    assert_eq!(keys.len(), 6 * 13);
}

pub(crate) async fn a_list_is_bounded_filtered_and_the_newest_first(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    for number in 0..300 {
        let source = if number % 3 == 0 { "input" } else { "loop" };
        let metadata = format!(r#"{{"source":"{source}","step":{number},"score":{{"a":1.0}}}}"#);
        checkpointer.put(&plain("list", "", number, None).metadata(&metadata)).await.unwrap();
    }
    for ns in [Some(String::new()), None] {
        let list = ListCheckpoints { checkpoint_ns: ns, ..of_thread("list") };
        let numbers = async |list: ListCheckpoints| {
            let found = checkpointer.list(&list).await.unwrap();
            ids(&found).iter().map(|id| id.parse::<usize>().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(numbers(list.clone()).await, (0..300).rev().collect::<Vec<_>>());
        let before = ListCheckpoints { before: Some(id(7)), limit: Some(3), ..list.clone() };
        assert_eq!(numbers(before.clone()).await, [6, 5, 4]);
        let inputs = ListCheckpoints { filter: [("source".to_owned(), value!("input"))].into(), ..before };
        assert_eq!(numbers(inputs.clone()).await, [6, 3, 0]);
        let both = [("source".to_owned(), value!("input")), ("step".to_owned(), value!(3))];
        assert_eq!(numbers(ListCheckpoints { filter: both.into(), ..inputs.clone() }).await, [3]);
        let nested = [
            ("score".to_owned(), value!({"a": 1})),
            ("step".to_owned(), value!(299)),
            ("no".to_owned(), value!(null)),
        ];
        assert_eq!(numbers(ListCheckpoints { filter: nested.into(), ..list.clone() }).await, [299]);
        assert_eq!(
            numbers(ListCheckpoints { filter: [("step".to_owned(), value!("3"))].into(), ..list.clone() })
                .await,
            [0usize; 0]
        );
        assert_eq!(numbers(ListCheckpoints { limit: Some(0), ..list }).await, [0usize; 0]);
    }
}

pub(crate) async fn a_list_goes_over_namespaces_and_threads(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    for (thread_id, ns, number) in
        [("all-1", "", 1), ("all-2", "", 2), ("all-1", "b", 3), ("all-2", "a:b", 4), ("all-1", "", 5)]
    {
        checkpointer.put(&plain(thread_id, ns, number, None)).await.unwrap();
    }
    let of_one = checkpointer.list(&of_thread("all-1")).await.unwrap();
    assert_eq!(ids(&of_one), [id(5), id(3), id(1)]);
    let of_ns = ListCheckpoints { checkpoint_ns: Some(String::new()), ..of_thread("all-1") };
    assert_eq!(ids(&checkpointer.list(&of_ns).await.unwrap()), [id(5), id(1)]);
    let everywhere = checkpointer.list(&ListCheckpoints::default()).await.unwrap();
    let mine: Vec<_> =
        everywhere.into_iter().filter(|header| header.key.thread_id.starts_with("all-")).collect();
    assert_eq!(ids(&mine), [id(5), id(4), id(3), id(2), id(1)]);
}

pub(crate) async fn delta_history_follows_parents_to_the_nearest_value(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    let seed = Payload::new("snapshot", noise(5, 4_000));
    checkpointer
        .put(&plain("delta", "", 1, None).with("d", 1, Some(seed.clone())).with("e", 1, None))
        .await
        .unwrap();
    for (number, parent) in [(2, 1), (3, 2), (4, 2), (5, 4)] {
        checkpointer
            .put(&plain("delta", "", number, Some(parent)).with("d", number as i64, None))
            .await
            .unwrap();
    }
    for number in 1..6 {
        let text = format!("d{number}");
        let task = writes(number, "task", &[("d", &text), ("e", &text), ("d", "again")]);
        checkpointer.put_writes("delta", "", &task).await.unwrap();
    }
    // 3 is not on the path, and what was written on 5 itself is pending.
    let found = checkpointer.delta_history("delta", "", None, &["d", "e", "unknown"]).await.unwrap();
    assert_eq!(found["d"].seed, Some(seed));
    let texts: Vec<_> = seen(&found["d"].writes).into_iter().map(|(_, _, text)| text).collect();
    assert_eq!(texts, ["d1", "again", "d2", "again", "d4", "again"]);
    assert_eq!(found["e"].seed, None);
    assert_eq!(found["e"].writes.len(), 3);
    assert_eq!((found["unknown"].writes.len(), found.len()), (0, 3));
    let of_first = checkpointer.delta_history("delta", "", Some(&id(1)), &["d"]).await.unwrap();
    assert!(of_first["d"].writes.is_empty() && of_first["d"].seed.is_none());
}

pub(crate) async fn delta_history_ends_where_parents_form_a_circle(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    for (number, parent) in [(1, 3), (2, 1), (3, 2), (9, 3)] {
        checkpointer.put(&plain("circle", "", number, Some(parent))).await.unwrap();
        checkpointer.put_writes("circle", "", &writes(number, "task", &[("d", &id(number))])).await.unwrap();
    }
    let texts = async |of: Option<&str>| {
        let found = checkpointer.delta_history("circle", "", of, &["d"]).await.unwrap();
        seen(&found["d"].writes).into_iter().map(|(_, _, text)| text).collect::<Vec<_>>()
    };
    assert_eq!(texts(None).await, [id(1), id(2), id(3)]);
    assert_eq!(texts(Some(&id(2))).await, [id(3), id(1)]);
}

pub(crate) async fn what_is_no_checkpoint_is_refused(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    let mut nameless = plain("refused", "", 1, None);
    nameless.key.checkpoint_id = String::new();
    let mut infinite = plain("refused", "", 1, None);
    infinite.channel_versions.insert("c".into(), Version::Float(f64::NAN));
    let mut large = plain("refused", "", 1, None);
    large.channel_versions.insert("c".into(), serde_json::from_str("1180591620717411303424").unwrap());
    let list = plain("refused", "", 1, None).metadata("[]");
    for new in [nameless, infinite, large, list] {
        assert_eq!(checkpointer.put(&new).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let backwards = plain("refused", "", 1, Some(2));
    assert_eq!(checkpointer.advance(&backwards, &[]).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(checkpointer.thread("refused").await.unwrap(), None);
}

pub(crate) async fn general_checkpoints_are_listed_as_they_were_stored(storage: Storage) {
    let checkpoints = CheckpointStore::new(storage);
    assert_eq!(checkpoints.get_checkpoint("general", None).await.unwrap(), None);
    for number in (0..12).rev() {
        let data = json(&format!(r#"{{"number":{number},"text":"{}"}}"#, "message ".repeat(number * 300)));
        let metadata = json(&format!(r#"{{"n":{number}}}"#));
        checkpoints.store_checkpoint("general", &format!("cp:{number}"), data, metadata).await.unwrap();
    }
    checkpoints.store_checkpoint("general", "cp:9", json("\"new\""), json("{}")).await.unwrap();
    let latest = checkpoints.get_checkpoint("general", None).await.unwrap().unwrap();
    assert_eq!((latest.id.as_str(), latest.data), ("cp:9", Some(json("\"new\""))));
    let eleventh = checkpoints.get_checkpoint("general", Some("cp:11")).await.unwrap().unwrap();
    assert_eq!(eleventh.metadata, json(r#"{"n":11}"#));
    assert!(eleventh.data.unwrap().as_str().contains("message"));
    let listed = checkpoints.list_checkpoints("general", None).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|stored| stored.id.as_str()).collect();
    assert_eq!(listed, ["cp:9", "cp:0", "cp:1", "cp:2", "cp:3", "cp:4", "cp:5", "cp:6", "cp:7", "cp:8"]);
    assert_eq!(checkpoints.list_checkpoints("general", Some(2)).await.unwrap().len(), 2);
    assert!(checkpoints.delete_thread("general").await.unwrap());
    assert_eq!(checkpoints.get_checkpoint("general", Some("cp:1")).await.unwrap(), None);
}

pub(crate) async fn a_list_with_values_is_whole_and_goes_by_id(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    for (ns, number) in [("", 1), ("", 2), ("child:1", 2), ("", 3)] {
        let payload = Payload::new("bytes", noise(number as u64, 5_000));
        let new = plain("whole", ns, number, None).with("c", number as i64, Some(payload));
        let flags = [
            r#"{"done":true,"deep":[1,{"a":false}]}"#,
            r#"{"done":1,"deep":[true,{"a":0}]}"#,
            r#"{"done":2}"#,
        ];
        checkpointer.put(&new.metadata(flags[number - 1])).await.unwrap();
        checkpointer.put_writes("whole", ns, &writes(number, "task", &[("c", "x")])).await.unwrap();
    }
    let all = checkpointer.list_whole(&of_thread("whole")).await.unwrap();
    assert_eq!(all.len(), 4);
    for whole in &all {
        let key = &whole.header.key;
        let got = checkpointer.get("whole", &key.checkpoint_ns, Some(&key.checkpoint_id)).await.unwrap();
        assert!(got.as_ref() == Some(whole) && whole.pending_writes.len() == 1);
    }
    let listed = async |list: ListCheckpoints| {
        let found = checkpointer.list(&list).await.unwrap();
        found
            .into_iter()
            .map(|header| (header.key.checkpoint_ns, header.key.checkpoint_id))
            .collect::<Vec<_>>()
    };
    let by_id = |number| ListCheckpoints { checkpoint_id: Some(id(number)), ..of_thread("whole") };
    let mut twos = listed(by_id(2)).await;
    twos.sort();
    assert_eq!(twos, [(String::new(), id(2)), ("child:1".to_owned(), id(2))]);
    let root = ListCheckpoints { checkpoint_ns: Some(String::new()), ..by_id(2) };
    assert_eq!(listed(root.clone()).await, [(String::new(), id(2))]);
    assert!(listed(ListCheckpoints { before: Some(id(2)), ..root.clone() }).await.is_empty());
    assert_eq!(listed(ListCheckpoints { before: Some(id(3)), ..root }).await.len(), 1);
    assert!(
        listed(ListCheckpoints { checkpoint_id: Some("0".to_owned()), ..of_thread("whole") })
            .await
            .is_empty()
    );

    let one = |bools_are_numbers| ListCheckpoints {
        filter: [("done".to_owned(), 1.into()), ("deep".to_owned(), serde_json::json!([1, {"a": false}]))]
            .into(),
        bools_are_numbers,
        checkpoint_ns: Some(String::new()),
        ..of_thread("whole")
    };
    assert!(listed(one(false)).await.is_empty());
    assert_eq!(listed(one(true)).await.len(), 2, "true is 1 and false is 0, wherever they stand");
}

pub(crate) async fn threads_come_page_by_page(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    for number in 0..25 {
        checkpointer.put(&plain(&format!("paged-{number:02}"), "", 1, None)).await.unwrap();
    }
    checkpointer.delete_thread("paged-07").await.unwrap();
    let (mut found, mut after) = (std::collections::BTreeSet::new(), None);
    loop {
        let page = checkpointer.threads_page(after.as_ref(), 4).await.unwrap();
        found.extend(page.items.into_iter().map(|thread| thread.unwrap().thread_id));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    found.retain(|thread| thread.starts_with("paged-"));
    assert_eq!(found.len(), 24);
    assert!(checkpointer.threads_page(None, 0).await.is_err());
}
