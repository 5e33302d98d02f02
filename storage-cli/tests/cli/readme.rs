//! The examples of the README, run as they stand there.

use crate::program::Place;

#[test]
fn the_examples_of_the_readme_say_the_truth() {
    let readme = include_str!("../../README.md");
    let blocks: Vec<&str> =
        readme.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() > 1, "the README has examples");
    for block in blocks {
        let place = Place::new();
        for example in block.split("$ ").skip(1) {
            let (command, expected) = example.split_once('\n').unwrap();
            let merged = format!("{{ {command}; }} 2>&1");
            let output = place.command("sh").args(["-c", &merged]).output().unwrap();
            let shown = String::from_utf8(output.stdout).unwrap();
            assert_eq!(shown.trim_end(), expected.trim_end(), "{command}");
        }
    }
}
