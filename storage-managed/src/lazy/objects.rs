//! The index, what stands before the pages of segments, and small segments as a whole, in files: objects never change, so the next
//! process reads them here. Each has a hash of its own; what does not verify is fetched anew.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
};

use crate::system::{Positioned, make_folder};

#[derive(Debug)]
pub(super) struct Objects {
    folder: PathBuf,
}

impl Objects {
    pub(super) fn new(folder: PathBuf) -> io::Result<Self> {
        make_folder(&folder)?;
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(file_name(name))
    }

    /// What is here of an object.
    pub(super) fn load(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.path(name)).ok()
    }

    /// A part of it.
    pub(super) fn load_range(&self, name: &str, from: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        File::open(self.path(name)).and_then(|file| file.read_exact_at(&mut bytes, from)).ok()?;
        Some(bytes)
    }

    /// Keeps the beginning of an object. Nothing depends on it: on a full disk it is fetched again.
    pub(super) fn keep(&self, name: &str, bytes: &[u8]) {
        let kept = tempfile::NamedTempFile::new_in(&self.folder).and_then(|mut file| {
            file.write_all(bytes)?;
            file.persist(self.path(name)).map_err(|error| error.error)
        });
        if let Err(error) = kept {
            tracing::debug!(%error, name, "what was fetched is not kept");
        }
    }

    /// Removes one that does not verify.
    pub(super) fn forget(&self, name: &str) {
        let _ = fs::remove_file(self.path(name));
    }

    /// Removes all but these, which are in use.
    pub(super) fn sweep(&self, used: impl Iterator<Item = String>) {
        let used: HashSet<String> = used.map(|name| file_name(&name)).collect();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if !entry.file_name().to_str().is_some_and(|name| used.contains(name)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn file_name(name: &str) -> String {
    name.replace('/', "-")
}
