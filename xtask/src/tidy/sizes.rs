//! Budgets of size.

use super::member::Violation;
use super::source::Source;

const FILE_LINES: usize = 500;
const FILE_LINES_AIM: usize = 300;
const FUNCTION_LINES: usize = 60;
const SHORT_FUNCTION_LINES: usize = 30;
const SHORT_FUNCTIONS_PERCENT: usize = 90;
const TEST_MODULE_LINES: usize = 100;

/// What in `source` is too long.
pub(super) fn check(source: &Source) -> Vec<Violation> {
    let violation = |line, what| Violation { file: source.path.clone(), line, what };
    let functions = source.functions.iter().filter(|function| function.length > FUNCTION_LINES);
    let mut violations: Vec<Violation> = functions
        .map(|function| {
            let (name, length) = (&function.name, function.length);
            violation(function.line, format!("`{name}` has {length} lines; split it below {FUNCTION_LINES}"))
        })
        .collect();
    if source.is_test {
        return violations;
    }
    let lines = source.code_without_tests();
    if lines > FILE_LINES {
        violations.push(violation(1, format!("{lines} lines of code; split the file below {FILE_LINES}")));
    }
    for module in &source.test_modules {
        let lines = source.code_within(module);
        if lines > TEST_MODULE_LINES {
            let what = format!("{lines} lines of tests; move them into a `tests.rs` beside the code");
            violations.push(violation(*module.start(), what));
        }
    }
    violations
}

/// A file that grows towards its budget.
pub(super) fn warn(source: &Source) -> Option<String> {
    let lines = source.code_without_tests();
    let grows = !source.is_test && (FILE_LINES_AIM + 1..=FILE_LINES).contains(&lines);
    grows.then(|| format!("{} has {lines} lines of code; aim under {FILE_LINES_AIM}", source.path.display()))
}

/// Most functions must be short; the longest of the others are told.
pub(super) fn check_share(sources: &[&Source]) -> Vec<Violation> {
    if share_of_short(sources) >= SHORT_FUNCTIONS_PERCENT {
        return Vec::new();
    }
    let mut long: Vec<_> = sources
        .iter()
        .flat_map(|source| source.productive_functions().map(|function| (function, &source.path)))
        .filter(|(function, _)| function.length >= SHORT_FUNCTION_LINES)
        .collect();
    long.sort_by_key(|(function, _)| std::cmp::Reverse(function.length));
    long.iter()
        .map(|(function, file)| Violation {
            file: file.to_path_buf(),
            line: function.line,
            what: format!(
                "`{}` has {} lines, and fewer than {SHORT_FUNCTIONS_PERCENT} % of all functions are under \
                 {SHORT_FUNCTION_LINES}; split some",
                function.name, function.length
            ),
        })
        .collect()
}

/// The sizes in one line.
pub(super) fn summary(sources: &[&Source]) -> String {
    let lines: usize =
        sources.iter().filter(|source| !source.is_test).map(|source| source.code_without_tests()).sum();
    let functions: usize = sources.iter().map(|source| source.productive_functions().count()).sum();
    format!(
        "{} files, {lines} lines of code and {functions} functions without tests, {} % of them under \
         {SHORT_FUNCTION_LINES} lines",
        sources.len(),
        share_of_short(sources)
    )
}

/// The share of short functions among those that are no tests, in percent, rounded down.
fn share_of_short(sources: &[&Source]) -> usize {
    let (mut short, mut all) = (0, 0);
    for function in sources.iter().flat_map(|source| source.productive_functions()) {
        all += 1;
        short += usize::from(function.length < SHORT_FUNCTION_LINES);
    }
    (short * 100).checked_div(all).unwrap_or(100)
}
