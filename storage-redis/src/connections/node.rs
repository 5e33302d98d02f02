//! One server, and the lanes to it.

use std::sync::Arc;

use storage_core::engine::{Combiner, Deadline, Homes};

use super::{
    connector::Connector,
    lane::{Lane, Request, call},
};
use crate::{error::Failure, statements::answer::Answer, url::Address};

/// One server.
pub(crate) struct Node {
    address: Address,
    lanes: Homes<Lanes>,
}

/// The lanes of the callers on one runtime, or on all others. Each opens its connection when it is first needed.
struct Lanes {
    small: Vec<Combiner<Lane>>,
    bulk: Option<Combiner<Lane>>,
}

/// Which lanes a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    Small,
    /// Much goes over in one piece: kept apart from the small ones.
    Bulk,
}

impl Node {
    /// `connections` is at least 1; the last of several is for bulk. No I/O.
    pub(crate) fn new(address: &Address, connector: &Arc<Connector>, connections: u32) -> Self {
        let lanes = Homes::new(|home| {
            let lane = |_| Lane::new(address, connector, home);
            let mut small: Vec<_> = (0..connections).map(lane).collect();
            let bulk = if connections > 1 { small.pop() } else { None };
            Lanes { small, bulk }
        });
        Self { address: address.clone(), lanes }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The answer, or why there is none. An error that the server answers is a [`Answer::Error`].
    pub(crate) async fn call(
        &self,
        request: Request,
        load: Load,
        deadline: Deadline,
    ) -> Result<Answer, Failure> {
        match self.lanes.here().choose(load) {
            Some(lane) => call(lane, request, deadline).await,
            None => Err(Failure::Lost),
        }
    }

    /// Waits for what is under way, and ends the connections.
    pub(crate) async fn close(&self) {
        for lane in self.lanes.all().flat_map(Lanes::all) {
            // First: closing the queue refuses what waits there.
            lane.work().drain().await;
            lane.close();
        }
    }
}

impl Lanes {
    /// For small requests that with the least under way. Two are faster than one: what has gathered on one goes out in one
    /// piece, and the server works on that while the callers of the other take their answers.
    fn choose(&self, load: Load) -> Option<&Combiner<Lane>> {
        if load == Load::Bulk && self.bulk.is_some() {
            return self.bulk.as_ref();
        }
        self.small.iter().min_by_key(|lane| lane.work().load())
    }

    fn all(&self) -> impl Iterator<Item = &Combiner<Lane>> {
        self.small.iter().chain(&self.bulk)
    }
}
