//! What a contender can do.

use std::{future::Future, time::Duration};

use crate::{Data, Result, Task};

/// A store through one library, open.
pub trait Contender: Send + Sync + Sized + 'static {
    /// A value as the library takes it, made before the clock starts; cloning it should cost little.
    type Value: Clone + Send + Sync;

    /// A value from its text.
    ///
    /// # Errors
    /// What the library says.
    fn value(text: &str) -> Result<Self::Value>;

    /// Makes the entries be there. Contenders that share what others wrote have nothing to do.
    fn seed(&self, data: &Data) -> impl Future<Output = Result<()>> + Send {
        let _ = data;
        async { Ok(()) }
    }

    /// Reads the value of a key and returns its length.
    fn get(&self, key: &str) -> impl Future<Output = Result<usize>> + Send;

    /// Writes a value, durably where the store can.
    fn set(&self, key: &str, value: Self::Value) -> impl Future<Output = Result<()>> + Send;

    /// Does one of the tasks that are about many entries.
    fn listing(&self, task: Task) -> impl Future<Output = Result<Finding>> + Send {
        async move { Err(format!("cannot {}", task.name()).into()) }
    }
}

/// The answer of [`Contender::listing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// How many entries there were.
    pub entries: u64,
    /// How long it took.
    pub took: Duration,
}
