//! Conversations.

use std::time::Duration;

use serde_json::json;
use storage_agent::{
    AgentStorage, Content, ConversationLimits, ConversationPage, ConversationStore, Message, Metadata,
    NewMessage,
};
use storage_core::ErrorKind;
use tokio::{task::JoinSet, time::sleep};

use super::sessions::metadata;
use crate::stores::{Backend, json as raw};

fn store(storage: Backend) -> ConversationStore {
    ConversationStore::new(storage).unwrap()
}

async fn say(conversations: &ConversationStore, session: &str, from: usize, to: usize) {
    for chunk in (from..=to).collect::<Vec<_>>().chunks(5_000) {
        let messages = chunk.iter().map(|n| NewMessage::new("user", format!("message {n}")));
        conversations.add_conversation_messages(session, messages.collect()).await.unwrap();
    }
}

fn texts(page: &ConversationPage) -> Vec<&str> {
    page.iter().map(|message| message.content.as_text().unwrap()).collect()
}

fn sequences(page: &ConversationPage) -> Vec<u64> {
    page.iter().map(|message| message.sequence).collect()
}

pub(crate) async fn messages_come_back_as_they_went_in(storage: Backend) {
    let conversations = store(storage);
    let blocks = raw(r#"[{"type": "text", "text": "hi"}, {"n": 1.0}]"#);
    let contents: [Content; 5] = [
        "".into(),
        "any\0text \u{1f3af} \"quoted\"".into(),
        blocks.into(),
        raw("\"json\"").into(),
        "1".into(),
    ];
    for content in &contents {
        let note = metadata(json!({"tokens": 12, "ü": null}));
        conversations.add_conversation_message("s:1", "user:x", content.clone(), note).await.unwrap();
    }
    let page = conversations.get_conversation_history("s:1", 50).await.unwrap();
    assert!(page.corrupt.is_empty() && !page.more);
    for (message, content) in page.iter().zip(&contents) {
        assert_eq!((&message.content, message.role.as_str()), (content, "user:x"));
        assert_eq!(message.metadata, metadata(json!({"tokens": 12, "ü": null})));
        assert!(message.created_at.elapsed().unwrap_or_default() < Duration::from_secs(60));
    }
    assert_eq!(sequences(&page), [1, 2, 3, 4, 5]);
    assert!(conversations.get_conversation_history("s", 50).await.unwrap().is_empty());
    let large = metadata(json!({"large": "x".repeat(70_000)}));
    let error = conversations.add_conversation_message("s", "user", "hi", large).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    for refused in [
        conversations.get_conversation_history("", 1).await,
        conversations.get_conversation_history("s", 0).await,
        conversations.get_conversation_history("s", 10_001).await,
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

pub(crate) async fn the_latest_come_first_and_pages_go_both_ways(storage: Backend) {
    let conversations = store(storage);
    say(&conversations, "s", 1, 120).await;
    let latest = conversations.get_conversation_history("s", 50).await.unwrap();
    assert_eq!(sequences(&latest), (71..=120).collect::<Vec<_>>());
    assert_eq!((texts(&latest)[49], latest.more), ("message 120", true));
    let before = conversations.get_messages_before("s", 71, 50).await.unwrap();
    assert_eq!((sequences(&before), before.more), ((21..=70).collect(), true));
    let first = conversations.get_messages_before("s", 21, 50).await.unwrap();
    assert_eq!((sequences(&first), first.more), ((1..=20).collect(), false));
    let after = conversations.get_messages_after("s", 0, 100).await.unwrap();
    assert_eq!((sequences(&after), after.more), ((1..=100).collect(), true));
    let rest = conversations.get_messages_after("s", 100, 100).await.unwrap();
    assert_eq!((sequences(&rest), rest.more), ((101..=120).collect(), false));
    assert!(conversations.get_messages_after("s", u64::MAX, 1).await.unwrap().is_empty());
    // More than one page of the store, which ends at 8 MiB.
    let large = "x".repeat(3 << 20);
    for _ in 0..4 {
        conversations
            .add_conversation_message("large", "tool", large.as_str(), Metadata::new())
            .await
            .unwrap();
    }
    let history = conversations.get_conversation_history("large", 4).await.unwrap();
    assert_eq!((sequences(&history), history.more), (vec![1, 2, 3, 4], false));
}

/// 64 writers share `messages`; returns the numbers that they were answered.
async fn append_all(conversations: &ConversationStore, messages: usize) -> Vec<u64> {
    let mut writers = JoinSet::new();
    for writer in 0..64 {
        let conversations = conversations.clone();
        writers.spawn(async move {
            let mut answered = Vec::new();
            for n in (writer..messages).step_by(64) {
                let text = format!("{writer} {n}");
                let sequence =
                    conversations.add_conversation_message("s", "user", text, Metadata::new()).await.unwrap();
                answered.push((sequence, n));
            }
            assert!(answered.is_sorted(), "the messages of one writer stay in its order");
            answered
        });
    }
    let mut answered: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    answered.sort_unstable();
    answered.into_iter().map(|(sequence, _)| sequence).collect()
}

pub(crate) async fn ten_thousand_messages_of_64_writers_are_all_there(storage: Backend) {
    let conversations = store(storage);
    let answered = append_all(&conversations, 10_000).await;
    assert_eq!(answered, (1..=10_000).collect::<Vec<_>>());
    let all = conversations.get_conversation_history("s", 10_000).await.unwrap();
    assert_eq!((sequences(&all), all.more), (answered, false));
    let mut written: Vec<usize> =
        texts(&all).iter().map(|text| text.split_once(' ').unwrap().1.parse().unwrap()).collect();
    written.sort_unstable();
    assert_eq!(written, (0..10_000).collect::<Vec<_>>(), "each message once");
}

pub(crate) async fn the_bound_holds_while_64_writers_append(storage: Backend) {
    let limits = ConversationLimits { max_messages: Some(100), ..ConversationLimits::default() };
    let conversations = store(storage).with_limits(limits);
    let (writing, mut looks) = (append_all(&conversations, 2_000), 0);
    let watched = conversations.clone();
    let watching = async {
        loop {
            let seen = sequences(&watched.get_conversation_history("s", 1_000).await.unwrap());
            assert!(seen.len() <= 100, "{} messages", seen.len());
            let Some(last) = seen.last() else { continue };
            let newest = last + 1 - seen.len() as u64..=*last;
            assert!(newest.eq(seen.iter().copied()), "the newest, without gaps");
            assert!(seen.len() == 100 || seen[0] == 1, "nothing goes before the bound is reached");
            if *last == 2_000 {
                break;
            }
            looks += 1;
            tokio::task::yield_now().await;
        }
    };
    let (answered, ()) = tokio::join!(writing, watching);
    assert_eq!(answered, (1..=2_000).collect::<Vec<_>>());
    assert!(looks > 0, "somebody looks while others write");
    assert_eq!(conversations.get_conversation_info("s").await.unwrap().unwrap().items, 100);
}

pub(crate) async fn an_id_makes_a_message_repeatable(storage: Backend) {
    let conversations = store(storage);
    let message = || NewMessage::new("user", "once").with_id("request 7");
    let mut writers = JoinSet::new();
    for _ in 0..16 {
        let conversations = conversations.clone();
        writers.spawn(
            async move { conversations.add_conversation_messages("s", vec![message()]).await.unwrap() },
        );
    }
    for sequences in writers.join_all().await {
        assert_eq!(sequences, [1]);
    }
    let batch = vec![NewMessage::new("user", "new"), message(), NewMessage::new("user", "new").with_id("8")];
    assert_eq!(conversations.add_conversation_messages("s", batch).await.unwrap(), [2, 1, 3]);
    assert_eq!(conversations.add_conversation_messages("other", vec![message()]).await.unwrap(), [1]);
    assert_eq!(conversations.get_conversation_history("s", 50).await.unwrap().len(), 3);
}

pub(crate) async fn a_batch_is_all_or_nothing(storage: Backend) {
    let conversations = store(storage);
    assert!(conversations.add_conversation_messages("s", vec![]).await.unwrap().is_empty());
    let large = NewMessage::new("user", "x".repeat((16 << 20) + 1));
    let batch = vec![NewMessage::new("user", "small"), large];
    let error = conversations.add_conversation_messages("s", batch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(conversations.get_conversation_info("s").await.unwrap().is_none());
}

pub(crate) async fn bytes_and_age_are_bounded(storage: Backend) {
    let bytes = ConversationLimits { max_bytes: Some(2_000), ..ConversationLimits::default() };
    let conversations = store(storage.clone()).with_limits(bytes);
    for n in 1..=100 {
        say(&conversations, "s", n, n).await;
        assert!(conversations.get_conversation_info("s").await.unwrap().unwrap().bytes <= 2_000);
    }
    let kept = conversations.get_conversation_history("s", 50).await.unwrap();
    assert!(kept.len() > 10 && kept.last().unwrap().sequence == 100);
    let large = "x".repeat(5_000);
    conversations.add_conversation_message("s", "user", large, Metadata::new()).await.unwrap();
    assert_eq!(sequences(&conversations.get_conversation_history("s", 50).await.unwrap()), [101]);

    let age =
        ConversationLimits { max_age: Some(Duration::from_millis(700)), ..ConversationLimits::default() };
    let conversations = store(storage).with_limits(age);
    say(&conversations, "t", 1, 10).await;
    sleep(Duration::from_millis(1_000)).await;
    say(&conversations, "t", 11, 12).await;
    assert_eq!(sequences(&conversations.get_conversation_history("t", 50).await.unwrap()), [11, 12]);
}

pub(crate) async fn a_summary_replaces_what_was_read_and_nothing_else(storage: Backend) {
    let conversations = store(storage);
    say(&conversations, "s", 1, 10).await;
    let read = conversations.get_conversation_history("s", 50).await.unwrap();
    let summary = |text: &str| NewMessage::new("system", text);
    // Somebody writes while the summary is made.
    say(&conversations, "s", 11, 11).await;
    conversations.replace_with_summary("s", &read[0], &read[7], summary("1 to 8")).await.unwrap();
    let now = conversations.get_conversation_history("s", 50).await.unwrap();
    assert_eq!(texts(&now), ["1 to 8", "message 9", "message 10", "message 11"]);
    assert_eq!(sequences(&now), [8, 9, 10, 11]);
    // Others that had read the same come too late, wherever their range ends.
    for (first, last) in [(0, 7), (0, 8), (3, 9), (7, 7), (7, 8)] {
        let late = conversations.replace_with_summary("s", &read[first], &read[last], summary("late")).await;
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Conflict, "{first} to {last}");
    }
    let wrong = conversations.replace_with_summary("s", &now[1], &now[0], summary("wrong")).await;
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::InvalidInput);
    conversations.replace_with_summary("s", &now[0], &now[3], summary("all")).await.unwrap();
    say(&conversations, "s", 12, 12).await;
    let now = conversations.get_conversation_history("s", 50).await.unwrap();
    assert_eq!((texts(&now), sequences(&now)), (vec!["all", "message 12"], vec![11, 12]));
}

/// Summaries replace what was read while others write: whoever looks sees the numbers that a summary stands for or the
/// summary, never both and never neither.
pub(crate) async fn a_summary_while_others_write_is_one_step(storage: Backend) {
    let conversations = store(storage);
    say(&conversations, "s", 1, 20).await;
    let mut writers = JoinSet::new();
    for _ in 0..8 {
        let conversations = conversations.clone();
        writers.spawn(async move {
            for _ in 0..50 {
                let said = conversations.add_conversation_message("s", "user", "1", Metadata::new()).await;
                said.unwrap();
            }
        });
    }
    let summarizing = async {
        while !writers.is_empty() {
            while writers.try_join_next().is_some() {}
            let read = conversations.get_messages_after("s", 0, 10).await.unwrap();
            let stands_for = read.iter().map(worth).sum::<u64>().to_string();
            let summary = NewMessage::new("system", stands_for);
            conversations.replace_with_summary("s", &read[0], &read[read.len() - 1], summary).await.unwrap();
        }
    };
    let watched = conversations.clone();
    let watching = tokio::spawn(async move {
        loop {
            let seen = watched.get_conversation_history("s", 1_000).await.unwrap();
            let last = seen.last().unwrap().sequence;
            assert_eq!(seen.iter().map(worth).sum::<u64>(), last, "each message counts once");
            assert!(seen.is_sorted_by_key(|message| message.sequence));
            if last == 420 {
                break;
            }
        }
    });
    summarizing.await;
    watching.await.unwrap();
    let all = conversations.get_conversation_history("s", 1_000).await.unwrap();
    assert_eq!((all[0].role.as_str(), all.iter().map(worth).sum::<u64>()), ("system", 420));
}

/// How many messages a message stands for: a summary says it, another for itself.
fn worth(message: &Message) -> u64 {
    if message.role == "system" { message.content.as_text().unwrap().parse().unwrap() } else { 1 }
}

pub(crate) async fn a_fork_is_a_copy_of_its_own(storage: Backend) {
    let limits = ConversationLimits { max_messages: Some(10), ..ConversationLimits::default() };
    let conversations = store(storage).with_limits(limits);
    say(&conversations, "s", 1, 5).await;
    say(&conversations, "s", 6, 15).await;
    sleep(Duration::from_millis(20)).await;
    assert_eq!(conversations.fork_conversation("s", "fork").await.unwrap(), 10);
    let original = conversations.get_conversation_history("s", 50).await.unwrap();
    let fork = conversations.get_conversation_history("fork", 50).await.unwrap();
    assert_eq!((texts(&fork), sequences(&fork)), (texts(&original), (1..=10).collect()));
    assert!(fork.iter().zip(original.iter()).all(|(copy, original)| copy.created_at == original.created_at));
    say(&conversations, "fork", 16, 16).await;
    assert_eq!(conversations.get_conversation_history("s", 1).await.unwrap()[0].sequence, 15);
    let error = conversations.fork_conversation("s", "fork").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(conversations.get_conversation_history("fork", 50).await.unwrap().len(), 10);
    assert_eq!(conversations.fork_conversation("nobody", "nothing").await.unwrap(), 0);
    assert!(conversations.get_conversation_info("nothing").await.unwrap().is_none());
}

pub(crate) async fn a_message_with_as_much_metadata_as_there_may_be_is_copied(storage: Backend) {
    let conversations = store(storage);
    let add = async |bytes: usize| {
        let empty = r#"{"role":"user","metadata":{"large":""}}"#.len();
        let large = metadata(json!({"large": "x".repeat(bytes - empty)}));
        conversations.add_conversation_message("s", "user", "hi", large).await
    };
    let most = (64 << 10) - 64;
    assert_eq!(add(most).await.unwrap(), 1);
    assert_eq!(add(most + 1).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(conversations.fork_conversation("s", "fork").await.unwrap(), 1);
}

/// Three pages, while the original grows: the copy is one state of it.
pub(crate) async fn a_long_fork_while_others_write(storage: Backend) {
    let conversations = store(storage);
    say(&conversations, "s", 1, 5_000).await;
    let growing = async {
        for n in 5_001..=5_100 {
            say(&conversations, "s", n, n).await;
        }
    };
    let (copied, ()) = tokio::join!(conversations.fork_conversation("s", "fork"), growing);
    let copied = copied.unwrap();
    assert!((5_000..=5_100).contains(&copied), "{copied}");
    let info = conversations.get_conversation_info("fork").await.unwrap().unwrap();
    assert_eq!((info.items, info.sequence, info.expires_at), (copied, copied, None));
    let last = conversations.get_conversation_history("fork", 1).await.unwrap();
    assert_eq!(texts(&last), [format!("message {copied}")]);
    let middle = conversations.get_messages_after("fork", 3_344, 1).await.unwrap();
    assert_eq!(texts(&middle), ["message 3345"]);
}

pub(crate) async fn deleted_and_begun_anew(storage: Backend) {
    let agent = AgentStorage::new(storage).unwrap();
    let conversations = agent.conversations();
    say(conversations, "s", 1, 3).await;
    say(conversations, "s:2", 1, 1).await;
    assert!(conversations.delete_conversation("s").await.unwrap());
    assert!(!conversations.delete_conversation("s").await.unwrap());
    assert!(conversations.get_conversation_history("s", 50).await.unwrap().is_empty());
    assert_eq!(conversations.get_conversation_history("s:2", 50).await.unwrap().len(), 1);
    say(conversations, "s", 4, 4).await;
    assert_eq!(sequences(&conversations.get_conversation_history("s", 50).await.unwrap()), [1]);
}
