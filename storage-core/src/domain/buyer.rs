//! What a buyer's agent keeps.

use std::{future::Future, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use super::entity::{
    CAMPAIGN, CONVERSION, DEAL, EXPERIMENT, MODEL_ARTIFACT, NEGOTIATION, OPTIMIZATION_DECISION, ORDER,
    PACING_SNAPSHOT, QUOTE, SESSION, SUPPLY_PATH_SCORE,
};
use crate::{Listing, Result, StorageBackend};

/// How long a quote stays unless the caller says otherwise: 24 hours.
pub const QUOTE_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Deals, campaigns, orders, sessions, conversions, optimization decisions, experiments, supply path scores, quotes,
/// negotiations, model artifacts and pacing snapshots, on every backend. [The module](super) says what holds for all
/// calls, and which errors there are.
///
/// ```
/// use std::sync::Arc;
/// use serde::{Deserialize, Serialize};
/// use storage_core::{MemoryBackend, StorageBackend, domain::AdBuyer};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct Deal { status: String, deal_type: String, cpm: f64 }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> storage_core::Result<()> {
/// let storage: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new());
/// storage.connect().await?;
///
/// let deal = Deal { status: "active".into(), deal_type: "PMP".into(), cpm: 15.0 };
/// storage.set_deal("d-1", &deal).await?;
/// storage.set_deal("d-2", &serde_json::json!({"status": "booked", "deal_type": "PMP", "cpm": 9})).await?;
///
/// assert_eq!(storage.get_deal::<Deal>("d-1").await?, Some(deal));
/// let booked = storage.list_deals::<Deal>(Some("booked"), None).await?;
/// assert_eq!(booked.len(), 1);
/// assert_eq!(booked[0].cpm, 9.0);
/// assert!(storage.delete_deal("d-1").await?);
/// # storage.disconnect().await
/// # }
/// ```
pub trait AdBuyer: StorageBackend {
    /// The deal, under `deal:{id}`.
    fn get_deal<T: DeserializeOwned>(&self, id: &str) -> impl Future<Output = Result<Option<T>>> + Send {
        DEAL.get(self, id)
    }

    /// Writes the deal.
    fn set_deal<T: Serialize + Sync + ?Sized>(
        &self,
        id: &str,
        deal: &T,
    ) -> impl Future<Output = Result<()>> + Send {
        DEAL.set(self, id, deal, None)
    }

    /// Deletes the deal.
    fn delete_deal(&self, id: &str) -> impl Future<Output = Result<bool>> + Send {
        DEAL.delete(self, id)
    }

    /// The deals with this `status` and `deal_type`.
    fn list_deals<T: DeserializeOwned + Send>(
        &self,
        status: Option<&str>,
        deal_type: Option<&str>,
    ) -> impl Future<Output = Result<Listing<T>>> + Send {
        DEAL.list(self, &[("status", status), ("deal_type", deal_type)])
    }

    /// The campaign, under `campaign:{id}`.
    fn get_campaign<T: DeserializeOwned>(&self, id: &str) -> impl Future<Output = Result<Option<T>>> + Send {
        CAMPAIGN.get(self, id)
    }

    /// Writes the campaign.
    fn set_campaign<T: Serialize + Sync + ?Sized>(
        &self,
        id: &str,
        campaign: &T,
    ) -> impl Future<Output = Result<()>> + Send {
        CAMPAIGN.set(self, id, campaign, None)
    }

    /// The campaigns with this `status`.
    fn list_campaigns<T: DeserializeOwned + Send>(
        &self,
        status: Option<&str>,
    ) -> impl Future<Output = Result<Listing<T>>> + Send {
        CAMPAIGN.list(self, &[("status", status)])
    }

    /// The order, under `order:{id}`.
    fn get_order<T: DeserializeOwned>(&self, id: &str) -> impl Future<Output = Result<Option<T>>> + Send {
        ORDER.get(self, id)
    }

    /// Writes the order.
    fn set_order<T: Serialize + Sync + ?Sized>(
        &self,
        id: &str,
        order: &T,
    ) -> impl Future<Output = Result<()>> + Send {
        ORDER.set(self, id, order, None)
    }

    /// Deletes the order.
    fn delete_order(&self, id: &str) -> impl Future<Output = Result<bool>> + Send {
        ORDER.delete(self, id)
    }

    /// The orders with this `status`.
    fn list_orders<T: DeserializeOwned + Send>(
        &self,
        status: Option<&str>,
    ) -> impl Future<Output = Result<Listing<T>>> + Send {
        ORDER.list(self, &[("status", status)])
    }

    /// The session, under `session:{id}`.
    fn get_session<T: DeserializeOwned>(&self, id: &str) -> impl Future<Output = Result<Option<T>>> + Send {
        SESSION.get(self, id)
    }

    /// Writes the session, to stay for `ttl` or, without one, for good.
    fn set_session<T: Serialize + Sync + ?Sized>(
        &self,
        id: &str,
        session: &T,
        ttl: Option<Duration>,
    ) -> impl Future<Output = Result<()>> + Send {
        SESSION.set(self, id, session, ttl)
    }

    /// Deletes the session.
    fn delete_session(&self, id: &str) -> impl Future<Output = Result<bool>> + Send {
        SESSION.delete(self, id)
    }

    /// The sessions. What is under `session_index:` is none of them.
    fn list_sessions<T: DeserializeOwned + Send>(&self) -> impl Future<Output = Result<Listing<T>>> + Send {
        SESSION.list(self, &[])
    }

    /// The conversion event, under `conversion:{id}`.
    fn get_conversion<T: DeserializeOwned>(
        &self,
        id: &str,
    ) -> impl Future<Output = Result<Option<T>>> + Send {
        CONVERSION.get(self, id)
    }

    /// Writes the conversion event.
    fn set_conversion<T: Serialize + Sync + ?Sized>(
        &self,
        id: &str,
        conversion: &T,
    ) -> impl Future<Output = Result<()>> + Send {
        CONVERSION.set(self, id, conversion, None)
    }

    /// The conversion events with this `deal_id` and `campaign_id`.
    fn list_conversions<T: DeserializeOwned + Send>(
        &self,
        deal_id: Option<&str>,
        campaign_id: Option<&str>,
    ) -> impl Future<Output = Result<Listing<T>>> + Send {
        CONVERSION.list(self, &[("deal_id", deal_id), ("campaign_id", campaign_id)])
    }

    /// The optimization decision, under `opt_decision:{id}`.
    fn get_optimization_decision<T: DeserializeOwned>(
        &self,
        id: &str,
    ) -> impl Future<Output = Result<Option<T>>> + Send {
        OPTIMIZATION_DECISION.get(self, id)
    }

    /// Writes the optimization decision.
    fn set_optimization_decision<T: Serialize + Sync + ?Sized>(
        &self,
        id: &str,
        decision: &T,
    ) -> impl Future<Output = Result<()>> + Send {
        OPTIMIZATION_DECISION.set(self, id, decision, None)
    }

    /// The optimization decisions with this `campaign_id`.
    fn list_optimization_decisions<T: DeserializeOwned + Send>(
        &self,
        campaign_id: Option<&str>,
    ) -> impl Future<Output = Result<Listing<T>>> + Send {
        OPTIMIZATION_DECISION.list(self, &[("campaign_id", campaign_id)])
    }

    /// The experiment, under `experiment:{id}`.
    fn get_experiment<T: DeserializeOwned>(
        &self,
        id: &str,
    ) -> impl Future<Output = Result<Option<T>>> + Send {
        EXPERIMENT.get(self, id)
    }

    /// Writes the experiment.
    fn set_experiment<T: Serialize + Sync + ?Sized>(
        &self,
        id: &str,
        experiment: &T,
    ) -> impl Future<Output = Result<()>> + Send {
        EXPERIMENT.set(self, id, experiment, None)
    }

    /// The experiments with this `campaign_id` and `status`.
    fn list_experiments<T: DeserializeOwned + Send>(
        &self,
        campaign_id: Option<&str>,
        status: Option<&str>,
    ) -> impl Future<Output = Result<Listing<T>>> + Send {
        EXPERIMENT.list(self, &[("campaign_id", campaign_id), ("status", status)])
    }

    /// The score of a supply path, under `supply_path:{hash}`.
    fn get_supply_path_score<T: DeserializeOwned>(
        &self,
        hash: &str,
    ) -> impl Future<Output = Result<Option<T>>> + Send {
        SUPPLY_PATH_SCORE.get(self, hash)
    }

    /// Writes the score of a supply path.
    fn set_supply_path_score<T: Serialize + Sync + ?Sized>(
        &self,
        hash: &str,
        score: &T,
    ) -> impl Future<Output = Result<()>> + Send {
        SUPPLY_PATH_SCORE.set(self, hash, score, None)
    }

    /// The scores of all supply paths.
    fn list_supply_path_scores<T: DeserializeOwned + Send>(
        &self,
    ) -> impl Future<Output = Result<Listing<T>>> + Send {
        SUPPLY_PATH_SCORE.list(self, &[])
    }

    /// The quote, under `quote:{id}`.
    fn get_quote<T: DeserializeOwned>(&self, id: &str) -> impl Future<Output = Result<Option<T>>> + Send {
        QUOTE.get(self, id)
    }

    /// Writes the quote, to stay for [`QUOTE_TTL`].
    fn set_quote<T: Serialize + Sync + ?Sized>(
        &self,
        id: &str,
        quote: &T,
    ) -> impl Future<Output = Result<()>> + Send {
        self.set_quote_with_ttl(id, quote, QUOTE_TTL)
    }

    /// Writes the quote, to stay for `ttl`; one of zero is `InvalidInput`.
    fn set_quote_with_ttl<T: Serialize + Sync + ?Sized>(
        &self,
        id: &str,
        quote: &T,
        ttl: Duration,
    ) -> impl Future<Output = Result<()>> + Send {
        QUOTE.set(self, id, quote, Some(ttl))
    }

    /// The quotes with this `status` and `product.product_id`.
    fn list_quotes<T: DeserializeOwned + Send>(
        &self,
        status: Option<&str>,
        product_id: Option<&str>,
    ) -> impl Future<Output = Result<Listing<T>>> + Send {
        QUOTE.list(self, &[("status", status), ("product.product_id", product_id)])
    }

    /// The history of a negotiation, under `negotiation:{proposal_id}`.
    fn get_negotiation<T: DeserializeOwned>(
        &self,
        proposal_id: &str,
    ) -> impl Future<Output = Result<Option<T>>> + Send {
        NEGOTIATION.get(self, proposal_id)
    }

    /// Writes the history of a negotiation.
    fn set_negotiation<T: Serialize + Sync + ?Sized>(
        &self,
        proposal_id: &str,
        negotiation: &T,
    ) -> impl Future<Output = Result<()>> + Send {
        NEGOTIATION.set(self, proposal_id, negotiation, None)
    }

    /// The serialized model, under `model:{name}`.
    fn get_model_artifact<T: DeserializeOwned>(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Option<T>>> + Send {
        MODEL_ARTIFACT.get(self, name)
    }

    /// Writes the serialized model.
    fn set_model_artifact<T: Serialize + Sync + ?Sized>(
        &self,
        name: &str,
        artifact: &T,
    ) -> impl Future<Output = Result<()>> + Send {
        MODEL_ARTIFACT.set(self, name, artifact, None)
    }

    /// The pacing snapshot, under `pacing:{id}`.
    fn get_pacing_snapshot<T: DeserializeOwned>(
        &self,
        id: &str,
    ) -> impl Future<Output = Result<Option<T>>> + Send {
        PACING_SNAPSHOT.get(self, id)
    }

    /// Writes the pacing snapshot.
    fn set_pacing_snapshot<T: Serialize + Sync + ?Sized>(
        &self,
        id: &str,
        snapshot: &T,
    ) -> impl Future<Output = Result<()>> + Send {
        PACING_SNAPSHOT.set(self, id, snapshot, None)
    }
}

impl<B: StorageBackend + ?Sized> AdBuyer for B {}
