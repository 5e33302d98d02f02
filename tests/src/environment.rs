//! The variables through which `cargo xtask test` tells tests where the shared servers are.

use std::path::PathBuf;

/// The value of the environment variable `name`.
///
/// # Panics
///
/// When the variable is not set: a test whose server is missing fails, it never passes by returning early.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "tests learn the addresses of the shared servers here")]
#[allow(clippy::panic, reason = "a missing server must fail the test loudly")]
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `cargo xtask test`, or `cargo xtask servers` and copy its variables")
    })
}

/// How often a test kills a process: what `STORAGE_TEST_KILLS` says, or `usual` where it is not set.
///
/// # Panics
///
/// When the variable is no number.
#[must_use]
pub fn kills(usual: usize) -> usize {
    number("STORAGE_TEST_KILLS", usual)
}

/// How often a test lets another server take over: what `STORAGE_TEST_FAILOVERS` says, or `usual` where it is not set.
///
/// # Panics
///
/// When the variable is no number.
#[must_use]
pub fn failovers(usual: usize) -> usize {
    number("STORAGE_TEST_FAILOVERS", usual)
}

/// How many sessions a user has that is forgotten: what `STORAGE_TEST_FORGOTTEN_SESSIONS` says, or `usual` where it is not set.
///
/// # Panics
///
/// When the variable is no number.
#[must_use]
pub fn forgotten_sessions(usual: usize) -> usize {
    number("STORAGE_TEST_FORGOTTEN_SESSIONS", usual)
}

/// How many short processes come after a killed one: what `STORAGE_TEST_SHORT_PROCESSES` says, or `usual` where it is not set.
///
/// # Panics
///
/// When the variable is no number.
#[must_use]
pub fn short_processes(usual: usize) -> usize {
    number("STORAGE_TEST_SHORT_PROCESSES", usual)
}

/// How many random schedules run on simulated homes: what `STORAGE_TEST_SIMULATED_SCHEDULES` says, or `usual` where it is not
/// set.
///
/// # Panics
///
/// When the variable is no number.
#[must_use]
pub fn simulated_schedules(usual: usize) -> usize {
    number("STORAGE_TEST_SIMULATED_SCHEDULES", usual)
}

/// In how many ways the objects of a home are damaged: what `STORAGE_TEST_SIMULATED_DAMAGES` says, or `usual` where it is not
/// set.
///
/// # Panics
///
/// When the variable is no number.
#[must_use]
pub fn simulated_damages(usual: usize) -> usize {
    number("STORAGE_TEST_SIMULATED_DAMAGES", usual)
}

/// The seed of the one schedule that is to be repeated: what `STORAGE_TEST_SIMULATED_SEED` says.
///
/// # Panics
///
/// When the variable is no number.
#[must_use]
pub fn simulated_seed() -> Option<u64> {
    let seed = number("STORAGE_TEST_SIMULATED_SEED", usize::MAX);
    (seed != usize::MAX).then_some(seed as u64)
}

/// How many tests of a binary run at a time: what `RUST_TEST_THREADS` says, or `usual` where it is not set.
///
/// # Panics
///
/// When the variable is no number.
#[must_use]
pub fn threads(usual: usize) -> usize {
    number("RUST_TEST_THREADS", usual)
}

#[allow(clippy::disallowed_methods, reason = "tests learn here what was asked of them")]
#[allow(clippy::panic, reason = "a misspelt number must not test less than was asked for")]
fn number(name: &str, usual: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number")),
        Err(_) => usual,
    }
}

/// Tells a test that runs in a process of its own on which disk.
pub(crate) const DISK: &str = "STORAGE_TEST_DISK";

/// The way to the disk that this process is to test on, and where it is.
#[allow(clippy::disallowed_methods, reason = "a test learns here where it runs")]
pub(crate) fn disk() -> Option<(String, PathBuf)> {
    let told = std::env::var(DISK).ok()?;
    let (way, path) = told.split_once(':')?;
    Some((way.to_owned(), path.into()))
}

#[cfg(test)]
mod tests {
    use super::variable;

    #[test]
    #[should_panic(expected = "STORAGE_TEST_NO_SUCH_SERVER is not set: run `cargo xtask test`")]
    fn a_missing_variable_fails_the_test() {
        let _ = variable("STORAGE_TEST_NO_SUCH_SERVER");
    }
}
