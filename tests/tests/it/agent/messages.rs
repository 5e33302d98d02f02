//! Finding messages, changing one of them, and the latest that fit.

use std::{num::NonZeroU32, time::Duration};

use serde_json::json;
use storage_agent::{
    ConversationLimits, ConversationStore, FoundMessages, Message, MessageEdit, MessageQuery, NewMessage,
    Redaction, UncountedTokens,
};
use storage_core::{ErrorKind, Result};
use tokio::{task::JoinSet, time::sleep};

use super::sessions::metadata;
use crate::stores::{Backend, json as raw};

fn store(storage: Backend) -> ConversationStore {
    ConversationStore::new(storage).unwrap()
}

fn numbers(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| message.sequence).collect()
}

async fn add(conversations: &ConversationStore, message: NewMessage) -> u64 {
    conversations.add_conversation_messages("s", vec![message]).await.unwrap()[0]
}

async fn all(conversations: &ConversationStore) -> Vec<Message> {
    let page = conversations.get_conversation_history("s", 10_000).await.unwrap();
    assert!(page.corrupt.is_empty() && !page.more);
    page.messages
}

/// All that a query finds, call by call, and how many calls it took.
async fn found(conversations: &ConversationStore, query: &MessageQuery) -> (Vec<Message>, usize) {
    let (mut query, mut messages, mut calls) = (query.clone(), Vec::new(), 0);
    loop {
        let FoundMessages { messages: some, corrupt, next, examined, .. } =
            conversations.find_messages("s", &query).await.unwrap();
        assert!(corrupt.is_empty() && some.len() <= query.limit && examined <= query.examine);
        messages.extend(some);
        calls += 1;
        match next {
            Some(_) => query.after = next,
            None => return (messages, calls),
        }
    }
}

pub(crate) async fn messages_are_found_by_time_role_and_metadata(storage: Backend) {
    let conversations = store(storage);
    for (role, score) in [("user", 1), ("assistant", 2), ("user", 3), ("tool", 4), ("user", 5)] {
        let note = metadata(json!({"score": score, "kind": {"of": role}}));
        add(&conversations, NewMessage::new(role, format!("{role} {score}")).with_metadata(note)).await;
        sleep(Duration::from_millis(4)).await;
    }
    let times: Vec<_> = all(&conversations).await.iter().map(|message| message.created_at).collect();
    let some = MessageQuery::default;
    let filter = |text: &str| MessageQuery { filter: Some(raw(text)), ..some() };
    let roles =
        |roles: &[&str]| MessageQuery { roles: roles.iter().map(|role| (*role).into()).collect(), ..some() };
    for (query, expected) in [
        (some(), vec![5, 4, 3, 2, 1]),
        (MessageQuery { oldest_first: true, ..some() }, vec![1, 2, 3, 4, 5]),
        (MessageQuery { since: Some(times[2]), ..some() }, vec![5, 4, 3]),
        (MessageQuery { until: Some(times[2]), ..some() }, vec![2, 1]),
        (
            MessageQuery { since: Some(times[1]), until: Some(times[3]), oldest_first: true, ..some() },
            vec![2, 3],
        ),
        (roles(&["user"]), vec![5, 3, 1]),
        (roles(&["tool", "assistant"]), vec![4, 2]),
        (roles(&["nobody"]), vec![]),
        (filter(r#"{"score": {"$gte": 2, "$lt": 5}}"#), vec![4, 3, 2]),
        (filter(r#"{"score": {"$ne": 3}, "kind": {"of": "user"}}"#), vec![5, 1]),
        (filter(r#"{"missing": null}"#), vec![5, 4, 3, 2, 1]),
        (
            MessageQuery {
                since: Some(times[2]),
                filter: Some(raw(r#"{"score": 3.0}"#)),
                ..roles(&["user"])
            },
            vec![3],
        ),
        (MessageQuery { after: Some(3), ..some() }, vec![2, 1]),
        (MessageQuery { after: Some(3), oldest_first: true, ..roles(&["user"]) }, vec![5]),
    ] {
        assert_eq!(numbers(&found(&conversations, &query).await.0), expected, "{query:?}");
        for (limit, examine) in [(1, 100), (2, 1), (100, 1)] {
            let narrow = MessageQuery { limit, examine, ..query.clone() };
            assert_eq!(numbers(&found(&conversations, &narrow).await.0), expected, "{narrow:?}");
        }
    }
    let one = conversations.find_messages("s", &MessageQuery { limit: 1, ..some() }).await.unwrap();
    assert_eq!(one.messages, all(&conversations).await[4..], "as the history has it");
    for wrong in [
        MessageQuery { limit: 0, ..some() },
        MessageQuery { limit: 10_001, ..some() },
        MessageQuery { examine: 0, ..some() },
        filter(r#"{"a": {"$in": [1]}}"#),
        filter("[]"),
    ] {
        let refused = conversations.find_messages("s", &wrong).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{wrong:?}");
    }
    assert!(conversations.find_messages("nobody", &some()).await.unwrap().next.is_none());
}

pub(crate) async fn a_search_of_a_long_conversation_goes_on_call_by_call(storage: Backend) {
    let conversations = store(storage);
    let message = |n: usize| NewMessage::new(if n % 1_000 == 7 { "user" } else { "tool" }, n.to_string());
    conversations.add_conversation_messages("s", (1..=5_000).map(message).collect()).await.unwrap();
    let rare = MessageQuery { roles: vec!["user".into()], ..MessageQuery::default() };
    let first =
        conversations.find_messages("s", &MessageQuery { examine: 900, ..rare.clone() }).await.unwrap();
    assert_eq!((first.messages.len(), first.examined, first.next), (0, 900, Some(4_101)));
    let (messages, calls) = found(&conversations, &MessageQuery { examine: 900, ..rare.clone() }).await;
    assert_eq!((numbers(&messages), calls), (vec![4_007, 3_007, 2_007, 1_007, 7], 6));
    let (messages, calls) = found(&conversations, &rare).await;
    assert_eq!((messages.len(), calls), (5, 1));
    let oldest = MessageQuery { oldest_first: true, examine: 2_500, ..rare };
    let (messages, calls) = found(&conversations, &oldest).await;
    assert_eq!((numbers(&messages), calls), (vec![7, 1_007, 2_007, 3_007, 4_007], 2));

    // What an answer holds is bounded, too: 8 MiB, and the message with which they are passed.
    let large = "x".repeat(3 << 20);
    for _ in 0..5 {
        add(&conversations, NewMessage::new("large", large.as_str())).await;
    }
    for roles in [vec![], vec!["large".to_owned()]] {
        let query = MessageQuery { roles, limit: 5, ..MessageQuery::default() };
        let first = conversations.find_messages("s", &query).await.unwrap();
        assert!((2..=3).contains(&first.messages.len()) && first.next.is_some(), "{}", first.messages.len());
    }
}

pub(crate) async fn an_edit_leaves_a_trace_and_only_who_read_it_last_edits(storage: Backend) {
    let conversations = store(storage);
    let note = metadata(json!({"a": 1}));
    let new = NewMessage::new("user", "teh").with_metadata(note.clone()).with_tokens(9).with_id("r-1");
    add(&conversations, new).await;
    add(&conversations, NewMessage::new("assistant", "next")).await;
    let before = all(&conversations).await[0].clone();
    assert_eq!((before.tokens, &before.id, &before.edits), (Some(9), &Some("r-1".into()), &None));
    sleep(Duration::from_millis(5)).await;
    let edit = |text: &str| MessageEdit {
        content: Some(text.into()),
        by: Some("ada".into()),
        ..MessageEdit::default()
    };
    let version = conversations.edit_message("s", &before, edit("the")).await.unwrap();
    let after = all(&conversations).await[0].clone();
    assert_eq!(
        (after.content.as_text(), &after.role, after.version),
        (Some("the"), &"user".to_owned(), version)
    );
    assert_eq!((after.created_at, &after.metadata, after.tokens), (before.created_at, &note, None));
    let edits = after.edits.clone().unwrap();
    assert_eq!(
        (edits.count, edits.by.as_deref(), edits.reason, edits.redacted),
        (1, Some("ada"), None, false)
    );
    assert!(edits.edited_at > after.created_at);

    let late = conversations.edit_message("s", &before, edit("late")).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict);
    let late = conversations.redact_message("s", &before, Redaction::default()).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict);
    let blocks = MessageEdit {
        content: Some(raw(r#"[{"type": "text"}]"#).into()),
        metadata: Some(metadata(json!({}))),
        tokens: Some(3),
        reason: Some("typed".into()),
        ..MessageEdit::default()
    };
    conversations.edit_message("s", &after, blocks).await.unwrap();
    let now = all(&conversations).await;
    assert_eq!(
        (now[0].content.clone(), now[0].tokens, now[0].metadata.len()),
        (raw(r#"[{"type": "text"}]"#).into(), Some(3), 0)
    );
    let edits = now[0].edits.clone().unwrap();
    assert_eq!((edits.count, edits.by, edits.reason.as_deref()), (2, None, Some("typed")));
    assert_eq!((now.len(), now[1].sequence, now[1].edits.is_some()), (2, 2, false));

    let long = MessageEdit { reason: Some("x".repeat(4_097)), ..MessageEdit::default() };
    assert_eq!(
        conversations.edit_message("s", &now[0], long).await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    let gone = conversations.edit_message("other", &now[0], edit("x")).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Conflict);
}

pub(crate) async fn of_eight_who_edit_what_they_read_one_does(storage: Backend) {
    let conversations = store(storage);
    add(&conversations, NewMessage::new("user", "0").with_id("r")).await;
    for round in 1..=5 {
        let read = all(&conversations).await[0].clone();
        let mut editors = JoinSet::new();
        for _ in 0..8 {
            let (conversations, read) = (conversations.clone(), read.clone());
            editors.spawn(async move {
                let edit = MessageEdit { content: Some(round.to_string().into()), ..MessageEdit::default() };
                conversations.edit_message("s", &read, edit).await
            });
        }
        let done = editors.join_all().await;
        assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1);
        let conflicts = done.iter().filter_map(|done: &Result<u64>| done.as_ref().err());
        assert!(conflicts.into_iter().all(|error| error.kind() == ErrorKind::Conflict));
        assert_eq!(all(&conversations).await[0].edits.as_ref().unwrap().count, round);
    }
}

pub(crate) async fn what_was_redacted_does_not_come_back(storage: Backend) {
    let conversations = store(storage.clone());
    let note = metadata(json!({"card": "4111"}));
    let secret =
        || NewMessage::new("user", "secret").with_metadata(note.clone()).with_id("r-1").with_tokens(5);
    for number in 1..=40 {
        let id = format!("q-{number}");
        let other = NewMessage::new("tool", "other").with_id(id);
        assert_eq!(add(&conversations, if number == 7 { secret() } else { other }).await, number);
    }
    let read = all(&conversations).await[6].clone();
    let why = Redaction { reason: Some("asked for".into()), keep_metadata: true, ..Redaction::default() };
    conversations.redact_message("s", &read, why).await.unwrap();
    let kept = all(&conversations).await[6].clone();
    assert_eq!((kept.content.as_text(), &kept.metadata, kept.created_at), (Some(""), &note, read.created_at));
    let edits = kept.edits.clone().unwrap();
    assert!(edits.redacted && edits.reason.as_deref() == Some("asked for"));
    conversations.redact_message("s", &kept, Redaction::default()).await.unwrap();
    let redacted = all(&conversations).await[6].clone();
    assert_eq!((redacted.metadata.len(), redacted.edits.as_ref().unwrap().count), (0, 2));
    let edit = conversations.edit_message("s", &redacted, MessageEdit::default()).await.unwrap_err();
    assert_eq!(edit.kind(), ErrorKind::InvalidInput);

    // Whoever has not seen the answer to its append tries again, in a batch, too.
    assert_eq!(add(&conversations, secret()).await, 7);
    let again =
        vec![NewMessage::new("tool", "other").with_id("q-3"), secret(), NewMessage::new("user", "new")];
    let numbers_of_batch = conversations.add_conversation_messages("s", again).await.unwrap();
    assert_eq!(numbers_of_batch[..2], [3, 7]);
    let now = all(&conversations).await;
    assert_eq!((now.len(), now[40].sequence), (41, numbers_of_batch[2]));
    assert!(now.iter().all(|message| message.content.as_text() != Some("secret")));
    let bytes = storage.collections().unwrap();
    let stored = bytes
        .query(storage_core::Query::all(storage_core::Partition::new("conversation", &["s"]).unwrap(), 100));
    let stored = stored.await.unwrap().items;
    assert!(
        stored.iter().all(|item| &item.body[..] != b"secret" && !item.attributes.as_str().contains("4111"))
    );

    // Pages, forks and summaries see messages alone.
    let page = conversations.get_messages_before("s", 9, 3).await.unwrap();
    assert_eq!((numbers(&page), page.corrupt.len()), (vec![6, 7, 8], 0));
    let before = MessageQuery { after: Some(9), limit: 3, ..MessageQuery::default() };
    let found = conversations.find_messages("s", &before).await.unwrap();
    assert_eq!(numbers(&found.messages), [8, 7, 6]);
    assert_eq!(conversations.fork_conversation("s", "fork").await.unwrap(), 41);
    let fork = conversations.get_messages_after("fork", 6, 1).await.unwrap();
    assert_eq!((&fork[0].edits, &fork[0].id, fork[0].created_at), (&redacted.edits, &None, read.created_at));
    conversations
        .replace_with_summary("s", &now[3], &now[6], NewMessage::new("system", "4 to 7"))
        .await
        .unwrap();
    let after = add(&conversations, secret()).await;
    assert_eq!(
        (after > now[40].sequence, all(&conversations).await.len()),
        (true, 39),
        "the summary took its id"
    );
}

pub(crate) async fn an_id_is_known_after_an_edit_until_limits_take_its_message(storage: Backend) {
    let limits = ConversationLimits { max_messages: Some(4), ..ConversationLimits::default() };
    let conversations = store(storage).with_limits(limits);
    let message = |n: u64| NewMessage::new("user", format!("{n}")).with_id(format!("r-{n}"));
    let mut given = Vec::new();
    for n in 1..=3 {
        given.push(add(&conversations, message(n)).await);
    }
    for read in all(&conversations).await {
        let edit = MessageEdit { content: Some("edited".into()), ..MessageEdit::default() };
        conversations.edit_message("s", &read, edit).await.unwrap();
    }
    // Three messages and what keeps their ids: an append leaves four of the seven.
    let fourth = add(&conversations, message(4)).await;
    assert_eq!(numbers(&all(&conversations).await), [given[2], fourth]);
    assert_eq!(add(&conversations, message(3)).await, given[2]);
    assert_eq!(add(&conversations, message(4)).await, fourth);
    let anew = add(&conversations, message(1)).await;
    assert!(anew > fourth, "what limits took is written anew");
    for n in 5..=20 {
        add(&conversations, message(n)).await;
    }
    let left = all(&conversations).await;
    assert_eq!(left.len(), 4, "nothing is left of ids whose messages are gone");
}

pub(crate) async fn the_latest_that_fit_in_so_many_tokens(storage: Backend) {
    let conversations = store(storage);
    let counted = |n: usize| NewMessage::new("user", n.to_string()).with_tokens(10);
    conversations.add_conversation_messages("s", (1..=3_000).map(counted).collect()).await.unwrap();
    let within =
        async |tokens, uncounted| conversations.get_latest_within_tokens("s", tokens, uncounted).await;
    let four = UncountedTokens::BytesPerToken(NonZeroU32::new(4).unwrap());
    for (tokens, fit) in [(0, 0), (9, 0), (10, 1), (99, 9), (500, 50), (509, 50), (510, 51), (25_000, 2_500)]
    {
        let page = within(tokens, UncountedTokens::Refuse).await.unwrap();
        let last = (3_001 - fit..=3_000).collect::<Vec<_>>();
        assert_eq!((numbers(&page), page.more), (last, true), "{tokens}");
    }
    let every = within(1_000_000, four).await.unwrap();
    assert_eq!((every.len(), every.more, every[0].sequence), (3_000, false, 1));

    add(&conversations, NewMessage::new("user", "x".repeat(41))).await;
    assert_eq!(within(10, four).await.unwrap().len(), 0, "41 bytes are 11 tokens");
    assert_eq!(numbers(&within(21, four).await.unwrap()), [3_000, 3_001]);
    assert_eq!(within(21, UncountedTokens::Each(2)).await.unwrap().len(), 2);
    let refused = within(100, UncountedTokens::Refuse).await.unwrap_err();
    assert!(
        refused.kind() == ErrorKind::InvalidInput && refused.to_string().contains("message 3001"),
        "{refused}"
    );
    let nobody = conversations.get_latest_within_tokens("nobody", 100, four).await.unwrap();
    assert!(nobody.is_empty() && !nobody.more);
}
