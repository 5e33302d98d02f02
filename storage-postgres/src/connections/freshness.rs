//! How far a standby is behind, by the primary's positions in its log and the standby's own.

use std::{
    collections::{HashMap, VecDeque, hash_map::RandomState},
    hash::BuildHasher,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use storage_core::{Error, ErrorKind, Result, engine::Deadline};
use tokio_postgres::SimpleQueryMessage;

use super::{retired::Near, session::Session};
use crate::{error::Failure, statements::entries};

/// How often the primary is asked where it is, and each connection to the standby at most.
const INTERVAL: Duration = Duration::from_secs(1);
/// Where the standby cannot be used, so long all reads go to the primary; and so many times as long as it took to find out.
const REST: Duration = Duration::from_secs(1);
const REST_FACTOR: u32 = 10;
/// The page of the log, and the headers of one: a primary that is about to write the first record of a page stands behind its
/// header, and a standby that has replayed all before it.
const PAGE: u64 = 8_192;
const HEADERS: [u64; 2] = [24, 40];

const REPLAYED: &str = "pg_last_wal_replay_lsn()";

/// What is known of the primary, and what this process has written.
#[derive(Debug)]
pub(crate) struct Freshness {
    staleness: Duration,
    /// Where the primary was, and when it was asked; oldest first.
    positions: Mutex<VecDeque<(Instant, u64)>>,
    /// Which table it is, as the primary says; empty before it has been asked.
    table: Mutex<String>,
    rests_until: Mutex<Option<Instant>>,
    /// When this process wrote what, by a hash: until a standby has it for sure, it is read from the primary.
    written: Mutex<HashMap<u64, Instant>>,
    hasher: RandomState,
}

impl Freshness {
    pub(crate) fn new(staleness: Duration) -> Self {
        Self {
            staleness,
            positions: Mutex::default(),
            table: Mutex::default(),
            rests_until: Mutex::default(),
            written: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// The pause between two looks at the primary.
    pub(crate) fn interval(&self) -> Duration {
        INTERVAL.min(self.staleness / 4)
    }

    /// The primary was at `position` when it was asked, at `asked` or later, and this is its `table`.
    pub(crate) fn note(&self, asked: Instant, position: &str, table: String) {
        *lock(&self.table) = table;
        if let Some(position) = parse(position) {
            lock(&self.positions).push_back((asked, beginning(position)));
        }
    }

    /// Removes what is too old to matter.
    pub(crate) fn tidy(&self) {
        lock(&self.positions).retain(|(asked, _)| asked.elapsed() < self.staleness);
        lock(&self.written).retain(|_, at| at.elapsed() < self.staleness);
    }

    /// This process has written a key or a partition, or tried to.
    pub(crate) fn wrote(&self, name: &str) {
        lock(&self.written).insert(self.hasher.hash_one(name), Instant::now());
    }

    /// Whether a standby may be asked for these.
    pub(crate) fn may_read(&self, names: &[&str]) -> bool {
        let rests = lock(&self.rests_until).is_some_and(|until| Instant::now() < until);
        if rests || lock(&self.positions).is_empty() {
            return false;
        }
        let written = lock(&self.written);
        let late = |name: &&str| {
            written.get(&self.hasher.hash_one(*name)).is_some_and(|at| at.elapsed() < self.staleness)
        };
        !names.iter().any(late)
    }

    /// What the standby answered, or `None` where the primary is to be asked instead: another server may answer otherwise.
    pub(crate) fn settle<T>(&self, begun: Instant, answer: Result<T>) -> Option<Result<T>> {
        match answer {
            Err(error)
                if !matches!(
                    error.kind(),
                    ErrorKind::Corrupt | ErrorKind::InvalidInput | ErrorKind::NotConnected
                ) =>
            {
                self.rest(&error, begun.elapsed());
                None
            }
            answer => Some(answer),
        }
    }

    /// The primary does not tell where it is.
    pub(crate) fn cannot_ask(&self, error: &Error) {
        let error = error.clone().with_hint("GRANT EXECUTE ON FUNCTION pg_control_system() TO the role");
        self.rest(&error, Duration::ZERO);
    }

    /// The standby could not be used, which took a while to find out.
    fn rest(&self, error: &Error, took: Duration) {
        let until = Instant::now() + REST.max(took.saturating_mul(REST_FACTOR));
        if lock(&self.rests_until).replace(until).is_none_or(|before| before.elapsed() > 2 * REST) {
            tracing::warn!(%error, "reads go to the primary: the Postgres server for reads cannot be used");
        }
    }

    /// Asks a connection's server how far it is, where that is not known.
    ///
    /// # Errors
    /// `Unavailable` where it is too far behind, or no standby.
    pub(super) async fn judge(&self, session: &mut Session, deadline: Deadline) -> Result<()> {
        let now = Instant::now();
        if session.near.is_some_and(|near| now < near.until && now < near.asked + self.interval()) {
            return Ok(());
        }
        let (replayed, table) = replayed(session, deadline).await?;
        let known = lock(&self.table).clone();
        if known.is_empty() {
            return Err(behind("the primary has not said yet where it is"));
        }
        if table != known {
            return Err(Error::new(ErrorKind::Config, "the server for reads has another table than the primary")
                .with_hint("POSTGRES_READ_URL names the same database, with the same search path, on a standby of the primary"));
        }
        let near = lock(&self.positions).iter().rev().find(|(_, position)| *position <= replayed).copied();
        session.near = near.map(|(asked, _)| Near { asked: now, until: asked + self.staleness });
        match session.near {
            Some(near) if now < near.until => Ok(()),
            _ => Err(behind("the standby is too far behind")),
        }
    }
}

/// How far the server has replayed the log, and which table it has.
async fn replayed(session: &mut Session, deadline: Deadline) -> Result<(u64, String)> {
    session.busy = true;
    let question = entries::position(&session.statements.table, REPLAYED);
    let asked = deadline.within(session.wire.drive(session.statements.client.simple_query(&question))).await;
    let answer = asked.unwrap_or_else(|| Ok(Vec::new())).map_err(|error| Failure::from(error).error)?;
    session.busy = answer.is_empty();
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((row.get(0).and_then(parse)?, row.get(1)?.to_owned())),
        _ => None,
    });
    row.ok_or_else(|| behind("the server for reads is no standby, or does not answer"))
}

fn behind(message: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, message).with_hint("reads go to the primary meanwhile")
}

/// A position as Postgres spells it.
fn parse(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let part = |text| u32::from_str_radix(text, 16).ok().map(u64::from);
    Some(part(high)? << 32 | part(low)?)
}

/// The position, or the beginning of its page where only the header is before it.
fn beginning(position: u64) -> u64 {
    let within = position % PAGE;
    if HEADERS.contains(&within) { position - within } else { position }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_and_headers_left_out() {
        assert_eq!(parse("16/B374D848"), Some(0x16_B374_D848));
        assert_eq!(parse("0/0"), Some(0));
        assert_eq!((parse("16"), parse("x/1")), (None, None));
        assert_eq!(beginning(3 * PAGE + 24), 3 * PAGE);
        assert_eq!(beginning(3 * PAGE + 48), 3 * PAGE + 48);
    }

    #[test]
    fn what_was_just_written_and_all_while_it_rests_is_read_from_the_primary() {
        let freshness = Freshness::new(Duration::from_millis(50));
        assert!(!freshness.may_read(&["k"]), "nothing is known of the primary");
        freshness.note(Instant::now(), "0/100", String::new());
        assert!(freshness.may_read(&["k"]) && freshness.may_read(&[]));
        freshness.wrote("k");
        assert!(!freshness.may_read(&["l", "k"]) && freshness.may_read(&["l"]));
        std::thread::sleep(Duration::from_millis(60));
        assert!(freshness.may_read(&["k"]), "what is near enough has it");
        freshness.rest(&behind("no"), Duration::ZERO);
        assert!(!freshness.may_read(&[]));
        freshness.tidy();
        assert!(lock(&freshness.positions).is_empty() && lock(&freshness.written).is_empty());
    }
}
