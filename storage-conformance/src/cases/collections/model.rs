//! Random commits, step by step against the memory backend.

use std::sync::Arc;

use storage_core::{Commit, Item, Operation, Partition, PartitionInfo, Precondition, PutMode};

use super::*;
use crate::{Subject, sample::Backend};

/// Random commits answer what the memory backend answers, and leave what it has.
pub async fn random_commits_behave_as_in_memory(subject: Subject) {
    let backend = subject.connected().await;
    let reference: Backend = Arc::new(storage_core::MemoryBackend::new());
    reference.connect().await.unwrap();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let of = partition("s-1");
    for step in 0..250 {
        let commit = random_commit(&mut random, &of);
        let expected = store(&reference).commit(commit.clone()).await;
        let found = store(&backend).commit(commit.clone()).await;
        match (expected, found) {
            (Ok(expected), Ok(found)) => assert_eq!(found, expected, "step {step}, seed {seed}: {commit:?}"),
            (Err(expected), Err(found)) => {
                assert_eq!(found.kind(), expected.kind(), "step {step}, seed {seed}: {commit:?}");
            }
            (expected, found) => panic!("step {step}, seed {seed}: {commit:?}: {found:?}, not {expected:?}"),
        }
        if random.u8(..40) == 0 {
            let deleted = store(&backend).delete_partition(&of).await.unwrap();
            assert_eq!(deleted, store(&reference).delete_partition(&of).await.unwrap());
        }
    }
    let plain = |item: Item| (item.sort, item.attributes, item.body, item.version);
    let found: Vec<_> = all(&backend, &of).await.into_iter().map(plain).collect();
    let expected: Vec<_> = all(&reference, &of).await.into_iter().map(plain).collect();
    assert_eq!(found, expected, "seed {seed}");
    let plain = |info: PartitionInfo| (info.version, info.items, info.bytes, info.sequence);
    assert_eq!(info(&backend, &of).await.map(plain), info(&reference, &of).await.map(plain), "seed {seed}");
}

fn random_commit(random: &mut fastrand::Rng, of: &Partition) -> Commit {
    let sort = |random: &mut fastrand::Rng| ["a", "b", "c:1", "c:2", "m:", "n"][random.usize(..6)].to_owned();
    let mut commit = Commit::new(of.clone());
    if random.u8(..4) == 0 {
        commit = commit.only_if(match random.u8(..4) {
            0 => Precondition::Version(random.u64(..6)),
            1 => Precondition::Absent(sort(random)),
            2 => Precondition::Present(sort(random)),
            _ => Precondition::ItemVersion(sort(random), random.u64(1..6)),
        });
    }
    for _ in 0..random.usize(..5) {
        commit = commit.with(match random.u8(..12) {
            0..=2 => upsert(&sort(random), &"x".repeat(random.usize(..40))),
            3 => put(&sort(random), "if absent", PutMode::InsertIfAbsent),
            4 => put(&sort(random), "insert", PutMode::Insert),
            5 | 6 => append("appended"),
            7 => tagged("tagged", &format!("t-{}", random.u8(..4))),
            8 => Operation::Delete { sort: sort(random) },
            9 => Operation::DeleteRange { from: sort(random), to: random.bool().then(|| sort(random)) },
            10 => Operation::Increment {
                sort: "n".to_owned() + &random.u8(..2).to_string(),
                by: random.i64(-5..5),
            },
            _ => Operation::Trim {
                items: random.bool().then(|| random.u64(..12)),
                bytes: random.bool().then(|| random.u64(..400)),
                written_since: None,
            },
        });
    }
    commit
}
