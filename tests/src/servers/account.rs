//! The account that a server runs under.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{User, geteuid};

use crate::error::Context;
use crate::{Error, Result};

/// An account other than this program's own.
#[derive(Debug, Clone)]
pub(super) struct Account {
    user: u32,
    group: u32,
}

impl Account {
    /// Postgres refuses to run as root. For root, this is the account to use instead; for others, none.
    pub(super) fn instead_of_root() -> Result<Option<Account>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let user = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
        let user = user.ok_or_else(|| Error::Failed {
            command: "searching an account to run Postgres, which refuses to run as root".into(),
            output: "there is neither `postgres` nor `nobody`".into(),
        })?;
        Ok(Some(Account { user: user.uid.as_raw(), group: user.gid.as_raw() }))
    }

    /// Makes this account the owner of `path`.
    pub(super) fn own(&self, path: &Path) -> Result<()> {
        chown(path, Some(self.user), Some(self.group)).context(format!("give away {}", path.display()))
    }

    /// Makes `command` run under this account.
    pub(super) fn apply(&self, command: &mut Command) {
        command.uid(self.user).gid(self.group);
    }
}
