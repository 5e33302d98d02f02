//! Many at once.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use storage_agent::checkpoints::{
    CheckpointConfig, CheckpointerBackend, Epoch, Payload, PruneStrategy, Retention,
};
use storage_core::{ErrorKind, ManualClock};

use super::{Storage, WithValue, id, noise, of_thread, plain, removal::growing, writes};

pub(crate) async fn of_two_workers_one_wins_each_step(storage: Storage) {
    const STEPS: usize = 30;
    let checkpointer = CheckpointerBackend::new(storage);
    let barrier = Arc::new(tokio::sync::Barrier::new(2));
    let mut workers = Vec::new();
    for worker in 0..2usize {
        let (checkpointer, barrier) = (checkpointer.clone(), Arc::clone(&barrier));
        workers.push(tokio::spawn(async move {
            let mut won = Vec::new();
            for step in 0..STEPS {
                let latest = checkpointer.get("race", "", None).await.unwrap();
                barrier.wait().await;
                let mut new = plain("race", "", 0, None);
                new.key.checkpoint_id = format!("{step:08}-{worker}");
                new.parent_id = latest.map(|latest| latest.header.key.checkpoint_id);
                match checkpointer.advance(&new, &[]).await {
                    Ok(()) => won.push(step),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict),
                }
                barrier.wait().await;
            }
            won
        }));
    }
    let mut won = Vec::new();
    for worker in workers {
        won.extend(worker.await.unwrap());
    }
    won.sort_unstable();
    assert_eq!(won, (0..STEPS).collect::<Vec<_>>());
    let listed = checkpointer.list(&of_thread("race")).await.unwrap();
    let parents: Vec<_> = listed.iter().map(|header| header.parent_id.clone()).collect();
    let expected: Vec<_> =
        listed.iter().skip(1).map(|header| Some(header.key.checkpoint_id.clone())).chain([None]).collect();
    assert_eq!(parents, expected);
}

pub(crate) async fn an_older_epoch_is_fenced_out(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    let old = checkpointer.claim("fence").await.unwrap();
    let writer = checkpointer.fenced(old.clone());
    writer.advance(&plain("fence", "", 1, None), &[]).await.unwrap();
    writer.put_writes("fence", "", &writes(1, "task", &[("c", "x")])).await.unwrap();
    let new = checkpointer.claim("fence").await.unwrap();
    assert!(new.number() > old.number());
    let next = plain("fence", "", 2, Some(1));
    for refused in [
        writer.put(&next).await,
        writer.advance(&next, &[]).await,
        writer.put_writes("fence", "", &writes(1, "task", &[("c", "x")])).await,
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    }
    let all = Retention { keep_last: Some(1), ..Retention::default() };
    assert_eq!(writer.retain("fence", &all, false).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(writer.delete_thread("fence").await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(
        writer.prune(&["fence"], PruneStrategy::Delete).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    assert_eq!(writer.expire_thread("fence", None).await.unwrap_err().kind(), ErrorKind::Conflict);
    checkpointer.fenced(new.clone()).advance(&next, &[]).await.unwrap();
    // Other threads are not concerned, and a thread that was deleted does not let the old one in again.
    writer.put(&plain("fence-2", "", 1, None)).await.unwrap();
    // It travels as text, and fences there as here.
    let brought: Epoch = new.to_string().parse().unwrap();
    assert_eq!(brought, new);
    for wrong in ["", "1", "1:2", "x:0000000000000000:fence", "1:x:fence"] {
        assert!(wrong.parse::<Epoch>().is_err(), "{wrong}");
    }
    checkpointer.delete_thread("fence").await.unwrap();
    let newest = checkpointer.claim("fence").await.unwrap();
    assert!(newest.number() > new.number());
    assert_eq!(writer.put(&next).await.unwrap_err().kind(), ErrorKind::Conflict);
}

pub(crate) async fn of_many_who_claim_a_thread_at_once_one_may_write(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    let claims = (0..8).map(|_| {
        let checkpointer = checkpointer.clone();
        tokio::spawn(async move { checkpointer.claim("rush").await.unwrap() })
    });
    let mut epochs = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        epochs.push(claim.await.unwrap());
    }
    epochs.sort_by_key(Epoch::number);
    let newest = epochs.pop().unwrap();
    for old in epochs {
        assert!(old.number() < newest.number());
        let refused = checkpointer.fenced(old).put(&plain("rush", "", 1, None)).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    }
    checkpointer.fenced(newest).put(&plain("rush", "", 1, None)).await.unwrap();
}

pub(crate) async fn a_deleted_thread_lets_no_old_epoch_in_though_the_clock_stands(storage: Storage) {
    let clock = Arc::new(ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1)));
    let config = CheckpointConfig { clock, ..CheckpointConfig::default() };
    let checkpointer = CheckpointerBackend::with_config(storage, config);
    let old = checkpointer.claim("tick").await.unwrap();
    checkpointer.delete_thread("tick").await.unwrap();
    let new = checkpointer.claim("tick").await.unwrap();
    assert_eq!(new.number(), old.number());
    let first = plain("tick", "", 1, None);
    assert_eq!(checkpointer.fenced(old).put(&first).await.unwrap_err().kind(), ErrorKind::Conflict);
    checkpointer.fenced(new).put(&first).await.unwrap();
}

pub(crate) async fn checkpoints_and_writes_come_together(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    checkpointer.advance(&plain("step", "", 1, None), &[writes(1, "input", &[("c", "in")])]).await.unwrap();
    let task = writes(1, "task", &[("c", "x"), ("__resume__", "y")]);
    checkpointer.advance(&plain("step", "", 2, Some(1)), std::slice::from_ref(&task)).await.unwrap();
    let refused =
        checkpointer.advance(&plain("step", "", 3, Some(1)), &[writes(1, "late", &[("c", "z")])]).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    let again = checkpointer.advance(&plain("step", "", 3, None), &[]).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Conflict);
    let first = checkpointer.get("step", "", Some(&id(1))).await.unwrap().unwrap();
    let tasks: Vec<_> = first.pending_writes.iter().map(|write| write.task_id.as_str()).collect();
    assert_eq!(tasks, ["input", "task", "task"]);
    assert_eq!(checkpointer.list(&of_thread("step")).await.unwrap().len(), 2);
}

pub(crate) async fn pruning_never_takes_a_chunk_that_a_put_counts_on(storage: Storage) {
    const STEPS: usize = 60;
    let checkpointer = CheckpointerBackend::new(storage);
    let pruner = checkpointer.clone();
    let pruning = tokio::spawn(async move {
        let policy = Retention { keep_last: Some(2), ..Retention::default() };
        loop {
            if let Err(error) = pruner.retain("shared", &policy, false).await {
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
            }
            tokio::task::yield_now().await;
        }
    });
    for number in 0..STEPS {
        // Now and then from an older state, whose chunks may be gone.
        let list = if number % 7 == 6 { number / 2 } else { number };
        let payload = Payload::new("msgpack", noise(42, 1_100 * (list + 1)));
        let new = plain("shared", "", number, number.checked_sub(1)).with(
            "messages",
            number as i64,
            Some(payload.clone()),
        );
        checkpointer.put(&new).await.unwrap();
        let written = writes(number, "task", &[("c", "x")]);
        checkpointer.put_writes("shared", "", &written).await.unwrap();
        let found = checkpointer.get("shared", "", None).await.unwrap().unwrap();
        assert_eq!(found.channel_values["messages"], payload, "step {number}");
    }
    pruning.abort();
    let _ = pruning.await;
    checkpointer.prune(&["shared"], PruneStrategy::KeepLatest).await.unwrap();
    let last = checkpointer.get("shared", "", None).await.unwrap().unwrap();
    assert_eq!(last.channel_values["messages"].bytes.as_ref().unwrap(), &noise(42, 1_100 * STEPS));
}

pub(crate) async fn concurrent_puts_all_count(storage: Storage) {
    let checkpointer = CheckpointerBackend::new(storage);
    let puts = (0..24).map(|number| {
        let checkpointer = checkpointer.clone();
        tokio::spawn(async move {
            checkpointer.put(&growing("many", number, None)).await.unwrap();
            checkpointer.put_writes("many", "", &writes(number, "task", &[("c", "x")])).await.unwrap();
        })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.unwrap();
    }
    assert_eq!(checkpointer.thread("many").await.unwrap().unwrap().checkpoints, 24);
    let latest = checkpointer.get("many", "", None).await.unwrap().unwrap();
    assert_eq!(latest.header.key.checkpoint_id, id(23));
    assert_eq!(latest.channel_values["messages"].bytes.as_ref().unwrap(), &noise(42, 1_100 * 24));
}
