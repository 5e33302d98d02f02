//! Where the connections of a network store live.

use std::{fmt, io};

use tokio::runtime::{Handle, Id};

use crate::{Error, ErrorKind};

/// Two of something that belongs to a runtime: one for callers on the runtime that connected, one for all others.
///
/// A connection is driven by the runtime on which it was opened, and a caller on that runtime reaches it without a hop to
/// another thread. Others would depend on a runtime that may end, or compute for seconds; what they use is driven by the
/// [background](super::background).
pub struct Homes<T> {
    home: Option<(Id, T)>,
    elsewhere: T,
}

/// On which runtime something is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// The one that connected.
    Own,
    /// The background.
    Background,
}

impl<T> Homes<T> {
    /// Makes both, the first one for the current runtime, where there is one.
    pub fn new(make: impl FnMut(Home) -> T) -> Self {
        Self::of(current_runtime(), make)
    }

    /// Makes both, the first one for a runtime.
    pub fn of(runtime: Option<Id>, mut make: impl FnMut(Home) -> T) -> Self {
        // Made first: the connection that was opened to connect goes to the first that is made, and belongs to this runtime.
        let home = runtime.map(|runtime| (runtime, make(Home::Own)));
        Self { home, elsewhere: make(Home::Background) }
    }

    /// The one for the caller.
    pub fn here(&self) -> &T {
        match &self.home {
            Some((runtime, own)) if current_runtime() == Some(*runtime) => own,
            _ => &self.elsewhere,
        }
    }

    /// Both, where there are two.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.home.iter().map(|(_, own)| own).chain([&self.elsewhere])
    }
}

/// The runtime of the caller, where there is one.
#[must_use]
pub fn current_runtime() -> Option<Id> {
    Handle::try_current().ok().map(|runtime| runtime.id())
}

/// The error of a server that a connection could not be opened to; or of the runtime on which that was tried, where that has
/// ended meanwhile.
#[must_use]
pub fn unreachable(error: &io::Error) -> Error {
    // Tokio says it by these words alone.
    if error.to_string().contains("being shutdown") {
        return Error::new(
            ErrorKind::Unavailable,
            "the runtime on which the connection was opened has ended",
        )
        .with_hint("call again; keep the runtime that connected for as long as the storage is used from it");
    }
    Error::new(ErrorKind::Unavailable, format!("the server cannot be reached: {error}"))
}

impl Home {
    /// Runs `work` by itself on the runtime.
    pub fn spawn(self, work: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Own => super::task::spawn(work),
            Self::Background => super::task::spawn_in_background(work),
        }
    }
}

impl<T> fmt::Debug for Homes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Homes").field("own", &self.home.is_some()).finish_non_exhaustive()
    }
}
