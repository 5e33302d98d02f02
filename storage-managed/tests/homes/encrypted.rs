//! What only an encrypted home does. Each case changes what is stored, as whoever can write to the home might.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::TryStreamExt;
use storage_core::{Error, ErrorKind, Result};
use storage_managed::home::{Body, EncryptedHome, FolderHome, Home, Keys};
use tempfile::TempDir;

use crate::cases::{done, text};

const CHUNK: usize = 64 * 1024;
const TAG: usize = 16;
const HEADER: usize = 76;
const NAME: &str = "base/0000000000000001-aa";

struct Place {
    folder: TempDir,
    line: String,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), line: Keys::generate("2026a").unwrap() }
    }

    /// A client that knows nothing yet.
    fn home(&self) -> EncryptedHome {
        self.home_with(&self.line)
    }

    fn home_with(&self, ring: &str) -> EncryptedHome {
        EncryptedHome::new(self.plain(), Keys::parse(ring).unwrap())
    }

    fn plain(&self) -> Arc<dyn Home> {
        Arc::new(FolderHome::new(self.folder.path()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn stored(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn store(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }
}

/// Bytes that are nowhere the same.
fn content(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(length as u64);
    (0..length).map(|_| random.u8(..)).collect()
}

async fn put(home: &dyn Home, name: &str, content: &[u8]) {
    assert!(home.put(name, Body::Bytes(content.to_vec().into()), &|_| {}).await.unwrap());
}

/// What a reader is given, and why no more.
async fn read_from(home: &dyn Home, name: &str, from: usize) -> (Vec<u8>, Option<Error>) {
    let (_, mut pieces) = match home.read(name, from as u64).await {
        Ok(found) => found.unwrap(),
        Err(error) => return (Vec::new(), Some(error)),
    };
    let mut read = Vec::new();
    loop {
        match pieces.try_next().await {
            Ok(Some(piece)) => read.extend_from_slice(&piece),
            Ok(None) => return (read, None),
            Err(error) => return (read, Some(error)),
        }
    }
}

async fn whole(home: &dyn Home, name: &str) -> Result<Vec<u8>> {
    let (read, error) = read_from(home, name, 0).await;
    error.map_or(Ok(read), Err)
}

fn is_refused(error: &Error, name: &str, what: &str) {
    assert!(
        !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
        "{what}: nobody asks again"
    );
    assert_eq!(error.key(), Some(name), "{what}");
    assert!(error.to_string().contains(name), "{what}: {error}");
}

/// Neither way of reading gives anything but a beginning of what was written, and both end in a refusal.
async fn assert_refused(place: &Place, name: &str, written: &[u8], what: &str) {
    let error = place.home().get(name).await.expect_err(what);
    is_refused(&error, name, what);
    let (read, error) = read_from(&place.home(), name, 0).await;
    assert!(written.starts_with(&read), "{what}: {} wrong bytes were given out", read.len());
    is_refused(&error.expect(what), name, what);
}

#[tokio::test]
async fn every_damaged_byte_is_refused_by_name() {
    let (place, written) = (Place::new(), content(100));
    put(&place.home(), NAME, &written).await;
    let stored = place.stored(NAME);
    assert_eq!(stored.len(), HEADER + 100 + TAG);
    for at in 0..stored.len() {
        for damage in [1, 0x20, 0x80, 0xff] {
            let mut damaged = stored.clone();
            damaged[at] ^= damage;
            place.store(NAME, &damaged);
            assert_refused(&place, NAME, &written, &format!("byte {at} ^ {damage}")).await;
        }
    }
    place.store(NAME, &stored);
    assert_eq!(whole(&place.home(), NAME).await.unwrap(), written);
}

#[tokio::test]
async fn damage_in_each_chunk_is_refused_and_nothing_of_it_given_out() {
    let (place, written) = (Place::new(), content(2 * CHUNK + 1000));
    put(&place.home(), NAME, &written).await;
    let stored = place.stored(NAME);
    let borders = [0, CHUNK + TAG, 2 * (CHUNK + TAG), stored.len() - HEADER].map(|at| at + HEADER);
    for (chunk, border) in borders.windows(2).enumerate() {
        for at in [border[0], border[0] + 500, border[1] - TAG - 1, border[1] - TAG, border[1] - 1] {
            let mut damaged = stored.clone();
            damaged[at] ^= 1;
            place.store(NAME, &damaged);
            assert_refused(&place, NAME, &written, &format!("byte {at}")).await;
            let (read, _) = read_from(&place.home(), NAME, 0).await;
            assert_eq!(read.len(), chunk * CHUNK, "whole chunks before byte {at}");
            // What is behind it is sound.
            let (rest, error) = read_from(&place.home(), NAME, (chunk + 1) * CHUNK).await;
            assert!(error.is_none() && written.ends_with(&rest));
        }
    }
}

#[tokio::test]
async fn what_was_cut_or_grown_is_refused() {
    for length in [0, 10, CHUNK, 2 * CHUNK, 2 * CHUNK + 10] {
        let (place, written) = (Place::new(), content(length));
        put(&place.home(), NAME, &written).await;
        let stored = place.stored(NAME);
        let borders = (0..=3).map(|chunk| HEADER + chunk * (CHUNK + TAG));
        let near =
            borders.flat_map(|border| [border - 1, border, border + 1, border + TAG, border + TAG + 1]);
        for cut in near.chain([0, 1, 8, 9, 41, stored.len() - 1]).filter(|cut| *cut < stored.len()) {
            place.store(NAME, &stored[..cut]);
            assert_refused(&place, NAME, &written, &format!("{length} cut to {cut}")).await;
        }
        let last = &stored[HEADER + length.saturating_sub(1) / CHUNK * (CHUNK + TAG)..];
        for more in [&[0][..], &[0; TAG], &[0; TAG + 1], last] {
            place.store(NAME, &[&stored, more].concat());
            assert_refused(&place, NAME, &written, &format!("{length} with {} more", more.len())).await;
        }
    }
}

#[tokio::test]
async fn exchanged_objects_are_refused() {
    let place = Place::new();
    let (one, other) = ("seg/0000000000000002-aa", "seg/0000000000000003-bb");
    let home = place.home();
    done(home.create("head", text("a head"), None).await.unwrap());
    put(&home, one, b"first.").await;
    put(&home, other, b"second").await;
    let (stored_one, stored_other, head) = (place.stored(one), place.stored(other), place.stored("head"));
    place.store(one, &stored_other);
    place.store(other, &stored_one);
    place.store("head", &stored_one);
    for name in [one, other, "head"] {
        assert_refused(&place, name, b"", name).await;
    }
    place.store(one, &head);
    assert_refused(&place, one, b"", "the head's content in a segment").await;
}

#[tokio::test]
async fn exchanged_chunks_are_refused() {
    let (place, written) = (Place::new(), content(3 * CHUNK));
    put(&place.home(), NAME, &written).await;
    let stored = place.stored(NAME);
    let chunk = |of: &[u8], index: usize| {
        of[HEADER + index * (CHUNK + TAG)..HEADER + (index + 1) * (CHUNK + TAG)].to_vec()
    };
    // Written again with the same content, under the same name and key.
    fs::remove_file(place.path(NAME)).unwrap();
    put(&place.home(), NAME, &written).await;
    let again = place.stored(NAME);
    let header = &stored[..HEADER];
    let (a, b, c) = (chunk(&stored, 0), chunk(&stored, 1), chunk(&stored, 2));
    let spliced = [
        ("two are exchanged", [header, &b, &a, &c].concat()),
        ("the last is not the last", [header, &a, &c, &b].concat()),
        ("one is repeated", [header, &a, &a, &c].concat()),
        ("one is missing in the middle", [header, &a, &c].concat()),
        ("the first is missing", [header, &b, &c].concat()),
        ("one is of another time", [header, &a, &chunk(&again, 1), &c].concat()),
        ("the header is of another time", [&again[..HEADER], &a, &b, &c].concat()),
    ];
    for (what, bytes) in &spliced {
        place.store(NAME, bytes);
        assert_refused(&place, NAME, &written, what).await;
    }
}

#[tokio::test]
async fn what_is_not_encrypted_is_refused() {
    let place = Place::new();
    put(&place.home(), NAME, b"secret").await;
    for plain in ["", "{\"format\":2}", "agentseg", "SQLite format 3\0", &"x".repeat(200)] {
        place.store(NAME, plain.as_bytes());
        assert_refused(&place, NAME, b"", plain).await;
        let error = place.home().get(NAME).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains("not encrypted"), "{error}");
    }
}

#[tokio::test]
async fn the_key_is_named_that_is_missing_or_wrong() {
    let place = Place::new();
    put(&place.home(), NAME, b"secret").await;
    let (other, wrong) = (Keys::generate("2027").unwrap(), Keys::generate("2026a").unwrap());
    for (ring, says) in [
        (&other, "encrypted with the key `2026a`, and the keys here are 2027"),
        (&wrong, "the key `2026a` here is another one"),
    ] {
        let home = place.home_with(ring);
        let errors = [home.get(NAME).await.unwrap_err(), whole(&home, NAME).await.unwrap_err()];
        for error in errors {
            is_refused(&error, NAME, says);
            let shown = format!("{error} {error:?} {home:?}");
            assert!(error.kind() == ErrorKind::Config && shown.contains(says), "{shown}");
            assert!(shown.contains("STORAGE_MANAGED_KEYS"), "{shown}");
            let secrets = [&place.line, ring].map(|line| line.split_once(':').unwrap().1);
            assert!(secrets.iter().all(|secret| !shown.contains(&secret[..10])), "{shown}");
        }
    }
    // The key itself is what counts, not what it is said to be: a header that claims to be of the wrong key.
    let check = HEADER - 19 - 16..HEADER - 19;
    put(&place.home_with(&wrong), "seg/1", b"theirs").await;
    let mut forged = place.stored(NAME);
    forged[check.clone()].copy_from_slice(&place.stored("seg/1")[check]);
    place.store(NAME, &forged);
    assert_eq!(place.home_with(&wrong).get(NAME).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn rings_are_rotated() {
    let place = Place::new();
    put(&place.home(), "seg/1", b"old").await;
    let new = Keys::generate("2026b").unwrap();
    let both = place.home_with(&format!("{new},{}", place.line));
    put(&both, "seg/2", b"new").await;
    assert_eq!(whole(&both, "seg/1").await.unwrap(), b"old");
    assert_eq!(whole(&both, "seg/2").await.unwrap(), b"new");
    let alone = place.home_with(&new);
    assert_eq!(whole(&alone, "seg/2").await.unwrap(), b"new", "the first key encrypts");
    assert!(whole(&alone, "seg/1").await.unwrap_err().to_string().contains("`2026a`"));
    assert!(whole(&place.home(), "seg/2").await.unwrap_err().to_string().contains("`2026b`"));
}

#[tokio::test]
async fn reading_begins_anywhere() {
    let mut random = fastrand::Rng::with_seed(7);
    let edges = [0, 1, 100, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 17];
    let lengths = edges.into_iter().chain(std::iter::repeat_with(|| random.usize(..5 * CHUNK)).take(12));
    let mut random = fastrand::Rng::with_seed(8);
    for length in lengths {
        let (place, written) = (Place::new(), content(length));
        put(&place.home(), NAME, &written).await;
        assert_eq!(place.home().list("").await.unwrap()[0].length, length as u64);
        let known = place.home();
        let borders = (0..5).flat_map(|chunk| [chunk * CHUNK, chunk * CHUNK + 1, (chunk + 1) * CHUNK - 1]);
        let odd = std::iter::repeat_with(|| random.usize(..=length)).take(20);
        for from in borders.chain(odd).chain([length.saturating_sub(1)]) {
            // One that has read the header before, and one that has not.
            for home in [&known, &place.home()] {
                let (told, _) = home.read(NAME, from as u64).await.unwrap().unwrap();
                assert_eq!(told, length as u64, "from {from}");
                let (read, error) = read_from(home, NAME, from).await;
                assert!(error.is_none(), "{length} from {from}: {error:?}");
                assert!(read == written[from.min(length)..], "{length} from {from}");
            }
        }
        assert!(read_from(&known, NAME, usize::MAX).await.0.is_empty());
    }
}

#[tokio::test]
async fn what_is_stored_anew_is_read_by_who_knew_it_before() {
    let (place, written) = (Place::new(), content(3 * CHUNK));
    let reader = place.home();
    put(&place.home(), NAME, &written).await;
    assert_eq!(whole(&reader, NAME).await.unwrap(), written);
    fs::remove_file(place.path(NAME)).unwrap();
    put(&place.home(), NAME, &written).await;
    // At the latest once the header that it knew does not fit.
    let _ = read_from(&reader, NAME, 2 * CHUNK).await;
    assert!(read_from(&reader, NAME, 2 * CHUNK).await.0 == written[2 * CHUNK..]);
}

#[tokio::test]
async fn each_object_has_a_nonce_of_its_own() {
    let place = Place::new();
    let home = place.home();
    let mut prefixes = std::collections::HashSet::new();
    let mut bodies = std::collections::HashSet::new();
    for number in 0..200 {
        let name = format!("seg/{number}");
        put(&home, &name, b"always the same").await;
        let stored = place.stored(&name);
        prefixes.insert(stored[HEADER - 19..HEADER].to_vec());
        bodies.insert(stored[HEADER..].to_vec());
    }
    let mut version = done(home.create("head", text("same"), None).await.unwrap());
    for _ in 0..50 {
        version = done(home.replace("head", text("same"), &version, None).await.unwrap());
        prefixes.insert(place.stored("head")[HEADER - 19..HEADER].to_vec());
    }
    assert_eq!((prefixes.len(), bodies.len()), (250, 200));
}

fn encrypted_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().ends_with(".tmp")).collect()
}

#[tokio::test]
async fn a_file_is_encrypted_beside_itself_and_nothing_is_left() {
    let place = Place::new();
    let staging = tempfile::tempdir().unwrap();
    let path = staging.path().join("base");
    let written = b"plain and known ".repeat(40_000);
    fs::write(&path, &written).unwrap();
    let seen = Mutex::new(0);
    let body = Body::File { path, length: written.len() as u64 };
    let sent = |_| {
        for file in encrypted_files(staging.path()) {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            let bytes = fs::read(file).unwrap();
            assert!(!bytes.windows(15).any(|window| window == b"plain and known"));
            *seen.lock().unwrap() += 1;
        }
    };
    assert!(place.home().put(NAME, body.clone(), &sent).await.unwrap());
    assert!(*seen.lock().unwrap() > 0, "the encrypted file is there while it is sent");
    assert_eq!(encrypted_files(staging.path()), [""; 0].map(PathBuf::from));
    assert_eq!(whole(&place.home(), NAME).await.unwrap(), written);
    assert!(!place.home().put(NAME, body, &|_| {}).await.unwrap(), "there is one");
    assert_eq!(encrypted_files(staging.path()).len(), 0);
}

#[tokio::test]
async fn what_is_stored_is_what_the_protocol_says() {
    use aead_stream::{NewStream, StreamBE32, StreamPrimitive};
    use chacha20poly1305::{KeyInit, XChaCha20Poly1305, aead::Payload};
    let place = Place::new();
    let secret: [u8; 32] = std::array::from_fn(|at| at as u8);
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let written = content(CHUNK + 5);
    put(&place.home_with(&format!("k:{hex}")), NAME, &written).await;
    let stored = place.stored(NAME);
    assert_eq!(&stored[..9], b"agentenc\x01");
    assert_eq!(&stored[9..41], [&b"k"[..], &[0; 31]].concat());
    let check = blake3::derive_key("storage-managed 2026-11 encrypted home, which key it was", &secret);
    assert_eq!(stored[41..57], check[..16]);
    let prefix: [u8; 19] = stored[57..76].try_into().unwrap();
    let stream =
        StreamBE32::<XChaCha20Poly1305>::from_aead(XChaCha20Poly1305::new(&secret.into()), &prefix.into());
    let aad = [&stored[..76], NAME.as_bytes()].concat();
    let (first, last) = stored[76..].split_at(CHUNK + TAG);
    let first = stream.decrypt(0, false, Payload { msg: first, aad: &aad }).unwrap();
    let last = stream.decrypt(1, true, Payload { msg: last, aad: &aad }).unwrap();
    assert!([first, last].concat() == written);
}

#[tokio::test]
async fn a_key_file_is_read_when_it_is_needed() {
    let place = Place::new();
    let path = place.path("keys-of-ours");
    let home = EncryptedHome::with_key_file(place.plain(), &path);
    let error = home.create("head", Bytes::from_static(b"1"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    fs::write(&path, &place.line).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    done(home.create("head", text("one"), None).await.unwrap());
    assert_eq!(place.home().get("head").await.unwrap().unwrap().bytes, "one");
}
