//! A policy, and its text.

use std::{fmt, str::FromStr, time::Duration};

use storage_core::{Error, Result};

use crate::{ConversationLimits, checkpoints::Retention};

/// What stays of agents' memory; by default all of it.
///
/// Its text has a part for each kind, divided by `;`: `sessions: 7d` removes the sessions that were not used for so long, with
/// what belongs to them; `conversations: 1000 messages, 10 MB, 90d` cuts conversations, the oldest messages first; `threads: keep
/// 50, 30d` leaves so many of the latest checkpoints of each namespace, none older, and always the latest.
///
/// What is tagged stays: `keep tagged pinned` of `sessions` leaves those whose metadata has a member `pinned`, and their
/// conversations whole; of `threads` the checkpoints whose metadata has it. A member that is null or false is no tag. A session
/// that expires by itself takes its tag along: give those that are to stay no expiry.
///
/// ```
/// use std::time::Duration;
/// use storage_agent::RetentionPolicy;
///
/// let policy: RetentionPolicy = "threads: keep 50, 30d; conversations: 1000 messages, 90d".parse()?;
/// assert_eq!(policy.threads.keep_last, Some(50));
/// assert_eq!(policy.conversations.max_age, Some(Duration::from_secs(90 * 86_400)));
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Sessions that were not used for so long go, with what belongs to them.
    pub sessions: Option<Duration>,
    /// Sessions whose metadata has this member, neither null nor false, stay, and their conversations are not cut.
    pub keep_tagged_sessions: Option<String>,
    /// What conversations are cut to.
    pub conversations: ConversationLimits,
    /// What threads are pruned to.
    pub threads: Retention,
}

impl FromStr for RetentionPolicy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut policy = Self::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (kind, terms) =
                part.split_once(':').ok_or_else(|| wrong(part, "has no `:` after its kind"))?;
            for term in terms.split(',').map(str::trim) {
                policy.set(kind.trim(), term).map_err(|what| wrong(part, &what))?;
            }
        }
        if policy == Self::default() {
            return Err(wrong(text, "says nothing"));
        }
        Ok(policy)
    }
}

impl RetentionPolicy {
    fn set(&mut self, kind: &str, term: &str) -> std::result::Result<(), String> {
        let words: Vec<&str> = term.split_whitespace().collect();
        match (kind, words.as_slice()) {
            ("sessions", ["keep", "tagged", tag]) => {
                once(&mut self.keep_tagged_sessions, (*tag).to_owned(), term)
            }
            ("threads", ["keep", "tagged", tag]) => {
                once(&mut self.threads.keep_tagged, (*tag).to_owned(), term)
            }
            ("conversations", ["keep", ..]) => {
                Err(format!("`{term}` is said of sessions, whose conversations then stay whole"))
            }
            ("sessions", _) => once(&mut self.sessions, duration(term)?, term),
            ("conversations", [number, "message" | "messages"]) => {
                once(&mut self.conversations.max_messages, count(number)?, term)
            }
            ("conversations", [number, unit]) if unit.ends_with('B') => {
                once(&mut self.conversations.max_bytes, bytes(number, unit)?, term)
            }
            ("conversations", _) => once(&mut self.conversations.max_age, duration(term)?, term),
            ("threads", ["keep", number]) => {
                let number =
                    usize::try_from(count(number)?).map_err(|_| format!("`{number}` is too many"))?;
                once(&mut self.threads.keep_last, number, term)
            }
            ("threads", _) => once(&mut self.threads.max_age, duration(term)?, term),
            _ => Err(format!("`{kind}` is none of sessions, conversations and threads")),
        }
    }
}

fn once<T>(place: &mut Option<T>, value: T, term: &str) -> std::result::Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("`{term}` says again what is said already")),
    }
}

fn duration(term: &str) -> std::result::Result<Duration, String> {
    let parsed = humantime::parse_duration(term).ok().filter(|duration| !duration.is_zero());
    parsed.ok_or_else(|| format!("`{term}` is no time such as 36h or 30d"))
}

fn count(number: &str) -> std::result::Result<u64, String> {
    let parsed = number.parse().ok().filter(|number| *number > 0);
    parsed.ok_or_else(|| format!("`{number}` is no number above 0"))
}

fn bytes(number: &str, unit: &str) -> std::result::Result<u64, String> {
    let factor = match unit {
        "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(format!("`{unit}` is none of B, kB, MB and GB")),
    };
    count(number)?.checked_mul(factor).ok_or_else(|| format!("`{number} {unit}` is too much"))
}

fn wrong(part: &str, what: &str) -> Error {
    Error::invalid_input(format!("`{part}` of the retention policy: {what}")).with_hint(
        "for example: sessions: 7d; conversations: 1000 messages, 10 MB, 90d; threads: keep 50, 30d",
    )
}

/// As [`FromStr`] reads it.
impl fmt::Display for RetentionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |age: Duration| humantime::format_duration(age).to_string();
        let tagged = |tag: &Option<String>| tag.as_ref().map(|tag| format!("keep tagged {tag}"));
        let ConversationLimits { max_messages, max_bytes, max_age } = self.conversations;
        let parts = [
            ("sessions", vec![self.sessions.map(time), tagged(&self.keep_tagged_sessions)]),
            (
                "conversations",
                vec![
                    max_messages.map(|messages| format!("{messages} messages")),
                    max_bytes.map(|bytes| format!("{bytes} B")),
                    max_age.map(time),
                ],
            ),
            (
                "threads",
                vec![
                    self.threads.keep_last.map(|keep| format!("keep {keep}")),
                    self.threads.max_age.map(time),
                    tagged(&self.threads.keep_tagged),
                ],
            ),
        ];
        let said = parts.into_iter().filter_map(|(kind, terms)| {
            let terms: Vec<String> = terms.into_iter().flatten().collect();
            (!terms.is_empty()).then(|| format!("{kind}: {}", terms.join(", ")))
        });
        f.write_str(&said.collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_and_said_again() {
        let text = "threads: keep 50, 30d; conversations: 1000 messages, 10 MB, 90d;; sessions:36h ;";
        let policy: RetentionPolicy = text.parse().unwrap();
        assert_eq!(policy.sessions, Some(Duration::from_secs(36 * 3600)));
        assert_eq!(policy.conversations.max_bytes, Some(10_000_000));
        assert_eq!(policy.threads.keep_last, Some(50));
        assert_eq!(policy.to_string().parse::<RetentionPolicy>().unwrap(), policy);
        let tagged = "threads: keep 5, keep tagged pinned; sessions: 7d, keep  tagged  legal_hold";
        let policy: RetentionPolicy = tagged.parse().unwrap();
        assert_eq!(policy.keep_tagged_sessions.as_deref(), Some("legal_hold"));
        assert_eq!(policy.threads.keep_tagged.as_deref(), Some("pinned"));
        assert_eq!(policy.to_string().parse::<RetentionPolicy>().unwrap(), policy);
    }

    #[test]
    fn what_is_no_policy_is_refused_by_name() {
        for (text, named) in [
            ("", "says nothing"),
            ("threads", "no `:`"),
            ("thread: keep 5", "`thread` is none"),
            ("threads: keep 0", "`0`"),
            ("threads: keep -1", "`-1`"),
            ("threads: keep 5, keep 6", "again"),
            ("sessions: 7", "`7` is no time"),
            ("sessions: 0s", "`0s`"),
            ("sessions: 1d, 2d", "again"),
            ("conversations: many messages", "`many`"),
            ("conversations: 5 MiB", "`MiB`"),
            ("conversations: 99999999999999 GB", "too much"),
            ("threads: ", "`` is no time"),
            ("threads: keep tagged", "`tagged` is no number"),
            ("threads: keep tagged a, keep tagged b", "again"),
            ("conversations: keep tagged a", "said of sessions"),
        ] {
            let error = text.parse::<RetentionPolicy>().unwrap_err();
            assert!(error.to_string().contains(named) && error.hint().is_some(), "{text}: {error}");
        }
    }
}
