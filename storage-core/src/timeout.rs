//! How long things may take.

use std::time::Duration;

use crate::{ErrorKind, Result, engine::Deadline};

/// How long a call may take unless a backend is set up otherwise, waiting for a connection included.
pub const DEFAULT_OPERATION_TIMEOUT: Duration = Duration::from_secs(5);

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
    Deadline::after(limit).answer(kind, work).await
}
