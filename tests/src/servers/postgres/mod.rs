//! Postgres.

mod standby;

pub use standby::StandbyOptions;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::account::Account;
use super::certificates::Certificates;
use super::encode;
use super::ports::with_free_port;
use super::process::{Launch, Process};
use crate::error::Context;
use crate::{Error, Result, programs};

pub(super) const USER: &str = "storage";
pub(super) const DATABASE: &str = "storage";
/// With characters that mean something in a URL.
pub(super) const PASSWORD: &str = "p@ss:w/rd%";
/// The first version that can order text by a language's rules without the system's help.
const FIRST_WITH_ICU_DATABASES: u32 = 15;

/// Generous, for machines that are busy compiling.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How a [`Postgres`] is set up.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// Refuse connections without TLS.
    pub tls: bool,
    /// With TLS: the server's certificate is its own authority.
    pub self_signed: bool,
    /// Further settings of the server, such as `("statement_timeout", "1s")`.
    pub settings: Vec<(String, String)>,
}

/// A Postgres server of the caller's own, with a superuser and a database, both named `storage`. It keeps its
/// data through a [`kill`](Self::kill), and is stopped, and its data removed, when dropped.
///
/// The database orders text as English does where the server can (from Postgres 15 on), so that a test sees
/// when code relies on the order of bytes without asking for it.
#[derive(Debug)]
pub struct Postgres {
    // Before the folder: fields are dropped in order, and the server writes into the folder.
    process: Process,
    folder: TempDir,
    programs: PathBuf,
    account: Option<Account>,
    port: u16,
    certificates: Option<Certificates>,
}

impl Postgres {
    /// Makes a new database cluster, starts a server for it, and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// When Postgres is not installed, or does not start; the error says why.
    pub fn start(options: &PostgresOptions) -> Result<Postgres> {
        let programs = programs::postgres_folder()?;
        with_free_port(|port| {
            let mut postgres = Postgres::prepare(&programs, port, options, Postgres::initialize)?;
            postgres.restart()?;
            postgres.create_database()?;
            Ok(postgres)
        })
    }

    /// A server that is not running yet, whose data `fill` makes.
    fn prepare(
        programs: &Path,
        port: u16,
        options: &PostgresOptions,
        fill: impl FnOnce(&Postgres) -> Result<()>,
    ) -> Result<Postgres> {
        let folder = TempDir::with_prefix("storage-postgres-").context("make a temporary folder")?;
        let account = Account::instead_of_root()?;
        let create = if options.self_signed { Certificates::self_signed } else { Certificates::create };
        let certificates = options.tls.then(|| create(folder.path())).transpose()?;
        if let Some(account) = &account {
            account.own(folder.path())?;
            certificates
                .iter()
                .try_for_each(|files| account.own(files.key()).and(account.own(files.certificate())))?;
        }
        let process = Process::new(Launch {
            server: "Postgres",
            program: programs.join("postgres"),
            arguments: arguments(folder.path(), port, options, certificates.as_ref()),
            account: account.clone(),
            folder: folder.path().to_path_buf(),
            stop: Signal::SIGINT,
            // Unlike SIGKILL, it removes the server's shared memory.
            abort: Signal::SIGQUIT,
        });
        let postgres =
            Postgres { process, folder, programs: programs.to_path_buf(), account, port, certificates };
        fill(&postgres)?;
        Ok(postgres)
    }

    /// URL of the database, with user and password; with TLS it asks for `sslmode=verify-full`.
    #[must_use]
    pub fn url(&self) -> String {
        let (host, query) = match self.certificates {
            Some(_) => ("localhost", "?sslmode=verify-full"),
            None => ("127.0.0.1", ""),
        };
        format!("postgresql://{USER}:{}@{host}:{}/{DATABASE}{query}", encode(PASSWORD), self.port)
    }

    /// The server's TCP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path of the certificate authority (PEM) that signed the server's certificate, with TLS.
    #[must_use]
    pub fn ca(&self) -> Option<&Path> {
        self.certificates.as_ref().map(Certificates::ca)
    }

    /// Runs a statement as the superuser, and returns its rows: one line each, columns separated by `|`.
    ///
    /// # Errors
    ///
    /// When the server does not answer, or refuses the statement.
    pub fn sql(&self, statement: &str) -> Result<String> {
        self.psql(DATABASE, statement)
    }

    /// Ends the server at once, as a crash would; transactions that it has confirmed are kept.
    ///
    /// # Errors
    ///
    /// When the system refuses to tell whether the server has ended. So with all methods below.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Ends the server in an orderly way: running transactions are rolled back.
    ///
    /// # Errors
    ///
    /// As [`kill`](Self::kill).
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop()
    }

    /// Starts the server on the same port with the same data, after ending it when it runs, and waits until
    /// it accepts connections.
    ///
    /// # Errors
    ///
    /// When it does not start; the error holds the end of its log.
    pub fn restart(&mut self) -> Result<()> {
        let state = self.data().join("postmaster.pid");
        self.process.start(|process| is_ready(&state, process))
    }

    /// Freezes the server and all its connections: they stay open, and nobody answers.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        self.process.resume();
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn initialize(&self) -> Result<()> {
        let password = self.folder.path().join("password");
        std::fs::write(&password, PASSWORD).context("write the password's file")?;
        let mut command = Command::new(self.programs.join("initdb"));
        command
            .arg("--pgdata")
            .arg(self.data())
            .arg("--pwfile")
            .arg(&password)
            .current_dir(self.folder.path());
        command.args(["--username", USER, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"]);
        command.arg("--no-sync");
        if let Some(account) = &self.account {
            account.apply(&mut command);
        }
        run(command, "initdb")?;
        if self.certificates.is_some() {
            let rules = "local all all scram-sha-256\nhostssl all all all scram-sha-256\n";
            std::fs::write(self.data().join("pg_hba.conf"), rules).context("write pg_hba.conf")?;
        }
        Ok(())
    }

    fn create_database(&self) -> Result<()> {
        let version = std::fs::read_to_string(self.data().join("PG_VERSION")).context("read PG_VERSION")?;
        let version: u32 = version.trim().parse().unwrap_or_default();
        let order = "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'";
        let order = if version >= FIRST_WITH_ICU_DATABASES { order } else { "" };
        self.psql("postgres", &format!("CREATE DATABASE {DATABASE} {order}")).map(drop)
    }

    fn psql(&self, database: &str, statement: &str) -> Result<String> {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1"]);
        command.arg("--host").arg(self.folder.path()).args(["--port", &self.port.to_string()]);
        command.args(["--username", USER, "--dbname", database, "--command", statement]);
        command.env("PGPASSWORD", PASSWORD);
        run(command, "psql")
    }
}

fn arguments(
    folder: &Path,
    port: u16,
    options: &PostgresOptions,
    certificates: Option<&Certificates>,
) -> Vec<std::ffi::OsString> {
    let mut settings: Vec<(String, String)> = [
        ("listen_addresses", "127.0.0.1"),
        ("max_connections", "300"),
        // As in production: a confirmed transaction is on the disk.
        ("fsync", "on"),
        ("synchronous_commit", "on"),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .into();
    settings.push(("port".into(), port.to_string()));
    settings.push(("unix_socket_directories".into(), folder.display().to_string()));
    if let Some(files) = certificates {
        settings.push(("ssl".into(), "on".into()));
        settings.push(("ssl_cert_file".into(), files.certificate().display().to_string()));
        settings.push(("ssl_key_file".into(), files.key().display().to_string()));
    }
    settings.extend(options.settings.iter().cloned());
    let settings = settings.iter().flat_map(|(name, value)| ["-c".into(), format!("{name}={value}").into()]);
    ["-D".into(), folder.join("data").into()].into_iter().chain(settings).collect()
}

/// Whether the process `postmaster` accepts connections: it says so in the eighth line of its file, which
/// `pg_ctl` waits for, too. The first line says whose file it is; one of a killed server may still be there.
fn is_ready(state: &Path, postmaster: u32) -> bool {
    let state = std::fs::read_to_string(state).unwrap_or_default();
    let line = |position| state.lines().nth(position).unwrap_or_default().trim();
    line(0) == postmaster.to_string() && line(7) == "ready"
}

fn run(mut command: Command, name: &str) -> Result<String> {
    let output = command.output().context(format!("run {name}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_string());
    }
    Err(Error::Failed { command: name.into(), output: String::from_utf8_lossy(&output.stderr).trim().into() })
}
