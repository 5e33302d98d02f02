//! Reading conversations.

use std::ops::Deref;

use storage_core::{Error, Item, MAX_PAGE_ITEMS, Order, PartitionInfo, Query, Result, sequence_key};

use super::{ConversationStore, Message, ids, partition};

/// Some messages of a conversation; reads like a slice of them.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ConversationPage {
    /// The messages, the oldest first.
    pub messages: Vec<Message>,
    /// A `Corrupt` error for each item among them that is no message.
    pub corrupt: Vec<Error>,
    /// Whether there are more beyond, in the direction that was asked for.
    pub more: bool,
}

impl Deref for ConversationPage {
    type Target = [Message];

    fn deref(&self) -> &[Message] {
        &self.messages
    }
}

impl ConversationStore {
    /// The latest messages, the oldest of them first; empty where there is no conversation. The usual `limit` is 50.
    ///
    /// # Errors
    /// `InvalidInput` for a limit of zero or more than 10,000.
    pub async fn get_conversation_history(&self, session: &str, limit: usize) -> Result<ConversationPage> {
        let read = self.page(session, Order::Descending, None, limit);
        self.shared.measured("get_conversation_history", read).await
    }

    /// The latest messages before the one with the number `sequence`, the oldest of them first.
    ///
    /// # Errors
    /// As [`get_conversation_history`](Self::get_conversation_history).
    pub async fn get_messages_before(
        &self,
        session: &str,
        sequence: u64,
        limit: usize,
    ) -> Result<ConversationPage> {
        let read = self.page(session, Order::Descending, Some(sequence), limit);
        self.shared.measured("get_messages_before", read).await
    }

    /// The first messages after the one with the number `sequence`, the oldest first; 0 begins at the beginning.
    ///
    /// # Errors
    /// As [`get_conversation_history`](Self::get_conversation_history).
    pub async fn get_messages_after(
        &self,
        session: &str,
        sequence: u64,
        limit: usize,
    ) -> Result<ConversationPage> {
        let read = self.page(session, Order::Ascending, Some(sequence), limit);
        self.shared.measured("get_messages_after", read).await
    }

    /// What is known of a conversation without reading it: how many messages and bytes, and when the last was written. A message
    /// with an id that was edited or redacted counts twice.
    ///
    /// # Errors
    /// As [`ConversationStore`] says.
    pub async fn get_conversation_info(&self, session: &str) -> Result<Option<PartitionInfo>> {
        let read = async { self.shared.collections()?.partition(&partition(session)?).await };
        self.shared.measured("get_conversation_info", read).await
    }

    async fn page(
        &self,
        session: &str,
        order: Order,
        cursor: Option<u64>,
        limit: usize,
    ) -> Result<ConversationPage> {
        let mut query = Query::all(partition(session)?, limit).order(order);
        match (order, cursor) {
            (Order::Ascending, Some(cursor)) => query.from = sequence_key("", cursor.saturating_add(1)),
            (Order::Descending, Some(cursor)) => query.to = Some(sequence_key("", cursor)),
            (_, None) => {}
        }
        let (mut items, next) = self.items(query).await?;
        if order == Order::Descending {
            items.reverse();
        }
        Ok(decoded(session, items, next.is_some()))
    }

    /// As many messages as a query asks for, and the query for those beyond; what keeps ids aside.
    pub(super) async fn items(&self, mut query: Query) -> Result<(Vec<Item>, Option<Query>)> {
        query.check()?;
        let limit = query.limit;
        let mut items: Vec<Item> = Vec::with_capacity(limit.min(MAX_PAGE_ITEMS));
        loop {
            let page = self.shared.collections()?.query(query.clone()).await?;
            let next = query.after(&page);
            items.extend(page.items.into_iter().filter(|item| !ids::is_kept_id(item)));
            match next {
                Some(next) if items.len() < limit => query = Query { limit: limit - items.len(), ..next },
                next => return Ok((items, next)),
            }
        }
    }
}

fn decoded(session: &str, items: Vec<Item>, more: bool) -> ConversationPage {
    let mut page = ConversationPage { more, ..ConversationPage::default() };
    for item in items {
        match message(session, item) {
            Ok(message) => page.messages.push(message),
            Err(error) => page.corrupt.push(error),
        }
    }
    page
}

/// The message of an item; an error says which item is none.
pub(super) fn message(session: &str, item: Item) -> Result<Message> {
    let place = place(session, &item);
    Message::from_item(item).map_err(|error| error.with_key(&place))
}

pub(super) fn place(session: &str, item: &Item) -> String {
    format!("{}:{session} {}", super::KIND, item.sort)
}
