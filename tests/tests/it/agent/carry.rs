//! Exports and imports: what one store holds another holds after them, and goes on from it.

use std::{io::Cursor, sync::Arc, time::Duration};

use futures::TryStreamExt;
use storage_agent::{
    AgentConfig, AgentStorage, ConversationLimits, Existing, ExportScope, Imported, MemoryTtl, MessageEdit,
    Metadata, NewMessage, Redaction, SearchMemories, SearchMessages, UserData,
    checkpoints::{
        ChannelValue, CheckpointConfig, CheckpointKey, INTERRUPT_CHANNEL, ListCheckpoints, NewCheckpoint,
        Payload, PruneStrategy, TaskWrites, Version,
    },
};
use storage_core::{Commit, ErrorKind, MemoryBackend, Operation, Partition, StorageExt};

use crate::stores::{Backend, json};

pub(super) const EVERYTHING: ExportScope = ExportScope::Everything { other_kinds: Vec::new() };
/// Ids that trip naive formats.
const ODD: [&str; 5] = ["s-1", "a:b%3A%", "é😀", "line\nbreak\t\u{7f}", "\u{1}\"quoted\\"];

pub(super) fn user(id: &str) -> ExportScope {
    ExportScope::User { id: id.to_owned(), data: UserData::of(id) }
}

/// A store in memory, connected.
pub(super) async fn memory() -> Backend {
    let storage: Backend = Arc::new(MemoryBackend::new());
    storage.connect().await.unwrap();
    storage
}

/// Agents' memory of 50 messages a conversation and threads in small steps.
pub(super) fn agent(storage: &Backend) -> AgentStorage {
    let config = AgentConfig {
        conversation_limits: ConversationLimits { max_messages: Some(50), ..ConversationLimits::default() },
        ..AgentConfig::default()
    };
    AgentStorage::with_config(storage.clone(), config).unwrap()
}

pub(super) async fn exported(agent: &AgentStorage, scope: &ExportScope) -> Vec<u8> {
    let mut lines = Vec::new();
    assert_eq!(agent.export(scope, &mut lines).await.unwrap().left_out, 0);
    lines
}

pub(super) async fn import(agent: &AgentStorage, lines: &[u8], existing: Existing) -> Imported {
    agent.import(Cursor::new(lines), existing).await.unwrap()
}

/// Equal, and where not, the first line that differs.
pub(super) fn same(left: &[u8], right: &[u8]) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (left, right) = (text(left), text(right));
    for (n, (one, other)) in left.lines().zip(right.lines()).enumerate() {
        assert!(one == other, "line {}:\n{:.400}\n{:.400}", n + 1, one, other);
    }
    assert_eq!(left.lines().count(), right.lines().count());
    assert!(left == right);
}

/// A step of a thread with a long list that grows, from its parent, and what a task wrote.
pub(super) async fn step(
    agent: &AgentStorage,
    thread: &str,
    ns: &str,
    id: u32,
    parent: Option<u32>,
    metadata: &str,
) {
    let name = |id: u32| format!("{id:04}");
    let list: Vec<u8> =
        (0..id * 20_000).flat_map(|n| (n.wrapping_mul(2_654_435_761)).to_be_bytes()).collect();
    let version = Version::Text(format!("{id}.r{id}"));
    let new = NewCheckpoint {
        key: CheckpointKey::new(thread, ns, name(id)),
        parent_id: parent.map(name),
        checkpoint: Payload::new("msgpack", vec![0x80, id as u8]),
        metadata: json(metadata),
        channel_versions: [("list".to_owned(), version.clone())].into(),
        new_values: vec![ChannelValue {
            channel: "list".to_owned(),
            version,
            value: Some(Payload::new("bytes", list)),
        }],
    };
    agent.checkpointer().put(&new).await.unwrap();
    let writes = TaskWrites {
        checkpoint_id: name(id),
        task_id: "task:1".to_owned(),
        task_path: "~a".to_owned(),
        writes: vec![
            (INTERRUPT_CHANNEL.to_owned(), Payload::new("json", r#"{"ask":"go on?"}"#)),
            ("out".to_owned(), Payload::new("bytes", vec![0, 255, 10])),
        ],
    };
    agent.checkpointer().put_writes(thread, ns, &writes).await.unwrap();
}

/// All that agents keep, of a user and of others.
pub(super) async fn fill(storage: &Backend) {
    let agent = agent(storage);
    for (n, id) in ODD.into_iter().enumerate() {
        agent.sessions().create_session(id, "ada", Metadata::new()).await.unwrap();
        for number in 0..3 {
            let metadata = serde_json::from_str(r#"{"z":1.50,"a":{"n":1e2},"big":1e17,"neg":-0.0}"#).unwrap();
            let say = agent.conversations().add_conversation_message(
                id,
                "user",
                format!("{number} {id}"),
                metadata,
            );
            say.await.unwrap();
        }
        agent
            .tasks()
            .store_task_context(Some(id), "plan:1", json(r#"{"b":[1.0,2],"a":null}"#))
            .await
            .unwrap();
        agent.checkpoints().store_checkpoint(id, "c:1", json(r#"{"n":1}"#), json("{}")).await.unwrap();
        step(&agent, id, "", 1 + n as u32 % 2, None, r#"{"step":-1,"source":"input"}"#).await;
        let key = if n == 0 { "k".repeat(900) } else { id.to_owned() };
        let ttl = if n == 1 { MemoryTtl::After(Duration::from_secs(86_400)) } else { MemoryTtl::Never };
        agent
            .memories()
            .put(&["users", "ada", "facts"], &key, json(r#"{"likes":"tea","n":2.50}"#), ttl)
            .await
            .unwrap();
    }
    agent.sessions().create_session("o-1", "otto", Metadata::new()).await.unwrap();
    agent
        .memories()
        .put(&["users", "otto"], "tea", json(r#"{"likes":"coffee"}"#), MemoryTtl::Never)
        .await
        .unwrap();
    agent.tasks().store_task_context(None, "of nobody", json("1")).await.unwrap();
    // Its beginning was trimmed, and a summary took the place of some.
    let conversations = agent.conversations();
    for number in 0..6 {
        let batch = (0..20).map(|n| {
            NewMessage::new("user", json(&format!("[{number},{n}]"))).with_id(format!("{number} {n}"))
        });
        conversations.add_conversation_messages("o-1", batch.collect()).await.unwrap();
    }
    let history = conversations.get_conversation_history("o-1", 50).await.unwrap();
    let summary = NewMessage::new("system", "they spoke");
    conversations.replace_with_summary("o-1", &history[3], &history[9], summary).await.unwrap();
    threads_and_entries(storage, &agent).await;
}

/// A thread with a fork, a subgraph, and long names; one of the other kind; and entries.
async fn threads_and_entries(storage: &Backend, agent: &AgentStorage) {
    let thread = &"long thread ".repeat(100);
    for (id, parent) in [(1, None), (2, Some(1)), (3, Some(2)), (4, Some(2)), (5, Some(4))] {
        step(agent, thread, "", id, parent, r#"{"user_id":"ada","step":1.0,"é":"\u0001"}"#).await;
    }
    step(agent, thread, "graph:1|inner:2", 6, None, "{}").await;
    agent.checkpointer().claim(thread).await.unwrap();
    for n in 0..5 {
        let data = format!(r#"{{"long":"{}","n":{n}}}"#, "x".repeat(300_000));
        agent
            .checkpoints()
            .store_checkpoint("plain", &format!("c-{n}"), json(&data), json(r#"{"user_id":7}"#))
            .await
            .unwrap();
    }
    storage.set("deal:1", json(r#"{"cpm":15.0,"n":1E5,"a":"\u00e9\/"}"#), None).await.unwrap();
    storage.set("quote:1", json("18446744073709551615"), Some(Duration::from_secs(7_200))).await.unwrap();
    storage.set("*[a-z]?\n", json("null"), None).await.unwrap();
}

/// From memory to this store, from there to memory and back again: each time the same bytes.
pub(crate) async fn everything_comes_back_equal(storage: Backend) {
    let first = memory().await;
    fill(&first).await;
    let lines = exported(&agent(&first), &EVERYTHING).await;
    let here = agent(&storage);
    let imported = import(&here, &lines, Existing::Refuse).await;
    assert_eq!((imported.entries, imported.memories, imported.unchanged), (9, 6, 0));
    same(&lines, &exported(&here, &EVERYTHING).await);
    let there = agent(&memory().await);
    import(&there, &exported(&here, &EVERYTHING).await, Existing::Refuse).await;
    same(&lines, &exported(&there, &EVERYTHING).await);
    let again = import(&here, &lines, Existing::Refuse).await;
    assert_eq!(again.unchanged, imported.entries + imported.partitions + imported.memories);
    assert_eq!(again.entries + again.partitions + again.memories + again.skipped + again.expired, 0);
    same(&lines, &exported(&here, &EVERYTHING).await);
}

/// What this store wrote itself, with its own spellings, is exported to memory and back.
pub(crate) async fn what_the_store_wrote_comes_back_equal(storage: Backend) {
    fill(&storage).await;
    let lines = exported(&agent(&storage), &EVERYTHING).await;
    let there = agent(&memory().await);
    import(&there, &lines, Existing::Refuse).await;
    same(&lines, &exported(&there, &EVERYTHING).await);
    let replaced = import(&agent(&storage), &lines, Existing::Replace).await;
    assert_eq!((replaced.partitions, replaced.skipped), (0, 0), "what is equal stays");
    same(&lines, &exported(&agent(&storage), &EVERYTHING).await);
}

/// A user is carried without others, is found by all calls, goes on, and is deleted whole.
pub(crate) async fn a_user_goes_on_where_the_user_was(storage: Backend) {
    let first = memory().await;
    fill(&first).await;
    let (source, here) = (agent(&first), agent(&storage));
    here.memories().put(&["users", "otto"], "mine", json("{}"), MemoryTtl::Never).await.unwrap();
    let lines = exported(&source, &user("ada")).await;
    import(&here, &lines, Existing::Refuse).await;
    same(&lines, &exported(&here, &user("ada")).await);
    let filter = storage_agent::SessionFilter { user_id: Some("ada".to_owned()), ..Default::default() };
    assert_eq!(here.sessions().list_sessions(&filter).await.unwrap().sessions.len(), ODD.len());
    for id in ODD {
        let (was, is) = (source.conversations(), here.conversations());
        let (was, is) = (
            was.get_conversation_history(id, 50).await.unwrap(),
            is.get_conversation_history(id, 50).await.unwrap(),
        );
        let said = |page: &storage_agent::ConversationPage| {
            page.iter()
                .map(|m| (m.sequence, m.content.clone(), m.created_at, m.metadata.len()))
                .collect::<Vec<_>>()
        };
        assert_eq!(said(&was), said(&is));
        let was = source.tasks().get_task_context(Some(id), "plan:1").await.unwrap();
        assert_eq!(here.tasks().get_task_context(Some(id), "plan:1").await.unwrap(), was);
        let next =
            here.conversations().add_conversation_message(id, "user", "on", Metadata::new()).await.unwrap();
        assert_eq!(next, 4);
    }
    let looking = here.memories().clone().with_refresh_on_read(false);
    let was = source.memories().clone().with_refresh_on_read(false);
    for key in [&"k".repeat(900), ODD[1], ODD[3]] {
        let (was, mut is) = (
            was.get(&["users", "ada", "facts"], key).await.unwrap().unwrap(),
            looking.get(&["users", "ada", "facts"], key).await.unwrap().unwrap(),
        );
        let apart = |left: std::time::SystemTime, right| {
            left.duration_since(right).unwrap_or_else(|error| error.duration())
        };
        if let (Some(left), Some(right)) = (was.expires_at, is.expires_at) {
            assert!(apart(left, right) <= Duration::from_secs(1), "{left:?} {right:?}");
            is.expires_at = Some(left);
        }
        assert_eq!(was, is);
    }
    here.delete_user("ada", &UserData::of("ada")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let empty = exported(&here, &user("ada")).await;
    assert_eq!(empty.iter().filter(|byte| **byte == b'\n').count(), 2, "{}", String::from_utf8_lossy(&empty));
    assert_eq!(
        exported(&here, &EVERYTHING).await.iter().filter(|byte| **byte == b'\n').count(),
        3,
        "otto's memory is left"
    );
}

/// A conversation whose beginning was trimmed goes on with its numbers; a thread is stepped on, forked, listed and pruned.
pub(crate) async fn numbers_and_threads_go_on(storage: Backend) {
    let first = memory().await;
    fill(&first).await;
    let (source, here) = (agent(&first), agent(&storage));
    let thread = &"long thread ".repeat(100);
    import(&here, &exported(&source, &ExportScope::Session("o-1".into())).await, Existing::Refuse).await;
    let lines = exported(&source, &ExportScope::Thread(thread.clone())).await;
    import(&here, &lines, Existing::Refuse).await;
    same(&lines, &exported(&here, &ExportScope::Thread(thread.clone())).await);

    let history = here.conversations().get_conversation_history("o-1", 50).await.unwrap();
    assert_eq!(history.iter().map(|message| message.sequence).next(), Some(71));
    assert_eq!(history.len(), 50 - 6);
    let next =
        here.conversations().add_conversation_message("o-1", "user", "on", Metadata::new()).await.unwrap();
    assert_eq!(next, 121);

    let checkpointer = here.checkpointer();
    let all = ListCheckpoints { thread_id: Some(thread.clone()), ..ListCheckpoints::default() };
    let (was, is) =
        (source.checkpointer().list_whole(&all).await.unwrap(), checkpointer.list_whole(&all).await.unwrap());
    assert_eq!(was.len(), 6);
    for (was, is) in was.into_iter().zip(is) {
        assert_eq!(
            (&was.header.key, &was.header.parent_id, &was.header.metadata),
            (&is.header.key, &is.header.parent_id, &is.header.metadata)
        );
        assert_eq!(
            (&was.checkpoint, &was.channel_values, &was.pending_writes),
            (&is.checkpoint, &is.channel_values, &is.pending_writes)
        );
    }
    // From a leaf, and from the middle: a fork.
    for (id, parent) in [(7, 5), (8, 3)] {
        step(&here, thread, "", id, Some(parent), "{}").await;
    }
    assert!(checkpointer.copy_thread(thread, "copy").await.unwrap());
    let pruned = checkpointer.prune(&[thread], PruneStrategy::KeepLatest).await.unwrap();
    assert!(!pruned[0].checkpoints.is_empty());
    for thread in [thread, "copy"] {
        let latest = checkpointer.get(thread, "", None).await.unwrap().unwrap();
        assert_eq!(latest.header.key.checkpoint_id, "0008");
        assert_eq!(latest.channel_values.len(), 1);
    }
    assert!(here.checkpointer().threads(10).await.unwrap().iter().any(|info| info.thread_id == *thread));
}

/// What is there and differs is refused before anything is written, stays, or is replaced, as the caller says.
pub(crate) async fn what_is_there_is_refused_left_or_replaced(storage: Backend) {
    let first = memory().await;
    fill(&first).await;
    let (source, here) = (agent(&first), agent(&storage));
    let lines = exported(&source, &user("ada")).await;
    let namespace = ["users", "ada", "facts"];
    here.conversations().add_conversation_message("s-1", "user", "mine", Metadata::new()).await.unwrap();
    let before = exported(&here, &EVERYTHING).await;
    let refused = here.import(Cursor::new(&lines), Existing::Refuse).await.unwrap_err();
    assert_eq!((refused.kind(), refused.key()), (ErrorKind::Conflict, Some("conversation:s-1")));
    same(&before, &exported(&here, &EVERYTHING).await);
    here.conversations().delete_conversation("s-1").await.unwrap();

    here.memories().put(&namespace, ODD[2], json(r#"{"mine":1}"#), MemoryTtl::Never).await.unwrap();
    let refused = here.import(Cursor::new(&lines), Existing::Refuse).await.unwrap_err();
    assert_eq!((refused.kind(), refused.key()), (ErrorKind::Conflict, Some("users/ada/facts")));
    here.sessions().create_session("s-1", "ada", Metadata::new()).await.unwrap();
    let refused = here.import(Cursor::new(&lines), Existing::Refuse).await.unwrap_err();
    assert_eq!((refused.kind(), refused.key()), (ErrorKind::Conflict, Some("session:s-1")));
    for number in 0..9 {
        here.conversations()
            .add_conversation_message("s-1", "user", format!("{number}"), Metadata::new())
            .await
            .unwrap();
    }

    let skipped = import(&here, &lines, Existing::Skip).await;
    assert_eq!((skipped.skipped, skipped.entries, skipped.memories), (3, 4, 4));
    assert_eq!(here.conversations().get_conversation_history("s-1", 50).await.unwrap().len(), 9);
    let mine = here.memories().get(&namespace, ODD[2]).await.unwrap().unwrap();
    assert_eq!(mine.value, json(r#"{"mine":1}"#));

    let replaced = import(&here, &lines, Existing::Replace).await;
    assert_eq!((replaced.partitions, replaced.memories, replaced.skipped), (1, 1, 0));
    same(&lines, &exported(&here, &user("ada")).await);
    let next =
        here.conversations().add_conversation_message("s-1", "user", "on", Metadata::new()).await.unwrap();
    assert_eq!(next, 4, "its numbers are those of the export");
}

/// An import that ends midway, wherever, is finished by the next.
pub(crate) async fn an_import_that_died_is_finished_by_the_next(storage: Backend) {
    let first = memory().await;
    let source = AgentStorage::new(first.clone()).unwrap();
    for page in 0..6 {
        let batch = (0..1_000).map(|n| NewMessage::new("user", format!("{page} {n}"))).collect();
        source.conversations().add_conversation_messages("long", batch).await.unwrap();
    }
    let small = CheckpointConfig { zstd_level: None, ..CheckpointConfig::default() };
    let threads = AgentStorage::with_config(
        first.clone(),
        AgentConfig { checkpoints: small, ..AgentConfig::default() },
    )
    .unwrap();
    for id in 1..30 {
        step(&threads, "thread", "", id, None, "{}").await;
    }
    let lines = exported(&source, &EVERYTHING).await;
    let here = AgentStorage::new(storage.clone()).unwrap();
    let (mut patience, mut died) = (Duration::from_millis(5), 0);
    let imported = loop {
        let import = here.import(Cursor::new(&lines), Existing::Refuse);
        match tokio::time::timeout(patience, import).await {
            Ok(imported) => break imported.unwrap(),
            Err(_) => died += 1,
        }
        // Nobody takes a part of a thread for the whole.
        let latest = here.checkpointer().get("thread", "", None).await.unwrap();
        assert!(latest.is_none_or(|latest| latest.header.key.checkpoint_id == "0029"));
        patience += patience / 3;
    };
    assert!(died > 0 && imported.partitions + imported.unchanged == 2, "{died} {imported:?}");
    same(&lines, &exported(&here, &EVERYTHING).await);
    let (conversation, thread) =
        (Partition::new("conversation", &["long"]).unwrap(), Partition::new("thread", &["thread"]).unwrap());
    for partition in [conversation, thread] {
        assert_eq!(
            storage.collections().unwrap().partition(&partition).await.unwrap().unwrap().expires_at,
            None
        );
    }
}

/// What others write while it is exported is there or not, and each partition is one state.
pub(crate) async fn an_export_beside_a_writer_is_sound(storage: Backend) {
    let agent = AgentStorage::new(storage.clone()).unwrap();
    let batch =
        |from: u64| (from..from + 500).map(|n| NewMessage::new("user", n.to_string())).collect::<Vec<_>>();
    for page in 0..4 {
        agent.conversations().add_conversation_messages("s", batch(page * 500)).await.unwrap();
    }
    let writer = agent.clone();
    let writes = tokio::spawn(async move {
        for n in 2_000..2_040 {
            writer
                .conversations()
                .add_conversation_message("s", "user", n.to_string(), Metadata::new())
                .await
                .unwrap();
        }
    });
    let mut lines = Vec::new();
    let answer = loop {
        lines.clear();
        match agent.export(&EVERYTHING, &mut lines).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            answer => break answer.unwrap(),
        }
    };
    writes.await.unwrap();
    let there = AgentStorage::new(memory().await).unwrap();
    let imported = import(&there, &lines, Existing::Refuse).await;
    assert_eq!((imported.items, imported.partitions), (answer.items, 1));
    let read = there.conversations().get_conversation_history("s", 10_000).await.unwrap();
    assert!(read.len() >= 2_000);
    for (n, message) in read.iter().enumerate() {
        assert_eq!((message.sequence, message.content.as_text()), (n as u64 + 1, Some(&*n.to_string())));
    }
}

/// What has expired is not exported, and what has expired since is not imported.
pub(crate) async fn what_has_expired_is_not_carried(storage: Backend) {
    let agent = agent(&storage);
    let short = Duration::from_millis(2_500);
    storage.set("short", json("1"), Some(short)).await.unwrap();
    storage.set("long", json("1"), None).await.unwrap();
    agent.memories().put(&["m"], "short", json("{}"), MemoryTtl::After(short)).await.unwrap();
    let partition = Partition::new("conversation", &["short"]).unwrap();
    let expiring = Commit::new(partition)
        .with(Operation::append("", json(r#"{"role":"user"}"#), "hello"))
        .expire(storage_core::Expire::After(short));
    storage.collections().unwrap().commit(expiring).await.unwrap();
    let before = exported(&agent, &EVERYTHING).await;
    // An export names the second, rounded up.
    tokio::time::sleep(short + Duration::from_millis(1_000)).await;
    let after = exported(&agent, &EVERYTHING).await;
    let count = |lines: &[u8]| lines.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!((count(&before), count(&after)), (7, 3));
    let there = memory().await;
    let imported = import(&self::agent(&there), &before, Existing::Refuse).await;
    assert_eq!((imported.entries, imported.expired, imported.partitions), (1, 3, 0));
    assert_eq!(there.keys("*").await.unwrap(), ["long"]);
    for kind in ["conversation", "memory", "memory_lease"] {
        let left: Vec<_> = there.partitions(kind, &[]).try_collect().await.unwrap();
        assert!(left.is_empty(), "{kind}");
    }
}

/// As large as they may be: metadata of a checkpoint, a message, a memory, an entry; and bodies that are no text.
pub(crate) async fn the_largest_values_travel(storage: Backend) {
    let first = memory().await;
    let source = AgentStorage::new(first.clone()).unwrap();
    let most = 16 * 1024 * 1024;
    let random = |n: usize| format!("{:08x}", (n as u32).wrapping_mul(2_654_435_761));
    let long: String = (0..most / 8 - 2).map(random).collect();
    step(&source, "thread", "", 1, None, &format!(r#"{{"prompt":"{}"}}"#, &long[..most - 64])).await;
    source
        .conversations()
        .add_conversation_message("s", "user", "\"".repeat(most), Metadata::new())
        .await
        .unwrap();
    first.set("entry", json(&format!("\"{}\"", &long[..most / 4])), None).await.unwrap();
    let partition = Partition::new("task", &["", "bytes"]).unwrap();
    let bytes: Vec<u8> = (0..most / 4).map(|n| (n % 251) as u8).collect();
    first
        .collections()
        .unwrap()
        .commit(Commit::new(partition).with(Operation::append("", json("{}"), bytes)))
        .await
        .unwrap();
    let lines = exported(&source, &EVERYTHING).await;
    let here = AgentStorage::new(storage.clone()).unwrap();
    import(&here, &lines, Existing::Refuse).await;
    assert!(lines == exported(&here, &EVERYTHING).await);
}

/// Messages are found by what they say, and not written again by their ids, also one that was edited or redacted.
pub(crate) async fn what_was_imported_is_found_and_known_by_its_ids(storage: Backend) {
    let (source, here) = (agent(&memory().await), agent(&storage));
    let said = |n: u8| NewMessage::new("user", format!("message number{n}")).with_id(format!("id-{n}"));
    let conversations = source.conversations();
    conversations.add_conversation_messages("s", (1..=4).map(said).collect()).await.unwrap();
    let all = conversations.get_conversation_history("s", 10).await.unwrap().messages;
    let edit = MessageEdit { content: Some("edited tea".into()), ..MessageEdit::default() };
    conversations.edit_message("s", &all[1], edit).await.unwrap();
    conversations.redact_message("s", &all[2], Redaction::default()).await.unwrap();
    source.memories().put(&["ada"], "tea", json(r#"{"fact": "green tea"}"#), MemoryTtl::Never).await.unwrap();
    let lines = exported(&source, &EVERYTHING).await;
    import(&here, &lines, Existing::Refuse).await;
    same(&lines, &exported(&here, &EVERYTHING).await);

    let numbers =
        here.conversations().add_conversation_messages("s", (1..=4).map(said).collect()).await.unwrap();
    assert_eq!(numbers, [1, 2, 3, 4], "they are there");
    let found = async |query: &str| {
        let search = SearchMessages { sessions: vec!["s".to_owned()], ..SearchMessages::new(query) };
        let hits = here.conversations().search_messages(&search).await.unwrap().all().unwrap();
        let mut numbers: Vec<u64> = hits.into_iter().map(|hit| hit.message.sequence).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(found("message").await, [1, 4]);
    assert_eq!(found("tea OR number3").await, [2]);
    let memories = here.memories().find(&["ada"], "green", &SearchMemories::default()).await.unwrap();
    assert_eq!(memories.len(), 1);
}
