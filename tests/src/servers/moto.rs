//! Moto: S3 on this machine.

use std::ffi::OsString;
use std::path::Path;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::http;
use super::ports::with_free_port;
use super::process::{Launch, Process};
use crate::error::Context;
use crate::{Result, programs};

/// The bucket that is there from the start.
const BUCKET: &str = "storage";

/// An S3 of the caller's own with one empty bucket, on 127.0.0.1 without TLS. It takes any credentials until it is told to
/// [`check_credentials`](Self::check_credentials), and keeps its data in memory, so that a [`kill`](Self::kill)
/// empties it; a [`Proxy`](crate::Proxy) can make it unreachable with its data kept.
#[derive(Debug)]
pub struct Moto {
    // Before the folder: fields are dropped in order, and the server writes into the folder.
    process: Process,
    _folder: TempDir,
    port: u16,
}

impl Moto {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    ///
    /// When moto is not installed, or does not start; the error says why.
    pub fn start() -> Result<Moto> {
        let program = programs::moto_server()?;
        with_free_port(|port| {
            let mut moto = Moto::prepare(&program, port)?;
            moto.restart()?;
            Ok(moto)
        })
    }

    fn prepare(program: &Path, port: u16) -> Result<Moto> {
        let folder = TempDir::with_prefix("storage-moto-").context("make a temporary folder")?;
        let process = Process::new(Launch {
            server: "moto",
            program: program.to_path_buf(),
            arguments: ["-H", "127.0.0.1", "-p", &port.to_string()].map(OsString::from).to_vec(),
            account: None,
            folder: folder.path().to_path_buf(),
            stop: Signal::SIGTERM,
            abort: Signal::SIGKILL,
        });
        Ok(Moto { process, _folder: folder, port })
    }

    /// URL of the endpoint: `http://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The server's TCP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name of the bucket that is there from the start.
    #[must_use]
    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// From now on, whoever has no access key of this server's is refused; nobody has one.
    ///
    /// # Errors
    ///
    /// When the server does not answer, or refuses.
    pub fn check_credentials(&self) -> Result<()> {
        http::tell(self.port, "POST", "/moto-api/reset-auth", "0")
    }

    /// Ends the server at once; its data is gone.
    ///
    /// # Errors
    ///
    /// When the system refuses to tell whether the server has ended. So with all methods below.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Ends the server in an orderly way; its data is gone.
    ///
    /// # Errors
    ///
    /// As [`kill`](Self::kill).
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop()
    }

    /// Starts the server on the same port with an empty bucket, after ending it when it runs, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it does not start; the error holds the end of its log.
    pub fn restart(&mut self) -> Result<()> {
        let port = self.port;
        self.process.start(|_| http::answers(port))?;
        http::tell(port, "PUT", &format!("/{BUCKET}"), "")
    }

    /// Freezes the server: connections stay open, and nobody answers.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        self.process.resume();
    }
}
