//! A disk that a test can fill.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::environment::{DISK, disk};
use crate::error::Context;
use crate::{Error, Result};

/// Runs a program where a file system of `$1` bytes is mounted on `$2`, for this program alone.
const MOUNTED: &str = r#"mount -t tmpfs -o "size=$1,mode=700" tmpfs "$2" && shift 2 && exec "$@""#;
/// Runs a program to which the system answers that a file grew too large, instead of killing it.
const LIMITED: &str = r#"trap '' XFSZ; shift 2; exec "$@""#;
/// Ways to such a disk, each with what it is called in the variable of the program that runs there. Without a namespace of
/// users only root may mount; where those are forbidden root may still.
const WAYS: [(&str, &[&str]); 3] = [
    ("mounted", &["unshare", "-rm", "sh", "-c", MOUNTED]),
    ("mounted", &["unshare", "-m", "sh", "-c", MOUNTED]),
    ("limited", &["sh", "-c", LIMITED]),
];

/// A file system of its own that a test can fill, and empty again.
///
/// It is a small one in memory, which any user of Linux may mount in a namespace of his own. In a container that forbids
/// that, and on other systems, it is a folder, and "full" means that no file of the process may grow beyond a length.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    is_mounted: bool,
}

impl SmallDisk {
    /// Runs a test on a disk of this size: again, in a process of its own. `name` is the test's, as its program knows it.
    ///
    /// # Errors
    ///
    /// When the test failed there.
    pub fn run(bytes: u64, name: &str, test: impl FnOnce(&SmallDisk)) -> Result<()> {
        if let Some((way, path)) = disk() {
            test(&SmallDisk { path, is_mounted: way == "mounted" });
            return Ok(());
        }
        let folder = TempDir::with_prefix("storage-disk-").context("make a temporary folder")?;
        let test = std::env::current_exe().context("find this program")?;
        let mut said = String::new();
        for (way, program) in WAYS {
            let [first, rest @ ..] = program else { continue };
            let mut command = Command::new(first);
            command.args(rest).args(["sh", &bytes.to_string()]).arg(folder.path());
            command.arg(&test).args([name, "--exact", "--nocapture"]);
            command.env(DISK, format!("{way}:{}", folder.path().display()));
            // To a pipe: a file's length may be limited.
            let Ok(done) = command.output() else { continue };
            said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
            if done.status.success() && said.contains("1 passed") {
                return Ok(());
            }
            if said.contains("running 1 test") {
                break;
            }
        }
        let _ = std::io::stderr().write_all(said.as_bytes());
        Err(Error::Failed { command: format!("{name} on a small disk"), output: "see above".into() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a file system, which says that it is full.
    #[must_use]
    pub fn is_mounted(&self) -> bool {
        self.is_mounted
    }

    /// Leaves room for so many bytes.
    ///
    /// # Errors
    ///
    /// When the system refuses it. So with [`free`](Self::free).
    pub fn fill(&self, leave: u64) -> Result<()> {
        if !self.is_mounted {
            let (_, most) = limits()?;
            return setrlimit(Resource::RLIMIT_FSIZE, leave, most)
                .map_err(Into::into)
                .context("limit the size of files");
        }
        self.fill_up(leave).context("fill the disk")
    }

    fn fill_up(&self, leave: u64) -> std::io::Result<()> {
        let file = File::create(self.filler())?;
        let (block, mut length) = ([1; 4096], 0);
        loop {
            match file.write_all_at(&block, length) {
                Ok(()) => length += 4096,
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error),
            }
        }
        file.set_len(length.saturating_sub(leave))
    }

    /// Makes room again.
    ///
    /// # Errors
    ///
    /// As [`fill`](Self::fill).
    pub fn free(&self) -> Result<()> {
        if self.is_mounted {
            return fs::remove_file(self.filler()).context("empty the disk");
        }
        let (_, most) = limits()?;
        setrlimit(Resource::RLIMIT_FSIZE, most, most)
            .map_err(Into::into)
            .context("lift the limit on the size of files")
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

fn limits() -> Result<(u64, u64)> {
    getrlimit(Resource::RLIMIT_FSIZE).map_err(Into::into).context("read the limit on the size of files")
}
