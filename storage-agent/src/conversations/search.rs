//! Full-text search over messages.

use std::{collections::HashSet, time::SystemTime};

use storage_core::{
    Error, ErrorKind, Hit, Item, Listing, Order, Partition, Query, Result, Search, SearchQuery, Snippet,
};

use super::{ConversationStore, KIND, Message, partition, read, texts};
use crate::{SessionFilter, hits::Hits};

/// The most hits of one answer, and the most that are passed over before.
const MAX_LIMIT: usize = 1_000;
const MAX_OFFSET: usize = 9_000;
/// How many partitions one search of the store is narrowed to.
const PARTITIONS: usize = 10_000;
/// How many messages of a store without search are read in one step.
const PAGE: usize = 500;

/// Which messages to find: those for which all holds that is said.
#[derive(Debug, Clone)]
pub struct SearchMessages {
    /// What they say: as [`SearchQuery`] reads it.
    pub query: String,
    /// In these sessions; none: in all.
    pub sessions: Vec<String>,
    /// In the sessions of this user.
    pub user_id: Option<String>,
    /// With one of these roles; none: with any.
    pub roles: Vec<String>,
    /// Written at this time or later, by [`created_at`](Message::created_at).
    pub since: Option<SystemTime>,
    /// Written before this time.
    pub until: Option<SystemTime>,
    /// How many at most; 10 unless set otherwise, 1,000 at most.
    pub limit: usize,
    /// How many are passed over before, 9,000 at most.
    pub offset: usize,
    /// How long a snippet is, in bytes; 160 unless set otherwise.
    pub snippet_bytes: usize,
}

impl SearchMessages {
    /// The ten best hits everywhere.
    pub fn new(query: impl Into<String>) -> Self {
        Self {
            query: query.into(),
            sessions: Vec::new(),
            user_id: None,
            roles: Vec::new(),
            since: None,
            until: None,
            limit: 10,
            offset: 0,
            snippet_bytes: 160,
        }
    }

    fn check(&self) -> Result<SearchQuery> {
        for (what, number, least, most) in
            [("limit", self.limit, 1, MAX_LIMIT), ("offset", self.offset, 0, MAX_OFFSET)]
        {
            if !(least..=most).contains(&number) {
                return Err(Error::invalid_input(format!("{what} may be {least} to {most}; it is {number}")));
            }
        }
        self.query.parse()
    }

    fn has(&self, message: &Message) -> bool {
        self.since.is_none_or(|since| message.created_at >= since)
            && self.until.is_none_or(|until| message.created_at < until)
            && (self.roles.is_empty() || self.roles.contains(&message.role))
    }
}

/// A message that was found.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct MessageHit {
    /// Whose message it is.
    pub session_id: String,
    /// The message.
    pub message: Message,
    /// How well it fits: greater is better, comparable within one answer alone; 0 where the store does not rank.
    pub score: f64,
    /// Where it says what was asked for. Of JSON its texts, as they are indexed.
    pub snippet: Snippet,
}

impl ConversationStore {
    /// Finds messages by what they say, the best first. A message is found as soon as it is written; of content that is JSON, by the
    /// strings that are elements of lists or members `text` and `content`.
    ///
    /// Memory, SQLite and Postgres have an index, and rank each in its own way what all of them find. Where there is none, as on
    /// Redis, one session is read through, and the latest comes first. Messages that a release without
    /// search wrote are not found by the index.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use storage_core::{MemoryBackend, StorageBackend};
    /// use storage_agent::{ConversationStore, NewMessage, SearchMessages};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> storage_core::Result<()> {
    /// # let storage = Arc::new(MemoryBackend::new());
    /// # storage.connect().await?;
    /// let conversations = ConversationStore::new(storage)?;
    /// let said = NewMessage::new("user", "My budget is 5,000 euros, green tea included");
    /// conversations.add_conversation_messages("s-1", vec![said]).await?;
    ///
    /// let search = SearchMessages { roles: vec!["user".into()], ..SearchMessages::new("\"green tea\" budget") };
    /// let hits = conversations.search_messages(&search).await?.all()?;
    /// assert_eq!((hits[0].session_id.as_str(), hits[0].message.sequence), ("s-1", 1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `InvalidInput` for a query without words or that is too long, and for a limit or an offset that is too large. `Unsupported`
    /// where the store has no index and more than one session is to be searched.
    pub async fn search_messages(&self, search: &SearchMessages) -> Result<Listing<MessageHit>> {
        self.shared.measured("search_messages", Box::pin(self.searched(search))).await
    }

    async fn searched(&self, search: &SearchMessages) -> Result<Listing<MessageHit>> {
        let wanted = Wanted { query: search.check()?, search, most: search.offset + search.limit };
        let is_indexed = self.shared.collections()?.searches(KIND);
        let found = match self.searched_in(search).await?.as_deref() {
            Some([]) => Listing::default(),
            Some([one]) if !is_indexed => self.read_through(one, &wanted).await?,
            _ if !is_indexed => {
                let message = "the store has no index to search more than one session with";
                return Err(Error::new(ErrorKind::Unsupported, message)
                    .with_hint("name one session; memory, SQLite and Postgres search them all"));
            }
            Some(some) => {
                let mut found = Listing::default();
                for chunk in some.chunks(PARTITIONS) {
                    merge(&mut found, self.ranked(&wanted, chunk.to_vec()).await?, wanted.most);
                }
                found
            }
            None => self.ranked(&wanted, Vec::new()).await?,
        };
        let hits = found.entries.into_iter().skip(search.offset).take(search.limit);
        Ok(Listing { entries: hits.collect(), corrupt: found.corrupt })
    }

    /// `None` for all conversations.
    async fn searched_in(&self, search: &SearchMessages) -> Result<Option<Vec<Partition>>> {
        let named: HashSet<&str> = search.sessions.iter().map(String::as_str).collect();
        let Some(user) = &search.user_id else {
            let all = named.iter().map(|session| partition(session)).collect::<Result<Vec<_>>>()?;
            return Ok(Some(all).filter(|all| !all.is_empty()));
        };
        let theirs = SessionFilter { user_id: Some(user.clone()), ..SessionFilter::default() };
        let ids = self.sessions.ids_of(&theirs).await?;
        let ids = ids.iter().filter(|id| named.is_empty() || named.contains(id.as_str()));
        ids.map(|id| partition(id)).collect::<Result<Vec<_>>>().map(Some)
    }

    /// The best hits in some conversations, or in all.
    async fn ranked(&self, wanted: &Wanted<'_>, partitions: Vec<Partition>) -> Result<Listing<MessageHit>> {
        let mut asked = Search::new(KIND, wanted.query.clone());
        asked.written_since = wanted.search.since;
        if let [role] = &wanted.search.roles[..] {
            asked = asked.label(texts::by_role(role));
        }
        if let [one] = &partitions[..] {
            asked = asked.label(texts::by_session(one));
        }
        let (mut found, mut hits) = (Listing::default(), Hits::new(&self.shared, asked.within(partitions))?);
        while found.entries.len() < wanted.most
            && let Some(page) = hits.page().await?
        {
            for Hit { partition, item, score } in page {
                wanted.take(&partition, item, score, &mut found);
            }
        }
        Ok(found)
    }

    /// Finds without an index, from the latest message on.
    async fn read_through(&self, partition: &Partition, wanted: &Wanted<'_>) -> Result<Listing<MessageHit>> {
        let mut found = Listing::default();
        let mut next = Some(Query::all(partition.clone(), PAGE).order(Order::Descending));
        while let Some(query) = next.filter(|_| found.entries.len() < wanted.most) {
            let page = self.shared.collections()?.query(query.clone()).await?;
            next = query.after(&page);
            page.items.into_iter().for_each(|item| wanted.take(partition, item, 0.0, &mut found));
        }
        Ok(found)
    }
}

/// What holds of the messages that are found.
struct Wanted<'a> {
    query: SearchQuery,
    search: &'a SearchMessages,
    /// So many hits are enough.
    most: usize,
}

impl Wanted<'_> {
    /// Takes a message that says what was asked for, and of which all else holds.
    fn take(&self, partition: &Partition, item: Item, score: f64, found: &mut Listing<MessageHit>) {
        if super::ids::is_kept_id(&item) {
            return;
        }
        let session_id = partition.segments().swap_remove(0);
        match read::message(&session_id, item) {
            Ok(message) if self.search.has(&message) => {
                let said = texts::said(&message.content);
                // One that was edited since it was found is no hit; where nothing was looked up, most are none.
                if self.query.matches(&said) {
                    let snippet = self.query.snippet(&said, self.search.snippet_bytes);
                    drop(said);
                    found.entries.push(MessageHit { session_id, message, score, snippet });
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Corrupt => found.corrupt.push(error),
            Err(_) => {}
        }
    }
}

/// The best of both.
fn merge(found: &mut Listing<MessageHit>, more: Listing<MessageHit>, most: usize) {
    found.corrupt.extend(more.corrupt);
    found.entries.extend(more.entries);
    // Stable: hits of one answer that fit equally well stay in its order.
    found.entries.sort_by(|left, right| right.score.total_cmp(&left.score));
    found.entries.truncate(most);
}
