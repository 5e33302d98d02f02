//! The VFS: opens databases by name, and leaves to the system's own what is no database.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    ptr,
    sync::OnceLock,
};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_filename, sqlite3_int64, sqlite3_vfs};

use crate::{
    database::Named,
    file::{OpenFile, without_panic},
};

/// What SQLite knows it by.
pub(crate) const NAME: &CStr = c"storage-managed";
/// Names have some twenty bytes.
const MAX_NAME: c_int = 256;

/// What `sqlite3_vfs_register` has answered.
static REGISTERED: OnceLock<c_int> = OnceLock::new();

/// Makes it known to SQLite, once in a process.
///
/// # Errors
/// What SQLite says.
pub(crate) fn register() -> rusqlite::Result<()> {
    match *REGISTERED.get_or_init(register_once) {
        ffi::SQLITE_OK => Ok(()),
        code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
    }
}

fn register_once() -> c_int {
    // SAFETY: it may be called at any time, and has no name to read.
    let base = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
    if base.is_null() {
        return ffi::SQLITE_ERROR;
    }
    // SAFETY: SQLite keeps a VFS for good unless somebody takes it out, which nobody does with the system's own; what it can
    // do and how large its files are does not change.
    let base_size = unsafe { (*base).szOsFile };
    let own_size = c_int::try_from(size_of::<OpenFile>()).unwrap_or(c_int::MAX);
    let vfs = Box::leak(Box::new(sqlite3_vfs {
        iVersion: 2,
        szOsFile: own_size.max(base_size),
        mxPathname: MAX_NAME,
        pNext: ptr::null_mut(),
        zName: NAME.as_ptr(),
        pAppData: base.cast(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xDlOpen: Some(dl_open),
        xDlError: Some(dl_error),
        xDlSym: Some(dl_sym),
        xDlClose: Some(dl_close),
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: Some(last_error),
        xCurrentTimeInt64: Some(current_time_millis),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }));
    // SAFETY: it lives for good, and nobody else has it; SQLite links it into its list.
    unsafe { ffi::sqlite3_vfs_register(vfs, 0) }
}

/// The system's own.
///
/// # Safety
/// `vfs` is the one of [`register_once`], as it is for each of its methods.
unsafe fn base(vfs: *mut sqlite3_vfs) -> *mut sqlite3_vfs {
    // SAFETY: as the caller promises.
    unsafe { (*vfs).pAppData.cast() }
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    without_panic(ffi::SQLITE_CANTOPEN, || {
        // SAFETY: SQLite hands over memory for a file; without methods it does not close what was not opened.
        unsafe { (*file).pMethods = ptr::null() };
        if name.is_null() {
            // SAFETY: SQLite's arguments are handed on, with a VFS whose files are not larger than `szOsFile`. From here on
            // the file is that VFS's.
            return unsafe {
                let base = base(vfs);
                (*base).xOpen.map_or(ffi::SQLITE_CANTOPEN, |open| open(base, name, file, flags, flags_out))
            };
        }
        if flags & ffi::SQLITE_OPEN_MAIN_DB == 0 {
            return ffi::SQLITE_CANTOPEN;
        }
        // SAFETY: names end in a zero, and stay as long as the call.
        let name = unsafe { CStr::from_ptr(name) };
        let Some(database) = name.to_str().ok().and_then(Named::find) else { return ffi::SQLITE_CANTOPEN };
        // SAFETY: the memory has `szOsFile` bytes, is aligned for pointers, and nothing was opened in it.
        unsafe { OpenFile::place(file, database) };
        if !flags_out.is_null() {
            let opened = (flags & !ffi::SQLITE_OPEN_READWRITE) | ffi::SQLITE_OPEN_READONLY;
            // SAFETY: a place for the answer, where there is one.
            unsafe { ptr::write(flags_out, opened) };
        }
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, _: *const c_char, _: c_int) -> c_int {
    ffi::SQLITE_READONLY
}

/// There are no journals or logs beside a database.
unsafe extern "C" fn access(_: *mut sqlite3_vfs, _: *const c_char, _: c_int, answer: *mut c_int) -> c_int {
    // SAFETY: SQLite hands over a place for the answer.
    unsafe { ptr::write(answer, 0) };
    ffi::SQLITE_OK
}

/// A name is what it is.
unsafe extern "C" fn full_pathname(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    length: c_int,
    full: *mut c_char,
) -> c_int {
    // SAFETY: names end in a zero, and stay as long as the call.
    let bytes = unsafe { CStr::from_ptr(name) }.to_bytes_with_nul();
    if usize::try_from(length).is_ok_and(|length| bytes.len() <= length) {
        // SAFETY: there is room for `length` bytes, in memory of SQLite's own that the name is not in.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr().cast(), full, bytes.len()) };
        ffi::SQLITE_OK
    } else {
        ffi::SQLITE_CANTOPEN
    }
}

/// Extensions are not loaded through it.
unsafe extern "C" fn dl_open(_: *mut sqlite3_vfs, _: *const c_char) -> *mut c_void {
    ptr::null_mut()
}

unsafe extern "C" fn dl_error(_: *mut sqlite3_vfs, length: c_int, message: *mut c_char) {
    if length > 0 {
        // SAFETY: there is room for `length` bytes; this ends the text before it begins.
        unsafe { ptr::write(message, 0) };
    }
}

unsafe extern "C" fn dl_sym(
    _: *mut sqlite3_vfs,
    _: *mut c_void,
    _: *const c_char,
) -> Option<unsafe extern "C" fn(*mut sqlite3_vfs, *mut c_void, *const c_char)> {
    None
}

unsafe extern "C" fn dl_close(_: *mut sqlite3_vfs, _: *mut c_void) {}

unsafe extern "C" fn randomness(vfs: *mut sqlite3_vfs, length: c_int, bytes: *mut c_char) -> c_int {
    // SAFETY: SQLite's arguments are handed on to the system's own VFS.
    unsafe {
        let base = base(vfs);
        (*base).xRandomness.map_or(0, |randomness| randomness(base, length, bytes))
    }
}

unsafe extern "C" fn sleep(vfs: *mut sqlite3_vfs, microseconds: c_int) -> c_int {
    // SAFETY: SQLite's arguments are handed on to the system's own VFS.
    unsafe {
        let base = base(vfs);
        (*base).xSleep.map_or(0, |sleep| sleep(base, microseconds))
    }
}

unsafe extern "C" fn current_time(vfs: *mut sqlite3_vfs, time: *mut f64) -> c_int {
    // SAFETY: SQLite's arguments are handed on to the system's own VFS.
    unsafe {
        let base = base(vfs);
        (*base).xCurrentTime.map_or(ffi::SQLITE_ERROR, |current_time| current_time(base, time))
    }
}

unsafe extern "C" fn current_time_millis(vfs: *mut sqlite3_vfs, time: *mut sqlite3_int64) -> c_int {
    // SAFETY: SQLite's arguments are handed on to the system's own VFS, which has this method from its second version on.
    unsafe {
        let base = base(vfs);
        let current_time = if (*base).iVersion >= 2 { (*base).xCurrentTimeInt64 } else { None };
        current_time.map_or(ffi::SQLITE_ERROR, |current_time| current_time(base, time))
    }
}

/// Its own methods leave no error of the system.
unsafe extern "C" fn last_error(_: *mut sqlite3_vfs, _: c_int, _: *mut c_char) -> c_int {
    0
}
