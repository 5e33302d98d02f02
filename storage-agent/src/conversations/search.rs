//! Full-text search over messages.

use std::{collections::HashSet, time::SystemTime};

use storage_core::{
    Error, ErrorKind, Hit, Item, Listing, MAX_HITS, Order, Partition, Query, Result, Search, SearchQuery,
    Snippet,
};

use super::{ConversationStore, KIND, Message, partition, read, texts};
use crate::SessionFilter;

/// How many hits, or messages of a store without search, one call looks at.
const MAX_EXAMINED: usize = 10_000;
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
        let query = search.check()?;
        let partitions = self.searched_in(search).await?;
        let mut found = Found { query, search, most: search.offset + search.limit, hits: Listing::default() };
        match partitions.as_deref() {
            Some([]) => return Ok(found.hits),
            Some([one]) if !self.shared.collections()?.searches(KIND) => {
                self.read_through(one, &mut found).await?;
            }
            _ if !self.shared.collections()?.searches(KIND) => {
                let message = "the store has no index to search more than one session with";
                return Err(Error::new(ErrorKind::Unsupported, message)
                    .with_hint("name one session; memory, SQLite and Postgres search them all"));
            }
            Some(some) => {
                for chunk in some.chunks(PARTITIONS) {
                    found.merge(self.ranked(&found, chunk.to_vec()).await?);
                }
            }
            None => found.hits = self.ranked(&found, Vec::new()).await?,
        }
        let hits = found.hits.entries.into_iter().skip(search.offset).take(search.limit);
        Ok(Listing { entries: hits.collect(), corrupt: found.hits.corrupt })
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
    async fn ranked(&self, found: &Found<'_>, partitions: Vec<Partition>) -> Result<Listing<MessageHit>> {
        let store = self.shared.collections()?;
        let mut asked = Search::new(KIND, found.query.clone()).limit(MAX_HITS);
        asked.written_since = found.search.since;
        asked.labels.extend(
            found
                .search
                .roles
                .first()
                .filter(|_| found.search.roles.len() == 1)
                .map(|role| texts::by_role(role)),
        );
        asked.labels.extend(partitions.first().filter(|_| partitions.len() == 1).map(texts::by_session));
        asked.partitions = partitions;
        let (mut hits, mut seen) = (Listing::default(), HashSet::new());
        while hits.entries.len() < found.most && asked.offset < MAX_EXAMINED {
            let page = store.search(asked.clone()).await?;
            asked.offset += page.len();
            let last = page.len() < MAX_HITS;
            for hit in page {
                // Where somebody writes meanwhile, a hit may be on two pages.
                if seen.insert((hit.partition.clone(), hit.item.sort.clone()))
                    && let Some(Hit { partition, item, score }) = self.whole(hit).await?
                {
                    found.take(&partition, item, score, &mut hits);
                }
            }
            if last {
                break;
            }
        }
        Ok(hits)
    }

    /// The hit with what it says; `None` where it is gone.
    async fn whole(&self, mut hit: Hit) -> Result<Option<Hit>> {
        if hit.item.body.len() as u64 == hit.item.body_bytes {
            return Ok(Some(hit));
        }
        let read = self.shared.collections()?.items(&hit.partition, &[&hit.item.sort]).await?;
        Ok(read.into_iter().flatten().next().map(|item| {
            hit.item = item;
            hit
        }))
    }

    /// Finds without an index, from the latest message on.
    async fn read_through(&self, partition: &Partition, found: &mut Found<'_>) -> Result<()> {
        let mut next = Some(Query::all(partition.clone(), PAGE).order(Order::Descending));
        while let Some(query) = next.filter(|_| found.hits.entries.len() < found.most) {
            let page = self.shared.collections()?.query(query.clone()).await?;
            next = query.after(&page);
            let mut hits = std::mem::take(&mut found.hits);
            page.items.into_iter().for_each(|item| found.take(partition, item, 0.0, &mut hits));
            found.hits = hits;
        }
        Ok(())
    }
}

/// What was found so far.
struct Found<'a> {
    query: SearchQuery,
    search: &'a SearchMessages,
    /// So many hits are enough.
    most: usize,
    hits: Listing<MessageHit>,
}

impl Found<'_> {
    /// Takes a message that says what was asked for, and of which all else holds.
    fn take(&self, partition: &Partition, item: Item, score: f64, hits: &mut Listing<MessageHit>) {
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
                    hits.entries.push(MessageHit { session_id, message, score, snippet });
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Corrupt => hits.corrupt.push(error),
            Err(_) => {}
        }
    }

    fn merge(&mut self, more: Listing<MessageHit>) {
        self.hits.corrupt.extend(more.corrupt);
        if self.hits.entries.is_empty() {
            self.hits.entries = more.entries;
            return;
        }
        self.hits.entries.extend(more.entries);
        self.hits.entries.sort_by(|left, right| right.score.total_cmp(&left.score));
        self.hits.entries.truncate(self.most);
    }
}
