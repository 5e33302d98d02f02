//! Azurite: Azure Blob Storage on this machine.

use std::ffi::OsString;
use std::path::Path;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::http;
use super::ports::with_free_port;
use super::process::{Launch, Process};
use crate::error::Context;
use crate::{Result, programs};

/// The account that every Azurite has, and its key, which Microsoft publishes: it protects nothing.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// An Azure Blob Storage of the caller's own, on 127.0.0.1 without TLS. It keeps its data in memory, so that a
/// [`kill`](Self::kill) empties it; a [`Proxy`](crate::Proxy) can make it unreachable with its data kept.
#[derive(Debug)]
pub struct Azurite {
    // Before the folder: fields are dropped in order, and the server writes into the folder.
    process: Process,
    _folder: TempDir,
    port: u16,
}

impl Azurite {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    ///
    /// When Azurite is not installed, or does not start; the error says why.
    pub fn start() -> Result<Azurite> {
        let program = programs::azurite_blob()?;
        with_free_port(|port| {
            let mut azurite = Azurite::prepare(&program, port)?;
            azurite.restart()?;
            Ok(azurite)
        })
    }

    fn prepare(program: &Path, port: u16) -> Result<Azurite> {
        let folder = TempDir::with_prefix("storage-azurite-").context("make a temporary folder")?;
        let port_text = port.to_string();
        let arguments = ["--blobHost", "127.0.0.1", "--blobPort", &port_text]
            .into_iter()
            // The newest SDKs ask for versions of the protocol that Azurite does not list yet.
            .chain(["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent"]);
        let process = Process::new(Launch {
            server: "Azurite",
            program: program.to_path_buf(),
            arguments: arguments.map(OsString::from).collect(),
            account: None,
            folder: folder.path().to_path_buf(),
            stop: Signal::SIGTERM,
            abort: Signal::SIGKILL,
        });
        Ok(Azurite { process, _folder: folder, port })
    }

    /// URL of the account: `http://127.0.0.1:port/account`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}", self.port)
    }

    /// The account's name.
    #[must_use]
    pub fn account(&self) -> &'static str {
        ACCOUNT
    }

    /// The account's key, in base64.
    #[must_use]
    pub fn key(&self) -> &'static str {
        KEY
    }

    /// The server's TCP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
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

    /// Starts the server on the same port without data, after ending it when it runs, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it does not start; the error holds the end of its log.
    pub fn restart(&mut self) -> Result<()> {
        let port = self.port;
        self.process.start(|_| http::answers(port))
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
