//! The documents say what the code does.

use std::path::Path;

use storage_factory::SETTINGS;

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)).unwrap()
}

#[test]
fn the_readme_shows_the_custom_backend_that_passes_the_basic_level() {
    let source = file("storage-conformance/tests/custom_backend.rs");
    let (_, shown) = source.split_once("// --- README: begin\n").unwrap();
    let (shown, _) = shown.split_once("// --- README: end").unwrap();
    assert!(
        file("README.md").contains(shown),
        "copy the part between the marks of custom_backend.rs into the README"
    );
}

#[test]
fn the_readme_and_the_env_example_list_every_setting() {
    let (readme, example) = (file("README.md"), file(".env.example"));
    for setting in SETTINGS {
        assert!(readme.contains(&format!("| `{}` |", setting.name)), "{} in the README", setting.name);
        assert!(example.contains(&format!("\n# {}=", setting.name)), "{} in .env.example", setting.name);
    }
}
