//! The third of the three traits: messages between processes.

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::{Json, Result};

/// Messages to whoever listens now: at most once, nothing is kept for those who come later.
#[async_trait]
pub trait PubSub: Send + Sync + std::fmt::Debug {
    /// Sends a message to the subscribers of `channel`; returns how many subscriptions it reached, where the store
    /// knows. A channel's name follows the rules of keys.
    ///
    /// # Errors
    /// `InvalidInput` for a channel that is no key, `NotConnected`, `Unavailable`, `Timeout`.
    async fn publish(&self, channel: &str, message: Json) -> Result<u64>;

    /// The messages of `channel` from now on. Dropping the stream ends the subscription.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    async fn subscribe(&self, channel: &str) -> Result<BoxStream<'static, Delivery>>;
}

/// What a subscription yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// A message.
    Message(Json),
    /// Messages may have been missed here: the connection was lost and found again, or the reader was too slow. Read
    /// the state that the messages are about again.
    Gap,
}
