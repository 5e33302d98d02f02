use super::super::member::{Member, Violation};
use super::super::source::{Source, is_test_file};

/// The circles of a crate: their files and what ties them.
fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let source = |(file, text): &(&str, &str)| {
        let path = format!("a/src/{file}");
        Source::parse(path.into(), is_test_file(file.as_ref()), text).unwrap()
    };
    let member = Member { name: "a".into(), folder: "a".into(), sources: files.iter().map(source).collect() };
    let ties = |violation: Violation| {
        let lines = violation.what.lines().skip(1);
        lines.map(|line| line.trim().replace("a/src/", "")).collect::<Vec<_>>().join("; ")
    };
    super::check(&member).into_iter().map(ties).collect()
}

#[test]
fn files_that_import_each_other_are_named_with_what_ties_them() {
    let files = [
        ("lib.rs", "mod one; mod two;"),
        (
            "one.rs",
            "use crate::two::{\n    self,\n    inner::{Deep, Deeper as D},\n    B,\n};\npub struct A;",
        ),
        ("two.rs", "use super::one::A; pub struct B; pub mod inner { pub struct Deep; pub struct Deeper; }"),
    ];
    assert_eq!(circles(&files), ["one.rs -> two.rs: B, Deep, Deeper; two.rs -> one.rs: A"]);
}

#[test]
fn one_way_is_no_circle() {
    let files = [
        ("main.rs", "mod one; mod two; use one::A; fn main() { two::run(A) }"),
        ("one.rs", "use std::fmt; use other::two::B; pub struct A;"),
        ("two.rs", "use crate::one::A; pub fn run(_: A) {}"),
    ];
    assert!(circles(&files).is_empty());
}

#[test]
fn longer_circles_are_one_each() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c; mod d; mod e;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use crate::c::C; pub struct B;"),
        ("c.rs", "use crate::a::A; pub struct C;"),
        ("d.rs", "use crate::{a::A, e::E}; pub struct D;"),
        ("e.rs", "use crate::{b::B, d::D}; pub struct E;"),
    ];
    let found = circles(&files);
    assert_eq!(
        found,
        ["a.rs -> b.rs: B; b.rs -> c.rs: C; c.rs -> a.rs: A", "d.rs -> e.rs: E; e.rs -> d.rs: D"]
    );
}

#[test]
fn paths_in_code_count_also_within_macros() {
    let in_code = |code: &str| {
        let one = format!("use crate::two; pub struct A; fn f() {{ {code} }}");
        let two = "use crate::one::A; pub fn b() {} pub struct B;";
        circles(&[("lib.rs", "mod one; mod two;"), ("one.rs", &one), ("two.rs", two)])
    };
    for code in ["crate::two::b()", "let x: super::two::B = y;", "two::b()", "println!(\"{}\", two::b())"] {
        assert_eq!(in_code(code).len(), 1, "{code}");
    }
    // Neither the import of a module nor one of another crate's path is a tie.
    for code in ["", "other::two::b()", "two.b()"] {
        assert_eq!(in_code(code), [""; 0], "{code}");
    }
}

#[test]
fn a_name_that_is_exported_again_is_that_of_the_file_which_defines_it() {
    let with = |module: &str| {
        circles(&[
            ("lib.rs", "mod low; mod group; pub use group::{Low, High};"),
            ("low.rs", "use crate::{High, group::Low as L, group::*};"),
            ("group/mod.rs", module),
            ("group/low.rs", "pub struct Low;"),
            ("group/high.rs", "use super::Low; use super::Own; pub struct High;"),
        ])
    };
    let exports = "mod low; mod high; pub(crate) use low::Low; pub(crate) use self::high::*;";
    assert_eq!(with(exports), [""; 0]);
    // What it defines is its own, and what it uses of what it exports is a tie.
    let uses = format!("{exports} pub(crate) use high::High; pub struct Own(High);");
    assert_eq!(with(&uses), ["group/high.rs -> group/mod.rs: Own; group/mod.rs -> group/high.rs: High"]);
    assert_eq!(with(&uses.replace("Own(High)", "Own")), [""; 0]);
}

#[test]
fn tests_tie_nothing() {
    let files = [
        ("lib.rs", "mod one; mod two; #[cfg(test)] mod samples;"),
        ("one.rs", "use crate::two::B; pub struct A;"),
        (
            "two.rs",
            "#[cfg(test)] use crate::one::A; pub struct B; #[cfg(all(test, unix))] mod tests { use crate::one::A; }
             impl B { #[cfg(test)] fn sample() -> crate::one::A { crate::one::A } }",
        ),
        ("samples.rs", "use crate::one::A; pub struct Sample;"),
        ("two/tests.rs", "use crate::one::A;"),
    ];
    assert!(circles(&files).is_empty());
    let not_only = files.map(|(file, text)| (file, text.replace("cfg(test)", "cfg(not(test))")));
    let not_only: Vec<(&str, &str)> = not_only.iter().map(|(file, text)| (*file, text.as_str())).collect();
    assert_eq!(circles(&not_only), ["one.rs -> two.rs: B; two.rs -> one.rs: A"]);
}
