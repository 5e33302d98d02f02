//! How much a read looks at, and a step writes.

use std::sync::Arc;

use storage_agent::checkpoints::{CheckpointerBackend, ListCheckpoints, Payload};

use crate::{
    cases::{WithValue, noise, of_thread, plain},
    counting::Counting,
};

async fn counting() -> (Arc<Counting>, CheckpointerBackend) {
    let counting = Counting::connected().await;
    (Arc::clone(&counting), CheckpointerBackend::new(counting))
}

#[tokio::test]
async fn the_latest_and_ten_of_ten_thousand_read_no_more_than_they_return() {
    let (counting, checkpointer) = counting().await;
    for number in 0..10_000 {
        checkpointer.put(&plain("long", "", number, None)).await.unwrap();
    }
    counting.taken();
    checkpointer.get("long", "", None).await.unwrap().unwrap();
    // The checkpoint, and the look that it is still there; the writes are read in between.
    assert_eq!(counting.taken(), (2, 3, 0));
    let ten = ListCheckpoints { limit: Some(10), ..of_thread("long") };
    let of_root = ListCheckpoints { checkpoint_ns: Some(String::new()), ..ten.clone() };
    assert_eq!(checkpointer.list(&of_root).await.unwrap().len(), 10);
    assert_eq!(counting.taken(), (10, 1, 0));
    // Over all namespaces, each through its entry in the index.
    assert_eq!(checkpointer.list(&ten).await.unwrap().len(), 10);
    assert_eq!(counting.taken(), (20, 2, 0));
}

#[tokio::test]
async fn a_step_costs_the_store_as_much_at_the_end_of_a_history_as_at_its_beginning() {
    let (counting, checkpointer) = counting().await;
    let all = noise(7, 1_000 * 1_100);
    let mut most = (0, 0, 0);
    for number in 0..1_000usize {
        let list = Payload::new("msgpack", all[..(number + 1) * 1_100].to_vec());
        let new =
            plain("flat", "", number, number.checked_sub(1)).with("messages", number as i64, Some(list));
        checkpointer.advance(&new, &[]).await.unwrap();
        let (read, calls, operations) = counting.taken();
        most = (most.0.max(read), most.1.max(calls), most.2.max(operations));
    }
    assert!(most.0 <= 3 && most.1 <= 2 && most.2 < 150, "{most:?}");
}
