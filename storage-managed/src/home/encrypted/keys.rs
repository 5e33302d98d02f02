//! The key ring: keys by their ids, of which the first encrypts.

use std::{
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use storage_core::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

pub(super) const KEY_BYTES: usize = 32;
/// The longest id of a key.
pub(super) const ID_BYTES: usize = 32;
pub(super) const CHECK_BYTES: usize = 16;
/// More than any ring has.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// Domain of the hash that tells keys of one id apart.
const CHECK_CONTEXT: &str = "storage-managed 2026-11 encrypted home, which key it was";
/// With padding or without: both are seen.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The keys of an encrypted home. The first one encrypts what is written, all decrypt what is read.
///
/// Clones share them; they are overwritten when the last one goes. `Debug` shows the ids alone.
///
/// ```
/// use storage_managed::home::Keys;
///
/// let (new, old) = (Keys::generate("2026b")?, Keys::generate("2026a")?);
/// let keys = Keys::parse(&format!("{new},{old}"))?;
/// assert_eq!(format!("{keys:?}"), r#"Keys(["2026b", "2026a"])"#);
/// # Ok::<(), storage_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Keys {
    ring: Arc<[Key]>,
}

/// One key and its id.
pub(super) struct Key {
    pub(super) id: String,
    pub(super) secret: Zeroizing<[u8; KEY_BYTES]>,
    /// Stands in each header: a wrong key is told from a damaged object.
    pub(super) check: [u8; CHECK_BYTES],
}

impl Keys {
    /// Reads `id:key` entries, separated by commas or lines; the first key encrypts. An id is 1 to 32 letters, digits, `.`, `_`
    /// or `-`; a key is 32 random bytes, as 64 hexadecimal digits or in base64. A line that begins with `#` is a comment.
    ///
    /// # Errors
    /// `Config` where there is no entry, one is malformed, or two have one id. It never holds a key.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let entries = lines.flat_map(|line| line.split(',')).map(str::trim).filter(|entry| !entry.is_empty());
        let mut ring: Vec<Key> = Vec::new();
        for (index, entry) in entries.enumerate() {
            let key = Key::parse(entry).map_err(|problem| malformed(index + 1, problem))?;
            if ring.iter().any(|other| other.id == key.id) {
                return Err(Error::config(format!("two keys have the id `{}`", key.id)));
            }
            ring.push(key);
        }
        if ring.is_empty() {
            return Err(Error::config("there is no key").with_hint("`storage managed genkey` makes one"));
        }
        Ok(Self { ring: ring.into() })
    }

    /// Reads a file as [`parse`](Self::parse) reads a text. On Unix nobody but its owner and group may read it, and only its
    /// owner write.
    ///
    /// # Errors
    /// `Config` where it cannot be read, others have rights to it, or its content is not as it has to be.
    pub fn from_file(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| unreadable(path, &error.kind().to_string()))?;
        check_rights(&file, path)?;
        let mut bytes = Zeroizing::new(Vec::new());
        let read = file.take(MAX_FILE_BYTES).read_to_end(&mut bytes);
        read.map_err(|error| unreadable(path, &error.kind().to_string()))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| unreadable(path, "it is not UTF-8"))?;
        Self::parse(text).map_err(|error| {
            Error::config(format!("the key file `{}`: {}", path.display(), error.message()))
                .with_hint_of(&error)
        })
    }

    /// A new `id:key` entry, its key from the kernel.
    ///
    /// # Errors
    /// `Config` where this cannot be an id; `Unavailable` where the system has no random bytes.
    pub fn generate(id: &str) -> Result<String> {
        if !is_id(id) {
            return Err(Error::config("this cannot be the id of a key").with_hint(ID_FORM));
        }
        let mut secret = Zeroizing::new([0; KEY_BYTES]);
        fill_random(&mut *secret)?;
        Ok(format!("{id}:{}", BASE64.encode(secret.as_slice())))
    }

    pub(super) fn current(&self) -> Result<&Key> {
        // `parse` makes no empty ring.
        self.ring.first().ok_or_else(|| Error::config("there is no key"))
    }

    pub(super) fn find(&self, id: &str) -> Option<&Key> {
        self.ring.iter().find(|key| key.id == id)
    }

    fn ids(&self) -> impl Iterator<Item = &str> {
        self.ring.iter().map(|key| key.id.as_str())
    }

    pub(super) fn names(&self) -> String {
        self.ids().collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.ids().collect::<Vec<_>>()).finish()
    }
}

impl Key {
    fn parse(entry: &str) -> Result<Self, &'static str> {
        let (id, text) = entry.split_once(':').ok_or("has no `:`")?;
        let (id, text) = (id.trim(), text.trim());
        if !is_id(id) {
            return Err("has no id that can be used");
        }
        let secret = decode(text).ok_or("has a key that is not of 32 bytes, in hexadecimal or base64")?;
        if secret.windows(2).all(|pair| pair.first() == pair.last()) {
            return Err("has one byte again and again in place of a key");
        }
        let mut check = [0; CHECK_BYTES];
        let hash = blake3::derive_key(CHECK_CONTEXT, &*secret);
        check.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        Ok(Self { id: id.to_owned(), secret, check })
    }
}

const ID_FORM: &str = "1 to 32 letters, digits, `.`, `_` and `-`";

pub(super) fn is_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=ID_BYTES).contains(&id.len()) && id.bytes().all(plain)
}

fn decode(text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut secret = Zeroizing::new([0; KEY_BYTES]);
    if text.len() == 2 * KEY_BYTES {
        for (byte, digits) in secret.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).ok()?;
            // `from_str_radix` takes a sign.
            let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            *byte = u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
        }
        return Some(secret);
    }
    let bytes = Zeroizing::new(BASE64.decode(text).ok()?);
    secret.copy_from_slice(bytes.first_chunk::<KEY_BYTES>().filter(|_| bytes.len() == KEY_BYTES)?);
    Some(secret)
}

pub(super) fn fill_random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|_| {
        Error::new(ErrorKind::Unavailable, "the system gives no random bytes for the encryption")
    })
}

/// Names an entry by its place: where it is malformed, its id may be a key.
fn malformed(place: usize, problem: &str) -> Error {
    Error::config(format!("entry {place} of the keys {problem}"))
        .with_hint(format!("write id:key; the id is {ID_FORM}, the key 64 hexadecimal digits or base64"))
}

fn unreadable(path: &Path, why: &str) -> Error {
    Error::config(format!("the key file `{}` cannot be read: {why}", path.display()))
}

/// The group may read: container platforms hand secrets to a process so.
#[cfg(unix)]
fn check_rights(file: &File, path: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let found = file.metadata().map_err(|error| unreadable(path, &error.kind().to_string()))?;
    if found.mode() & 0o027 == 0 {
        return Ok(());
    }
    let rights = found.mode() & 0o777;
    let message =
        format!("others have rights to the key file `{}`: it has mode {rights:03o}", path.display());
    Err(Error::config(message).with_hint(format!("chmod 600 {}", path.display())))
}

#[cfg(not(unix))]
fn check_rights(_: &File, _: &Path) -> Result<()> {
    Ok(())
}

/// Where the keys come from.
#[derive(Debug)]
pub(super) enum Source {
    Keys(Keys),
    /// Read at the first use: to name a home does no I/O.
    File(PathBuf, OnceLock<Keys>),
}

impl Source {
    pub(super) fn keys(&self) -> Result<&Keys> {
        match self {
            Self::Keys(keys) => Ok(keys),
            Self::File(path, read) => match read.get() {
                Some(keys) => Ok(keys),
                None => Keys::from_file(path).map(|keys| read.get_or_init(|| keys)),
            },
        }
    }
}
