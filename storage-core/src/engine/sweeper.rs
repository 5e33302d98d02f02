//! Removing expired rows in the background, for stores that do not do it themselves.

use std::{future::Future, time::Duration};

use tokio_util::task::AbortOnDropHandle;

use super::background;
use crate::Result;

/// How expired rows are removed in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepConfig {
    /// The pause between two sweeps.
    pub interval: Duration,
    /// How many rows one write removes at most, so that other writers get in between.
    pub batch: u32,
}

impl Default for SweepConfig {
    /// Every minute, 1,000 rows a write.
    fn default() -> Self {
        Self { interval: Duration::from_secs(60), batch: 1_000 }
    }
}

/// Between two batches of one sweep.
const PAUSE: Duration = Duration::from_millis(10);

/// Runs `sweep` on the background runtime until the handle is dropped. One call removes one batch and says how many rows it
/// removed; a full batch is followed by the next after a short pause.
///
/// # Errors
/// As [`background`].
pub fn spawn_sweeper<S, F>(config: SweepConfig, mut sweep: S) -> Result<AbortOnDropHandle<()>>
where
    S: FnMut() -> F + Send + 'static,
    F: Future<Output = Result<u64>> + Send,
{
    let sweeper = background()?.spawn(async move {
        loop {
            // Spread, so that processes that started together do not sweep together.
            tokio::time::sleep(config.interval.mul_f64(0.75 + 0.5 * fastrand::f64())).await;
            loop {
                match sweep().await {
                    Ok(removed) if removed > 0 && removed >= u64::from(config.batch) => {
                        tokio::time::sleep(PAUSE).await;
                    }
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(%error, "the background sweep failed; it will be tried again");
                        break;
                    }
                }
            }
        }
    });
    Ok(AbortOnDropHandle::new(sweeper))
}
