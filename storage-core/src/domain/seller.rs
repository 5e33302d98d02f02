//! What a seller's agent keeps.

use std::future::Future;

use serde::{Serialize, de::DeserializeOwned};

use super::{
    entity::{AGENT, AGENT_URL, BUYER_SESSIONS, CHANGE_REQUEST, MEDIA_KIT, PACKAGE, PRODUCT, PROPOSAL},
    index,
};
use crate::{Listing, Result, StorageBackend};

/// Products, proposals, packages, media kits, change requests and agents, and the indexes of sessions by buyer and of
/// agents by url, on every backend. [The module](super) says what holds for all calls, and which errors there are.
///
/// Deals, quotes, orders, sessions and negotiations are in [`AdBuyer`](super::AdBuyer): both sides keep them alike.
///
/// ```
/// use serde_json::{Value, json};
/// use storage_core::{MemoryBackend, StorageBackend, domain::AdSeller};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> storage_core::Result<()> {
/// let storage = MemoryBackend::new();
/// storage.connect().await?;
///
/// storage.set_change_request("cr-1", &json!({"order_id": "o-1", "status": "pending"})).await?;
/// storage.set_change_request("cr-2", &json!({"order_id": "o-2", "status": "pending"})).await?;
/// let pending = storage.list_change_requests::<Value>(Some("o-1"), Some("pending")).await?;
/// assert_eq!(pending.len(), 1);
///
/// storage.add_session_to_buyer_index("s-1", "acme|gold").await?;
/// storage.add_session_to_buyer_index("s-2", "acme|gold").await?;
/// assert_eq!(storage.get_buyer_session_ids("acme|gold").await?, ["s-1", "s-2"]);
/// # storage.disconnect().await
/// # }
/// ```
pub trait AdSeller: StorageBackend {
    /// The product, under `product:{id}`.
    fn get_product<T: DeserializeOwned>(&self, id: &str) -> impl Future<Output = Result<Option<T>>> + Send {
        PRODUCT.get(self, id)
    }

    /// Writes the product.
    fn set_product<T: Serialize + Sync + ?Sized>(
        &self,
        id: &str,
        product: &T,
    ) -> impl Future<Output = Result<()>> + Send {
        PRODUCT.set(self, id, product, None)
    }

    /// The products.
    fn list_products<T: DeserializeOwned + Send>(&self) -> impl Future<Output = Result<Listing<T>>> + Send {
        PRODUCT.list(self, &[])
    }

    /// The proposal, under `proposal:{id}`.
    fn get_proposal<T: DeserializeOwned>(&self, id: &str) -> impl Future<Output = Result<Option<T>>> + Send {
        PROPOSAL.get(self, id)
    }

    /// Writes the proposal.
    fn set_proposal<T: Serialize + Sync + ?Sized>(
        &self,
        id: &str,
        proposal: &T,
    ) -> impl Future<Output = Result<()>> + Send {
        PROPOSAL.set(self, id, proposal, None)
    }

    /// The proposals.
    fn list_proposals<T: DeserializeOwned + Send>(&self) -> impl Future<Output = Result<Listing<T>>> + Send {
        PROPOSAL.list(self, &[])
    }

    /// The package, under `package:{id}`.
    fn get_package<T: DeserializeOwned>(&self, id: &str) -> impl Future<Output = Result<Option<T>>> + Send {
        PACKAGE.get(self, id)
    }

    /// Writes the package.
    fn set_package<T: Serialize + Sync + ?Sized>(
        &self,
        id: &str,
        package: &T,
    ) -> impl Future<Output = Result<()>> + Send {
        PACKAGE.set(self, id, package, None)
    }

    /// Deletes the package.
    fn delete_package(&self, id: &str) -> impl Future<Output = Result<bool>> + Send {
        PACKAGE.delete(self, id)
    }

    /// The packages.
    fn list_packages<T: DeserializeOwned + Send>(&self) -> impl Future<Output = Result<Listing<T>>> + Send {
        PACKAGE.list(self, &[])
    }

    /// The media kit of a seller organization, under `media_kit:{org_id}`.
    fn get_media_kit<T: DeserializeOwned>(
        &self,
        org_id: &str,
    ) -> impl Future<Output = Result<Option<T>>> + Send {
        MEDIA_KIT.get(self, org_id)
    }

    /// Writes the media kit of a seller organization.
    fn set_media_kit<T: Serialize + Sync + ?Sized>(
        &self,
        org_id: &str,
        media_kit: &T,
    ) -> impl Future<Output = Result<()>> + Send {
        MEDIA_KIT.set(self, org_id, media_kit, None)
    }

    /// The change request, under `change_request:{id}`.
    fn get_change_request<T: DeserializeOwned>(
        &self,
        id: &str,
    ) -> impl Future<Output = Result<Option<T>>> + Send {
        CHANGE_REQUEST.get(self, id)
    }

    /// Writes the change request.
    fn set_change_request<T: Serialize + Sync + ?Sized>(
        &self,
        id: &str,
        request: &T,
    ) -> impl Future<Output = Result<()>> + Send {
        CHANGE_REQUEST.set(self, id, request, None)
    }

    /// The change requests with this `order_id` and `status`.
    fn list_change_requests<T: DeserializeOwned + Send>(
        &self,
        order_id: Option<&str>,
        status: Option<&str>,
    ) -> impl Future<Output = Result<Listing<T>>> + Send {
        CHANGE_REQUEST.list(self, &[("order_id", order_id), ("status", status)])
    }

    /// The registered agent, under `agent:{id}`.
    fn get_agent<T: DeserializeOwned>(&self, id: &str) -> impl Future<Output = Result<Option<T>>> + Send {
        AGENT.get(self, id)
    }

    /// Writes the registered agent.
    fn set_agent<T: Serialize + Sync + ?Sized>(
        &self,
        id: &str,
        agent: &T,
    ) -> impl Future<Output = Result<()>> + Send {
        AGENT.set(self, id, agent, None)
    }

    /// Deletes the registered agent.
    fn delete_agent(&self, id: &str) -> impl Future<Output = Result<bool>> + Send {
        AGENT.delete(self, id)
    }

    /// The registered agents. What is under `agent_url_index:` is none of them.
    fn list_agents<T: DeserializeOwned + Send>(&self) -> impl Future<Output = Result<Listing<T>>> + Send {
        AGENT.list(self, &[])
    }

    /// The ids of a buyer's sessions, under `session_index:buyer:{pricing_key}`, in the order in which they were added;
    /// empty where there are none. A session may have expired since: its id stays until it is removed.
    fn get_buyer_session_ids(&self, pricing_key: &str) -> impl Future<Output = Result<Vec<String>>> + Send {
        async move { Ok(BUYER_SESSIONS.get(self, pricing_key).await?.unwrap_or_default()) }
    }

    /// The sessions of a buyer, read in one call; those that have expired since are left out, and those that cannot be
    /// read are listed apart.
    fn get_buyer_sessions<T: DeserializeOwned + Send>(
        &self,
        pricing_key: &str,
    ) -> impl Future<Output = Result<Listing<T>>> + Send {
        index::sessions(self, pricing_key)
    }

    /// Adds a session to the end of a buyer's index, unless it is in it. Concurrent callers lose nothing, those of other
    /// processes where the backend has `compare_and_set`.
    ///
    /// # Errors
    /// `InvalidInput` for an id that no session can have; `Corrupt`, changing nothing, where the index is no array of
    /// strings; else as [`update_unguarded`](crate::StorageExt::update_unguarded).
    fn add_session_to_buyer_index(
        &self,
        session_id: &str,
        pricing_key: &str,
    ) -> impl Future<Output = Result<()>> + Send {
        index::add(self, session_id, pricing_key)
    }

    /// Removes a session from a buyer's index; true where it was in it. The index goes with its last session.
    /// Concurrent callers lose nothing, those of other processes where the backend has `compare_and_set`.
    ///
    /// # Errors
    /// `Corrupt`, changing nothing, where the index is no array of strings; else as
    /// [`update_unguarded`](crate::StorageExt::update_unguarded).
    fn remove_session_from_buyer_index(
        &self,
        session_id: &str,
        pricing_key: &str,
    ) -> impl Future<Output = Result<bool>> + Send {
        index::remove(self, session_id, pricing_key)
    }

    /// The id of the agent at `url`, under `agent_url_index:{url}`. The url is taken as it is, byte for byte; one that
    /// makes the key longer than [`MAX_KEY_BYTES`](crate::MAX_KEY_BYTES) is `InvalidInput`.
    ///
    /// The registry of the Python seller agent gives a hash in place of the url: to read its entries, give the same, the
    /// first 16 hexadecimal digits of the SHA-256 of the url without slashes at its end.
    fn get_agent_url_index(&self, url: &str) -> impl Future<Output = Result<Option<String>>> + Send {
        AGENT_URL.get(self, url)
    }

    /// Says which agent is at `url`, over whatever was said before.
    ///
    /// # Errors
    /// `InvalidInput` for an id that no agent can have.
    fn set_agent_url_index(&self, url: &str, agent_id: &str) -> impl Future<Output = Result<()>> + Send {
        async move {
            AGENT.key(self, "set", agent_id)?;
            AGENT_URL.set(self, url, agent_id, None).await
        }
    }
}

impl<B: StorageBackend + ?Sized> AdSeller for B {}
