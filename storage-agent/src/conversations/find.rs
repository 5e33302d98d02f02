//! Finding messages by time, role and metadata.

use std::time::{Duration, SystemTime};

use storage_core::{Error, Item, Json, MAX_PAGE_BYTES, MAX_PAGE_ITEMS, Order, Query, Result, sequence_key};

use super::{ConversationStore, Message, attributes::Attributes, ids, partition, read};
use crate::filter::Filter;

/// How many messages are looked at in one step.
const PAGE: usize = 1_000;
/// The most that one call may look at.
const MAX_EXAMINED: usize = 100_000;
/// By how much a message may be older than the one before it, as where the clock of the store was set back.
const OUT_OF_ORDER: Duration = Duration::from_secs(3_600);

/// Which messages to find: those for which all holds that is said. By default the latest 50.
#[derive(Debug, Clone)]
pub struct MessageQuery {
    /// Written at this time or later, by [`created_at`](Message::created_at).
    pub since: Option<SystemTime>,
    /// Written before this time.
    pub until: Option<SystemTime>,
    /// With one of these roles; none: with any.
    pub roles: Vec<String>,
    /// What their metadata must be: a JSON object whose members are values to be equal to, or objects with `$eq`, `$ne`, `$gt`, `$gte`,
    /// `$lt` and `$lte`, as [`SearchMemories::filter`](crate::SearchMemories::filter) has it.
    pub filter: Option<Json>,
    /// Whether the oldest comes first; else the latest does.
    pub oldest_first: bool,
    /// Only those that come after the one with this number, in the order that was asked for.
    pub after: Option<u64>,
    /// How many at most; 50 unless set otherwise, 10,000 at most.
    pub limit: usize,
    /// How many messages one call looks at; 10,000 unless set otherwise, 100,000 at most. What it has not looked at is left to the next.
    pub examine: usize,
}

impl Default for MessageQuery {
    fn default() -> Self {
        Self {
            since: None,
            until: None,
            roles: Vec::new(),
            filter: None,
            oldest_first: false,
            after: None,
            limit: 50,
            examine: 10_000,
        }
    }
}

/// What a call found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct FoundMessages {
    /// The messages, in the order that was asked for.
    pub messages: Vec<Message>,
    /// A `Corrupt` error for each item that was looked at and is no message.
    pub corrupt: Vec<Error>,
    /// How many messages were looked at.
    pub examined: usize,
    /// Where to go on, as [`MessageQuery::after`], also where nothing was found so far; `None`: there are no more.
    pub next: Option<u64>,
}

impl ConversationStore {
    /// Finds messages. Looks at their roles, times and metadata, and reads what those say that match. A call ends where it has looked
    /// at [`examine`](MessageQuery::examine) messages, and where what it found has 8 MiB; its `next` goes on. So each call
    /// ends in time and holds little in memory, however long the conversation is.
    ///
    /// A message is taken to be no more than an hour older than the one before it: so the search for what is newer than a time ends
    /// soon after that time.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use storage_core::{Json, MemoryBackend, StorageBackend};
    /// use storage_agent::{ConversationStore, MessageQuery, NewMessage};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> storage_core::Result<()> {
    /// # let storage = Arc::new(MemoryBackend::new());
    /// # storage.connect().await?;
    /// let conversations = ConversationStore::new(storage)?;
    /// let said = ["user", "assistant", "user"].map(|role| NewMessage::new(role, "Hello"));
    /// conversations.add_conversation_messages("s-1", said.into()).await?;
    ///
    /// let mut query = MessageQuery { roles: vec!["user".into()], limit: 1, ..MessageQuery::default() };
    /// let mut numbers = Vec::new();
    /// loop {
    ///     let found = conversations.find_messages("s-1", &query).await?;
    ///     numbers.extend(found.messages.iter().map(|message| message.sequence));
    ///     query.after = found.next;
    ///     if query.after.is_none() {
    ///         break;
    ///     }
    /// }
    /// assert_eq!(numbers, [3, 1]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for a limit of zero or more than 10,000, for `examine` of zero or more than 100,000, and for a filter that is none.
    pub async fn find_messages(&self, session: &str, query: &MessageQuery) -> Result<FoundMessages> {
        let read = async {
            let wanted = Wanted::new(query)?;
            let found = FoundMessages::default();
            Search { store: self, session, query, wanted, matched: 0, bytes: 0, found }.run().await
        };
        self.shared.measured("find_messages", Box::pin(read)).await
    }
}

/// What holds of the messages that are found.
struct Wanted<'a> {
    query: &'a MessageQuery,
    filter: Option<Filter>,
}

impl<'a> Wanted<'a> {
    fn new(query: &'a MessageQuery) -> Result<Self> {
        for (what, number, most) in
            [("limit", query.limit, MAX_PAGE_ITEMS), ("examine", query.examine, MAX_EXAMINED)]
        {
            if !(1..=most).contains(&number) {
                return Err(Error::invalid_input(format!("{what} may be 1 to {most}; it is {number}")));
            }
        }
        Ok(Self { query, filter: query.filter.as_ref().map(Filter::new).transpose()? })
    }

    /// Whether every message is.
    fn is_all(&self) -> bool {
        let MessageQuery { since, until, roles, .. } = self.query;
        since.is_none() && until.is_none() && roles.is_empty() && self.filter.is_none()
    }

    fn has(&self, attributes: &Attributes, created_at: SystemTime) -> bool {
        let MessageQuery { since, until, roles, .. } = self.query;
        since.is_none_or(|since| created_at >= since)
            && until.is_none_or(|until| created_at < until)
            && (roles.is_empty() || roles.contains(&attributes.role))
            && self.filter.as_ref().is_none_or(|filter| filter.accepts_object(&attributes.metadata))
    }

    /// Whether no message after one of this time is.
    fn ends(&self, created_at: SystemTime) -> bool {
        let passed =
            |from: SystemTime, to: SystemTime| to.duration_since(from).is_ok_and(|by| by > OUT_OF_ORDER);
        match (self.query.oldest_first, self.query.since, self.query.until) {
            (true, _, Some(until)) => passed(until, created_at),
            (false, Some(since), _) => passed(created_at, since),
            _ => false,
        }
    }
}

/// A search under way.
struct Search<'a> {
    store: &'a ConversationStore,
    session: &'a str,
    query: &'a MessageQuery,
    wanted: Wanted<'a>,
    /// How many messages matched, and the bytes that they have.
    matched: usize,
    bytes: u64,
    found: FoundMessages,
}

impl Search<'_> {
    async fn run(mut self) -> Result<FoundMessages> {
        let mut next = Some(self.first()?);
        while let Some(query) = next {
            let page =
                self.store.shared.collections()?.query(Query { limit: self.page(), ..query.clone() }).await?;
            let beyond = query.after(&page);
            let mut items = page.items.into_iter().filter(|item| !ids::is_kept_id(item)).peekable();
            let (matching, ended) = self.examine(&mut items);
            self.read(matching).await?;
            if ended {
                self.found.next = None;
                break;
            }
            if beyond.is_none() && items.peek().is_none() {
                self.found.next = None;
            }
            next = beyond.filter(|_| !self.is_full());
        }
        Ok(self.found)
    }

    fn first(&self) -> Result<Query> {
        let mut query = Query::all(partition(self.session)?, PAGE);
        match (self.query.oldest_first, self.query.after) {
            (true, Some(after)) => query.from = sequence_key("", after.saturating_add(1)),
            (false, Some(after)) => query.to = Some(sequence_key("", after)),
            _ => {}
        }
        if !self.query.oldest_first {
            query = query.order(Order::Descending);
        }
        // What is not returned need not be read.
        Ok(if self.wanted.is_all() { query } else { query.without_bodies() })
    }

    /// How many messages to look at in the next step.
    fn page(&self) -> usize {
        let wanted = if self.wanted.is_all() { self.query.limit - self.matched } else { PAGE };
        wanted.min(self.query.examine - self.found.examined).min(PAGE)
    }

    fn is_full(&self) -> bool {
        self.matched >= self.query.limit
            || self.found.examined >= self.query.examine
            || self.bytes >= MAX_PAGE_BYTES as u64
    }

    /// Those of some items that match, until the answer is full, and whether nothing beyond does.
    fn examine(&mut self, items: impl Iterator<Item = Item>) -> (Vec<Item>, bool) {
        let mut matching = Vec::new();
        for item in items {
            let (Ok(sequence), Ok(attributes)) = (item.sort.parse(), item.attributes.decode::<Attributes>())
            else {
                let place = read::place(self.session, &item);
                self.found.corrupt.push(Error::corrupt("the item is no message").with_key(&place));
                continue;
            };
            let created_at = attributes.created_at.unwrap_or(item.written_at);
            if self.wanted.ends(created_at) {
                return (matching, true);
            }
            self.found.examined += 1;
            self.found.next = Some(sequence);
            if self.wanted.has(&attributes, created_at) {
                self.matched += 1;
                self.bytes += item.body_bytes;
                matching.push(item);
            }
            if self.is_full() {
                break;
            }
        }
        (matching, false)
    }

    /// Reads what the messages say. One that was edited meanwhile is looked at once more.
    async fn read(&mut self, mut matching: Vec<Item>) -> Result<()> {
        if !self.wanted.is_all() && !matching.is_empty() {
            let sorts: Vec<&str> = matching.iter().map(|item| item.sort.as_str()).collect();
            let read = self.store.shared.collections()?.items(&partition(self.session)?, &sorts).await?;
            matching = read.into_iter().flatten().collect();
        }
        for item in matching {
            let still = item.attributes.decode::<Attributes>().is_ok_and(|attributes| {
                let created_at = attributes.created_at.unwrap_or(item.written_at);
                self.wanted.has(&attributes, created_at)
            });
            match read::message(self.session, item) {
                Ok(message) if still => self.found.messages.push(message),
                Ok(_) => {}
                Err(error) => self.found.corrupt.push(error),
            }
        }
        Ok(())
    }
}
