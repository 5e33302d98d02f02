//! Reading lines, and the first look at a file: whether it is whole, and all of it can be stored.

use std::io::SeekFrom;

use sha2::{Digest, Sha256};
use storage_core::{Error, MAX_ATTRIBUTES_BYTES, Partition, Result, check_key, check_value_size, ttl_millis};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt, BufReader};

use super::{
    due::Now,
    format::{AnyHeader, FORMAT, Footer, Line, PartitionLine, VERSION},
    kinds,
    order::Order,
    writer::hex,
};
use crate::memories;

/// What a line has besides its value or its body.
const LINE_EXTRA: usize = 256 * 1024;
/// A line is so many times as long as a value at most: each character may be escaped, a number written out.
const LINE_TIMES: usize = 4;
/// The greatest sequence number of a partition.
const MAX_SEQUENCE: u64 = 100_000_000;
/// After so many lines other tasks have their turn.
const LINES_AT_ONCE: u64 = 256;

/// The lines of a file, from its beginning.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    /// The longest line, in bytes.
    limit: usize,
    /// Of the line that was read last.
    pub(super) number: u64,
    line: Vec<u8>,
}

impl<R: AsyncRead + AsyncSeek + Unpin + Send> Lines<R> {
    pub(super) async fn new(mut reader: R, max_value_bytes: usize) -> Result<Self> {
        reader.seek(SeekFrom::Start(0)).await.map_err(unreadable)?;
        let limit = max_value_bytes.saturating_mul(LINE_TIMES).saturating_add(LINE_EXTRA);
        Ok(Self { reader: BufReader::with_capacity(64 * 1024, reader), limit, number: 0, line: Vec::new() })
    }

    /// Reads the next line; false at the end of the file.
    async fn read(&mut self) -> Result<bool> {
        self.line.clear();
        self.number += 1;
        if self.number.is_multiple_of(LINES_AT_ONCE) {
            tokio::task::yield_now().await;
        }
        let mut limited = (&mut self.reader).take(self.limit as u64 + 1);
        let bytes = limited.read_until(b'\n', &mut self.line).await.map_err(unreadable)?;
        if bytes > self.limit {
            let hint = "the longest line goes with the longest value of the store, which its settings say";
            return Err(self.wrong(&format!("it has more than {} bytes", self.limit)).with_hint(hint));
        }
        Ok(bytes > 0)
    }

    fn parsed(&self) -> Result<Line> {
        Line::parse(&self.line).map_err(|what| self.wrong(&what))
    }

    /// The next line of a file that was checked; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Line>> {
        if self.read().await? { self.parsed().map(Some) } else { Ok(None) }
    }

    /// What is wrong with the line that was read last.
    pub(super) fn wrong(&self, what: &str) -> Error {
        Error::invalid_input(format!("line {} of the export: {what}", self.number))
    }
}

/// Reads a file to its end, and says what is in it.
///
/// # Errors
/// `InvalidInput` naming what is wrong with it: a line, its version, the checksum, a missing end.
pub(super) async fn verified<R: AsyncRead + AsyncSeek + Unpin + Send>(
    lines: &mut Lines<R>,
    max_value_bytes: usize,
    now: Now,
) -> Result<Footer> {
    begins(lines).await?;
    let mut hash = Sha256::new();
    hash.update(&lines.line);
    let (mut counts, mut order) = (Counts::default(), Order::default());
    while lines.read().await? {
        if lines.line.last() != Some(&b'\n') {
            return Err(cut(lines));
        }
        match lines.parsed()? {
            Line::End(footer) => {
                let expected = Footer { sha256: hex(hash), ..counts.ended() };
                ends(lines, &footer, &expected).await?;
                return Ok(footer);
            }
            line => {
                let checked =
                    counts.add(&line).and_then(|()| check(&line, counts.kind(), max_value_bytes, now));
                let checked = checked.and_then(|()| order.check(&line));
                checked.map_err(|what| lines.wrong(&what))?;
            }
        }
        hash.update(&lines.line);
    }
    Err(cut(lines))
}

async fn begins<R: AsyncRead + AsyncSeek + Unpin + Send>(lines: &mut Lines<R>) -> Result<()> {
    let is_there = lines.read().await?;
    let header: Option<AnyHeader> = serde_json::from_slice(&lines.line).ok();
    let Some(version) =
        header.filter(|header| header.export.format == FORMAT).map(|header| header.export.version)
    else {
        let what = if is_there { "it is no header of an export" } else { "the file is empty" };
        return Err(lines.wrong(what).with_hint("`storage export` writes such files"));
    };
    if version > VERSION {
        let message = format!(
            "the export has version {version} of its format; this program reads up to version {VERSION}"
        );
        return Err(Error::invalid_input(message)
            .with_hint("import it with the program that wrote it, or a later one"));
    }
    match lines.parsed()? {
        Line::Export(_) => Ok(()),
        _ => Err(lines.wrong("it is no header of an export")),
    }
}

/// The footer as it would be written, and nothing behind it.
async fn ends<R: AsyncRead + AsyncSeek + Unpin + Send>(
    lines: &mut Lines<R>,
    footer: &Footer,
    expected: &Footer,
) -> Result<()> {
    if footer.sha256 != expected.sha256 {
        let message = "the checksum of the export does not fit: it was changed since it was written";
        return Err(Error::invalid_input(message).with_hint("export it again, or copy it again"));
    }
    if footer != expected || Line::End(footer.clone()).text()?.as_bytes() != lines.line {
        return Err(lines.wrong("the end of the export was changed"));
    }
    if lines.read().await? {
        return Err(lines.wrong("it stands behind the end of the export"));
    }
    Ok(())
}

fn cut<R: AsyncRead + AsyncSeek + Unpin + Send>(lines: &Lines<R>) -> Error {
    let message = format!("the export ends at line {} without its last line: it was cut", lines.number);
    Error::invalid_input(message).with_hint("export it again, or copy it again")
}

fn unreadable(error: std::io::Error) -> Error {
    Error::invalid_input("the export cannot be read").with_source(error)
}

/// What a file holds so far.
#[derive(Default)]
struct Counts {
    whole: Footer,
    /// The partition whose items come, and how many came.
    current: Option<(Partition, u64)>,
}

impl Counts {
    fn add(&mut self, line: &Line) -> Result<(), String> {
        match line {
            Line::Item(_) => match &mut self.current {
                Some((_, items)) => *items += 1,
                None => return Err("it is an item of no partition".to_owned()),
            },
            Line::Partition(PartitionLine { name, .. }) => {
                let partition = Partition::from_text(name).map_err(|error| said(&error))?;
                // One that comes again begins anew.
                let again = self.current.take_if(|(current, _)| *current == partition).is_some();
                if !again {
                    self.close();
                }
                self.current = Some((partition, 0));
            }
            line => {
                self.close();
                match line {
                    Line::Entry(_) => self.whole.entries += 1,
                    Line::Memory(_) => self.whole.memories += 1,
                    _ => return Err("it is a second header".to_owned()),
                }
            }
        }
        Ok(())
    }

    fn close(&mut self) {
        if let Some((_, items)) = self.current.take() {
            self.whole.partitions += 1;
            self.whole.items += items;
        }
    }

    fn kind(&self) -> &str {
        self.current.as_ref().map_or("", |(partition, _)| partition.kind())
    }

    fn ended(&mut self) -> Footer {
        self.close();
        self.whole.clone()
    }
}

/// Checks that a line can be stored.
fn check(line: &Line, kind: &str, max_value_bytes: usize, now: Now) -> Result<(), String> {
    let stored = |line: &Line| -> Result<()> {
        match line {
            Line::Entry(entry) => {
                check_key(&entry.key)?;
                check_value_size(&entry.value, max_value_bytes)?;
                check_expiry(entry.expires_at, now)
            }
            Line::Partition(partition) => {
                kinds::check(kind)?;
                if partition.sequence > MAX_SEQUENCE {
                    return Err(Error::invalid_input(format!("`sequence` is more than {MAX_SEQUENCE}")));
                }
                check_expiry(partition.expires_at, now)
            }
            Line::Memory(memory) => {
                memories::check_carried(&memory.namespace, &memory.key, &memory.value, &memory.version)?;
                check_value_size(&memory.value, max_value_bytes)?;
                if memory.ttl.is_some() != memory.expires_at.is_some() || memory.ttl == Some(0) {
                    return Err(Error::invalid_input(
                        "`ttl` and `expires_at` go together, and `ttl` is not 0",
                    ));
                }
                check_expiry(memory.expires_at, now)
            }
            Line::Item(item) => check_key(&item.sort),
            Line::Export(_) | Line::End(_) => Ok(()),
        }
    };
    stored(line).map_err(|error| said(&error))?;
    if let Line::Item(item) = line {
        let (attributes, body) = kinds::content(item)?;
        if attributes.len() > MAX_ATTRIBUTES_BYTES || body.len() > max_value_bytes {
            return Err("its attributes or its body are longer than the store lets them be".to_owned());
        }
    }
    Ok(())
}

fn check_expiry(second: Option<u64>, now: Now) -> Result<()> {
    let Some(second) = second else { return Ok(()) };
    // What no time can say is not what has passed.
    let is_time = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(second)).is_some();
    match now.left(second) {
        Some(left) => ttl_millis(left).map(drop),
        None if is_time => Ok(()),
        None => Err(Error::invalid_input("`expires_at` is no time")),
    }
}

/// The message alone: the line is the place.
fn said(error: &Error) -> String {
    error.message().to_owned()
}
