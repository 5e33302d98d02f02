//! What the server answers: RESP2, decoded from what has arrived.
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
}

/// What arrived is no RESP2.
#[derive(Debug)]
pub(crate) struct Malformed;

/// Takes answers out of what arrives, and remembers how far it has looked.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    looked: usize,
    /// How many answers are still to come of each array that has begun.
    open: Vec<usize>,
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
                b'+' | b'-' | b':' => self.looked = end,
                b'$' => {
                    let end = length(line)?.map_or(end, |length| end + length + 2);
                    if end > bytes.len() {
                        return Ok(None);
                    }
                    self.looked = end;
                }
                b'*' => {
                    self.looked = end;
                    if let Some(count) = length(line)?.filter(|count| *count > 0) {
                        self.open.push(count);
                        if self.open.len() > MAX_DEPTH {
                            return Err(Malformed);
                        }
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
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return false;
            }
            self.open.pop();
        }
        true
    }
}

/// The answers that need no part of the buffer.
fn frequent(bytes: &[u8], end: usize) -> Result<Option<Answer>, Malformed> {
    Ok(match bytes.get(..end) {
        Some(b"+OK\r\n") => Some(Answer::Status(Bytes::from_static(b"OK"))),
        Some(b"$-1\r\n" | b"*-1\r\n") => Some(Answer::Nil),
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
        let (kind, line) = self.line()?;
        Ok(match kind {
            b':' => Answer::Int(integer(&line)?),
            b'+' => Answer::Status(line),
            b'-' => Answer::Error(ServerError::new(String::from_utf8_lossy(&line))),
            kind => match (length(&line)?, kind) {
                (None, _) => Answer::Nil,
                (Some(length), b'$') => Answer::Bulk(self.text(length)?),
                (Some(count), _) => {
                    Answer::Array((0..count).map(|_| self.answer()).collect::<Result<_, _>>()?)
                }
            },
        })
    }

    fn line(&mut self) -> Result<(u8, Bytes), Malformed> {
        let (kind, line, end) = header(&self.bytes, self.at)?.ok_or(Malformed)?;
        let line = self.bytes.slice_ref(line);
        self.at = end;
        Ok((kind, line))
    }

    fn text(&mut self, length: usize) -> Result<Bytes, Malformed> {
        let text = self.bytes.get(self.at..self.at + length).ok_or(Malformed)?;
        let text = self.bytes.slice_ref(text);
        self.at += length + 2;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &'static str) -> Answer {
        Answer::Bulk(Bytes::from_static(text.as_bytes()))
    }

    fn fail(line: &str) -> Answer {
        Answer::Error(ServerError::new(line))
    }

    fn table() -> Vec<(&'static [u8], Answer)> {
        let mixed = vec![
            bulk("a"),
            Answer::Array(vec![Answer::Int(1), fail("ERR no")]),
            Answer::Nil,
            Answer::Status(Bytes::from_static(b"QUEUED")),
        ];
        vec![
            (b"+OK\r\n", Answer::Status(Bytes::from_static(b"OK"))),
            (b"-MOVED 1 127.0.0.1:7000\r\n", fail("MOVED 1 127.0.0.1:7000")),
            (b":-42\r\n", Answer::Int(-42)),
            (b"$5\r\nhello\r\n", bulk("hello")),
            (b"$0\r\n\r\n", bulk("")),
            (b"$-1\r\n", Answer::Nil),
            (b"$4\r\n\r\n\r\n\r\n", bulk("\r\n\r\n")),
            (b"*0\r\n", Answer::Array(vec![])),
            (b"*-1\r\n", Answer::Nil),
            (b"*4\r\n$1\r\na\r\n*2\r\n:1\r\n-ERR no\r\n$-1\r\n+QUEUED\r\n", Answer::Array(mixed)),
        ]
    }

    #[test]
    fn answers_by_table() {
        let mut decoder = Decoder::default();
        for (bytes, expected) in table() {
            let mut arrived = BytesMut::from(bytes);
            assert_eq!(decoder.decode(&mut arrived).unwrap().unwrap(), expected, "{bytes:?}");
            assert!(arrived.is_empty());
        }
    }

    #[test]
    fn an_answer_is_whole_once_its_last_byte_has_arrived_and_what_follows_is_left() {
        for (bytes, expected) in table() {
            let (mut decoder, mut arrived) = (Decoder::default(), BytesMut::new());
            let (last, before) = bytes.split_last().unwrap();
            for byte in before {
                arrived.extend_from_slice(&[*byte]);
                assert!(decoder.decode(&mut arrived).unwrap().is_none(), "{arrived:?} of {bytes:?}");
            }
            arrived.extend_from_slice(&[&[*last], &b":1\r\n"[..]].concat());
            assert_eq!(decoder.decode(&mut arrived).unwrap().unwrap(), expected);
            assert_eq!(arrived, b":1\r\n"[..]);
            assert_eq!(decoder.decode(&mut arrived).unwrap().unwrap(), Answer::Int(1));
        }
    }

    #[test]
    fn what_is_no_answer_is_refused_and_nothing_is_allocated_for_what_is_only_announced() {
        let deep = b"*1\r\n".repeat(40);
        for garbage in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"$-2\r\n",
            b"$99999999999\r\n",
            b"*99999999999\r\n",
            b":1x\r\n",
            b"+OK\n",
            b"\x15\x03\x03\n",
            b"_\r\n",
            b"*2\r\n:1\r\n_\r\n",
            &deep,
        ] {
            assert!(Decoder::default().decode(&mut BytesMut::from(garbage)).is_err(), "{garbage:?}");
        }
        let mut announced = BytesMut::from(&b"*500000000\r\n"[..]);
        assert!(Decoder::default().decode(&mut announced).unwrap().is_none());
    }

    #[test]
    fn an_error_has_a_code_and_details() {
        let error = ServerError::new("WRONGTYPE Operation against a key");
        assert_eq!((error.code(), error.details()), ("WRONGTYPE", "Operation against a key"));
        assert_eq!((ServerError::new("LOADING").details(), ServerError::new("").code()), ("", ""));
    }
}
