//! Bringing the file up to date before reads, where a publisher keeps it elsewhere too: once for all who wait for it.

use std::sync::Arc;

use storage_core::{
    ErrorKind, Result,
    engine::{Combiner, Guard, Limits, Work, Worker, task},
};

use crate::Publisher;

// A refresh serves those who came before it began; whoever comes while it runs needs the next one.
const LIMITS: Limits = Limits { workers: 1, items: usize::MAX, bytes: usize::MAX };

/// What brings it up to date.
pub(crate) struct Refreshes(Arc<dyn Publisher>);

impl Refreshes {
    pub(crate) fn new(publisher: &Arc<dyn Publisher>) -> Combiner<Self> {
        Combiner::new(Self(Arc::clone(publisher)), LIMITS)
    }
}

impl Work for Refreshes {
    type Item = Guard;
    type Answer = ();

    fn weight(&self, _: &Guard) -> usize {
        1
    }

    fn lost(&self) -> ErrorKind {
        ErrorKind::Timeout
    }

    fn start(worker: Worker<Self>) {
        task::spawn(worker.serve(async |refreshes: &Self, guards: Vec<Guard>| {
            let refreshed: Result<()> = refreshes.0.refresh().await;
            guards.iter().map(|_| refreshed.clone()).collect()
        }));
    }
}
