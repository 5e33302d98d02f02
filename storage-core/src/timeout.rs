//! How long things may take.

use std::time::Duration;

use crate::{Error, ErrorKind, Result, engine::Deadline};

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

/// The longest timeout, interval or lease term that a setting may have: 24 hours. Beyond it, it is a mistake, and sums with it
/// may pass what clocks can tell. Times to live have a bound of their own, [`MAX_TTL`](crate::MAX_TTL).
pub const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Refuses a timeout or interval above [`MAX_TIMEOUT`]. Zero is left to the setting: it means something to some.
///
/// ```
/// use std::time::Duration;
/// use storage_core::check_timeout;
///
/// assert!(check_timeout("operation_timeout", Duration::from_secs(5)).is_ok());
/// let error = check_timeout("operation_timeout", Duration::MAX).unwrap_err();
/// assert!(error.to_string().contains("operation_timeout may be at most 24 h"));
/// ```
///
/// # Errors
/// `Config` naming the setting.
pub fn check_timeout(setting: &str, value: Duration) -> Result<()> {
    match value > MAX_TIMEOUT {
        true => Err(Error::config(format!("{setting} may be at most 24 h"))),
        false => Ok(()),
    }
}
