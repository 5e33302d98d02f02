//! Stores are made by intent: by writing and by `init`, and by nothing that only reads.

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Command,
};

use serde_json::json;

use crate::program::{Done, PROGRAM, Place};

/// What needs a store that is there.
const READING: [&[&str]; 21] = [
    &["get", "k"],
    &["exists", "k"],
    &["keys"],
    &["ttl", "k"],
    &["export"],
    &["stats"],
    &["history", "s"],
    &["sessions", "list"],
    &["sessions", "show", "s"],
    &["sessions", "end", "s"],
    &["threads", "list"],
    &["threads", "show", "t"],
    &["threads", "prune", "t", "--keep", "1"],
    &["memory", "get", "a", "k"],
    &["memory", "search"],
    &["memory", "namespaces"],
    &["memory", "delete", "a", "k"],
    &["memory", "cleanup"],
    &["delete", "k"],
    &["cleanup"],
    &["managed", "status"],
];

fn is_empty(place: &Place) -> bool {
    std::fs::read_dir(place.path()).unwrap().count() == 0
}

#[test]
fn a_command_that_reads_makes_no_store_and_says_so() {
    for (url, says) in [
        ("sqlite:///a/agent.db", "there is no store: no file `"),
        ("sqlite+file:///./home", "there is no store in the home `folder ./home`"),
    ] {
        let place = Place::new();
        for command in READING {
            if command[0] == "managed" && !url.starts_with("sqlite+") {
                continue;
            }
            let done = place.run_in(&[("DATABASE_URL", url), ("XDG_CACHE_HOME", "/nowhere")], command);
            assert_eq!((done.code, done.out.as_str()), (2, ""), "{url} {command:?}: {}", done.err);
            assert!(done.err.contains(says), "{command:?}: {}", done.err);
            assert!(done.err.contains("\nhint: `storage init` makes one"), "{command:?}: {}", done.err);
            assert!(is_empty(&place), "{command:?}");
        }
    }
}

#[test]
fn what_writes_makes_it() {
    for command in [&["set", "k", "1"][..], &["increment", "k"], &["import"], &["init"]] {
        let place = Place::new();
        place.done(command);
        place.done(&["keys"]);
        assert!(place.path().join("ad_buyer.db").exists(), "{command:?}");
    }
}

#[test]
fn init_says_what_it_made_and_that_it_was_there() {
    let place = Place::new();
    assert_eq!(place.done(&["init"]), "made: sqlite, sqlite:///./ad_buyer.db\n");
    assert_eq!(place.done(&["init"]), "it is there already: sqlite, sqlite:///./ad_buyer.db\n");
    let init = |url: &str| place.run(&["init", "--json", "--database-url", url]).json();
    assert_eq!(init("other.db"), json!({"backend": "sqlite", "made": true}));
    assert_eq!(init("other.db"), json!({"backend": "sqlite", "made": false}));
    let home =
        [("XDG_CACHE_HOME", place.path().to_str().unwrap()), ("DATABASE_URL", "sqlite+file:///./home")];
    assert_eq!(place.run_in(&home, &["init"]).out, "made: sqlite, sqlite+file:///./home\n");
    assert_eq!(place.run_in(&home, &["init"]).out, "it is there already: sqlite, sqlite+file:///./home\n");
    assert_eq!(place.run_in(&home, &["keys"]).code, 0);
    let wrong = place.run(&["init", "--database-url", "postgresql//u:hunter2@h/d"]);
    assert!(wrong.code == 2 && !wrong.err.contains("hunter2"), "{}", wrong.err);
}

/// Runs a copy of the program as somebody who may read what is here, and not write.
fn run_without_rights(place: &Place, args: &[&str]) -> Done {
    let bin = tempfile::tempdir().unwrap();
    let program = bin.path().join("storage");
    // By a process of its own: while this one has it open to write, another test may start one that inherits that.
    assert!(Command::new("cp").args([Path::new(PROGRAM), &program]).status().unwrap().success());
    for (path, mode) in [(bin.path(), 0o755), (place.path(), 0o555)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut command = place.command(program.to_str().unwrap());
    if nix::unistd::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    let done = Done::new(args, &command.args(args).output().unwrap());
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    done
}

#[test]
fn a_file_in_a_folder_that_may_not_be_written_to_is_read() {
    let place = Place::new();
    place.done(&["set", "deal:1", "1"]);
    let file = place.path().join("ad_buyer.db");
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o444)).unwrap();
    for (command, out) in [
        (&["get", "deal:1"][..], "1\n"),
        (&["keys"], "deal:1\n"),
        (&["export", "*"], "{\"key\":\"deal:1\",\"value\":1,\"expires_at\":null}\n"),
    ] {
        let done = run_without_rights(&place, command);
        assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (0, out, ""), "{command:?}");
    }
    let health = run_without_rights(&place, &["health"]);
    assert_eq!(health.code, 1);
    assert!(health.out.starts_with("degraded\n") && health.out.contains("not written to"), "{}", health.out);
    let written = run_without_rights(&place, &["set", "deal:2", "1"]);
    assert_eq!(written.code, 3);
    assert!(written.err.contains("can be read and not written to"), "{}", written.err);
}
