//! `storage managed hold`, and what is kept where the rest of the home is damaged.

use std::fs;

use serde_json::json;

use crate::{
    managed::{done, json_of, newest, run},
    program::Place,
};

#[test]
fn a_generation_that_is_kept_is_listed_restored_and_removed() {
    let place = Place::new();
    done(&place, &["set", "deal:1", "1"]);
    let kept = json_of(&place, &["managed", "hold", "add", "before"]);
    done(&place, &["set", "deal:2", "2"]);
    let listed = json_of(&place, &["managed", "hold", "list"]);
    assert_eq!(listed["holds"][0]["name"], json!("before"));
    assert_eq!(listed["holds"][0]["commit"], kept["commit"]);
    assert!(done(&place, &["managed", "hold", "list"]).starts_with("NAME    GENERATION  KEPT"));
    done(&place, &["managed", "restore", "--hold", "before", "--to", "before.db"]);
    assert_eq!(place.done(&["--database-url", "sqlite:///before.db", "keys"]), "deal:1\n");
    for (command, code, said) in [
        (&["managed", "hold", "add", "before"][..], 2, "keeps generation"),
        (&["managed", "hold", "add", "a/b"], 2, "cannot be the name of a hold"),
        (&["managed", "hold", "remove", "other"], 1, "storage managed hold list"),
        (&["managed", "restore", "--hold", "other", "--to", "other.db"], 1, "storage managed hold list"),
        (
            &["managed", "restore", "--hold", "before", "--at", "1h", "--to", "other.db"],
            2,
            "cannot be used with",
        ),
    ] {
        let refused = run(&place, command);
        assert_eq!(refused.code, code, "{command:?}: {}", refused.err);
        assert!(refused.err.contains(said), "{command:?}: {}", refused.err);
    }
    assert!(
        done(&place, &["managed", "hold", "remove", "before"]).starts_with("removed before: generation ")
    );
    assert_eq!(json_of(&place, &["managed", "hold", "list"])["holds"], json!([]));
}

/// A home with an entry, which is kept, and another.
fn kept() -> Place {
    let place = Place::new();
    done(&place, &["set", "deal:1", "1"]);
    done(&place, &["managed", "hold", "add", "before"]);
    done(&place, &["set", "deal:2", "2"]);
    place
}

#[test]
fn what_is_kept_is_listed_and_restored_where_the_head_is_damaged_or_gone() {
    let place = kept();
    for damaged in [Some("{}"), None] {
        let head = place.path().join("home/head");
        match damaged {
            Some(text) => fs::write(&head, text).unwrap(),
            None => fs::remove_file(&head).unwrap(),
        }
        assert_eq!(json_of(&place, &["managed", "hold", "list"])["holds"][0]["name"], json!("before"));
        done(&place, &["managed", "restore", "--hold", "before", "--to", "before.db"]);
        assert_eq!(place.done(&["--database-url", "sqlite:///before.db", "keys"]), "deal:1\n");
        fs::remove_file(place.path().join("before.db")).unwrap();
        let repair = run(&place, &["managed", "repair"]);
        assert!(repair.out.contains("\nkept: before: generation "), "{}", repair.out);
    }
    let found = run(&place, &["managed", "repair", "--json"]);
    assert_eq!(found.json()["holds"][0]["name"], json!("before"), "{}", found.out);
    for kind in ["home/base", "home/seg", "user"] {
        let _ = fs::remove_dir_all(place.path().join(kind));
    }
    let nothing = run(&place, &["managed", "repair"]);
    assert_eq!(nothing.code, 1, "{}", nothing.err);
    for said in ["kept: before: generation ", "storage managed restore --hold"] {
        assert!(nothing.err.contains(said), "{}", nothing.err);
    }
}

#[test]
fn a_home_that_is_not_there_keeps_nothing_and_is_not_made() {
    let place = Place::new();
    for command in
        [&["managed", "hold", "list"][..], &["managed", "restore", "--hold", "before", "--to", "before.db"]]
    {
        let nothing = run(&place, command);
        assert_ne!(nothing.code, 0, "{}", nothing.out);
        assert!(!place.path().join("home").exists() && !place.path().join("before.db").exists());
    }
    assert!(run(&place, &["managed", "hold", "list"]).err.contains("there is no store in the home"));
}

#[test]
fn verify_says_that_holds_were_not_read_and_reads_them_when_told_to() {
    let place = kept();
    let plain = done(&place, &["managed", "verify"]);
    assert!(plain.ends_with("; 1 hold not read, which --holds does\n"), "{plain}");
    let listed = json_of(&place, &["managed", "verify"]);
    assert_eq!((&listed["holds"][0]["name"], &listed["holds_verified"]), (&json!("before"), &json!(false)));
    assert!(done(&place, &["managed", "verify", "--holds"]).ends_with("; and 1 hold\n"));
    let object = newest(&place.path().join("home/hold"));
    let mut content = fs::read(&object).unwrap();
    content[5_000] ^= 1;
    fs::write(&object, content).unwrap();
    done(&place, &["managed", "verify"]);
    let damaged = run(&place, &["managed", "verify", "--holds"]);
    assert_eq!((damaged.code, damaged.out.as_str()), (3, ""), "{}", damaged.err);
    for said in
        ["1 of 1 hold cannot be read", "hold `before` of generation ", "its pages are not what was kept"]
    {
        assert!(damaged.err.contains(said), "{}", damaged.err);
    }
}

#[test]
fn a_hold_of_a_key_that_is_gone_names_the_key() {
    let place = Place::new();
    let made = run(&place, &["managed", "genkey", "--id", "2026a"]);
    if made.code != 0 {
        // A build without encryption makes no key, and says so.
        assert!(made.err.contains("--features managed-encryption"), "{}", made.err);
        return;
    }
    let old = made.out;
    let (old, new) = (old.trim(), run(&place, &["managed", "genkey", "--id", "2026b"]).out);
    let with = |ring: &str, args: &[&str]| {
        place.run_in(
            &[
                ("STORAGE_MANAGED_KEYS", ring),
                ("DATABASE_URL", crate::managed::HOME),
                ("XDG_CACHE_HOME", "user"),
            ],
            args,
        )
    };
    assert_eq!(with(old, &["set", "deal:1", "1"]).code, 0);
    assert_eq!(with(old, &["managed", "hold", "add", "before"]).code, 0);
    let both = format!("{},{old}", new.trim());
    assert_eq!(with(&both, &["set", "deal:2", "2"]).code, 0);
    assert_eq!(with(&both, &["managed", "fold"]).code, 0);
    let verified = with(&both, &["managed", "verify", "--holds"]);
    assert_eq!(verified.code, 0, "{}", verified.err);
    let missing = with(new.trim(), &["managed", "verify", "--holds"]);
    assert_eq!(missing.code, 3, "{}", missing.err);
    assert!(missing.err.contains("hold `before`") && missing.err.contains("`2026a`"), "{}", missing.err);
}
