//! One server, and the lanes to it.

use std::{
    borrow::Borrow,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use storage_core::{
    ErrorKind,
    engine::{Combiner, Deadline, Homes},
};
use tokio_util::sync::CancellationToken;

use super::{
    connector::Connector,
    lane::{Lane, Request, call},
};
use crate::{error::Failure, statements::answer::Answer, url::Address};

/// The pause before a server that refused work for its role is asked again, twice as long each time.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(250)];

/// How long connections that were opened anew are not retired again.
const CALM: Duration = Duration::from_millis(100);

/// One server, or whichever its name or the Sentinels lead to.
pub(crate) struct Node {
    address: Address,
    connector: Arc<Connector>,
    lanes: Homes<Lanes>,
    /// How often its connections were retired for what the server has answered.
    retirements: AtomicU64,
    retired_at: Mutex<Option<Instant>>,
    /// Ends what follows it.
    closed: CancellationToken,
}

/// The lanes of the callers on one runtime, or on all others. Each opens its connection when it is first needed.
struct Lanes {
    small: Vec<Combiner<Lane>>,
    bulk: Option<Combiner<Lane>>,
}

/// Which lanes a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    Small,
    /// Much goes over in one piece: kept apart from the small ones.
    Bulk,
}

impl Node {
    /// `connections` is at least 1; the last of several is for bulk. No I/O.
    pub(crate) fn new(address: &Address, connector: &Arc<Connector>, connections: u32) -> Self {
        let lanes = Homes::new(|home| {
            let lane = |_| Lane::new(address, connector, home);
            let mut small: Vec<_> = (0..connections).map(lane).collect();
            let bulk = if connections > 1 { small.pop() } else { None };
            Lanes { small, bulk }
        });
        Self {
            address: address.clone(),
            connector: Arc::clone(connector),
            lanes,
            retirements: AtomicU64::new(0),
            retired_at: Mutex::new(None),
            closed: CancellationToken::new(),
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// The answer, or why there is none. An error that the server answers is a [`Answer::Error`].
    ///
    /// A server that refuses work as a replica does, or while it reads its data, has applied nothing. It is asked again until
    /// the deadline, on new connections: its name, or the Sentinels, may lead to another server by then.
    pub(crate) async fn call(
        &self,
        request: impl Borrow<Request>,
        load: Load,
        deadline: Deadline,
    ) -> Result<Answer, Failure> {
        let request = request.borrow();
        let (answer, seen) = self.once(request.clone(), load, deadline).await?;
        match self.connector.follows_names() && is_of_role(request, &answer) {
            // Boxed: the future of every call would else have room for this rare way.
            true => Box::pin(self.again(request, answer, seen, load, deadline)).await,
            false => Ok(answer),
        }
    }

    /// [`call`](Self::call) without asking again: what the server says now.
    pub(crate) async fn call_once(
        &self,
        request: &Request,
        load: Load,
        deadline: Deadline,
    ) -> Result<Answer, Failure> {
        let (answer, seen) = self.once(request.clone(), load, deadline).await?;
        if self.connector.follows_names() && is_of_role(request, &answer) {
            self.retire_unless_done(seen);
        }
        Ok(answer)
    }

    /// The answer, and how often connections had been retired before.
    async fn once(&self, request: Request, load: Load, deadline: Deadline) -> Result<(Answer, u64), Failure> {
        // Relaxed: where it is late, connections are retired once more.
        let seen = self.retirements.load(Ordering::Relaxed);
        match self.lanes.here().choose(load) {
            Some(lane) => Ok((call(lane, request, deadline).await?, seen)),
            None => Err(Failure::Lost),
        }
    }

    async fn again(
        &self,
        request: &Request,
        refused: Answer,
        mut seen: u64,
        load: Load,
        deadline: Deadline,
    ) -> Result<Answer, Failure> {
        let ([mut pause, longest], mut answer) = (PAUSES, refused);
        while is_of_role(request, &answer) {
            self.retire_unless_done(seen);
            if deadline.remaining() <= pause {
                break;
            }
            deadline.pause(pause).await;
            pause = longest.min(pause * 2);
            let (left, places) = refused_part(request, &answer);
            match self.once(left, load, deadline).await {
                Ok((part, now)) => (answer, seen) = (joined(answer, part, &places), now),
                // It never left, and may find its way yet.
                Err(Failure::NotSent(error)) if error.kind() == ErrorKind::Unavailable => {}
                Err(Failure::NotSent(error)) if error.kind() == ErrorKind::Timeout => break,
                // Of several commands some were done.
                Err(Failure::NotSent(_)) if !places.is_empty() => break,
                Err(failure) => return Err(failure),
            }
        }
        Ok(answer)
    }

    /// Lets no more requests out on the connections that there are, unless that was done since somebody has looked, or a moment
    /// ago: a server that stays a replica is still read from.
    fn retire_unless_done(&self, seen: u64) {
        let mut retired_at = self.retired_at.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = retired_at.is_some_and(|at| at.elapsed() < CALM);
        if lately || self.retirements.load(Ordering::Relaxed) != seen {
            return;
        }
        *retired_at = Some(Instant::now());
        self.retirements.fetch_add(1, Ordering::Relaxed);
        tracing::info!(server = %self.address, "the server has another role now; connecting anew");
        self.retire();
    }

    /// Lets no more requests out on the connections that there are.
    pub(crate) fn retire(&self) {
        self.lanes.all().flat_map(Lanes::all).for_each(|lane| lane.work().retire());
    }

    /// Waits for what is under way, and ends the connections.
    pub(crate) async fn close(&self) {
        self.closed.cancel();
        for lane in self.lanes.all().flat_map(Lanes::all) {
            // First: closing the queue refuses what waits there.
            lane.work().drain().await;
            lane.close();
            lane.work().retire();
        }
    }
}

impl Lanes {
    /// For small requests that with the least under way. Two are faster than one: what has gathered on one goes out in one
    /// piece, and the server works on that while the callers of the other take their answers.
    fn choose(&self, load: Load) -> Option<&Combiner<Lane>> {
        if load == Load::Bulk && self.bulk.is_some() {
            return self.bulk.as_ref();
        }
        self.small.iter().min_by_key(|lane| lane.work().load())
    }

    fn all(&self) -> impl Iterator<Item = &Combiner<Lane>> {
        self.small.iter().chain(&self.bulk)
    }
}

/// Whether the server refused the request, or one of its commands, for its role.
fn is_of_role(request: &Request, answer: &Answer) -> bool {
    match (request, answer) {
        (_, Answer::Error(error)) => error.is_of_role(),
        (Request::Each(_), Answer::Array(answers)) => answers.iter().any(is_refusal),
        _ => false,
    }
}

fn is_refusal(answer: &Answer) -> bool {
    matches!(answer, Answer::Error(error) if error.is_of_role())
}

/// What is to be asked again, and of several commands their places.
fn refused_part(request: &Request, answer: &Answer) -> (Request, Vec<usize>) {
    let (Request::Each(commands), Answer::Array(answers)) = (request, answer) else {
        return (request.clone(), Vec::new());
    };
    let refused = commands.iter().zip(answers).enumerate().filter(|(_, (_, answer))| is_refusal(answer));
    let (places, commands) = refused.map(|(place, (command, _))| (place, command.clone())).unzip();
    (Request::Each(commands), places)
}

/// The answers, with those that came later at their places.
fn joined(before: Answer, later: Answer, places: &[usize]) -> Answer {
    match (before, later) {
        (Answer::Array(mut answers), Answer::Array(later)) if !places.is_empty() => {
            for (place, answer) in places.iter().zip(later) {
                if let Some(entry) = answers.get_mut(*place) {
                    *entry = answer;
                }
            }
            Answer::Array(answers)
        }
        (_, later) => later,
    }
}
