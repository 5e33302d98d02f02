//! The primitives of the standard library, or those of a model checker.

#[cfg(not(any(storage_loom, storage_shuttle)))]
pub(super) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, Ordering},
};

#[cfg(storage_loom)]
pub(super) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, Ordering},
};

#[cfg(storage_shuttle)]
pub(super) use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, Ordering},
};

/// What lives as long as the process, which a model does not.
#[allow(unused_qualifications, reason = "where a model checker runs, this is another one")]
pub(super) type Static<T> = std::sync::Mutex<T>;

/// Locks, also after a panic of somebody who had it locked: what is guarded here is valid between any two statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
