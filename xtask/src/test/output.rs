//! What a test binary says of its tests, read while it says it.

const SECTION: &str = "failures:";
const OVERDUE: &str = " has been running for over ";

/// Tests that ended, and that should have.
#[derive(Debug, Default)]
pub(super) struct Tests {
    /// How many the binary announced.
    pub(super) announced: usize,
    /// How many ended.
    pub(super) ended: usize,
    /// Whose failure was told, each once.
    pub(super) failed: Vec<String>,
    /// Who was called slow and has not ended.
    slow: Vec<String>,
    /// Whose doctests these are.
    documented: Option<String>,
    /// Names in a list of failures, which may turn out to be something that a test printed.
    listed: Option<Vec<String>>,
    /// A line that has no end yet.
    unfinished: String,
}

impl Tests {
    /// Takes in what was printed since the last time.
    pub(super) fn read(&mut self, printed: &str) {
        self.unfinished.push_str(printed);
        let text = std::mem::take(&mut self.unfinished);
        let mut rest = text.as_str();
        while let Some((line, after)) = rest.split_once('\n') {
            self.line(line);
            rest = after;
        }
        self.unfinished = rest.to_owned();
    }

    /// Who runs still: the tests that were called slow, the one that was begun last, the package of the doctests.
    pub(super) fn running(&self) -> Vec<String> {
        let begun = self.unfinished.strip_prefix("test ").and_then(|test| test.split_once(" ... "));
        let begun = begun.map(|(name, _)| name.to_owned());
        let documented = self.documented.as_ref().map(|package| format!("doctests of {package}"));
        self.slow.iter().cloned().chain(begun).chain(documented).collect()
    }

    fn line(&mut self, line: &str) {
        if let Some(package) = line.trim_start().strip_prefix("Doc-tests ") {
            self.documented = Some(package.to_owned());
        } else if let Some(count) = line.strip_prefix("running ").and_then(|line| line.split_once(" test")) {
            self.announced += count.0.parse().unwrap_or(0);
        } else if line.starts_with("test result: ") {
            for name in self.listed.take().unwrap_or_default() {
                self.fails(&name);
            }
        } else if let Some(test) = line.strip_prefix("test ") {
            self.test(test);
        } else if line == SECTION {
            self.listed = Some(Vec::new());
        } else if let (Some(listed), Some(name)) = (&mut self.listed, line.strip_prefix("    ")) {
            listed.push(name.to_owned());
        }
    }

    fn test(&mut self, test: &str) {
        if let Some((name, _)) = test.split_once(OVERDUE) {
            self.slow.push(name.to_owned());
            return;
        }
        let Some((name, result)) = test.rsplit_once(" ... ") else { return };
        let name = name.trim_end_matches(" - should panic");
        self.slow.retain(|slow| slow != name);
        self.ended += 1;
        if result == "FAILED" {
            self.fails(name);
        }
    }

    fn fails(&mut self, name: &str) {
        let name = name.trim_end_matches(" - should panic");
        if !self.failed.iter().any(|failed| failed == name) {
            self.failed.push(name.to_owned());
        }
    }
}

/// The last `most` lines of what a test printed, from all that its binary did. Backtraces aside: they would push out what
/// the test said.
pub(super) fn of_test<'a>(output: &'a str, name: &str, most: usize) -> Option<Vec<&'a str>> {
    let (_, printed) = output.split_once(&format!("\n---- {name} stdout ----\n"))?;
    let ends = ["\n---- ", "\nfailures:\n", "\ntest result: "];
    let end = ends.iter().filter_map(|end| printed.find(end)).min().unwrap_or(printed.len());
    let mut in_backtrace = false;
    let said = printed.get(..end)?.lines().filter(|line| {
        // Frames are indented, as is nothing that ends a backtrace.
        in_backtrace = line.starts_with("stack backtrace:") || (in_backtrace && line.starts_with(' '));
        !in_backtrace
    });
    Some(last_of(said, most))
}

/// The last `most` lines that are not empty.
pub(super) fn last_lines(text: &str, most: usize) -> Vec<&str> {
    last_of(text.lines(), most)
}

fn last_of<'a>(lines: impl Iterator<Item = &'a str>, most: usize) -> Vec<&'a str> {
    let lines: Vec<&str> = lines.filter(|line| !line.trim().is_empty()).collect();
    lines.get(lines.len().saturating_sub(most)..).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::{Tests, of_test};

    const FAILED: &str = "
running 3 tests
test a::passes ... ok
test b - should panic ... FAILED
test c ... ignored, no reason

failures:

---- b stdout ----
    indented
first
second

failures:
    b
    told::late

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    fn read(text: &str) -> Tests {
        let mut tests = Tests::default();
        // In pieces that end anywhere.
        text.chars().for_each(|piece| tests.read(&piece.to_string()));
        tests
    }

    #[test]
    fn failures_are_named_once_from_lines_and_lists() {
        let tests = read(FAILED);
        assert_eq!((tests.announced, tests.ended), (3, 3));
        assert_eq!(tests.failed, ["b", "told::late"]);
        assert!(tests.running().is_empty());
        assert_eq!(of_test(FAILED, "b", 2).unwrap(), ["first", "second"]);
        assert_eq!(of_test(FAILED, "c", 2), None);
    }

    #[test]
    fn a_backtrace_does_not_push_out_what_a_test_said() {
        let output = "\n---- a stdout ----\n\nthread 'a' panicked at a.rs:1:1:\nlost 3\nstack backtrace:\n   0: panic\n             \
                      at ./a.rs:1\nnote: run with more\n\nfailures:\n    a\n";
        let said = ["thread 'a' panicked at a.rs:1:1:", "lost 3", "note: run with more"];
        assert_eq!(of_test(output, "a", 3).unwrap(), said);
    }

    #[test]
    fn who_runs_still_is_known() {
        let slow =
            "test a has been running for over 60 seconds\ntest b has been running for over 60 seconds\n";
        let tests = read(&format!("running 2 tests\n{slow}test a ... ok\n"));
        assert_eq!(tests.running(), ["b"]);
        assert_eq!(read("running 1 test\ntest one_thread ... ").running(), ["one_thread"]);
        assert_eq!(read("   Doc-tests storage_core\n").running(), ["doctests of storage_core"]);
    }
}
