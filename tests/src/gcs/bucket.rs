//! What a bucket keeps, and under which conditions it changes.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

/// The parts of an upload but the last have so many bytes at least.
const LEAST_PART: usize = 5 << 20;

/// Why something was not done: a status, and the code that Google gives it.
pub(super) type Refusal = (u16, &'static str);
type Answer<T> = Result<T, Refusal>;

pub(super) const NO_OBJECT: Refusal = (404, "NoSuchKey");
const NO_UPLOAD: Refusal = (404, "NoSuchUpload");
const CHANGED: Refusal = (412, "PreconditionFailed");
const TOO_FAST: Refusal = (429, "SlowDown");

#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) bytes: Bytes,
    pub(super) generation: u64,
    pub(super) etag: String,
    pub(super) written: SystemTime,
}

#[derive(Debug)]
struct Upload {
    name: String,
    parts: BTreeMap<u32, Bytes>,
}

#[derive(Debug, Default)]
pub(super) struct Bucket {
    pub(super) objects: BTreeMap<String, Object>,
    uploads: HashMap<String, Upload>,
    count: u64,
    /// Whether it takes one write a second to one object, as Google's do.
    pub(super) is_slow: bool,
    pub(super) is_closed: bool,
}

impl Bucket {
    /// Writes an object, where a condition is given only over that generation; 0 is none.
    pub(super) fn put(
        &mut self,
        name: &str,
        bytes: Bytes,
        expected: Option<u64>,
        now: SystemTime,
    ) -> Answer<Object> {
        let found = self.objects.get(name);
        let generation = found.map_or(0, |object| object.generation);
        if expected.is_some_and(|expected| expected != generation) {
            return Err(CHANGED);
        }
        let age = found.and_then(|object| now.duration_since(object.written).ok());
        if self.is_slow && age.is_some_and(|age| age < Duration::from_secs(1)) {
            return Err(TOO_FAST);
        }
        self.count += 1;
        let etag = etag(&bytes);
        let object = Object { bytes, generation: 1_700_000_000_000_000 + self.count, etag, written: now };
        self.objects.insert(name.to_owned(), object.clone());
        Ok(object)
    }

    pub(super) fn copy(
        &mut self,
        from: &str,
        to: &str,
        expected: Option<u64>,
        now: SystemTime,
    ) -> Answer<Object> {
        let bytes = self.objects.get(from).ok_or(NO_OBJECT)?.bytes.clone();
        self.put(to, bytes, expected, now)
    }

    pub(super) fn delete(&mut self, name: &str) -> Answer<()> {
        self.objects.remove(name).map(|_| ()).ok_or(NO_OBJECT)
    }

    pub(super) fn initiate(&mut self, name: &str) -> String {
        self.count += 1;
        let id = format!("upload-{}", self.count);
        self.uploads.insert(id.clone(), Upload { name: name.to_owned(), parts: BTreeMap::new() });
        id
    }

    /// Keeps a part, and says by which etag it is to be named in the end.
    pub(super) fn part(&mut self, id: &str, number: u32, bytes: Bytes) -> Answer<String> {
        let upload = self.uploads.get_mut(id).ok_or(NO_UPLOAD)?;
        let etag = etag(&bytes);
        upload.parts.insert(number, bytes);
        Ok(etag)
    }

    /// Makes an object of these parts, over whatever is there.
    pub(super) fn complete(
        &mut self,
        id: &str,
        listed: &[(u32, String)],
        now: SystemTime,
    ) -> Answer<(String, Object)> {
        let upload = self.uploads.get(id).ok_or(NO_UPLOAD)?;
        let mut whole = Vec::new();
        for (index, (number, expected)) in listed.iter().enumerate() {
            let part = upload.parts.get(number).filter(|part| etag(part) == *expected);
            let part = part.ok_or((400, "InvalidPart"))?;
            if index + 1 < listed.len() && part.len() < LEAST_PART {
                return Err((400, "EntityTooSmall"));
            }
            whole.extend_from_slice(part);
        }
        let name = upload.name.clone();
        let object = self.put(&name, whole.into(), None, now)?;
        self.uploads.remove(id);
        Ok((name, object))
    }

    pub(super) fn abort(&mut self, id: &str) -> Answer<()> {
        self.uploads.remove(id).map(|_| ()).ok_or(NO_UPLOAD)
    }

    pub(super) fn unfinished(&self) -> usize {
        self.uploads.len()
    }
}

/// One of the content, as Google's is: what is written again has the same.
fn etag(bytes: &Bytes) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}
