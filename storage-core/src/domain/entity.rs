//! What all entities have in common: a key prefix, and four operations over values of any type.

use std::{future::Future, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Listing, Result, Scan, StorageBackend, StorageExt, escape_glob, join_key};

pub(super) const AGENT: Entity = Entity("agent:");
pub(super) const AGENT_URL: Entity = Entity("agent_url_index:");
pub(super) const BUYER_SESSIONS: Entity = Entity("session_index:buyer:");
pub(super) const CAMPAIGN: Entity = Entity("campaign:");
pub(super) const CHANGE_REQUEST: Entity = Entity("change_request:");
pub(super) const CONVERSION: Entity = Entity("conversion:");
pub(super) const DEAL: Entity = Entity("deal:");
pub(super) const EXPERIMENT: Entity = Entity("experiment:");
pub(super) const MEDIA_KIT: Entity = Entity("media_kit:");
pub(super) const MODEL_ARTIFACT: Entity = Entity("model:");
pub(super) const NEGOTIATION: Entity = Entity("negotiation:");
pub(super) const OPTIMIZATION_DECISION: Entity = Entity("opt_decision:");
pub(super) const ORDER: Entity = Entity("order:");
pub(super) const PACING_SNAPSHOT: Entity = Entity("pacing:");
pub(super) const PACKAGE: Entity = Entity("package:");
pub(super) const PRODUCT: Entity = Entity("product:");
pub(super) const PROPOSAL: Entity = Entity("proposal:");
pub(super) const QUOTE: Entity = Entity("quote:");
pub(super) const SESSION: Entity = Entity("session:");
pub(super) const SUPPLY_PATH_SCORE: Entity = Entity("supply_path:");

/// A kind of entry, by the prefix of its keys.
#[derive(Clone, Copy)]
pub(super) struct Entity(&'static str);

impl Entity {
    /// The key of the entry `id`, checked.
    pub(super) fn key(
        self,
        storage: &(impl StorageBackend + ?Sized),
        operation: &'static str,
        id: &str,
    ) -> Result<String> {
        join_key(self.0, id).map_err(|error| error.at(storage.name(), operation))
    }

    pub(super) async fn get<T: DeserializeOwned>(
        self,
        storage: &(impl StorageBackend + ?Sized),
        id: &str,
    ) -> Result<Option<T>> {
        storage.get_as(&self.key(storage, "get", id)?).await
    }

    pub(super) async fn set<T: Serialize + Sync + ?Sized>(
        self,
        storage: &(impl StorageBackend + ?Sized),
        id: &str,
        value: &T,
        ttl: Option<Duration>,
    ) -> Result<()> {
        storage.set_as(&self.key(storage, "set", id)?, value, ttl).await
    }

    pub(super) async fn delete(self, storage: &(impl StorageBackend + ?Sized), id: &str) -> Result<bool> {
        storage.delete(&self.key(storage, "delete", id)?).await
    }

    /// The entries whose fields equal every filter that has a value, in one scan.
    pub(super) fn list<'a, B, T>(
        self,
        storage: &'a B,
        filters: &[(&str, Option<&str>)],
    ) -> impl Future<Output = Result<Listing<T>>> + Send + use<'a, B, T>
    where
        B: StorageBackend + ?Sized,
        T: DeserializeOwned + Send,
    {
        let scan = self.scan(filters);
        async move {
            let found = storage.collect::<T>(scan?).await?;
            let entries = found.entries.into_iter().map(|(_, entry)| entry).collect();
            Ok(Listing { entries, corrupt: found.corrupt })
        }
    }

    fn scan(self, filters: &[(&str, Option<&str>)]) -> Result<Scan> {
        let scan = Scan::entries(&format!("{}*", escape_glob(self.0)))?;
        let given = filters.iter().filter_map(|(path, equals)| equals.map(|equals| (path, equals)));
        Ok(given.fold(scan, |scan, (path, equals)| scan.filter(path, equals)))
    }
}
