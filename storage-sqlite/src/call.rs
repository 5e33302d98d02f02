//! What the caller of an operation and the thread that does it agree on.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use rusqlite::Connection;
use storage_core::{Error, ErrorKind, engine::Deadline};

const WANTED: u8 = 0;
const COMMITTING: u8 = 1;
/// The caller was told that nothing was applied.
const TIMED_OUT: u8 = 2;
/// The caller went away without a word.
const DROPPED: u8 = 3;

/// After so many steps of SQLite's virtual machine, some 100 µs, a statement looks whether anybody waits for it.
const STEPS: std::ffi::c_int = 5_000;

thread_local! {
    /// The call for which this thread executes statements.
    static CURRENT: RefCell<Option<Arc<Call>>> = const { RefCell::new(None) };
}

/// One operation. Either its caller gives up or its work is committed, never both: a caller that was told `Timeout`
/// finds nothing applied later.
#[derive(Debug)]
pub(crate) struct Call {
    state: AtomicU8,
    deadline: Deadline,
}

impl Call {
    pub(crate) fn new(limit: Duration) -> Arc<Self> {
        Arc::new(Self { state: AtomicU8::new(WANTED), deadline: Deadline::after(limit) })
    }

    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Fails where the caller has given up, or has kept its future past the deadline.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_over() { Err(self.timeout()) } else { Ok(()) }
    }

    fn is_over(&self) -> bool {
        matches!(self.state.load(Ordering::Acquire), TIMED_OUT | DROPPED) || self.deadline.has_passed()
    }

    /// Does `work`, whose statements SQLite interrupts once the call is over.
    pub(crate) fn during<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        let _before = Before(CURRENT.replace(Some(Arc::clone(self))));
        work()
    }

    /// The last step before a commit; from here on the caller cannot give up for certain. Fails where the caller was told
    /// that nothing was applied; one that just went away does not mind what was done already.
    pub(crate) fn begin_commit(&self) -> Result<(), Error> {
        match self.change(WANTED, COMMITTING) {
            Err(TIMED_OUT) => Err(self.timeout()),
            _ => Ok(()),
        }
    }

    /// The commit does not take place now.
    pub(crate) fn put_off_commit(&self) {
        let _ = self.change(COMMITTING, WANTED);
    }

    /// The caller gives up; says what that means: `Timeout` where nothing will be applied.
    pub(crate) fn give_up(&self) -> Error {
        match self.change(WANTED, TIMED_OUT) {
            Ok(_) => self.timeout(),
            Err(_) => {
                let message = format!("the commit did not end within {:?}", self.deadline.limit());
                Error::new(ErrorKind::OutcomeUnknown, message)
            }
        }
    }

    /// The thread that did the work has ended; says what that means: `Unavailable` where nothing was applied.
    pub(crate) fn lose(&self) -> Error {
        match self.change(WANTED, TIMED_OUT) {
            Ok(_) => Error::new(ErrorKind::Unavailable, "the connection to the file ended unexpectedly"),
            Err(_) => Error::new(ErrorKind::OutcomeUnknown, "the commit ended unexpectedly")
                .with_hint("read before you write again"),
        }
    }

    fn change(&self, from: u8, to: u8) -> Result<u8, u8> {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
    }

    fn timeout(&self) -> Error {
        let message = format!("not done within {:?}; nothing was applied", self.deadline.limit());
        Error::new(ErrorKind::Timeout, message)
    }
}

/// Lets statements on a connection be interrupted, see [`Call::during`].
pub(crate) fn make_interruptible(db: &Connection) -> rusqlite::Result<()> {
    let is_over = || CURRENT.with_borrow(|call| call.as_ref().is_some_and(|call| call.is_over()));
    db.progress_handler(STEPS, Some(is_over))
}

/// The call that a thread goes back to, also after a panic.
struct Before(Option<Arc<Call>>);

impl Drop for Before {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// The caller's share of a call: dropping it gives up.
#[derive(Debug)]
pub(crate) struct Caller(pub(crate) Arc<Call>);

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.0.change(WANTED, DROPPED);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn a_thread_executes_for_nobody_after_a_panic() {
        let call = Call::new(Duration::from_secs(5));
        catch_unwind(|| call.during(|| panic!("on purpose"))).unwrap_err();
        assert!(CURRENT.with_borrow(Option::is_none));
    }
}
