//! Concurrent callers share pipelines: what gathers while others are under way goes over in one piece.
//!
//! The driver alone would carry every command by itself through a queue, a task and a channel, which costs more than the
//! command does in a pipeline, and as many system calls as its tasks happen to be scheduled. The server runs the commands one
//! after the other in any case.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use redis::{Cmd, Pipeline, Value};
use storage_core::{CombineConfig, Combiner, Error, ErrorKind, Group, Result};
use tokio::time::Instant;

use crate::{
    connect::Request,
    error::Failure,
    pool::{Lanes, Load},
    reply,
    router::size,
};

/// How many pipelines are under way at once; how many commands each holds, and about how many bytes; and how many bytes wait.
const SHARED: CombineConfig =
    CombineConfig { running: 2, items: 1_024, bytes: 256 * 1024, queue_bytes: 32 * 1024 * 1024 };

/// Single commands to one server.
pub(crate) struct Commands {
    lanes: Arc<Lanes>,
    /// How large the answers of late were: what is to come can only be guessed, and a pipeline is bounded in bytes.
    expected_bytes: AtomicUsize,
}

/// A command, and when its caller gives up.
pub(crate) struct Call {
    command: Cmd,
    deadline: Instant,
}

/// Sends a command, alone where nothing else is under way, else with others.
pub(crate) async fn together(
    shared: &Combiner<Commands>,
    lanes: &Lanes,
    command: &Cmd,
    deadline: Instant,
) -> Result<Value, Failure> {
    if let Some(_turn) = shared.begin() {
        return lanes.call(Request::One(command), Load::Small, deadline).await;
    }
    // A group ends by the deadline of its oldest call, so nobody waits longer than its own.
    let answer = shared.submit_unlimited(Call { command: command.clone(), deadline }).await;
    answer.unwrap_or_else(|error| {
        Err(if error.kind() == ErrorKind::OutcomeUnknown {
            Failure::TimedOut
        } else {
            Failure::NotSent(error)
        })
    })
}

impl Commands {
    pub(crate) fn queue(lanes: Arc<Lanes>) -> Combiner<Self> {
        Combiner::new(Self { lanes, expected_bytes: AtomicUsize::new(0) }, SHARED)
    }

    async fn send(&self, calls: Vec<Call>) -> Vec<Result<Value, Failure>> {
        let Some(deadline) = calls.iter().map(|call| call.deadline).min() else { return Vec::new() };
        if let [call] = calls.as_slice() {
            return vec![self.lanes.call(Request::One(&call.command), Load::Small, deadline).await];
        }
        let count = calls.len();
        let mut pipeline = Pipeline::with_capacity(count);
        for call in calls {
            pipeline.add_command(call.command);
        }
        match self.lanes.call(Request::Each(&pipeline), Load::Small, deadline).await {
            Ok(Value::Array(answers)) if answers.len() == count => answers.into_iter().map(Ok).collect(),
            Ok(Value::ServerError(error)) => vec![Ok(Value::ServerError(error)); count],
            // The driver gives an answer for each.
            Ok(_) => vec![Err(Failure::Lost); count],
            Err(failure) => vec![Err(failure); count],
        }
    }
}

impl Group for Commands {
    type Item = Call;
    type Answer = Result<Value, Failure>;

    async fn run(&self, calls: Vec<Call>) -> Vec<Result<Self::Answer>> {
        let now = Instant::now();
        let late: Vec<bool> = calls.iter().map(|call| call.deadline <= now).collect();
        let answers = self.send(calls.into_iter().filter(|call| call.deadline > now).collect()).await;
        let bytes: usize = answers.iter().flatten().map(reply::size).sum();
        let fading = self.expected_bytes.load(Ordering::Relaxed) / 8 * 7;
        self.expected_bytes.store((bytes / answers.len().max(1)).max(fading), Ordering::Relaxed);
        let mut answers = answers.into_iter();
        // What nobody waits for any more was not sent.
        let late = late.into_iter().map(|late| if late { None } else { answers.next() });
        late.map(|answer| {
            answer.ok_or_else(|| Error::new(ErrorKind::Timeout, "its turn did not come in time"))
        })
        .collect()
    }

    fn weight(&self, call: &Call) -> usize {
        size(&call.command) + self.expected_bytes.load(Ordering::Relaxed)
    }

    /// Told apart by [`together`] from a turn that did not come; whether it was a read is known further out.
    fn lost(&self) -> ErrorKind {
        ErrorKind::OutcomeUnknown
    }
}
