//! What only a folder does.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use storage_core::ErrorKind;
use storage_managed::home::{Body, FolderHome, Home, Put};

use crate::cases::{TERM, acquire, done, text};

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn only_the_owner_can_read_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("shared").join("agent");
    let home = FolderHome::new(&root);
    let version = done(home.create("head", Bytes::from_static(b"1"), None).await.unwrap());
    home.put("seg/1", Body::Bytes(Bytes::from_static(b"pages")), &|_| {}).await.unwrap();
    done(home.replace("head", Bytes::from_static(b"2"), &version, None).await.unwrap());
    for file in ["head", "seg/1", ".write-lock"] {
        assert_eq!(mode(&root.join(file)), 0o600, "{file}");
    }
    for folder in [root.clone(), root.join("seg"), root.join(".tmp"), folder.path().join("shared")] {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
    }
    assert_eq!(fs::read_dir(root.join(".tmp")).unwrap().count(), 0, "no draft is left");
}

#[tokio::test]
async fn a_lease_in_a_folder_that_was_removed_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("agent");
    let (ours, theirs) = (FolderHome::new(&root), FolderHome::new(&root));
    let held = acquire(&ours, "ours", TERM).await.unwrap();
    assert_eq!(acquire(&theirs, "theirs", TERM).await, None);
    fs::remove_dir_all(&root).unwrap();
    acquire(&theirs, "theirs", TERM).await.unwrap();
    assert_eq!(ours.renew(&held).await.unwrap(), None);
    let put = ours.create("head", Bytes::from_static(b"1"), Some(&held)).await.unwrap();
    assert_eq!(put, Put::Refused);
}

#[tokio::test]
async fn thousands_are_listed_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let home = FolderHome::new(folder.path());
    fs::create_dir(folder.path().join("seg")).unwrap();
    for index in 0..5_000 {
        fs::write(folder.path().join(format!("seg/{index:05}")), "x").unwrap();
    }
    let names: Vec<String> = home.list("seg/").await.unwrap().into_iter().map(|listed| listed.name).collect();
    let expected: Vec<String> = (0..5_000).map(|index| format!("seg/{index:05}")).collect();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let home = FolderHome::new(folder.path().join("a-file").join("agent"));
    fs::write(folder.path().join("a-file"), "").unwrap();
    let error = home.create("head", text("1"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

/// Another process that holds the lock of a file until it is killed.
fn hold(file: &Path) -> Child {
    let program = "import fcntl, sys\nfile = open(sys.argv[1], 'a')\nfcntl.flock(file, fcntl.LOCK_EX)\n\
                   print('held', flush=True)\nsys.stdin.read()";
    let mut command = Command::new("python3");
    command.args(["-c", program]).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    child
}

fn kill(mut process: Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}

#[tokio::test]
async fn a_lease_ends_with_the_process_that_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let home = FolderHome::new(folder.path());
    let other = hold(&folder.path().join(".lease"));
    assert_eq!(acquire(&home, "us", TERM).await, None);
    kill(other);
    assert!(acquire(&home, "us", TERM).await.is_some());
}

#[tokio::test]
async fn a_replacement_waits_for_another_process_until_its_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let home = FolderHome::new(folder.path()).with_timeout(Duration::from_millis(400));
    let first = done(home.create("head", text("first"), None).await.unwrap());
    let other = hold(&folder.path().join(".write-lock"));
    let error = home.replace("head", text("second"), &first, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "nothing was done: {error}");
    kill(other);
    done(home.replace("head", text("second"), &first, None).await.unwrap());
}

#[tokio::test]
async fn nothing_is_made_or_missed_where_another_folder_or_none_is_in_the_place_of_the_home() {
    let folder = tempfile::tempdir().unwrap();
    let (root, aside) = (folder.path().join("agent"), folder.path().join("aside"));
    let home = FolderHome::new(&root);
    let first = done(home.create("head", text("first"), None).await.unwrap());
    let held = acquire(&home, "us", TERM).await.unwrap();
    fs::rename(&root, &aside).unwrap();
    for bare in [false, true] {
        if bare {
            fs::create_dir(&root).unwrap();
        }
        let refused = [
            home.get("head").await.map(drop),
            home.get_if_changed("head", &first).await.map(drop),
            home.read("head", 0).await.map(drop),
            home.read_range("head", 0, 1).await.map(drop),
            home.create("seg/1", text("1"), None).await.map(drop),
            home.create("seg/1", text("1"), Some(&held)).await.map(drop),
            home.replace("head", text("2"), &first, None).await.map(drop),
            home.put("seg/1", Body::Bytes(text("1")), &|_| {}).await.map(drop),
            home.delete("head").await,
            home.list("").await.map(drop),
            home.holder().await.map(drop),
            home.unlock().await,
        ];
        for (call, refused) in refused.into_iter().enumerate() {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{call}: {error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("mounted")), "{call}: {error}");
        }
        assert_eq!(home.renew(&held).await.unwrap(), None, "it is lost, or cannot be relied on");
        assert_eq!(root.exists(), bare);
    }
    // It is empty.
    fs::remove_dir(&root).unwrap();
    fs::rename(&aside, &root).unwrap();
    assert_eq!(home.get("head").await.unwrap().unwrap().version, first);
    done(home.replace("head", text("2"), &first, Some(&held)).await.unwrap());
}
