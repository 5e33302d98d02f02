//! Why a server could not be started or steered.

use std::io;

/// A result of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a server could not be started or steered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program that the server needs is not installed.
    #[error("{program} was not found: {install}")]
    MissingProgram {
        /// The program's name.
        program: String,
        /// What to install, on which system.
        install: &'static str,
    },
    /// The operating system refused something.
    #[error("cannot {doing}")]
    Io {
        /// What was tried.
        doing: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A server ended before it was ready.
    #[error("{server} ended before it was ready; the end of its log:\n{log}")]
    Exited {
        /// Which server.
        server: &'static str,
        /// The end of its log.
        log: String,
    },
    /// A server did not become ready in time.
    #[error("{server} was not ready in time; the end of its log:\n{log}")]
    NotReady {
        /// Which server.
        server: &'static str,
        /// The end of its log.
        log: String,
    },
    /// A command, or a server's answer to one, was a failure.
    #[error("{command} failed: {output}")]
    Failed {
        /// The command.
        command: String,
        /// What it said.
        output: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
}

impl Error {
    /// Whether the server's port was taken by another program after it had been found free.
    pub(crate) fn is_port_taken(&self) -> bool {
        matches!(self, Error::Exited { log, .. } if log.contains("already in use"))
    }
}

/// Says what was tried when the system refused it.
pub(crate) trait Context<T> {
    /// Turns a system error into [`Error::Io`], with what was tried.
    fn context(self, doing: impl Into<String>) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, doing: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::Io { doing: doing.into(), source })
    }
}
