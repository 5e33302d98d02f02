//! What systems do differently: positions in files, files for one user alone, folders whose names last.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Reads and writes at a position, and leaves that of the file alone, or does not care.
#[cfg(unix)]
pub(crate) use std::os::unix::fs::FileExt as Positioned;

#[cfg(windows)]
pub(crate) use windows::Positioned;

/// So much is written beside the batches before it is synced: at once, all of it would keep their syncs waiting.
pub(crate) const STEP_BYTES: u64 = 1024 * 1024;
/// So much is freed at once, for the same reason.
const FREED_BYTES: u64 = 16 * STEP_BYTES;

/// Makes a folder and those above it; where the system has modes, for this user alone.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    let mut folder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
    folder.recursive(true).create(path)
}

/// Opens a file, made where it is not there; where the system has modes, for this user alone.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.read(true).write(true).create(true).truncate(false).open(path)
}

/// Writes a long file from its beginning on, and lets others have as much of the disk as it takes.
#[derive(Debug)]
pub(crate) struct Steps<'a> {
    file: &'a File,
    synced: u64,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(file: &'a File) -> Self {
        Self { file, synced: 0 }
    }

    pub(crate) fn write(&mut self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, position)?;
        if position.saturating_sub(self.synced) >= STEP_BYTES {
            let began = Instant::now();
            self.file.sync_data()?;
            self.synced = position;
            thread::sleep(began.elapsed());
        }
        Ok(())
    }
}

/// Frees what a long file takes before it is removed, which is a step by itself: a disk that is told of what is free can be
/// busy with it for a while.
pub(crate) fn free(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let mut length = file.metadata()?.len();
    while length > 0 {
        length = length.saturating_sub(FREED_BYTES);
        file.set_len(length)?;
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Makes names in a folder last. Windows opens no folder as a file; its file system logs names by itself.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path)?.sync_all()
}

/// What tells an open file on a running machine from its copies: the boot, the machine's name, the file's own number. Empty
/// where the system does not tell.
#[cfg(unix)]
pub(crate) fn identity(file: &File) -> String {
    use std::os::unix::fs::MetadataExt;
    match file.metadata() {
        Ok(found) => format!("{} {} {}:{}", boot(), host(), found.dev(), found.ino()),
        Err(_) => String::new(),
    }
}

#[cfg(not(unix))]
pub(crate) fn identity(_: &File) -> String {
    String::new()
}

/// Which start of the machine this is; empty where the system does not tell.
pub(crate) fn boot() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    boot.trim().to_owned()
}

/// The machine's name, as people know it.
#[cfg(unix)]
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
pub(crate) fn host() -> String {
    String::new()
}

#[cfg(windows)]
mod windows {
    use std::{fs::File, io, os::windows::fs::FileExt};

    pub(crate) trait Positioned {
        fn read_exact_at(&self, bytes: &mut [u8], position: u64) -> io::Result<()>;
        fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    }

    impl Positioned for File {
        fn read_exact_at(&self, mut bytes: &mut [u8], mut position: u64) -> io::Result<()> {
            while !bytes.is_empty() {
                match self.seek_read(bytes, position) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(read) => {
                        bytes = bytes.get_mut(read..).unwrap_or_default();
                        position += read as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        }

        fn write_all_at(&self, mut bytes: &[u8], mut position: u64) -> io::Result<()> {
            while !bytes.is_empty() {
                match self.seek_write(bytes, position) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => {
                        bytes = bytes.get(written..).unwrap_or_default();
                        position += written as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        }
    }
}
