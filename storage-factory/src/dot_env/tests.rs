//! What python-dotenv 1.2 makes of the same lines; where it is another here, that is said.

use super::*;

/// Nothing but `B`, which the environment has.
fn variable(name: &str) -> Option<String> {
    (name == "B").then(|| "b".to_owned())
}

#[test]
fn lines_by_table() {
    for (line, expected) in [
        ("A=1", "1"),
        ("export A=1", "1"),
        ("export  A=1\r\n", "1"),
        (" A = 1 ", "1"),
        ("A=\t1\t", "1"),
        ("A=", ""),
        ("A=\"\"", ""),
        ("A=''", ""),
        ("'A'=1", "1"),
        ("A=a=b", "a=b"),
        ("A==x", "=x"),
        ("A= =x", "=x"),
        ("A=x y z  ", "x y z"),
        ("A=é", "é"),
        ("A=`x`", "`x`"),
        ("A=pa$word", "pa$word"),
        ("A=pa$$word", "pa$$word"),
        ("A=x # c", "x"),
        ("A=x#c", "x#c"),
        ("A=#c", "#c"),
        ("A= # c", ""),
        ("A =\t#c", ""),
        ("A=a b#c # d", "a b#c"),
        ("A=x \\# y", "x \\# y"),
        ("A= \"x y\" # c", "x y"),
        ("A='x' # c", "x"),
        ("A='x $B ${B}'", "x $B b"),
        ("A=\"$B ${B}\"", "$B b"),
        ("A=${B}", "b"),
        ("A=${B:-d}", "b"),
        ("A=${C:-d}", "d"),
        ("A=${C:-a}b}", "ab}"),
        ("A=${B:-}", "b"),
        ("A=${C}", ""),
        ("A=${}", ""),
        ("A=${B", "${B"),
        ("A=${B:d}", "${B:d}"),
        ("A=${B}${B:-x}x", "bbx"),
        ("A=\\${B}", "\\b"),
        ("A=a\\nb", "a\\nb"),
        ("A=\"a\\nb\\tc\\\"d\"", "a\nb\tc\"d"),
        ("A=\"a\\\\b\\u0041\\x\"", "a\\b\\u0041\\x"),
        ("A='a\\nb\\'c'", "a\\nb'c"),
        ("A=\"multi\nline\"", "multi\nline"),
        ("A='multi\r\nline'", "multi\r\nline"),
        ("A=1\nA=2", "2"),
        // python-dotenv takes the mark for a part of the name.
        ("\u{feff}A=1", "1"),
    ] {
        let file = DotEnv::parse(line, &variable);
        assert_eq!(file.get("A").as_deref(), Some(expected), "{line:?}");
        assert_eq!(file.wrong, [0; 0], "{line:?}");
    }
}

#[test]
fn names_by_table() {
    for name in ["A-B", "A.B", "1A", "export"] {
        assert_eq!(DotEnv::parse(&format!("{name}=1"), &variable).get(name).as_deref(), Some("1"), "{name}");
    }
}

#[test]
fn wrong_lines_are_named_and_passed_over() {
    for line in ["=x", "A B=1", "A: 1", "A=\"open", "A=\"x\" y", "A='it''s'", "TOKEN hunter2 'x"] {
        let file = DotEnv::parse(&format!("X=1\n\n{line}\r\nY=2"), &variable);
        assert_eq!(file.wrong, [3], "{line:?}");
        let names: Vec<_> = file.values.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["X", "Y"], "{line:?}");
    }
    // python-dotenv passes over a name alone without a word.
    assert_eq!(DotEnv::parse("A\nexport A\n{\"a\":1}", &variable).wrong, [1, 2, 3]);
}

#[test]
fn comments_and_empty_lines_are_nothing() {
    for text in ["", "\n", "# only", "  # A=1\n\r\n\t\n#", "\u{feff}", "\u{feff}# x\n"] {
        assert_eq!(DotEnv::parse(text, &variable), DotEnv::default(), "{text:?}");
    }
}

#[test]
fn a_reference_is_to_the_environment_first_and_then_to_lines_before() {
    let file = DotEnv::parse("B=file\nC=c\nA=${B}${C}${D}\nD=d", &variable);
    assert_eq!(file.get("A").as_deref(), Some("bc"));
}

#[test]
fn lines_are_counted_through_values_of_several() {
    let file = DotEnv::parse("A=\"1\n2\r\n3\"\n\nwrong one\n\n# x\nwrong two", &variable);
    assert_eq!(file.wrong, [5, 8]);
}
