//! What many agents do at once.

use std::sync::Arc;

use serde_json::Value;
use storage_core::{
    Expected, Json,
    domain::{AdBuyer, AdSeller},
};
use tokio::task::JoinSet;

use super::{
    narrator::Narrator,
    sample::Sample,
    storage::{Storage, promise},
};
use crate::{
    failure::{Failure, Result, STORE},
    output::counted,
};

/// How many agents work at once.
const AGENTS: usize = 64;

pub(super) async fn one_approval(
    storage: &Storage,
    sample: &Sample,
    narrator: &mut Narrator<'_>,
) -> Result<()> {
    narrator.step(
        "64 agents approve one order",
        "compare_and_set writes only if the entry is still what was read.",
    )?;
    let id = sample.id("o-1");
    storage.set_order(&id, sample.one("order", "o-1")).await?;
    let key = format!("order:{id}");
    let read = storage.get(&key).await?;
    let mut order: Value = storage.get_order(&id).await?.unwrap_or_default();
    let won = all(storage, move |storage, agent| {
        let (key, expected) = (key.clone(), Expected::from_read(read.clone()));
        if let Some(order) = order.as_object_mut() {
            order.insert("status".to_owned(), "approved".into());
            order.insert("approved_by".to_owned(), format!("agent-{agent}").into());
        }
        let approved = Json::from_serialize(&order);
        async move { storage.compare_and_set(&key, expected, Some(approved?), None).await }
    });
    let won = won.await?.into_iter().filter(|won| *won).count();
    promise(won == 1, "of many who compare and set, one wins")?;
    narrator.say(format_args!("{AGENTS} tried, {won} won; the others know that they came too late"))
}

pub(super) async fn sessions(storage: &Storage, sample: &Sample, narrator: &mut Narrator<'_>) -> Result<()> {
    narrator.step(
        "64 sessions at once in one index",
        "Read, change, write would lose some; the buyer index loses none.",
    )?;
    let buyer = sample.id("northtrail");
    let added = all(storage, |storage, agent| {
        let buyer = buyer.clone();
        async move { storage.add_session_to_buyer_index(&format!("s-{agent:02}"), &buyer).await }
    });
    added.await?;
    let ids = storage.get_buyer_session_ids(&buyer).await?;
    promise(ids.len() == AGENTS, "concurrent additions to an index lose nothing")?;
    narrator.say(format_args!("{AGENTS} added, {} in the index", ids.len()))
}

pub(super) async fn impressions(
    storage: &Storage,
    sample: &Sample,
    narrator: &mut Narrator<'_>,
) -> Result<()> {
    narrator.step("Counting impressions", "increment is one atomic step in the store.")?;
    let key = format!("counter:{}", sample.id("impressions"));
    let counted_by_all = all(storage, |storage, _| {
        let key = key.clone();
        async move { storage.increment(&key, 1_000, None).await }
    });
    counted_by_all.await?;
    let sum = storage.increment(&key, 0, None).await?;
    promise(sum == 64_000, "concurrent increments lose nothing")?;
    let shown = counted(sum.unsigned_abs(), "impression", "impressions");
    narrator.say(format_args!("{AGENTS} agents counted 1,000 each: {shown}"))
}

/// Lets all agents work at once, and returns what each has.
async fn all<T, W>(storage: &Storage, mut work: impl FnMut(Storage, usize) -> W) -> Result<Vec<T>>
where
    T: Send + 'static,
    W: Future<Output = storage_core::Result<T>> + Send + 'static,
{
    let mut agents = JoinSet::new();
    for agent in 0..AGENTS {
        agents.spawn(work(Arc::clone(storage), agent));
    }
    let mut answers = Vec::with_capacity(AGENTS);
    while let Some(ended) = agents.join_next().await {
        let answer = ended.map_err(|_| Failure::new(STORE, "agent", "an agent of the demo ended early"))?;
        answers.push(answer?);
    }
    Ok(answers)
}
