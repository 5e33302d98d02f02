//! What the caller of an operation and the thread that does it agree on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use storage_core::{Error, ErrorKind};

const WANTED: u8 = 0;
const COMMITTING: u8 = 1;
/// The caller was told that nothing was applied.
const TIMED_OUT: u8 = 2;
/// The caller went away without a word.
const DROPPED: u8 = 3;

/// One operation. Either its caller gives up or its work is committed, never both: a caller that was told `Timeout`
/// finds nothing applied later.
#[derive(Debug)]
pub(crate) struct Call {
    state: AtomicU8,
    start: Instant,
    limit: Duration,
}

impl Call {
    pub(crate) fn new(limit: Duration) -> Arc<Self> {
        Arc::new(Self { state: AtomicU8::new(WANTED), start: Instant::now(), limit })
    }

    /// What is left of the call's time.
    pub(crate) fn remaining(&self) -> Duration {
        self.limit.saturating_sub(self.start.elapsed())
    }

    /// Fails where the caller has given up.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.state.load(Ordering::Acquire) {
            TIMED_OUT | DROPPED => Err(self.timeout()),
            _ => Ok(()),
        }
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
            Err(_) => Error::new(
                ErrorKind::OutcomeUnknown,
                format!("the commit did not end within {:?}", self.limit),
            ),
        }
    }

    fn change(&self, from: u8, to: u8) -> Result<u8, u8> {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
    }

    fn timeout(&self) -> Error {
        Error::new(ErrorKind::Timeout, format!("not done within {:?}; nothing was applied", self.limit))
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
