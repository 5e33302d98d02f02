//! Connecting, disconnecting, deadlines and the background sweep: what every backend does the same way.

use std::{fmt, future::Future, ops::Deref, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::{Error, ErrorKind, Result, engine::SweepConfig};

/// How long a call may take unless a backend is set up otherwise, waiting for a connection included.
pub const DEFAULT_OPERATION_TIMEOUT: Duration = Duration::from_secs(5);

/// What a backend holds while it is connected, and who uses it.
///
/// An operation [`enter`](Self::enter)s and keeps the [`Lease`] for as long as its work goes on, also where the caller
/// has gone away; [`disconnect`](Self::disconnect) lets nobody in any more, waits for the leases and closes.
pub struct Lifecycle<T> {
    live: ArcSwapOption<Live<T>>,
    /// Serializes connecting and disconnecting; operations never wait for it. What it holds ends with the last lease.
    changing: Mutex<Option<oneshot::Receiver<()>>>,
}

/// Every lease is a share of it, so that entering costs one atomic operation: thousands of callers do it at once.
struct Live<T> {
    value: Arc<T>,
    /// Dropped with the last share, which ends the receiver.
    _last: oneshot::Sender<()>,
}

/// A share of what a connected backend holds. `disconnect` waits for it.
pub struct Lease<T>(Arc<Live<T>>);

impl<T> Lifecycle<T> {
    /// Unconnected.
    #[must_use]
    pub fn new() -> Self {
        Self { live: ArcSwapOption::empty(), changing: Mutex::new(None) }
    }

    /// Opens, unless it is open.
    ///
    /// # Errors
    /// What `open` answers; the state then stays unconnected.
    pub async fn connect<F>(&self, open: F) -> Result<()>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let mut changing = self.changing.lock().await;
        if self.enter().is_ok() {
            return Ok(());
        }
        let value = Arc::new(open.await?);
        let (last, ended) = oneshot::channel();
        *changing = Some(ended);
        self.live.store(Some(Arc::new(Live { value, _last: last })));
        Ok(())
    }

    /// Lets nobody in, waits for the leases, then hands the value to `close`. Does nothing when unconnected.
    ///
    /// # Errors
    /// What `close` answers; the state is unconnected in any case.
    pub async fn disconnect<C, F>(&self, close: C) -> Result<()>
    where
        C: FnOnce(Arc<T>) -> F + Send,
        F: Future<Output = Result<()>> + Send,
    {
        let mut changing = self.changing.lock().await;
        let Some(live) = self.live.swap(None) else { return Ok(()) };
        let value = Arc::clone(&live.value);
        drop(live);
        if let Some(ended) = changing.take() {
            // Nothing is ever sent: the sender goes with the last lease.
            let _ = ended.await;
        }
        close(value).await
    }

    /// A share of the open value.
    ///
    /// # Errors
    /// `NotConnected` before `connect` and after `disconnect`.
    pub fn enter(&self) -> Result<Lease<T>> {
        self.live.load_full().map(Lease).ok_or_else(|| {
            Error::new(ErrorKind::NotConnected, "the backend is not connected")
                .with_hint("call connect first")
        })
    }
}

impl<T> Default for Lifecycle<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Lifecycle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle").field("connected", &self.enter().is_ok()).finish()
    }
}

impl<T> Lease<T> {
    /// How many leases there are, this one included: how many operations are under way.
    #[must_use]
    pub fn sharers(&self) -> usize {
        // One share belongs to the life cycle, until `disconnect`.
        Arc::strong_count(&self.0).saturating_sub(1)
    }
}

impl<T> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}

/// Ends `work` after `limit` with an error of `kind`: `Timeout` where nothing can have been applied, `OutcomeUnknown`
/// for a write that may have left.
///
/// # Errors
/// What `work` answers, or the error of `kind`.
pub async fn with_deadline<T>(
    limit: Duration,
    kind: ErrorKind,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::new(kind, format!("no answer within {limit:?}"))),
    }
}

/// Runs `sweep` in the background until the handle is dropped. One call removes one batch and says how many rows it
/// removed; a full batch is followed by the next after a short pause. Needs a tokio runtime.
pub fn spawn_sweeper<S, F>(config: SweepConfig, mut sweep: S) -> AbortOnDropHandle<()>
where
    S: FnMut() -> F + Send + 'static,
    F: Future<Output = Result<u64>> + Send,
{
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            // Spread, so that processes that started together do not sweep together.
            tokio::time::sleep(config.interval.mul_f64(0.75 + 0.5 * fastrand::f64())).await;
            loop {
                match sweep().await {
                    Ok(removed) if removed > 0 && removed >= u64::from(config.batch) => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(%error, "the background sweep failed; it will be tried again");
                        break;
                    }
                }
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn disconnect_waits_for_the_leases_and_lets_nobody_in() {
        let lifecycle = Arc::new(Lifecycle::<u8>::new());
        assert_eq!(lifecycle.enter().unwrap_err().kind(), ErrorKind::NotConnected);
        lifecycle.connect(async { Ok(7) }).await.unwrap();
        let lease = lifecycle.enter().unwrap();
        let closing = tokio::spawn({
            let lifecycle = Arc::clone(&lifecycle);
            async move { lifecycle.disconnect(|_| async { Ok(()) }).await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!closing.is_finished(), "a lease is out");
        assert_eq!(lifecycle.enter().unwrap_err().kind(), ErrorKind::NotConnected);
        assert_eq!(*lease, 7);
        drop(lease);
        closing.await.unwrap().unwrap();
        lifecycle.connect(async { Ok(8) }).await.unwrap();
        assert_eq!(*lifecycle.enter().unwrap(), 8);
    }

    #[tokio::test]
    async fn a_failed_connect_can_be_tried_again() {
        let lifecycle = Lifecycle::<u8>::new();
        let failed = lifecycle.connect(async { Err(Error::new(ErrorKind::Unavailable, "down")) }).await;
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Unavailable);
        lifecycle.connect(async { Ok(1) }).await.unwrap();
        lifecycle.connect(async { panic!("it is open already") }).await.unwrap();
    }
}
