//! What a process remembers of payloads makes it faster and nothing else.

use storage_agent::checkpoints::{CheckpointStore, CheckpointerBackend, Payload, PruneStrategy};
use storage_core::ErrorKind;

use super::{Storage, WithValue, id, json, noise, plain};

const MESSAGE: usize = 1_100;

/// A list of so many messages of this seed, whose length stands at its beginning.
fn list(seed: u64, messages: usize) -> Payload {
    Payload::new("msgpack", [&messages.to_be_bytes()[..], &noise(seed, messages * MESSAGE)].concat())
}

async fn advance(checkpointer: &CheckpointerBackend, thread_id: &str, number: usize, list: &Payload) {
    let new = plain(thread_id, "", number, number.checked_sub(1));
    checkpointer.advance(&new.with("messages", number as i64, Some(list.clone())), &[]).await.unwrap();
}

/// Read by somebody who remembers nothing.
async fn stored(storage: &Storage, thread_id: &str, number: usize) -> Option<Payload> {
    let other = CheckpointerBackend::new(storage.clone());
    let mut found = other.get(thread_id, "", Some(&id(number))).await.unwrap()?;
    found.channel_values.remove("messages")
}

pub(crate) async fn processes_that_take_turns_store_what_each_was_given(storage: Storage) {
    let both = [(); 2].map(|()| CheckpointerBackend::new(storage.clone()));
    // Each thinks of its own list; they meet in the same thread, and branch where they share a beginning.
    for number in 0..40 {
        let seed = [7, 8, 7][number % 3];
        advance(&both[number % 2], "turns", number, &list(seed, 20 + number)).await;
    }
    let restarted = CheckpointerBackend::new(storage.clone());
    advance(&restarted, "turns", 40, &list(7, 60)).await;
    for number in 0..=40 {
        let seed = if number == 40 { 7 } else { [7, 8, 7][number % 3] };
        let messages = if number == 40 { 60 } else { 20 + number };
        assert!(stored(&storage, "turns", number).await == Some(list(seed, messages)), "{number}");
    }
}

pub(crate) async fn what_somebody_else_removed_is_stored_again(storage: Storage) {
    let (first, other) =
        (CheckpointerBackend::new(storage.clone()), CheckpointerBackend::new(storage.clone()));
    advance(&first, "removed", 0, &list(7, 50)).await;
    assert!(other.delete_thread("removed").await.unwrap());
    advance(&first, "removed", 0, &list(7, 51)).await;
    assert!(stored(&storage, "removed", 0).await == Some(list(7, 51)));
    // Its pieces go, and the list that is remembered needs them again.
    advance(&first, "removed", 1, &list(8, 3)).await;
    other.prune(&["removed"], PruneStrategy::KeepLatest).await.unwrap();
    advance(&first, "removed", 2, &list(7, 51)).await;
    assert!(stored(&storage, "removed", 2).await == Some(list(7, 51)));
    other.prune(&["removed"], PruneStrategy::Delete).await.unwrap();
    advance(&first, "removed", 0, &list(7, 52)).await;
    assert!(stored(&storage, "removed", 0).await == Some(list(7, 52)));
}

pub(crate) async fn what_was_refused_is_not_taken_for_stored(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage.clone());
    let new = plain("refused", "", 1, Some(0)).with("messages", 1, Some(list(7, 50)));
    let refused = checkpointer.advance(&new, &[]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    for number in 0..2 {
        advance(&checkpointer, "refused", number, &list(7, 50 + number)).await;
        assert!(stored(&storage, "refused", number).await == Some(list(7, 50 + number)), "{number}");
    }
}

pub(crate) async fn general_checkpoints_are_whole_after_a_deletion_and_a_restart(storage: Storage) {
    let data = |messages: usize| {
        let letters = noise(7, messages * MESSAGE).into_iter().map(|byte| char::from(b'a' + byte % 26));
        json(&format!("[{messages}, \"{}\"]", letters.collect::<String>()))
    };
    let (first, other) = (CheckpointStore::new(storage.clone()), CheckpointStore::new(storage));
    for messages in [50, 51] {
        first.store_checkpoint("general", "a", data(messages), json("{}")).await.unwrap();
        let found = other.get_checkpoint("general", None).await.unwrap().unwrap();
        assert!(found.data == Some(data(messages)));
        assert!(other.delete_thread("general").await.unwrap());
    }
    other.store_checkpoint("general", "b", data(52), json("{}")).await.unwrap();
    first.store_checkpoint("general", "c", data(53), json("{}")).await.unwrap();
    for (id, messages) in [("b", 52), ("c", 53)] {
        let found = other.get_checkpoint("general", Some(id)).await.unwrap().unwrap();
        assert!(found.data == Some(data(messages)));
    }
}
