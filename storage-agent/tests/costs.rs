//! What reads of a long conversation cost: calls of the store, and items that it reads.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is a failed test")]

#[path = "support/counting.rs"]
mod counting;

use std::sync::Arc;

use counting::Counting;
use storage_agent::{ConversationStore, MessageQuery, NewMessage, UncountedTokens};

const MESSAGES: usize = 100_000;

/// A conversation of messages of ten tokens each.
async fn long() -> (Arc<Counting>, ConversationStore) {
    let counting = Counting::connected().await;
    let conversations = ConversationStore::new(counting.clone()).unwrap();
    for from in (0..MESSAGES).step_by(5_000) {
        let message = |n: usize| NewMessage::new("user", n.to_string()).with_tokens(10);
        let batch = (from..from + 5_000).map(message).collect();
        conversations.add_conversation_messages("s", batch).await.unwrap();
    }
    counting.taken();
    (counting, conversations)
}

#[tokio::test]
async fn the_latest_of_a_hundred_thousand_messages_take_one_call_that_reads_them_alone() {
    let (counting, conversations) = long().await;
    assert_eq!(conversations.get_conversation_history("s", 50).await.unwrap().len(), 50);
    assert_eq!(counting.taken(), (50, 1, 0));
    let latest = MessageQuery { limit: 50, ..MessageQuery::default() };
    assert_eq!(conversations.find_messages("s", &latest).await.unwrap().messages.len(), 50);
    assert_eq!(counting.taken(), (50, 1, 0));
}

#[tokio::test]
async fn what_fits_in_so_many_tokens_is_read_in_few_calls_and_little_more() {
    let (counting, conversations) = long().await;
    for (tokens, fit, calls) in [(100, 10, 1), (490, 49, 1), (4_000, 400, 2), (20_000, 2_000, 3)] {
        let within = conversations.get_latest_within_tokens("s", tokens, UncountedTokens::Refuse);
        assert_eq!(within.await.unwrap().len(), fit);
        let (read, took, _) = counting.taken();
        assert!(took == calls && (fit..=fit + fit / 8 + 50).contains(&read), "{tokens}: {read} in {took}");
    }
}

#[tokio::test]
async fn a_search_looks_at_so_many_as_it_may_and_ends_where_time_does() {
    let (counting, conversations) = long().await;
    let roles = vec!["nobody".to_owned()];
    let none = MessageQuery { roles, ..MessageQuery::default() };
    let found = conversations.find_messages("s", &none).await.unwrap();
    assert_eq!((found.messages.len(), found.examined, found.next), (0, 10_000, Some(90_001)));
    assert_eq!(counting.taken(), (10_000, 10, 0));
    let later = conversations.get_conversation_history("s", 1).await.unwrap()[0].created_at;
    counting.taken();
    let ahead = later + std::time::Duration::from_secs(7_200);
    let since = MessageQuery { since: Some(ahead), ..MessageQuery::default() };
    let found = conversations.find_messages("s", &since).await.unwrap();
    assert_eq!((found.examined, found.next, counting.taken()), (0, None, (1_000, 1, 0)));
}
