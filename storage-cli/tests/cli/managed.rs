//! `storage managed`, on a database whose home is a folder.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use crate::program::{Done, Place};

pub(crate) const HOME: &str = "sqlite+file:///./home";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A program whose user has a folder of their own.
pub(crate) fn run(place: &Place, args: &[&str]) -> Done {
    let user = place.path().join("user");
    place.run_in(&[("DATABASE_URL", HOME), ("XDG_CACHE_HOME", user.to_str().unwrap())], args)
}

pub(crate) fn done(place: &Place, args: &[&str]) -> String {
    let done = run(place, args);
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{args:?}: {}", done.out);
    done.out
}

pub(crate) fn json_of(place: &Place, args: &[&str]) -> Value {
    let done = run(place, &[args, &["--json"]].concat());
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{args:?}: {}", done.out);
    done.json()
}

/// The one folder below the user's cache.
fn cache(place: &Place) -> PathBuf {
    let mut entries = std::fs::read_dir(place.path().join("user/agent-storage")).unwrap();
    entries.next().unwrap().unwrap().path()
}

#[test]
fn entries_travel_by_their_home_alone() {
    let place = Place::new();
    done(&place, &["set", "deal:1", "1"]);
    assert_eq!(std::fs::metadata(cache(&place)).unwrap().permissions().mode() & 0o777, 0o700);
    std::fs::remove_dir_all(place.path().join("user")).unwrap();
    assert_eq!(done(&place, &["get", "deal:1"]), "1\n");
}

#[test]
fn the_status_says_where_the_copy_stands() {
    let place = Place::new();
    done(&place, &["set", "deal:1", "1"]);
    let table = done(&place, &["managed", "status"]);
    assert!(table.starts_with("home         folder ./home\ngeneration   "), "{table}");
    let status = json_of(&place, &["managed", "status"]);
    assert!(status["generation"].as_u64().unwrap() >= 2, "the tables and the entry: {status}");
    assert_eq!(
        (&status["dirty"], &status["rescued"], &status["cache_in_use"]),
        (&json!(false), &json!(0), &json!(false))
    );
    let elsewhere = json_of(&place, &["managed", "status", "--cache", "elsewhere"]);
    assert_eq!(elsewhere["commit"], status["commit"]);
    assert!(place.path().join("elsewhere/database.db").exists());
}

#[test]
fn a_file_that_is_there_becomes_a_managed_database() {
    let place = Place::new();
    place.done(&["--database-url", "sqlite:///a file.db", "set", "deal:1", "1"]);
    let adopted = json_of(&place, &["managed", "adopt", "a file.db"]);
    assert_eq!((&adopted["generation"], &adopted["file"]), (&json!(1), &json!("a file.db")));
    assert!(adopted["tables"].as_object().unwrap().values().any(|rows| *rows == json!(1)), "{adopted}");
    assert_eq!(done(&place, &["get", "deal:1"]), "1\n");
    done(&place, &["set", "deal:2", "2"]);
    assert!(done(&place, &["managed", "verify"]).starts_with("sound: "));
    assert_eq!(place.done(&["--database-url", "sqlite:///a file.db", "keys"]), "deal:1\n");
    let again = run(&place, &["managed", "adopt", "a file.db"]);
    assert_eq!(again.code, 2, "{}", again.err);
    assert!(again.err.contains("has a database already, at generation 2"), "{}", again.err);
    let missing = run(&place, &["managed", "adopt", "none.db"]);
    assert_eq!((missing.code, missing.out.as_str()), (2, ""), "{}", missing.err);
    assert!(missing.err.contains("`none.db` is not there"), "{}", missing.err);
}

#[test]
fn a_damaged_home_is_shown_and_goes_on_when_it_is_told_to() {
    let place = Place::new();
    let nothing = run(&place, &["managed", "repair"]);
    assert_eq!(nothing.code, 2, "{}", nothing.err);
    assert!(nothing.err.contains("nothing was ever published"), "{}", nothing.err);
    for number in 1..=3 {
        done(&place, &["set", &format!("deal:{number}"), "1"]);
    }
    assert_eq!(done(&place, &["managed", "repair"]), "nothing to repair: the newest generation is sound\n");
    let head = place.path().join("home/head");
    let sound = std::fs::read(&head).unwrap();
    std::fs::write(&head, "{}").unwrap();
    let refused = run(&place, &["get", "deal:1"]);
    assert!(
        refused.err.contains("`head` is corrupt") && refused.err.contains("storage managed repair"),
        "{}",
        refused.err
    );
    // Nobody is asked here, so nothing is changed.
    let shown = run(&place, &["managed", "repair"]);
    assert_eq!((shown.code, shown.err.as_str()), (1, ""));
    assert!(shown.out.starts_with("damaged: `head`: "), "{}", shown.out);
    assert!(
        shown.out.contains("\nsound: generation ") && shown.out.contains("\nlost: nothing"),
        "{}",
        shown.out
    );
    assert_eq!(std::fs::read(&head).unwrap(), b"{}");
    {
        let _held = hold_lease(&place);
        let held = run(&place, &["managed", "repair", "--yes"]);
        assert_eq!(held.code, 3);
        assert!(held.err.contains("process 7 on elsewhere held the lease"), "{}", held.err);
    }
    let repaired = json_of(&place, &["managed", "repair", "--yes"]);
    assert_eq!(repaired["damaged"][0]["object"], json!("head"));
    let before = repaired["sound"]["generation"].as_u64().unwrap();
    assert_eq!(repaired["published"], json!(before + 1));
    assert!(place.path().join("home/damaged").read_dir().unwrap().count() == 1);
    assert_eq!(done(&place, &["keys"]), "deal:1\ndeal:2\ndeal:3\n");
    assert!(done(&place, &["managed", "verify"]).starts_with("sound: "));
    // A head that comes back from a backup is an earlier state, which is told.
    std::fs::write(&head, sound).unwrap();
    let back = run(&place, &["get", "deal:1"]);
    assert!(back.err.contains("went back from generation"), "{}", back.err);
}

/// Takes the lease of the home as another process does that names itself.
fn hold_lease(place: &Place) -> nix::fcntl::Flock<std::fs::File> {
    let path = place.path().join("home/.lease");
    std::fs::write(&path, "process 7 on elsewhere").unwrap();
    nix::fcntl::Flock::lock(std::fs::File::open(path).unwrap(), nix::fcntl::FlockArg::LockExclusive).unwrap()
}

#[test]
fn a_lease_is_shown_and_taken_away_from_who_is_gone() {
    let place = Place::new();
    done(&place, &["set", "deal:1", "1"]);
    assert_eq!(done(&place, &["managed", "unlock"]), "nobody holds the lease\n");
    let misspelt = run(&place, &["managed", "unlock", "--database-url", "sqlite+file:///./hoem"]);
    assert_eq!((misspelt.code, misspelt.out.as_str()), (2, ""), "{}", misspelt.err);
    assert!(misspelt.err.contains("there is no store in the home `folder ./hoem`"), "{}", misspelt.err);
    assert_eq!(json_of(&place, &["managed", "status"])["lease"], json!(null));
    let _held = hold_lease(&place);
    let status = json_of(&place, &["managed", "status"]);
    assert_eq!(status["lease"]["owner"], json!("process 7 on elsewhere"));
    assert!(status["lease"]["age_ms"].as_u64().unwrap() < 60_000, "{status}");
    assert!(done(&place, &["managed", "status"]).contains("\nlease        process 7 on elsewhere, since "));
    // It keeps nobody from reading, and says who keeps a writer waiting.
    assert_eq!(done(&place, &["get", "deal:1"]), "1\n");
    let refused = run(&place, &["set", "deal:2", "2", "--timeout", "1s"]);
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("process 7 on elsewhere held the lease"), "{}", refused.err);
    assert!(refused.err.contains("storage managed unlock"), "{}", refused.err);
    // Nobody is asked here.
    let asked = run(&place, &["managed", "unlock"]);
    assert_ne!(asked.code, 0);
    assert!(asked.err.contains("process 7 on elsewhere") && asked.err.contains("--yes"), "{}", asked.err);
    let unlocked = json_of(&place, &["managed", "unlock", "--yes"]);
    assert_eq!(
        (&unlocked["unlocked"], &unlocked["lease"]["owner"]),
        (&json!(true), &status["lease"]["owner"])
    );
    done(&place, &["set", "deal:2", "2"]);
}

#[test]
fn a_cache_that_an_agent_uses_is_left_alone() {
    let place = Place::new();
    done(&place, &["set", "deal:1", "1"]);
    let lock = std::fs::File::open(cache(&place).join("lock")).unwrap();
    let _locked = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let status = json_of(&place, &["managed", "status"]);
    assert_eq!(status["cache_in_use"], json!(true));
    assert!(done(&place, &["managed", "verify"]).starts_with("sound: generation "));
    // Entries, sessions and histories are read and written by a copy of its own, which stays.
    assert_eq!(done(&place, &["get", "deal:1"]), "1\n");
    done(&place, &["set", "deal:2", "2"]);
    assert_eq!(done(&place, &["keys", "*"]), "deal:1\ndeal:2\n");
    assert_eq!(done(&place, &["health", "--ready"]), "ready\n");
    done(&place, &["sessions", "list"]);
    let received = json_of(&place, &["managed", "status"])["bytes_received"].as_u64().unwrap();
    assert!(received < 4096, "the copy was fetched anew: {received} bytes");
    let refused = run(&place, &["managed", "rescue", "resume"]);
    assert_eq!(refused.code, 3);
    assert!(refused.err.contains("in use") && refused.err.contains("--cache"), "{}", refused.err);
}

#[test]
fn segments_are_folded_and_what_stands_in_the_home_is_verified() {
    let place = Place::new();
    for command in ["status", "verify", "fold"] {
        let nothing = run(&place, &["managed", command]);
        assert_eq!((nothing.code, nothing.err.lines().count()), (2, 2), "{}", nothing.err);
        assert!(nothing.err.contains("there is no store in the home"), "{}", nothing.err);
        assert!(!place.path().join("home").exists() && !place.path().join("user").exists());
    }
    for number in 0..3 {
        done(&place, &["set", &format!("deal:{number}"), "1"]);
    }
    let verified = json_of(&place, &["managed", "verify"]);
    assert!(verified["objects"].as_u64().unwrap() > 1 && verified["bytes"].as_u64().unwrap() > 0);
    assert!(done(&place, &["managed", "fold"]).starts_with("folded up to generation "));
    assert_eq!(json_of(&place, &["managed", "fold"])["folded"], json!(false));
    assert_eq!(done(&place, &["managed", "fold"]), "nothing to fold\n");
    assert_eq!(json_of(&place, &["managed", "verify"])["objects"], json!(1));
    let base = newest(&place.path().join("home/base"));
    let mut bytes = std::fs::read(&base).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&base, bytes).unwrap();
    let corrupt = run(&place, &["managed", "verify"]);
    assert_eq!(corrupt.code, 3);
    assert!(corrupt.err.contains("`base/") && corrupt.err.contains("corrupt"), "{}", corrupt.err);
    assert!(corrupt.err.contains("\nhint: bring the object back"), "{}", corrupt.err);
}

pub(crate) fn newest(folder: &Path) -> PathBuf {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).max().unwrap()
}

#[test]
fn an_earlier_generation_is_restored_to_a_file_of_its_own() {
    let place = Place::new();
    done(&place, &["set", "deal:1", "1"]);
    let first = json_of(&place, &["managed", "status"])["generation"].to_string();
    done(&place, &["set", "deal:2", "2"]);
    done(&place, &["managed", "restore", "--generation", &first, "--to", "first.db"]);
    assert_eq!(place.done(&["--database-url", "sqlite:///first.db", "keys"]), "deal:1\n");
    let restored = json_of(&place, &["managed", "restore", "--to", "newest.db"]);
    assert_eq!(restored["file"], json!("newest.db"));
    assert_eq!(place.done(&["--database-url", "sqlite:///newest.db", "keys"]), "deal:1\ndeal:2\n");

    let again = run(&place, &["managed", "restore", "--to", "newest.db"]);
    assert_eq!(again.code, 2, "{}", again.err);
    let never = run(&place, &["managed", "restore", "--generation", "99", "--to", "never.db"]);
    assert_eq!(never.code, 1, "{}", never.err);
    assert!(never.err.contains("generation 99") && never.err.contains("hint: "), "{}", never.err);
    assert!(!place.path().join("never.db").exists());
    assert_eq!(run(&place, &["managed", "restore"]).code, 2, "no file is named");
    let nowhere = run(&place, &["managed", "restore", "--to", "missing/never.db"]);
    assert_eq!((nowhere.code, nowhere.out.as_str()), (2, ""), "{}", nowhere.err);
    let said = "there is no folder `missing` to write to\nhint: make it, ";
    assert!(nowhere.err.contains(said) && !nowhere.err.contains(".tmp"), "{}", nowhere.err);
}

#[test]
fn a_cache_in_its_home_and_a_home_in_its_cache_are_refused() {
    let place = Place::new();
    std::os::unix::fs::symlink(".", place.path().join("link")).unwrap();
    for cache in ["home", "home/cache", ".", "link/home/cache", "other/../home/x"] {
        let variables = [("DATABASE_URL", HOME), ("STORAGE_CACHE_DIR", cache)];
        let refused = place.run_in(&variables, &["set", "deal:1", "1"]);
        assert_eq!(refused.code, 2, "{cache}: {}", refused.err);
        assert!(refused.err.contains("apart from that of DATABASE_URL"), "{cache}: {}", refused.err);
    }
    assert!(!place.path().join("home").exists());
    let variables = [("DATABASE_URL", HOME), ("STORAGE_CACHE_DIR", "home of the copy")];
    assert_eq!(place.run_in(&variables, &["set", "deal:1", "1"]).code, 0);
}

#[test]
fn what_was_the_newest_at_a_time_says_when_it_was_published() {
    let place = Place::new();
    done(&place, &["set", "deal:1", "1"]);
    let restored = done(&place, &["managed", "restore", "--at", "0s", "--to", "now.db"]);
    assert!(restored.contains(", published at 20"), "{restored}");
    let restored = json_of(&place, &["managed", "restore", "--at", "0s", "--to", "again.db"]);
    assert!(restored["published"].as_str().is_some_and(|at| at.starts_with("20")), "{restored}");
}

/// SQLite would take what lies beside a new file for its own.
#[test]
fn nothing_is_restored_to_beside_what_an_earlier_database_left() {
    let place = Place::new();
    done(&place, &["set", "deal:1", "1"]);
    keep_a_diverged_one(&place);
    done(&place, &["managed", "rescue", "resume"]);
    for left in ["agent.db-wal", "agent.db-shm", "agent.db-journal"] {
        let path = place.file(left, "left behind");
        for command in [&["managed", "restore"][..], &["managed", "rescue", "export"]] {
            let refused = run(&place, &[command, &["--to", "agent.db"]].concat());
            assert_eq!(refused.code, 2, "{left}: {} {}", refused.out, refused.err);
            assert!(refused.err.contains(&format!("`{left}` exists already")), "{}", refused.err);
            assert!(refused.err.contains("\nhint: "), "{}", refused.err);
            assert!(!place.path().join("agent.db").exists());
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"left behind");
        std::fs::remove_file(path).unwrap();
    }
    done(&place, &["managed", "restore", "--to", "agent.db"]);
}

#[test]
fn earlier_generations_are_listed_and_restored_by_their_time() {
    let place = Place::new();
    (1..=3).for_each(|number| drop(done(&place, &["set", "deal:1", &number.to_string()])));
    let log = json_of(&place, &["managed", "log"])["generations"].as_array().unwrap().clone();
    let newest = log[0]["generation"].as_u64().unwrap();
    assert_eq!(log.len() as u64, newest, "each from the first on: {log:?}");
    assert!(done(&place, &["managed", "log", "--limit", "1"]).starts_with("GENERATION  PUBLISHED"));
    // As if the newest but one, and what is older, had been published yesterday.
    for folder in ["seg", "base"] {
        for entry in std::fs::read_dir(place.path().join("home").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if !name.starts_with(&format!("{newest:016x}")) {
                let file = std::fs::File::options().write(true).open(&path).unwrap();
                let yesterday = path.metadata().unwrap().modified().unwrap() - DAY;
                file.set_modified(yesterday).unwrap();
            }
        }
    }
    let restored = json_of(&place, &["managed", "restore", "--at", "2h", "--to", "earlier.db"]);
    assert_eq!(restored["generation"], json!(newest - 1));
    // At the second that the log shows it is there.
    let log = json_of(&place, &["managed", "log"])["generations"].take();
    let shown = log[1]["published"].as_str().unwrap();
    let restored = json_of(&place, &["managed", "restore", "--at", shown, "--to", "shown.db"]);
    assert_eq!(restored["generation"], json!(newest - 1), "of {log}");
    let ahead = run(&place, &["managed", "restore", "--at", "2100-01-01", "--to", "none.db"]);
    assert_eq!(ahead.code, 2, "{}", ahead.err);
    let said =
        format!("2100-01-01T00:00:00Z has not come yet; the newest generation, {newest}, was published at ");
    assert!(ahead.err.contains(&said) && ahead.err.contains("\nhint: without --at"), "{}", ahead.err);
    let none = run(&place, &["managed", "restore", "--at", "2001-02-03 04:05", "--to", "none.db"]);
    assert_eq!(none.code, 1, "{}", none.err);
    assert!(none.err.contains("2001-02-03T04:05:00Z") && none.err.contains("the oldest"), "{}", none.err);
    assert_eq!(run(&place, &["managed", "restore", "--at", "noon", "--to", "none.db"]).code, 2);
    assert!(!place.path().join("none.db").exists());
}

/// What another program writes into the cache is in no home.
fn keep_a_diverged_one(place: &Place) {
    let foreign = rusqlite::Connection::open(cache(place).join("database.db")).unwrap();
    foreign.execute_batch("CREATE TABLE foreign_table (n)").unwrap();
    drop(foreign);
    assert_eq!(run(place, &["get", "deal:1"]).code, 3);
}

#[test]
fn what_has_diverged_is_listed_exported_and_left_behind() {
    let place = Place::new();
    done(&place, &["set", "deal:1", "1"]);
    assert_eq!(json_of(&place, &["managed", "rescue", "list"]), json!({"rescued": []}));
    let none = run(&place, &["managed", "rescue", "export", "--to", "kept.db"]);
    assert_eq!(none.code, 1, "{}", none.err);
    assert!(none.err.contains("nothing was kept: no local database"), "{}", none.err);
    let other = run(&place, &["managed", "rescue", "export", "another", "--to", "kept.db"]);
    assert!(other.code == 1 && other.err.contains("under the name `another`"), "{}", other.err);
    keep_a_diverged_one(&place);
    let refused = run(&place, &["get", "deal:1"]);
    assert_eq!(refused.code, 3, "{}", refused.err);
    assert!(refused.err.contains("rescue resume"), "{}", refused.err);
    let refused = run(&place, &["managed", "status"]);
    assert!(
        refused.err.contains("rescue export") && refused.err.contains("rescue resume"),
        "{}",
        refused.err
    );

    let listed = json_of(&place, &["managed", "rescue", "list"])["rescued"][0].take();
    assert!(done(&place, &["managed", "rescue", "list"]).starts_with("NAME"));
    let exported = json_of(&place, &["managed", "rescue", "export", "--to", "kept.db"]);
    assert_eq!(exported["name"], listed["name"]);
    let kept = rusqlite::Connection::open(place.path().join("kept.db")).unwrap();
    kept.query_row("SELECT count(*) FROM foreign_table", [], |_| Ok(())).unwrap();
    assert_eq!(run(&place, &["managed", "rescue", "export", "--to", "kept.db"]).code, 2);
    // What asks the home alone is kept from nothing.
    assert!(done(&place, &["managed", "log"]).starts_with("GENERATION"));
    assert!(done(&place, &["managed", "verify"]).starts_with("sound: "));
    assert!(done(&place, &["managed", "restore", "--to", "home.db"]).starts_with("restored "));
    // Not while a person has still to decide about it.
    let name = listed["name"].as_str().unwrap();
    let refused = run(&place, &["managed", "rescue", "prune", name]);
    assert_eq!(refused.code, 3, "{}", refused.err);

    assert!(done(&place, &["managed", "rescue", "resume"]).starts_with("on generation "));
    assert_eq!(done(&place, &["get", "deal:1"]), "1\n");
    assert_eq!(json_of(&place, &["managed", "status"])["rescued"], json!(1));

    let kept = json_of(&place, &["managed", "rescue", "prune", "--older-than", "1d"]);
    assert_eq!(kept, json!({"removed": [], "bytes": 0}));
    assert_eq!(run(&place, &["managed", "rescue", "prune", "another"]).code, 1);
    assert_eq!(run(&place, &["managed", "rescue", "prune"]).code, 2, "it does not say which");
    assert!(done(&place, &["managed", "rescue", "prune", name]).starts_with("removed 1 database, "));
    assert_eq!(json_of(&place, &["managed", "rescue", "list"]), json!({"rescued": []}));
}

#[test]
fn a_wrong_home_is_told_with_what_to_do() {
    let place = Place::new();
    for (url, says) in [
        ("sqlite:///a.db", "names no managed database"),
        ("sqlite+file://", "names no folder"),
        ("sqlite+folder:///a", "the scheme `sqlite+folder`"),
        ("sqlite+s3://user:hunter2@bucket/agent", ""),
    ] {
        for command in [&["managed", "status"][..], &["managed", "rescue", "list"], &["get", "k"]] {
            let done = place.run(&[command, &["--database-url", url]].concat());
            if command[0] == "get" && url.starts_with("sqlite:") {
                continue;
            }
            assert_eq!(done.code, 2, "{url}: {}", done.err);
            assert!(done.err.contains(says) && done.err.contains("\nhint: "), "{url}: {}", done.err);
            assert!(!done.err.contains("hunter2"), "{}", done.err);
        }
    }
}

#[test]
fn an_encrypted_database_is_read_with_its_keys_alone() {
    let place = Place::new();
    let made = run(&place, &["managed", "genkey", "--id", "2026a"]);
    if made.code != 0 {
        // A build without encryption makes no key, and takes none.
        let taken =
            place.run_in(&[("STORAGE_MANAGED_KEYS", "a:b"), ("DATABASE_URL", HOME)], &["get", "deal:1"]);
        assert!([made, taken].iter().all(|done| done.err.contains("--features managed-encryption")));
        return;
    }
    let key = made.out;
    assert!(key.starts_with("2026a:") && key.ends_with("=\n"), "{key}");
    let other = json_of(&place, &["managed", "genkey"]);
    assert!(other["key"].as_str().unwrap().starts_with(other["id"].as_str().unwrap()), "{other}");
    assert_eq!(run(&place, &["managed", "genkey", "--id", "no id"]).code, 2);

    let with = |ring: &str, cache: &str, args: &[&str]| {
        let variables =
            [("STORAGE_MANAGED_KEYS", ring), ("STORAGE_CACHE_DIR", cache), ("DATABASE_URL", HOME)];
        place.run_in(&variables, args)
    };
    let set = with(&key, "a", &["set", "deal:1", "\"secret\""]);
    assert_eq!((set.code, set.err.as_str()), (0, ""));
    assert_eq!(with(&key, "b", &["get", "deal:1"]).out, "\"secret\"\n");
    assert!(with(&key, "b", &["managed", "verify"]).out.starts_with("sound: "));
    for (ring, says) in [("", "STORAGE_MANAGED_KEY_FILE"), (other["key"].as_str().unwrap(), "`2026a`")] {
        let refused = with(ring, "c", &["get", "deal:1"]);
        assert!(refused.code > 1 && refused.err.contains(says), "{}: {}", refused.code, refused.err);
        assert!(!refused.err.contains(&key[6..20]), "{}", refused.err);
    }
    let head = std::fs::read(place.path().join("home/head")).unwrap();
    assert!(head.starts_with(b"agentenc"));
}
