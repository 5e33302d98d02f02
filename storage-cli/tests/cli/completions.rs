//! Completion scripts.

use crate::program::Place;

#[test]
fn every_shell_gets_a_script_that_knows_the_commands() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.done(&["completions", shell]);
        assert!(script.contains("increment") && script.contains("redis-namespace"), "{shell}");
        let json = place.run(&["completions", shell, "--json"]).json();
        assert_eq!((json["shell"].as_str(), json["script"].is_string()), (Some(shell), true));
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "no store was opened");
}

#[test]
fn the_script_for_bash_is_one_that_bash_reads() {
    let place = Place::new();
    let script = place.file("script", place.done(&["completions", "bash"]));
    let read = place.command("bash").arg("-n").arg(script).status().unwrap();
    assert!(read.success());
}

#[test]
fn a_broken_dot_env_does_not_matter_to_completions() {
    let place = Place::new();
    place.file(".env", "this is no assignment\n");
    place.done(&["completions", "bash"]);
    assert_eq!(place.run(&["keys"]).code, 2);
}
