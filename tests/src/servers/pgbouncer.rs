//! `PgBouncer`.

use std::net::TcpStream;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::account::Account;
use super::encode;
use super::ports::with_free_port;
use super::postgres::{DATABASE, PASSWORD, USER};
use super::process::{Launch, Process};
use crate::error::Context;
use crate::{Result, programs};

/// A `PgBouncer` in transaction mode before a [`Postgres`](super::postgres::Postgres), with the same user, password and databases. It is stopped when
/// dropped.
#[derive(Debug)]
pub struct PgBouncer {
    process: Process,
    _folder: TempDir,
    port: u16,
}

impl PgBouncer {
    /// Starts one before a server of this crate's at `postgres` of 127.0.0.1, see [`Postgres::port`](super::postgres::Postgres::port), and waits until it
    /// accepts connections.
    ///
    /// # Errors
    ///
    /// When `PgBouncer` is not installed, or does not start; the error says why.
    pub fn start(postgres: u16) -> Result<PgBouncer> {
        let program = programs::pgbouncer()?;
        with_free_port(|port| {
            let folder = TempDir::with_prefix("storage-pgbouncer-").context("make a temporary folder")?;
            // Like Postgres it refuses to run as root.
            let account = Account::instead_of_root()?;
            let path = |name| folder.path().join(name);
            let users = format!("\"{USER}\" \"{PASSWORD}\"\n");
            let settings = settings(postgres, port, &path("users").display().to_string());
            for (name, text) in [("users", users), ("settings", settings)] {
                std::fs::write(path(name), text).context("write the settings of PgBouncer")?;
            }
            if let Some(account) = &account {
                [folder.path(), &path("users"), &path("settings")]
                    .iter()
                    .try_for_each(|path| account.own(path))?;
            }
            let mut process = Process::new(Launch {
                server: "PgBouncer",
                program: program.clone(),
                arguments: vec![path("settings").into()],
                account,
                folder: folder.path().to_path_buf(),
                stop: Signal::SIGINT,
                abort: Signal::SIGKILL,
            });
            process.start(|_| TcpStream::connect(("127.0.0.1", port)).is_ok())?;
            Ok(PgBouncer { process, _folder: folder, port })
        })
    }

    /// The URL of the database that the server has, through the pooler.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgresql://{USER}:{}@127.0.0.1:{}/{DATABASE}", encode(PASSWORD), self.port)
    }

    /// The TCP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it at once, with the connections through it.
    ///
    /// # Errors
    ///
    /// As [`Postgres::kill`](super::postgres::Postgres::kill).
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it on the same port, after ending it when it runs.
    ///
    /// # Errors
    ///
    /// As [`Postgres::restart`](super::postgres::Postgres::restart).
    pub fn restart(&mut self) -> Result<()> {
        let port = self.port;
        self.process.start(|_| TcpStream::connect(("127.0.0.1", port)).is_ok())
    }
}

fn settings(postgres: u16, port: u16, users: &str) -> String {
    format!(
        "[databases]\n\
         * = host=127.0.0.1 port={postgres}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = scram-sha-256\n\
         auth_file = {users}\n\
         pool_mode = transaction\n\
         max_client_conn = 1000\n\
         default_pool_size = 20\n"
    )
}
