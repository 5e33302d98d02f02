//! Reads that decide what is written.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
};

thread_local! {
    static LATEST: Cell<bool> = const { Cell::new(false) };
}

/// What `read` answers where it asks for what was written last: a store that may answer from a copy does not, if it looks at
/// [`wants_latest`] while it is polled, which passes through wrappers. [`StorageExt::update`](crate::StorageExt::update) reads
/// so.
pub async fn latest<F: Future>(read: F) -> F::Output {
    let mut read = pin!(read);
    poll_fn(|context| {
        let _before = Restored(LATEST.replace(true));
        read.as_mut().poll(context)
    })
    .await
}

/// Whether a copy that is behind will not do.
#[must_use]
pub fn wants_latest() -> bool {
    LATEST.get()
}

/// Also where a poll panics.
struct Restored(bool);

impl Drop for Restored {
    fn drop(&mut self) {
        LATEST.set(self.0);
    }
}
