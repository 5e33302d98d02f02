//! Random sequences of operations, step by step against the memory backend.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use serde_json::json;
use storage_core::{Batch, Entry, Expected, Expiry, Json, MemoryBackend, Result, Scan, StorageExt};

use crate::{
    Subject,
    sample::{Backend, value},
};

const STEPS: usize = 600;

/// One step, drawn at random, so that it can be done to both stores.
#[derive(Debug, Clone)]
enum Step {
    Get(String),
    Set(String, Json, Option<Duration>),
    Delete(String),
    Exists(String),
    Keys(String),
    Scan(String),
    GetMany(Vec<String>),
    SetMany(Vec<(String, Json)>),
    DeleteMany(Vec<String>),
    CompareAndSet(String, Expected, Option<Json>),
    Increment(String, i64),
    Apply(Vec<(String, Option<Json>)>),
    Ttl(String),
    Persist(String),
    Expire(String),
}

fn key(random: &mut fastrand::Rng) -> String {
    // One hash tag, so that a batch stays in one slot of a cluster.
    let names = ["deal:{m}1", "deal:{m}10", "deal:{m}*", "deal:{m}é", "Deal:{m}1", "deal:{m}_", "deal:{m}%"];
    names[random.usize(..names.len())].to_owned()
}

fn some_value(random: &mut fastrand::Rng) -> Json {
    match random.u8(..6) {
        0 => Json::from(random.i64(-5..5)),
        1 => value(&json!({"a": random.u8(..3), "b": 1.0})),
        2 => Json::parse(r#"{"b":1,"a":0}"#).unwrap(),
        3 => value(&json!(null)),
        4 => value(&json!("text")),
        _ => Json::parse("2e0").unwrap(),
    }
}

fn step(random: &mut fastrand::Rng, full: bool) -> Step {
    let several =
        |random: &mut fastrand::Rng| (0..random.usize(1..5)).map(|_| key(random)).collect::<Vec<_>>();
    let pairs = |random: &mut fastrand::Rng| {
        several(random).into_iter().map(|k| (k, fastrand::u8(..))).collect::<Vec<_>>()
    };
    let patterns =
        ["*", "deal:*", "deal:{m}?", "deal:{m}[*]", "deal:{m}[1-9]*", "[Dd]eal:{m}1", "deal:{m}\\*"];
    let pattern = patterns[random.usize(..patterns.len())].to_owned();
    match random.u8(..if full { 20 } else { 12 }) {
        0 | 1 => Step::Get(key(random)),
        2..=4 => {
            Step::Set(key(random), some_value(random), random.bool().then(|| Duration::from_secs(1_000)))
        }
        5 => Step::Delete(key(random)),
        6 => Step::Exists(key(random)),
        7 => Step::Keys(pattern),
        8 => Step::Scan(pattern),
        9 => Step::GetMany(several(random)),
        10 => Step::SetMany(pairs(random).into_iter().map(|(k, _)| (k, some_value(random))).collect()),
        11 => Step::DeleteMany(several(random)),
        12..=14 => {
            let expected = if random.bool() { Expected::Absent } else { Expected::Value(some_value(random)) };
            let new = random.bool().then(|| some_value(random));
            Step::CompareAndSet(key(random), expected, new)
        }
        15 | 16 => Step::Increment(key(random), random.i64(-3..3)),
        17 => Step::Apply(
            pairs(random).into_iter().map(|(k, n)| (k, (n % 3 > 0).then(|| some_value(random)))).collect(),
        ),
        18 => Step::Ttl(key(random)),
        _ if random.bool() => Step::Persist(key(random)),
        _ => Step::Expire(key(random)),
    }
}

/// What a step answered, in a form that compares: kinds of errors, values by meaning, expiries by being there.
#[derive(Debug, PartialEq)]
enum Answer {
    Failed(storage_core::ErrorKind),
    Done,
    Flag(bool),
    Count(i64),
    Value(Option<Json>),
    Values(Vec<Option<Json>>),
    Keys(Vec<String>),
    Entries(Vec<(String, Option<Json>)>),
    Expires(Option<bool>),
}

async fn perform(backend: &Backend, step: Step) -> Answer {
    answer(backend, step).await.unwrap_or_else(|error| Answer::Failed(error.kind()))
}

async fn answer(backend: &Backend, step: Step) -> Result<Answer> {
    fn names(keys: &[String]) -> Vec<&str> {
        keys.iter().map(String::as_str).collect()
    }
    Ok(match step {
        Step::Get(key) => Answer::Value(backend.get(&key).await?),
        Step::Set(key, value, ttl) => backend.set(&key, value, ttl).await.map(|()| Answer::Done)?,
        Step::Delete(key) => Answer::Flag(backend.delete(&key).await?),
        Step::Exists(key) => Answer::Flag(backend.exists(&key).await?),
        Step::Keys(pattern) => Answer::Keys(backend.keys(&pattern).await?),
        Step::Scan(pattern) => {
            let found: Vec<_> = backend.scan(Scan::entries(&pattern)?).collect().await;
            let found: Result<Vec<_>> =
                found.into_iter().map(|one| one.map(|one| (one.key, one.value))).collect();
            let mut found = found?;
            found.sort_by(|left, right| left.0.cmp(&right.0));
            Answer::Entries(found)
        }
        Step::GetMany(keys) => {
            let found = backend.get_many(&names(&keys)).await?;
            Answer::Values(found.into_iter().collect::<Result<_>>()?)
        }
        Step::SetMany(pairs) => {
            let entries = pairs.into_iter().map(|(key, value)| Entry::new(key, value)).collect();
            backend.set_many(entries).await.map(|()| Answer::Done)?
        }
        Step::DeleteMany(keys) => Answer::Count(backend.delete_many(&names(&keys)).await?.cast_signed()),
        Step::CompareAndSet(key, expected, new) => {
            Answer::Flag(backend.compare_and_set(&key, expected, new, None).await?)
        }
        Step::Increment(key, by) => Answer::Count(backend.increment(&key, by, None).await?),
        Step::Apply(pairs) => {
            let batch = pairs.into_iter().fold(Batch::new(), |batch, (key, value)| match value {
                Some(value) => batch.set(key, value, None),
                None => batch.delete(key),
            });
            backend.apply(batch).await.map(|()| Answer::Done)?
        }
        Step::Ttl(key) => Answer::Expires(backend.ttl(&key).await?.map(|expiry| expiry != Expiry::Never)),
        Step::Persist(key) => Answer::Flag(backend.persist(&key).await?),
        Step::Expire(key) => Answer::Flag(backend.expire(&key, Duration::from_secs(500)).await?),
    })
}

/// Every answer and, at the end, every entry is what the memory backend has.
pub async fn a_random_sequence_behaves_as_in_memory(subject: Subject) {
    let backend: Backend = subject.connected().await;
    let reference: Backend = Arc::new(MemoryBackend::new());
    reference.connect().await.unwrap();
    let full = backend.capabilities().compare_and_set;
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for number in 0..STEPS {
        let step = step(&mut random, full);
        let expected = perform(&reference, step.clone()).await;
        let found = perform(&backend, step.clone()).await;
        assert_eq!(found, expected, "step {number}, seed {seed}: {step:?}");
    }
    let everything = Step::Scan("*".to_owned());
    assert_eq!(
        perform(&backend, everything.clone()).await,
        perform(&reference, everything).await,
        "seed {seed}"
    );
}
