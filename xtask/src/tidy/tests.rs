use std::path::{Path, PathBuf};

use super::member::{Member, Violation};
use super::source::{Source, is_test_file};
use super::{layout, places, sizes};

fn source(text: &str) -> Source {
    Source::parse("a/src/lib.rs".into(), false, text).unwrap()
}

fn member(name: &str, path: &str, text: &str) -> Member {
    let sources = vec![Source::parse(path.into(), false, text).unwrap()];
    Member { name: name.into(), folder: name.into(), sources }
}

fn function_of(lines: usize) -> String {
    format!("fn long() {{\n{}}}\n", "    step();\n".repeat(lines))
}

fn whats(violations: &[Violation]) -> Vec<(usize, &str)> {
    violations.iter().map(|violation| (violation.line, violation.what.as_str())).collect()
}

#[test]
fn comments_documentation_and_blank_lines_are_no_code() {
    let text = r#"//! Documentation of the file.

/// Documentation.
///
/// ```
/// an example
/// ```
#[derive(Debug)] // an attribute counts
struct A; /* a comment
   that goes on */

/* // */
/** also documentation */
const URL: &str = "// no comment
    but a text";
"#;
    assert_eq!(source(text).code_without_tests(), 4);
}

#[test]
fn test_modules_are_counted_apart() {
    let source = source("fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n#[cfg(unix)]\nmod c {}\n");
    assert_eq!(source.test_modules, [3..=6]);
    assert_eq!(source.code_within(&(3..=6)), 4);
    assert_eq!(source.code_without_tests(), 3);
    let names: Vec<&str> = source.productive_functions().map(|function| function.name.as_str()).collect();
    assert_eq!(names, ["a"]);
}

#[test]
fn a_function_is_as_long_as_the_code_in_its_body() {
    let text = r#"
fn one_line() { step() }

impl A {
    pub async fn method(
        &self,
    ) -> u8 {
        // why

        let closure = || {
            1
        };
        closure()
    }
}

trait B {
    fn required(&self);
    fn provided(&self) {
        self.required();
    }
}
"#;
    let found = source(text).functions;
    let found: Vec<_> =
        found.iter().map(|function| (function.name.as_str(), function.line, function.length)).collect();
    assert_eq!(found, [("one_line", 2, 0), ("method", 5, 4), ("provided", 19, 1)]);
}

#[test]
fn a_long_function_is_told_with_its_line() {
    assert!(sizes::check(&source(&function_of(60))).is_empty());
    let violations = sizes::check(&source(&format!("\n{}", function_of(61))));
    assert_eq!(whats(&violations), [(2, "`long` has 61 lines; split it below 60")]);
    assert!(violations[0].to_string().starts_with("a/src/lib.rs:2: "));
}

#[test]
fn a_long_file_is_told_and_a_growing_one_noted() {
    assert_eq!(sizes::warn(&source(&"struct A;\n".repeat(300))), None);
    let growing = source(&"struct A;\n".repeat(301));
    assert!(sizes::warn(&growing).unwrap().contains("301 lines"));
    assert!(sizes::check(&growing).is_empty());
    assert_eq!(sizes::check(&source(&"struct A;\n".repeat(501))).len(), 1);
}

#[test]
fn long_inline_tests_are_told() {
    let module = |lines: usize| format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "struct A;\n".repeat(lines));
    assert!(sizes::check(&source(&module(97))).is_empty());
    assert_eq!(sizes::check(&source(&module(98)))[0].line, 1);
}

#[test]
fn nine_in_ten_functions_must_be_short() {
    let short = "fn short() {}\n".repeat(9);
    let enough = source(&format!("{short}{}", function_of(30)));
    assert!(sizes::check_share(&[&enough]).is_empty());
    let too_few = source(&format!("{short}{}{}", function_of(30), function_of(31)));
    let violations = sizes::check_share(&[&too_few]);
    assert_eq!(violations.len(), 2);
    assert!(violations[0].what.contains("`long` has 31 lines"));
}

#[test]
fn tests_are_known_by_place_or_name() {
    for test in ["tests/kill.rs", "src/key/tests.rs", "src/tests/ttl.rs", "benches/a.rs", "src/key_tests.rs"]
    {
        assert!(is_test_file(Path::new(test)), "{test}");
    }
    assert!(!is_test_file(Path::new("src/contests.rs")));
}

#[test]
fn feature_gates_belong_to_the_factory_and_to_the_homes() {
    let text = "#[cfg(test)]\nmod a {}\n#[cfg(any(unix, feature = \"redis\"))]\nmod b {}\n\
                fn c() -> bool {\n    cfg!(feature = \"redis\")\n}\n";
    let violations = places::check(&member("storage-core", "storage-core/src/lib.rs", text));
    assert_eq!(violations.iter().map(|violation| violation.line).collect::<Vec<_>>(), [3, 6]);
    for gated in ["storage-factory", "storage-managed"] {
        assert!(places::check(&member(gated, &format!("{gated}/src/lib.rs"), text)).is_empty());
    }
}

#[test]
fn the_environment_is_read_in_one_file() {
    let text = "use std::env::{self, var_os};\nfn a() {\n    std::env::var(\"A\");\n    env::args();\n    env!(\"B\");\n}\n";
    let violations = places::check(&member("storage-factory", "storage-factory/src/lib.rs", text));
    assert_eq!(violations.iter().map(|violation| violation.line).collect::<Vec<_>>(), [1, 3]);
    assert!(places::check(&member("storage-factory", "storage-factory/src/environment.rs", text)).is_empty());
    assert!(places::check(&member("xtask", "xtask/src/main.rs", text)).is_empty());
}

#[test]
fn a_crate_without_its_files_is_told() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("storage-redis");
    std::fs::create_dir_all(folder.join("src/backend")).unwrap();
    for file in ["README.md", "src/config.rs", "src/backend/mod.rs"] {
        std::fs::write(folder.join(file), "").unwrap();
    }
    let violations = layout::check(root.path(), &member("storage-redis", "storage-redis/src/lib.rs", ""));
    let files: Vec<&PathBuf> = violations.iter().map(|violation| &violation.file).collect();
    assert_eq!(files, [Path::new("storage-redis/src/error.rs")]);
}
