//! Random commits, step by step against the memory backend.

use std::sync::Arc;

use storage_core::{
    Commit, Committed, Item, Operation, Partition, PartitionInfo, Precondition, PutMode, Result,
};

use super::*;
use crate::{Subject, sample::Backend};

/// Random commits answer what the memory backend answers, and leave what it has.
pub async fn random_commits_behave_as_in_memory(subject: Subject) {
    let backend = subject.connected().await;
    let reference: Backend = Arc::new(storage_core::MemoryBackend::new());
    reference.connect().await.unwrap();
    let of = partition("s-1");
    let [mut found, mut expected] = [backend, reference].map(|backend| Counted { backend, before: 0 });
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for step in 0..250 {
        let right = expected.commit(random_commit(&mut random.clone(), &of, expected.before)).await;
        let commit = random_commit(&mut random, &of, found.before);
        match (right, found.commit(commit.clone()).await) {
            (Ok(right), Ok(answer)) => assert_eq!(answer, right, "step {step}, seed {seed}: {commit:?}"),
            (Err(right), Err(error)) => {
                assert_eq!(error.kind(), right.kind(), "step {step}, seed {seed}: {commit:?}");
            }
            (right, answer) => panic!("step {step}, seed {seed}: {commit:?}: {answer:?}, not {right:?}"),
        }
        if random.u8(..40) == 0 {
            assert_eq!(found.delete(&of).await, expected.delete(&of).await, "step {step}, seed {seed}");
        }
    }
    assert_eq!(found.state(&of).await, expected.state(&of).await, "seed {seed}");
}

/// A backend whose one partition has versions that begin with 1, so that they compare with another's.
struct Counted {
    backend: Backend,
    /// One less than the version of the first commit since there was no partition.
    before: u64,
}

impl Counted {
    async fn commit(&mut self, commit: Commit) -> Result<Committed> {
        let mut committed = store(&self.backend).commit(commit).await?;
        if self.before == 0 {
            self.before = committed.version.saturating_sub(1);
        }
        committed.version -= self.before;
        Ok(committed)
    }

    async fn delete(&mut self, of: &Partition) -> bool {
        self.before = 0;
        store(&self.backend).delete_partition(of).await.unwrap()
    }

    async fn state(&self, of: &Partition) -> impl PartialEq + std::fmt::Debug {
        let item = |item: Item| (item.sort, item.attributes, item.body, item.version - self.before);
        let items: Vec<_> = all(&self.backend, of).await.into_iter().map(item).collect();
        let counts =
            |info: PartitionInfo| (info.version - self.before, info.items, info.bytes, info.sequence);
        (items, info(&self.backend, of).await.map(counts))
    }
}

/// `before`: what versions of the partition are counted from.
fn random_commit(random: &mut fastrand::Rng, of: &Partition, before: u64) -> Commit {
    let sort = |random: &mut fastrand::Rng| ["a", "b", "c:1", "c:2", "m:", "n"][random.usize(..6)].to_owned();
    let mut commit = Commit::new(of.clone());
    if random.u8(..4) == 0 {
        commit = commit.only_if(match random.u8(..4) {
            0 => Precondition::Version(match random.u64(..6) {
                0 => 0,
                count => before + count,
            }),
            1 => Precondition::Absent(sort(random)),
            2 => Precondition::Present(sort(random)),
            _ => Precondition::ItemVersion(sort(random), before + random.u64(1..6)),
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
                max_age: None,
            },
        });
    }
    commit
}
