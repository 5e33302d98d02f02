//! Work that runs by itself, and goes on where its runtime does not.
//!
//! A [`spawn`]ed task runs on the runtime of whoever spawns it, as one of tokio's own would: what it waits for wakes it
//! there, without a hop to another thread. But others may wait for it who are on other runtimes or none, so:
//!
//! - Where its runtime **ends**, it moves to the [background].
//! - Where its runtime **stands still** (a task that computes for seconds; a worker of a multi-threaded runtime keeps what
//!   it has woken last to itself), the background polls it instead, some 20 ms after it was woken, until its own runtime
//!   comes round to it again.
//! - Where it **panics**, it ends, and what it held is dropped.
//!
//! ```text
//!              wake                     polled by its host
//!   WAITING ---------> DUE ------------------------------------> WAITING
//!                       | seen due by three ticks of the pulse
//!                       +-----------> polled by the background -> WAITING
//! ```
//!
//! The two never poll at once: a lock guards the work, and who finds it taken leaves the task due. Checked with loom and
//! shuttle: see `models.rs`.

use std::{
    cell::Cell,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, PoisonError, TryLockError, Weak},
    task::{Context, Poll, Wake, Waker},
};

use tokio::runtime::Handle;

use super::{
    background,
    pulse::Pulse,
    sync::{AtomicU32, Mutex, Ordering, Static, lock},
};

/// Seen due so often, a task counts as stalled: between two and three ticks of the pulse.
const STALLED: u32 = 3;

static PULSE: Pulse = Pulse::new(relieve_stalled);

/// All tasks, for the pulse.
static TASKS: Static<Vec<Weak<Task>>> = Static::new(Vec::new());

thread_local! {
    /// Whether the task that this thread polls has lost its own runtime.
    static MOVED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` on the caller's runtime, or in the background where there is none.
pub fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    let task = Task::register(work);
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(Host { task, moved: false })),
        Err(_) => spawn_host(Host { task, moved: false }),
    }
}

/// Runs `work` in the background.
pub fn spawn_in_background(work: impl Future<Output = ()> + Send + 'static) {
    spawn_host(Host { task: Task::register(work), moved: false });
}

/// Whether the task that asks has lost the runtime on which it was spawned. It then does what it has to do and ends, so
/// that the next one begins on a runtime that is alive.
pub(super) fn has_moved() -> bool {
    MOVED.get()
}

fn spawn_host(host: Host) {
    match background() {
        Ok(background) => drop(background.spawn(host)),
        Err(error) => tracing::error!(%error, "work of the storage is given up"),
    }
}

/// What runs, whoever polls it.
pub(super) struct Task {
    work: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    /// For how many ticks of the pulse it has been due, counted from 1; 0 where it is not.
    due: AtomicU32,
    /// How often its host has polled it.
    polls: AtomicU32,
    host: Mutex<Option<Waker>>,
    /// The background, while it polls instead.
    relief: Mutex<Option<Waker>>,
}

/// What a poll found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Polled {
    Waiting,
    /// Somebody else is polling it.
    Taken,
    Ended,
}

impl Task {
    pub(super) fn new(work: impl Future<Output = ()> + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            work: Mutex::new(Some(Box::pin(work))),
            due: AtomicU32::new(0),
            polls: AtomicU32::new(0),
            host: Mutex::new(None),
            relief: Mutex::new(None),
        })
    }

    fn register(work: impl Future<Output = ()> + Send + 'static) -> Arc<Self> {
        let task = Self::new(work);
        // It may be kept from its first poll, too.
        task.due.store(1, Ordering::SeqCst);
        TASKS.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&task));
        PULSE.ensure();
        task
    }

    /// Polls the work, unless somebody else does.
    pub(super) fn poll(self: &Arc<Self>) -> Polled {
        // Before the work is polled: a wake-up in the middle of that makes it due again.
        self.due.store(0, Ordering::SeqCst);
        let mut work = match self.work.try_lock() {
            Ok(work) => work,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                // What it was woken for may have come after whoever polls it has looked.
                self.due.store(1, Ordering::SeqCst);
                return Polled::Taken;
            }
        };
        let Some(polled) = work.as_mut() else { return Polled::Ended };
        let waker = Waker::from(Arc::clone(self));
        let mut context = Context::from_waker(&waker);
        match catch_unwind(AssertUnwindSafe(|| polled.as_mut().poll(&mut context))) {
            Ok(Poll::Pending) => Polled::Waiting,
            Ok(Poll::Ready(())) => self.end(&mut work),
            Err(_) => {
                tracing::error!("work of the storage panicked");
                self.end(&mut work)
            }
        }
    }

    fn end(&self, work: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>) -> Polled {
        let ended = work.take();
        // Destructors of the work may panic, too.
        drop(catch_unwind(AssertUnwindSafe(|| drop(ended))));
        // The one that did not poll has to end, too.
        for waker in [&self.host, &self.relief] {
            // A waker is somebody else's code: not under the lock.
            let waker = lock(waker).take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        Polled::Ended
    }

    /// Counts a tick; whether it counts as stalled now.
    pub(super) fn tick(&self) -> bool {
        let ticks = self.due.load(Ordering::SeqCst);
        if ticks == 0 {
            return false;
        }
        // Where it fails, it was polled or woken in between.
        let _ = self.due.compare_exchange(ticks, ticks + 1, Ordering::SeqCst, Ordering::SeqCst);
        ticks >= STALLED
    }

    /// Whether it was woken since it was last polled.
    pub(super) fn is_due(&self) -> bool {
        self.due.load(Ordering::SeqCst) > 0
    }

    fn is_relieved(&self) -> bool {
        lock(&self.relief).is_some()
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.due.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            // Who made it due has woken them, or is about to.
            return;
        }
        PULSE.ensure();
        for waker in [&self.host, &self.relief] {
            // Two statements: within one `if let` the lock would last while `wake` runs.
            let waker = lock(waker).clone();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

/// Polls a task as a task of a runtime.
pub(super) struct Host {
    pub(super) task: Arc<Task>,
    pub(super) moved: bool,
}

impl Future for Host {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Before the poll: a wake-up in the middle of that has to reach this context.
        set_waker(&self.task.host, context);
        self.task.polls.fetch_add(1, Ordering::SeqCst);
        let before = MOVED.replace(self.moved);
        let polled = self.task.poll();
        MOVED.set(before);
        if polled == Polled::Ended { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Host {
    /// The end of the work, or of the runtime.
    fn drop(&mut self) {
        let ended = match self.task.work.try_lock() {
            Ok(work) => work.is_none(),
            // It is being polled elsewhere: the next host finds out whether it ends by that.
            Err(_) => false,
        };
        if !ended {
            spawn_host(Self { task: Arc::clone(&self.task), moved: true });
        }
    }
}

/// Polls a task in the background until its host does.
struct Relief {
    task: Arc<Task>,
    host_polls: u32,
}

impl Future for Relief {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        set_waker(&self.task.relief, context);
        loop {
            if self.task.poll() == Polled::Ended {
                return Poll::Ready(());
            }
            if self.task.polls.load(Ordering::SeqCst) != self.host_polls {
                lock(&self.task.relief).take();
                return Poll::Ready(());
            }
            // Woken while it was polled, or its host found it taken.
            if !self.task.is_due() {
                return Poll::Pending;
            }
        }
    }
}

fn set_waker(place: &Mutex<Option<Waker>>, context: &Context<'_>) {
    let mut waker = lock(place);
    match &mut *waker {
        // `clone_from` clones nothing where both wake the same task, as they do at almost every poll.
        Some(waker) => waker.clone_from(context.waker()),
        None => *waker = Some(context.waker().clone()),
    }
}

/// Polls in the background what its own runtime does not; whether anything is due at all.
fn relieve_stalled() -> bool {
    let (mut due, mut stalled) = (false, Vec::new());
    TASKS.lock().unwrap_or_else(PoisonError::into_inner).retain(|task| {
        let Some(task) = task.upgrade() else { return false };
        due |= task.is_due();
        if task.tick() && !task.is_relieved() {
            stalled.push(task);
        }
        true
    });
    for task in stalled {
        // Before the relief begins: it ends as soon as its host has polled once more.
        let host_polls = task.polls.load(Ordering::SeqCst);
        match background() {
            Ok(background) => drop(background.spawn(Relief { task, host_polls })),
            Err(error) => tracing::error!(%error, "a task that stands still is left to its runtime"),
        }
    }
    due
}
