//! An open database: SQLite's methods of a file, which read and refuse all else.

use std::{
    ffi::{c_int, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr, slice,
    sync::Arc,
};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_int64, sqlite3_io_methods};

use crate::database::ReadAt;

/// What stands in the memory that SQLite sets aside for a file: its own part first, as it asks for.
#[repr(C)]
pub(crate) struct OpenFile {
    methods: sqlite3_file,
    database: Arc<dyn ReadAt>,
}

/// The first version: without shared memory, so that no log is looked for, and without memory maps.
static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(nothing),
    xFileSize: Some(size),
    xLock: Some(nothing),
    xUnlock: Some(nothing),
    xCheckReservedLock: Some(check_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

impl OpenFile {
    /// Makes a file of the memory that SQLite has set aside for it.
    ///
    /// # Safety
    /// `file` is aligned as a pointer and writable, for the size of this type, and holds no open file.
    pub(crate) unsafe fn place(file: *mut sqlite3_file, database: Arc<dyn ReadAt>) {
        let open = Self { methods: sqlite3_file { pMethods: &raw const METHODS }, database };
        // SAFETY: as the caller promises; what was there is no value that had to be dropped.
        unsafe { ptr::write(file.cast::<Self>(), open) };
    }
}

/// The database of an open file.
///
/// # Safety
/// `file` was made by [`OpenFile::place`] and is not closed, which SQLite grants each method but until `xClose`.
unsafe fn database<'a>(file: *mut sqlite3_file) -> &'a dyn ReadAt {
    // SAFETY: as the caller promises; nobody has a unique reference to an open file.
    unsafe { &*(*file.cast::<OpenFile>()).database }
}

/// What SQLite calls is C: a panic may not leave it.
pub(crate) fn without_panic(on_panic: c_int, work: impl FnOnce() -> c_int) -> c_int {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(on_panic)
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    without_panic(ffi::SQLITE_IOERR_CLOSE, || {
        // SAFETY: SQLite closes a file once that was opened, and does not use it any more.
        unsafe { ptr::drop_in_place(file.cast::<OpenFile>()) };
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    buffer: *mut c_void,
    length: c_int,
    offset: sqlite3_int64,
) -> c_int {
    without_panic(ffi::SQLITE_IOERR_READ, || {
        let (Ok(length), Ok(offset)) = (usize::try_from(length), u64::try_from(offset)) else {
            return ffi::SQLITE_IOERR_READ;
        };
        if buffer.is_null() {
            return ffi::SQLITE_IOERR_READ;
        }
        // SAFETY: SQLite hands over so many bytes to be filled, which nobody else uses meanwhile; they are written before
        // there is a reference to them. What is behind the end has to be zeros.
        let buffer = unsafe {
            ptr::write_bytes(buffer.cast::<u8>(), 0, length);
            slice::from_raw_parts_mut(buffer.cast::<u8>(), length)
        };
        // SAFETY: SQLite reads from files that are open.
        let database = unsafe { database(file) };
        let there =
            usize::try_from(database.length().saturating_sub(offset)).unwrap_or(usize::MAX).min(length);
        let Some(part) = buffer.get_mut(..there) else { return ffi::SQLITE_IOERR_READ };
        match if part.is_empty() { Ok(()) } else { database.read_at(offset, part) } {
            Ok(()) if there == length => ffi::SQLITE_OK,
            Ok(()) => ffi::SQLITE_IOERR_SHORT_READ,
            Err(_) => ffi::SQLITE_IOERR_READ,
        }
    })
}

unsafe extern "C" fn size(file: *mut sqlite3_file, size: *mut sqlite3_int64) -> c_int {
    without_panic(ffi::SQLITE_IOERR_FSTAT, || {
        // SAFETY: SQLite asks for the size of files that are open.
        let length = unsafe { database(file) }.length();
        let Ok(length) = sqlite3_int64::try_from(length) else { return ffi::SQLITE_IOERR_FSTAT };
        // SAFETY: SQLite hands over a place for the answer.
        unsafe { ptr::write(size, length) };
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn check_reserved(_: *mut sqlite3_file, answer: *mut c_int) -> c_int {
    // SAFETY: SQLite hands over a place for the answer.
    unsafe { ptr::write(answer, 0) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn write(_: *mut sqlite3_file, _: *const c_void, _: c_int, _: sqlite3_int64) -> c_int {
    ffi::SQLITE_READONLY
}

unsafe extern "C" fn truncate(_: *mut sqlite3_file, _: sqlite3_int64) -> c_int {
    ffi::SQLITE_READONLY
}

/// Syncs, locks, unlocks: there is nothing to do for what never changes.
unsafe extern "C" fn nothing(_: *mut sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn control(_: *mut sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

/// SQLite's default.
unsafe extern "C" fn sector_size(_: *mut sqlite3_file) -> c_int {
    4096
}

/// Immutable: no locks, no journal, no log, whatever the header says.
unsafe extern "C" fn characteristics(_: *mut sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_IMMUTABLE
}
