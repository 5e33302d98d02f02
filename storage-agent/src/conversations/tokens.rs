//! The latest messages that fit a model's context.

use std::num::NonZeroU32;

use storage_core::{Error, MAX_PAGE_ITEMS, Order, Query, Result};

use super::{ConversationPage, ConversationStore, Message, partition, read::message};

/// How many messages are read at first, and the most that are later.
const FIRST: u64 = 50;
const MOST: u64 = 1_000;

/// How many tokens a message counts that was written without their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum UncountedTokens {
    /// One for so many bytes of its content, rounded up; about 4 in English text.
    BytesPerToken(NonZeroU32),
    /// So many.
    Each(u32),
    /// None: the call fails, with `InvalidInput`, where it meets one.
    Refuse,
}

impl UncountedTokens {
    /// How many tokens a message counts.
    ///
    /// # Errors
    /// `InvalidInput`, by [`Refuse`](Self::Refuse), where the message does not say it.
    pub fn count(self, message: &Message) -> Result<u64> {
        match (message.tokens, self) {
            (Some(tokens), _) => Ok(tokens.into()),
            (None, Self::BytesPerToken(bytes)) => {
                Ok((message.content.len() as u64).div_ceil(bytes.get().into()))
            }
            (None, Self::Each(tokens)) => Ok(tokens.into()),
            (None, Self::Refuse) => {
                let number = message.sequence;
                Err(Error::invalid_input(format!(
                    "message {number} was written without its number of tokens"
                ))
                .with_hint("write messages with_tokens, or choose how the others count"))
            }
        }
    }
}

impl ConversationStore {
    /// The latest messages that together have `tokens` at most, the oldest of them first: all from one on, at most 10,000. `more`
    /// says whether there are older ones, which do not fit.
    ///
    /// Most often one or two round trips, however long the conversation is: 50 messages are read at first, and then as many as
    /// should fit by the average so far, at most 1,000.
    ///
    /// # Errors
    /// As [`UncountedTokens::count`] and [`ConversationStore`] say.
    pub async fn get_latest_within_tokens(
        &self,
        session: &str,
        tokens: u64,
        uncounted: UncountedTokens,
    ) -> Result<ConversationPage> {
        let read = self.within(session, tokens, uncounted);
        self.shared.measured("get_latest_within_tokens", read).await
    }

    async fn within(
        &self,
        session: &str,
        tokens: u64,
        uncounted: UncountedTokens,
    ) -> Result<ConversationPage> {
        // None fits that is not read; where each has a token, so many are enough.
        let first = FIRST.min(tokens.saturating_add(1));
        let mut next = Some(Query::all(partition(session)?, size(first)).order(Order::Descending));
        let (mut found, mut used, mut read) = (ConversationPage::default(), 0, 0);
        'all: while let Some(query) = next {
            let (items, beyond) = self.items(query).await?;
            read += items.len() as u64;
            for item in items {
                match message(session, item) {
                    Ok(message) => {
                        let with = uncounted.count(&message)?.saturating_add(used);
                        if with > tokens || found.messages.len() == MAX_PAGE_ITEMS {
                            found.more = true;
                            break 'all;
                        }
                        used = with;
                        found.messages.push(message);
                    }
                    Err(error) => found.corrupt.push(error),
                }
            }
            next = beyond.map(|query| Query { limit: size(another(read, used, tokens)), ..query });
        }
        found.messages.reverse();
        found.corrupt.reverse();
        Ok(found)
    }
}

/// How many more messages probably fit, a few more than that, where `read` of them use `used` of the tokens.
fn another(read: u64, used: u64, tokens: u64) -> u64 {
    let fit = u128::from(tokens.saturating_sub(used)) * u128::from(read) / u128::from(used.max(1));
    let fit = u64::try_from(fit).unwrap_or(u64::MAX);
    fit.saturating_add(fit / 8).saturating_add(2)
}

fn size(messages: u64) -> usize {
    usize::try_from(messages.clamp(1, MOST)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_as_large_as_what_should_fit() {
        for (read, used, tokens, expected) in
            [(50, 500, 1_000, 58), (50, 500, 501, 2), (1, 0, 9, 12), (50, 1, u64::MAX, 1_000)]
        {
            assert_eq!(size(another(read, used, tokens)), expected, "{read} {used} {tokens}");
        }
    }
}
