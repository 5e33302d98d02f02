//! A standby that follows a primary.

use std::process::Command;
use std::time::Instant;

use super::{DATABASE, PASSWORD, Postgres, PostgresOptions, START_LIMIT, USER, run};
use crate::servers::ports::with_free_port;
use crate::{Error, Result};

/// How a standby follows its primary.
#[derive(Debug, Clone, Copy, Default)]
pub struct StandbyOptions {
    /// The primary keeps what the standby has not received, in a replication slot.
    pub slot: bool,
}

impl Postgres {
    /// A hot standby: a base backup of this server that receives what is written from now on. It is a server of its own, with
    /// the same login, that lives on when this one is killed. Not with TLS.
    ///
    /// # Errors
    ///
    /// When the backup fails, or the standby does not start.
    pub fn standby(&self, options: StandbyOptions) -> Result<Postgres> {
        with_free_port(|port| {
            let backup = |standby: &Postgres| standby.back_up(self.port, port, options);
            let mut standby = Postgres::prepare(&self.programs, port, &PostgresOptions::default(), backup)?;
            standby.restart()?;
            Ok(standby)
        })
    }

    /// Makes a standby a primary, and waits until it takes writes.
    ///
    /// # Errors
    ///
    /// When it is no standby, or takes no writes within a minute.
    pub fn promote(&self) -> Result<()> {
        let promoted = self.sql("SELECT pg_promote(true, 60)")?;
        if promoted != "t" {
            return Err(failed("promote", "it took too long"));
        }
        // A standby of its own would inherit it.
        self.sql("ALTER SYSTEM RESET primary_slot_name").map(drop)
    }

    /// Whether commits wait until a standby has them on its disk: with the standby that follows, or alone again.
    ///
    /// # Errors
    ///
    /// When the server refuses the setting, or no standby follows within a minute.
    pub fn synchronous(&self, on: bool) -> Result<()> {
        self.set("synchronous_standby_names", if on { "*" } else { "" })?;
        let started = Instant::now();
        while on && self.sql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")? != "1" {
            if started.elapsed() > START_LIMIT {
                return Err(failed("follow", "no standby is synchronous"));
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Ok(())
    }

    /// Changes a setting of the running server, for its sessions too.
    ///
    /// # Errors
    ///
    /// When the server refuses it.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        self.sql(&format!("ALTER SYSTEM SET {name} = '{value}'"))?;
        self.sql("SELECT pg_reload_conf()").map(drop)
    }

    fn back_up(&self, primary: u16, own: u16, options: StandbyOptions) -> Result<()> {
        let mut command = Command::new(self.programs.join("pg_basebackup"));
        let from = format!(
            "host=127.0.0.1 port={primary} user={USER} password={PASSWORD} dbname={DATABASE} application_name=standby"
        );
        command.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--wal-method=stream"]);
        command.arg("--pgdata").arg(self.data()).args(["--dbname", &from]).current_dir(self.folder.path());
        if options.slot {
            command.args(["--create-slot", "--slot", &format!("standby_{own}")]);
        }
        if let Some(account) = &self.account {
            account.apply(&mut command);
        }
        run(command, "pg_basebackup").map(drop)
    }
}

fn failed(command: &str, output: &str) -> Error {
    Error::Failed { command: command.into(), output: output.into() }
}
