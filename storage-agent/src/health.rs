//! Whether each store takes a write, gives it back and deletes it.

use std::time::{Duration, Instant};

use serde::Serialize;
use storage_core::{
    Commit, Error, Expire, Health, HealthStatus, Json, Operation, Partition, PutMode, Result,
};

use crate::shared::Shared;

/// What is kept where, and a kind of keys that hybrid routes there.
const PROBES: [(&str, &str); 2] = [("durable", "health"), ("ephemeral", "cache")];
/// A probe whose program dies expires.
const PROBE_TTL: Duration = Duration::from_secs(60);
/// What a probe writes.
const PROBED: i64 = 1;
/// A store that takes longer for the three steps is degraded.
const SLOW: Duration = Duration::from_secs(1);

/// How the storage is.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct AgentHealth {
    /// `Healthy` where both do all three steps within a second and every server answers, `Unhealthy` where neither does
    /// them, `Degraded` between.
    pub status: HealthStatus,
    /// Why it is not healthy; empty where it is.
    pub reasons: Vec<String>,
    /// Where durable and where ephemeral data is kept: two stores on hybrid, else one and the same.
    pub probes: Vec<StoreProbe>,
}

/// How a store did: a write, a read and a deletion, of an entry and of an item in a partition each.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct StoreProbe {
    /// `durable` or `ephemeral`.
    pub kept: &'static str,
    /// How long the write took, where it was done.
    pub write: Option<Duration>,
    /// How long the read took, where it was done.
    pub read: Option<Duration>,
    /// How long the deletion took, where it was done.
    pub delete: Option<Duration>,
    /// Which step failed, and why.
    pub error: Option<String>,
}

impl AgentHealth {
    pub(crate) async fn check(shared: &Shared) -> Self {
        let probes = PROBES.map(|(kept, kind)| StoreProbe::of(shared, kept, kind));
        let (probes, answers) = tokio::join!(futures::future::join_all(probes), shared.storage.health());
        Self::of(probes, &answers)
    }

    fn of(probes: Vec<StoreProbe>, answers: &Health) -> Self {
        let failing = answers.stores.iter().filter_map(|store| {
            let (what, error) = match (&store.read_error, &store.write_error) {
                (Some(error), Some(_)) => ("does not answer", error),
                (Some(error), None) => ("cannot be read", error),
                (None, Some(error)) => ("takes no writes", error),
                (None, None) => return None,
            };
            Some(format!("{} {what}: {error}", store.store))
        });
        let reasons: Vec<String> = probes.iter().filter_map(StoreProbe::reason).chain(failing).collect();
        let status = if probes.iter().all(|probe| probe.error.is_some()) {
            HealthStatus::Unhealthy
        } else if reasons.is_empty() {
            HealthStatus::Healthy
        } else {
            HealthStatus::Degraded
        };
        Self { status, reasons, probes }
    }
}

impl StoreProbe {
    async fn of(shared: &Shared, kept: &'static str, kind: &str) -> Self {
        let mut probe = Self { kept, write: None, read: None, delete: None, error: None };
        if let Err((step, error)) = probe.run(shared, kind).await {
            probe.error = Some(format!("{step}: {error}"));
        }
        probe
    }

    async fn run(&mut self, shared: &Shared, kind: &str) -> Result<(), (&'static str, Error)> {
        let probe = Probe::new(shared, kind).map_err(|error| ("write", error))?;
        let start = Instant::now();
        probe.write().await.map_err(|error| ("write", error))?;
        self.write = Some(start.elapsed());
        let start = Instant::now();
        probe.read().await.map_err(|error| ("read", error))?;
        self.read = Some(start.elapsed());
        let start = Instant::now();
        probe.delete().await.map_err(|error| ("delete", error))?;
        self.delete = Some(start.elapsed());
        Ok(())
    }

    fn reason(&self) -> Option<String> {
        let total: Duration = [self.write, self.read, self.delete].into_iter().flatten().sum();
        match &self.error {
            Some(error) => Some(format!("{}: {error}", self.kept)),
            None if total > SLOW => Some(format!("{}: slow, {} ms", self.kept, total.as_millis())),
            None => None,
        }
    }
}

/// One entry and one partition of a name that no other probe has.
struct Probe<'a> {
    shared: &'a Shared,
    key: String,
    partition: Partition,
}

impl<'a> Probe<'a> {
    fn new(shared: &'a Shared, kind: &str) -> Result<Self> {
        let id = format!("probe-{:016x}", fastrand::u64(..));
        Ok(Self { shared, key: format!("{kind}:{id}"), partition: Partition::new(kind, &[&id])? })
    }

    async fn write(&self) -> Result<()> {
        let value = Json::from(PROBED);
        let put = Operation::put("probe", value.clone(), "", PutMode::Upsert);
        let commit = Commit::new(self.partition.clone()).with(put).expire(Expire::After(PROBE_TTL));
        let collections = self.shared.collections()?;
        let set = self.shared.storage.set(&self.key, value, Some(PROBE_TTL));
        tokio::try_join!(set, collections.commit(commit)).map(drop)
    }

    async fn read(&self) -> Result<()> {
        let collections = self.shared.collections()?;
        let (entry, items) = tokio::try_join!(
            self.shared.storage.get(&self.key),
            collections.items(&self.partition, &["probe"])
        )?;
        let (found, probed) = (items.into_iter().next().flatten(), Some(Json::from(PROBED)));
        if entry == probed && found.map(|item| item.attributes) == probed {
            return Ok(());
        }
        Err(Error::corrupt("what was just written is not what is there"))
    }

    async fn delete(&self) -> Result<()> {
        let collections = self.shared.collections()?;
        let (entry, partition) = tokio::try_join!(
            self.shared.storage.delete(&self.key),
            collections.delete_partition(&self.partition)
        )?;
        if entry && partition {
            return Ok(());
        }
        Err(Error::corrupt("what was just written could not be deleted"))
    }
}

#[cfg(test)]
mod tests {
    use storage_core::{ErrorKind, StoreHealth};

    use super::*;

    fn probe(kept: &'static str, millis: u64, error: Option<&str>) -> StoreProbe {
        let step = Some(Duration::from_millis(millis));
        let error = error.map(str::to_owned);
        StoreProbe { kept, write: step, read: step, delete: step, error }
    }

    #[test]
    fn the_status_says_whether_all_some_or_no_store_works_and_the_reasons_say_why() {
        let (good, slow, gone) =
            (probe("a", 1, None), probe("b", 400, None), probe("c", 1, Some("read: gone")));
        let node = |error| StoreHealth::new("node", Duration::ZERO, error, error);
        let down = Error::new(ErrorKind::Unavailable, "gone");
        for (probes, node, status, reasons) in [
            (vec![good.clone()], node(None), HealthStatus::Healthy, vec![]),
            (vec![good.clone(), slow], node(None), HealthStatus::Degraded, vec!["b: slow, 1200 ms"]),
            (vec![good.clone(), gone.clone()], node(None), HealthStatus::Degraded, vec!["c: read: gone"]),
            (vec![good], node(Some(&down)), HealthStatus::Degraded, vec!["node does not answer: gone"]),
            (vec![gone], node(None), HealthStatus::Unhealthy, vec!["c: read: gone"]),
        ] {
            let health = AgentHealth::of(probes, &Health { stores: vec![node] });
            assert_eq!(health.status, status);
            assert_eq!(health.reasons, reasons);
        }
    }
}
