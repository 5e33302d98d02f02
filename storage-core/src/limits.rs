//! How long what is waited for may take.

use std::time::Duration;

use crate::{Error, Result};

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
