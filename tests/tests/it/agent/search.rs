//! Full-text search over messages and memories.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use storage_agent::{
    AgentStorage, Content, ConversationLimits, ConversationStore, MemoryStore, MemoryTtl, MessageEdit,
    NewMessage, Redaction, SearchMemories, SearchMessages,
};
use storage_core::ErrorKind;
use tokio::{task::JoinSet, time::sleep};

use crate::stores::{Backend, json as raw};

fn is_indexed(storage: &Backend) -> bool {
    storage.collections().unwrap().searches("conversation")
}

async fn say(
    conversations: &ConversationStore,
    session: &str,
    role: &str,
    content: impl Into<Content>,
) -> u64 {
    let message = NewMessage::new(role, content);
    conversations.add_conversation_messages(session, vec![message]).await.unwrap()[0]
}

fn places(hits: impl IntoIterator<Item = storage_agent::MessageHit>) -> Vec<String> {
    let mut places: Vec<String> =
        hits.into_iter().map(|hit| format!("{} {}", hit.session_id, hit.message.sequence)).collect();
    places.sort();
    places
}

async fn found(conversations: &ConversationStore, search: &SearchMessages) -> Vec<String> {
    places(conversations.search_messages(search).await.unwrap().all().unwrap())
}

async fn within(conversations: &ConversationStore, session: &str, query: &str) -> Vec<String> {
    let sessions = vec![session.to_owned()];
    found(conversations, &SearchMessages { sessions, limit: 100, ..SearchMessages::new(query) }).await
}

pub(crate) async fn messages_are_found_in_one_session_on_every_store(storage: Backend) {
    let conversations = ConversationStore::new(storage).unwrap();
    say(&conversations, "s:1", "user", "My budget is 5,000 euros").await;
    say(&conversations, "s:1", "assistant", "Noted: a BUDGET of 5,000 for green tea").await;
    let blocks =
        raw(r#"[{"type":"text","text":"Über grünen Tee"},{"type":"image","source":{"data":"budget"}}]"#);
    say(&conversations, "s:1", "tool", blocks).await;
    say(&conversations, "s", "user", "another budget").await;
    say(&conversations, "s:1", "user", format!("{} budget at last", "word ".repeat(15_000))).await;
    for (query, expected) in [
        ("budget", &["s:1 1", "s:1 2", "s:1 4"][..]),
        ("\"green tea\"", &["s:1 2"]),
        ("uber grunen", &["s:1 3"]),
        ("bud* -noted", &["s:1 1", "s:1 4"]),
        ("tea OR euros", &["s:1 1", "s:1 2"]),
        ("5,000", &["s:1 1", "s:1 2"]),
        ("image OR another", &[]),
    ] {
        assert_eq!(within(&conversations, "s:1", query).await, expected, "{query}");
    }
    let sessions = vec!["s:1".to_owned()];
    let by = |roles: &[&str]| SearchMessages {
        sessions: sessions.clone(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        ..SearchMessages::new("budget")
    };
    assert_eq!(found(&conversations, &by(&["assistant"])).await, ["s:1 2"]);
    assert_eq!(found(&conversations, &by(&["assistant", "user"])).await, ["s:1 1", "s:1 2", "s:1 4"]);
    assert_eq!(found(&conversations, &by(&["system"])).await, [""; 0]);
    let hits = conversations.search_messages(&by(&["user"])).await.unwrap().all().unwrap();
    let long = hits.iter().find(|hit| hit.message.sequence == 4).unwrap();
    assert!(long.snippet.text.ends_with("budget at last"), "{}", long.snippet.text);
    assert_eq!(&long.snippet.text[long.snippet.matches[0].clone()], "budget");
    assert!(long.message.content.as_text().unwrap().len() > 70_000, "the message is whole");
    for wrong in [
        SearchMessages::new("?"),
        SearchMessages { limit: 0, ..by(&[]) },
        SearchMessages { offset: 9_001, ..by(&[]) },
    ] {
        assert_eq!(conversations.search_messages(&wrong).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

pub(crate) async fn messages_are_found_over_sessions_where_there_is_an_index(storage: Backend) {
    let agent = AgentStorage::new(storage.clone()).unwrap();
    let conversations = agent.conversations();
    for (id, user) in [("a", "ada"), ("b", "ada"), ("c", "bob")] {
        agent.sessions().create_session(id, user, storage_agent::Metadata::new()).await.unwrap();
        say(conversations, id, "user", format!("hello from {user}")).await;
    }
    say(conversations, "nobody", "user", "hello from nobody").await;
    let everywhere = SearchMessages::new("hello");
    if !is_indexed(&storage) {
        let error = conversations.search_messages(&everywhere).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.hint().is_some(), "{error}");
        let bobs = SearchMessages { user_id: Some("bob".into()), ..everywhere };
        assert_eq!(found(conversations, &bobs).await, ["c 1"], "one session is read through");
        return;
    }
    assert_eq!(found(conversations, &everywhere).await, ["a 1", "b 1", "c 1", "nobody 1"]);
    let of = |user: &str, sessions: &[&str]| SearchMessages {
        user_id: Some(user.to_owned()),
        sessions: sessions.iter().map(|id| (*id).to_owned()).collect(),
        ..SearchMessages::new("hello")
    };
    assert_eq!(found(conversations, &of("ada", &[])).await, ["a 1", "b 1"]);
    assert_eq!(found(conversations, &of("ada", &["b", "c"])).await, ["b 1"]);
    assert_eq!(found(conversations, &of("eve", &[])).await, [""; 0]);
    let two = SearchMessages {
        sessions: vec!["c".into(), "nobody".into(), "absent".into()],
        ..SearchMessages::new("hello")
    };
    assert_eq!(found(conversations, &two).await, ["c 1", "nobody 1"]);
    sleep(Duration::from_millis(5)).await;
    say(conversations, "a", "user", "hello again").await;
    let latest = conversations.get_conversation_history("a", 1).await.unwrap()[0].created_at;
    let since = SearchMessages { since: Some(latest), ..SearchMessages::new("hello") };
    assert_eq!(found(conversations, &since).await, ["a 2"]);
    let until = SearchMessages { until: Some(latest), ..SearchMessages::new("hello") };
    assert_eq!(found(conversations, &until).await, ["a 1", "b 1", "c 1", "nobody 1"]);
    // A copy is as old as its original.
    conversations.fork_conversation("a", "copy").await.unwrap();
    assert_eq!(found(conversations, &until).await, ["a 1", "b 1", "c 1", "copy 1", "nobody 1"]);
    agent.delete_session("copy").await.unwrap();
    agent.delete_user("ada", &storage_agent::UserData::of("ada")).await.unwrap();
    assert_eq!(found(conversations, &everywhere).await, ["c 1", "nobody 1"]);
}

pub(crate) async fn what_a_message_says_no_longer_is_not_found(storage: Backend) {
    let conversations = ConversationStore::new(storage).unwrap();
    for n in 1..=6 {
        say(&conversations, "s", "user", format!("secret number{n}")).await;
    }
    let all = conversations.get_conversation_history("s", 10).await.unwrap().messages;
    let edit = MessageEdit { content: Some("open word".into()), ..MessageEdit::default() };
    conversations.edit_message("s", &all[0], edit).await.unwrap();
    conversations.redact_message("s", &all[1], Redaction::default()).await.unwrap();
    let summary = NewMessage::new("system", "a summary");
    conversations.replace_with_summary("s", &all[2], &all[3], summary).await.unwrap();
    assert_eq!(within(&conversations, "s", "secret").await, ["s 5", "s 6"]);
    assert_eq!(within(&conversations, "s", "number1 OR number2 OR number3 OR number4").await, [""; 0]);
    assert_eq!(within(&conversations, "s", "summary OR open").await, ["s 1", "s 4"]);
    let limits = ConversationLimits { max_messages: Some(1), ..ConversationLimits::default() };
    say(&conversations.clone().with_limits(limits), "s", "user", "secret of the last").await;
    assert_eq!(within(&conversations, "s", "secret OR summary OR open").await, ["s 7"]);
    conversations.delete_conversation("s").await.unwrap();
    assert_eq!(within(&conversations, "s", "secret").await, [""; 0]);
}

pub(crate) async fn what_was_acknowledged_is_found_at_once_beside_16_writers(storage: Backend) {
    let mut writers = JoinSet::new();
    for writer in 0..16 {
        let conversations = ConversationStore::new(storage.clone()).unwrap();
        writers.spawn(async move {
            let session = format!("s-{}", writer % 4);
            for n in 0..8 {
                let word = format!("w{writer}x{n}");
                let number = say(&conversations, &session, "user", format!("said {word} at last")).await;
                assert_eq!(within(&conversations, &session, &word).await, [format!("{session} {number}")]);
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    let conversations = ConversationStore::new(storage).unwrap();
    for session in ["s-0", "s-1", "s-2", "s-3"] {
        assert_eq!(within(&conversations, session, "said \"at last\"").await.len(), 32);
    }
}

pub(crate) async fn pages_of_hits_neither_overlap_nor_miss(storage: Backend) {
    let conversations = ConversationStore::new(storage).unwrap();
    let said = (0..230)
        .map(|n| NewMessage::new(if n % 2 == 0 { "user" } else { "tool" }, format!("row {n} of many")));
    conversations.add_conversation_messages("s", said.collect()).await.unwrap();
    let mut pages = Vec::new();
    for offset in (0..120).step_by(40) {
        let sessions = vec!["s".to_owned()];
        let roles = vec!["user".to_owned()];
        let page = SearchMessages { sessions, roles, offset, limit: 40, ..SearchMessages::new("many") };
        pages.push(found(&conversations, &page).await);
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [40, 40, 35]);
    assert_eq!(pages.concat().into_iter().collect::<BTreeSet<_>>().len(), 115);
}

async fn keys(memories: &MemoryStore, prefix: &[&str], query: &str, search: &SearchMemories) -> Vec<String> {
    let hits = memories.find(prefix, query, search).await.unwrap().all().unwrap();
    let mut keys: Vec<String> = hits
        .into_iter()
        .map(|hit| format!("{}/{}", hit.memory.namespace.join("/"), hit.memory.key))
        .collect();
    keys.sort();
    keys
}

pub(crate) async fn memories_are_found_by_their_strings(storage: Backend) {
    let memories = MemoryStore::new(storage.clone()).unwrap();
    let put = async |namespace: &[&str], key: &str, value: serde_json::Value, ttl: MemoryTtl| {
        memories.put(namespace, key, raw(&value.to_string()), ttl).await.unwrap();
    };
    let never = MemoryTtl::Never;
    put(&["users", "ada"], "tea", json!({"fact": "likes Green Tea", "weight": 3}), never).await;
    put(
        &["users", "ada", "work"],
        "job",
        json!({"facts": ["buys ads", {"note": "green accounts"}], "weight": 1}),
        never,
    )
    .await;
    put(&["users", "bob"], "tea", json!({"fact": "hates green tea"}), never).await;
    put(&["users", "adaptable"], "tea", json!({"fact": "green"}), never).await;
    put(
        &["users", "ada"],
        "brief",
        json!({"fact": "green for a moment"}),
        MemoryTtl::After(Duration::from_millis(600)),
    )
    .await;
    let plain = SearchMemories::default();
    let ada: &[&str] = &["users", "ada"];
    assert_eq!(
        keys(&memories, ada, "green", &plain).await,
        ["users/ada/brief", "users/ada/tea", "users/ada/work/job"]
    );
    assert_eq!(keys(&memories, ada, "\"green tea\"", &plain).await, ["users/ada/tea"]);
    assert_eq!(keys(&memories, &["users"], "tea", &plain).await, ["users/ada/tea", "users/bob/tea"]);
    assert_eq!(keys(&memories, &["users", "ada", "work"], "gre*", &plain).await, ["users/ada/work/job"]);
    let heavy =
        SearchMemories { filter: Some(raw(r#"{"weight": {"$gte": 2}}"#)), ..SearchMemories::default() };
    assert_eq!(keys(&memories, ada, "green", &heavy).await, ["users/ada/tea"]);
    assert_eq!(
        keys(&memories, ada, "fact OR weight OR likes", &plain).await,
        ["users/ada/tea"],
        "members' names are no text"
    );
    let hits = memories.find(ada, "tea", &plain).await.unwrap().all().unwrap();
    assert_eq!(hits[0].snippet.text, "likes Green Tea\n");
    if is_indexed(&storage) {
        assert_eq!(keys(&memories, &[], "tea", &plain).await, ["users/ada/tea", "users/bob/tea"]);
    } else {
        let error = memories.find(&[], "tea", &plain).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
    sleep(Duration::from_millis(650)).await;
    put(ada, "tea", json!({"fact": "likes coffee now"}), never).await;
    memories.delete(&["users", "ada", "work"], "job").await.unwrap();
    assert_eq!(keys(&memories, ada, "green OR tea", &plain).await, [""; 0]);
    assert_eq!(keys(&memories, ada, "coffee", &plain).await, ["users/ada/tea"]);
    for (prefix, query) in [(&["a", ""][..], "tea"), (ada, ""), (ada, "-tea")] {
        assert_eq!(memories.find(prefix, query, &plain).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

pub(crate) async fn memories_below_long_namespaces_are_found(storage: Backend) {
    let memories = MemoryStore::new(storage).unwrap();
    let labels: Vec<String> = (0..60).map(|n| format!("l{n}")).collect();
    let deep: Vec<&str> = labels.iter().map(String::as_str).collect();
    for depth in [1, 31, 32, 33, 50, 60] {
        let value = raw(&json!({"text": format!("depth {depth}")}).to_string());
        memories.put(&deep[..depth], "k", value, MemoryTtl::Never).await.unwrap();
    }
    let plain = SearchMemories { limit: 100, ..SearchMemories::default() };
    for (depth, count) in [(1, 6), (2, 5), (31, 5), (32, 4), (33, 3), (34, 2), (60, 1)] {
        assert_eq!(keys(&memories, &deep[..depth], "depth", &plain).await.len(), count, "below {depth}");
    }
}

pub(crate) async fn the_first_of_twelve_thousand_messages_is_found(storage: Backend) {
    let conversations = ConversationStore::new(storage).unwrap();
    for start in 0..6 {
        let said =
            (start * 2_000..(start + 1) * 2_000).map(|n| NewMessage::new("user", format!("number x{n}")));
        conversations.add_conversation_messages("s", said.collect()).await.unwrap();
    }
    for (query, expected) in [("x0", "s 1"), ("\"number x11999\"", "s 12000")] {
        assert_eq!(within(&conversations, "s", query).await, [expected]);
    }
}
