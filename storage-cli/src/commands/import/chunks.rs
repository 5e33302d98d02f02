//! Reading lines on a thread of their own, so that reading and writing go on at the same time.

use std::io::{BufRead, BufReader, Read};

use tokio::sync::mpsc;

use crate::{
    failure::{Failure, Result},
    line::Line,
};

/// At most this many entries are written at once.
const CHUNK_ENTRIES: usize = 500;
/// At most this many bytes are written at once, and one entry.
const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// What a line has beside its value: the key with every character escaped, the names, white space.
const LINE_EXTRA: usize = 64 * 1024;

/// Lines that are written at once.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) lines: Vec<Line>,
    /// How much of the input they took.
    pub(super) bytes: u64,
}

/// The chunks of an input, in order.
pub(super) struct Chunks(mpsc::Receiver<Result<Chunk>>);

impl Chunks {
    /// Starts to read. One chunk waits while another is written and a third is read; that bounds the memory.
    pub(super) fn read(reader: impl Read + Send + 'static, max_value_bytes: usize) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        // Not a task of the runtime: a read from a terminal may never end, and must not hold up the end of the program.
        std::thread::spawn(move || {
            let mut lines = Lines { reader: BufReader::new(reader), max_value_bytes, number: 0 };
            let mut chunk = Chunk::default();
            let mut held = 0;
            let last = loop {
                match lines.next() {
                    Ok(None) => break Ok(chunk),
                    Ok(Some((line, bytes))) => {
                        held += line.as_ref().map_or(0, Line::bytes);
                        chunk.bytes += bytes;
                        chunk.lines.extend(line);
                    }
                    Err(failure) => {
                        // What stands before it is imported first.
                        let _ = sender.blocking_send(Ok(chunk));
                        break Err(failure);
                    }
                }
                if chunk.lines.len() >= CHUNK_ENTRIES || held >= CHUNK_BYTES {
                    held = 0;
                    if sender.blocking_send(Ok(std::mem::take(&mut chunk))).is_err() {
                        return;
                    }
                }
            };
            let _ = sender.blocking_send(last);
        });
        Self(receiver)
    }

    /// The next chunk; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Result<Chunk>> {
        self.0.recv().await
    }
}

/// Editors and shells of Windows begin a file with the mark of its byte order.
fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text)
}

struct Lines<R> {
    reader: BufReader<R>,
    max_value_bytes: usize,
    number: u64,
}

impl<R: Read> Lines<R> {
    /// The next line, which may be empty, and its length; `None` at the end.
    fn next(&mut self) -> Result<Option<(Option<Line>, u64)>> {
        self.number += 1;
        let limit = self.max_value_bytes + LINE_EXTRA;
        let mut text = Vec::new();
        let read = self.reader.by_ref().take(limit as u64 + 1).read_until(b'\n', &mut text);
        let bytes = read.map_err(|error| self.wrong(&format!("the input cannot be read: {error}")))?;
        if bytes == 0 {
            return Ok(None);
        }
        if bytes > limit {
            return Err(self.wrong(&format!("it has more than {limit} bytes")));
        }
        let text = if self.number == 1 { without_mark(&text) } else { &text }.trim_ascii();
        if text.is_empty() {
            return Ok(Some((None, bytes as u64)));
        }
        let line = Line::parse(text, self.max_value_bytes).map_err(|what| self.wrong(&what))?;
        Ok(Some((Some(line), bytes as u64)))
    }

    fn wrong(&self, what: &str) -> Failure {
        Failure::input(format!("line {}: {what}", self.number))
    }
}
