//! When a call must have ended.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::pulse::Pulse;
use crate::{Error, ErrorKind, Result};

/// Longer than any call: what a limit that the clock cannot add is taken for.
const FAR: Duration = Duration::from_secs(10 * 365 * 86_400);

/// When a call must have ended. Kept to about 10 ms, on any runtime and on none, also where the runtime on which the call
/// began has ended or stands still.
///
/// ```
/// use std::time::Duration;
/// use storage_core::engine::Deadline;
///
/// let deadline = Deadline::after(Duration::from_millis(20));
/// let never = std::future::pending::<()>();
/// assert_eq!(futures::executor::block_on(deadline.within(never)), None);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    /// `limit` from now.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        let now = Instant::now();
        let at = now.checked_add(limit).or_else(|| now.checked_add(FAR)).unwrap_or(now);
        Self { at, limit }
    }

    /// None: for work that limits itself.
    #[must_use]
    pub fn never() -> Self {
        Self::after(FAR)
    }

    /// How long the whole call may take.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// What is left of it.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    #[must_use]
    pub fn has_passed(&self) -> bool {
        self.remaining().is_zero()
    }

    /// What `work` answers, or `None` where the deadline came first.
    pub async fn within<F: Future>(self, work: F) -> Option<F::Output> {
        let (mut work, mut alarm) = (pin!(work), Alarm { at: self.at, place: None });
        // The work first: what is ready at once takes no place among the alarms.
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => alarm.poll(context).map(|()| None),
        })
        .await
    }

    /// What `work` answers, or an error of `kind` where the deadline came first: `Timeout` where nothing can have been
    /// applied, `OutcomeUnknown` for a write that may have left.
    ///
    /// # Errors
    /// What `work` answers, or the error of `kind`.
    pub async fn answer<T>(self, kind: ErrorKind, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.within(work).await.unwrap_or_else(|| Err(self.error(kind)))
    }

    /// Pauses, but not past the deadline.
    pub async fn pause(self, time: Duration) {
        Self::after(time.min(self.remaining())).within(std::future::pending::<()>()).await;
    }

    /// The error of a call that took too long.
    #[must_use]
    pub fn error(&self, kind: ErrorKind) -> Error {
        // What is left of another deadline has nanoseconds, which nobody needs.
        let millis = u64::try_from(self.limit.as_millis()).unwrap_or(u64::MAX);
        Error::new(kind, format!("no answer within {:?}", Duration::from_millis(millis)))
    }
}

/// Pauses before something is tried again that others were faster with: at random, longer each time, up to about 50 ms.
/// `tried` counts from 0; after the first few tries others are only let in, for those spread by themselves. Needs no runtime.
pub async fn back_off(tried: u32) {
    match tried {
        0..4 => tokio::task::yield_now().await,
        _ => Deadline::never().pause(Duration::from_micros(fastrand::u64(0..=200 << tried.min(8)))).await,
    }
}

/// Who is woken at a deadline.
struct Entry {
    at: Instant,
    waker: Waker,
}

static PULSE: Pulse = Pulse::new(wake_late);

/// In shards, so that callers on different threads do not wait for each other.
static SHARDS: [Mutex<Shard>; 16] = [const { Mutex::new(Shard::NEW) }; 16];

struct Shard {
    entries: Vec<Option<Entry>>,
    /// Places among the entries that nobody has.
    free: Vec<usize>,
    /// Whether an entry was made since the last look.
    used: bool,
}

thread_local! {
    static SHARD: &'static Mutex<Shard> = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        let [first, ..] = &SHARDS;
        SHARDS.get(THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS.len()).unwrap_or(first)
    };
}

/// A place among the entries, taken when it is first polled and given back when it is dropped.
struct Alarm {
    at: Instant,
    place: Option<(&'static Mutex<Shard>, usize)>,
}

impl Alarm {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self.place {
            None => {
                // Without a look at the clock: where the deadline has passed already, the next tick finds it.
                let shard = SHARD.with(|shard| *shard);
                let entry = Entry { at: self.at, waker: context.waker().clone() };
                self.place = Some((shard, lock(shard).insert(entry)));
                PULSE.ensure();
            }
            Some(_) if Instant::now() >= self.at => return Poll::Ready(()),
            Some((shard, place)) => {
                if let Some(Some(entry)) = lock(shard).entries.get_mut(place) {
                    entry.waker.clone_from(context.waker());
                }
            }
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some((shard, place)) = self.place {
            let entry = lock(shard).remove(place);
            // A waker is somebody else's code: not under the lock.
            drop(entry);
        }
    }
}

impl Shard {
    const NEW: Self = Self { entries: Vec::new(), free: Vec::new(), used: false };
    /// As many entries may lie there unused.
    const SPARE: usize = 256;

    fn insert(&mut self, entry: Entry) -> usize {
        self.used = true;
        let place = self.free.pop();
        if let Some((place, entry_place)) = place.and_then(|at| Some((at, self.entries.get_mut(at)?))) {
            *entry_place = Some(entry);
            return place;
        }
        self.entries.push(Some(entry));
        self.entries.len() - 1
    }

    fn remove(&mut self, place: usize) -> Option<Entry> {
        self.free.push(place);
        self.entries.get_mut(place).and_then(Option::take)
    }

    /// Whether there are or were entries since the last look; the wakers of those that are late.
    fn look(&mut self, now: Instant) -> (bool, Vec<Waker>) {
        let any = std::mem::take(&mut self.used) || self.free.len() < self.entries.len();
        let late = self.entries.iter().flatten().filter(|entry| entry.at <= now);
        let late = late.map(|entry| entry.waker.clone()).collect();
        if self.free.len() > Self::SPARE {
            self.trim();
        }
        (any, late)
    }

    /// Removes free places at the end, so that looking at all of them stays quick after a crowd.
    fn trim(&mut self) {
        let used = self.entries.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        self.entries.truncate(used);
        self.free.retain(|place| *place < used);
    }
}

/// Wakes those whose deadline has passed; whether there are or were others.
fn wake_late() -> bool {
    let (now, mut any) = (Instant::now(), false);
    for shard in &SHARDS {
        let (used, late) = lock(shard).look(now);
        any |= used;
        late.into_iter().for_each(Waker::wake);
    }
    any
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
