//! What the server answers: RESP2 or RESP3, decoded from what has arrived.
//!
//! What RESP3 tells apart and we do not is read as RESP2 says it: a map is an array of keys and values, a set an array, a
//! boolean 0 or 1, a double, a big number and a verbatim text are bulk strings. Attributes are skipped.
//!
//! The decoders that there are (redis, redis-protocol) follow nesting as deep as it goes, so that what answers there could
//! exhaust the stack, and take any length for one that will come.

use bytes::{Buf, Bytes, BytesMut};

/// As deep as answers may be nested; ours are three deep.
const MAX_DEPTH: usize = 32;
/// As long as one string may be: Redis' own limit, `proto-max-bulk-len`.
const MAX_BULK: usize = 512 * 1024 * 1024;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Nil,
    Int(i64),
    /// Shares the buffer that it was read into.
    Bulk(Bytes),
    Status(Bytes),
    Array(Vec<Self>),
    /// What nobody asked for: a message of a subscription, say. RESP3 alone has it.
    Push(Vec<Self>),
    Error(ServerError),
}

/// An error that the server answers: a code and what it says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerError(String);

impl ServerError {
    pub(crate) fn new(line: impl Into<String>) -> Self {
        Self(line.into())
    }

    pub(crate) fn code(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }

    pub(crate) fn details(&self) -> &str {
        self.0.split_once(' ').map_or("", |(_, details)| details)
    }

    /// The error behind it, where a script or a transaction has passed it on; else itself.
    pub(crate) fn cause(&self) -> Self {
        let inner = match self.code() {
            "EXECABORT" => self.0.split_once("because of: ").map(|(_, inner)| inner),
            // What a command said inside a script, which the script passed on.
            "ERR" if PASSED_ON.contains(&self.details().split(' ').next().unwrap_or_default()) => {
                Some(self.details())
            }
            // Redis 6: `ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -READONLY You can't ...`
            "ERR" | "@user_script:" => self
                .0
                .rsplit_once("@user_script: ")
                .and_then(|(_, after)| after.split_once(": "))
                .map(|(_, inner)| inner),
            _ => None,
        };
        inner.map_or_else(|| self.clone(), |inner| Self::new(inner.strip_prefix('-').unwrap_or(inner)))
    }

    /// Whether a server that is not the one it was, or not ready yet, refused the work: a replica that was a master, one that
    /// has lost its master, one that reads its data. Nothing was applied, and the master may be found elsewhere.
    pub(crate) fn is_of_role(&self) -> bool {
        const ROLES: [&str; 3] = ["READONLY", "MASTERDOWN", "LOADING"];
        match self.code() {
            "ERR" | "EXECABORT" | "@user_script:" => ROLES.contains(&self.cause().code()),
            code => ROLES.contains(&code),
        }
    }
}

/// Codes that stand behind an `ERR` where a script has passed them on.
const PASSED_ON: [&str; 8] =
    ["ERR", "OOM", "MISCONF", "NOPERM", "WRONGTYPE", "READONLY", "NOREPLICAS", "MASTERDOWN"];

/// What arrived is no RESP.
#[derive(Debug)]
pub(crate) struct Malformed;

/// Takes answers out of what arrives, and remembers how far it has looked.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    looked: usize,
    /// The arrays that have begun.
    open: Vec<Open>,
}

/// An array that has begun.
#[derive(Debug)]
struct Open {
    /// How many answers are still to come.
    left: usize,
    /// Whether it is no answer itself, and what follows is the one that it is about.
    attribute: bool,
}

impl Decoder {
    /// Takes the first answer out of `arrived`; `None` where it has not arrived whole.
    pub(crate) fn decode(&mut self, arrived: &mut BytesMut) -> Result<Option<Answer>, Malformed> {
        let Some(end) = self.end_of_first(arrived)? else { return Ok(None) };
        self.looked = 0;
        if let Some(answer) = frequent(arrived, end)? {
            arrived.advance(end);
            return Ok(Some(answer));
        }
        let mut whole = Whole { bytes: arrived.split_to(end).freeze(), at: 0 };
        whole.answer().map(Some)
    }

    fn end_of_first(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        loop {
            let Some((kind, line, end)) = header(bytes, self.looked)? else { return Ok(None) };
            match kind {
                b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => self.looked = end,
                b'$' | b'!' | b'=' => {
                    let end = length(line)?.map_or(end, |length| end + length + 2);
                    if end > bytes.len() {
                        return Ok(None);
                    }
                    self.looked = end;
                }
                b'*' | b'~' | b'>' | b'%' | b'|' => {
                    self.looked = end;
                    let attribute = kind == b'|';
                    if let Some(left) = elements(kind, line)?.filter(|count| *count > 0) {
                        self.open.push(Open { left, attribute });
                        if self.open.len() > MAX_DEPTH {
                            return Err(Malformed);
                        }
                        continue;
                    }
                    if attribute {
                        continue;
                    }
                }
                _ => return Err(Malformed),
            }
            if self.close() {
                return Ok(Some(self.looked));
            }
        }
    }

    /// Counts one answer, and the arrays that are whole with it; whether that was all.
    fn close(&mut self) -> bool {
        while let Some(open) = self.open.last_mut() {
            open.left -= 1;
            if open.left > 0 {
                return false;
            }
            if self.open.pop().is_some_and(|open| open.attribute) {
                return false;
            }
        }
        true
    }
}

/// The answers that need no part of the buffer.
fn frequent(bytes: &[u8], end: usize) -> Result<Option<Answer>, Malformed> {
    Ok(match bytes.get(..end) {
        Some(b"+OK\r\n") => Some(Answer::Status(Bytes::from_static(b"OK"))),
        Some(b"$-1\r\n" | b"*-1\r\n" | b"_\r\n") => Some(Answer::Nil),
        Some([b':', number @ .., b'\r', b'\n']) => Some(Answer::Int(integer(number)?)),
        _ => None,
    })
}

/// The kind of an answer, its first line, and where that ends.
type Header<'a> = (u8, &'a [u8], usize);

/// What begins at `start`.
fn header(bytes: &[u8], start: usize) -> Result<Option<Header<'_>>, Malformed> {
    let bytes = bytes.get(start..).ok_or(Malformed)?;
    let Some(newline) = memchr::memchr(b'\n', bytes) else { return Ok(None) };
    match bytes.get(..newline) {
        Some([kind, line @ .., b'\r']) => Ok(Some((*kind, line, start + newline + 1))),
        _ => Err(Malformed),
    }
}

/// A length; `None` for one of -1, which stands for nothing.
fn length(line: &[u8]) -> Result<Option<usize>, Malformed> {
    if line == b"-1" {
        return Ok(None);
    }
    let length = usize::try_from(integer(line)?).ok().filter(|length| *length <= MAX_BULK);
    length.map(Some).ok_or(Malformed)
}

/// How many answers an array has, of a map keys and values; `None` for one of -1, which stands for nothing.
fn elements(kind: u8, line: &[u8]) -> Result<Option<usize>, Malformed> {
    let each = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
    Ok(length(line)?.map(|count| count * each))
}

fn integer(line: &[u8]) -> Result<i64, Malformed> {
    std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or(Malformed)
}

/// An answer that has arrived whole, and how much of it has been read.
struct Whole {
    bytes: Bytes,
    at: usize,
}

impl Whole {
    fn answer(&mut self) -> Result<Answer, Malformed> {
        let (kind, line) = self.beyond_attributes()?;
        Ok(match kind {
            b':' => Answer::Int(integer(&line)?),
            b'+' => Answer::Status(line),
            b'-' => Answer::Error(ServerError::new(String::from_utf8_lossy(&line))),
            b'_' => Answer::Nil,
            b'#' => Answer::Int(i64::from(*line == *b"t")),
            b',' | b'(' => Answer::Bulk(line),
            b'$' | b'!' | b'=' => match length(&line)? {
                None => Answer::Nil,
                Some(length) => self.text(kind, length)?,
            },
            kind => match elements(kind, &line)? {
                None => Answer::Nil,
                Some(count) => {
                    let answers = (0..count).map(|_| self.answer()).collect::<Result<_, _>>()?;
                    if kind == b'>' { Answer::Push(answers) } else { Answer::Array(answers) }
                }
            },
        })
    }

    /// The first line of the answer that the attributes here are about.
    fn beyond_attributes(&mut self) -> Result<(u8, Bytes), Malformed> {
        loop {
            match self.line()? {
                (kind @ b'|', line) => {
                    for _ in 0..elements(kind, &line)?.unwrap_or_default() {
                        self.answer()?;
                    }
                }
                answer => return Ok(answer),
            }
        }
    }

    fn line(&mut self) -> Result<(u8, Bytes), Malformed> {
        let (kind, line, end) = header(&self.bytes, self.at)?.ok_or(Malformed)?;
        let line = self.bytes.slice_ref(line);
        self.at = end;
        Ok((kind, line))
    }

    fn text(&mut self, kind: u8, length: usize) -> Result<Answer, Malformed> {
        let text = self.bytes.get(self.at..self.at + length).ok_or(Malformed)?;
        let text = self.bytes.slice_ref(text);
        self.at += length + 2;
        Ok(match kind {
            b'!' => Answer::Error(ServerError::new(String::from_utf8_lossy(&text))),
            // Behind three letters for its format and a colon.
            b'=' if length >= 4 => Answer::Bulk(text.slice(4..)),
            b'=' => return Err(Malformed),
            _ => Answer::Bulk(text),
        })
    }
}

#[cfg(test)]
mod tests;
